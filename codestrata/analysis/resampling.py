"""Draws of test examples: what a value would have been with other examples, or with one of them left out.

Everything is computed from sums of rows of sufficient statistics (see ``aggregates``), so a mean, a ratio and
a corpus BLEU are drawn alike and no text is looked at again. Rows have shape (S, n, k): S training seeds, the
same n examples with each, k columns.

What this does not do: draw seeds (two to five of them are too few: see ``statistics``), or make intervals.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from codestrata.analysis.aggregates import find_aggregate
from codestrata.errors import DataError

RESAMPLES = 9_999
COUNTS_AT_ONCE = 2_000_000  # 16 MB where they are multiplied
LARGEST_KEPT = 4_096  # examples; their counts take 41 MB
LARGEST_SHARE_WITHOUT_VALUE = 0.001


def check_rows(rows: np.ndarray) -> np.ndarray:
    """``rows`` as floats of shape (S, n, k).

    Raises: DataError: another shape, no seed, example or column, or an entry that is not finite.
    """
    rows = np.asarray(rows, dtype=float)
    if rows.ndim != 3 or 0 in rows.shape:
        raise DataError(f"Rows of statistics have shape (seeds, examples, columns), found {rows.shape}.")
    if not np.isfinite(rows).all():
        seed, example, column = (int(place) for place in np.argwhere(~np.isfinite(rows))[0])
        raise DataError(
            f"Seed {seed}, example {example}, column {column} is {rows[seed, example, column]}: "
            "statistics must be finite. Leave out examples that have no value."
        )
    return rows


def compute_values(rows: np.ndarray, aggregate: str) -> np.ndarray:
    """The value with each seed over all examples, shape (S,). Raises DataError: one of them has none."""
    values = find_aggregate(aggregate)(rows.sum(axis=1))
    if not np.isfinite(values).all():
        raise DataError(f"The {rows.shape[1]} examples together have no value under {aggregate!r}.")
    return values


def leave_one_out(rows: np.ndarray, aggregate: str) -> np.ndarray:
    """The value with each seed without each example, shape (S, n). Raises DataError: one of them has none."""
    values = find_aggregate(aggregate)(rows.sum(axis=1, keepdims=True) - rows)
    if not np.isfinite(values).all():
        example = int(np.argwhere(~np.isfinite(values))[0][1])
        raise DataError(
            f"Without example {example} of {rows.shape[1]} there is no value under {aggregate!r}: it carries "
            "the value alone, so nothing can be said of other examples."
        )
    return values


def compute_pseudo_values(rows: np.ndarray, aggregate: str) -> np.ndarray:
    """What each example contributes with each seed, shape (S, n); their mean varies as the value does.

        u[s, e] = n value_s - (n - 1) value_s without e

    For a mean they are the examples' own values. With one example they are the value.

    Raises: DataError: the value, or the value without one example, does not exist.
    Source: Tukey 1958; Efron & Tibshirani 1993, chapter 11.
    """
    count = rows.shape[1]
    values = compute_values(rows, aggregate)[:, None]
    if count == 1:
        return values
    contributions: np.ndarray = count * values - (count - 1) * leave_one_out(rows, aggregate)
    return contributions


def resample_examples(rows: np.ndarray, aggregate: str, seed: int) -> np.ndarray:
    """The mean over seeds of the value for each of 9,999 draws of n examples with replacement.

    One draw takes the same examples with every seed, because they are the same examples. Calls with equal n
    and ``seed`` take equal draws, so the difference of two results is that of paired draws. NaN where a draw
    has no value.
    """
    seeds, examples, columns = rows.shape
    flat = rows.transpose(1, 0, 2).reshape(examples, seeds * columns)
    compute = find_aggregate(aggregate)
    parts = [
        compute((counts.astype(float) @ flat).reshape(-1, seeds, columns)).mean(axis=1)
        for counts in iterate_counts(examples, seed)
    ]
    return np.concatenate(parts)


def drop_missing(draws: np.ndarray, aggregate: str) -> np.ndarray:
    """The draws that have a value. Raises DataError: more than one in a thousand have none."""
    kept: np.ndarray = draws[np.isfinite(draws)]
    missing = len(draws) - len(kept)
    if missing > LARGEST_SHARE_WITHOUT_VALUE * len(draws):
        raise DataError(
            f"{missing:,} of {len(draws):,} draws of examples have no value under {aggregate!r}: too few "
            "examples carry it for an interval."
        )
    return kept


def iterate_counts(examples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each example is drawn, in pieces of shape (draws, examples); 9,999 draws in all."""
    step = max(1, COUNTS_AT_ONCE // examples)
    if examples > LARGEST_KEPT:
        yield from generate_counts(examples, seed, step)
        return
    kept = keep_counts(examples, seed)
    yield from (kept[start : start + step] for start in range(0, RESAMPLES, step))


@lru_cache(maxsize=4)  # a run computes hundreds of intervals over the same few numbers of examples
def keep_counts(examples: int, seed: int) -> np.ndarray:
    """All counts of ``generate_counts`` in one array, not to be written to."""
    counts = np.concatenate(list(generate_counts(examples, seed, max(1, COUNTS_AT_ONCE // examples))))
    counts.setflags(write=False)
    return counts


def generate_counts(examples: int, seed: int, step: int) -> Iterator[np.ndarray]:
    """Fresh counts, ``step`` draws at a time; each draw's counts add up to ``examples``.

    Kept small: of n examples drawn n times, one comes more than 255 times with a probability under 1e-500.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        drawn = generator.integers(0, examples, size=(size, examples))
        drawn += np.arange(size)[:, None] * examples
        counts = np.bincount(drawn.ravel(), minlength=size * examples)
        yield counts.astype(np.uint8).reshape(size, examples)
