"""Component ``layers``: new full transformer blocks beside a frozen base, as a PEFT method of our own.

After ``register_with_peft()`` plain PEFT loads, saves, switches and disables such components like any other.
A ``LayersLayer`` wraps one block of the base (``encoder.block.5``): it runs that block and then the new
blocks of the active adapter. Adapters that live on one base may have their new blocks in different places.

What this does not do: merge new blocks into the base (they add depth, so there is nothing to add them to).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn
from transformers.cache_utils import (
    Cache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    EncoderDecoderCache,
    StaticLayer,
    StaticSlidingWindowLayer,
)

from codestrata.components.adapters import AdapterComponent, Form, choose_task_type
from codestrata.components.folders import describe
from codestrata.components.tensors import Outline
from codestrata.errors import SettingsError
from codestrata.models.families import (
    Family,
    choose_stacks,
    copy_block,
    find_family,
    list_output_projections,
    list_stacks,
)
from codestrata.models.fingerprints import PEFT_PREFIX
from codestrata.settings.components import LayersSettings

PEFT_TYPE = "LAYERS"


@dataclass
class LayersConfig(PeftConfig):
    """What ``adapter_config.json`` says about new blocks; fields as in ``LayersSettings``.

    ``target_modules`` are the base's blocks that new ones follow. It follows from the placement and the base,
    is there for the reader, and is computed anew whenever blocks are made.
    """

    placement: str = "decoder-top"
    blocks: int = 1
    init: str = "copy"
    target_modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = PEFT_TYPE
        LayersSettings(placement=self.placement, blocks=self.blocks, init=self.init)  # refuses wrong values


class LayersLayer(nn.Module, BaseTunerLayer):
    """A block of the base and, for each adapter that adds some here, the new blocks that run after it.

    ``place`` is the number of the base's block in its stack, and in the cache.
    """

    adapter_layer_names = ("layers_blocks",)
    other_param_names = ("cache_lengths",)

    def __init__(self, base_layer: nn.Module, family: Family, place: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.family = family
        self.place = place
        self.layers_blocks = nn.ModuleDict()
        self.cache_lengths: dict[str, int] = {}
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []

    def add_blocks(self, adapter_name: str, config: LayersConfig, *, cache_index: int) -> None:
        """Make an adapter's new blocks; ``cache_index`` is the place of the first one in the cache."""
        indices = range(cache_index, cache_index + config.blocks)
        blocks = nn.ModuleList(
            build_block(self.family, self.base_layer, config.init, index) for index in indices
        )
        self.layers_blocks[adapter_name] = blocks.requires_grad_(False)
        self.cache_lengths[adapter_name] = indices.stop

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Choose the adapter that runs, as in PEFT; new blocks of several adapters cannot run together."""
        if not isinstance(adapter_names, str) and len(adapter_names) > 1:
            raise ValueError(f"One adapter of added blocks runs at a time, not {', '.join(adapter_names)}.")
        super().set_adapter(adapter_names, inference_mode=inference_mode)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse: blocks are depth."""
        raise NotImplementedError("Added blocks cannot be merged into the base's weights: they add depth.")

    def list_blocks(self) -> list[nn.Module]:
        """The blocks that run here, in order: the base's own, then the active adapter's new ones."""
        names = [] if self.disable_adapters else [n for n in self.active_adapters if n in self.layers_blocks]
        return [self.base_layer, *(block for name in names for block in self.layers_blocks[name].children())]

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """What the base's block returns, after the active adapter's new blocks."""
        outputs = self.base_layer(*arguments, **keywords)
        if self.disable_adapters:
            return outputs
        for name in self.active_adapters:
            if name in self.layers_blocks:
                grow_cache(keywords.get("past_key_values"), self.cache_lengths[name], like=self.place)
                for block in self.layers_blocks[name].children():
                    arguments = self.family.carry(arguments, outputs)
                    outputs = block(*arguments, **keywords)
        return outputs


