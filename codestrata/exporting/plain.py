"""A base with a component on it as a model of transformers' own modules, and nothing else.

Low-rank updates and learned scalings are added to the weights, by PEFT's own ``merge`` where PEFT has them;
new blocks take their place in the stack, and the configuration counts them; weights of the component's own
are in place already.

What this does not do: write anything, or say whether the plain model computes the same (``comparison`` does).
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from codestrata.components.residents import OCCUPANT
from codestrata.errors import ComponentError
from codestrata.models.families import Family, find_family, list_running_blocks
from codestrata.models.virtual import count_virtual_tokens


def build_plain_model(model: Any) -> Any:
    """A new model in evaluation mode that computes what ``model`` does with what is active on it.

    ``model`` and its component stay as they are. The weights keep their dtype: in float32 the results differ
    by the rounding of sums that are now taken in another order.

    Raises:
        ComponentError: something is active that has no place in a plain model, or its weights overflow.
        ModelError: the model is of a family whose blocks are not known.
    """
    if count_virtual_tokens(model):
        raise ComponentError(
            "Virtual tokens are embeddings that no token of the vocabulary has: there is no place for them in"
            " a plain checkpoint. Use --format peft."
        )
    occupant = getattr(model, OCCUPANT, None)
    # What is active keeps a list of all its residents: it is named in the copy, not copied with it.
    twin = copy.deepcopy(model, {id(occupant): occupant})
    unfold_blocks(twin)
    merge_adapters(twin)
    with torch.random.fork_rng(devices=[]):
        plain = type(model)(twin.config).to(twin.dtype)
    try:
        plain.load_state_dict(twin.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ComponentError(f"This component has no place in a plain checkpoint: {reason}") from error
    plain.generation_config = twin.generation_config
    return plain.requires_grad_(False).eval()


def unfold_blocks(model: Any) -> None:
    """Put new blocks into the stacks of ``model``, after those they follow; its configuration counts them."""
    family = find_family(model)
    for stack, path in family.stacks.items():
        blocks = list_running_blocks(model, stack)
        if family.attention_kinds is not None:
            setattr(model.config, family.attention_kinds, list_attention_kinds(family, model, stack))
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.ModuleList(blocks))
        setattr(model.config, family.depths[stack], len(blocks))


def list_attention_kinds(family: Family, model: Any, stack: str) -> list[str]:
    """The kind of attention of every block that runs: a new one has that of the block it follows."""
    kinds = getattr(model.config, str(family.attention_kinds))
    places = model.get_submodule(family.stacks[stack]).children()
    return [
        kind
        for kind, place in zip(kinds, places, strict=True)
        for _ in (place.list_blocks() if hasattr(place, "list_blocks") else [place])
    ]


def merge_adapters(model: nn.Module) -> None:
    """Add what wrappers of linear maps of ``model`` contribute to the weights below them, and leave these.

    Raises: ComponentError: a layer that cannot be merged, or whose merged weights are not finite.
    """
    for path, layer in [*model.named_modules()]:
        if not isinstance(layer, BaseTunerLayer):
            continue
        try:
            merge_layer(layer)
        except (NotImplementedError, ValueError) as error:
            raise ComponentError(f"{path} cannot be merged into the base's weights: {error}") from error
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, layer.get_base_layer())


def merge_layer(layer: Any) -> None:
    """Add a wrapper's contribution to the weights below: by its ``compute_weight``, else by PEFT's ``merge``.

    A bias below stays, or is scaled too where PEFT scales what a map gives.

    Raises:
        NotImplementedError: it has no such weights.
        ValueError: the merged weights are not finite.
    """
    compute_weight: Callable[[], torch.Tensor] | None = getattr(layer, "compute_weight", None)
    if compute_weight is None:
        layer.merge(safe_merge=True)
        return
    weight = compute_weight()
    if not weight.isfinite().all():
        raise ValueError("the merged weights are not finite")
    layer.get_base_layer().weight.data = weight.detach()


def has_deeper_decoder(model: Any) -> bool:
    """Whether the decoder has more blocks than the encoder.

    transformers (seen in 5.23) sizes the cache of ``generate`` by the encoder's blocks, and fails with
    ``IndexError: list index out of range`` for such a model. One without encoder has no such trouble.
    """
    family = find_family(model)
    depths = family.depths
    if family.is_causal:
        return False
    return bool(getattr(model.config, depths["decoder"]) > getattr(model.config, depths["encoder"]))
