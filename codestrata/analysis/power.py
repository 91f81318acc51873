"""What a comparison could have found, and what it would take: more examples, or more seeds.

All three answers are for one measured difference at a given level and take its variances for the true ones.

What this does not do: say how likely more data would find anything else than the difference that was seen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from codestrata.analysis.crossing import find_t
from codestrata.analysis.differences import PairedDifference, find_example_margin, find_margin

POWER = 0.8
ROUNDING = 1e-24  # of a variance
QUANTILES = 200  # equal slices of the distribution of the seeds' variance
FEWER_QUANTILES = 40  # of each, where orders vary too
MOST_EXAMPLES = 1_000_000
MOST_SEEDS = 100
IDENTICAL = "both have the same statistics on every example"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A number, or ``None`` with the reason."""

    value: float | None
    reason: str | None = None


def find_detectable_effect(found: PairedDifference, alpha: float) -> Answer:
    """The true difference that an interval at level 1 - ``alpha`` finds (excludes 0 for) 80 times in 100.

    With one seed: the margin over examples + 0.84 standard errors, the textbook's sum. With several seeds
    the margin itself varies as their variance does, and is averaged over its chi-square distribution.
    """
    if found.changed == 0:
        return Answer(value=None, reason=IDENTICAL)
    run_variance = found.seed_variance + found.order_variance
    if found.variance + run_variance <= ROUNDING or found.n == 1:
        return Answer(value=None, reason="the examples' differences do not vary: there is nothing to go by")
    margins = find_likely_margins(found, alpha)
    error = math.sqrt(max(found.variance, found.share * found.variance + run_variance))
    low, high = 0.0, float(margins.max()) + 10 * error
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        power = np.mean(special.ndtr((middle - margins) / error))
        low, high = (low, middle) if power >= POWER else (middle, high)
    if found.limit is not None and high > found.limit:
        reason = f"even {found.limit:g}, the largest difference there can be, would be found less often"
        return Answer(value=None, reason=reason)
    return Answer(value=high)


def find_likely_margins(found: PairedDifference, alpha: float) -> np.ndarray:
    """Margins in repetitions: one with one seed, else one for each slice of the seeds' variance.

    With several orders of the tasks, one for each pair of slices of both variances.
    """
    margin = find_example_margin(found, alpha, found.n)
    factors = [(found.seeds, found.seed_variance), (found.orders, found.order_variance)]
    factors = [(count, variance) for count, variance in factors if count > 1]
    if not factors:
        return np.array([margin])
    squares = np.array([found.share * margin**2])
    quantiles = QUANTILES if len(factors) == 1 else FEWER_QUANTILES
    for count, variance in factors:
        slices = (np.arange(quantiles) + 0.5) / quantiles
        variances = variance * special.chdtri(count - 1, slices) / (count - 1)
        squares = np.add.outer(squares, find_t(count - 1, alpha) ** 2 * variances).ravel()
    margins: np.ndarray = np.sqrt(np.maximum(margin**2, squares))
    return margins


def find_examples_needed(found: PairedDifference, alpha: float) -> Answer:
    """How many more examples would let the interval at level 1 - ``alpha`` just exclude 0; 0 if it does now.

    If the difference and the variances stayed as they are: with that many the chance is about even.
    """
    if reason := explain_no_difference(found):
        return Answer(value=None, reason=reason)

    def is_enough(examples: int) -> bool:
        return find_margin(found, alpha, examples=examples) < abs(found.difference)

    needed = find_least(is_enough, found.n, MOST_EXAMPLES)
    if needed is None:
        because = "the seeds differ too much" if found.seeds > 1 else "the difference is too small"
        return Answer(value=None, reason=f"{MOST_EXAMPLES:,} examples would not do: {because}")
    return Answer(value=needed - found.n)


def find_seeds_needed(found: PairedDifference, alpha: float) -> Answer:
    """How many more seeds would let the interval at level 1 - ``alpha`` just exclude 0; 0 where it does now.

    As ``find_examples_needed``. One seed says nothing of how seeds differ: no answer.
    """
    if reason := explain_no_difference(found):
        return Answer(value=None, reason=reason)
    if found.seeds == 1:
        return Answer(value=None, reason="one seed does not show how much seeds differ: run at least two")

    def is_enough(seeds: int) -> bool:
        return find_margin(found, alpha, seeds=seeds) < abs(found.difference)

    needed = find_least(is_enough, found.seeds, MOST_SEEDS)
    if needed is None:
        reason = f"{MOST_SEEDS} seeds would not do: more seeds do not lessen how much the examples differ"
        return Answer(value=None, reason=reason)
    return Answer(value=needed - found.seeds)


def explain_no_difference(found: PairedDifference) -> str | None:
    """Why no amount of data can be named, or ``None``."""
    if found.changed == 0:
        return IDENTICAL
    return "the difference is 0" if found.difference == 0 else None


def find_least(is_enough: Callable[[int], bool], start: int, most: int) -> int | None:
    """The least number from ``start`` to ``most`` that is enough, if more is never worse; else ``None``."""
    if is_enough(start):
        return start
    low, high = start, start
    while high < most:
        low, high = high, min(2 * high, most)
        if is_enough(high):
            break
    else:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
