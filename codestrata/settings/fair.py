"""Settings of a fair comparison: what methods have in common, and how each finds its learning rate.

What this does not do: solve anything for a model (``experiment.fairness`` does).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from codestrata.errors import SettingsError, shorten
from codestrata.settings.checks import LARGEST_SEED, check_range

if TYPE_CHECKING:
    from codestrata.settings.tree import Settings

MOST_RATES = 64
LARGEST_TARGET = 10**15
"""More parameters, bytes, tokens or seconds than any machine will have for a component."""
LONGEST_TIME = 10**8
"""More seconds of one training, over three years, than anybody waits."""


@dataclass(frozen=True, kw_only=True)
class FairSettings:
    """How methods are made comparable; by default each runs as it is set."""

    match: Literal["parameters", "bytes", "tokens", "time"] | None = None
    """What all methods get as much of: trained ``parameters``, or ``bytes`` kept for all tasks (rank, blocks
    or virtual tokens are solved for it); training ``tokens`` or training ``time`` (steps are solved for it,
    time on this machine). Null matches nothing."""
    reference: str | None = None
    """The method whose amount, as it is set, is the target; null takes the first trained one."""
    target: float | None = None
    """The target itself, instead of a method's: parameters, bytes; tokens or seconds of training per task."""
    tolerance: float = 0.05
    """Largest deviation from the target, as a share of it, at which a method still counts as matched."""
    rates: tuple[float, ...] = ()
    """Peak learning rates that are tried for every method; empty keeps those that are set."""
    search_steps: int | None = None
    """Optimizer steps of every trial; null takes as many as the method's training on the first task."""
    search_seed: int = 0
    """Seed of every trial: of the newborn component, the order of examples and dropout."""
    reuse: bool = True
    """Take up the loss that an earlier run found for the very same trial, out of the cache folder."""

    def __post_init__(self) -> None:
        largest = LONGEST_TIME if self.match == "time" else LARGEST_TARGET
        check_range("fair.target", self.target, above=0, high=largest)
        check_range("fair.tolerance", self.tolerance, low=0, high=1)
        check_range("fair.search_steps", self.search_steps, low=1)
        check_range("fair.search_seed", self.search_seed, low=0, high=LARGEST_SEED)
        for name in ("reference", "target"):
            value = getattr(self, name)
            if value is not None and self.match is None:
                raise SettingsError(
                    f"fair.{name} is {shorten(value)}, but nothing is matched: set fair.match to parameters, "
                    f"bytes, tokens or time, or fair.{name} to null."
                )
        if self.reference is not None and self.target is not None:
            raise SettingsError(
                f"fair.reference is {shorten(self.reference)} and fair.target is {self.target:g}: both say "
                "what the others are matched to. Set one of them to null."
            )
        for rate in self.rates:
            check_range("fair.rates", rate, above=0, high=1)
        if len(self.rates) == 1 or len(set(self.rates)) < len(self.rates) or len(self.rates) > MOST_RATES:
            raise SettingsError(
                f"fair.rates is {shorten(list(self.rates))}: give 2 to {MOST_RATES} different learning "
                "rates, such as [0.001, 0.003, 0.01], or none at all."
            )
        if self.search_steps is not None and not self.rates:
            raise SettingsError(
                f"fair.search_steps is {self.search_steps}, but no learning rate is searched for: set "
                "fair.rates, such as [0.001, 0.003, 0.01], or fair.search_steps to null."
            )


def check_reference(reference: str | None, methods: tuple[str, ...]) -> None:
    """Refuse a reference that is none of the run's methods. Raises SettingsError: naming them."""
    if reference is not None and reference not in methods:
        raise SettingsError(
            f"fair.reference is {shorten(reference)}, which this run does not train: name one of "
            f"{', '.join(methods)}, or add it to methods."
        )


def apply_values(settings: "Settings", values: Mapping[str, float]) -> "Settings":
    """The settings with some values changed, by names such as ``lora.rank``.

    Raises: SettingsError: a value out of range.
    """
    for name, value in values.items():
        section, field = name.split(".")
        changed = replace(getattr(settings, section), **{field: value})
        settings = replace(settings, **{section: changed})
    return settings


def keep_scale(variant: str, alpha: float, rank: int, other: int) -> float:
    """The alpha with which an update of another rank counts as much: alpha / r stays, or alpha / sqrt(r)."""
    return alpha * math.sqrt(other / rank) if variant == "rslora" else alpha * other / rank
