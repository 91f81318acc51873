"""A folder of tasks as a sequence: every file of records in it, and every subfolder of some, is a task.

What this does not do: read more than the first records of each (``sniffing`` does that), or check settings.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codestrata.data.sniffing import PLAIN_COLUMNS, Sniffed, is_sniffed, recognize_name, sniff
from codestrata.data.tables import find_part, list_tables, name_stem
from codestrata.errors import DataError, SettingsError, shorten
from codestrata.languages.parsing import list_languages
from codestrata.settings.tasks import FUNCTIONS, ONLY_LANGUAGE, ColumnSettings, Source

SIZES = ("train_examples", "validation_examples", "test_examples")
INHERITED = (
    *SIZES,
    "near_duplicates",
    "exclude",
    "licenses",
    "keep_secrets",
    "seed",
)
"""What a task takes over from another: those of a folder from the preset's first, one that extends a run from
the run's last; all else is the setting's default."""
OBJECTIVES = ("objective", "evaluation_objective")
"""What it takes over besides (with ``split``) where both are made of documented functions."""
BACKUPS = ("~", ".bak", ".orig", ".old", ".swp", ".tmp", ".part")
ORDER_NUMBER = re.compile(r"\d+-(?=[^\W\d])")
"""What only orders files, such as the ``01-`` of ``01-billing``."""
LONGEST_NAME = 64
SHORT_NAMES = {
    "py": "python",
    "js": "javascript",
    "ts": "typescript",
    "golang": "go",
    "rb": "ruby",
    "c#": "c_sharp",
    "csharp": "c_sharp",
    "cs": "c_sharp",
}
"""Languages by the other names that files of one's own may give them."""


@dataclass(frozen=True, kw_only=True)
class FolderTasks:
    """The tasks of a folder as sections of settings, in their order, and what was left out, with why."""

    sections: tuple[dict[str, Any], ...]
    ignored: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Place:
    """A file or folder that is a task: its name and what is in it."""

    path: Path
    name: str
    sniffed: Sniffed


def list_folder_tasks(
    folder: Path,
    *,
    language: str | None = None,
    first: Mapping[str, Any] | None = None,
    columns: Mapping[str, ColumnSettings] | None = None,
) -> FolderTasks:
    """The tasks that a folder holds, in the natural order of their names (2 before 10).

    A file of records is a task, and so is a subfolder of some; its name is that of the file without suffix
    and without a number that only orders (``01-``), as long as names stay apart. A folder of train and test
    files is one task, and so is a file alone.

    Args:
        folder: where they lie.
        language: the language of records that name none.
        first: the section of the preset's first task, from which ``INHERITED`` is taken.
        columns: what columns are called in the files of a task, by its name; ``*`` is every other task.

    Raises:
        SettingsError: nothing is there, two tasks of one name, or a language that nothing tells.
        DataError: a file whose records are of no known kind, or a folder without any.
    """
    if not folder.exists():
        raise SettingsError(f"The folder of tasks {str(folder)!r} is not there.")
    is_single = folder.is_file() or is_single_task(folder)
    paths, ignored = ([folder], []) if is_single else sort_entries(folder)
    places, unusable = sniff_entries(paths, columns or {})
    if not places:
        raise DataError("the folder holds no tasks: no file of records, and no folder of some", path=folder)
    names = name_places(places)
    sections = [
        build_section(place, name, language, first or {}) for place, name in zip(places, names, strict=True)
    ]
    return FolderTasks(sections=tuple(sections), ignored=(*ignored, *unusable))


def list_entries(folder: Path) -> list[Path]:
    """What lies in a folder, in natural order. Raises: DataError: it cannot be read."""
    try:
        return sorted(folder.iterdir(), key=order_naturally)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=folder) from error


