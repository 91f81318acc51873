"""Decode and score a task's splits into cells; store predictions and scores, and read predictions again.

What this does not do: decide which tasks are decoded when (``walk`` and ``probes`` do).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from codestrata.contracts import Component
from codestrata.errors import DataError
from codestrata.evaluation import predict
from codestrata.files import read_jsonl, write_jsonl
from codestrata.lab import Lab, list_splits
from codestrata.metrics.catalogue import score
from codestrata.records import Cell, Origin, Prediction, Score, SplitName, Task
from codestrata.settings import DecodingSettings

PREDICTIONS_FILE = "predictions.jsonl"
SCORES_FILE = "scores.jsonl"


def decode_task(
    lab: Lab,
    task: Task,
    *,
    row: int,
    through: str | None,
    label: str,
    folder: str,
    component: Component | None = None,
    earlier: Sequence[Cell] = (),
    splits: Sequence[SplitName] = ("test", "unseen"),
    decoding: DecodingSettings | None = None,
) -> list[Cell]:
    """Decode and score splits of a task with whatever is active.

    Args:
        lab: base and tasks.
        task: what is asked.
        row: trainings so far.
        through: the task trained on last.
        label: what the watcher is told.
        folder: where the predictions will lie, inside the run.
        component: the component that is active; ``None`` for the bare base.
        earlier: cells of the same weights; where the predictions are the same, so are the scores.
        splits: which of the task's splits, as far as it has them.
        decoding: other decoding settings than the run's.
    """
    parts = {name: part for name, part in list_splits(task).items() if name in splits}
    examples = [example for part in parts.values() for example in part]
    settings = decoding or lab.settings.decoding
    asks_base = lab.settings.measurement.agreement and not earlier
    lab.progress.start(f"{label}: decode {task.name}", len(examples) * settings.samples)
    with lab.clock("decoding"):
        predictions = predict(
            lab.base,
            examples,
            settings,
            max_prompt_tokens=lab.settings.training.max_prompt_tokens,
            compared=component if asks_base else None,
            report=lab.progress.advance,
        )
    cells, start = [], 0
    for split, part in parts.items():
        size = len(part) * settings.samples
        chosen, start = predictions[start : start + size], start + size
        before = next((cell for cell in earlier if cell.task == task.name and cell.split == split), None)
        origin: Origin = "decoded" if before is None else "rechecked"
        identical = None if before is None else equal_answers(before.predictions, chosen)
        if before is not None and identical:
            chosen, scores = before.predictions, before.scores
        else:
            scores = score_task(lab, chosen, task)
        cells.append(
            Cell(
                row=row,
                trained_through=through,
                task=task.name,
                split=split,
                origin=origin,
                predictions=chosen,
                scores=scores,
                folder=folder,
                identical=identical,
            )
        )
    return cells


def equal_answers(first: Sequence[Prediction], second: Sequence[Prediction]) -> bool:
    """Whether every completion is the same; what the base thinks of them is not asked twice."""
    return [(p.identifier, p.completion, p.finished) for p in first] == [
        (p.identifier, p.completion, p.finished) for p in second
    ]


def score_task(lab: Lab, predictions: Sequence[Prediction], task: Task) -> tuple[Score, ...]:
    """Every metric over the predictions of a task, on the run's clock."""
    with lab.clock("scoring"):
        return score(predictions, task.language, lab.settings.execution, lab.settings.measurement)


def take_over(cell: Cell, row: int, through: str) -> Cell:
    """A cell that follows from the schedule: the same predictions in a later row."""
    return replace(cell, row=row, trained_through=through, origin="structural", identical=None)


def write_cells(root: Path, cells: Sequence[Cell]) -> None:
    """Store predictions and scores of cells of one folder, one line each, naming task and split."""
    (folder,) = {root / cell.folder for cell in cells}
    write_jsonl(
        folder / PREDICTIONS_FILE,
        (
            {"task": cell.task, "split": cell.split, **asdict(prediction)}
            for cell in cells
            for prediction in cell.predictions
        ),
    )
    write_scores(root, cells)


def write_scores(root: Path, cells: Sequence[Cell]) -> None:
    """Store the scores of cells of one folder, one line each, naming task and split."""
    (folder,) = {root / cell.folder for cell in cells}
    write_jsonl(
        folder / SCORES_FILE,
        (
            {"task": cell.task, "split": cell.split, **asdict(found)}
            for cell in cells
            for found in cell.scores
        ),
    )


def read_predictions(folder: Path) -> dict[tuple[str, str], tuple[Prediction, ...]]:
    """(task, split) -> its predictions, in their order, out of a folder that ``write_cells`` wrote.

    Raises: DataError: the file is missing or damaged; with file and line.
    """
    path = folder / PREDICTIONS_FILE
    found: dict[tuple[str, str], list[Prediction]] = {}
    for line, row in read_jsonl(path):
        place = (take(row, "task", path, line), take(row, "split", path, line))
        found.setdefault(place, []).append(build_prediction(row, path, line))
    return {place: tuple(predictions) for place, predictions in found.items()}


def build_prediction(row: Mapping[str, Any], path: Path, line: int) -> Prediction:
    """The prediction in one line. Raises DataError: a field is missing, unknown or of a wrong type."""
    for key in ("identifier", "prompt", "target", "completion"):
        take(row, key, path, line)
    known = {entry.name for entry in fields(Prediction)}
    unknown = sorted(set(row) - known - {"task", "split"})
    if unknown:
        raise DataError(f"unknown field {unknown[0]!r} in a prediction", path=path, line=line)
    for key in ("tokens", "sample", "agreed", "shifted"):
        if row.get(key) is not None and (not isinstance(row[key], int) or isinstance(row[key], bool)):
            raise DataError(f"{key} is {row[key]!r}: expected a whole number", path=path, line=line)
    return Prediction(**{key: value for key, value in row.items() if key in known})


def take(row: Mapping[str, Any], key: str, path: Path, line: int) -> str:
    """The text under a key. Raises DataError: it is missing or no text."""
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{key} is {value!r}: expected a text", path=path, line=line)
    return value


def group_by_folder(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """The cells that were decoded, folder by folder, in their order; those taken over have no file."""
    folders: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.origin != "structural":
            folders.setdefault(cell.folder, []).append(cell)
    yield from folders.values()
