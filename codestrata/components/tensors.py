"""A component's tensors on disk: a safetensors file, checked whole before any of it is believed.

Layout: 8 bytes (length of the header, little-endian), the header (JSON: name -> dtype, shape, data_offsets),
the data. The header is read first and compared with what the component's configuration promises; only then is
memory taken for the tensors, and they are read one after another from the same open file.

What this does not do: read pickles, or know who made a file: the hash tells damage, not forgery.
"""

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors.torch import save

from codestrata.components.folders import (
    LARGEST_JSON_BYTES,
    check_hash,
    describe,
    list_pickles,
    open_file,
    parse_object,
)
from codestrata.errors import ComponentError
from codestrata.files import write_bytes

LENGTH_BYTES = 8
LARGEST_DIMENSIONS = 8
METADATA = "__metadata__"
DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}


class Outline(NamedTuple):
    """What a tensor is called and what it is, without its values."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What the values take."""
        return math.prod(self.shape) * self.dtype.itemsize


class Stretch(NamedTuple):
    """A tensor and where its values lie, in bytes from the end of the header."""

    outline: Outline
    begin: int
    end: int


def read_tensors(
    folder: Path,
    name: str,
    expected: Iterable[Outline],
    *,
    sha256: str,
    largest_bytes: int | None = None,
) -> dict[str, torch.Tensor]:
    """The tensors in a safetensors file of the folder: exactly those expected, every value finite.

    Args:
        folder: the component's folder.
        name: the file in it.
        expected: what the configuration promises; may be endless: it is read only as far as the file agrees.
        sha256: the file's hash, as ``component.json`` has it.
        largest_bytes: more than this is refused before it is read.

    Raises: ComponentError: missing, damaged or changed file, or a tensor that does not fit; names the first.
    """
    path = folder / name
    check_present(folder, name)
    digest = hashlib.sha256()
    with open_file(folder, name) as file:
        stretches = read_header(file, path, digest)
        compare(stretches, expected, path)
        total = sum(stretch.outline.bytes for stretch in stretches)
        if largest_bytes is not None and total > largest_bytes:
            raise ComponentError(
                f"{path}: {total} bytes of tensors, where at most {largest_bytes} are read: a component so"
                " much larger than its base is a mistake."
            )
        found = {stretch.outline.name: read_values(file, stretch, path, digest) for stretch in stretches}
    check_hash(path, digest.hexdigest(), sha256)
    return found


def check_present(folder: Path, name: str) -> None:
    """Refuse a folder without the file; where it has a pickle instead, by its name and with the reason."""
    path = folder / name
    if os.path.lexists(path):
        return
    pickles = list_pickles(folder)
    if not pickles:
        raise ComponentError(f"{path}: missing. Tensors are read from safetensors files only.")
    raise ComponentError(
        f"{folder / pickles[0]}: a pickle, which is not opened: to unpickle a file is to run whatever code"
        f" its maker put in. Components are read from safetensors only: get {name}, or convert the pickle"
        " where you trust its maker."
    )


def read_header(file: BinaryIO, path: Path, digest: Any) -> list[Stretch]:
    """The tensors that the file says it holds, in the order of their bytes; ``digest`` takes what was read.

    Raises: ComponentError: a header that is no such thing, or does not account for every byte exactly once.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(LENGTH_BYTES)
    length = int.from_bytes(start, "little")
    if len(start) < LENGTH_BYTES or length > size - LENGTH_BYTES:
        raise ComponentError(f"{path}: damaged: it ends before its header does ({size} bytes).")
    if length > LARGEST_JSON_BYTES:
        raise ComponentError(
            f"{path}: damaged: a header of {length} bytes, at most {LARGEST_JSON_BYTES} are read."
        )
    content = file.read(length)
    digest.update(start + content)
    if not content.startswith(b"{"):
        raise ComponentError(f"{path}: damaged: its header is no JSON object.")
    header = parse_object(content, f"{path}: damaged: header")
    check_metadata(header.pop(METADATA, {}), path)
    try:
        stretches = [parse_entry(name, entry) for name, entry in header.items()]
    except ValueError as error:
        raise ComponentError(f"{path}: damaged: {error}.") from error
    ordered = sorted(stretches, key=lambda stretch: (stretch.begin, stretch.end))
    check_coverage(ordered, size - LENGTH_BYTES - length, path)
    return ordered


def check_metadata(metadata: Any, path: Path) -> None:
    """Refuse a header's metadata that is not texts by name, as the format has it."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ComponentError(f"{path}: damaged: {METADATA} is {describe(metadata)}, not texts by name.")


