"""Whether the order of the tasks matters: how far the metrics of R lie apart between orders, and how surely.

What this does not do: say why an order is better, or take orders that were not walked for any that were.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from codestrata.analysis.aggregates import find_aggregate
from codestrata.analysis.continual import (
    ROUNDING,
    Matrices,
    check_cells,
    find_ends,
    resample_cells,
    share_out,
)
from codestrata.analysis.matrix import METRICS, Values
from codestrata.analysis.statistics import Interval, check_level
from codestrata.errors import MatrixError


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderRange:
    """A metric's largest mean over seeds in any order less its smallest, with the interval of that range.

    ``highest`` and ``lowest`` count the orders from 0. ``reason`` says why ``value`` is ``None``, or why
    there is a value without an interval. With one seed the interval covers the draw of the test examples
    only: what looks like an order may be that seed's luck in it.
    """

    value: float | None
    interval: Interval | None
    highest: int | None
    lowest: int | None
    seeds: int
    reason: str | None = None


def summarize_ranges(
    cells: Mapping[tuple[int, int], np.ndarray],
    tasks: int,
    aggregate: str,
    orders: Sequence[Sequence[int]],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, OrderRange]:
    """The range over orders of ACC, LA, BWT, FWT and F, by the names of ``matrix.METRICS``.

        range = max over pairs of orders of |m(a) - m(b)|, m the mean over seeds of the metric of R

    The interval of each pair's difference is that of ``continual.summarize_cells``, paired by example and
    seed, at level 1 - (1 - level) / pairs, so that all of them hold at once. The range's interval goes from
    the largest |m(a) - m(b)| that every pair's interval leaves at least, to the largest that one allows. It
    excludes 0 exactly where two orders are shown to differ.

    Args:
        cells: as in ``summarize_cells``, with the seeds of an order together.
        tasks: T.
        aggregate: as in ``summarize_cells``.
        orders: two or more orders of the tasks 1..T.
        level: nominal coverage, above 0 and below 1.
        seed: seed of the resampling.

    Raises: as ``summarize_cells``; MatrixError also with fewer than two orders.
    Source: Bonferroni's inequality over the pairs.
    """
    check_level(level)
    check_cells(cells, tasks)
    if len(orders) < 2:
        raise MatrixError(f"A range over orders needs two of them, found {len(orders)}.")
    if not cells:
        return dict.fromkeys(METRICS, build_nothing(0, "No cell of R was measured."))
    matrices = resample_cells(cells, tasks, find_aggregate(aggregate), seed, orders)
    return {name: find_range(metric, matrices, level) for name, metric in METRICS.items()}


def build_nothing(seeds: int, reason: str) -> OrderRange:
    """That there is no range, and why."""
    return OrderRange(value=None, interval=None, highest=None, lowest=None, seeds=seeds, reason=reason)


def find_range(metric: Callable[[np.ndarray], Values], matrices: Matrices, level: float) -> OrderRange:
    """One metric's range over orders with its interval, or what is missing with the reason."""
    seeds = len(matrices.observed) // matrices.orders
    try:
        values = np.asarray(metric(matrices.observed)).reshape(matrices.orders, seeds)
    except MatrixError as error:
        return build_nothing(seeds, str(error))
    means = values.mean(axis=1)
    highest, lowest = int(means.argmax()), int(means.argmin())
    value = drop_rounding(float(means[highest] - means[lowest]))
    interval, reason = None, None
    fewest = min(matrix.shape[1] for matrix in matrices.left_out)
    if fewest < 2:
        reason = f"An interval needs 2 examples or more of every task, found {fewest}."
    else:
        try:
            interval = find_range_interval(metric, values, matrices, level)
        except MatrixError:  # the observed R has all entries, so an aggregate gave no value
            reason = "No interval: without some of its examples a cell has no value."
    return OrderRange(
        value=value, interval=interval, highest=highest, lowest=lowest, seeds=seeds, reason=reason
    )


def drop_rounding(size: float) -> float:
    """The size, or exactly 0 where it comes from adding the same numbers in another order."""
    return size if size > ROUNDING else 0.0


def find_range_interval(
    metric: Callable[[np.ndarray], Values], values: np.ndarray, matrices: Matrices, level: float
) -> Interval:
    """The interval of a range, from those of all pairs of orders; ``values`` has shape (O, S)."""
    orders, seeds = values.shape
    shares = [
        share_out(metric, values.ravel(), left_out).reshape(orders, seeds, -1)
        for left_out in matrices.left_out
    ]
    draws = np.asarray(metric(matrices.drawn)).reshape(-1, orders, seeds).mean(axis=-1)
    pairs = list(combinations(range(orders), 2))
    at_least, at_most = 0.0, 0.0
    for first, second in pairs:
        low, high = find_ends(
            values[first] - values[second],
            [of_task[first] - of_task[second] for of_task in shares],
            draws[:, first] - draws[:, second],
            1 - (1 - level) / len(pairs),
        )
        at_least = max(at_least, low, -high)
        at_most = max(at_most, -low, high)
    at_least, at_most = drop_rounding(at_least), drop_rounding(at_most)
    method = "constant" if at_least == at_most else "hierarchical" if seeds > 1 else "bootstrap"
    return Interval(low=at_least, high=min(at_most, 2.0), level=level, method=method)
