"""Reading and writing files so that a crash leaves the old file or the new one, never half of one.

What this does not do: know what the files mean, or where a run keeps them (see ``store``).
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from codestrata.errors import DataError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes 0600, which others could not read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable, where the system allows opening a folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by UTF-8 text in one step."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by indented JSON in one step; NaN and infinity are refused (use ``None``)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Replace ``path`` by one JSON document per line in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """The JSON document in ``path``.

    Raises: DataError: the file is missing, not UTF-8 or not JSON; with the line where known.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error.reason} at byte {error.start}", path=path) from error
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg} (column {error.colno})"
        raise DataError(message, path=path, line=error.lineno) from error
    except RecursionError as error:
        raise DataError("not usable JSON: nested too deeply", path=path) from error


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for every non-empty line of ``path``, counted from 1.

    Raises: DataError: the file is missing, or a line is not UTF-8, not JSON or not an object; with the place.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    with file:
        yield from parse_jsonl(file, path)


def parse_jsonl(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for every non-empty line; ``path`` is only named in errors.

    Raises: DataError: a line is not UTF-8, not JSON or not an object; with file and line.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            message = f"not UTF-8: {error.reason} at byte {error.start}"
            raise DataError(message, path=path, line=number) from error
        except json.JSONDecodeError as error:
            message = f"not JSON: {error.msg} (column {error.colno})"
            raise DataError(message, path=path, line=number) from error
        except RecursionError as error:
            raise DataError("not usable JSON: nested too deeply", path=path, line=number) from error
        if not isinstance(row, dict):
            raise DataError(f"expected a JSON object, found {type(row).__name__}", path=path, line=number)
        yield number, row


def hash_text(text: str) -> str:
    """SHA-256 of UTF-8 text, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 over canonical JSON (sorted keys, no spaces), as 64 hexadecimal digits."""
    return hash_text(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False))
