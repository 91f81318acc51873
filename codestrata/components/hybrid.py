"""Component ``hybrid``: low-rank updates on the base's maps and new blocks beside them, as one PEFT method.

One configuration, one save, one swap. New blocks are those of ``layers`` and are trained whole; the updates
lie beside the maps of the base's own blocks only. After ``register_with_peft()`` plain PEFT loads folders.

What this does not do: DoRA and rsLoRA (``lora`` has them), several hybrids inside one ``PeftModel`` (they may
be residents of one base), or merge (blocks add depth).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from codestrata.components.adapters import AdapterComponent, Form, choose_task_type
from codestrata.components.folders import describe
from codestrata.components.layers import (
    LayersLayer,
    LayersModel,
    list_places,
    outline_layers,
    register_layers,
    register_method,
)
from codestrata.components.tensors import Outline
from codestrata.errors import SettingsError, describe_unknown
from codestrata.models.families import list_lora_targets, list_stacks
from codestrata.models.fingerprints import PEFT_PREFIX
from codestrata.settings.components import HybridSettings

PEFT_TYPE = "HYBRID"
FIELDS = ("rank", "alpha", "dropout", "targets", "placement", "blocks", "init")


@dataclass
class HybridConfig(PeftConfig):
    """What ``adapter_config.json`` says about a hybrid; fields as in ``HybridSettings``.

    ``target_modules`` are the base's blocks that new ones follow and the maps that have an update. They are
    there for the reader, and are computed anew from the other fields and the base.
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None
    placement: str = "decoder-top"
    blocks: int = 1
    init: str = "copy"
    target_modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = PEFT_TYPE
        self.targets = None if self.targets is None else tuple(self.targets)
        HybridSettings(**{field: getattr(self, field) for field in FIELDS})  # refuses wrong values


class HybridBlock(LayersLayer):
    """A block of the base with new ones after it, through which PEFT still finds the maps inside."""

    def __getattr__(self, name: str) -> Any:
        """What ``LayersLayer`` has, else what the base's block has: PEFT looks for maps by their paths."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)


class UpdatedMap(nn.Module, BaseTunerLayer):
    """A linear map of the base with a low-rank update beside it: W x + alpha / r B A x."""

    adapter_layer_names = ("layers_down", "layers_up")  # PEFT knows one prefix for a method's tensors
    other_param_names = ("scales", "dropouts")

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.layers_down = nn.ModuleDict()
        self.layers_up = nn.ModuleDict()
        self.dropouts = nn.ModuleDict()
        self.scales: dict[str, float] = {}
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []

    def add_update(self, adapter_name: str, config: HybridConfig) -> None:
        """Make the two factors: A as PEFT's LoRA draws it, B zero, so that the map is the base's."""
        like = self.base_layer.weight
        outputs, inputs = like.shape
        down, up = nn.Linear(inputs, config.rank, bias=False), nn.Linear(config.rank, outputs, bias=False)
        with torch.no_grad():
            nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
            up.weight.zero_()
        self.layers_down[adapter_name] = down.to(like.device, like.dtype).requires_grad_(False)
        self.layers_up[adapter_name] = up.to(like.device, like.dtype).requires_grad_(False)
        self.dropouts[adapter_name] = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.scales[adapter_name] = config.alpha / config.rank

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse, as new blocks do: half a hybrid merged would be another function."""
        raise NotImplementedError("A hybrid cannot be merged into the base's weights: its blocks add depth.")

    def list_updates(self) -> list[str]:
        """The adapters whose update counts now."""
        return [] if self.disable_adapters else [n for n in self.active_adapters if n in self.layers_down]

    def compute_weight(self) -> torch.Tensor:
        """The matrix by which all this multiplies outside training; the base's bias is added as it was."""
        weight: torch.Tensor = self.base_layer.weight
        for name in self.list_updates():
            up: Any = self.layers_up[name]
            down: Any = self.layers_down[name]
            weight = weight + self.scales[name] * up.weight @ down.weight
        return weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The base's product and the active update."""
        result: torch.Tensor = self.base_layer(hidden)
        for name in self.list_updates():
            update = self.layers_up[name](self.layers_down[name](self.dropouts[name](hidden)))
            result = result + self.scales[name] * update
        return result


class HybridModel(LayersModel):
    """PEFT's tuner for hybrids: wraps blocks that are followed by new ones, and maps that have an update."""

    block_layer_cls = HybridBlock
    tuner_layer_cls: type[BaseTunerLayer] = BaseTunerLayer  # both kinds of wrapper

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        peft_config.target_modules = list_hybrid_places(
            self.model, peft_config.placement, choose_targets(self.model, peft_config.targets)
        )
        return peft_config

    def _check_new_adapter_config(self, config: PeftConfig) -> None:
        if len(self.peft_config) > 1:  # PEFT would not look for maps inside a block that is wrapped already
            raise ValueError("A PeftModel holds one hybrid: load the other one into a model of its own.")

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, nn.Linear):
            layer = UpdatedMap(target)
            setattr(parent, target_name, layer)
            layer.add_update(adapter_name, peft_config)
        else:
            super()._create_and_replace(peft_config, adapter_name, target, target_name, parent, current_key)

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        for attribute in UpdatedMap.adapter_layer_names:
            key = key.replace(f".{attribute}.{adapter_name}.", f".{attribute}.", 1)
        return super()._remove_adapter_name_from_key(key, adapter_name)


