"""A task's examples in a file of a run, so that the run can go on though what they were made of has changed.

The first line says what the task is, every other line is one example with its split.

What this does not do: decide which tasks are kept so (``lab`` does), or check the examples' fingerprint.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from codestrata.errors import DataError, shorten
from codestrata.files import read_jsonl, write_jsonl
from codestrata.records import Example, Task

SPLITS = ("train", "validation", "test", "unseen")


def write_task(path: Path, task: Task) -> None:
    """Put the task's file at ``path`` in one step. Raises: StorageError: it cannot be written."""
    fields: dict[str, Any] = msgspec.to_builtins(task)
    splits = {name: fields.pop(name) for name in SPLITS}
    write_jsonl(path, [fields, *({"split": name, **row} for name in SPLITS for row in splits[name])])


def read_task(path: Path) -> Task:
    """The task that ``write_task`` was given.

    Raises: DataError: a line that is no example (with file and line), or a file that holds no task.
    """
    rows = read_jsonl(path)
    number, about = next(rows, (1, None))
    if about is None:
        raise DataError("the file holds no task", path=path)
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    for line, row in rows:
        name = row.pop("split", None)
        if not isinstance(name, str) or name not in splits:
            raise DataError(f"split is {shorten(name)}: expected {', '.join(SPLITS)}", path=path, line=line)
        splits[name].append(convert(row, Example, path, line))
    whole: Task = convert({**about, **dict.fromkeys(SPLITS, ())}, Task, path, number)
    train, validation, test, unseen = (tuple(splits[name]) for name in SPLITS)
    return replace(whole, train=train, validation=validation, test=test, unseen=unseen)


def convert(row: dict[str, Any], kind: Any, path: Path, line: int) -> Any:
    """The row as a ``kind``. Raises: DataError: it is none; with file and line."""
    try:
        return msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        raise DataError(f"is no {kind.__name__.lower()}: {error}", path=path, line=line) from error
