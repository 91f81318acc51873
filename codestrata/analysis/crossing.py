"""Training seeds and test examples as crossed factors: whose variation is how large, and what margin follows.

Every seed is tested on the same examples. A number u[s, e] (what example e contributes with seed s) varies
because seeds differ, because examples differ, and because some seeds do better on some examples.

What this does not do: know where the numbers come from (see ``resampling``).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """Mean squares of u[s, e], S seeds by n examples; 0 for a factor with one value.

    With dots for means: ``example`` is S times the variance of u[., e], with n - 1 degrees of freedom;
    ``residual`` is the mean of (u[s, e] - u[s, .] - u[., e] + u[., .])^2, with (S - 1)(n - 1).
    """

    seeds: int
    examples: int
    example: float
    residual: float

    @property
    def share(self) -> float:
        """The part of the variance over examples that is common to the seeds: more seeds do not lessen it."""
        if self.seeds == 1 or self.example == 0:
            return 1.0
        return max(0.0, 1 - self.residual / self.example)


def measure_crossing(numbers: np.ndarray) -> Crossing:
    """The mean squares of ``numbers``, shape (S, n); those of a factor with one value are 0."""
    seeds, examples = numbers.shape
    mean = numbers.mean()
    of_seeds, of_examples = numbers.mean(axis=1) - mean, numbers.mean(axis=0) - mean
    rest = numbers - mean - of_seeds[:, None] - of_examples
    return Crossing(
        seeds=seeds,
        examples=examples,
        example=seeds * float(np.sum(of_examples**2)) / max(1, examples - 1),
        residual=float(np.sum(rest**2)) / max(1, (seeds - 1) * (examples - 1)),
    )


def find_t(freedom: float, alpha: float) -> float:
    """Student's t that is exceeded, on both sides together, with probability ``alpha``."""
    return -float(special.stdtrit(freedom, alpha / 2))


def find_z(alpha: float) -> float:
    """The normal deviate that is exceeded, on both sides together, with probability ``alpha``."""
    return -float(special.ndtri(alpha / 2))


def average_runs(values: np.ndarray, orders: int) -> tuple[np.ndarray, np.ndarray]:
    """The means of each seed over the orders, shape (S,), and of each order over the seeds, shape (O,).

    ``values`` are those of O orders with S seeds each, all of the first order first: shape (O S,).
    """
    table = np.asarray(values, dtype=float).reshape(orders, -1)
    return table.mean(axis=0), table.mean(axis=1)


def measure_variance(means: np.ndarray) -> float:
    """Variance of the mean of ``means``, from how they vary; 0 for one alone."""
    return 0.0 if len(means) == 1 else float(np.var(means, ddof=1)) / len(means)


def square_runs(values: np.ndarray, orders: int, alpha: float) -> float:
    """Square of the margin of the mean of ``values`` that follows from seeds and orders of the tasks.

        t[S - 1]^2 V_seeds + t[O - 1]^2 V_orders

    V are the variances of the mean by its seeds (each averaged over the orders) and by its orders (each
    averaged over the seeds). What a seed does in one order alone is in both: the margin errs to the wide
    side. ``values`` as in ``average_runs``; one seed, or one order, adds nothing.
    """
    square = 0.0
    for means in average_runs(values, orders):
        if len(means) > 1:
            square += find_t(len(means) - 1, alpha) ** 2 * measure_variance(means)
    return square


def add_seeds(
    margin: float,
    share: float,
    seed_variance: float,
    seeds: float,
    alpha: float,
    *,
    order_variance: float = 0.0,
    orders: int = 1,
) -> float:
    """A margin over examples, widened by what other seeds, and other orders of the tasks, would change.

        max(b^2, b^2 share + t^2 v + u^2 w)^(1/2), t with S - 1 degrees of freedom, u with O - 1

    v is the variance of the seeds' values over S, w that of the orders' values over O; b^2 (1 - share) is
    inside them already. A sum of squared t margins of independent parts covers at least as often as it says,
    whatever the parts' sizes.

    Source: Banerjee 1960, Sankhya 22. Satterthwaite's degrees of freedom give shorter margins, but with two
        seeds intervals of 95 % can cover 87 % (docs/statistics.md).
    """
    square = 0.0
    for variance, count in ((seed_variance, seeds), (order_variance, orders)):
        if count > 1 and variance > 0:
            square += find_t(count - 1, alpha) ** 2 * variance
    return math.sqrt(max(margin**2, share * margin**2 + square)) if square else margin
