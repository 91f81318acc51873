"""Files in a component's folder, opened as if a stranger had sent them: regular, inside, plain JSON.

What this does not do: know what the files mean (``residents``, ``adapters``, ``tensors``), or open pickles or
archives at all.
"""

import hashlib
import json
import math
import os
import reprlib
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from codestrata.errors import ComponentError

LARGEST_JSON_BYTES = 4 * 2**20
LARGEST_DIGITS = 18
"""Whole numbers in a component's files count bytes and rows: more digits than these are nonsense."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@contextmanager
def open_file(folder: Path, name: str) -> Iterator[BinaryIO]:
    """A regular file of the folder, open for reading.

    Raises: ComponentError: missing, unreadable, a symlink that leads out of the folder, or anything that is
        not a regular file: a FIFO would block whoever opens it, a device may do more.
    """
    path = folder / name
    try:
        real = Path(os.path.realpath(path, strict=True))
        if not real.is_relative_to(os.path.realpath(folder, strict=True)):
            raise ComponentError(
                f"{path}: a symlink that leads out of its folder, to {real}. It is not followed: put a copy"
                " of the file in its place if you trust it."
            )
        check_regular(path, os.stat(real).st_mode)
        file = open(real, "rb", opener=open_without_waiting)
        with file:
            check_regular(path, os.fstat(file.fileno()).st_mode)  # it may have been exchanged meanwhile
            yield file
    except OSError as error:
        raise ComponentError(f"{path}: cannot be read: {error.strerror or error}.") from error


def open_without_waiting(path: str, flags: int) -> int:
    """A descriptor, at once even for a FIFO, and of no symlink."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


def check_regular(path: Path, mode: int) -> None:
    """Refuse what is not a regular file. Raises ComponentError: says what it is."""
    kinds = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    if not stat.S_ISREG(mode):
        found = kinds.get(stat.S_IFMT(mode), "special file")
        raise ComponentError(f"{path}: a {found}, where a regular file is needed. Get the component again.")


def read_object(folder: Path, name: str, *, sha256: str | None = None) -> dict[str, Any]:
    """The JSON object in a file of the folder, which must have that hash if one is given.

    Raises: ComponentError: as ``open_file``, too large, changed since it was written, or not plain JSON.
    """
    path = folder / name
    with open_file(folder, name) as file:
        content = file.read(LARGEST_JSON_BYTES + 1)
    if len(content) > LARGEST_JSON_BYTES:
        raise ComponentError(f"{path}: larger than {LARGEST_JSON_BYTES} bytes, which no component needs.")
    if sha256 is not None:
        check_hash(path, hashlib.sha256(content).hexdigest(), sha256)
    return parse_object(content, str(path))


def check_hash(path: Path, found: str, wanted: str) -> None:
    """Refuse a file that is not the one ``component.json`` was written for. Raises ComponentError."""
    if found != wanted:
        raise ComponentError(
            f"{path}: changed since it was written: its SHA-256 is {found}, component.json says {wanted}."
            " Get the component again, or train it again."
        )


def parse_object(content: bytes, label: str) -> dict[str, Any]:
    """The JSON object in ``content``; no key twice, no NaN or infinity, no absurdly long number.

    Raises: ComponentError: anything else; the message starts with ``label``.
    """
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_build_object,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            parse_int=_parse_int,
        )
        json.dumps(value, ensure_ascii=False).encode(
            "utf-8"
        )  # half a character cannot be printed or tokenized
    except UnicodeDecodeError as error:
        raise ComponentError(f"{label}: not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        message = f"{label}:{error.lineno}: not JSON: {error.msg} (column {error.colno})"
        raise ComponentError(message) from error
    except ValueError as error:
        raise ComponentError(f"{label}: not usable JSON: {error}") from error
    except RecursionError as error:
        raise ComponentError(f"{label}: not usable JSON: nested too deeply") from error
    if not isinstance(value, dict):
        raise ComponentError(f"{label}: expected a JSON object, found {type(value).__name__}")
    return value


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {describe(twice)} occurs twice")
    return built


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number that JSON knows")


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {describe(text)} is too large")
    return number


def _parse_int(text: str) -> int:
    if len(text.removeprefix("-")) > LARGEST_DIGITS:
        raise ValueError(f"the number {describe(text)} is too large")
    return int(text)


def describe(value: Any) -> str:
    """The value as Python would write it, cut short: a stranger's file may hold megabytes in one place."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = 120
    brief.maxlevel = 3
    return brief.repr(value)


def list_pickles(folder: Path) -> list[str]:
    """Names of the folder's files in formats that cannot be read without unpickling."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(name for name in names if name.lower().endswith(PICKLE_SUFFIXES))
