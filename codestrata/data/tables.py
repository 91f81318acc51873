"""One's own task: a JSONL file with ``prompt``, ``target`` and optional ``tests``, ``id`` and ``group``.

What this does not do: split, shuffle or cap (``tasks`` does), or run the tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codestrata.errors import DataError, shorten
from codestrata.files import find_half_pair, read_jsonl
from codestrata.records import Example

MOST_FIELDS_NAMED = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An example with its line in a file; ``is_named`` says whether the file gave its identifier."""

    example: Example
    line: int
    is_named: bool

    @property
    def content(self) -> tuple[str, str]:
        """What makes two examples the same to a model: prompt and target."""
        return self.example.prompt, self.example.target


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """A test entry, the first training entry that is the same, and in what they are."""

    train: Entry
    test: Entry
    shared: str


def load_examples(path: Path) -> list[Example]:
    """The examples of a JSONL file, in file order; see ``read_entries``."""
    return [entry.example for entry in read_entries(path)]


def read_entries(path: Path) -> list[Entry]:
    """The examples of a JSONL file with their lines, in file order.

    ``prompt`` and ``target`` are text and required. ``tests``, ``group`` (text) and ``id`` (text or whole
    number) may be missing or null; an example without ``id`` is called ``<file name>:<line>``. Other fields
    are ignored.

    Raises: DataError: a broken line, a missing, empty or wrong-typed field, a duplicate ``id`` (all with file
        and line), or a file without examples.
    """
    entries: list[Entry] = []
    lines: dict[str, int] = {}
    for line, row in read_jsonl(path):
        example = build_table_example(row, path, line)
        if example.identifier in lines:
            first = lines[example.identifier]
            message = f"id {shorten(example.identifier)} was used in line {first} already: ids must differ"
            raise DataError(message, path=path, line=line)
        lines[example.identifier] = line
        entries.append(Entry(example=example, line=line, is_named=row.get("id") not in (None, "")))
    if not entries:
        raise DataError('no examples: expected a line such as {"prompt": "...", "target": "..."}', path=path)
    return entries


def count_repeats(entries: Sequence[Entry]) -> int:
    """How many entries have the prompt and target of an earlier one."""
    return len(entries) - len({entry.content for entry in entries})


def find_overlaps(train: Sequence[Entry], test: Sequence[Entry]) -> list[Overlap]:
    """The test entries that are in ``train`` too: the same prompt and target, or the same stated ``id``."""
    contents = {entry.content: entry for entry in reversed(train)}
    named = {entry.example.identifier: entry for entry in train if entry.is_named}
    overlaps = []
    for entry in test:
        other = contents.get(entry.content)
        if other is not None:
            overlaps.append(Overlap(train=other, test=entry, shared="prompt and target"))
        elif entry.is_named and entry.example.identifier in named:
            other = named[entry.example.identifier]
            shared = f"id {shorten(entry.example.identifier)}"
            overlaps.append(Overlap(train=other, test=entry, shared=shared))
    return overlaps


def build_table_example(row: Mapping[str, Any], path: Path, line: int) -> Example:
    """One row as an example; ``path`` and ``line`` are where it stands, for errors."""
    texts = {name: require_text(row, name, path, line) for name in ("prompt", "target")}
    for name, text in texts.items():
        if not text.strip():
            raise DataError(f"field {name!r} is empty", path=path, line=line)
    identifier = row.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        row = {**row, "id": str(identifier)}
    extras = {name: read_text(row, name, path, line) for name in ("id", "tests", "group")}
    for name, value in (texts | extras).items():
        if value is not None and "\0" in value:  # the end of a text to much that is written in C
            raise DataError(f"field {name!r} holds a NUL", path=path, line=line)
    return Example(
        identifier=extras["id"] or f"{path.name}:{line}",
        prompt=texts["prompt"],
        target=texts["target"],
        tests=extras["tests"],
        group=extras["group"],
    )


def require_text(row: Mapping[str, Any], name: str, path: str | Path, line: int) -> str:
    """The text in field ``name``.

    Raises: DataError: the field is missing, null or not valid text; with file and line.
    """
    if name not in row:
        names = [key if key.isidentifier() and len(key) < 40 else shorten(key) for key in sorted(row)]
        found = ", ".join(names[:MOST_FIELDS_NAMED]) or "none"
        more = f" and {len(names) - MOST_FIELDS_NAMED} more" if len(names) > MOST_FIELDS_NAMED else ""
        raise DataError(f"field {name!r} is missing; found: {found}{more}", path=path, line=line)
    text = read_text(row, name, path, line)
    if text is None:
        raise DataError(f"field {name!r} is null: expected text", path=path, line=line)
    return text


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
