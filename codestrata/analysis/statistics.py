"""Intervals for the numbers of a run: how far a rate, a mean or a corpus value can be trusted.

With one training seed an interval covers the draw of the test examples only. With several it covers the draw
of the seeds too (``seeds_interval``, ``rate_interval``).

What this does not do: compare two methods (see ``comparisons``).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from codestrata.analysis.aggregates import build_rows
from codestrata.analysis.crossing import (
    add_seeds,
    average_runs,
    find_t,
    find_z,
    measure_crossing,
    measure_variance,
)
from codestrata.analysis.resampling import (
    check_rows,
    compute_pseudo_values,
    compute_values,
    drop_missing,
    resample_examples,
)
from codestrata.errors import DataError, SettingsError

ROUNDING = 1e-10
Bounds = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A two-sided confidence interval.

    ``level`` is its nominal coverage; ``method`` is ``wilson``, ``bootstrap`` (over examples, one seed),
    ``hierarchical`` (over seeds and examples), ``paired`` (of a difference) or, where all values are equal,
    ``constant``.
    """

    low: float
    high: float
    level: float
    method: str


def wilson_interval(successes: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a rate, inside [0, 1] and sensible for 0 or n successes.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), p = successes / n

    z is the normal quantile at (1 + level) / 2. No continuity correction.

    Args:
        successes: how many of the n examples passed.
        n: examples, at least 1; both may be fractions where n is an effective number (see ``rate_interval``).
        level: nominal coverage, above 0 and below 1.

    Raises: DataError: no examples, or more successes than examples. SettingsError: the level.
    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953; Newcombe 1998, method 3.
    """
    check_level(level)
    if n < 1:
        raise DataError(f"A rate needs at least 1 example, found {n}.")
    if not 0 <= successes <= n:
        raise DataError(f"{successes} of {n} examples passed: expected a number from 0 to {n}.")
    z = find_z(1 - level)
    rate = successes / n
    center = rate + z**2 / (2 * n)
    margin = z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # The limits are exactly 0 and 1 here, which floating point misses.
    low = 0.0 if successes == 0 else (center - margin) / scale
    high = 1.0 if successes == n else (center + margin) / scale
    return Interval(low=low, high=high, level=level, method="wilson")


def bootstrap_interval(
    rows: np.ndarray, aggregate: str = "mean", level: float = 0.95, seed: int = 0
) -> Interval:
    """Bootstrap interval over examples: bias-corrected and accelerated (BCa), expanded, 9,999 draws.

    Plain BCa is a little short for few examples, as it puts the normal quantile where Student's belongs; the
    expansion takes z = (n / (n - 1))^1/2 t, t with n - 1 degrees of freedom (0.6 % longer at n = 300). Equal
    arguments give equal intervals. Where all examples contribute equally the interval is a point, which says
    that they do not vary, not that the value is certain; for rates take ``wilson_interval``.

    Args:
        rows: one finite number per example, shape (n,), for their mean; or rows of sufficient statistics,
            shape (n, k). n is at least 2.
        aggregate: the name in ``aggregates`` that turns the rows' sum into the value.
        level: nominal coverage, above 0 and below 1.
        seed: seed of the draws.

    Raises: DataError: fewer than two examples, an entry that is not finite, or draws without a value.
        SettingsError: the level.
    Source: Efron 1987, doi:10.1080/01621459.1987.10478410 (the acceleration is the jackknife's); Hesterberg
        2015, doi:10.1080/00031305.2015.1089789 (expansion).
    """
    check_level(level)
    rows = np.asarray(rows, dtype=float)
    if rows.ndim not in (1, 2):
        raise DataError(f"Rows of one seed have shape (n,) or (n, columns), found {rows.shape}.")
    if rows.ndim == 1:
        rows = build_rows(rows)
    return find_limits(check_rows(rows[None]), aggregate, level, seed)


def seeds_interval(
    rows: np.ndarray,
    aggregate: str = "mean",
    level: float = 0.95,
    seed: int = 0,
    bounds: Bounds | None = None,
    orders: int = 1,
) -> Interval:
    """Hierarchical interval of the mean over training seeds: for other seeds and other examples.

    Every seed is tested on the same examples, so seeds and examples are crossed. A limit is found level by
    level: examples are drawn with replacement (BCa, one draw for all seeds); seeds are too few to be drawn,
    and count with Student's t. With b the distance from the value to a limit of the bootstrap over examples:

        margin^2 = max(b^2, b^2 share + t^2 var_s(value_s) / S), t with S - 1 degrees of freedom
        share = max(0, 1 - MS_residual / MS_example)

    ``share`` is the part of b^2 that is common to the seeds; the rest is inside var_s already. With one seed
    the interval is that of ``bootstrap_interval``, for this seed only.

    Args:
        rows: rows of sufficient statistics, shape (S, n, k), n at least 2.
        aggregate: the name in ``aggregates`` that turns a seed's sum of rows into its value.
        level: nominal coverage, above 0 and below 1.
        seed: seed of the draws of examples.
        bounds: the least and the greatest value there can be; the limits stay within.
        orders: O orders of the tasks, a further factor beside the seeds; rows are then of shape (O S, n, k),
            all seeds of an order together, and margin^2 has t^2 var_o(value_o) / O besides.

    Raises: DataError: fewer than two examples, an entry that is not finite, or draws without a value.
        SettingsError: the level.
    Source: Owen 2007 (crossed draws); Banerjee 1960 (sums of squared t margins); Zou &
        Donner 2008 (limits that are not symmetric). docs/statistics.md has the coverage, and that of
        percentiles of drawn seeds, which is far too low.
    """
    check_level(level)
    rows = check_rows(rows)
    limits = find_limits(rows, aggregate, level, seed)
    if len(rows) == 1:
        return limits
    values = compute_values(rows, aggregate)
    share = measure_crossing(compute_pseudo_values(rows, aggregate)).share
    return widen_for_seeds(limits, float(values.mean()), values, share, bounds, orders)


def rate_interval(passes: np.ndarray, level: float = 0.95, *, orders: int = 1) -> Interval:
    """Interval of a rate with one training seed (Wilson's) or several (for other seeds and other examples).

    With several seeds Wilson's limits are taken at the effective number of examples, between n and S n, at
    which a rate would vary as this one does between examples; the draw of seeds is added as in
    ``seeds_interval``.

        n_effective = p (1 - p) / (MS_example / (S n)); n where every answer is equal

    Args:
        passes: 1 where an example passed, else 0; shape (S, n).
        level: nominal coverage, above 0 and below 1.
        orders: as in ``seeds_interval``.

    Raises: DataError: another shape, or something other than 0 and 1. SettingsError: the level.
    Source: as ``wilson_interval``; Korn & Graubard 1998 for the effective number.
    """
    check_level(level)
    passes = np.asarray(passes, dtype=float)
    if passes.ndim != 2 or passes.size == 0 or not np.isin(passes, (0, 1)).all():
        raise DataError(f"Passes are 0 or 1 in shape (seeds, examples), found shape {passes.shape}.")
    seeds, n = passes.shape
    if seeds == 1:
        return wilson_interval(int(passes.sum()), n, level)
    crossing = measure_crossing(passes)
    rate = float(passes.mean())
    effective = float(n)
    if crossing.example > 0:
        effective = min(max(n, rate * (1 - rate) * seeds * n / crossing.example), seeds * n)
    limits = wilson_interval(rate * effective, effective, level)
    return widen_for_seeds(limits, rate, passes.mean(axis=1), crossing.share, (0.0, 1.0), orders)


def find_limits(rows: np.ndarray, aggregate: str, level: float, seed: int) -> Interval:
    """The BCa interval over examples of the mean over seeds; ``rows`` as ``check_rows`` gives them."""
    if rows.shape[1] < 2:
        raise DataError(f"An interval over examples needs 2 or more of them, found {rows.shape[1]}.")
    estimate = float(compute_values(rows, aggregate).mean())
    contributions = compute_pseudo_values(rows, aggregate).mean(axis=0)
    # BCa divides by the spread, so contributions that differ by rounding alone count as equal.
    if np.ptp(contributions) <= ROUNDING * max(1.0, float(np.abs(contributions).max())):
        return Interval(low=estimate, high=estimate, level=level, method="constant")
    draws = drop_missing(resample_examples(rows, aggregate, seed), aggregate)
    low, high = np.quantile(draws, correct_levels(draws, estimate, contributions, level))
    return Interval(low=float(low), high=float(high), level=level, method="bootstrap")


def correct_levels(draws: np.ndarray, estimate: float, contributions: np.ndarray, level: float) -> np.ndarray:
    """Which two quantiles of the draws are the limits: corrected for bias, for skewness and for small n.

        Phi(z0 + (z0 + z) / (1 - a (z0 + z))), z = -+ (n / (n - 1))^1/2 t, t with n - 1 degrees of freedom
        z0 = Phi^-1(share of draws under the estimate, ties half), a = sum d^3 / 6 (sum d^2)^3/2

    d are the examples' contributions less their mean.
    """
    tie = ROUNDING * max(1.0, abs(estimate))
    under = (np.mean(draws < estimate - tie) + np.mean(draws <= estimate + tie)) / 2
    bias = special.ndtri(np.clip(under, 1 / len(draws), 1 - 1 / len(draws)))
    deviations = contributions - contributions.mean()
    acceleration = np.sum(deviations**3) / (6 * np.sum(deviations**2) ** 1.5)
    count = len(contributions)
    shifted = bias + np.array([-1.0, 1.0]) * find_t(count - 1, 1 - level) * math.sqrt(count / (count - 1))
    # Far out the correction has a pole; beyond it the limit is the last draw.
    corrected: np.ndarray = special.ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, ROUNDING))
    return corrected


def widen_for_seeds(
    limits: Interval, estimate: float, values: np.ndarray, share: float, bounds: Bounds | None, orders: int
) -> Interval:
    """An interval over examples made one over seeds and examples; ``values`` holds each seed's own value."""
    by_seed, by_order = average_runs(values, orders)
    low, high = (
        estimate
        + side
        * add_seeds(
            abs(limit - estimate),
            share,
            measure_variance(by_seed),
            len(by_seed),
            1 - limits.level,
            order_variance=measure_variance(by_order),
            orders=orders,
        )
        for side, limit in ((-1, limits.low), (1, limits.high))
    )
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    method = "constant" if low == high else "hierarchical"
    return Interval(low=low, high=high, level=limits.level, method=method)


def check_level(level: float) -> None:
    """Refuse a nominal coverage outside (0, 1)."""
    if not 0 < level < 1:
        raise SettingsError(f"level is {level}: it must be above 0 and below 1, such as 0.95.")
