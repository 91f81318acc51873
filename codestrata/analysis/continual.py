"""Intervals for the metrics of R, from the test examples and the seeds behind its entries.

One draw of the bootstrap takes the same test examples of a task in every row of R and for every seed, as it
is one test set that is scored again and again; tasks are drawn apart. A whole matrix comes out of each draw,
and a metric out of each matrix.

What this does not do: compare two methods, draw seeds (two to five of them are too few: see ``crossing``), or
know which numbers a schedule fixes (their interval is a point).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from codestrata.analysis.aggregates import Aggregate, find_aggregate
from codestrata.analysis.crossing import find_t, find_z, measure_crossing, square_runs
from codestrata.analysis.matrix import METRICS, Values
from codestrata.analysis.statistics import Interval, check_level
from codestrata.errors import DataError, MatrixError

DRAWS = 2_000
COUNTS_AT_ONCE = 2_000_000  # 16 MB where they are multiplied, whatever the number of examples
ROUNDING = 1e-12
SCORES = ("average_accuracy", "learning_accuracy")
"""Means of scores, which lie in [0, 1]; the other metrics are differences of such, in [-1, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixEstimate:
    """One number out of R: its mean over seeds, and the interval of that mean.

    ``reason`` says why ``value`` is ``None``, or why there is a value without an interval. With one seed the
    interval covers the draw of the test examples only: it holds for this seed.
    """

    value: float | None
    interval: Interval | None
    seeds: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """What was measured on one task: ``rows`` of R, shape (m,), with their ``statistics``, (S, m, n, k)."""

    rows: np.ndarray
    statistics: np.ndarray

    @property
    def examples(self) -> int:
        """n: test examples of the task; 0 where nothing was measured on it."""
        return int(self.statistics.shape[2])


@dataclass(frozen=True, slots=True)
class Matrices:
    """R as it is and as it might have been, for S seeds and B draws.

    Columns are in the order of the tasks' coming. With ``orders`` of them, S counts the seeds of all orders,
    those of an order together. ``observed``: shape (S, T + 1, T). ``left_out``: per measured task with n
    examples, R without each of them in turn, shape (S, n, T + 1, T). ``drawn``: shape (B, S, T + 1, T).
    """

    observed: np.ndarray
    left_out: tuple[np.ndarray, ...]
    drawn: np.ndarray
    orders: int = 1


def summarize_cells(
    cells: Mapping[tuple[int, int], np.ndarray],
    tasks: int,
    aggregate: str,
    *,
    level: float = 0.95,
    seed: int = 0,
    orders: Sequence[Sequence[int]] | None = None,
) -> dict[str, MatrixEstimate]:
    """ACC, LA, BWT, FWT and F of R over seeds, each with its interval, by the names of ``matrix.METRICS``.

    The value is the mean over seeds of the metric of each seed's R. The interval reaches at least

        max(t[f]^2 V_examples, t[S - 1]^2 V_seeds + t[f]^2 max(0, V_examples - V_both))^(1/2)

    to both sides (with one seed t[f] V_examples^(1/2)). The V are the parts of the variance by seeds, by
    examples and by both, of each example's share in the metric (jackknife); f see ``find_freedom``. Where the
    bias-corrected and accelerated bootstrap reaches further, it counts; the bias that the bootstrap finds is
    added, which the maximum in F needs. Equal arguments give equal intervals.

    With several ``orders`` of the tasks each metric is that of every order's own R, and t[O - 1]^2 V_orders
    comes to t[S - 1]^2 V_seeds: see ``crossing.square_runs``.

    Args:
        cells: (t, i) -> rows of sufficient statistics on task i after training through task t, shape
            (S, n, k); t from 0 (the base) to T, i from 1 to T. Examples stand in the same order in every cell
            of a task, seeds in every cell. One seed alone, (1, n, k), stands for all of them.
        tasks: T.
        aggregate: how the sum of rows becomes a score in [0, 1]; a name of ``aggregates.AGGREGATES``.
        level: nominal coverage, above 0 and below 1.
        seed: seed of the resampling.
        orders: the orders in which the tasks 1..T came; seeds then count on from order to order, S of each.
            ``None`` is one order, 1..T.

    Raises: MatrixError: a place outside R, orders that are none of 1..T or do not share the seeds, or cells
        that do not fit each other. DataError: rows that are not finite, or an unknown aggregate.
        SettingsError: the level. A missing cell is a reason instead.
    Source: Owen 2007, arXiv:0712.1111 (crossed seeds and examples); Efron 1987 (BCa). docs/matrix.md has the
        simulated coverage.
    """
    check_level(level)
    compute = find_aggregate(aggregate)
    check_cells(cells, tasks)
    if not cells:
        nothing = MatrixEstimate(value=None, interval=None, seeds=0, reason="No cell of R was measured.")
        return dict.fromkeys(METRICS, nothing)
    matrices = resample_cells(cells, tasks, compute, seed, orders)
    return {name: estimate(name, metric, matrices, level) for name, metric in METRICS.items()}


def resample_cells(
    cells: Mapping[tuple[int, int], np.ndarray],
    tasks: int,
    aggregate: Aggregate,
    seed: int,
    orders: Sequence[Sequence[int]] | None,
) -> Matrices:
    """R in draws of the examples, from cells and orders as ``summarize_cells`` takes them."""
    check_orders(orders, tasks, count_seeds(cells))
    columns = [stack_column(cells, task, tasks) for task in range(1, tasks + 1)]
    matrices = resample(columns, aggregate, seed)
    return matrices if orders is None else arrange(matrices, orders)


def check_orders(orders: Sequence[Sequence[int]] | None, tasks: int, seeds: int) -> None:
    """Refuse orders that are none, or that ``seeds`` cannot be shared out to. Raises MatrixError: which."""
    if orders is None:
        return
    for order in orders:
        if sorted(order) != list(range(1, tasks + 1)):
            raise MatrixError(f"{list(order)} is no order of the tasks 1 to {tasks}.")
    if not orders or seeds % len(orders):
        raise MatrixError(f"{seeds} seeds of {len(orders)} orders: every order needs as many.")


def arrange(matrices: Matrices, orders: Sequence[Sequence[int]]) -> Matrices:
    """The same with the columns of every seed's R in the order in which its tasks came."""
    seeds = len(matrices.observed) // len(orders)
    columns = np.repeat(np.array(orders) - 1, seeds, axis=0)  # (S, T)
    return Matrices(
        np.take_along_axis(matrices.observed, columns[:, None], axis=-1),
        tuple(np.take_along_axis(left, columns[:, None, None], axis=-1) for left in matrices.left_out),
        np.take_along_axis(matrices.drawn, columns[None, :, None], axis=-1),
        len(orders),
    )


def summarize_gap(
    references: Sequence[np.ndarray],
    own: Sequence[np.ndarray],
    aggregate: str,
    *,
    level: float = 0.95,
    seed: int = 0,
    orders: int = 1,
) -> MatrixEstimate:
    """What a method falls short of a reference by, over some tasks and over seeds, with its interval.

        mean over the tasks of (the reference's score - the method's own)

    With R[i, i] as own scores and experts' as references this is the expert gap; with one task k, J_k[k] and
    R[k, k], intransigence. The interval is as in ``summarize_cells``: both sides take the same examples.

    Args:
        references: per task, rows of sufficient statistics, shape (S, n, k).
        own: the same of the method; examples and seeds in the same order.
        aggregate: as in ``summarize_cells``.
        level: nominal coverage, above 0 and below 1.
        seed: seed of the resampling.
        orders: how many orders of the tasks there are; seeds then count on from order to order.

    Raises: as ``summarize_cells``; MatrixError also where there is not one reference per own score.
    Source: Chaudhry et al. 2018, arXiv:1801.10112 (intransigence); the expert gap is ours.
    """
    if not own or len(references) != len(own):
        raise MatrixError(f"{len(references)} references for {len(own)} scores: expected one for each.")
    # What R would be, had the references' scores come after a task more: the gap is its backward transfer.
    after = len(own) + 1
    cells = {(task, task): rows for task, rows in enumerate(own, start=1)}
    cells |= {(after, task): rows for task, rows in enumerate(references, start=1)}
    alike = [range(1, after + 1)] * orders  # own scores are those of each task, whatever its place
    found = summarize_cells(cells, after, aggregate, level=level, seed=seed, orders=alike)
    return found["backward_transfer"]


def check_cells(cells: Mapping[tuple[int, int], np.ndarray], tasks: int) -> None:
    """Refuse cells outside R, and cells that do not fit each other.

    Raises: MatrixError: a place outside R, an array of another shape, or numbers of seeds, examples or
        columns that do not fit. DataError: rows that are not finite.
    """
    for (row, task), rows in cells.items():
        if not (0 <= row <= tasks and 1 <= task <= tasks):
            raise MatrixError(f"R[{row}, {task}] is no place of R with {tasks} tasks.")
        if np.ndim(rows) != 3 or 0 in np.shape(rows):
            wanted = "(seeds, examples, columns)"
            raise MatrixError(f"R[{row}, {task}] has rows of shape {np.shape(rows)}: expected {wanted}.")
        if not np.isfinite(rows).all():
            remedy = "leave the cell out where it has no value"
            raise DataError(f"R[{row}, {task}] has rows that are not finite: {remedy}.")
    seeds, columns = count_seeds(cells), count_columns(cells)
    examples: dict[int, int] = {}
    for (row, task), rows in cells.items():
        shape = (seeds, examples.setdefault(task, rows.shape[1]), columns)
        if rows.shape not in (shape, (1, *shape[1:])):
            raise MatrixError(
                f"R[{row}, {task}] has rows of shape {rows.shape}, other cells ask for {shape}: every row of "
                "R is scored on the same test examples, with as many seeds (or one that stands for all)."
            )


def count_seeds(cells: Mapping[tuple[int, int], np.ndarray]) -> int:
    """S: the most seeds of any cell."""
    return max(len(rows) for rows in cells.values()) if cells else 0


def count_columns(cells: Mapping[tuple[int, int], np.ndarray]) -> int:
    """k: the columns of the first cell."""
    return next((int(rows.shape[2]) for rows in cells.values()), 0)


def stack_column(cells: Mapping[tuple[int, int], np.ndarray], task: int, tasks: int) -> Column:
    """All cells of one task."""
    seeds = count_seeds(cells)
    rows = [row for row in range(tasks + 1) if (row, task) in cells]
    if not rows:
        return Column(np.array(rows, dtype=int), np.empty((seeds, 0, 0, count_columns(cells))))
    arrays = [np.asarray(cells[row, task], dtype=float) for row in rows]
    spread = [np.broadcast_to(array, (seeds, *array.shape[1:])) for array in arrays]
    return Column(np.array(rows), np.stack(spread, axis=1))


def resample(columns: Sequence[Column], aggregate: Aggregate, seed: int) -> Matrices:
    """R as observed, without each example, and in ``DRAWS`` draws of the examples; NaN where not measured."""
    sums = [column.statistics.sum(axis=2) for column in columns]
    observed = assemble([aggregate(of_task) for of_task in sums], columns)
    left_out = []
    for task, column in enumerate(columns):
        if not column.examples:
            continue
        without = np.moveaxis(sums[task][:, :, None] - column.statistics, 2, 1)  # (S, n, m, k)
        matrices = np.repeat(observed[:, None], column.examples, axis=1)
        matrices[:, :, column.rows, task] = aggregate(without)
        left_out.append(matrices)
    drawn = [aggregate(draw_sums(column, seed, task)) for task, column in enumerate(columns)]
    return Matrices(observed, tuple(left_out), assemble(drawn, columns))


def assemble(scores: Sequence[np.ndarray], columns: Sequence[Column]) -> np.ndarray:
    """Matrices, shape (..., T + 1, T), from each task's scores, shape (..., m); NaN where not measured."""
    matrices = np.full((*scores[0].shape[:-1], len(columns) + 1, len(columns)), np.nan)
    for task, (column, of_task) in enumerate(zip(columns, scores, strict=True)):
        matrices[..., column.rows, task] = of_task
    return matrices


def draw_sums(column: Column, seed: int, task: int) -> np.ndarray:
    """Sums of statistics over ``DRAWS`` draws of the task's examples, shape (B, S, m, k)."""
    seeds, rows, examples, width = column.statistics.shape
    if not examples:
        return np.zeros((DRAWS, seeds, rows, width))
    flat = column.statistics.transpose(2, 0, 1, 3).reshape(examples, seeds * rows * width)
    counts = draw_counts(examples, seed, task)
    pieces = np.array_split(counts, math.ceil(counts.size / COUNTS_AT_ONCE))
    return np.concatenate([piece.astype(float) @ flat for piece in pieces]).reshape(DRAWS, seeds, rows, width)


@lru_cache(maxsize=8)  # the same tasks come with every method and metric of a run
def draw_counts(examples: int, seed: int, task: int) -> np.ndarray:
    """How often each draw takes each example, shape (B, n); not to be written to.

    Bytes hold the counts: of n examples drawn n times, one comes more than 255 times with a probability under
    1e-500.
    """
    generator = np.random.default_rng([seed, task])
    counts = np.empty((DRAWS, examples), dtype=np.uint8)
    for piece in np.array_split(counts, math.ceil(counts.size / COUNTS_AT_ONCE)):
        picked = generator.integers(examples, size=piece.shape)
        picked += np.arange(len(piece))[:, None] * examples
        piece[:] = np.bincount(picked.ravel(), minlength=piece.size).reshape(piece.shape)
    counts.setflags(write=False)
    return counts


def estimate(
    name: str, metric: Callable[[np.ndarray], Values], matrices: Matrices, level: float
) -> MatrixEstimate:
    """One metric with its interval, or what is missing with the reason."""
    runs = len(matrices.observed)
    seeds = runs // matrices.orders
    try:
        values = np.asarray(metric(matrices.observed))
    except MatrixError as error:
        return MatrixEstimate(value=None, interval=None, seeds=seeds, reason=str(error))
    value = float(values.mean())
    fewest = min(matrix.shape[1] for matrix in matrices.left_out)
    if fewest < 2:
        reason = f"An interval needs 2 examples or more of every task, found {fewest}."
        return MatrixEstimate(value=value, interval=None, seeds=seeds, reason=reason)
    try:
        shares = [share_out(metric, values, of_task) for of_task in matrices.left_out]
        draws = np.asarray(metric(matrices.drawn)).mean(axis=-1)
    except MatrixError:  # the observed R has all entries, so an aggregate gave no value
        reason = "No interval: without some of its examples a cell has no value."
        return MatrixEstimate(value=value, interval=None, seeds=seeds, reason=reason)
    low, high = find_ends(values, shares, draws, level, matrices.orders)
    bottom = 0.0 if name in SCORES else -1.0
    method = "constant" if low == high else "bootstrap" if runs == 1 else "hierarchical"
    interval = Interval(low=max(low, bottom), high=min(high, 1.0), level=level, method=method)
    return MatrixEstimate(value=value, interval=interval, seeds=seeds)


def share_out(metric: Callable[[np.ndarray], Values], values: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Each example's share in the metric of each seed, shape (S, n): jackknife pseudo-values.

    n m(R) - (n - 1) m(R without the example); for means of examples their mean is m(R) exactly.
    """
    examples = left_out.shape[1]
    shares: np.ndarray = examples * values[:, None] - (examples - 1) * np.asarray(metric(left_out))
    return shares


def find_ends(
    values: np.ndarray, shares: Sequence[np.ndarray], draws: np.ndarray, level: float, orders: int = 1
) -> tuple[float, float]:
    """Both ends of the interval of the mean of ``values``, one per seed; equal where nothing varies."""
    value = float(values.mean())
    margin = find_margin(values, shares, level, orders)
    spread = float(draws.std())
    if max(margin, spread) <= ROUNDING:
        return value, value
    reach = 1.0
    if len(values) > 1:  # the draws know of the examples only: stretch them to the margin
        reach = margin / (spread * find_z(1 - level)) if spread > ROUNDING else 0.0
    bootstrap_low, bootstrap_high = value + reach * (find_bootstrap_ends(value, shares, draws, level) - value)
    bias = float(draws.mean()) - value
    low = min(float(bootstrap_low), value - margin) - max(bias, 0.0)
    high = max(float(bootstrap_high), value + margin) - min(bias, 0.0)
    return low, high


def find_margin(values: np.ndarray, shares: Sequence[np.ndarray], level: float, orders: int = 1) -> float:
    """How far the interval reaches to both sides at least, by the variance of seeds and of examples.

    Args:
        values: the metric of each seed, shape (S,).
        shares: per task, each example's share for each seed, shape (S, n).
        level: nominal coverage.
        orders: how many orders of the tasks the seeds are of.
    """
    seeds = len(values)
    parts = [measure_crossing(of_task) for of_task in shares]
    by_examples = sum(part.example / (seeds * part.examples) for part in parts)
    by_both = sum(part.residual / (seeds * part.examples) for part in parts)
    t_examples = find_t(find_freedom(shares), 1 - level)
    alone = t_examples**2 * by_examples
    if seeds == 1:
        return math.sqrt(alone)
    # What examples and seeds do together is in both variances: count it once, but not less than either.
    rest = t_examples**2 * max(0.0, by_examples - by_both)
    return math.sqrt(max(alone, square_runs(values, orders, 1 - level) + rest))


def find_freedom(shares: Sequence[np.ndarray]) -> float:
    """Degrees of freedom of the variance by examples: few where few examples carry it all.

        2 V^2 / sum of var(V_i), V = sum of V_i, V_i = s_i^2 / n_i over the tasks
        var(s^2) = s^4 (kurtosis / n - (n - 3) / (n (n - 1)))

    n - 1 for normal shares; about 2 m where m examples differ from all others. Never over n - 1 for one task.
    """
    variance = uncertainty = 0.0
    for of_task in shares:
        examples = of_task.shape[1]
        centered = of_task.mean(axis=0) - of_task.mean()
        square = float((centered**2).mean())
        if square > ROUNDING:
            kurtosis = float((centered**4).mean()) / square**2
            relative = kurtosis / examples - (examples - 3) / (examples * (examples - 1))
            part = square / (examples - 1)
            variance += part
            uncertainty += part**2 * max(relative, 2 / (examples - 1))
    return 2 * variance**2 / uncertainty if uncertainty > 0 else 1.0


def find_bootstrap_ends(
    value: float, shares: Sequence[np.ndarray], draws: np.ndarray, level: float
) -> np.ndarray:
    """Both ends of the bias-corrected and accelerated interval over the draws of examples, shape (2,)."""
    tolerance = ROUNDING * max(1.0, abs(value))
    below = ((draws < value - tolerance).mean() + (draws <= value + tolerance).mean()) / 2
    correction = special.ndtri(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    influence = np.concatenate(
        [(of_task.mean(axis=0) - of_task.mean()) / of_task.shape[1] for of_task in shares]
    )
    scale = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * scale) if scale > 0 else 0.0
    tail = find_z(1 - level)
    shifted = correction + np.array([-tail, tail])
    # The divisor stays above 0: the acceleration is at most 1/6, but levels near 1 could reach it.
    places = special.ndtr(correction + shifted / np.maximum(1 - acceleration * shifted, 0.01))
    ends: np.ndarray = np.quantile(draws, places)
    return ends
