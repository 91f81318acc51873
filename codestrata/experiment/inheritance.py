"""What a run that extends a finished one takes over from it, so that nothing old is done again.

The finished run's trainings, answers and scores become units of the new run's journal, and its components lie
where the new run would have put its own: the walk finds all that it asks for but what the new task adds.

What this does not do: change the run that is extended, or decide which one may be (``extending`` does).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from codestrata.controls import CONTROLS
from codestrata.data.tasks import fingerprint_task
from codestrata.errors import DataError, IsolationError, RunError
from codestrata.experiment.canaries import choose_canaries
from codestrata.experiment.cells import (
    PREDICTIONS_FILE,
    SCORES_FILE,
    keep_answers,
    name_scores,
    read_predictions,
    read_scores,
)
from codestrata.experiment.fairness import UNIT as FAIR_UNIT
from codestrata.experiment.finished import COMPONENT_FILE, FinishedRun, StoredPortion, StoredWalk
from codestrata.experiment.portions import Trial, name_portion, name_trial
from codestrata.experiment.trainings import name_memory_folder, name_training
from codestrata.files import hash_file, read_jsonl, share_file, write_bytes
from codestrata.journal import Journal
from codestrata.lab import Lab
from codestrata.methods import Method
from codestrata.records import Prediction, Score, SplitName, Training
from codestrata.results.rechecks import choose_recheck
from codestrata.store import EVENTS_FILE, RunDirectory, name_walk

SOURCE_UNIT, TAKEN_UNIT = "extension", "inheritance"
FINGERPRINT = re.compile("[0-9a-f]{64}")
CUT_OFF = "What is taken over had not been copied whole. Bring that run back, or extend it again."


@dataclass(frozen=True, kw_only=True)
class Source:
    """The finished run that another one extends; ``path`` is where it was then, ``tasks`` are its own."""

    run: str
    path: str
    results_sha256: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Inheritance:
    """What was taken over.

    ``trainings`` are units of the journal, ``files`` the components' files with their SHA-256. ``seconds`` is
    the wall time of the runs before; ``environment_changed`` names what is not as it was in the last of them.
    """

    source: Source
    trainings: tuple[str, ...]
    predictions: int
    files: Mapping[str, str]
    seconds: float
    environment_changed: tuple[str, ...]


def keep_source(journal: Journal, finished: FinishedRun) -> None:
    """Have a new run know, before anything else, which run it extends."""
    source = Source(
        run=finished.run.name,
        path=str(finished.run.path.resolve()),
        results_sha256=finished.sha256,
        tasks=tuple(task.name for task in finished.results.tasks),
    )
    journal.recall(SOURCE_UNIT, Source, lambda: source)


def check_beginning(finished: FinishedRun, lab: Lab) -> None:
    """Refuse another version, base or data than the finished run's. Raises RunError: naming the first."""
    now = {task.name: fingerprint_task(task) for task in lab.tasks}
    then = finished.results
    packages = then.environment.get("packages")
    written = packages.get("codestrata") if isinstance(packages, dict) else None
    pairs = {
        "version of codestrata": (written, version("codestrata")),
        f"base model {then.base.name}": (then.base.fingerprint, lab.base.fingerprint),
        **{f"data of task {task.name}": (task.fingerprint, now.get(task.name)) for task in then.tasks},
    }
    for subject, (was, found) in pairs.items():
        if was != found:
            raise RunError(
                f"Run {finished.run.name!r} cannot be extended: its {subject} was {was} when it ran and is "
                f"{found} now. Bring it back, or begin a new run over all tasks."
            )


