"""One's own task: a JSONL file with ``prompt``, ``target`` and optional ``tests``, ``id`` and ``group``.

What this does not do: split, shuffle or cap (``tasks`` does), or run the tests.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codestrata.errors import DataError
from codestrata.files import read_jsonl
from codestrata.records import Example


def load_examples(path: Path) -> list[Example]:
    """The examples of a JSONL file, in file order.

    ``prompt`` and ``target`` are text and required. ``tests``, ``group`` (text) and ``id`` (text or whole
    number) may be missing or null; an example without ``id`` is called ``<file name>:<line>``. Other fields
    are ignored.

    Raises: DataError: a broken line, a missing, empty or wrong-typed field, a duplicate ``id`` (all with file
        and line), or a file without examples.
    """
    examples: list[Example] = []
    lines: dict[str, int] = {}
    for line, row in read_jsonl(path):
        example = build_table_example(row, path, line)
        if example.identifier in lines:
            first = lines[example.identifier]
            message = f"id {example.identifier!r} was used in line {first} already: ids must differ"
            raise DataError(message, path=path, line=line)
        lines[example.identifier] = line
        examples.append(example)
    if not examples:
        raise DataError('no examples: expected a line such as {"prompt": "...", "target": "..."}', path=path)
    return examples


def build_table_example(row: Mapping[str, Any], path: Path, line: int) -> Example:
    """One row as an example; ``path`` and ``line`` are where it stands, for errors."""
    texts = {name: require_text(row, name, path, line) for name in ("prompt", "target")}
    for name, text in texts.items():
        if not text.strip():
            raise DataError(f"field {name!r} is empty", path=path, line=line)
    identifier = row.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        row = {**row, "id": str(identifier)}
    return Example(
        identifier=read_text(row, "id", path, line) or f"{path.name}:{line}",
        prompt=texts["prompt"],
        target=texts["target"],
        tests=read_text(row, "tests", path, line),
        group=read_text(row, "group", path, line),
    )


def require_text(row: Mapping[str, Any], name: str, path: str | Path, line: int) -> str:
    """The text in field ``name``.

    Raises: DataError: the field is missing, null or not valid text; with file and line.
    """
    if name not in row:
        found = ", ".join(sorted(row)) or "none"
        raise DataError(f"field {name!r} is missing; found: {found}", path=path, line=line)
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
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can escape what UTF-8 cannot hold
        message = f"field {name!r} holds half a surrogate pair at character {error.start}"
        raise DataError(message, path=path, line=line) from error
    return value
