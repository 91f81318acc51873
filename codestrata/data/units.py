"""The folders that a split moves as a whole, small enough that some of them can be held out.

What this does not do: hold any out (``splits`` does).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from codestrata.data.sources import Record
from codestrata.errors import shorten

LARGEST_FOLDER = 0.2
"""A folder with a larger share of the records is taken apart into what lies in it."""
LARGEST_FILES = 0.5
"""The files of one folder stay together, unless they hold a larger share of the records."""
MOST_NAMED = 3

File = tuple[str, str]
"""A repository and a path in it; empty where a record does not say it."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """What each file moves with, and the folders that were too large to move as a whole."""

    units: Mapping[File, str]
    apart: tuple[str, ...]


def name_folders(records: Iterable[Record]) -> Folders:
    """The folder that each file lies in, of those that tell the files of its repository apart.

    The folders that all files of a repository share (such as ``src/package``) are taken off; what comes next
    is the folder. One with more than ``LARGEST_FOLDER`` of all records is taken apart into the folders in it
    and the files beside these, again and again. Such files move together; those of a folder with more than
    ``LARGEST_FILES`` of all records, and those of the only folder there is, move one by one.
    """
    counts = Counter((record.repository or "", record.path or "") for record in records)
    parts = {file: (file[0], *PurePosixPath(file[1].replace("\\", "/")).parts) for file in counts}
    units: dict[File, str] = {}
    apart: list[str] = []
    waiting = [(folder, files, False) for folder, files in group_files(counts, parts, ()).items()]
    while waiting:
        folder, files, is_large = waiting.pop()
        below = group_files(files, parts, folder)
        if is_large and len(below) > 1:
            apart.append("/".join(folder[1:]))
        for place, inside in below.items():
            share = sum(counts[file] for file in inside) / counts.total()
            if place != folder and (len(below) == 1 or share > LARGEST_FOLDER):
                waiting.append((place, inside, is_large or len(below) > 1))
            elif place == folder and share > LARGEST_FILES and len(inside) > 1:
                apart.append(f"{'/'.join(folder[1:]) or 'the top folder'} by file")
                units |= {file: "/".join(parts[file]) for file in inside}
            else:
                units |= dict.fromkeys(inside, "/".join(place))
    return Folders(units=units, apart=tuple(sorted(apart)))


def group_files(
    files: Iterable[File], parts: Mapping[File, tuple[str, ...]], folder: tuple[str, ...]
) -> dict[tuple[str, ...], list[File]]:
    """The files of a folder by the folder below it that they lie in; those beside these by itself."""
    depth = len(folder) + 1
    below: dict[tuple[str, ...], list[File]] = {}
    for file in files:
        place = parts[file][:depth] if len(parts[file]) > depth or not folder else folder
        below.setdefault(place, []).append(file)
    return below


def describe_apart(folders: Folders) -> tuple[str, ...]:
    """The note on folders that were taken apart, if any were."""
    if not folders.apart:
        return ()
    named = ", ".join(map(shorten, folders.apart[:MOST_NAMED]))
    more = f" and {len(folders.apart) - MOST_NAMED} more" if len(folders.apart) > MOST_NAMED else ""
    share = f"{LARGEST_FOLDER:.0%}"
    return (f"folders with more than {share} of the records are taken apart: {named}{more}",)
