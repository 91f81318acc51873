"""Prompts to completions, and completions to the ranks of their tokens, in batches that the inputs decide.

What this does not do: score completions, or choose which component answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from codestrata.data.batches import pad_rows
from codestrata.data.tokens import encode_texts
from codestrata.engine.decoding import can_decode, decode_greedily
from codestrata.engine.host import seeded
from codestrata.engine.precision import choose_precision, compute_in
from codestrata.settings.sections import DecodingSettings

LOGITS_AT_ONCE = 2**23
"""Tokens x vocabulary that are ranked together: 32 MiB of logits, and little padding."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model answered; ``finished`` is False where the length limit cut it.

    ``ids`` are the tokens it said, the end-of-sequence token included where it came to one.
    """

    text: str
    finished: bool
    ids: tuple[int, ...]


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    settings: DecodingSettings,
    *,
    max_prompt_tokens: int,
    device: torch.device,
    report: Callable[[int], None] | None = None,
) -> list[Completion]:
    """One completion per prompt, in the prompts' order; equal inputs give equal completions.

    Greedy unless the settings ask for beams or sampling; sampling draws from ``settings.seed`` and leaves the
    caller's random state as it was. ``report`` is called with the number of prompts done whenever more are.
    """
    rows = [ids[:max_prompt_tokens] for ids in encode_texts(prompts, tokenizer)]
    model.eval()
    if is_greedy(settings) and can_decode(model):
        outputs = decode_greedily(
            model,
            rows,
            batch_size=settings.batch_size,
            max_new_tokens=settings.max_new_tokens,
            precision=choose_precision(settings.precision, device),
            device=device,
            report=report,
        )
    else:
        outputs = decode_by_transformers(model, rows, settings, device, report)
    return [build_completion(ids, model, tokenizer) for ids in outputs]


def is_greedy(settings: DecodingSettings) -> bool:
    """Whether every token is simply the likeliest."""
    return settings.beams == 1 and settings.temperature is None and settings.no_repeat_ngram is None


def decode_by_transformers(
    model: Any,
    rows: Sequence[Sequence[int]],
    settings: DecodingSettings,
    device: torch.device,
    report: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """The generated ids of each row by ``generate``, in batches from the shortest prompts to the longest."""
    order = sorted(range(len(rows)), key=lambda row: (len(rows[row]), row))
    found: dict[int, list[int]] = {}
    precision = choose_precision(settings.precision, device)
    with torch.inference_mode(), seeded(settings.seed, device), compute_in(precision, device):
        for start in range(0, len(order), settings.batch_size):
            chosen = order[start : start + settings.batch_size]
            outputs = decode_batch(model, [rows[row] for row in chosen], settings, device)
            found |= dict(zip(chosen, outputs, strict=True))
            if report is not None:
                report(len(found))
    return [found[row] for row in range(len(rows))]


def decode_batch(
    model: Any, rows: Sequence[Sequence[int]], settings: DecodingSettings, device: torch.device
) -> list[list[int]]:
    """The ids that transformers generates for each row of a batch, without the decoder's start token."""
    from transformers import GenerationConfig

    input_ids = pad_rows(rows, model.config.pad_token_id)
    mask = torch.arange(input_ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    sampling = {} if settings.temperature is None else {"temperature": settings.temperature}
    outputs = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=mask.long().to(device),
        generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.beams,
            do_sample=settings.temperature is not None,
            no_repeat_ngram_size=settings.no_repeat_ngram or 0,
            decoder_start_token_id=model.config.decoder_start_token_id,
            pad_token_id=model.config.pad_token_id,
            eos_token_id=model.config.eos_token_id,
            **sampling,
        ),
    )
    return [list(ids) for ids in outputs[:, 1:].tolist()]


def build_completion(ids: list[int], model: Any, tokenizer: Any) -> Completion:
    """A row of generated ids as text, cut at its end-of-sequence token."""
    end = model.config.eos_token_id
    finished = end in ids
    kept = ids[: ids.index(end)] if finished else ids
    # Sentinels are special tokens too, and part of an answer: only the frame around the text is dropped.
    frame = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.cls_token_id, end}
    text = tokenizer.decode(
        [token for token in kept if token not in frame],
        skip_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )
    return Completion(text=text, finished=finished, ids=tuple(ids[: len(kept) + finished]))


def rank_completions(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    completions: Sequence[Completion],
    *,
    max_prompt_tokens: int,
    device: torch.device,
) -> list[tuple[int, ...]]:
    """How the model ranks every token of each completion in its place, 0 being its own choice.

    The model reads the prompt and the completion so far; a token's rank is the number of tokens that it finds
    likelier. Batches are by length; their size follows the vocabulary, so that the logits stay small.
    """
    rows = [ids[:max_prompt_tokens] for ids in encode_texts(prompts, tokenizer)]
    order = sorted(range(len(rows)), key=lambda row: (len(completions[row].ids), len(rows[row]), row))
    ranks: dict[int, tuple[int, ...]] = {}
    model.eval()
    start = 0
    with torch.inference_mode():
        while start < len(order):
            chosen = choose_batch(order[start:], [len(completion.ids) for completion in completions], model)
            start += len(chosen)
            found = rank_batch(
                model, [rows[row] for row in chosen], [completions[row].ids for row in chosen], device
            )
            ranks |= dict(zip(chosen, found, strict=True))
    return [ranks[row] for row in range(len(rows))]


def choose_batch(order: Sequence[int], lengths: Sequence[int], model: Any) -> list[int]:
    """The first rows of ``order``, which is by length, whose logits together stay under the limit."""
    chosen: list[int] = []
    for row in order:
        if chosen and (len(chosen) + 1) * (lengths[row] + 1) * model.config.vocab_size > LOGITS_AT_ONCE:
            break
        chosen.append(row)
    return chosen


def rank_batch(
    model: Any, prompts: Sequence[Sequence[int]], said: Sequence[Sequence[int]], device: torch.device
) -> list[tuple[int, ...]]:
    """The rank of every token said after each prompt, from one pass over the whole texts."""
    pad_id = model.config.pad_token_id
    input_ids = pad_rows(prompts, pad_id)
    mask = torch.arange(input_ids.shape[1]) < torch.tensor([len(row) for row in prompts])[:, None]
    read = pad_rows([[model.config.decoder_start_token_id, *ids] for ids in said], pad_id).to(device)
    logits = model(
        input_ids=input_ids.to(device),
        attention_mask=mask.long().to(device),
        decoder_input_ids=read,
        use_cache=False,
    ).logits[:, :-1]  # what comes after the last token was not said
    own = logits.gather(-1, read[:, 1:, None])
    ranks = (logits > own).sum(-1).tolist()
    return [tuple(row[: len(ids)]) for row, ids in zip(ranks, said, strict=True)]
