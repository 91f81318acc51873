"""Component ``weights``: a full copy of the base's weights, all of them trained.

A folder it writes is a plain checkpoint, which transformers' ``from_pretrained`` loads without us.

What this does not do: save memory (each component is as large as the base), or read the ``config.json`` that
it writes (the shapes must be the base's).
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from transformers import PreTrainedModel

from codestrata.components.replacing import Copies, ReplacingComponent
from codestrata.components.tensors import write_tensors
from codestrata.files import write_json, write_text

TENSORS_FILE = "model.safetensors"


class WeightsComponent(ReplacingComponent):
    """``contracts.Component`` for fine-tuning all weights; a newborn is the base itself for every seed."""

    read_files: ClassVar[tuple[str, ...]] = (TENSORS_FILE,)

    def __init__(self, base: PreTrainedModel, *, fingerprint: str | None = None) -> None:
        super().__init__(base, kind="weights", fingerprint=fingerprint)
        self._config = base.config

    def _list_stored(self) -> Iterable[str]:
        return self._tensors  # a checkpoint holds buffers too

    def _write(self, resident: Copies, folder: Path) -> None:
        write_tensors(folder / TENSORS_FILE, self._tensors | resident)
        config = json.loads(self._config.to_json_string())
        dtype = str(next(iter(resident.values())).dtype).removeprefix("torch.")
        write_json(
            folder / "config.json", config | {"architectures": [type(self._base).__name__], "dtype": dtype}
        )
        generation_config = getattr(self._base, "generation_config", None)
        if generation_config is not None:
            write_text(folder / "generation_config.json", generation_config.to_json_string())