def inherit(
    lab: Lab, run: RunDirectory, methods: Sequence[Method], environment: Mapping[str, Any]
) -> Inheritance | None:
    """What a run takes over from the one that it extends, now or before; ``None`` where it extends none.

    Raises: RunError, DataError: the run that it extends is gone, changed or damaged.
    """
    if not (run.journal_folder / f"{SOURCE_UNIT}.json").exists():
        return None
    source: Source = lab.journal.recall(SOURCE_UNIT, Source, refuse_source, vital=True)
    work = partial(take_over_run, lab, run, source, methods, environment)
    taken: Inheritance = lab.journal.recall(TAKEN_UNIT, Inheritance, work)
    lab.journal.accept(
        taken.trainings,
        f"It was taken over from run {source.run!r}, and is never done again: extend that run anew under "
        "another --name.",
    )
    return taken


def refuse_source() -> Source:
    """Never called: which run is extended is vital."""
    raise AssertionError


def take_over_run(
    lab: Lab, run: RunDirectory, source: Source, methods: Sequence[Method], environment: Mapping[str, Any]
) -> Inheritance:
    """Fill journal and component folders from the run that is extended; what a crash left is done again."""
    finished = open_source(run, source)
    check_beginning(finished, lab)
    stored = finished.results
    write_bytes(run.path / EVENTS_FILE, finished.take(EVENTS_FILE).read_bytes())
    lab.progress.start(f"take over {source.run}", len(methods) + 1)
    if stored.fair is not None:
        lab.journal.recall(FAIR_UNIT, dict[str, Any], partial(give, stored.fair))
    keeper = CellKeeper(lab, finished)
    keeper.keep_untrained()
    trainings, files = list[str](), dict[str, str]()
    losses = read_losses(finished)
    for number, method in enumerate(methods, start=1):
        lab.progress.advance(number, method.name)
        (entry,) = [entry for entry in stored.methods if entry.name == method.name]
        for walk in entry.seeds:
            if method.component is not None:
                files |= take_components(lab, finished, run, method, walk)
                trainings += keep_trainings(lab, method, walk, losses)
            if method.selection == "oracle":  # the answers of others are put together out of several
                keeper.keep_walk(method, walk)
    before = stored.extended_from or {}
    known = stored.environment
    return Inheritance(
        source=source,
        trainings=tuple(trainings),
        predictions=keeper.count,
        files=files,
        seconds=stored.seconds["total"] + float(before.get("seconds", 0.0)),
        environment_changed=tuple(sorted(key for key in environment if environment[key] != known.get(key))),
    )


def open_source(run: RunDirectory, source: Source) -> FinishedRun:
    """The run that is extended, if it is still what it was. Raises RunError: it is not."""
    directory = RunDirectory(Path(source.path))
    if not directory.is_done:
        raise RunError(f"Run {run.name!r} extends {source.run!r}, which is not in {source.path}. {CUT_OFF}")
    finished = FinishedRun(directory)
    if finished.sha256 != source.results_sha256:
        raise RunError(f"Run {run.name!r} extends {source.run!r}, whose results have changed. {CUT_OFF}")
    return finished


def read_losses(finished: FinishedRun) -> dict[str, list[float]]:
    """Fingerprint of a component -> the losses of its training, out of the log; a log may lack some."""
    return {
        row["component_fingerprint"]: row["losses"]
        for _, row in read_jsonl(finished.take(EVENTS_FILE))
        if row.get("event") == "trained" and {"component_fingerprint", "losses"} <= row.keys()
    }


def take_components(
    lab: Lab, finished: FinishedRun, run: RunDirectory, method: Method, walk: StoredWalk
) -> dict[str, str]:
    """Have a walk's components and what its retention remembers; gives the components' files and hashes."""
    files = dict[str, str]()
    names = [task.name for task in finished.results.tasks]
    for name in names:
        folder = f"methods/{name_walk(method.name, walk.seed)}/{name}"
        own = finished.list_component(folder)
        for path in (*own, f"{folder}/{COMPONENT_FILE}"):  # of which the new run will write its own
            share_file(finished.take(path), run.path / path)
        files |= {path: finished.contents[path].sha256 for path in own}
    if method.retention is not None:
        (last,) = [task for task in lab.tasks if task.name == names[-1]]
        target = name_memory_folder(run, method, last, walk.seed)
        for path in list_memory(finished, method, walk.seed):
            share_file(finished.take(path), target / Path(path).name)
    return files


