"""Examples as token ids, and token ids as padded batches in an order that only (seed, epoch) decides.

What this does not do: train or decode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from codestrata.records import Example

IGNORED = -100
"""Label of padding: PyTorch's cross entropy leaves it out, so that pad tokens never count in the loss."""
POOL_BATCHES = 16
"""Batches are cut from pools of this many, sorted by length: little padding, and still a random order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedExample:
    """One example as token ids, both sides ending with the end-of-sequence token unless cut."""

    identifier: str
    prompt_ids: tuple[int, ...]
    target_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class EncodedExamples:
    """Examples as token ids, and how many were cut to the limits."""

    rows: tuple[EncodedExample, ...]
    truncated_prompts: int
    truncated_targets: int


def encode_examples(
    examples: Sequence[Example], tokenizer: Any, *, max_prompt_tokens: int, max_target_tokens: int
) -> EncodedExamples:
    """The examples as token ids, cut to the limits and counted where they were."""
    prompts = encode_texts([example.prompt for example in examples], tokenizer)
    targets = encode_texts([example.target for example in examples], tokenizer)
    rows = tuple(
        EncodedExample(
            identifier=example.identifier,
            prompt_ids=tuple(prompt[:max_prompt_tokens]),
            target_ids=tuple(target[:max_target_tokens]),
        )
        for example, prompt, target in zip(examples, prompts, targets, strict=True)
    )
    return EncodedExamples(
        rows=rows,
        truncated_prompts=sum(len(prompt) > max_prompt_tokens for prompt in prompts),
        truncated_targets=sum(len(target) > max_target_tokens for target in targets),
    )


def encode_texts(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of each text, special tokens included; none where there are no texts."""
    # verbose=False: the tokenizer's warning about its model's length is ours to give, as a count.
    return list(tokenizer(list(texts), verbose=False)["input_ids"]) if texts else []


def plan_epoch(rows: Sequence[EncodedExample], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one pass as lists of row numbers, every row once; the last batch may be smaller.

    Rows are shuffled, cut into pools of 16 batches, sorted by length within a pool, cut into batches, and the
    batches shuffled: a pure function of the rows' lengths, ``seed`` and ``epoch``.
    """
    rng = Random(f"epoch {epoch} of seed {seed}")
    order = shuffle(range(len(rows)), rng)
    pool = batch_size * POOL_BATCHES
    batches = []
    for start in range(0, len(order), pool):
        ranked = sorted(order[start : start + pool], key=lambda row: measure_row(rows[row]))
        batches += [ranked[first : first + batch_size] for first in range(0, len(ranked), batch_size)]
    return shuffle(batches, rng)


def measure_row(row: EncodedExample) -> tuple[int, int]:
    """What batches are sorted by: the longer side counts first."""
    return max(len(row.prompt_ids), len(row.target_ids)), len(row.prompt_ids)


def shuffle(items: Sequence[Any], rng: Random) -> list[Any]:
    """The items in random order, drawn only through ``Random.random``, which is stable across versions."""
    keyed = [(rng.random(), index) for index in range(len(items))]
    return [items[index] for _, index in sorted(keyed)]


def collate(rows: Sequence[EncodedExample], pad_id: int) -> dict[str, torch.Tensor]:
    """A batch: input_ids and attention_mask (B, S), labels (B, T) with padding ignored."""
    input_ids = pad_rows([row.prompt_ids for row in rows], pad_id)
    lengths = torch.tensor([len(row.prompt_ids) for row in rows])
    mask = torch.arange(input_ids.shape[1]) < lengths[:, None]
    labels = pad_rows([row.target_ids for row in rows], IGNORED)
    return {"input_ids": input_ids, "attention_mask": mask.long(), "labels": labels}


def pad_rows(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Rows of ids as one tensor (B, longest), filled on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], dtype=torch.long)
