"""Settings of what protects earlier tasks while they share a component.

What this does not do: protect anything (the package ``retention`` does).
"""

from dataclasses import dataclass, field

from codestrata.settings.checks import check_range


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """Retention ``replay``: examples of earlier tasks in every step."""

    size: int = 200
    """Most examples kept, of all earlier tasks together."""
    ratio: float = 0.5
    """Share of every step's examples that come from earlier tasks; they are added to the step's own."""

    def __post_init__(self) -> None:
        check_range("retention.replay.size", self.size, low=1, high=10**6)
        check_range("retention.replay.ratio", self.ratio, above=0, high=0.95)


@dataclass(frozen=True, kw_only=True)
class EwcSettings:
    """Retention ``ewc``: a spring on every parameter, after its Fisher information."""

    strength: float = 10000.0
    """Lambda: weight of the penalty; 1 is Laplace's approximation for an earlier task of equal size."""
    decay: float = 1.0
    """Gamma: what the earlier tasks' Fisher information is multiplied by when a task is added."""
    examples: int = 200
    """Most examples of a task whose gradients make up its Fisher information."""

    def __post_init__(self) -> None:
        check_range("retention.ewc.strength", self.strength, low=0)
        check_range("retention.ewc.decay", self.decay, low=0, high=1)
        check_range("retention.ewc.examples", self.examples, low=1)


@dataclass(frozen=True, kw_only=True)
class OrthogonalSettings:
    """Retention ``orthogonal``: a task's low-rank directions keep clear of the earlier tasks'."""

    strength: float = 0.5
    """Lambda: weight of the summed overlaps between the directions."""

    def __post_init__(self) -> None:
        check_range("retention.orthogonal.strength", self.strength, low=0)


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """Retention ``distill``: the answers keep near to those of the model before the task."""

    strength: float = 1.0
    """Weight of the distance per target token, beside the cross entropy's 1."""
    temperature: float = 2.0
    """Both models' logits are divided by it."""

    def __post_init__(self) -> None:
        check_range("retention.distill.strength", self.strength, low=0)
        check_range("retention.distill.temperature", self.temperature, above=0)


@dataclass(frozen=True, kw_only=True)
class RetentionSettings:
    """What protects earlier tasks while a shared component is trained on the next."""

    replay: ReplaySettings = field(default_factory=ReplaySettings)
    ewc: EwcSettings = field(default_factory=EwcSettings)
    orthogonal: OrthogonalSettings = field(default_factory=OrthogonalSettings)
    distill: DistillSettings = field(default_factory=DistillSettings)
