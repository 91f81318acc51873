"""Sizes: how large a method's component is, and the rank, blocks or virtual tokens that bring it to a target.

Sizes are counted on real newborn components on the real base, never claimed from a formula.

What this does not do: match tokens or time (``amounts`` does), or change what a component trains besides its
size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from codestrata.contracts import Component
from codestrata.errors import SettingsError
from codestrata.lab import Lab
from codestrata.methods import Method, build_component
from codestrata.models.loading import count_parameters
from codestrata.settings.fair import keep_scale
from codestrata.settings.tree import Settings

LARGEST_SHARE = 64
"""A target of more than this many times the base's own size is a mistake."""
TRIAL = "fair-trial"


@dataclass(frozen=True)
class Size:
    """A newborn component's trained parameters, and the bytes of its tensors."""

    parameters: int
    bytes: int


@dataclass(frozen=True)
class Knob:
    """The whole number, from 1 on, that sets a kind's size: a field of a section of the settings."""

    section: str
    field: str

    @property
    def name(self) -> str:
        """As ``--set`` has it."""
        return f"{self.section}.{self.field}"

    def turn(self, settings: Settings, value: int) -> dict[str, float]:
        """Setting -> its value with the knob at ``value``; an update of another rank counts as much."""
        section: Any = getattr(settings, self.section)
        values: dict[str, float] = {self.name: value}
        if self.field == "rank":
            variant = getattr(section, "variant", "plain")
            values[f"{self.section}.alpha"] = keep_scale(variant, section.alpha, section.rank, value)
        return values

    def find_largest(self, settings: Settings) -> int | None:
        """The largest value that makes sense beside the other settings; ``None`` where the base decides.

        Virtual tokens beyond the longest prompt would cost more than everything else together.
        """
        if self.field != "tokens":
            return None
        return max(settings.training.max_prompt_tokens, settings.prompt.tokens)


KNOBS: Mapping[str, Knob] = {
    "lora": Knob("lora", "rank"),
    "layers": Knob("layers", "blocks"),
    "hybrid": Knob("hybrid", "rank"),
    "own-layers": Knob("own_layers", "blocks"),
    "prompt": Knob("prompt", "tokens"),
    "shared-layers": Knob("shared_layers", "rank"),
}
"""Kind of component -> what sets its size. Kinds that are not here have one size."""


def measure_component(component: Component) -> Size:
    """The size of a newborn, which is gone afterwards."""
    component.attach(TRIAL, seed=0)
    parameters = component.parameters(TRIAL).values()
    size = Size(sum(own.numel() for own in parameters), sum(own.nbytes for own in parameters))
    component.detach(TRIAL)
    return size


def measure_method(lab: Lab, method: Method, settings: Settings | None = None) -> float:
    """How much of what is matched a method has: parameters that a training changes, or bytes that are kept.

    A method keeps a component per task, or one where the tasks share it or its components are merged into
    one. What a retention keeps for later trainings is not counted: no task needs it to be answered.
    """
    size = measure_component(build_component(method, lab.base, settings or lab.settings))
    if lab.settings.fair.match != "bytes":
        return size.parameters
    return size.bytes * (len(lab.tasks) if keeps_component_per_task(method) else 1)


def keeps_component_per_task(method: Method) -> bool:
    """Whether a component of every task is needed to answer them all."""
    return method.has_component_per_task and method.selection != "merged"


def check_target(lab: Lab, target: float) -> None:
    """Refuse a size that no component should have. Raises SettingsError: with the largest one."""
    is_bytes = lab.settings.fair.match == "bytes"
    own = sum(tensor.nbytes for tensor in lab.base.model.parameters())
    largest = LARGEST_SHARE * (own * len(lab.tasks) if is_bytes else count_parameters(lab.base.model))
    if target > largest:
        unit = "bytes" if is_bytes else "parameters"
        raise SettingsError(
            f"fair.target is {target:.0f} {unit}: at most {largest} are matched, {LARGEST_SHARE} times what "
            "the base has."
        )


def solve_size(lab: Lab, method: Method, target: float) -> tuple[dict[str, float], float]:
    """Settings that bring the method nearest to the target, and the size that they come to.

    No settings where its kind has one size. Of two values as near the smaller one is taken.
    """
    assert method.component is not None
    knob = KNOBS.get(method.component)
    if knob is None:
        return {}, measure_method(lab, method)
    known: dict[int, float | None] = {}

    def measure(value: int) -> float | None:
        if value not in known:
            known[value] = measure_at(lab, method, knob, value)
        return known[value]

    value = find_nearest(measure, target)
    reached = measure(value)
    assert reached is not None
    return knob.turn(lab.settings, value), reached


def measure_at(lab: Lab, method: Method, knob: Knob, value: int) -> float | None:
    """The method's size with its knob at a value; ``None`` where there is no room for so much."""
    largest = knob.find_largest(lab.settings)
    if largest is not None and value > largest:
        return None
    section = replace(
        getattr(lab.settings, knob.section),
        **{name.partition(".")[2]: found for name, found in knob.turn(lab.settings, value).items()},
    )
    try:
        return measure_method(lab, method, replace(lab.settings, **{knob.section: section}))
    except SettingsError:  # the settings as they are fit the base: such a value is too large
        return None


def find_nearest(measure: Callable[[int], float | None], target: float) -> int:
    """The whole number from 1 on at which a growing size comes nearest to the target; the smaller of two.

        first guess = 1 + floor((target - size(1)) / (size(2) - size(1)))

    Most sizes grow evenly, and the guess is right; where one does not, it is bisected from there. ``None``
    is a size that is too large to be had.
    """

    def fits(value: int) -> bool:
        found = measure(value)
        return found is not None and found <= target

    first, second = measure(1), measure(2)
    if first is None or second is None or first >= target or second <= first:
        return 1
    low, high, step = 1, 1 + int((target - first) / (second - first)), 1
    while high > low and fits(high):
        low, high, step = high, high + step, 2 * step
    high = max(high, low + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    below, above = measure(low), measure(high)
    assert below is not None
    return high if above is not None and abs(above - target) < abs(below - target) else low
