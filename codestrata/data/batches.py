"""Examples as token ids, and token ids as padded batches in an order that only (seed, epoch) decides.

Rows are measured before they are touched: every plan here is made from an array (N, 2) of lengths, prompt and
target, and is a pure function of it. What a batch computes is counted in cells, padding included: rows x
(longest prompt + longest target).

What this does not do: train or decode.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from codestrata.data.tokens import Counts, Ids, TokenTable, count_leading, cut_prompt, tokenize
from codestrata.records import Example

IGNORED = -100
"""Label of padding: PyTorch's cross entropy leaves it out, so that pad tokens never count in the loss."""
POOL_BATCHES = 28
"""Batches are cut from pools of about this many. Larger pools leave less padding and more uniform batches,
which teach less: on kata, LoRA came to a pass@1 of 0.65 with pools of 24 batches, and of 0.48 with 128."""

TokenIds = Sequence[int] | Ids


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EncodedExample:
    """One example as token ids, both sides ending with the end-of-sequence token unless cut.

    Encoded for a causal model, the prompt does not end: the target follows it.
    """

    identifier: str
    prompt_ids: TokenIds
    target_ids: TokenIds


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedExamples(Sequence[EncodedExample]):
    """Examples as token ids, cut to the limits; rows are views of the tables but where a beginning was cut.

    ``leading`` says what a prompt loses: its end, or what comes after so many tokens (see ``cut_prompt``).
    """

    identifiers: tuple[str, ...]
    prompts: TokenTable
    targets: TokenTable
    max_prompt_tokens: int
    max_target_tokens: int
    leading: int | None = None

    def __len__(self) -> int:
        return len(self.identifiers)

    def __getitem__(self, index: Any) -> Any:
        """One row; a slice gives a list of rows."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return EncodedExample(
            identifier=self.identifiers[index],
            prompt_ids=cut_prompt(self.prompts[index], self.max_prompt_tokens, leading=self.leading),
            target_ids=self.targets[index][: self.max_target_tokens],
        )

    @cached_property
    def lengths(self) -> Counts:
        """Tokens of every row as cut, (N, 2): prompt, target."""
        uncut = np.stack([self.prompts.lengths, self.targets.lengths], axis=1)
        return np.minimum(uncut, [self.max_prompt_tokens, self.max_target_tokens])

    @property
    def truncated_prompts(self) -> int:
        """How many prompts were over the limit."""
        return int((self.prompts.lengths > self.max_prompt_tokens).sum())

    @property
    def truncated_targets(self) -> int:
        """How many targets were over the limit."""
        return int((self.targets.lengths > self.max_target_tokens).sum())

    @property
    def notes(self) -> tuple[str, ...]:
        """Why token ids that should have been kept on disk were not."""
        return tuple(dict.fromkeys(table.note for table in (self.prompts, self.targets) if table.note))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the lengths and ids of all rows as cut, as 64 hexadecimal digits."""
        digest = hashlib.sha256(self.lengths.astype("<i8").tobytes())
        for row in self:
            for ids in (row.prompt_ids, row.target_ids):
                digest.update(np.asarray(ids, "<i4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedExamples(Sequence[EncodedExample]):
    """The examples of several tasks as one sequence, task after task; nothing is copied."""

    parts: tuple[EncodedExamples, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: Any) -> Any:
        """One row; a slice gives a list of rows."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if number < 0:
            raise IndexError(index)
        for part in self.parts:
            if number < len(part):
                return part[number]
            number -= len(part)
        raise IndexError(index)

    @cached_property
    def lengths(self) -> Counts:
        """Tokens of every row as cut, (N, 2): prompt, target."""
        return np.concatenate([part.lengths for part in self.parts])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the parts' fingerprints in their order, as 64 hexadecimal digits."""
        return hashlib.sha256("".join(part.fingerprint for part in self.parts).encode()).hexdigest()


def join_examples(parts: Sequence[EncodedExamples]) -> EncodedExamples | JoinedExamples:
    """The parts as one sequence; a part alone is itself, and so are its fingerprint and its states."""
    return parts[0] if len(parts) == 1 else JoinedExamples(parts=tuple(parts))


def encode_examples(
    examples: Sequence[Example],
    tokenizer: Any,
    *,
    max_prompt_tokens: int,
    max_target_tokens: int,
    folder: Path | None = None,
    causal: bool = False,
) -> EncodedExamples:
    """The examples as token ids, cut to the limits and counted where they were.

    With a ``folder`` the ids are kept there, whatever the limits, and taken from there the next time (see
    ``tokenize``). For a ``causal`` model prompt and target are parts of one row: only the target ends, and a
    long prompt loses its beginning, not what stands before the target.

    Raises: ModelError: the model is causal, and the tokenizer has no end token.
    """
    prompts = [example.prompt for example in examples]
    targets = [example.target for example in examples]
    if causal:
        table = tokenize(prompts, tokenizer, folder=folder, part="prompt")
        answers = tokenize(targets, tokenizer, folder=folder, part="continuation")
    else:
        table = tokenize(prompts, tokenizer, folder=folder)
        answers = table if targets == prompts else tokenize(targets, tokenizer, folder=folder)
    return EncodedExamples(
        identifiers=tuple(example.identifier for example in examples),
        prompts=table,
        targets=answers,
        max_prompt_tokens=max_prompt_tokens,
        max_target_tokens=max_target_tokens,
        leading=count_leading(tokenizer) if causal else None,
    )


def measure_rows(rows: Sequence[EncodedExample]) -> Counts:
    """Tokens of every row, (N, 2): prompt, target."""
    if isinstance(rows, EncodedExamples | JoinedExamples):
        return rows.lengths
    pairs = [(len(row.prompt_ids), len(row.target_ids)) for row in rows]
    return np.array(pairs, np.int64).reshape(-1, 2)


def measure_extents(lengths: Counts, *, causal: bool) -> Counts:
    """What rows of these (prompt, target) lengths take of a batch, (N, 2); batches are planned by it.

    For a ``causal`` model prompt and target are one side: a batch is as long as its longest two together.
    """
    return np.stack([lengths.sum(axis=1), np.zeros_like(lengths[:, 0])], axis=1) if causal else lengths


def plan_epoch(lengths: Counts, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one pass as lists of row numbers, every row once; the last one made may be smaller.

    Rows are shuffled, cut into pools of about 28 batches, each pool into batches of rows alike on both sides
    (see ``cut_pool``), and the batches are shuffled. A pure function of the lengths (N, 2), ``seed`` and
    ``epoch``: neither workers nor the machine's or a library's random numbers have a say.
    """
    rng = Random(f"epoch {epoch} of seed {seed}")
    order = np.array(shuffle(range(len(lengths)), rng), np.int64)
    total = -(-len(order) // batch_size)
    pools = max(1, round(total / POOL_BATCHES))
    batches = []
    for pool in range(pools):
        first, last = (total * bound // pools * batch_size for bound in (pool, pool + 1))
        batches += cut_pool(order[first:last], lengths, batch_size)
    return shuffle(batches, rng)


def cut_pool(rows: npt.NDArray[np.int64], lengths: Counts, batch_size: int) -> list[list[int]]:
    """The rows in batches, of which only one may be smaller, with few cells.

    The pool is cut in two where that leaves the fewest cells if both parts were one batch, by the prompts'
    or by the targets' length, and each part again, until a part is a batch. Rows of equal lengths keep the
    order they came in, so that they mix anew with every shuffle.
    """
    batches, parts = list[list[int]](), [rows]
    while parts:
        part = parts.pop()
        if len(part) > batch_size:
            parts += reversed(cut_in_two(part, lengths, batch_size))
        elif len(part):
            batches.append(part.tolist())
    return batches


def cut_in_two(
    rows: npt.NDArray[np.int64], lengths: Counts, batch_size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows in two parts, the first of whole batches, that together have the fewest cells."""
    sizes = np.arange(batch_size, len(rows), batch_size)
    choices = []
    for side in (0, 1):
        ranked = rows[np.lexsort((lengths[rows, 1 - side], lengths[rows, side]))]  # stable
        rising = np.maximum.accumulate(lengths[ranked], axis=0).sum(axis=1)
        falling = np.maximum.accumulate(lengths[ranked[::-1]], axis=0).sum(axis=1)[::-1]
        cells = sizes * rising[sizes - 1] + (len(rows) - sizes) * falling[sizes]
        best = int(cells.argmin())
        choices.append((int(cells[best]), side, ranked, sizes[best]))
    _, _, ranked, size = min(choices, key=lambda choice: choice[:2])
    return ranked[:size], ranked[size:]


def shuffle(items: Sequence[Any], rng: Random) -> list[Any]:
    """The items in random order, drawn only through ``Random.random``, which is stable across versions."""
    keyed = [(rng.random(), index) for index in range(len(items))]
    return [items[index] for _, index in sorted(keyed)]


def cut_step(lengths: Counts, budget: int, *, overhead: int) -> list[list[int]]:
    """The rows of one optimizer step as micro-batches of positions, each of at most ``budget`` cells.

    Rows are ranked by their longer side, then the prompt, then their position, and the ranking is cut where
    cells + ``overhead`` per micro-batch are fewest in all: no cut of this ranking does better. A row over the
    budget by itself goes alone.

    Args:
        lengths: tokens of the step's rows, (N, 2).
        budget: the most cells of a micro-batch, padding included.
        overhead: what a micro-batch costs beside its cells, in cells: where a cut saves less, none is made.
    """
    order = np.lexsort((lengths[:, 0], lengths.max(axis=1))) if len(lengths) else np.zeros(0, np.int64)
    ranked = lengths[order]
    # What the first n rows cost at least, and the size of the last micro-batch then.
    least = np.zeros(len(ranked) + 1, np.int64)
    taken = np.zeros(len(ranked) + 1, np.int64)
    for end in range(1, len(ranked) + 1):
        # Rows as long as this one fill the budget at this many: looking back further finds nothing.
        tokens = int(ranked[end - 1].sum())
        reach = max(1, min(end, budget // tokens)) if tokens else end
        sizes = np.arange(1, reach + 1)
        cells = sizes * np.maximum.accumulate(ranked[end - reach : end][::-1], axis=0).sum(axis=1)
        fitting = max(1, int(np.searchsorted(cells, budget, side="right")))  # cells rise with the size
        costs = least[end - sizes[:fitting]] + cells[:fitting] + overhead
        best = int(costs.argmin())
        least[end], taken[end] = costs[best], sizes[best]
    pieces, end = list[list[int]](), len(ranked)
    while end:
        pieces.append(order[end - taken[end] : end].tolist())
        end -= int(taken[end])
    return pieces[::-1]


def collate(rows: Sequence[EncodedExample], pad_id: int, *, causal: bool = False) -> dict[str, torch.Tensor]:
    """A batch: input_ids and attention_mask (B, S), labels (B, T) with padding ignored.

    For a ``causal`` model S = T: a row is its prompt and then its target, and under each token stands the
    one that follows, if it is one of the target's. (transformers has the token itself there.)
    """
    if causal:
        return collate_joined(rows, pad_id)
    input_ids = pad_rows([row.prompt_ids for row in rows], pad_id)
    lengths = torch.tensor([len(row.prompt_ids) for row in rows])
    mask = torch.arange(input_ids.shape[1]) < lengths[:, None]
    labels = pad_rows([row.target_ids for row in rows], IGNORED)
    return {"input_ids": input_ids, "attention_mask": mask.long(), "labels": labels}


def collate_joined(rows: Sequence[EncodedExample], pad_id: int) -> dict[str, torch.Tensor]:
    """A batch of rows that are prompt and target in one, filled on the right."""
    joined = [np.concatenate([row.prompt_ids, row.target_ids]) for row in rows]
    input_ids = pad_rows([ids.astype(np.int64) for ids in joined], pad_id)
    places = torch.arange(input_ids.shape[1])
    first = torch.tensor([len(row.prompt_ids) - 1 for row in rows])[:, None]
    last = torch.tensor([len(ids) - 1 for ids in joined])[:, None]
    following = input_ids.roll(-1, dims=1)
    labels = following.masked_fill((places < first) | (places >= last), IGNORED)
    return {"input_ids": input_ids, "attention_mask": (places <= last).long(), "labels": labels}


def pad_rows(rows: Sequence[TokenIds], filler: int) -> torch.Tensor:
    """Rows of ids as one tensor (B, longest), filled on the right."""
    padded = np.full((len(rows), max(len(row) for row in rows)), filler, np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)
