"""The measured difference of two methods on the same examples, and its margin at any level and size of test.

What this does not do: decide anything (see ``comparisons``).
"""

import math
from dataclasses import dataclass

import numpy as np

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
from codestrata.errors import DataError

ROUNDING = 1e-12
TAIL = 0.01  # 100 of the 9,999 draws; further out a quantile of the draws is an accident


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairedDifference:
    """First method less second, on the same examples and seeds, with what its margin is made of.

    ``values`` are the differences with each seed, in ``orders`` orders of the tasks one order after another;
    ``difference`` is their mean. ``deviations`` are the distances of the 9,999 draws of examples from
    ``difference``, ascending; ``variance`` is that of ``difference`` over draws of examples, ``share`` the
    part of it that is common to the seeds. ``changed`` examples have other statistics with the two methods;
    ``one_sided`` says that each of them favours the same method. ``limit`` is the largest difference there
    can be, ``None`` where there is none.
    """

    difference: float
    values: tuple[float, ...]
    n: int
    deviations: np.ndarray
    variance: float
    share: float
    changed: int
    one_sided: bool
    limit: float | None
    orders: int = 1

    @property
    def seeds(self) -> int:
        """How many training seeds were compared, in each order of the tasks."""
        return len(self.values) // self.orders

    @property
    def seed_variance(self) -> float:
        """Variance of the mean by its seeds, from how the seeds' differences vary; 0 with one seed."""
        return measure_variance(average_runs(np.array(self.values), self.orders)[0])

    @property
    def order_variance(self) -> float:
        """Variance of the mean by the orders of the tasks, each averaged over the seeds; 0 with one order."""
        return measure_variance(average_runs(np.array(self.values), self.orders)[1])

    @property
    def units(self) -> tuple[float, ...]:
        """The differences that are independent of each other: the seeds', or with one seed the orders'."""
        by_seed, by_order = average_runs(np.array(self.values), self.orders)
        return tuple((by_seed if self.seeds > 1 else by_order).tolist())


def compare_paired(
    first: np.ndarray,
    second: np.ndarray,
    aggregate: str = "mean",
    *,
    seed: int = 0,
    bounds: tuple[float, float] | None = None,
    orders: int = 1,
) -> PairedDifference:
    """The difference between two methods, paired by example and seed.

    Args:
        first: rows of sufficient statistics, shape (S, n, k): S training seeds, the same n examples.
        second: the other method's, of the same shape; example for example and seed for seed.
        aggregate: the name in ``aggregates`` that turns a seed's sum of rows into its value.
        seed: seed of the draws of examples.
        bounds: the least and the greatest value that a method can reach, such as (0, 1).
        orders: O orders of the tasks; rows are then of shape (O S, n, k), all seeds of an order together.

    Raises: DataError: shapes that do not match, an entry that is not finite, or draws without a value.
    """
    first, second = check_rows(first), check_rows(second)
    if first.shape != second.shape:
        raise DataError(
            f"The first method has rows of shape {first.shape}, the second {second.shape}: a paired "
            "comparison needs the same seeds and examples."
        )
    values = compute_values(first, aggregate) - compute_values(second, aggregate)
    difference = float(values.mean())
    draws = resample_examples(first, aggregate, seed) - resample_examples(second, aggregate, seed)
    contributions = compute_pseudo_values(first, aggregate) - compute_pseudo_values(second, aggregate)
    crossing = measure_crossing(contributions)
    changed = (first != second).any(axis=(0, 2))
    of_changed = contributions.mean(axis=0)[changed]
    return PairedDifference(
        difference=0.0 if abs(difference) < ROUNDING else difference,
        values=tuple(values.tolist()),
        n=first.shape[1],
        deviations=np.sort(np.abs(drop_missing(draws, aggregate) - difference)),
        variance=crossing.example / contributions.size,
        share=crossing.share,
        changed=int(changed.sum()),
        one_sided=bool((of_changed > ROUNDING).all() or (of_changed < -ROUNDING).all()),
        limit=None if bounds is None else bounds[1] - bounds[0],
        orders=orders,
    )


def find_margin(
    found: PairedDifference,
    alpha: float,
    *,
    towards_zero: bool = True,
    examples: int | None = None,
    seeds: int | None = None,
) -> float:
    """Half the length of the paired interval at level 1 - ``alpha``.

        max(b^2, b^2 share + t^2 v)^(1/2), t with S - 1 degrees of freedom, v = var_s(difference_s) / S

    b is the margin over examples, see ``find_example_margin``; ``towards_zero`` it is at least the one of
    ``find_sign_margin``. With several orders of the tasks u^2 w comes to t^2 v, see ``add_seeds``. With other
    numbers of ``examples`` or ``seeds`` than were compared: what the margin would be if the difference and
    the variances stayed as they are. It falls as ``alpha`` grows.
    """
    more = (examples or found.n) / found.n
    again = (seeds or found.seeds) / found.seeds
    # The variance over examples has a part common to the seeds and a part that more seeds average out.
    common, apart = found.share / more, (1 - found.share) / (more * again)
    margin = find_example_margin(found, alpha, found.n * more) * math.sqrt(common + apart)
    if towards_zero:
        margin = max(margin, find_sign_margin(found, alpha, found.changed * more))
    # What seeds vary by holds the part of the examples that is not common to them.
    of_seeds = max(0.0, found.seed_variance - (1 - found.share) * found.variance)
    seed_variance = of_seeds / again + (found.seed_variance - of_seeds) / (more * again)
    return add_seeds(
        margin,
        common / (common + apart),
        seed_variance,
        found.seeds * again,
        alpha,
        order_variance=found.order_variance,
        orders=found.orders,
    )


def find_example_margin(found: PairedDifference, alpha: float, examples: float) -> float:
    """The margin over draws of examples: the quantile of the draws' distances, for Student's t.

        q(1 - alpha) (n / (n - 1))^1/2 t / z, t with n - 1 degrees of freedom

    Where ``alpha`` is under 0.01 the quantile is q(0.99), lengthened as a normal deviate would be. The
    interval is symmetric on purpose: if two methods are alike, their differences are symmetric, and the
    skewness of a sample with few changed examples is an accident that percentiles and BCa take at its word.

    Source: Hall 1988 (symmetric bootstrap intervals); Hesterberg 2015 (expansion).
    """
    if found.n == 1:
        return 0.0
    near = max(alpha, TAIL)
    place = (1 - near) * (len(found.deviations) - 1)
    below = math.floor(place)
    above = min(below + 1, len(found.deviations) - 1)
    lower, upper = float(found.deviations[below]), float(found.deviations[above])
    quantile = lower + (place - below) * (upper - lower)
    expansion = find_t(examples - 1, alpha) * math.sqrt(found.n / (found.n - 1))
    return quantile * expansion / find_z(near)


def find_sign_margin(found: PairedDifference, alpha: float, changed: float) -> float:
    """The margin that signs alone allow where every changed example favours the same method, else 0.

        |difference| (2 - 2 (alpha / 2)^(1 / m)), m changed examples

    If m of m signs agree, then at least the share (alpha / 2)^(1 / m) of changed examples favours that method
    (Clopper & Pearson's limit); the rest is taken to differ as much the other way. The interval reaches 0
    exactly where the two-sided sign test does, 2^(1 - m) = alpha. So 3 changed of 3, or 5 of 300, is never
    enough for 95 %.
    """
    if not found.one_sided or not changed:
        return 0.0
    agreeing = math.exp(math.log(alpha / 2) / changed)
    return abs(found.difference) * (2 - 2 * agreeing)
