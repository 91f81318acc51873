"""Every knob of a run as one frozen tree: from and to nested plain values, with a fingerprint.

The text under each field of a section is its help text.

What this does not do: read files (``reading`` does), know which methods exist (``methods`` does), or load
anything.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from codestrata.errors import SettingsError, describe_unknown, shorten
from codestrata.files import find_half_pair, hash_json
from codestrata.settings.checks import LARGEST_SEED, LARGEST_WHOLE, check_folded, check_name, check_range
from codestrata.settings.components import (
    HybridSettings,
    IA3Settings,
    LayersSettings,
    LoraSettings,
    OwnLayersSettings,
    PromptSettings,
    SharedLayersSettings,
    WeightsSettings,
)
from codestrata.settings.fair import FairSettings, check_reference
from codestrata.settings.orders import Orders, check_orders, list_orders
from codestrata.settings.reading import OFF, parse_value
from codestrata.settings.retention import RetentionSettings
from codestrata.settings.sections import (
    BaseSettings,
    CacheSettings,
    CheckpointSettings,
    DecodingSettings,
    DeviceSettings,
    ExecutionSettings,
    MeasurementSettings,
    TrainingSettings,
)
from codestrata.settings.selection import MergingSettings, RoutingSettings
from codestrata.settings.tasks import TaskSettings

REFUSED = {"fp16": " T5's activations go beyond fp16's largest number, 65504: use bf16 or fp32."}
"""Why a value is refused that is one elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole run."""

    preset: str = "pocket"
    """The preset these settings started from."""
    methods: tuple[str, ...] = ("base", "lora", "layers", "finetune")
    """Methods to compare, by name (``codestrata methods`` lists them)."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds; every method is trained once per seed."""
    tasks: tuple[TaskSettings, ...] = ()
    """The tasks, in the order they arrive."""
    orders: Orders = "given"
    """Orders in which the tasks arrive, every method and seed in each: ``given`` (one: as listed), ``all``
    permutations (up to 4 tasks), ``latin`` (as many orders as tasks, each task once in each place), or a list
    of orders, each a list of the tasks' names."""
    base: BaseSettings = field(default_factory=BaseSettings)
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(epochs=1.0))
    lora: LoraSettings = field(default_factory=LoraSettings)
    layers: LayersSettings = field(default_factory=LayersSettings)
    ia3: IA3Settings = field(default_factory=IA3Settings)
    hybrid: HybridSettings = field(default_factory=HybridSettings)
    own_layers: OwnLayersSettings = field(default_factory=OwnLayersSettings)
    prompt: PromptSettings = field(default_factory=PromptSettings)
    shared_layers: SharedLayersSettings = field(default_factory=SharedLayersSettings)
    weights: WeightsSettings = field(default_factory=WeightsSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    fair: FairSettings = field(default_factory=FairSettings)
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    merging: MergingSettings = field(default_factory=MergingSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    measurement: MeasurementSettings = field(default_factory=MeasurementSettings)
    device: DeviceSettings = field(default_factory=DeviceSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        for label, values in (("methods", self.methods), ("seeds", self.seeds), ("tasks", names)):
            if not values:
                raise SettingsError(f"{label} is empty: a run needs at least one.")
            if len(set(values)) < len(values):
                raise SettingsError(f"{label} holds a duplicate: {shorten(list(values))}.")
        check_name("preset", self.preset)
        check_range("decoding.seed", self.decoding.seed, low=0, high=LARGEST_SEED)
        for seed in self.seeds:
            check_range("seeds", seed, low=0, high=LARGEST_SEED)
        check_folded(names)
        check_reference(self.fair.reference, self.methods)
        check_orders(self.orders, names)
        self._check_validation()
        largest = max(self.measurement.pass_k)
        if largest > self.decoding.samples:
            raise SettingsError(
                f"measurement.pass_k asks for pass@{largest} of {self.decoding.samples} completions per "
                f"prompt: set decoding.samples to {largest} or more."
            )

    @property
    def last_task(self) -> str:
        """The name of the task that comes last, in the first order of the tasks."""
        return list_orders(self.orders, [task.name for task in self.tasks])[0][-1]

    def _check_validation(self) -> None:
        """Refuse to validate trainings of tasks that hold no examples out for it."""
        bare = [task.name for task in self.tasks if not task.validation_examples]
        if self.training.validation_steps is not None and bare:
            raise SettingsError(
                f"training.validation_steps is {self.training.validation_steps}, but "
                f"tasks.validation_examples is 0 for {', '.join(map(repr, bare))}: hold some examples out, "
                "such as 100, or set training.validation_steps to null."
            )


def build_settings(tree: Mapping[str, Any]) -> Settings:
    """Settings out of nested plain values, as TOML gives them.

    Raises: SettingsError: an unknown key (with the nearest known one), a wrong type or a value out of range.
    """
    return typing.cast(Settings, convert(tree, Settings, "The tree of settings"))


def build_section(section: type, tree: Mapping[str, Any], path: str) -> Any:
    """One dataclass of the tree out of plain values; ``path`` is where it stands, for errors."""
    hints = typing.get_type_hints(section)
    values = {}
    for key, value in tree.items():
        if not isinstance(key, str):
            raise SettingsError(f"{path}{shorten(key)} is no name of a setting: expected text.")
        if key not in hints:
            raise SettingsError(describe_unknown("setting", path + key, [path + known for known in hints]))
        values[key] = convert(value, hints[key], path + key)
    missing = [
        entry.name
        for entry in dataclasses.fields(section)
        if entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
        and entry.name not in values
    ]
    if missing:
        raise SettingsError(f"{path}{missing[0]} is missing and has no default.")
    return section(**values)


def convert(value: Any, hint: Any, path: str) -> Any:
    """``value`` as its field's type: lists become tuples, whole numbers floats; nothing else is guessed."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        choices = [choice for choice in arguments if choice is not type(None)]
        if len(choices) < len(arguments) and (value is None or value == OFF):
            return None
        is_list = isinstance(value, list | tuple)
        fitting = [choice for choice in choices if (typing.get_origin(choice) is tuple) == is_list]
        return convert(value, (fitting or choices)[0], path)
    if origin is Literal:
        if value not in arguments:
            found = value if isinstance(value, str) else shorten(value)
            raise SettingsError(describe_unknown(path, found, arguments) + REFUSED.get(found, ""))
        return value
    if origin is tuple:
        if isinstance(value, str):  # as in --set methods=lora,layers
            value = [parse_value(part.strip()) for part in value.split(",")]
        elif isinstance(value, int):
            value = [value]
        if not isinstance(value, list | tuple):
            found = f"{path} is {shorten(value)}: expected a list"
            remedy = f"; write [[{path}]] above each section"
            raise SettingsError(f"{found}{remedy if dataclasses.is_dataclass(arguments[0]) else ''}.")
        return tuple(
            convert(item, arguments[0], f"{path}.{name_item(item, index)}")
            for index, item in enumerate(value)
        )
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{path} is {shorten(value)}: expected a section with named values.")
        return build_section(typing.cast(type, hint), value, "" if hint is Settings else path + ".")
    return convert_plain(value, hint, path)


def name_item(item: Any, index: int) -> str:
    """What an item of a list is called in errors: a section, such as a task, by its name where it has one."""
    name = item.get("name") if isinstance(item, Mapping) else None
    is_plain = (
        isinstance(name, str) and name.replace("-", "_").isascii() and name.replace("-", "_").isidentifier()
    )
    return str(name) if is_plain else str(index)


def convert_plain(value: Any, hint: type, path: str) -> Any:
    """A text, number or truth value as its field's type; one that no file could hold is refused."""
    kind = type(value).__name__
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= LARGEST_WHOLE else value
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SettingsError(f"{path} is {shorten(value)}: expected {hint.__name__}, found {kind}.")
    if isinstance(value, float):
        check_range(path, value, low=-math.inf, high=math.inf)
        return value + 0.0  # -0.0 is equal to 0.0, and must have the same fingerprint
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise SettingsError(f"{path} is {shorten(value)}: no whole number may be above {LARGEST_WHOLE}.")
    if isinstance(value, str) and ("\0" in value or find_half_pair(value) is not None):
        raise SettingsError(f"{path} is {shorten(value)}: a NUL, or what is no Unicode, cannot be in a text.")
    return value


def to_tree(settings: Any) -> dict[str, Any]:
    """Settings as nested plain values; ``build_settings(to_tree(s)) == s``."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value

    return typing.cast(dict[str, Any], plain(dataclasses.asdict(settings)))


def fingerprint(settings: Settings) -> str:
    """SHA-256 over the resolved settings: equal settings, equal fingerprint."""
    # Built anew, because a whole number given for a float (alpha=32) is equal to 32.0 but not the same JSON.
    return hash_json(to_tree(build_settings(to_tree(settings))))
