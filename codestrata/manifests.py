"""What a finished folder holds, file by file with size and SHA-256, sealed; and what is no longer so.

    checksums.json   {"format": 1, "files": {"base/scores.jsonl": {"bytes": 120, "sha256": "..."}}}
    done.json        {"finished": time, "checksums": SHA-256 of checksums.json, "seal": SHA-256 of those two}

So a change anywhere is found, in these two files as well. They find damage, not forgery: whoever rewrites a
file can write new checksums. Only files that lie in the folder are opened, whatever a manifest names.

What this does not do: mend anything, or know what the files mean.
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from codestrata.errors import DataError, StorageError
from codestrata.files import hash_file, hash_text, is_temporary, read_json, write_bytes

CHECKSUMS_FILE = "checksums.json"
DONE_FILE = "done.json"
FORMAT = 1
NO_TEXT = "something whose name is not UTF-8"


@dataclass(frozen=True)
class Content:
    """What a file holds: how many bytes, and their SHA-256."""

    bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.bytes} bytes, SHA-256 {self.sha256}"


Contents = Mapping[str, Content]
"""Path inside the folder, parts separated by ``/``, -> what the file holds."""


@dataclass(frozen=True, kw_only=True)
class FileFault:
    """A file that is not as it was left.

    ``path`` is inside the folder; ``wanted`` is what it should be, ``found`` what it is, in words; ``None``
    where it should not be, or is not.
    """

    kind: Literal["missing", "changed", "extra", "unreadable"]
    path: str
    wanted: str | None
    found: str | None


def measure_folder(folder: Path, apart: Collection[str] = ()) -> dict[str, Content]:
    """What every regular file holds; not links, nor what ``apart`` names at the top.

    Raises: StorageError: something cannot be read.
    """
    entries, unreadable = list_entries(folder, apart)
    for error in unreadable.values():
        raise error
    return {path: measure_file(folder / path) for path, kind in entries.items() if kind == "a file"}


def measure_file(path: Path) -> Content:
    """What the file holds. Raises StorageError: it cannot be read."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise StorageError(path, "read", error) from error
    return Content(size, hash_file(path))


def list_entries(folder: Path, apart: Collection[str] = ()) -> tuple[dict[str, str], dict[str, StorageError]]:
    """What lies below a folder at any depth, by path, and what it is, such as "a file"; not temporary files.

    Links are not followed. The second part are the folders that could not be read.
    """
    entries: dict[str, str] = {}
    unreadable: dict[str, StorageError] = {}
    waiting = [""]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(folder / place) as found:
                for entry in found:
                    if is_temporary(entry.name) or (not place and entry.name in apart):
                        continue
                    path = f"{place}/{entry.name}" if place else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    else:
                        entries[path] = describe_entry(entry) if escape(path) == path else NO_TEXT
        except OSError as error:
            unreadable[place or "."] = StorageError(folder / place, "read", error)
    return dict(sorted(entries.items())), unreadable


def describe_entry(entry: "os.DirEntry[str]") -> str:
    """What lies there, in words."""
    if entry.is_symlink():
        return "a symbolic link"
    return "a file" if entry.is_file(follow_symlinks=False) else "neither file nor folder"


