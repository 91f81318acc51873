"""R from anywhere: a JSON or CSV file of scores, or a run's results.

What this does not do: compute anything from R (``analysis.matrix`` and ``analysis.dialects`` do).
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from codestrata.errors import DataError, SettingsError, describe_unknown, shorten
from codestrata.files import read_document, read_json

MISSING = ("", "-", "na", "n/a", "nan", "none", "null")
"""What stands in a CSV cell that was not measured, in any case."""
ROUNDING = 1e-9
Rows = Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMatrix:
    """R with its tasks' names.

    ``scores`` has shape (T + 1, T), row 0 is the base, entries are in [0, 1], NaN where not measured.
    ``origin`` says which of a run's matrices it is; ``structural`` names the metrics that are 0 by
    construction there, ``withheld`` those that have no meaning there, with the reason.
    """

    tasks: tuple[str, ...]
    scores: np.ndarray
    origin: str | None = None
    structural: tuple[str, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixChoice:
    """Which matrix of a run: ``None`` takes the only method, its headline metric, first seed, ``test``.

    ``order`` counts the orders of the tasks from 0; ``None`` takes the first.
    """

    method: str | None = None
    metric: str | None = None
    seed: int | None = None
    split: str | None = None
    order: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was chosen."""
        return self == MatrixChoice()


def read_matrix(path: Path, choice: MatrixChoice | None = None, *, percent: bool = False) -> TaskMatrix:
    """R from a file.

    A ``.json`` file holds rows of numbers (null where not measured), ``{"R": rows, "tasks": names}`` or a
    run's results. Any other file is CSV, separated by commas, semicolons or tabs, with an optional first line
    of task names and an optional first column of labels. T rows of T numbers are R without the base, and rows
    of 1, 2, .. T numbers leave out what is above the diagonal.

    Args:
        path: the file.
        choice: which matrix of a run.
        percent: the numbers are in [0, 100].

    Raises: DataError: the file cannot be read, or holds no matrix of scores. SettingsError: a choice that the
        run does not have, or for a file that is no run's results.
    """
    choice = choice or MatrixChoice()
    is_json = path.suffix.lower() == ".json"
    found = read_json(path, allow_nan=True) if is_json else None
    if isinstance(found, dict) and "methods" in found:
        return choose_matrix(found, choice, path)
    if not choice.is_empty:
        raise SettingsError(
            f"{path} holds one matrix: method, metric, seed, split and order choose from a run's."
        )
    if not is_json:
        return read_table(path, percent=percent)
    names = found.get("tasks") if isinstance(found, dict) else None
    rows = found.get("R") if isinstance(found, dict) else found
    return build_task_matrix(check_rows(rows, path), names, path, percent=percent)


def list_task_orders(results: Mapping[str, Any]) -> list[list[str]]:
    """The orders of the tasks of a run; runs of earlier versions had one."""
    tasks = [entry["name"] for entry in results["tasks"]]
    return [list(order) for order in results.get("orders", [tasks])]


def choose_matrix(results: dict[str, Any], choice: MatrixChoice, path: Path) -> TaskMatrix:
    """One matrix of a run's results.

    Raises: SettingsError: a choice that is not there. DataError: not the results of a run.
    """
    try:
        methods = {entry["name"]: entry for entry in results["methods"]}
        method = choose("method", choice.method, methods, default=None)
        walks = methods[method]["seeds"]
        orders = {str(number): names for number, names in enumerate(list_task_orders(results))}
        order = choose("order", None if choice.order is None else str(choice.order), orders, default="0")
        seeds = {str(entry["seed"]): entry for entry in walks if str(entry.get("order", 0)) == order}
        wanted = None if choice.seed is None else str(choice.seed)
        seed = choose("seed", wanted, seeds, default=next(iter(seeds), None))
        splits = seeds[seed]["R"]
        split = choose("split", choice.split, splits, default="test")
        metric = choose("metric", choice.metric, splits[split], default=results["headline_metric"])
        names = orders[order]
        rows = splits[split][metric]
        summary = seeds[seed]["continual"].get(metric, {}) if split == "test" else {}
        structural = tuple(name for name, entry in summary.items() if entry.get("structural"))
        withheld = {name: entry["reason"] for name, entry in summary.items() if entry.get("reason")}
    except (KeyError, TypeError, AttributeError) as error:
        message = f"not the results of a run: {shorten(error)} where a matrix should be"
        raise DataError(message, path=path) from error
    matrix = build_task_matrix(check_rows(rows, path), names, path, percent=False)
    several = f", order {order}" if len(orders) > 1 else ""
    origin = f"{method}, seed {seed}, {metric}, split {split}{several}"
    return replace(matrix, origin=origin, structural=structural, withheld=withheld)


def choose(kind: str, wanted: str | None, known: Iterable[str], *, default: str | None) -> str:
    """The wanted name, the default, or the only one there is. Raises SettingsError: none of these."""
    names = list(known)
    name = wanted if wanted is not None else names[0] if len(names) == 1 else default
    if name is None:
        raise SettingsError(f"Which {kind}? Choose one with --{kind}: {', '.join(names)}.")
    if name not in names:
        raise SettingsError(describe_unknown(kind, name, names))
    return name


