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
from codestrata.models.families import find_family, list_running_blocks


def build_plain_model(model: Any) -> Any:
    """A new model in evaluation mode that computes what ``model`` does with what is active on it.

    ``model`` and its component stay as they are. The weights keep their dtype: in float32 the results differ
    by the rounding of sums that are now taken in another order.

    Raises:
        ComponentError: something is active that has no place in a plain model, or its weights overflow.
        ModelError: the model is of a family whose blocks are not known.
    """
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
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.ModuleList(blocks))
        setattr(model.config, family.depths[stack], len(blocks))


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

    Raises:
        NotImplementedError: it has no such weights.
        ValueError: the merged weights are not finite.
    """
    compute_weight: Callable[[], torch.Tensor | None] | None = getattr(layer, "compute_weight", None)
    if compute_weight is None:
        layer.merge(safe_merge=True)
        return
    weight = compute_weight()
    if weight is None:
        raise NotImplementedError("there is a bias, which no single matrix can hold")
    if not weight.isfinite().all():
        raise ValueError("the merged weights are not finite")
    layer.get_base_layer().weight.data = weight.detach()


def has_deeper_decoder(model: Any) -> bool:
    """Whether the decoder has more blocks than the encoder.

    transformers (seen in 5.23) sizes the cache of ``generate`` by the encoder's blocks, and fails with
    ``IndexError: list index out of range`` for such a model.
    """
    depths = find_family(model).depths
    return bool(getattr(model.config, depths["decoder"]) > getattr(model.config, depths["encoder"]))