def list_memory(finished: FinishedRun, method: Method, seed: int) -> list[str]:
    """The files of what a method's retention remembers. Raises DataError: the run kept none."""
    memory = finished.run.memory_folder(method.name, seed, finished.results.tasks[-1].name)
    folder = memory.relative_to(finished.run.path).as_posix()
    paths = [path for path in finished.contents if path.rpartition("/")[0] == folder]
    if not paths:
        raise DataError(f"holds nothing that method {method.name!r} remembers of its tasks", path=memory)
    return paths


def keep_trainings(
    lab: Lab, method: Method, walk: StoredWalk, losses: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    """Have the journal know the trainings of a walk; gives their units.

    Raises: RunError: no such record is written by a run.
    """
    known = {task.name for task in lab.tasks}
    for entry in walk.trainings:
        tree = {"losses": losses.get(str(entry.get("component_fingerprint")), ()), **entry}
        training: Training = convert(tree, Training, f"a training of {method.name!r}")
        if training.task not in known:
            raise RunError(f"The results tell of a training of {method.name!r} on no task of the run.")
        unit = name_training(method.name, walk.seed, training.task)
        lab.journal.recall(unit, Training, partial(give, training))
        yield unit


def convert(tree: Mapping[str, Any], kind: Any, what: str) -> Any:
    """A record out of results. Raises RunError: it is of a shape that no run writes."""
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise RunError(f"The results tell of {what} as no run does: {error}.") from error


def give(value: Any) -> Any:
    """The value itself."""
    return value


@dataclass(frozen=True, kw_only=True)
class Place:
    """Whose answers to what; ``apart`` where canaries among them were decoded first, by themselves.

    ``below`` is what the journal's units of their scores are called inside the folder's.
    """

    task: str
    split: SplitName
    fingerprint: str | None = None
    apart: bool = False
    below: str | None = None


class CellKeeper:
    """Has the journal know stored answers and scores, as the walk will ask for them.

    Attributes:
        count: predictions so far.
    """

    def __init__(self, lab: Lab, finished: FinishedRun) -> None:
        self.count = 0
        self._lab, self._finished = lab, finished
        self._tasks = {task.name for task in finished.results.tasks}

    def keep_untrained(self) -> None:
        """The cells of the base, its noise floor, and the scores of the controls."""
        stored = self._finished.results
        self._keep("base", [Place(task=cell.task, split=cell.split) for cell in stored.base.cells])
        for control in CONTROLS:
            cells = next((entry.cells for entry in stored.controls if entry.name == control.name), ())
            self._keep_scores(
                f"controls/{control.name}", [Place(task=cell.task, split=cell.split) for cell in cells]
            )
        for entry in stored.noise_floor.entries:
            if entry.method == "base":
                self._keep(f"noise/base/{entry.task}", [Place(task=entry.task, split="test")])

    def keep_walk(self, method: Method, walk: StoredWalk) -> None:
        """The cells that the walk itself has decoded, of R and of X."""
        own = f"methods/{name_walk(method.name, walk.seed)}"
        has_canaries = method.has_component_per_task and choose_recheck(self._lab.settings) == "canary"
        folders: dict[str, list[Place]] = {}
        for cells, below in ((walk.cells, ""), (walk.transfer.cells, "/transfer")):
            for cell in cells:
                if cell.trained_through in self._tasks and cell.origin in ("decoded", "rechecked"):
                    place = Place(
                        task=cell.task,
                        split=cell.split,
                        fingerprint=cell.component_fingerprint,
                        apart=has_canaries and not below and cell.split == "test",
                    )
                    folders.setdefault(f"{own}/{cell.trained_through}{below}", []).append(place)
        for folder, places in folders.items():
            self._keep(folder, places)
        for portion in walk.sample_efficiency:
            self._keep_portion(method, walk, portion)

    def _keep_portion(self, method: Method, walk: StoredWalk, portion: StoredPortion) -> None:
        """The training on a part of the examples, with what its component answered."""
        cell = portion.cell
        place = Place(task=cell.task, split="test", fingerprint=cell.component_fingerprint, below="test")
        folder = name_portion(method.name, walk.seed, cell.task, portion.fraction)
        ((_, predictions),) = self._keep_scores(folder, [place])
        tree = {**portion.training, "component_fingerprint": cell.component_fingerprint, "predictions": ()}
        trial = replace(convert(tree, Trial, f"a part of {cell.task}"), predictions=predictions)
        self._lab.journal.recall(name_trial(folder), Trial, partial(give, trial))
        self.count += len(predictions)

    def _keep(self, folder: str, places: Sequence[Place]) -> None:
        """The answers and scores of one folder."""
        measurement, samples = self._lab.settings.measurement, self._lab.settings.decoding.samples
        for place, found in self._keep_scores(folder, places):
            apart: tuple[int, ...] = ()
            if place.apart:
                apart = choose_canaries(len(found) // samples, measurement.canary_examples)
            unit = f"{folder}/{place.task}/{place.split}/{place.fingerprint or 'base'}"
            keep_answers(self._lab, found, unit, apart=apart)
            self.count += len(found)

    def _keep_scores(
        self, folder: str, places: Sequence[Place]
    ) -> list[tuple[Place, tuple[Prediction, ...]]]:
        """The scores of one folder; gives the predictions that they are of."""
        if not places:
            return []
        self._finished.take(f"{folder}/{SCORES_FILE}")
        predictions = read_predictions(self._finished.take(f"{folder}/{PREDICTIONS_FILE}").parent)
        scores = read_scores(self._finished.run.path / folder)
        kept = []
        for place in places:
            self._check(folder, place)
            key = (place.task, place.split)
            if not predictions.get(key) or not scores.get(key):
                where = f"{folder} of run {self._finished.run.name!r}"
                raise RunError(f"{where} lacks answers or scores of {place.task}, split {place.split}.")
            unit = name_scores(f"{folder}/{place.below or f'{place.task}/{place.split}'}", predictions[key])
            self._lab.journal.recall(unit, tuple[Score, ...], partial(give, scores[key]))
            kept.append((place, predictions[key]))
        return kept

    def _check(self, folder: str, place: Place) -> None:
        """Refuse what would be no name in the journal. Raises RunError: it comes from no run."""
        is_hash = place.fingerprint is None or FINGERPRINT.fullmatch(place.fingerprint)
        if place.task not in self._tasks or not is_hash:
            raise RunError(f"{self._finished.run.path / folder}: the results tell of what no run has there.")


def confirm(run: RunDirectory, taken: Inheritance) -> dict[str, Any]:
    """What the results say of the run that was extended, once its components are seen to be the same bytes.

    They share their room on the disk with the originals from now on, where these are still there.

    Raises: IsolationError: a component is not what it was; the file is named.
    """
    source = Path(taken.source.path)
    for path, wanted in taken.files.items():
        found = hash_file(run.path / path)
        if found != wanted:
            raise IsolationError(
                f"{run.path / path} was taken over from run {taken.source.run!r} with SHA-256 {wanted}, and "
                f"has {found} now: an old component changed. The run's numbers cannot be trusted."
            )
        original = source / path
        if original.is_file() and hash_file(original) == wanted:
            share_file(original, run.path / path)
    return {
        "run": taken.source.run,
        "results_sha256": taken.source.results_sha256,
        "tasks": list(taken.source.tasks),
        "trainings": len(taken.trainings),
        "predictions": taken.predictions,
        "files": len(taken.files),
        "seconds": taken.seconds,
        "environment_changed": list(taken.environment_changed),
    }
