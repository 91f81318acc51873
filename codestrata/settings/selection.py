"""Settings of selection without a task label: who answers a prompt, and how components become one.

What this does not do: choose or merge (``selection`` and ``merging`` do).
"""

from dataclasses import dataclass
from typing import Literal

from codestrata.settings.checks import check_range

Router = Literal["nearest-mean", "mahalanobis", "perplexity"]
Merge = Literal["linear", "ties", "dare_linear", "dare_ties"]

LEAST_SHRINKAGE = 1e-6
"""Of fewer prompts than coordinates the covariance is singular: much less shrunk it cannot be inverted."""


@dataclass(frozen=True, kw_only=True)
class RoutingSettings:
    """Selection ``routed``: the component that answers is chosen from the prompt alone."""

    by: Router = "mahalanobis"
    """Who chooses: ``nearest-mean`` or ``mahalanobis``, on the frozen base's states of the prompt, or
    ``perplexity``, the component that finds the prompt least surprising. A run tells of all three; this one
    fills R."""
    threshold: float | None = None
    """Least confidence, in [0, 1], of a choice: under it the bare base answers. Null always chooses."""
    shrinkage: float = 0.05
    """How far, from 0.000001 to 1, ``mahalanobis`` takes the covariance towards a round one: 1 is
    ``nearest-mean``."""

    def __post_init__(self) -> None:
        check_range("routing.threshold", self.threshold, low=0, high=1)
        check_range("routing.shrinkage", self.shrinkage, low=LEAST_SHRINKAGE, high=1)


@dataclass(frozen=True, kw_only=True)
class MergingSettings:
    """Selection ``merged``: the components of all tasks so far made into one, with equal weights."""

    how: Merge = "linear"
    """``linear``, ``ties``, ``dare_linear`` or ``dare_ties``, as PEFT merges the factors."""
    density: float = 0.5
    """Share of the entries that is kept by all but ``linear``."""

    def __post_init__(self) -> None:
        check_range("merging.density", self.density, above=0, high=1)
