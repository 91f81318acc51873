"""Components that are copies of tensors of the base: they stand in the base's place while they run.

While one runs, ``fingerprint_model`` gives another value: take the base's fingerprint after ``deactivate``.

What this does not do: choose the tensors (``weights`` takes all, ``own_layers`` those of some blocks).
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from codestrata.components.residents import Residents, bare
from codestrata.components.tensors import Outline, read_tensors, write_tensors
from codestrata.models.fingerprints import group_tied, list_slots

Copies = dict[str, nn.Parameter]


class ReplacingComponent(Residents[Copies]):
    """``contracts.Component`` for copied tensors; a newborn is the base itself for every seed.

    The tensors lie in the last of ``read_files``, under the names they have in the base.
    """

    def __init__(
        self,
        base: nn.Module,
        *,
        kind: str,
        blocks: Collection[str] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        """``blocks`` are the paths whose parameters are copied; ``None`` copies all of the base's.

        A tensor that is used outside those blocks too stays the base's own.
        """
        super().__init__(base, kind=kind, fingerprint=fingerprint)
        with bare(base):
            slots = group_tied(list_slots(base))
            self._tensors = {name: group[0].tensor for name, group in slots.items()}
        self._slots = {
            name: group
            for name, group in slots.items()
            if isinstance(self._tensors[name], nn.Parameter)
            and (blocks is None or all(lies_in(slot.name, blocks) for slot in group))
        }

    def _create(self) -> Copies:
        return {
            name: nn.Parameter(self._tensors[name].detach().clone(), requires_grad=False)
            for name in self._slots
        }

    def _read(self, folder: Path, hashes: Mapping[str, str]) -> Copies:
        file = self.read_files[-1]
        expected = [
            Outline(name, self._tensors[name].dtype, tuple(self._tensors[name].shape))
            for name in self._list_stored()
        ]
        tensors = read_tensors(folder, file, expected, sha256=hashes[file])
        return {
            name: nn.Parameter(tensors[name].to(self._tensors[name].device), requires_grad=False)
            for name in self._slots
        }

    def _list_stored(self) -> Iterable[str]:
        """Names of the tensors in the file."""
        return self._slots

    def _install(self, resident: Copies) -> None:
        for name, parameter in resident.items():
            self._put(name, parameter.requires_grad_(True))

    def _remove(self, resident: Copies) -> None:
        for name, parameter in resident.items():
            parameter.requires_grad_(False)
            self._put(name, self._tensors[name])

    def _put(self, name: str, tensor: torch.Tensor) -> None:
        for slot in self._slots[name]:  # tied places get the same object and stay tied
            setattr(slot.owner, slot.attribute, tensor)

    def _list_parameters(self, resident: Copies) -> Copies:
        return dict(resident)

    def _write(self, resident: Copies, folder: Path) -> None:
        write_tensors(folder / self.read_files[-1], resident)


def lies_in(name: str, paths: Collection[str]) -> bool:
    """Whether a tensor of that name belongs to one of the modules."""
    return any(name.startswith(f"{path}.") for path in paths)