def parse_entry(name: str, entry: Any) -> Stretch:
    """One entry of a header. Raises ValueError: it is none, or its parts contradict each other."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {describe(name)} is described by {describe(entry)}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(
            f"tensor {describe(name)} has dtype {describe(dtype)}; known are {', '.join(DTYPES)}"
        )
    if not is_counts(shape) or len(shape) > LARGEST_DIMENSIONS:
        raise ValueError(f"tensor {describe(name)} has the shape {describe(shape)}")
    outline = Outline(name, DTYPES[dtype], tuple(shape))
    if not is_counts(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != outline.bytes:
        raise ValueError(
            f"tensor {describe(name)} of {outline.bytes} bytes has data_offsets {describe(offsets)}"
        )
    return Stretch(outline, offsets[0], offsets[1])


def is_counts(value: Any) -> bool:
    """Whether this is a list of whole numbers, none negative."""
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def check_coverage(ordered: list[Stretch], size: int, path: Path) -> None:
    """Refuse stretches that overlap, leave holes or do not end where the file does."""
    position = 0
    for stretch in ordered:
        if stretch.begin != position:
            fault = "overlaps another one" if stretch.begin < position else "follows bytes of none"
            raise ComponentError(f"{path}: damaged: tensor {describe(stretch.outline.name)} {fault}.")
        position = stretch.end
    if position != size:
        raise ComponentError(f"{path}: damaged: {position} bytes of tensors, but the file holds {size}.")


def compare(stretches: list[Stretch], expected: Iterable[Outline], path: Path) -> None:
    """Refuse tensors that are not exactly those expected. Raises ComponentError: names the first one."""
    found = {stretch.outline.name: stretch.outline for stretch in stretches}
    for wanted in expected:
        present = found.pop(wanted.name, None)
        if present != wanted:
            raise ComponentError(describe_misfit(path, wanted.name, wanted, present))
    if found:
        stranger = found[min(found)]
        raise ComponentError(describe_misfit(path, stranger.name, None, stranger))


def describe_misfit(path: Path, name: str, wanted: Outline | None, present: Outline | None) -> str:
    """What was expected of a tensor and what was found."""
    return (
        f"{path}: tensor {describe(name)}: expected {describe_outline(wanted)},"
        f" found {describe_outline(present)}."
    )


def describe_outline(outline: Outline | None) -> str:
    """Dtype and shape in words; "nothing" for no tensor."""
    if outline is None:
        return "nothing"
    return f"{str(outline.dtype).removeprefix('torch.')} {list(outline.shape)}"


def read_values(file: BinaryIO, stretch: Stretch, path: Path, digest: Any) -> torch.Tensor:
    """The tensor that is next in the file. Raises ComponentError: the file ends, or a value is not finite."""
    outline = stretch.outline
    tensor = torch.empty(outline.shape, dtype=outline.dtype)
    values = tensor.reshape(-1).view(torch.uint8).numpy().data
    if file.readinto(values) != outline.bytes:  # type: ignore[attr-defined]
        raise ComponentError(f"{path}: damaged: it ends inside tensor {describe(outline.name)}.")
    digest.update(values)
    if not is_finite(tensor):
        raise ComponentError(f"{path}: tensor {describe(outline.name)} holds NaN or infinity: train again.")
    return tensor


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite; takes no memory of the tensor's size."""
    if not tensor.dtype.is_floating_point or not tensor.numel():
        return True
    smallest, largest = torch.aminmax(tensor)  # NaN wins both
    return bool(torch.isfinite(smallest) & torch.isfinite(largest))


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Replace ``path`` by a safetensors file in one step; the same tensors give the same bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata={"format": "pt"}))
