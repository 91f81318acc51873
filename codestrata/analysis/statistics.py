"""Intervals for the numbers of a run: how far a rate or a mean over examples can be trusted.

What this does not do: compare two methods, or say anything about seeds; an interval here covers the draw of
the test examples only.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from codestrata.errors import DataError, SettingsError

RESAMPLES = 9_999
RESAMPLED_VALUES_AT_ONCE = 1_000_000  # 8 MB per array, whatever the number of examples
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A two-sided confidence interval.

    ``level`` is its nominal coverage; ``method`` is ``wilson``, ``bootstrap`` or, where all values are equal,
    ``constant``.
    """

    low: float
    high: float
    level: float
    method: str


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a rate, inside [0, 1] and sensible for 0 or n successes.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), p = successes / n

    z is the normal quantile at (1 + level) / 2. No continuity correction.

    Args:
        successes: how many of the n examples passed.
        n: examples, at least 1.
        level: nominal coverage, above 0 and below 1.

    Raises: DataError: no examples, or more successes than examples. SettingsError: the level.
    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953; Newcombe 1998, method 3.
    """
    check_level(level)
    if n < 1:
        raise DataError(f"A rate needs at least 1 example, found {n}.")
    if not 0 <= successes <= n:
        raise DataError(f"{successes} of {n} examples passed: expected a number from 0 to {n}.")
    z = float(stats.norm.ppf((1 + level) / 2))
    rate = successes / n
    center = rate + z**2 / (2 * n)
    margin = z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # The limits are exactly 0 and 1 here, which floating point misses.
    low = 0.0 if successes == 0 else (center - margin) / scale
    high = 1.0 if successes == n else (center + margin) / scale
    return Interval(low=low, high=high, level=level, method="wilson")


def bootstrap_interval(values: np.ndarray, level: float = 0.95, seed: int = 0) -> Interval:
    """Bootstrap interval of the mean over examples: bias-corrected and accelerated (BCa), 9,999 resamples.

    Equal arguments give equal intervals. Where all values are equal the interval is a point, which says that
    they do not vary, not that the mean is certain; for rates take ``wilson_interval``.

    Args:
        values: one finite number per example, shape (n,), n at least 2.
        level: nominal coverage, above 0 and below 1.
        seed: seed of the resampling.

    Raises: DataError: fewer than two values, or one that is not finite. SettingsError: the level.
    Source: Efron 1987, doi:10.1080/01621459.1987.10478410, as in ``scipy.stats.bootstrap``.
    """
    check_level(level)
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise DataError(f"An interval of a mean needs 2 values or more in a row, found shape {values.shape}.")
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"Value {index} is {values[index]}: an interval of a mean needs finite values.")
    # BCa divides by the spread of the values, so values that differ by rounding alone count as equal.
    if np.ptp(values) <= ROUNDING * max(1.0, float(np.abs(values).max())):
        point = float(values.mean())
        return Interval(low=point, high=point, level=level, method="constant")
    result = stats.bootstrap(
        (values,),
        np.mean,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, RESAMPLED_VALUES_AT_ONCE // len(values)),
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(low=float(low), high=float(high), level=level, method="bootstrap")


def check_level(level: float) -> None:
    """Refuse a nominal coverage outside (0, 1)."""
    if not 0 < level < 1:
        raise SettingsError(f"level is {level}: it must be above 0 and below 1, such as 0.95.")
