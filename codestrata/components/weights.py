"""Component ``weights``: a full copy of the base's weights, all of them trained.

A folder it writes is a plain checkpoint, which ``AutoModelForSeq2SeqLM.from_pretrained`` loads without us.
The component's tensors stand in the place of the base's while it runs, so ``fingerprint_model`` then gives
another value: take the base's fingerprint after ``deactivate``.

What this does not do: save memory (each component is as large as the base), or read the ``config.json`` that
it writes (the shapes must be the base's).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel

from codestrata.components.residents import Residents, bare
from codestrata.components.tensors import Outline, read_tensors, write_tensors
from codestrata.files import write_json, write_text
from codestrata.models.fingerprints import group_tied, list_slots

TENSORS_FILE = "model.safetensors"

Weights = dict[str, nn.Parameter]


class WeightsComponent(Residents[Weights]):
    """``contracts.Component`` for fine-tuning all weights; a newborn is the base itself for every seed."""

    read_files: ClassVar[tuple[str, ...]] = (TENSORS_FILE,)

    def __init__(self, base: PreTrainedModel, *, fingerprint: str | None = None) -> None:
        super().__init__(base, kind="weights", fingerprint=fingerprint)
        self._config = base.config
        with bare(base):
            self._slots = group_tied(list_slots(base))
            self._tensors = {name: group[0].tensor for name, group in self._slots.items()}

    def _create(self) -> Weights:
        return {
            name: nn.Parameter(tensor.detach().clone(), requires_grad=False)
            for name, tensor in self._list_own().items()
        }

    def _read(self, folder: Path, hashes: Mapping[str, str]) -> Weights:
        expected = [Outline(name, own.dtype, tuple(own.shape)) for name, own in self._tensors.items()]
        tensors = read_tensors(folder, TENSORS_FILE, expected, sha256=hashes[TENSORS_FILE])
        return {
            name: nn.Parameter(tensors[name].to(own.device), requires_grad=False)
            for name, own in self._list_own().items()
        }

    def _list_own(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self._tensors.items() if isinstance(tensor, nn.Parameter)}

    def _install(self, resident: Weights) -> None:
        for name, parameter in resident.items():
            self._put(name, parameter.requires_grad_(True))

    def _remove(self, resident: Weights) -> None:
        for name, parameter in resident.items():
            parameter.requires_grad_(False)
            self._put(name, self._tensors[name])

    def _put(self, name: str, tensor: torch.Tensor) -> None:
        for slot in self._slots[name]:  # tied places get the same object and stay tied
            setattr(slot.owner, slot.attribute, tensor)

    def _list_parameters(self, resident: Weights) -> Weights:
        return dict(resident)

    def _write(self, resident: Weights, folder: Path) -> None:
        write_tensors(folder / TENSORS_FILE, self._tensors | resident)
        config = json.loads(self._config.to_json_string())
        dtype = str(next(iter(resident.values())).dtype).removeprefix("torch.")
        write_json(
            folder / "config.json", config | {"architectures": [type(self._base).__name__], "dtype": dtype}
        )
        generation_config = getattr(self._base, "generation_config", None)
        if generation_config is not None:
            write_text(folder / "generation_config.json", generation_config.to_json_string())
