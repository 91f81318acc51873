"""A finished run's results once more, from its stored predictions alone: no model is loaded.

What this does not do: decode, or look at the components' files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from codestrata.errors import DataError, RunError, SettingsError
from codestrata.experiment.canaries import (
    keep_canaries,
    mark_canary,
    name_canary_folder,
    narrow_cell,
)
from codestrata.experiment.cells import (
    PREDICTIONS_FILE,
    equal_answers,
    group_by_folder,
    read_predictions,
    write_scores,
)
from codestrata.experiment.walk import describe_execution
from codestrata.languages.isolation import find_unconfined
from codestrata.metrics.catalogue import list_metrics, score
from codestrata.progress import Progress, Silence
from codestrata.records import Cell, Prediction, Score
from codestrata.report.markdown import render_analysis
from codestrata.report.pointers import build_pointer, read_pointer
from codestrata.report.tables import check_version
from codestrata.results.measured import Control, Measured, MethodWalks, Portion, Repeat, RoutedWalk, Walk
from codestrata.results.tree import describe_run
from codestrata.settings.tree import Settings, build_settings
from codestrata.store import RunDirectory

TOLERANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Change:
    """A place in the results whose content came out different; ``None`` also where there is nothing."""

    pointer: str
    stored: Any
    computed: Any


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """The results computed anew, how many of their entries were compared, and the ones that differ."""

    results: Mapping[str, Any]
    cells: tuple[Cell, ...]
    compared: int
    changes: tuple[Change, ...]


def rescore_run(
    run: RunDirectory, progress: Progress | None = None, *, allow_unconfined: bool = False
) -> Rescored:
    """Every score, interval and verdict of a finished run, computed from its predictions; nothing is written.

    Raises:
        RunError: the run is not complete, or another version of codestrata wrote its results.
        SettingsError: its programs would run with nothing to confine them, as the run's settings consent to,
            and ``allow_unconfined`` is not given: the run may be another person's.
        DataError: predictions are missing or damaged; with file and line.
    """
    stored = run.read_results()
    check_version(stored)
    if not allow_unconfined:
        check_consent(stored)
    reader = CellReader(run.path, stored, progress or Silence())
    measured = build_measured(run, stored, reader)
    results = {
        **describe_run(measured),
        "environment": stored["environment"],
        "sessions": stored["sessions"],
        "extended_from": stored["extended_from"],
        "seconds": stored["seconds"],
    }
    pairs = list(pair_entries(stored, results))
    return Rescored(
        results=results,
        cells=tuple(cell for cell in reader.found.values() if cell.has_file),
        compared=len(pairs),
        changes=tuple(change for change in pairs if differs(change.stored, change.computed)),
    )


def check_consent(stored: Mapping[str, Any]) -> None:
    """Refuse to take the consent in a run's own settings for the user's. Raises SettingsError: as it says."""
    settings = build_settings(stored["settings"]).execution
    languages = [task["language"] for task in stored["tasks"]]
    language = find_unconfined(languages, settings.isolation, settings.allow_unconfined)
    if language is not None:
        raise SettingsError(
            f"Nothing would confine the {language} programs in this run's predictions here, and only the "
            "run's own settings consent to that: look at them, then consent yourself with --allow-unconfined."
        )


def store_rescored(run: RunDirectory, rescored: Rescored) -> None:
    """Replace the run's scores, results and analysis by the ones computed anew: all of them or none.

    Raises:
        RunError: a stored number cannot be computed here, another process works on the run, or its
            checksums are damaged; nothing was written.
        StorageError: they cannot be written.
    """
    harmed = [fault for fault in run.check_files() if Path(fault.path).name == PREDICTIONS_FILE]
    if harmed:
        raise DataError(
            f"is {harmed[0].kind} since the run was finished: what follows from it would replace what the "
            "run found. Nothing was written; 'codestrata verify' says what else is not as it was.",
            path=run.path / harmed[0].path,
        )
    lost = [change for change in rescored.changes if is_lost_score(change)]
    if lost:
        place = lost[0].pointer.removesuffix("/value")
        reason = read_pointer(rescored.results, place)["reason"]
        raise RunError(
            f"{len(lost)} stored scores of run {run.name!r} cannot be computed here, such as {place} "
            f"({reason}). Nothing was written."
        )
    with run.hold(), run.rewriting() as folder:
        fresh = RunDirectory(folder)
        for cells in group_by_folder(rescored.cells):
            fresh.inside(folder / cells[0].folder)
            write_scores(folder, cells)
        fresh.write_results(rescored.results, render_analysis(rescored.results))


class CellReader:
    """Reads described cells with their predictions and scores them; equal predictions are scored once."""

    def __init__(self, root: Path, stored: Mapping[str, Any], progress: Progress) -> None:
        self.found: dict[tuple[str, str, str], Cell] = {}
        self._read = 0
        self._root = root
        self._settings = build_settings(stored["settings"])
        self._languages = {task["name"]: task["language"] for task in stored["tasks"]}
        self._files: dict[str, dict[tuple[str, str], tuple[Prediction, ...]]] = {}
        self._scores: dict[tuple[str, tuple[Prediction, ...]], tuple[Score, ...]] = {}
        self._progress = progress
        progress.start("score stored predictions", count_cells(stored))

    @property
    def settings(self) -> Settings:
        """The run's settings."""
        return self._settings

    def build(self, described: Mapping[str, Any]) -> Cell:
        """The cell that results describe, with its predictions and their scores."""
        folder, task, split = described["folder"], described["task"], described["split"]
        if folder not in self._files:
            file = RunDirectory(self._root).inside(self._root / folder / PREDICTIONS_FILE)
            self._files[folder] = read_predictions(file.parent)
        predictions = self._files[folder].get((task, split))
        if not predictions:
            raise RunError(f"{self._root / folder} holds no predictions of {task}, split {split}.")
        cell = Cell(
            row=described["row"],
            trained_through=described["trained_through"],
            task=task,
            split=split,
            origin=described["origin"],
            predictions=predictions,
            scores=self.score(task, predictions),
            folder=folder,
            component_fingerprint=described["component_fingerprint"],
        )
        owner = self.found.setdefault((folder, task, split), cell)  # one file's cell stands in many places
        self._read += 1
        self._progress.advance(self._read)
        if cell.origin in ("taken-over", "canary"):  # on the proof that the bytes are those of its owner
            return replace(cell, component_fingerprint=owner.component_fingerprint)
        return cell

    def score(self, task: str, predictions: tuple[Prediction, ...]) -> tuple[Score, ...]:
        """Every metric over predictions of a task; what was scored before is not scored again."""
        key = (task, predictions)
        if key not in self._scores:
            self._scores[key] = score(
                predictions, self._languages[task], self._settings.execution, self._settings.measurement
            )
        return self._scores[key]

    def build_all(self, described: Sequence[Mapping[str, Any]]) -> tuple[Cell, ...]:
        """All cells of a list; whether rechecked ones are the same as before is looked at again."""
        cells: list[Cell] = []
        for entry in described:
            cell = self.build(entry)
            if cell.origin == "rechecked":
                own = [
                    old
                    for old in cells
                    if (old.task, old.split, old.row > 0, old.trained_through)
                    == (cell.task, cell.split, True, cell.task)
                ]
                if not own:
                    raise RunError(f"The results tell of {cell.task} again, but not of the first time.")
                cell = build_second(own[0], cell)
            cells.append(cell)
        return tuple(cells)

    def build_walk(
        self, described: Sequence[Mapping[str, Any]], method: str, seed: int, order: int
    ) -> tuple[Cell, ...]:
        """The cells of R of one walk; what their canaries said is looked at again."""
        return tuple(
            mark_canary(cell, self._build_canaries(cell, method, seed, order))
            if cell.origin == "canary"
            else cell
            for cell in self.build_all(described)
        )

    def _build_canaries(self, cell: Cell, method: str, seed: int, order: int) -> Cell:
        """The second answers of a cell's canaries, compared to the first."""
        place = {"row": cell.row, "trained_through": cell.trained_through}
        place |= {"task": cell.task, "split": cell.split, "origin": "rechecked"}
        place |= {"folder": name_canary_folder(method, seed, cell.task, order)}
        second = self.build({**place, "component_fingerprint": cell.component_fingerprint})
        return build_second(self.narrow(cell), second)

    def narrow(self, cell: Cell) -> Cell:
        """A cell with the predictions of its canaries alone, scored."""
        wanted, samples = self._settings.measurement.canary_examples, self._settings.decoding.samples
        kept = keep_canaries(cell.predictions, wanted, samples)
        return replace(narrow_cell(cell, kept), scores=self.score(cell.task, kept))


