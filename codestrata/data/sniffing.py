"""Which source a file or folder is of, by its name and the fields of its first records.

What this does not do: check more than a few records (``inspection`` does), or read a file whole.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from codestrata.data.codesearchnet import HUB_FIELDS, ORIGINAL_FIELDS
from codestrata.data.rows import RECORD_SUFFIXES, is_record_file, read_rows
from codestrata.data.tables import describe_fields
from codestrata.errors import DataError
from codestrata.settings.tasks import ColumnSettings, Source

PAIRS: dict[str, Source] = {".java-cs.txt.": "translate", ".buggy-fixed.": "refine"}
"""What the names of files have in common that hold one side of a task each, line by line."""
RECORDS_LOOKED_AT = 1000
"""In so many records the languages are looked up."""
FUNCTION_KEYS = ("code", "docstring", "name", "language")
PLAIN_COLUMNS = ColumnSettings()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sniffed:
    """What a file holds: its source, the languages its first records name, and the fields of the first.

    ``is_partitioned``: the first record says whether it is for training or for tests.
    """

    source: Source
    languages: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    is_partitioned: bool = False


def sniff(path: Path, columns: ColumnSettings = PLAIN_COLUMNS) -> Sniffed:
    """What a file, or the first file of a folder, holds; at most 1,000 records are read.

    Raises: DataError: it cannot be read, has no records, or is of no known kind; with what was found.
    """
    file = find_first(path) if path.is_dir() else path
    paired = recognize_name(file)
    if paired is not None:
        return Sniffed(source=paired)
    rows = read_rows(file)
    line, first = next(rows)
    source = recognize(first, columns)
    if source is None:
        raise DataError(explain_unknown(first, columns), path=file, line=line)
    looked_at = (row for _, row in islice(rows, RECORDS_LOOKED_AT - 1))
    languages = dict.fromkeys(name_language(row) for row in (first, *looked_at))
    return Sniffed(
        source=source,
        languages=tuple(language for language in languages if language is not None),
        fields=tuple(first),
        is_partitioned=any(first.get(schema["partition"]) for schema in (HUB_FIELDS, ORIGINAL_FIELDS)),
    )


def find_columns(path: Path, columns: ColumnSettings) -> ColumnSettings:
    """A task's columns as another file of examples has them, which may have kept the usual names.

    That is where its first record has none of the task's own prompt or target, but both of the usual names;
    of the other columns, each one that it lacks.
    """
    if columns == PLAIN_COLUMNS:
        return columns
    try:
        _, first = next(read_rows(find_first(path) if path.is_dir() else path))
    except DataError:  # said better where it is loaded
        return columns
    own, usual = vars(columns), vars(PLAIN_COLUMNS)
    pair = ("prompt", "target")
    has_own = all(own[key] in first for key in pair)
    is_usual = not has_own and all(usual[key] in first for key in pair)
    renamed = [key for key in own if (is_usual if key in pair else own[key] not in first)]
    names = own | {key: usual[key] for key in renamed}
    return columns if len(set(names.values())) < len(names) else ColumnSettings(**names)


def find_first(folder: Path) -> Path:
    """The first file of records in a folder, at any depth. Raises: DataError: there is none."""
    names: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [Path(place, name) for name in files if is_sniffed(Path(name))]
    if not names:
        raise DataError(f"the folder holds no file of records ({', '.join(RECORD_SUFFIXES)})", path=folder)
    return min(names)


def is_sniffed(path: Path) -> bool:
    """Whether a file's name is one of records, or of one side of some."""
    is_side = recognize_name(path) is not None and not path.name.startswith(".")
    return is_side or is_record_file(path, RECORD_SUFFIXES)


def recognize_name(path: Path) -> Source | None:
    """The source whose files have such names, of those that come in pairs."""
    return next((source for mark, source in PAIRS.items() if mark in path.name), None)


def recognize(row: Mapping[str, Any], columns: ColumnSettings = PLAIN_COLUMNS) -> Source | None:
    """The source of which a record with these fields is; ``None`` where it is of none that is known.

    A file's own columns come first, as settings may name them so.
    """
    fields = set(row)
    if {columns.prompt, columns.target} <= fields and not is_count(row[columns.prompt]):
        return "file"
    if {"prompt", "canonical_solution", "test"} <= fields:
        if "buggy_solution" in fields:
            return "humanevalpack"
        if "declaration" in fields:
            return "humaneval-x"
        return "humaneval" if str(row.get("task_id")).startswith("HumanEval") else "mbxp"
    if {"code", "test_list"} <= fields and fields & {"text", "prompt"}:
        return "mbpp"
    if any({schema[key] for key in FUNCTION_KEYS} <= fields for schema in (HUB_FIELDS, ORIGINAL_FIELDS)):
        return "codesearchnet"
    return "concode" if {"nl", "code"} <= fields and not is_count(row["nl"]) else None


def is_count(value: Any) -> bool:
    """Whether a value is a number, as in a vocabulary, which has every word for a field."""
    return isinstance(value, int | float)


def explain_unknown(row: Mapping[str, Any], columns: ColumnSettings = PLAIN_COLUMNS) -> str:
    """That a record is of no known kind, what it holds, and what was expected."""
    return (
        f"no known kind of record; its fields are: {describe_fields(list(row))}. Expected {columns.prompt} "
        f"and {columns.target} (other names: columns), the fields of CodeSearchNet (code, docstring, "
        "func_name, language) or those of a data set that codestrata data list names"
    )


def name_language(row: Mapping[str, Any]) -> str | None:
    """The programming language that a record names, in lower case."""
    language = row.get("language")
    return language.strip().lower() or None if isinstance(language, str) else None
