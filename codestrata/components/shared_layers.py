"""Component ``shared-layers``: new blocks that the components of all tasks share, and updates for each.

The first resident trains blocks and low-rank updates. Every later newborn takes the blocks over as they are.
Where they are kept (``is_kept``), it trains its updates alone, so that no earlier component changes; else it
trains the blocks on, and every resident runs with those of the newest: its function changes with them. A
folder is complete by itself, blocks and updates, and loads as a hybrid does.

What this does not do: update maps inside the new blocks, or say which schedule suits (``methods`` does).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codestrata.components.adapters import ADAPTER_NAME, Adapter, AdapterComponent
from codestrata.components.hybrid import FIELDS, FORM, HybridConfig, build_hybrid_config, register_with_peft
from codestrata.components.layers import LayersLayer
from codestrata.components.residents import bare
from codestrata.errors import ComponentError
from codestrata.settings.components import HybridSettings, SharedLayersSettings

BLOCKS = ".layers_blocks."
"""What the name of a tensor of a new block has in it."""


@dataclass(frozen=True)
class SharingAdapter(Adapter):
    """A hybrid whose new blocks may be another one's too.

    ``blocks`` are the new ones, by the wrappers ``layers`` that they hang in while this one runs.
    ``trains_blocks``: whether they are among what its training changes.
    """

    layers: tuple[LayersLayer, ...]
    blocks: tuple[nn.Module, ...]
    trains_blocks: bool

    def take_blocks(self, other: "SharingAdapter", *, trains_blocks: bool) -> "SharingAdapter":
        """This one with the other's blocks: the same objects."""
        own = {part for blocks in self.blocks for part in blocks.modules()}
        rest = [part for part in self.modules if part not in own]
        taken = [part for blocks in other.blocks for part in blocks.modules()]
        return replace(
            self,
            modules=(*rest, *taken),
            parameters=self.parameters | choose_blocks(other),
            blocks=other.blocks,
            trains_blocks=trains_blocks,
        )


class SharedLayersComponent(AdapterComponent):
    """``contracts.Component`` for shared blocks; ``is_kept``: only the first resident trains them."""

    def __init__(
        self, base: nn.Module, config: HybridConfig, *, is_kept: bool, fingerprint: str | None = None
    ) -> None:
        super().__init__(base, kind="shared-layers", config=config, form=FORM, fingerprint=fingerprint)
        self._is_kept = is_kept
        self._running: SharingAdapter | None = None

    def attach(self, name: str, *, seed: int) -> None:
        """Add a newborn component, with the blocks of those that are resident.

        Raises: ComponentError: the name is taken or not allowed, or the resident blocks are of another shape.
        """
        super().attach(name, seed=seed)

    def detach(self, name: str) -> None:
        """Forget a component; the others go on with the blocks of the newest that is left."""
        if name == self._active:
            self.deactivate()
        with bare(self._base):  # whatever runs next may have to run with other blocks
            super().detach(name)

    def _create(self) -> SharingAdapter:
        newborn = split_blocks(super()._create())
        other = self._find_lender()
        if other is None:
            return newborn
        check_alike(newborn, other, "settings")
        return newborn.take_blocks(other, trains_blocks=not self._is_kept)

    def _read(self, folder: Path, hashes: Mapping[str, str]) -> SharingAdapter:
        found, other = split_blocks(super()._read(folder, hashes)), self._find_lender()
        if other is None:
            return found
        if not self._is_kept:
            check_alike(found, other, str(folder))
        elif have_equal_blocks(found, other):
            return found.take_blocks(other, trains_blocks=False)
        return found

    def _find_lender(self) -> SharingAdapter | None:
        """The resident whose blocks a newcomer meets: the first where blocks are kept, else the newest."""
        residents: list[Any] = list(self._residents.values())
        return (residents[0] if self._is_kept else residents[-1]) if residents else None

    def _complete(self, resident: Adapter) -> SharingAdapter:
        """A resident as it runs now."""
        assert isinstance(resident, SharingAdapter)
        newest = self._find_lender()
        if self._is_kept or newest is None or newest.blocks is resident.blocks:
            return resident
        return resident.take_blocks(newest, trains_blocks=True)

    def _install(self, resident: Adapter) -> None:
        running = self._complete(resident)
        for layer, blocks in zip(running.layers, running.blocks, strict=True):
            layer.layers_blocks[ADAPTER_NAME] = blocks
        super()._install(running)
        if not running.trains_blocks:
            for parameter in choose_blocks(running).values():
                parameter.requires_grad_(False)
        self._running = running

    def _remove(self, resident: Adapter) -> None:
        assert self._running is not None
        super()._remove(self._running)
        self._running = None

    def _list_parameters(self, resident: Adapter) -> dict[str, nn.Parameter]:
        complete = self._complete(resident)
        kept = {} if complete.trains_blocks else choose_blocks(complete)
        return {name: own for name, own in complete.parameters.items() if name not in kept}

    def _list_tensors(self, resident: Adapter) -> Mapping[str, torch.Tensor]:
        return dict(self._complete(resident).parameters)

    def _write(self, resident: Adapter, folder: Path) -> None:
        super()._write(self._complete(resident), folder)


def split_blocks(adapter: Adapter) -> SharingAdapter:
    """A hybrid's parts, with its new blocks apart."""
    layers = tuple(wrapper.layer for wrapper in adapter.wrappers if isinstance(wrapper.layer, LayersLayer))
    blocks = tuple(layer.layers_blocks[ADAPTER_NAME] for layer in layers)
    parts = {field.name: getattr(adapter, field.name) for field in fields(Adapter)}
    return SharingAdapter(**parts, layers=layers, blocks=blocks, trains_blocks=True)


def choose_blocks(adapter: Adapter) -> dict[str, nn.Parameter]:
    """The tensors of the new blocks, by name on disk."""
    return {name: own for name, own in adapter.parameters.items() if BLOCKS in name}


def have_equal_blocks(one: Adapter, other: Adapter) -> bool:
    """Whether the new blocks of both are at the same places and the same, bit for bit."""
    ours, theirs = choose_blocks(one), choose_blocks(other)
    return ours.keys() == theirs.keys() and all(torch.equal(own, theirs[name]) for name, own in ours.items())


def check_alike(one: Adapter, other: Adapter, source: str) -> None:
    """Refuse to share blocks that are at other places. Raises ComponentError: saying where both are."""
    if choose_blocks(one).keys() != choose_blocks(other).keys():
        ours, theirs = ((found.config.placement, found.config.blocks) for found in (one, other))  # type: ignore[attr-defined]
        raise ComponentError(
            f"{source}: {ours[1]} new blocks per place, placement {ours[0]!r}, but those of the resident "
            f"components are {theirs[1]} per place, placement {theirs[0]!r}: they cannot be shared. Detach "
            "those components first."
        )


def build_shared_layers(
    base: nn.Module, settings: SharedLayersSettings, *, is_kept: bool, fingerprint: str | None = None
) -> SharedLayersComponent:
    """The component ``shared-layers`` on ``base``; ``fingerprint`` saves computing it again.

    Raises: SettingsError and ModelError as ``hybrid.build_hybrid_config``.
    """
    register_with_peft()
    values = {field: getattr(settings, field) for field in FIELDS}
    config = build_hybrid_config(HybridSettings(**values), base, label="shared_layers")
    return SharedLayersComponent(base, config, is_kept=is_kept, fingerprint=fingerprint)
