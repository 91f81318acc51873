"""Where transformer blocks live in the supported families of models, and how a block is copied.

This is the only module that knows a family's module names. A new family is one more row of ``FAMILIES``.

What this does not do: decide where new blocks go (``components.layers``), or load models (``loading``).
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from codestrata.errors import ModelError, SettingsError
from codestrata.models.fingerprints import canonical_name

ENCODER_DECODER_CLASS = "AutoModelForSeq2SeqLM"
CAUSAL_CLASS = "AutoModelForCausalLM"


@dataclass(frozen=True, kw_only=True)
class Family:
    """What must be known about a family to adapt its blocks and to add new ones.

    ``stacks`` maps "encoder" and "decoder" to the path of that stack's list of blocks. ``linear_maps`` are
    the names a linear map can have inside a block; ``output_projections`` are those whose output is added to
    the residual stream, so that a block whose output projections are zero is the identity.
    ``keys_values`` are those that make an attention's keys and values, ``feed_forward_outputs`` those that
    take a feed-forward part's inner activations.
    ``carried_arguments`` are the positions, in a block's call, of the arguments that the block before it
    returned, in order. ``position_bias`` names the module that only the first block of a stack owns,
    ``position_bias_flag`` the attribute that says so; ``cache_index`` is the attribute that numbers an
    attention in the cache. ``final_norm`` is the attribute, beside a stack's list of blocks, of the norm
    after the last one. ``depths`` maps a stack to the configuration's entry with its number of blocks, and
    ``attention_kinds`` is the entry that lists every block's kind of attention, where a family has several.
    """

    name: str
    stacks: Mapping[str, str]
    linear_maps: tuple[str, ...]
    output_projections: tuple[str, ...]
    keys_values: tuple[str, ...]
    feed_forward_outputs: tuple[str, ...]
    carried_arguments: tuple[int, ...]
    cache_index: str
    final_norm: str
    depths: Mapping[str, str]
    position_bias: str | None = None
    position_bias_flag: str | None = None
    attention_kinds: str | None = None

    @property
    def is_causal(self) -> bool:
        """Whether answers go on from the prompt in one stack, without an encoder."""
        return "encoder" not in self.stacks

    @property
    def automatic_class(self) -> str:
        """The name of the class of transformers that loads such models."""
        return CAUSAL_CLASS if self.is_causal else ENCODER_DECODER_CLASS

    def carry(self, arguments: tuple[Any, ...], outputs: Any) -> tuple[Any, ...]:
        """Positional arguments of the block after the one that took ``arguments`` and gave ``outputs``."""
        results = outputs if isinstance(outputs, tuple) else (outputs,)
        carried = list(arguments)
        for position, result in zip(self.carried_arguments, results, strict=True):
            carried[position] = result
        return tuple(carried)


LLAMA = Family(
    name="llama",
    stacks={"decoder": "model.layers"},
    linear_maps=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    output_projections=("o_proj", "down_proj"),
    keys_values=("k_proj", "v_proj"),
    feed_forward_outputs=("down_proj",),
    carried_arguments=(0,),  # the hidden states; mask, positions and cache are keywords that all blocks share
    cache_index="layer_idx",
    final_norm="norm",
    depths={"decoder": "num_hidden_layers"},
)
"""Llama's blocks; those of Qwen have the same names, and biases or norms beside the maps of the attention."""

FAMILIES: tuple[Family, ...] = (
    Family(
        name="t5",
        stacks={"encoder": "encoder.block", "decoder": "decoder.block"},
        linear_maps=("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"),
        output_projections=("o", "wo"),
        keys_values=("k", "v"),
        feed_forward_outputs=("wo",),
        # (hidden states, mask, position bias, encoder states, encoder mask, cross position bias)
        carried_arguments=(0, 2, 5),
        cache_index="layer_idx",
        final_norm="final_layer_norm",
        depths={"encoder": "num_layers", "decoder": "num_decoder_layers"},
        position_bias="relative_attention_bias",
        position_bias_flag="has_relative_attention_bias",
    ),
    LLAMA,
    replace(LLAMA, name="qwen2", attention_kinds="layer_types"),
    replace(LLAMA, name="qwen3", attention_kinds="layer_types"),
)


def find_family(model: nn.Module) -> Family:
    """The family of a transformers model, by its configuration's ``model_type``.

    Raises: ModelError: the model has no configuration or is of a family that is not supported.
    """
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    return find_family_by_type(model_type, label=type(model).__name__)


def find_attention_kinds(model: Any) -> set[str]:
    """The kinds of attention among a model's blocks, as transformers calls them; none where there is one."""
    entry = find_family(model).attention_kinds
    return set() if entry is None else set(getattr(model.config, entry, None) or ())


def attends_nearby(model: Any) -> bool:
    """Whether some blocks look at near tokens only."""
    return not find_attention_kinds(model) <= {"full_attention"}


def find_family_by_type(model_type: str | None, *, label: str) -> Family:
    """The family of that ``model_type``; ``label`` says in the error whose type it is.

    Raises: ModelError: a family that is not supported.
    """
    for family in FAMILIES:
        if family.name == model_type:
            return family
    known = ", ".join(sorted(family.name for family in FAMILIES))
    raise ModelError(f"{label} is of model type {model_type!r}, whose blocks are not known. Known: {known}.")


def list_stacks(model: nn.Module) -> dict[str, list[str]]:
    """The stacks that this model has: "encoder", "decoder" -> the paths of its blocks, first to last."""
    stacks = {}
    for stack, path in find_family(model).stacks.items():
        try:
            blocks = model.get_submodule(path)
        except AttributeError:  # an encoder-only model has no decoder
            continue
        stacks[stack] = [f"{path}.{name}" for name, _ in blocks.named_children()]
    return stacks


