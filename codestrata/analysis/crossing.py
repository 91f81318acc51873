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


def add_seeds(margin: float, share: float, seed_variance: float, seeds: float, alpha: float) -> float:
    """A margin over examples, widened by what other seeds would change.

        max(b^2, b^2 share + t^2 v)^(1/2), t with S - 1 degrees of freedom

    v is the variance of the seeds' values over S; b^2 (1 - share) is inside it already. A sum of squared t
    margins of independent parts covers at least as often as it says, whatever the parts' sizes.

    Source: Banerjee 1960, Sankhya 22. Satterthwaite's degrees of freedom give shorter margins, but with two
        seeds intervals of 95 % can cover 87 % (docs/statistics.md).
    """
    if seeds <= 1 or seed_variance == 0:
        return margin
    return math.sqrt(max(margin**2, share * margin**2 + find_t(seeds - 1, alpha) ** 2 * seed_variance))