def count_cells(stored: Mapping[str, Any]) -> int:
    """How many cells the results describe."""
    seeds = [entry for method in stored["methods"] for entry in method["seeds"]]
    return (
        len(stored["base"]["cells"])
        + sum(len(control["cells"]) for control in stored["controls"])
        + sum(len(entry["cells"]) + len(entry["transfer"]["cells"]) for entry in seeds)
        + sum(len(entry["sample_efficiency"]) for entry in seeds)
        + sum(len(entry["routing"]["oracle"]["cells"]) for entry in seeds if entry["routing"])
        + len([cell for entry in seeds for cell in entry["cells"] if cell["origin"] == "canary"])
        + 2 * len(stored["noise_floor"]["entries"])
    )


def build_measured(run: RunDirectory, stored: Mapping[str, Any], reader: CellReader) -> Measured:
    """What the run measured, its cells scored anew."""
    return Measured(
        run=stored["run"],
        settings=reader.settings,
        base={key: value for key, value in stored["base"].items() if key != "cells"},
        base_cells=reader.build_all(stored["base"]["cells"]),
        tasks=tuple(stored["tasks"]),
        metrics=list_metrics(reader.settings.measurement),
        execution=describe_execution(
            [task["language"] for task in stored["tasks"]], reader.settings.execution
        ),
        controls=tuple(
            Control(**{**control, "cells": reader.build_all(control["cells"])})
            for control in stored["controls"]
        ),
        methods=tuple(build_walks(method, reader) for method in stored["methods"]),
        repeats=tuple(build_repeat(entry, reader) for entry in stored["noise_floor"]["entries"]),
        fair=stored["fair"],
        shared_examples=tuple(stored["shared_examples"]),
    )