def choose_stacks(model: nn.Module, placement: str, *, label: str = "The placement") -> tuple[str, ...]:
    """The stacks at whose top a placement is: ``encoder-top``, ``decoder-top``, ``both`` or ``top``.

    ``top`` is the top of the stack that writes the answers, whatever the family.

    Raises: SettingsError: the model has no such stack; the message begins with ``label``.
    """
    known: dict[str, tuple[str, ...]] = {"top": ("decoder",), "both": ("encoder", "decoder")}
    wanted = known.get(placement, (placement.removesuffix("-top"),))
    stacks = list_stacks(model)
    missing = [stack for stack in wanted if not stacks.get(stack)]
    if missing:
        there = "".join(stack for stack, blocks in stacks.items() if blocks)
        advice = {
            "decoder": ' It is made of a decoder alone: use "top".',
            "encoder": ' It is made of an encoder alone: use "encoder-top".',
        }.get(there, "")
        raise SettingsError(f"{label} is {placement!r}: the base has no {missing[0]}.{advice}")
    return wanted


def list_running_blocks(model: nn.Module, stack: str) -> list[nn.Module]:
    """The blocks of a stack that run one after another: the base's, and those of the active component.

    A wrapper in a block's place says by a method ``list_blocks`` what runs there.
    """
    running: list[nn.Module] = []
    for block in model.get_submodule(find_family(model).stacks[stack]).children():
        unfold: Callable[[], list[nn.Module]] | None = getattr(block, "list_blocks", None)
        running += [block] if unfold is None else unfold()
    return running


def find_weight(linear: nn.Module) -> torch.Tensor | None:
    """The matrix by which a linear map multiplies, what PEFT's LoRA, DoRA or IA3 make of it included.

    ``None`` where only a call tells: other wrappers, biases, DoRA together with other adapters. A wrapper of
    our own says by a method ``compute_weight`` what it multiplies by, its base's bias left out.
    """
    if type(linear) is nn.Linear:
        return linear.weight if linear.bias is None else None
    compute: Callable[[], torch.Tensor] | None = getattr(linear, "compute_weight", None)
    if compute is not None:
        below: Any = linear
        return compute() if below.base_layer.bias is None else None
    from peft.tuners.ia3 import Linear as ScaledLinear
    from peft.tuners.lora import Linear as LoraLinear

    wrapper: Any = linear if type(linear) in (LoraLinear, ScaledLinear) else None
    if wrapper is None or type(wrapper.base_layer) is not nn.Linear or wrapper.base_layer.bias is not None:
        return None
    weight: torch.Tensor = wrapper.base_layer.weight
    if wrapper.merged:
        return None
    if wrapper.disable_adapters:
        return weight
    return fold_lora(wrapper, weight) if type(wrapper) is LoraLinear else fold_scales(wrapper, weight)


def fold_lora(wrapper: Any, weight: torch.Tensor) -> torch.Tensor | None:
    """The matrix with the active updates added; with DoRA its rows then have the learned lengths."""
    from peft.tuners.lora.variants import DoraLinearVariant

    names = [name for name in wrapper.active_adapters if name in wrapper.lora_A]
    variants = [wrapper.lora_variant[name] for name in names if name in wrapper.lora_variant]
    if any(wrapper.lora_bias[name] for name in names):
        return None
    updated: torch.Tensor = sum((wrapper.get_delta_weight(name) for name in names), start=weight)
    if not variants:
        return updated
    if len(names) > 1 or type(variants[0]) is not DoraLinearVariant:
        return None
    lengths: torch.Tensor = torch.linalg.norm(updated, dim=1)
    learned: torch.Tensor = wrapper.lora_magnitude_vector[names[0]].weight
    return (learned / lengths)[:, None] * updated


def fold_scales(wrapper: Any, weight: torch.Tensor) -> torch.Tensor:
    """The matrix with IA3's scales of its inputs or outputs multiplied in."""
    for name in wrapper.active_adapters:
        if name in wrapper.ia3_l:
            scales: torch.Tensor = wrapper.ia3_l[name]  # a row or a column, as it has to be
            weight = weight * scales
    return weight


def list_lora_targets(model: nn.Module) -> tuple[str, ...]:
    """The names of the linear maps inside this model's blocks, in the family's order."""
    family = find_family(model)
    found = {
        canonical_name(name).rpartition(".")[2]
        for paths in list_stacks(model).values()
        for path in paths
        for name, module in model.get_submodule(path).named_modules()
        if isinstance(module, nn.Linear)
    }
    return tuple(name for name in family.linear_maps if name in found)


def copy_block(family: Family, block: nn.Module, cache_index: int) -> nn.Module:
    """A copy of ``block`` that can follow it: own weights and cache index, no position bias of its own."""
    # The configuration is shared: a later switch of the model's attention implementation reaches the copy.
    configs = [part.config for part in block.modules() if hasattr(part, "config")]
    twin = copy.deepcopy(block, {id(config): config for config in configs})
    for part in twin.modules():
        if hasattr(part, family.cache_index):
            setattr(part, family.cache_index, cache_index)
        if family.position_bias is not None and hasattr(part, family.position_bias):
            delattr(part, family.position_bias)
        if family.position_bias_flag is not None and hasattr(part, family.position_bias_flag):
            setattr(part, family.position_bias_flag, False)
    return twin


def list_output_projections(family: Family, block: nn.Module) -> list[nn.Module]:
    """The linear maps of ``block`` whose output is added to the residual stream."""
    outputs = family.output_projections
    return [part for name, part in block.named_modules() if name.rpartition(".")[2] in outputs]
