"""The table of methods: component x retention x schedule x selection, and the names that resolve to it.

What this does not do: train or evaluate (``experiment`` walks), or hold settings of components.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.weights import WeightsComponent
from codestrata.contracts import Component
from codestrata.errors import SettingsError, describe_unknown
from codestrata.models.loading import Base
from codestrata.settings import Settings

Schedule = Literal["isolated", "sequential"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to learn tasks in a row.

    ``isolated`` gives every task a component of its own; ``sequential`` trains one component task after task.
    ``selection`` is how the component is found at inference: ``oracle`` by the task's label.
    """

    name: str
    component: Literal["lora", "layers", "weights"] | None
    retention: None = None
    schedule: Schedule
    selection: Literal["oracle"] = "oracle"
    about: str
    source: str | None = None


METHODS = {
    method.name: method
    for method in (
        Method(
            name="base",
            component=None,
            schedule="isolated",
            about="the untouched base: what every method starts from",
        ),
        Method(
            name="lora",
            component="lora",
            schedule="isolated",
            about="a low-rank adapter per task on the frozen base",
            source="Hu et al. 2021, arXiv:2106.09685",
        ),
        Method(
            name="layers",
            component="layers",
            schedule="isolated",
            about="new transformer blocks per task on the frozen base",
            source="Wu et al. 2024 (LLaMA Pro), arXiv:2401.02415; ours are swapped per task",
        ),
        Method(
            name="finetune",
            component="weights",
            schedule="sequential",
            about="all weights, task after task, nothing protected: the one that forgets",
        ),
    )
}


def resolve_methods(names: Sequence[str]) -> list[Method]:
    """The methods of those names, in that order. Raises SettingsError: an unknown name."""
    for name in names:
        if name not in METHODS:
            raise SettingsError(describe_unknown("method", name, METHODS))
    return [METHODS[name] for name in names]


def build_component(method: Method, base: Base, settings: Settings) -> Component:
    """The method's kind of component on the base, with none resident yet.

    Raises: SettingsError: settings that do not fit the base, such as unknown LoRA targets.
    """
    match method.component:
        case "lora":
            return build_lora(base.model, settings.lora, fingerprint=base.fingerprint)
        case "layers":
            return build_layers(base.model, settings.layers, fingerprint=base.fingerprint)
        case "weights":
            return WeightsComponent(base.model, fingerprint=base.fingerprint)
        case None:
            raise SettingsError(f"Method {method.name!r} has no component to build.")


def choose_learning_rate(method: Method, settings: Settings) -> float:
    """The peak learning rate of the method: its component's own, else the training's."""
    rates = {
        "lora": settings.lora.learning_rate,
        "layers": settings.layers.learning_rate,
        "weights": settings.weights.learning_rate,
    }
    own = rates.get(method.component or "")
    return settings.training.learning_rate if own is None else own
