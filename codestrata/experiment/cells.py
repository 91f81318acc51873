"""Decode and score a task's splits into cells; store predictions and scores, and read predictions again.

What this does not do: decide which tasks are decoded when (``rows`` and ``probes`` do).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from codestrata.contracts import Component
from codestrata.errors import DataError
from codestrata.evaluation import predict, shift_report
from codestrata.files import hash_json, read_jsonl, write_jsonl
from codestrata.lab import Lab, list_splits
from codestrata.metrics.catalogue import score
from codestrata.records import Cell, Example, Origin, Prediction, Score, SplitName, Task
from codestrata.settings.sections import DecodingSettings

PORTION = 512
"""Examples that are decoded before their answers are kept."""
SEED_STRIDE = 1_000_003
"""Between the seeds of portions, an example: samples count their seeds on from their portion's."""
PREDICTIONS_FILE = "predictions.jsonl"
SCORES_FILE = "scores.jsonl"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where cells stand: after how many trainings, the last of them on ``through``; and their folder.

    ``label`` is what the watcher is told; ``folder`` is where the predictions will lie, inside the run.
    """

    row: int
    through: str | None
    label: str
    folder: str


def decode_task(
    lab: Lab,
    task: Task,
    place: Place,
    *,
    component: Component | None = None,
    earlier: Sequence[Cell] = (),
    splits: Sequence[SplitName] = ("test", "unseen"),
    decoding: DecodingSettings | None = None,
    apart: Sequence[int] = (),
    fingerprint: str | None = None,
    trained_on: Sequence[Task] = (),
) -> list[Cell]:
    """Decode and score splits of a task with whatever is active; no split shares a batch with another.

    Args:
        lab: base and tasks.
        task: what is asked.
        place: where the cells stand.
        component: the component that is active, if the base is to rank what it says; else ``None``.
        earlier: cells of the same weights; where the predictions are the same, so are the scores.
        splits: which of the task's splits, as far as it has them.
        decoding: other decoding settings than the run's.
        apart: positions of test examples that are decoded first, in batches of their own.
        fingerprint: the active component's, for the cells to say.
        trained_on: the tasks of whose training text repetitions are noted, those of the active component;
            none where nothing is noted.
    """
    parts = {name: part for name, part in list_splits(task).items() if name in splits}
    settings = decoding or lab.settings.decoding
    asks_base = lab.settings.measurement.agreement and not earlier
    unit = f"{place.folder}/{task.name}"
    lab.progress.start(f"{place.label}: decode {task.name}", sum(map(len, parts.values())) * settings.samples)
    cells: list[Cell] = []
    for split, part in parts.items():
        predictions = answer_examples(
            lab,
            part,
            settings,
            f"{unit}/{split}/{fingerprint or 'base'}",
            apart=apart if split == "test" else (),
            compared=component if asks_base else None,
            trained_on=trained_on,
            done=sum(len(cell.predictions) for cell in cells),
        )
        before = next((cell for cell in earlier if cell.task == task.name and cell.split == split), None)
        identical = None if before is None else equal_answers(before.predictions, predictions)
        if before is not None and identical:
            predictions, scores = before.predictions, before.scores
        else:
            scores = score_task(lab, predictions, task, f"{unit}/{split}")
        cells.append(
            Cell(
                row=place.row,
                trained_through=place.through,
                task=task.name,
                split=split,
                origin="decoded" if before is None else "rechecked",
                predictions=predictions,
                scores=scores,
                folder=place.folder,
                decoded_again=0 if before is None else len(predictions),
                identical=identical,
                component_fingerprint=fingerprint,
            )
        )
    return cells


def answer_examples(
    lab: Lab,
    examples: Sequence[Example],
    settings: DecodingSettings,
    unit: str,
    *,
    apart: Sequence[int] = (),
    compared: Component | None = None,
    trained_on: Sequence[Task] = (),
    done: int = 0,
) -> tuple[Prediction, ...]:
    """Predictions in the examples' order; those at positions ``apart`` are decoded first, by themselves.

    The rest is decoded portion after portion, so that a crash costs no more than the portion under way; where
    decoding samples, each portion draws from another seed. ``unit`` is what the journal calls the answers: it
    names the split and the bytes of the component. ``trained_on`` are tasks as in ``decode_task``. ``done``
    is the number of predictions that the watcher was told of before.
    """
    answers: dict[int, tuple[Prediction, ...]] = {}
    for company in list_companies(len(examples), apart):

        def decode(company: Sequence[int] = company) -> tuple[Prediction, ...]:
            with lab.journal.clock("decoding"):
                found = predict(
                    lab.base,
                    [examples[place] for place in company],
                    replace(settings, seed=settings.seed + SEED_STRIDE * len(answers)),
                    max_prompt_tokens=lab.settings.training.max_prompt_tokens,
                    compared=compared,
                    report=shift_report(lab.progress.advance, done + len(answers) * settings.samples),
                )
            return note_repetition(lab, found, trained_on)

        found = lab.journal.recall(name_answers(unit, len(answers)), tuple[Prediction, ...], decode)
        for number, place in enumerate(company):
            answers[place] = found[number * settings.samples : (number + 1) * settings.samples]
        lab.progress.advance(done + len(answers) * settings.samples)
    return tuple(prediction for place in range(len(examples)) for prediction in answers[place])


def note_repetition(
    lab: Lab, predictions: tuple[Prediction, ...], trained_on: Sequence[Task]
) -> tuple[Prediction, ...]:
    """The predictions, saying whether they and their targets repeat the training text of these tasks.

    As they were where there is no such task, or ``measurement.repetition_tokens`` is off.
    """
    length, stretches = lab.settings.measurement.repetition_tokens, lab.stretches
    if length is None or not trained_on:
        return predictions
    with lab.journal.clock("scoring"):
        return tuple(
            replace(
                prediction,
                repeats=stretches.find_repeats(prediction.completion, trained_on, length),
                target_repeats=stretches.find_repeats(prediction.target, trained_on, length),
            )
            for prediction in predictions
        )


def keep_answers(
    lab: Lab, predictions: Sequence[Prediction], unit: str, *, apart: Sequence[int] = ()
) -> None:
    """Have the journal know answers, as ``answer_examples`` with the same ``unit`` and ``apart`` asks for."""
    samples, done = lab.settings.decoding.samples, 0
    for company in list_companies(len(predictions) // samples, apart):
        answers = tuple(
            predictions[place * samples + sample] for place in company for sample in range(samples)
        )
        lab.journal.recall(name_answers(unit, done), tuple[Prediction, ...], partial(tuple, answers))
        done += len(company)


def name_answers(unit: str, done: int) -> str:
    """What the journal calls the answers to a company of examples; ``done`` came before it."""
    return f"answers/{unit}/{done}"


def list_companies(count: int, apart: Sequence[int]) -> list[Sequence[int]]:
    """Positions of ``count`` examples as they are decoded together, one company after another."""
    rest = [place for place in range(count) if place not in set(apart)]
    return [company for company in (list(apart), *cut_portions(rest)) if company]


def cut_portions(places: Sequence[int]) -> list[Sequence[int]]:
    """The places in portions of about equal size, at most ``PORTION`` each: a function of their number alone.

    >>> [len(portion) for portion in cut_portions(range(1025))]
    [342, 342, 341]
    """
    count = -(-len(places) // PORTION)
    bounds = [-(-number * len(places) // count) for number in range(count + 1)] if count else []
    return [places[first:last] for first, last in pairwise(bounds)]


def equal_answers(first: Sequence[Prediction], second: Sequence[Prediction]) -> bool:
    """Whether every completion is the same; what the base thinks of them is not asked twice."""
    return [(p.identifier, p.completion, p.finished) for p in first] == [
        (p.identifier, p.completion, p.finished) for p in second
    ]


def score_task(lab: Lab, predictions: Sequence[Prediction], task: Task, unit: str) -> tuple[Score, ...]:
    """Every metric over the predictions of a task, on the run's clock.

    ``unit`` is what the journal calls the place.
    """

    def judge() -> tuple[Score, ...]:
        with lab.journal.clock("scoring"):
            return score(predictions, task.language, lab.settings.execution, lab.settings.measurement)

    return lab.journal.recall(name_scores(unit, predictions), tuple[Score, ...], judge)


def name_scores(unit: str, predictions: Sequence[Prediction]) -> str:
    """What the journal calls the scores of predictions at a place."""
    return f"scores/{unit}/{hash_json([asdict(prediction) for prediction in predictions])}"


def take_over(cell: Cell, row: int, through: str, origin: Origin) -> Cell:
    """A cell in a later row with the predictions of an earlier one."""
    return replace(cell, row=row, trained_through=through, origin=origin, decoded_again=0, identical=None)


def forget_recheck(cell: Cell) -> Cell:
    """A cell as if its predictions had just been decoded, to compare others with."""
    return replace(cell, origin="decoded", decoded_again=0, identical=None)


def write_cells(root: Path, cells: Sequence[Cell]) -> None:
    """Store predictions and scores of cells of one folder, one line each, naming task and split."""
    (folder,) = {root / cell.folder for cell in cells}
    write_jsonl(
        folder / PREDICTIONS_FILE,
        (
            {"task": cell.task, "split": cell.split, **describe_prediction(prediction)}
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


def read_scores(folder: Path) -> dict[tuple[str, str], tuple[Score, ...]]:
    """(task, split) -> its scores, in their order, out of a folder that ``write_cells`` wrote.

    Raises: DataError: the file is missing or damaged; with file and line.
    """
    path = folder / SCORES_FILE
    found: dict[tuple[str, str], list[Score]] = {}
    for line, row in read_jsonl(path):
        place = (take(row, "task", path, line), take(row, "split", path, line))
        try:
            found.setdefault(place, []).append(msgspec.convert(row, Score))
        except msgspec.ValidationError as error:
            raise DataError(f"no score: {error}", path=path, line=line) from error
    return {place: tuple(scores) for place, scores in found.items()}


def describe_prediction(prediction: Prediction) -> dict[str, Any]:
    """Every field of a prediction; a ``prelude`` only where there is one, as few have it."""
    row = asdict(prediction)
    return row if prediction.prelude is not None else {k: v for k, v in row.items() if k != "prelude"}


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
    if row.get("prelude") is not None:
        take(row, "prelude", path, line)
    for key in ("repeats", "target_repeats"):
        if row.get(key) is not None and not isinstance(row[key], bool):
            raise DataError(f"{key} is {row[key]!r}: expected true, false or null", path=path, line=line)
    return Prediction(**{key: value for key, value in row.items() if key in known})


def take(row: Mapping[str, Any], key: str, path: Path, line: int) -> str:
    """The text under a key. Raises DataError: it is missing or no text."""
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{key} is {value!r}: expected a text", path=path, line=line)
    return value


def group_by_folder(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """The cells that have a file of their own, folder by folder, in their order."""
    folders: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.has_file:
            folders.setdefault(cell.folder, []).append(cell)
    yield from folders.values()
