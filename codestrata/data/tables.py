"""One's own task: files of ``prompt`` and ``target`` as JSONL, CSV, TSV or Parquet, or a folder of such.

Columns may have other names, which settings map; ``tests``, ``id``, ``group``, ``date`` and ``license`` may
be there besides.

What this does not do: split, shuffle or cap (``tasks`` does), or run the tests.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from codestrata.data.rows import RECORD_SUFFIXES, is_record_file, list_parquet_columns, read_rows
from codestrata.data.secrets import hide_secret
from codestrata.data.sourced import Loaded, Partition, SourcedExample
from codestrata.errors import DataError, shorten
from codestrata.files import find_half_pair
from codestrata.records import Example
from codestrata.settings.tasks import ColumnSettings, Objective, TaskSettings

MOST_FIELDS_NAMED = 12
PLAIN_COLUMNS = ColumnSettings()
PARTITION_FILES: dict[str, Partition] = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""What the files of a folder are for, by what their names begin with, up to the first of ``-_.``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An example with its line in a file.

    ``date`` (an ISO day) and ``license`` are ``None`` where the file does not say, or not in a way that can
    be read.
    """

    example: Example
    line: int
    date: str | None = None
    license: str | None = None

    @property
    def content(self) -> tuple[str, str]:
        """What makes two examples the same to a model: prompt and target."""
        return self.example.prompt, self.example.target


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What a table must be like: its columns, which of the optional ones must be readable, and whose it is.

    ``task`` is the name of the task, for the remedies in errors.
    """

    columns: ColumnSettings = field(default_factory=ColumnSettings)
    dated: bool = False
    licensed: bool = False
    task: str = "<name>"


PLAIN = Demands()


def load_table(settings: TaskSettings, path: Path | None, objective: Objective) -> Loaded:
    """The examples of one's own file, or of all files of a folder, in file order; see ``read_entries``.

    Files of a folder that are called train, valid (validation, val, dev) or test are that partition of the
    data, also where more follows (``train-00000-of-00002``, ``test_hard``); where one is called so all must
    be, else they are one table in the order of their names.

    An ``id`` that an earlier file has too gets its own file's name before it.

    Raises: DataError: as ``read_entries``; an unknown kind of file, or a folder without any.
    """
    assert path is not None, "TaskSettings refuses source = file without a path"
    demands = Demands(
        columns=settings.columns,
        dated=settings.split == "date",
        licensed=bool(settings.licenses),
        task=settings.name,
    )
    examples: list[SourcedExample] = []
    notes: list[str] = []
    names: set[str] = set()
    for file, partition in list_tables(path):
        entries = read_entries(file, demands)
        for entry in entries:
            name = entry.example.identifier
            while name in names:
                name = f"{file.name}:{name}"
            names.add(name)
            examples.append(
                SourcedExample(
                    example=replace(entry.example, identifier=name),
                    partition=partition,
                    date=entry.date,
                    license=entry.license,
                    line=entry.line,
                    file=file,
                )
            )
        notes += note_repeats(entries, file)
    return Loaded(examples=tuple(examples), notes=tuple(notes))


def list_tables(path: Path) -> list[tuple[Path, Partition | None]]:
    """The file, or those of a folder by name, each with the partition that its name tells.

    Raises: DataError: a folder without a file of a known suffix, or with some that are called train, valid or
        test and some that are not.
    """
    if not path.is_dir():
        return [(path, None)]
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.is_dir())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    lists = [entry for entry in entries if is_record_file(entry, RECORD_SUFFIXES)]
    files = [entry for entry in entries if is_record_file(entry)] or lists  # beside others .json is no data
    if not files:
        raise DataError(f"the folder holds no {', '.join(RECORD_SUFFIXES)} file", path=path)
    found = [(file, find_part(file)) for file in files]
    parts = dict.fromkeys(part for _, part in found if part is not None)
    stray = next((file.name for file, part in found if part is None), None)
    if parts and stray is not None:
        raise DataError(
            f"holds files called {', '.join(sorted(parts))}, and {stray} besides: call it train, valid or "
            "test too, or take it out",
            path=path,
        )
    return found


def find_part(path: Path) -> Partition | None:
    """The part of the data that a file is by its name: ``train.csv``, ``test-00000-of-00002.parquet``."""
    return PARTITION_FILES.get(re.split(r"[-_.]", path.name.lower(), maxsplit=1)[0])


def name_stem(path: Path) -> str:
    """The file's name without its suffix, both parts of ``.jsonl.gz``."""
    ending = next((suffix for suffix in RECORD_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(ending)] if ending else path.name


def load_examples(path: Path) -> list[Example]:
    """The examples of a file, in file order; see ``read_entries``."""
    return [entry.example for entry in read_entries(path)]


def read_entries(path: Path, demands: Demands = PLAIN) -> list[Entry]:
    """The examples of a file with their lines (of Parquet: rows), in file order.

    ``prompt`` and ``target`` are text and required. ``tests``, ``group``, ``date``, ``license`` (text) and
    ``id`` (text or whole number) may be missing, null or empty; an example without ``id`` is called
    ``<file name>:<line>``. Other fields are ignored. Of CSV, TSV and Parquet, all of whose rows have the same
    columns, it is said at once if a required one is missing.

    Raises: DataError: a broken line, a missing, empty or wrong-typed field, a duplicate ``id`` (all with file
        and line), a column that settings name and no row has, or a file without examples.
    """
    columns = demands.columns
    entries: list[Entry] = []
    lines: dict[str, int] = {}
    renamed = {value for name, value in vars(columns).items() if value != getattr(PLAIN_COLUMNS, name)}
    for line, row in read_known(path, demands):
        renamed -= row.keys()
        entry = build_entry(row, path, line, demands)
        name = entry.example.identifier
        if name in lines:
            message = (
                f"id {shorten(hide_secret(name))} was used in line {lines[name]} already: ids must differ"
            )
            raise DataError(message, path=path, line=line)
        lines[name] = line
        entries.append(entry)
    if not entries:
        raise DataError('no examples: expected a line such as {"prompt": "...", "target": "..."}', path=path)
    if renamed:
        missing = ", ".join(sorted(map(shorten, renamed)))
        raise DataError(
            f"no row has the column {missing}, which tasks.{demands.task}.columns names", path=path
        )
    return entries


def read_known(path: Path, demands: Demands) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a file; none where it is a JSONL without records, which ``read_entries`` words better."""
    known = set(vars(demands.columns).values())
    if path.name.lower().endswith(".parquet"):
        found = list_parquet_columns(path)
        for name in (demands.columns.prompt, demands.columns.target):
            if name not in found:
                raise DataError(explain_missing(name, found, demands), path=path)
    try:
        yield from read_rows(path, known)
    except DataError as error:
        if "holds no records" not in str(error):
            raise


def count_repeats(entries: Sequence[Entry]) -> int:
    """How many entries have the prompt and target of an earlier one."""
    return len(entries) - len({entry.content for entry in entries})


def note_repeats(entries: Sequence[Entry], path: Path) -> tuple[str, ...]:
    """A note where examples of a file say the same."""
    repeats = count_repeats(entries)
    counted = f"{repeats} of {len(entries)} examples in {path.name}"
    return (f"{counted} repeat the prompt and target of an earlier one",) if repeats else ()


def build_entry(row: Mapping[str, Any], path: Path, line: int, demands: Demands = PLAIN) -> Entry:
    """One row with what is said of it; ``path`` and ``line`` are where it stands, for errors.

    A day or a licence that cannot be read is a fault only where ``demands`` ask for it.

    Raises: DataError: a required field is missing or empty, or one is of a wrong type; with file and line.
    """
    columns = demands.columns
    texts = {}
    for name in (columns.prompt, columns.target):
        if name not in row:
            raise DataError(explain_missing(name, list(row), demands), path=path, line=line)
        texts[name] = require_text(row, name, path, line)
        if not texts[name].strip():
            raise DataError(f"field {name!r} is empty", path=path, line=line)
    identifier = row.get(columns.id)
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        row = {**row, columns.id: str(identifier)}
    optional = (columns.id, columns.tests, columns.group)
    extras = {name: read_text(row, name, path, line) or None for name in optional}
    for name, value in (texts | extras).items():
        if value is not None and "\0" in value:  # the end of a text to much that is written in C
            raise DataError(f"field {name!r} holds a NUL", path=path, line=line)
    example = Example(
        identifier=extras[columns.id] or f"{path.name}:{line}",
        prompt=texts[columns.prompt],
        target=texts[columns.target],
        tests=extras[columns.tests],
        group=extras[columns.group],
    )
    return Entry(
        example=example,
        line=line,
        date=read_day(row, columns.date, path, line, must=demands.dated),
        license=read_license(row, columns.license, path, line, must=demands.licensed),
    )


def explain_missing(name: str, found: Sequence[str], demands: Demands) -> str:
    """That a column is missing, which there are, and the setting that says what it is called."""
    key = next(key for key, value in vars(demands.columns).items() if value == name)
    choices = describe_fields(found)
    remedy = f"tasks.{demands.task}.columns.{key} says what it is called"
    return f"field {name!r} is missing; found: {choices} ({remedy})"


def read_day(row: Mapping[str, Any], name: str, path: str | Path, line: int, *, must: bool) -> str | None:
    """The ISO day of a date, or of a time that begins with one.

    ``None`` where the field is missing, null or empty, or no day and ``must`` is not set.

    Raises: DataError: the field holds something else; with file and line.
    """
    value = row.get(name)
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if value is None or value == "":
        return None
    with suppress(ValueError):
        if isinstance(value, str):
            return date.fromisoformat(value[:10]).isoformat()
    if not must:
        return None
    expected = "expected a day such as 2024-05-31"
    raise DataError(f"field {name!r}: {expected}, found {shorten(value)}", path=path, line=line)


def read_license(row: Mapping[str, Any], name: str, path: str | Path, line: int, *, must: bool) -> str | None:
    """The licence in a field; of a list of licences, as one under all of them (``MIT AND ISC``).

    A list says which licences were found beside the code, not that one may choose. ``None`` where the field
    is missing, null or empty, or holds something else and ``must`` is not set.

    Raises: DataError: the field holds something else; with file and line.
    """
    value = row.get(name)
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        parts = list(dict.fromkeys(filter(None, value)))
        value = parts[0] if len(parts) == 1 else " AND ".join(f"({p})" if " " in p else p for p in parts)
    if must:
        return read_text({name: value}, name, path, line) or None
    return value if isinstance(value, str) and value and find_half_pair(value) is None else None


def require_text(row: Mapping[str, Any], name: str, path: str | Path, line: int) -> str:
    """The text in field ``name``.

    Raises: DataError: the field is missing, null or not valid text; with file and line.
    """
    if name not in row:
        found = describe_fields(list(row))
        raise DataError(f"field {name!r} is missing; found: {found}", path=path, line=line)
    text = read_text(row, name, path, line)
    if text is None:
        raise DataError(f"field {name!r} is null: expected text", path=path, line=line)
    return text


def describe_fields(found: Sequence[str]) -> str:
    """The names of fields, in order, cut where they are many or long."""
    names = [key if key.isidentifier() and len(key) < 40 else shorten(key) for key in sorted(found)]
    more = f" and {len(names) - MOST_FIELDS_NAMED} more" if len(names) > MOST_FIELDS_NAMED else ""
    return (", ".join(names[:MOST_FIELDS_NAMED]) or "none") + more


def read_text(row: Mapping[str, Any], name: str, path: str | Path, line: int) -> str | None:
    """The text in field ``name``, or ``None`` where it is missing or null.

    Raises: DataError: the value is not text, or not text that UTF-8 can hold; with file and line.
    """
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise DataError(f"field {name!r}: expected text, found {type(value).__name__}", path=path, line=line)
    half = find_half_pair(value)
    if half is not None:
        message = f"field {name!r} holds half a surrogate pair at character {half}"
        raise DataError(message, path=path, line=line)
    return value
