"""Prompts to completions, and completions to the ranks of their tokens, in batches that the inputs decide.

What this does not do: score completions, or choose which component answers.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from codestrata.data.batches import pad_rows
from codestrata.data.tokens import count_leading, cut_prompt, encode_prompts
from codestrata.engine.decoding import can_decode, decode_greedily, find_rules
from codestrata.engine.host import seeded
from codestrata.engine.losses import bare_head
from codestrata.engine.precision import choose_precision, compute_in
from codestrata.models.families import attends_nearby, find_family
from codestrata.models.special import choose_filler, list_ends
from codestrata.models.virtual import count_virtual_tokens
from codestrata.settings.sections import DecodingSettings

LOGITS_AT_ONCE = 2**23
"""Tokens x vocabulary (or width) that are ranked together: 32 MiB of fp32, and little padding."""


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
    rows = read_prompts(model, tokenizer, prompts, max_prompt_tokens)
    ends = list_ends(model, tokenizer)
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
            ends=ends,
        )
    else:
        outputs = decode_by_transformers(model, rows, settings, device, report, ends=ends)
    return [build_completion(ids, model, tokenizer) for ids in outputs]


def read_prompts(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_prompt_tokens: int
) -> list[list[int]]:
    """The token ids of prompts as this model is asked them, cut to the limit as in training."""
    causal = find_family(model).is_causal
    rows = encode_prompts(prompts, tokenizer, causal=causal)
    leading = count_leading(tokenizer) if causal else None
    return [cut_prompt(ids, max_prompt_tokens, leading=leading) for ids in rows]


def is_greedy(settings: DecodingSettings) -> bool:
    """Whether every token is simply the likeliest."""
    return settings.beams == 1 and settings.temperature is None and settings.no_repeat_ngram is None


def decode_by_transformers(
    model: Any,
    rows: Sequence[Sequence[int]],
    settings: DecodingSettings,
    device: torch.device,
    report: Callable[[int], None] | None = None,
    *,
    ends: Collection[int],
) -> list[list[int]]:
    """The generated ids of each row by ``generate``, in batches from the shortest prompts to the longest."""
    found: dict[int, list[int]] = {}
    precision = choose_precision(settings.precision, device)
    even = needs_even_batches(model, settings)
    with torch.inference_mode(), seeded(settings.seed, device), compute_in(precision, device):
        for chosen in cut_batches([len(row) for row in rows], settings.batch_size, even=even):
            outputs = decode_batch(model, [rows[row] for row in chosen], settings, device, ends)
            found |= dict(zip(chosen, outputs, strict=True))
            if report is not None:
                report(len(found))
    return [found[row] for row in range(len(rows))]


def needs_even_batches(model: Any, settings: DecodingSettings) -> bool:
    """Whether only without padding a decoder-only model's answers are those it would give each prompt alone.

    Bans and penalties count what it was asked as said by it, padding included. Padding stands between virtual
    tokens and prompt, and blocks that look at near tokens only measure how near by columns.
    """
    if not find_family(model).is_causal:
        return False
    has_rules = settings.no_repeat_ngram is not None or bool(find_rules(model))
    return has_rules or (count_virtual_tokens(model) > 0 and attends_nearby(model))


def cut_batches(lengths: Sequence[int], batch_size: int, *, even: bool) -> list[list[int]]:
    """Rows of these lengths in batches, from the shortest to the longest; ``even`` ones hold one length."""
    batches = list[list[int]]()
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        fits = batches and len(batches[-1]) < batch_size
        if fits and not (even and lengths[batches[-1][0]] != lengths[row]):
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def decode_batch(
    model: Any,
    rows: Sequence[Sequence[int]],
    settings: DecodingSettings,
    device: torch.device,
    ends: Collection[int],
) -> list[list[int]]:
    """The ids that transformers generates for each row of a batch, without what it begins with.

    Where answers go on from their prompts in one row, these are filled on the left, and all answers begin in
    the same column.
    """
    from transformers import GenerationConfig

    causal, filler = find_family(model).is_causal, choose_filler(model)
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    if causal:
        input_ids = pad_rows([row[::-1] for row in rows], filler).flip(1)
        mask = torch.arange(input_ids.shape[1]).flip(0) < lengths
    else:
        input_ids = pad_rows(rows, filler)
        mask = torch.arange(input_ids.shape[1]) < lengths
    sampling = {} if settings.temperature is None else {"temperature": settings.temperature}
    outputs = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=mask.long().to(device),
        generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.beams,
            do_sample=settings.temperature is not None,
            no_repeat_ngram_size=settings.no_repeat_ngram or 0,
            decoder_start_token_id=None if causal else model.config.decoder_start_token_id,
            pad_token_id=filler,
            eos_token_id=sorted(ends),
            **sampling,
        ),
    )
    return [list(ids) for ids in outputs[:, input_ids.shape[1] if causal else 1 :].tolist()]


def build_completion(ids: list[int], model: Any, tokenizer: Any) -> Completion:
    """A row of generated ids as text, cut at its end-of-sequence token."""
    ends = list_ends(model, tokenizer)
    length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    kept, finished = ids[:length], length < len(ids)
    # Sentinels are special tokens too, and part of an answer: only the frame around the text is dropped.
    frame = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.cls_token_id, *ends}
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
    rows = read_prompts(model, tokenizer, prompts, max_prompt_tokens)
    causal = find_family(model).is_causal
    lengths = [
        len(completion.ids) + (len(row) if causal else 0)
        for row, completion in zip(rows, completions, strict=True)
    ]
    # Of a decoder-only model only what was said goes through the output layer, row by row.
    width = model.config.hidden_size if causal else model.config.vocab_size
    order = sorted(range(len(rows)), key=lambda row: (lengths[row], len(rows[row]), row))
    ranks: dict[int, tuple[int, ...]] = {}
    model.eval()
    start = 0
    with torch.inference_mode():
        while start < len(order):
            chosen = choose_batch(order[start:], lengths, width)
            start += len(chosen)
            asked, said = [rows[row] for row in chosen], [completions[row].ids for row in chosen]
            found = (rank_joined if causal else rank_batch)(model, asked, said, device)
            ranks |= dict(zip(chosen, found, strict=True))
    return [ranks[row] for row in range(len(rows))]


def choose_batch(order: Sequence[int], lengths: Sequence[int], width: int) -> list[int]:
    """The first rows of ``order``, by length, whose logits (or states) of that width stay under the limit."""
    chosen: list[int] = []
    for row in order:
        if chosen and (len(chosen) + 1) * (lengths[row] + 1) * width > LOGITS_AT_ONCE:
            break
        chosen.append(row)
    return chosen


def rank_batch(
    model: Any, prompts: Sequence[Sequence[int]], said: Sequence[Sequence[int]], device: torch.device
) -> list[tuple[int, ...]]:
    """The rank of every token said after each prompt, from one pass over the whole texts."""
    pad_id = choose_filler(model)
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


def rank_joined(
    model: Any, prompts: Sequence[Sequence[int]], said: Sequence[Sequence[int]], device: torch.device
) -> list[tuple[int, ...]]:
    """As ``rank_batch``, of a model for which prompt and answer are one row, filled on the right."""
    rows = [[*prompt, *ids] for prompt, ids in zip(prompts, said, strict=True)]
    input_ids = pad_rows(rows, choose_filler(model)).to(device)
    with bare_head(model) as head:
        hidden_BSD = model(input_ids=input_ids, use_cache=False).logits
    ranks = []
    for prompt, ids, states_SD in zip(prompts, said, hidden_BSD, strict=True):
        # The state under a token says what comes after it.
        logits = head(states_SD[len(prompt) - 1 : len(prompt) + len(ids) - 1])
        own = logits.gather(-1, torch.tensor(ids, dtype=torch.long, device=device)[:, None])
        ranks.append(tuple((logits > own).sum(-1).tolist()))
    return ranks