def register_with_peft() -> None:
    """Make PEFT know our methods (``peft_type`` "LAYERS" and "HYBRID"); calling it again changes nothing."""
    register_layers()
    register_method(PEFT_TYPE, HybridConfig, HybridModel)


def choose_targets(
    model: nn.Module, targets: tuple[str, ...] | None, *, label: str = "hybrid"
) -> tuple[str, ...]:
    """The names of the maps that have an update; ``label`` is the section that holds them, for errors.

    Raises: SettingsError: one that is not a linear map inside the model's blocks, or none at all.
    """
    known = list_lora_targets(model)
    chosen = known if targets is None else targets
    if not chosen:
        raise SettingsError(f"{label}.targets is empty: name some of {', '.join(known)}, or null for all.")
    for target in chosen:
        if target not in known:
            raise SettingsError(describe_unknown(f"linear map in {label}.targets", target, known))
    return tuple(chosen)


def list_maps(model: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Paths of the linear maps of those names in the base's blocks, first stack first."""
    return [
        f"{block}.{path}"
        for blocks in list_stacks(model).values()
        for block in blocks
        for path, module in model.get_submodule(block).named_modules()
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in targets
    ]


def list_hybrid_places(model: nn.Module, placement: str, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Paths of the base's blocks that are followed by new ones, then of the maps that have an update."""
    return (*list_places(model, placement), *list_maps(model, targets))


def adopt_hybrid(base: nn.Module, values: Mapping[str, Any]) -> HybridConfig:
    """Our own configuration with a file's values.

    Raises: SettingsError: a value out of range, or other places than these values have on this base.
    """
    strangers = [target for target in values["targets"] if not isinstance(target, str)]
    if strangers:
        raise SettingsError(f"targets holds {describe(strangers[0])}, which is no name.")
    found = {field: values[field] for field in FIELDS} | {"targets": tuple(values["targets"])}
    config = build_hybrid_config(HybridSettings(**found), base)
    places = list(list_hybrid_places(base, config.placement, config.targets or ()))
    if values["target_modules"] != places:
        raise SettingsError(
            f"target_modules is {describe(values['target_modules'])}, but these settings have"
            f" {describe(places)} on this base."
        )
    return config


def outline_hybrid(base: nn.Module, config: HybridConfig) -> Iterator[Outline]:
    """The tensors of every new block, and two factors beside every map; all in the base's dtype."""
    places = list_places(base, config.placement)
    yield from outline_layers(base, config)
    for path in list_maps(base, config.targets or ()):
        weight = base.get_submodule(path).weight
        assert isinstance(weight, torch.Tensor)
        # A map inside a block that is wrapped has the wrapper in its name.
        block = next((place for place in places if path.startswith(f"{place}.")), None)
        name = path if block is None else f"{block}.base_layer{path.removeprefix(block)}"
        outputs, inputs = weight.shape
        yield Outline(f"{PEFT_PREFIX}{name}.layers_down.weight", weight.dtype, (config.rank, inputs))
        yield Outline(f"{PEFT_PREFIX}{name}.layers_up.weight", weight.dtype, (outputs, config.rank))


FORM = Form(
    fields={
        "rank": (int,),
        "alpha": (int, float),
        "dropout": (int, float),
        "targets": (list,),
        "placement": (str,),
        "blocks": (int,),
        "init": (str,),
        "target_modules": (list,),
    },
    adopt=adopt_hybrid,
    outline=outline_hybrid,
)


def build_hybrid_config(settings: HybridSettings, model: nn.Module, *, label: str = "hybrid") -> HybridConfig:
    """The configuration for ``settings`` on this model, its targets by name; ``label`` as ``choose_targets``.

    Raises:
        SettingsError: the base has no block at the placement, or no map of a target's name.
        ModelError: the base is of a family whose blocks are not known.
    """
    list_places(model, settings.placement, label=f"{label}.placement")
    values = {field: getattr(settings, field) for field in FIELDS}
    values["targets"] = choose_targets(model, settings.targets, label=label)
    return HybridConfig(task_type=choose_task_type(model), **values)


def build_hybrid(
    base: nn.Module, settings: HybridSettings, *, fingerprint: str | None = None
) -> AdapterComponent:
    """The component ``hybrid`` on ``base``; ``fingerprint`` saves computing it again.

    Raises: SettingsError and ModelError as ``build_hybrid_config``.
    """
    register_with_peft()
    config = build_hybrid_config(settings, base)
    return AdapterComponent(base, kind="hybrid", config=config, form=FORM, fingerprint=fingerprint)
