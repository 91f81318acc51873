"""How a corpus metric's value comes out of the sums of its examples' sufficient statistics.

A metric that is no mean over examples (corpus BLEU, say) keeps one row of counts per example. Its value is a
function of the rows' sums alone, so it can be resampled without looking at a text again.

What this does not do: count anything in a text (``metrics`` does), or resample (``statistics`` does).
"""

from collections.abc import Callable, Mapping

import numpy as np

from codestrata.errors import DataError, describe_unknown

Aggregate = Callable[[np.ndarray], np.ndarray]
"""Sums of rows, shape (..., columns) -> values, shape (...); NaN where the sums give none."""


def divide_sums(sums: np.ndarray) -> np.ndarray:
    """A ratio of sums: the first column over the second; NaN where the second is 0.

        value = sum of numerators / sum of denominators
    """
    numerators, denominators = sums[..., 0], sums[..., 1]
    values = np.full(numerators.shape, np.nan)
    return np.divide(numerators, denominators, out=values, where=denominators != 0)


AGGREGATES: Mapping[str, Aggregate] = {
    "mean": divide_sums,  # rows are (value, 1)
    "ratio": divide_sums,
}


def find_aggregate(name: str) -> Aggregate:
    """The function of that name. Raises DataError: there is none."""
    if name not in AGGREGATES:
        raise DataError(describe_unknown("aggregate", name, AGGREGATES))
    return AGGREGATES[name]


def build_rows(per_example: np.ndarray) -> np.ndarray:
    """Rows of sufficient statistics for a mean: (value, 1) per example; shape (..., n) -> (..., n, 2)."""
    values = np.asarray(per_example, dtype=float)
    return np.stack([values, np.ones_like(values)], axis=-1)
