"""What identifies a base model's weights: SHA-256 over its tensors, whatever is attached to it.

A component wraps modules of the base: a wrapper keeps the wrapped module as ``base_layer``, and everything
else in it belongs to components. A module that wraps nothing says by ``is_added`` that it is a component's.
Names, slots and fingerprint look through all of them, so that attaching changes none.

What this does not do: see through a ``weights`` component, which puts its own tensors in the base's place;
deactivate it first.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import nn

PEFT_PREFIX = "base_model.model."
ADDED = "is_added"
"""Attribute, true, of a component's module that stands beside the base's."""


class Slot(NamedTuple):
    """The place of one tensor of the base: canonical name, owning module, attribute there."""

    name: str
    owner: nn.Module
    attribute: str

    @property
    def tensor(self) -> torch.Tensor:
        """The tensor that is in place now."""
        tensor = getattr(self.owner, self.attribute)
        assert isinstance(tensor, torch.Tensor)
        return tensor


def canonical_name(name: str) -> str:
    """A tensor's or module's name in the untouched model, out of its name in a wrapped one.

    >>> canonical_name("base_model.model.encoder.block.5.base_layer.layer.0.SelfAttention.q.weight")
    'encoder.block.5.layer.0.SelfAttention.q.weight'
    """
    return ".".join(part for part in name.removeprefix(PEFT_PREFIX).split(".") if part != "base_layer")


def list_slots(model: nn.Module) -> list[Slot]:
    """Every place where a tensor of the base is used, in the model's order; tied tensors have several.

    Left out are components' tensors and the buffers that a checkpoint does not hold.
    """
    return list(_walk(model, ""))


def _walk(module: nn.Module, path: str) -> Iterator[Slot]:
    wrapped = module._modules.get("base_layer")
    if wrapped is not None:
        yield from _walk(wrapped, path)
        return
    saved_buffers = (name for name in module._buffers if name not in module._non_persistent_buffers_set)
    for attribute in (*module._parameters, *saved_buffers):
        if getattr(module, attribute) is not None:
            yield Slot(canonical_name(path + attribute), module, attribute)
    for name, child in module._modules.items():
        if child is not None and not getattr(child, ADDED, False):
            yield from _walk(child, f"{path}{name}.")


def group_tied(slots: list[Slot]) -> dict[str, list[Slot]]:
    """Slots by the tensor in them: a tensor is called after its first slot, as in a checkpoint."""
    groups: dict[int, list[Slot]] = {}
    for slot in slots:
        groups.setdefault(id(slot.tensor), []).append(slot)
    return {group[0].name: group for group in groups.values()}


def fingerprint_model(model: nn.Module) -> str:
    """SHA-256 over the base's tensors, as 64 hexadecimal digits; components attached do not change it.

    Each distinct tensor counts once, in the order of names: the names it goes by, dtype, shape, bytes.
    """
    digest = hashlib.sha256()
    for _, group in sorted(group_tied(list_slots(model)).items()):
        tensor = group[0].tensor
        header = [sorted(slot.name for slot in group), str(tensor.dtype), list(tensor.shape)]
        digest.update(json.dumps(header).encode())
        digest.update(_view_bytes(tensor))
    return digest.hexdigest()


def fingerprint_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over a component's tensors, as 64 hexadecimal digits: name, dtype, shape, bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(_view_bytes(tensor))
    return digest.hexdigest()


def _view_bytes(tensor: torch.Tensor) -> memoryview:
    """The tensor's bytes in C order; no copy where it lies contiguous in main memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