def build_repeat(entry: Mapping[str, Any], reader: CellReader) -> Repeat:
    """A pair of evaluations of the same weights; where the second is of canaries, so is the first."""
    first, second = reader.build(entry["first"]), reader.build(entry["second"])
    if len(second.predictions) < len(first.predictions):
        first = reader.narrow(first)
    return Repeat(method=entry["method"], seed=entry["seed"], first=first, second=build_second(first, second))


def build_second(first: Cell, second: Cell) -> Cell:
    """The second evaluation of the same weights, compared to the first again."""
    return replace(
        second,
        decoded_again=len(second.predictions),
        identical=equal_answers(first.predictions, second.predictions),
    )


MEASURED_KEYS = ("final", "unfinished", "continual", "orders", "intransigence", "expert_gap", "seeds")
"""What the results of a method hold beside its row of the table of methods."""


def build_walks(method: Mapping[str, Any], reader: CellReader) -> MethodWalks:
    """A method and its walks, their cells scored anew."""
    about = {key: value for key, value in method.items() if key not in MEASURED_KEYS}
    return MethodWalks(
        method=about,
        walks=tuple(
            Walk(
                seed=entry["seed"],
                order=entry["order"],
                trainings=tuple(entry["trainings"]),
                cells=reader.build_walk(entry["cells"], method["name"], entry["seed"], entry["order"]),
                transfer=None
                if entry["transfer"]["X"] is None
                else reader.build_all(entry["transfer"]["cells"]),
                swap=entry["swap"],
                curve=tuple(
                    Portion(**{**portion, "cell": reader.build(portion["cell"])})
                    for portion in entry["sample_efficiency"]
                ),
                routing=None if entry["routing"] is None else build_routing(entry["routing"], reader),
                merging=entry["merging"],
            )
            for entry in method["seeds"]
        ),
    )


def build_routing(routed: Mapping[str, Any], reader: CellReader) -> RoutedWalk:
    """What routers chose in a walk; the cells with the task's label are scored anew."""
    return RoutedWalk(
        by=routed["by"],
        threshold=routed["threshold"],
        tasks=tuple(routed["tasks"]),
        confusions={
            name: tuple(map(tuple, router["confusion"])) for name, router in routed["routers"].items()
        },
        oracle=reader.build_all(routed["oracle"]["cells"]),
    )


def pair_entries(stored: Any, computed: Any, pointer: str = "") -> Iterator[Change]:
    """Every leaf of both trees with its JSON pointer; machine and times are not computed anew."""
    if isinstance(stored, Mapping) or isinstance(computed, Mapping):
        before, after = (tree if isinstance(tree, Mapping) else {} for tree in (stored, computed))
        for key in dict.fromkeys((*before, *after)):
            yield from pair_entries(before.get(key), after.get(key), pointer + build_pointer(key))
    elif isinstance(stored, list | tuple) or isinstance(computed, list | tuple):
        old, new = (tree if isinstance(tree, list | tuple) else () for tree in (stored, computed))
        for place, (first, second) in enumerate(zip_longest(old, new)):
            yield from pair_entries(first, second, pointer + build_pointer(place))
    else:
        yield Change(pointer=pointer, stored=stored, computed=computed)


def differs(stored: Any, computed: Any) -> bool:
    """Whether two leaves are not the same; numbers may differ by rounding."""
    if isinstance(stored, float | int) and isinstance(computed, float | int):
        return abs(stored - computed) > TOLERANCE
    return bool(stored != computed)


def is_lost_score(change: Change) -> bool:
    """Whether a score was stored that cannot be computed here."""
    parts = change.pointer.split("/")
    return parts[-1] == "value" and "scores" in parts and change.computed is None