def escape(name: str) -> str:
    """A name that can be written and printed: what is not UTF-8 in it becomes an escape."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def seal_folder(folder: Path, contents: Contents) -> None:
    """Write ``checksums.json`` and then ``done.json``. Raises StorageError: they cannot be written."""
    listed = {
        path: {"bytes": content.bytes, "sha256": content.sha256} for path, content in sorted(contents.items())
    }
    content = render({"format": FORMAT, "files": listed})
    write_bytes(folder / CHECKSUMS_FILE, content)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    checksums = hash_text(content.decode("ascii"))
    mark = {"finished": finished, "checksums": checksums, "seal": compute_seal(finished, checksums)}
    write_bytes(folder / DONE_FILE, render(mark))


def render(document: Any) -> bytes:
    """The one way to write a document, which makes every byte of it count."""
    return (json.dumps(document, indent=2) + "\n").encode("ascii")


def compute_seal(finished: str, checksums: str) -> str:
    """SHA-256 over both."""
    return hash_text(f"{finished}\n{checksums}")


def is_unsealed(folder: Path) -> bool:
    """Whether the folder was finished before there were checksums."""
    try:
        return set(read_json(folder / DONE_FILE)) == {"finished"}
    except (DataError, StorageError, TypeError):
        return False


def check_seal(folder: Path) -> FileFault | None:
    """What is wrong with ``done.json`` or ``checksums.json``; ``None`` where both are as they were."""
    if is_unsealed(folder):
        wanted = "checksums, which runs of that age do not have"
        return FileFault(kind="missing", path=CHECKSUMS_FILE, wanted=wanted, found=None)
    found: dict[str, str] = {}
    for name in (DONE_FILE, CHECKSUMS_FILE):
        path = folder / name
        if not os.path.lexists(path):
            return FileFault(kind="missing", path=name, wanted="a file", found=None)
        if path.is_symlink():
            return FileFault(kind="changed", path=name, wanted="a file", found="a symbolic link")
        try:
            found[name] = hash_file(path)
        except StorageError as error:
            return FileFault(kind="unreadable", path=name, wanted="a file", found=error.reason)
        if name == DONE_FILE and (fault := check_mark(path)):
            return fault
    wanted = read_json(folder / DONE_FILE)["checksums"]
    if found[CHECKSUMS_FILE] != wanted:
        wanted, present = f"SHA-256 {wanted}", f"SHA-256 {found[CHECKSUMS_FILE]}"
        return FileFault(kind="changed", path=CHECKSUMS_FILE, wanted=wanted, found=present)
    return None


def check_mark(path: Path) -> FileFault | None:
    """What is wrong with ``done.json`` itself."""
    wanted = "finished, checksums and a seal over both"
    try:
        mark = read_json(path)
        whole = render(mark) == path.read_bytes()
    except (DataError, ValueError, OSError) as error:
        return FileFault(kind="changed", path=path.name, wanted=wanted, found=str(error))
    if not isinstance(mark, dict) or list(mark) != ["finished", "checksums", "seal"]:
        return FileFault(kind="changed", path=path.name, wanted=wanted, found="other words")
    if not whole or mark["seal"] != compute_seal(str(mark["finished"]), str(mark["checksums"])):
        return FileFault(kind="changed", path=path.name, wanted=wanted, found="a seal that does not fit")
    return None


def read_contents(folder: Path) -> dict[str, Content]:
    """The files that ``checksums.json`` lists. Raises DataError: it is damaged or of another format."""
    path = folder / CHECKSUMS_FILE
    tree = read_json(path)
    if not isinstance(tree, dict) or tree.get("format") != FORMAT or not isinstance(tree.get("files"), dict):
        raise DataError(f"expected a list of files in format {FORMAT}", path=path)
    contents: dict[str, Content] = {}
    for name, entry in tree["files"].items():
        match entry:
            case {"bytes": int(size), "sha256": str(digest), **rest} if not rest:
                contents[name] = Content(size, digest)
            case _:
                raise DataError(f"the entry of {name!r} has no size or no hash", path=path)
    return contents


def check_folder(folder: Path, apart: Collection[str] = ()) -> list[FileFault]:
    """What is not as ``seal_folder`` was told, by path; nothing where all is well.

    Where the list itself is damaged nothing else can be judged, and that is the one fault.
    """
    if fault := check_seal(folder):
        return [fault]
    try:
        wanted = read_contents(folder)
    except DataError as error:
        return [FileFault(kind="changed", path=CHECKSUMS_FILE, wanted="a list of files", found=str(error))]
    entries, unreadable = list_entries(folder, apart)
    faults = [
        FileFault(kind="unreadable", path=path, wanted="a folder", found=error.reason)
        for path, error in unreadable.items()
    ]
    for path in {**wanted, **entries}:
        hidden = any(place == "." or path.startswith(f"{place}/") for place in unreadable)
        if not hidden and (fault := check_file(folder, path, wanted.get(path), entries.get(path))):
            faults.append(fault)
    return sorted(faults, key=lambda fault: fault.path)


def check_file(folder: Path, path: str, wanted: Content | None, kind: str | None) -> FileFault | None:
    """What is wrong with one entry, which is of a kind (``None``: not there)."""
    if kind is None:
        return FileFault(kind="missing", path=path, wanted=str(wanted), found=None)
    if wanted is None:
        return FileFault(kind="extra", path=escape(path), wanted=None, found=kind)
    if kind != "a file":
        return FileFault(kind="changed", path=path, wanted=str(wanted), found=kind)
    try:
        found = measure_file(folder / path)
    except StorageError as error:
        return FileFault(kind="unreadable", path=path, wanted=str(wanted), found=error.reason)
    if found == wanted:
        return None
    return FileFault(kind="changed", path=path, wanted=str(wanted), found=str(found))
