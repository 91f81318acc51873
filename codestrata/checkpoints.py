"""Checkpoints of one training: the two newest, hashed to the last byte, and when the next one is due.

    <folder>/step-<8 digits>/tensors.safetensors
    <folder>/step-<8 digits>/facts.json             last: with the SHA-256 of the tensors and of itself

What this does not do: know what a training's state is made of (``engine.course`` does), or read anything that
would need unpickling.
"""

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from codestrata.errors import DataError, StorageError
from codestrata.files import hash_file, hash_json, read_json, remove, write_bytes, write_text
from codestrata.interrupts import Interrupts

FORMAT = 1
KEPT = 2
TENSORS_FILE, FACTS_FILE = "tensors.safetensors", "facts.json"
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What safetensors calls them."""


@dataclass(frozen=True)
class Checkpoint:
    """A training's state after a step: tensors by name, and what is no tensor as JSON values."""

    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: where they lie; made with the first of them.
        seconds: longest time between two; 0 stores one after every step, ``None`` only the last.
        interrupts: where signals wait until a step is finished and stored; ``None`` waits for none.
        say: is told which checkpoints cannot be used, and why.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seconds: float | None,
        interrupts: Interrupts | None = None,
        say: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self._seconds = seconds
        self._interrupts = interrupts or Interrupts()
        self._say = say
        self._good = list[int]()
        self._stored_at = time.monotonic()

    @property
    def newest(self) -> int | None:
        """The step of the newest checkpoint that was read or written here."""
        return self._good[-1] if self._good else None

    def place(self, step: int) -> Path:
        """Where the checkpoint after that step lies."""
        return self.folder / f"step-{step:08d}"

    def read(self, refuse: Callable[[Checkpoint], str | None] | None = None) -> Checkpoint | None:
        """The newest checkpoint that is whole and that ``refuse`` has no reason against.

        The newer ones are named with the reason and passed over; the next one written takes their place.

        Raises: StorageError: the folder is there and cannot be listed.
        """
        self._good = []
        steps = sorted(self._list_steps(), reverse=True)
        for step in steps:
            try:
                found = read_checkpoint(self.place(step))
            except DataError as error:
                self._say(f"a checkpoint is passed over: {error}")
                continue
            reason = None if refuse is None else refuse(found)
            if reason is None:
                self._good = [step]
                return found
            self._say(f"a checkpoint is passed over: {self.place(step)}: {reason}")
        if steps:
            self._say(f"no checkpoint in {self.folder} can be used: the training begins anew")
        return None

    def offer(self, step: int, build: Callable[[], Checkpoint], *, last: bool = False) -> None:
        """Store the state after ``step`` if it is time to, a signal waits, or it is the ``last``.

        Raises:
            StorageError: it cannot be written; the ones before are still there.
            Interrupted: a signal waited; the state is stored.
        """
        due = self._seconds is not None and time.monotonic() - self._stored_at >= self._seconds
        if (due or last or self._interrupts.pending is not None) and step != self.newest:
            self._stored_at = time.monotonic()
            self._store(step, build())
        self._interrupts.check()

    def undisturbed(self) -> AbstractContextManager[None]:
        """Inside, a signal waits for the next ``offer``, or for the end of the block."""
        return self._interrupts.postponed()

    def remove(self) -> None:
        """Forget all of them. Raises StorageError: they cannot be removed."""
        self._good = []
        remove(self.folder)

    def _store(self, step: int, checkpoint: Checkpoint) -> None:
        place = self.place(step)
        if os.path.lexists(place):  # passed over by ``read``, or left unfinished by a crash
            remove(place)
        try:
            write_checkpoint(place, checkpoint)
        except StorageError:
            with suppress(StorageError):  # what was written of it may be what fills the disk
                remove(place)
            raise
        self._good = [*self._good, step][-KEPT:]
        for other in self._list_steps():
            if other not in self._good:
                remove(self.place(other))

    def _list_steps(self) -> list[int]:
        try:
            entries = list(self.folder.iterdir()) if self.folder.is_dir() else []
        except OSError as error:
            raise StorageError(self.folder, "read", error) from error
        names = [entry.name for entry in entries if entry.is_dir() and not entry.is_symlink()]
        return [int(name.removeprefix("step-")) for name in names if re.fullmatch(r"step-[0-9]{8,}", name)]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Store a checkpoint; it is one once the second file is there. Raises StorageError: it cannot be."""
    pieces = pack(checkpoint.tensors)
    write_bytes(folder / TENSORS_FILE, *pieces)
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    stated = {"format": FORMAT, "tensors": digest.hexdigest(), "facts": dict(checkpoint.facts)}
    write_text(folder / FACTS_FILE, render(stated))


def pack(tensors: Mapping[str, torch.Tensor]) -> list[memoryview]:
    """The bytes of a safetensors file, in pieces: the header, then every tensor where it lies in memory.

    safetensors' own ``save`` copies all of them twice, which a training's peak memory would count.
    """
    # Larger numbers first: then every tensor begins at a multiple of its numbers' size.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    views = [view_bytes(tensors[name]) for name in names]
    header, end = dict[str, Any](), 0
    for name, view in zip(names, views, strict=True):
        start, end = end, end + len(view)
        header[name] = {
            "dtype": DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [memoryview(len(text).to_bytes(8, "little") + text), *views]


def view_bytes(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes in C order; no copy where it lies contiguous in main memory."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in ``folder``, every byte of it as it was written.

    Raises: DataError: unfinished, damaged or not to be read; the file is named.
    """
    facts_path, tensors_path = folder / FACTS_FILE, folder / TENSORS_FILE
    check_regular(facts_path)
    check_regular(tensors_path)
    stated = read_json(facts_path)
    if not isinstance(stated, dict) or not isinstance(stated.get("facts"), dict):
        raise DataError("damaged: no facts of a checkpoint", path=facts_path)
    stated.pop("seal", None)
    try:
        intact = facts_path.read_bytes() == render(stated).encode()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=facts_path) from error
    except ValueError as error:  # JSON that only Python reads: NaN, half a character
        raise DataError(f"damaged: {error}", path=facts_path) from error
    if not intact:
        raise DataError("damaged: it is not what its seal was taken of", path=facts_path)
    if stated.get("format") != FORMAT:
        raise DataError(f"format is {stated.get('format')!r}, but {FORMAT} is needed here", path=facts_path)
    try:
        if stated.get("tensors") != hash_file(tensors_path):
            raise DataError(f"damaged: its SHA-256 is not the one in {FACTS_FILE}", path=tensors_path)
        return Checkpoint(tensors=load_file(tensors_path), facts=stated["facts"])
    except StorageError as error:
        raise DataError(f"cannot be read: {error.reason}", path=tensors_path) from error
    except (SafetensorError, OSError) as error:
        raise DataError(f"not safetensors, or not to be read: {error}", path=tensors_path) from error


def render(stated: Mapping[str, Any]) -> str:
    """The one text that says this, with its SHA-256: whatever else a file holds, it was not written here."""
    sealed = {**stated, "seal": hash_json(stated)}
    return json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def check_regular(path: Path) -> None:
    """Refuse what is no file of its own: reading a link leads elsewhere, reading a pipe never ends.

    Raises: DataError: nothing is there, and what is instead; or no regular file.
    """
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        found = ", ".join(sorted(entry.name for entry in path.parent.glob("*"))) or "nothing"
        raise DataError(
            f"{error.strerror}: a checkpoint is {TENSORS_FILE} and {FACTS_FILE}, found {found}", path=path
        ) from error
    if not stat.S_ISREG(mode):
        raise DataError("no regular file", path=path)
