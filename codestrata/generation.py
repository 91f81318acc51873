"""Prompts to completions, in batches whose composition depends on the prompts and the settings alone.

What this does not do: score completions, or choose which component answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from codestrata.data.batches import encode_texts, pad_rows
from codestrata.settings import DecodingSettings


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model answered, in ``tokens`` ids; ``finished`` is False where the length limit cut it."""

    text: str
    finished: bool
    tokens: int


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
    caller's random state as it was. ``report`` is called with the number of prompts done after every batch.
    """
    rows = [ids[:max_prompt_tokens] for ids in encode_texts(prompts, tokenizer)]
    order = sorted(range(len(rows)), key=lambda row: (len(rows[row]), row))
    completions: dict[int, Completion] = {}
    model.eval()
    devices = [device] if device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(settings.seed)
        for start in range(0, len(order), settings.batch_size):
            chosen = order[start : start + settings.batch_size]
            outputs = decode_batch(model, [rows[row] for row in chosen], settings, device)
            for row, ids in zip(chosen, outputs, strict=True):
                completions[row] = build_completion(ids, model, tokenizer)
            if report is not None:
                report(len(completions))
    return [completions[row] for row in range(len(rows))]


def decode_batch(
    model: Any, rows: Sequence[Sequence[int]], settings: DecodingSettings, device: torch.device
) -> list[list[int]]:
    """The generated ids of each row, without the decoder's start token."""
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
    return Completion(text=text, finished=finished, tokens=len(kept) + finished)