def order_naturally(path: Path) -> tuple[list[str | int], str]:
    """A key that sorts names as people do: numbers by their value, letters without their case."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], path.name


def is_single_task(folder: Path) -> bool:
    """Whether the files of a folder are the parts of one task: train and test, or two sides of each."""
    files = [path for path in list_entries(folder) if path.is_file() and is_sniffed(path)]
    if not files:
        return False
    parts = [part for part in map(find_part, files) if part is not None]
    return ("train" in parts and len(parts) > 1) or all(recognize_name(path) for path in files)


def sort_entries(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """What of a folder may be a task, and what is not, with the reason."""
    kept, ignored = [], []
    for path in list_entries(folder):
        if path.name.startswith("."):
            ignored.append((path, "hidden"))
        elif path.name.lower().endswith(BACKUPS):
            ignored.append((path, "a backup"))
        elif path.is_dir():
            if any(entry.is_file() and is_sniffed(entry) for entry in list_entries(path)):
                kept.append(path)
            else:
                ignored.append((path, "a folder without files of records"))
        elif is_sniffed(path):
            kept.append(path)
        else:
            ignored.append((path, "no file of records"))
    return kept, ignored


def sniff_entries(
    paths: Sequence[Path], columns: Mapping[str, ColumnSettings]
) -> tuple[list[Place], list[tuple[Path, str]]]:
    """What each holds; a ``.json`` file without records, such as a report, is left out with the reason.

    Raises: DataError: another file cannot be read, or is of no known kind; a folder mixes kinds.
    """
    places, ignored = [], []
    for path in paths:
        stem = path.resolve().name if path.is_dir() else name_stem(path)
        asked = choose_columns(columns, make_legal(ORDER_NUMBER.sub("", stem, count=1)), make_legal(stem))
        try:
            sniffed = sniff_folder(path, asked) if path.is_dir() else sniff(path, asked)
        except DataError:
            if path.suffix.lower() != ".json":
                raise
            ignored.append((path, "JSON without records"))
            continue
        places.append(Place(path=path, name=stem, sniffed=sniffed))
    return places, ignored


def choose_columns(columns: Mapping[str, ColumnSettings], *names: str) -> ColumnSettings:
    """What columns are called in the files of a task that is called one of these names."""
    return next((columns[name] for name in (*names, "*") if name in columns), PLAIN_COLUMNS)


def sniff_folder(folder: Path, columns: ColumnSettings = PLAIN_COLUMNS) -> Sniffed:
    """What the files of one task hold. Raises: DataError: they are of different kinds."""
    files = [path for path in list_entries(folder) if path.is_file() and is_sniffed(path)]
    found = {path: sniff(path, columns) for path in files}
    if not found:  # perhaps in folders further down
        return sniff(folder, columns)
    (first, sniffed), *others = found.items()
    for path, other in others:
        if other.source != sniffed.source:
            raise DataError(
                f"holds records of {other.source}, but {first.name} beside it of {sniffed.source}: the files "
                "of a folder inside a folder of tasks are one task",
                path=path,
            )
    languages = dict.fromkeys(language for entry in found.values() for language in entry.languages)
    return Sniffed(
        source=sniffed.source,
        languages=tuple(languages),
        fields=sniffed.fields,
        is_partitioned=all(entry.is_partitioned for entry in found.values()),
    )


def name_places(places: Sequence[Place]) -> list[str]:
    """Legal names of the tasks, without numbers that only order where names stay apart without them.

    Raises: SettingsError: two have one name, or one has none.
    """
    short = [make_legal(ORDER_NUMBER.sub("", place.name, count=1)) for place in places]
    counts = Counter(name.lower() for name in short)
    names = [
        make_legal(place.name) if counts[name.lower()] > 1 else name
        for place, name in zip(places, short, strict=True)
    ]
    taken: dict[str, Path] = {}
    for place, name in zip(places, names, strict=True):
        if not name:
            raise SettingsError(
                f"No task can be named after {str(place.path)!r}: give it a name with letters."
            )
        other = taken.setdefault(name.lower(), place.path)
        if other != place.path:
            raise SettingsError(f"{str(other)!r} and {str(place.path)!r} are both task {name!r}: rename one.")
    return names


def make_legal(stem: str) -> str:
    """A name that a task may have, nearest to a file's: other signs become ``-``, accents are left out."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_")[:LONGEST_NAME]


def inherit(source: Source, first: Mapping[str, Any]) -> dict[str, Any]:
    """What a task of ``source`` takes over from the section of another; kata, what concerns no records."""
    names: tuple[str, ...] = (*SIZES, "seed") if source == "kata" else INHERITED
    if source in FUNCTIONS and first.get("source") in FUNCTIONS:
        names += (*OBJECTIVES, "split")
    elif source == first.get("source") == "file":
        names += ("split",)
    return {key: first[key] for key in names if key in first}


def build_section(place: Place, name: str, language: str | None, first: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one task. Raises: SettingsError: nothing tells its language."""
    source = place.sniffed.source
    section: dict[str, Any] = {"name": name, **inherit(source, first)}
    known = choose_language(place, language)
    if known is not None:
        section["language"] = known
    return {**section, "source": source, **choose_paths(place)}


def choose_language(place: Place, language: str | None) -> str | None:
    """The language of a task's records: as they say, else as was asked, else as the name of the file says.

    ``None`` where the source has only one. Raises: SettingsError: several, or none, and none was asked.
    """
    found, source = place.sniffed.languages, place.sniffed.source
    if len(found) == 1:
        return found[0] if source in FUNCTIONS else SHORT_NAMES.get(found[0], found[0])
    if source in ONLY_LANGUAGE:
        return None
    if language is not None:
        return language
    stem = ORDER_NUMBER.sub("", place.name, count=1).lower()
    if not found and stem in list_languages():
        return stem
    what = f"hold several languages ({', '.join(map(shorten, found))})" if found else "name no language"
    raise SettingsError(
        f"The records of {str(place.path)!r} {what}: say which with --language, such as --language python."
    )


def choose_paths(place: Place) -> dict[str, str]:
    """The paths of a task: its file or folder; train and test files where the records do not say it."""
    path, sniffed = place.path, place.sniffed
    if not path.is_dir() or sniffed.source not in FUNCTIONS or sniffed.is_partitioned:
        return {"path": str(path)}
    files = list_tables(path)
    parts = {partition: file for file, partition in files}
    if "train" not in parts or "test" not in parts:
        return {"path": str(path)}
    if len(files) > len(parts):
        raise DataError(
            "holds several files of functions for one part of the data: put each part into one file, or say "
            "in every record which partition it is of",
            path=path,
        )
    return {"path": str(parts["train"]), "test_source": sniffed.source, "test_path": str(parts["test"])}