def check_rows(rows: Any, path: Path) -> list[list[float]]:
    """Rows of numbers from JSON, null as NaN. Raises DataError: something else, with its place."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        expected = 'a list of rows, {"R": rows, "tasks": names} or the results of a run'
        raise DataError(f"no matrix: expected {expected}", path=path)
    return [
        [check_entry(entry, f"row {number}, entry {place}", path) for place, entry in enumerate(row, start=1)]
        for number, row in enumerate(rows, start=1)
    ]


def check_entry(entry: Any, place: str, path: Path) -> float:
    """A number, or NaN for null. Raises DataError: something else."""
    if entry is None:
        return math.nan
    if isinstance(entry, bool) or not isinstance(entry, int | float):
        raise DataError(f"{place} is {shorten(entry)}: expected a number or null", path=path)
    return float(entry)


def read_table(path: Path, *, percent: bool) -> TaskMatrix:
    """R from a CSV file. Raises DataError: not readable, or no matrix of scores; with the line if known."""
    text = read_document(path).removeprefix("\ufeff")
    try:
        table = split_cells(text)
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", path=path) from error
    if not table:
        raise DataError("no rows: expected scores separated by commas", path=path)
    names, first = None, table[0][1]
    if any(not is_entry(cell) for cell in first[1:] or first):
        names, table = first, table[1:]
    labelled = has_labels(names, [cells[0] for _, cells in table])
    lines = [line for line, _ in table]
    rows = [
        [parse_entry(cell, path, line) for cell in (cells[1:] if labelled else cells)]
        for line, cells in table
    ]
    width = max((len(row) for row in rows), default=0)
    if names is not None and len(names) == width + 1 and labelled:
        names = names[1:]
    return build_task_matrix(rows, names, path, percent=percent, lines=lines)


def has_labels(names: list[str] | None, column: list[str]) -> bool:
    """Whether a table's first column is text, or has no name, or is a named count from 0 or 1."""
    if any(not is_entry(cell) for cell in column):
        return True
    counts = [[str(number + start) for number in range(len(column))] for start in (0, 1)]
    return names is not None and (names[0] == "" or (len(column) > 1 and column in counts))


def split_cells(text: str) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not empty."""
    start = next((line for line in text.splitlines() if line.strip()), "")
    separator = next((mark for mark in "\t;" if mark in start), ",")
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=separator)
    return [
        (reader.line_num, [cell.strip() for cell in cells])
        for cells in reader
        if cells and (len(cells) > 1 or cells[0].strip())
    ]


def is_entry(cell: str) -> bool:
    """Whether a CSV cell is a number or stands for a missing one."""
    if cell.lower() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def parse_entry(cell: str, path: Path, line: int) -> float:
    """The number in a CSV cell, or NaN. Raises DataError: neither; with file and line."""
    if not is_entry(cell):
        raise DataError(
            f"{shorten(cell)} is no number; an empty cell or nan says not measured", path=path, line=line
        )
    return math.nan if cell.lower() in MISSING else float(cell)


def build_task_matrix(
    rows: Rows, names: Any, path: Path, *, percent: bool, lines: Sequence[int] | None = None
) -> TaskMatrix:
    """R and the tasks' names, checked; ``lines`` are where the rows stand in a file of lines."""
    check_range(rows, path, lines, percent=percent)
    scores = arrange(rows, path, lines) / (100 if percent else 1)
    tasks = scores.shape[1]
    if names is None:
        names = [f"task {number}" for number in range(1, tasks + 1)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"tasks are {shorten(names)}: expected a list of names", path=path)
    if len(names) != tasks:
        named = ", ".join(name if len(name) < 40 else shorten(name) for name in names[:20])
        raise DataError(f"{len(names)} names of tasks for {tasks} columns: {named}", path=path)
    return TaskMatrix(tasks=tuple(names), scores=scores)


def check_range(rows: Rows, path: Path, lines: Sequence[int] | None, *, percent: bool) -> None:
    """Refuse what is no score, and percentages that are not called so (or the other way round)."""
    largest = 100.0 if percent else 1.0
    for number, row in enumerate(rows):
        line = None if lines is None else lines[number]
        for place, entry in enumerate(row, start=1):
            if math.isnan(entry) or -ROUNDING <= entry <= largest + ROUNDING:
                continue
            remedy = f"expected a number from 0 to {largest:g}"
            if not percent and 1 < entry <= 100:
                remedy = "scores are in [0, 1]; if these are percentages, --percent divides them by 100"
            raise DataError(f"row {number + 1}, entry {place} is {entry:g}: {remedy}", path=path, line=line)
    highest = max((entry for row in rows for entry in row if not math.isnan(entry)), default=0.0)
    if percent and 0 < highest <= 1:
        raise DataError(
            f"the highest number is {highest:g}, so these are no percentages: leave --percent away", path=path
        )


def arrange(rows: Rows, path: Path, lines: Sequence[int] | None) -> np.ndarray:
    """Rows as R, shape (T + 1, T): a base row is put before T rows, NaN behind rows of 1, 2, .. T numbers.

    Raises: DataError: rows that are no matrix R.
    """
    lengths = [len(row) for row in rows]
    tasks = max(lengths, default=0)
    base = [[math.nan] * tasks]
    if set(lengths) == {tasks} and tasks and len(rows) in (tasks, tasks + 1):
        return np.array([*(base if len(rows) == tasks else []), *rows], dtype=float)
    triangle = list(range(1, tasks + 1))
    if tasks and lengths in (triangle, [tasks, *triangle]):
        padded = [[*row, *[math.nan] * (tasks - len(row))] for row in rows]
        return np.array([*(base if lengths == triangle else []), *padded], dtype=float)
    odd = next((number for number, length in enumerate(lengths) if length != tasks), None)
    found = f"{len(rows)} rows of {tasks} numbers"
    if odd is not None:
        found = f"row {odd + 1} has {lengths[odd]} numbers, another {tasks}"
    expected = "T rows of T numbers, or T + 1 with the base first, or rows of 1, 2, .. T numbers"
    line = None if lines is None or odd is None else lines[odd]
    raise DataError(f"{found}: expected {expected}", path=path, line=line)