class LayersModel(BaseTuner):
    """PEFT's tuner for new blocks: wraps the base's blocks that are followed by a new one."""

    prefix = "layers_"
    tuner_layer_cls: type[BaseTunerLayer] = LayersLayer
    block_layer_cls = LayersLayer

    # PEFT hands over the configuration of this method, whatever its signatures say, hence Any.

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        # A tuple: PEFT shortens long lists of names, and then they would no longer name exactly one block.
        peft_config.target_modules = list_places(self.model, peft_config.placement)
        return peft_config

    @staticmethod
    def _check_target_module_exists(peft_config: Any, key: str) -> bool:
        return key in peft_config.target_modules

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
        stack = next(paths for paths in list_stacks(self.model).values() if current_key in paths)
        layer = target
        if not isinstance(layer, LayersLayer):
            layer = self.block_layer_cls(target, find_family(self.model), stack.index(current_key))
            self._replace_module(parent, target_name, layer, target)
        places = [place for place in peft_config.target_modules if place in stack]
        cache_index = len(stack) + places.index(current_key) * peft_config.blocks
        layer.add_blocks(adapter_name, peft_config, cache_index=cache_index)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        """Put a block or its wrapper in place; PEFT's version wants layers that own a ``weight``."""
        setattr(parent, child_name, new_module)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Keep the base's dtype: a block in another dtype than its neighbours could not follow them."""

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter, as in PEFT: if it was active, the first that remains becomes active."""
        active = [name for name in self.active_adapters if name != adapter_name]
        # Left to themselves, layers would choose among the adapters that have blocks at their own place.
        self.set_adapter([])
        super().delete_adapter(adapter_name)
        self.set_adapter(active or sorted(self.peft_config)[:1])

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        return key.replace(f".layers_blocks.{adapter_name}.", ".layers_blocks.", 1)


def register_layers() -> None:
    """Make PEFT know added blocks (``peft_type`` "LAYERS"); calling it again changes nothing."""
    register_method(PEFT_TYPE, LayersConfig, LayersModel)


def register_method(peft_type: str, config: type[PeftConfig], tuner: type[BaseTuner]) -> None:
    """Put a method of our own into PEFT's tables.

    ``peft.utils.register_peft_method`` takes only names of PEFT's own enumeration, hence the tables.
    """
    entries: list[tuple[dict[Any, Any], Any]] = [
        (PEFT_TYPE_TO_CONFIG_MAPPING, config),
        (PEFT_TYPE_TO_TUNER_MAPPING, tuner),
        (PEFT_TYPE_TO_PREFIX_MAPPING, tuner.prefix),
    ]
    for table, entry in entries:
        table[peft_type] = entry


def list_places(model: nn.Module, placement: str, *, label: str = "The placement") -> tuple[str, ...]:
    """Paths of the base's blocks that are followed by new ones, first stack first.

    Raises: SettingsError: the base has no such stack, or no block at such a place; the message begins with
        ``label``.
    """
    stacks = list_stacks(model)
    word, _, step = placement.partition(":")
    if word != "interleaved":
        return tuple(stacks[stack][-1] for stack in choose_stacks(model, placement, label=label))
    places = [path for paths in stacks.values() for path in paths[int(step) - 1 :: int(step)]]
    if not places:
        depths = ", ".join(f"{len(paths)} in the {stack}" for stack, paths in stacks.items())
        raise SettingsError(f"{label} is {placement!r}: the base has too few blocks ({depths}).")
    return tuple(places)


def build_block(family: Family, neighbour: nn.Module, init: str, cache_index: int) -> nn.Module:
    """A new block to follow ``neighbour``: its copy that is the identity, or one with random weights.

    ``copy`` keeps all weights but the output projections, which are zero. ``scaled:<s>`` is a fresh block
    with every parameter multiplied by s, as in the founding experiment: matrices from a normal of standard
    deviation s / sqrt(inputs), scales s, biases 0. (T5 would draw the query map smaller, by sqrt(d_kv).)
    """
    block = copy_block(family, neighbour, cache_index)
    word, _, scale = init.partition(":")
    with torch.no_grad():
        if word == "scaled":
            for name, parameter in block.named_parameters():
                fill_random(parameter, 0.0 if name.endswith(".bias") else float(scale))
        else:
            for projection in list_output_projections(family, block):
                for parameter in projection.parameters():
                    parameter.zero_()
    return block


def fill_random(parameter: nn.Parameter, scale: float) -> None:
    """Draw a fresh matrix, or take ones for a vector of scales, and multiply by ``scale``."""
    if parameter.dim() < 2:
        parameter.fill_(scale)
    else:  # drawn in main memory and single precision: one seed gives the same block on every device
        parameter.copy_(torch.randn(parameter.shape, device="cpu") * (scale / parameter.shape[1] ** 0.5))


def grow_cache(cache: Cache | None, length: int, *, like: int) -> None:
    """Give a key-value cache at least ``length`` layers; transformers makes as many as the base has blocks.

    New ones are of the kind of layer number ``like``: some bases attend to near tokens only in some blocks.

    Raises: ValueError: a kind of cache whose layers cannot be made here.
    """
    if cache is None:
        return
    parts = [cache]
    if isinstance(cache, EncoderDecoderCache):
        parts = [cache.self_attention_cache, cache.cross_attention_cache]
    for part in parts:
        while len(part.layers) < length:
            part.layers.append(_build_cache_layer(part.layers[like]))


def _build_cache_layer(neighbour: Any) -> Any:
    if type(neighbour) is DynamicLayer:
        return DynamicLayer()  # type: ignore[no-untyped-call]
    if type(neighbour) is StaticLayer:
        return StaticLayer(max_cache_len=neighbour.max_cache_len)
    if type(neighbour) is DynamicSlidingWindowLayer:
        return DynamicSlidingWindowLayer(sliding_window=neighbour.sliding_window)
    if type(neighbour) is StaticSlidingWindowLayer:  # it is as long as the window, or as all there will be
        length = neighbour.max_cache_len
        return StaticSlidingWindowLayer(max_cache_len=length, sliding_window=length)
    raise ValueError(
        f"Added blocks work with dynamic and static caches, not with {type(neighbour).__name__}."
    )


def adopt_layers(base: nn.Module, values: Mapping[str, Any]) -> LayersConfig:
    """Our own configuration with a file's placement, number of blocks and kind of birth.

    Raises: SettingsError: a value out of range, or blocks at other places than the placement has here.
    """
    LayersSettings(placement=values["placement"], blocks=values["blocks"], init=values["init"])
    places = list(list_places(base, values["placement"]))
    if values["target_modules"] != places:
        raise SettingsError(
            f"target_modules is {describe(values['target_modules'])}, but placement"
            f" {values['placement']!r} has {places} on this base."
        )
    return LayersConfig(
        task_type=choose_task_type(base),
        placement=values["placement"],
        blocks=values["blocks"],
        init=values["init"],
    )


def outline_layers(base: nn.Module, config: Any) -> Iterator[Outline]:
    """The tensors of every new block: its neighbour's, but for the position bias that only the first owns.

    ``config`` has a placement and a number of blocks.
    """
    bias = find_family(base).position_bias
    for place in list_places(base, config.placement):
        inner = [
            (name, parameter)
            for name, parameter in base.get_submodule(place).named_parameters()
            if bias not in name.split(".")
        ]
        for number in range(config.blocks):
            for name, parameter in inner:
                full = f"{PEFT_PREFIX}{place}.layers_blocks.{number}.{name}"
                yield Outline(full, parameter.dtype, tuple(parameter.shape))


FORM = Form(
    fields={"placement": (str,), "blocks": (int,), "init": (str,), "target_modules": (list,)},
    adopt=adopt_layers,
    outline=outline_layers,
)


def build_layers(
    base: nn.Module, settings: LayersSettings, *, fingerprint: str | None = None
) -> AdapterComponent:
    """The component ``layers`` on ``base``; ``fingerprint`` saves computing it again.

    Raises:
        SettingsError: the base has no block at the placement.
        ModelError: the base is of a family whose blocks are not known.
    """
    register_layers()
    list_places(base, settings.placement, label="layers.placement")
    config = LayersConfig(
        task_type=choose_task_type(base),
        placement=settings.placement,
        blocks=settings.blocks,
        init=settings.init,
    )
    return AdapterComponent(base, kind="layers", config=config, form=FORM, fingerprint=fingerprint)
