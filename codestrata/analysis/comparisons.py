"""Which of several paired differences are real: Holm-adjusted intervals, p-values and verdicts.

A verdict is "first" or "second" exactly where the adjusted interval excludes 0, which is exactly where the
adjusted p is under 1 - level.

What this does not do: choose the family. All comparisons that a reader may pick from belong into one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from codestrata.analysis.differences import PairedDifference, find_margin
from codestrata.analysis.power import find_detectable_effect, find_examples_needed, find_seeds_needed
from codestrata.analysis.statistics import Interval, check_level

Verdict = Literal["first", "second", "cannot tell"]

SMALLEST_P = 1e-12
STEPS = 60  # of the bisection: p is right to ten digits
MOST_SEEDS_FLIPPED = 20  # a million sign patterns


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One difference, first method less second, judged within a family of comparisons.

    ``interval`` is Holm-adjusted: its ``level`` is the one that this comparison had to pass. ``p`` is
    two-sided, found by inverting the unadjusted interval, and no less than 1e-12; ``adjusted_p`` is Holm's.
    ``sign_flip_p`` is the exact p over the signs of the seeds' differences (with one seed, of those of the
    orders of the tasks), information only: with S seeds it cannot go under 2^(1 - S); ``None`` with one seed
    in one order. ``minimum_detectable_effect`` is the true difference that would be found 80 times in 100;
    ``examples_needed`` and ``seeds_needed`` are how many more of each would make this difference significant
    at the present variance (0: it is). All three are at the interval's level; where one is ``None`` its
    reason stands beside it. ``family`` comparisons were judged together.
    """

    difference: float
    interval: Interval
    p: float
    adjusted_p: float
    verdict: Verdict
    n: int
    seeds: int
    for_this_seed_only: bool
    family: int
    sign_flip_p: float | None
    minimum_detectable_effect: float | None
    minimum_detectable_effect_reason: str | None
    examples_needed: int | None
    examples_needed_reason: str | None
    seeds_needed: int | None
    seeds_needed_reason: str | None


def adjust_comparisons(differences: Sequence[PairedDifference], level: float = 0.95) -> list[Comparison]:
    """A family of comparisons, judged so that a false verdict occurs in at most 1 - ``level`` of families.

    Holm's steps: of m comparisons the one with the k-th smallest p is judged at level
    1 - (1 - level) / (m - k + 1). Once one is not significant, no later one is, and they are judged at the
    same level as that one.

    Args:
        differences: the family; the answer has the same order.
        level: for the family as a whole, above 0 and below 1.

    Raises: SettingsError: the level.
    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    check_level(level)
    count = len(differences)
    p_values = [find_p(found) for found in differences]
    judged: dict[int, Comparison] = {}
    adjusted_p, alpha, passed = 0.0, 0.0, True
    for step, place in enumerate(sorted(range(count), key=p_values.__getitem__)):
        left = count - step
        alpha = (1 - level) / left if passed else alpha
        adjusted_p = max(adjusted_p, min(1.0, left * p_values[place]))
        interval = find_paired_interval(differences[place], alpha)
        passed = passed and excludes_zero(interval)
        judged[place] = build_comparison(
            differences[place], interval, alpha, p=p_values[place], adjusted_p=adjusted_p, family=count
        )
    return [judged[place] for place in range(count)]


def build_comparison(
    found: PairedDifference, interval: Interval, alpha: float, *, p: float, adjusted_p: float, family: int
) -> Comparison:
    """A comparison with its verdict and what else can be said at its level, 1 - ``alpha``."""
    effect = find_detectable_effect(found, alpha)
    examples, seeds = find_examples_needed(found, alpha), find_seeds_needed(found, alpha)
    return Comparison(
        difference=found.difference,
        interval=interval,
        p=p,
        adjusted_p=adjusted_p,
        verdict=judge_interval(interval),
        n=found.n,
        seeds=found.seeds,
        for_this_seed_only=found.seeds == 1,
        family=family,
        sign_flip_p=flip_signs(found.units),
        minimum_detectable_effect=effect.value,
        minimum_detectable_effect_reason=effect.reason,
        examples_needed=None if examples.value is None else round(examples.value),
        examples_needed_reason=examples.reason,
        seeds_needed=None if seeds.value is None else round(seeds.value),
        seeds_needed_reason=seeds.reason,
    )


def find_paired_interval(found: PairedDifference, alpha: float) -> Interval:
    """The interval of a difference at level 1 - ``alpha``; the point 0 where both methods are identical."""
    towards = find_margin(found, alpha)
    away = find_margin(found, alpha, towards_zero=False)
    below, above = (towards, away) if found.difference > 0 else (away, towards)
    low, high = found.difference - below, found.difference + above
    if found.limit is not None:
        low, high = max(low, -found.limit), min(high, found.limit)
    method = "constant" if found.changed == 0 else "paired"
    return Interval(low=low, high=high, level=1 - alpha, method=method)


def find_p(found: PairedDifference) -> float:
    """The least alpha at which the interval excludes 0: the two-sided p; 1 where none does."""
    size = abs(found.difference)
    low, high = math.log(SMALLEST_P), math.log(1 - 1e-9)
    if size <= find_margin(found, math.exp(high)):
        return 1.0
    if size > find_margin(found, SMALLEST_P):
        return SMALLEST_P
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if size > find_margin(found, math.exp(middle)) else (middle, high)
    return math.exp(high)


def excludes_zero(interval: Interval) -> bool:
    """Whether 0 lies outside."""
    return interval.low > 0 or interval.high < 0


def judge_interval(interval: Interval) -> Verdict:
    """Which method is better, as far as the interval can tell."""
    if not excludes_zero(interval):
        return "cannot tell"
    return "first" if interval.low > 0 else "second"


def flip_signs(values: Sequence[float]) -> float | None:
    """The share of all sign patterns of ``values`` whose sum is as far from 0 as theirs.

    ``None`` with one value, and with more than 20, whose patterns are too many to list.

    Source: Fisher 1935, The Design of Experiments, section 21.
    """
    if not 1 < len(values) <= MOST_SEEDS_FLIPPED:
        return None
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    seen = abs(math.fsum(values))
    return float(np.mean(np.abs(sums) >= seen - 1e-9 * max(1e-3, seen)))
