"""Rows of R without a task label: every prompt is answered by the component that a router picks for it.

After the training through task t the router knows the training prompts of tasks 1..t, and picks among their
components; where it abstains the base answers. Picks of the own component are that component's answers to the
whole split; of others, the examples are decoded by themselves, and once for every component.

What this does not do: know how a router works (``selection`` does), or train.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codestrata.contracts import Component
from codestrata.experiment.archive import Archive, Model, fingerprint_component
from codestrata.experiment.cells import Place, answer_examples, score_task, take_over, write_cells
from codestrata.experiment.rows import evaluate_task, label_walk, list_trained_on
from codestrata.files import hash_json, write_bytes, write_jsonl
from codestrata.lab import Lab, list_splits
from codestrata.methods import Method
from codestrata.records import Cell, Example, Origin, Prediction, SplitName, Task, Training
from codestrata.results.measured import RoutedWalk
from codestrata.selection.choices import Choice, choose_tasks, count_choices
from codestrata.selection.embeddings import embed_prompts
from codestrata.selection.nearest import TaskStatistics, fit_task, measure_mahalanobis, measure_nearest
from codestrata.selection.perplexity import measure_surprise
from codestrata.selection.storing import ROUTER_FILE, pack_router
from codestrata.settings.selection import Router
from codestrata.store import RunDirectory

ROUTERS: tuple[Router, ...] = ("nearest-mean", "mahalanobis", "perplexity")
CHOICES_FILE = "routing.jsonl"
ORACLE_FOLDER = "oracle"

Answers = dict[int, tuple[Prediction, ...]]
"""Position in a split -> all samples of the answer."""


class PromptReader:
    """What routers see of prompts, each computed once for a run: base states, and tasks' statistics.

    ``vectors`` outlives a walk: the base is the same for all methods, seeds and orders.
    """

    def __init__(self, lab: Lab, component: Component, vectors: dict[tuple[str, str], np.ndarray]) -> None:
        self._lab, self._component, self._vectors = lab, component, vectors
        self._statistics: dict[str, TaskStatistics] = {}
        self._surprises: dict[tuple[str, str, str], np.ndarray] = {}

    def fit(self, task: Task) -> TaskStatistics:
        """The statistics of a task's training prompts."""
        if task.name not in self._statistics:
            self._statistics[task.name] = fit_task(self._embed(task, "train", task.train))
        return self._statistics[task.name]

    def measure(self, by: Router, known: Sequence[Task], task: Task, split: SplitName) -> np.ndarray:
        """The energies (prompts, known tasks) of a task's split."""
        examples = list_splits(task)[split]
        if by == "perplexity":
            return np.stack([self._find_surprise(entry, task, split, examples) for entry in known], axis=1)
        states = self._embed(task, split, examples)
        statistics = [self.fit(entry) for entry in known]
        if by == "nearest-mean":
            return measure_nearest(statistics, states)
        return measure_mahalanobis(statistics, states, shrinkage=self._lab.settings.routing.shrinkage)

    def _embed(self, task: Task, part: str, examples: Sequence[Example]) -> np.ndarray:
        if (task.name, part) not in self._vectors:
            self._component.deactivate()
            label = f"the base reads {task.name}, {part}"
            self._vectors[task.name, part] = self._read(embed_prompts, examples, label)
        return self._vectors[task.name, part]

    def _find_surprise(
        self, known: Task, task: Task, split: SplitName, examples: Sequence[Example]
    ) -> np.ndarray:
        key = (known.name, task.name, split)
        if key not in self._surprises:
            self._component.activate(known.name)
            label = f"component {known.name} reads {task.name}, {split}"
            self._surprises[key] = self._read(measure_surprise, examples, label)
            self._component.deactivate()
        return self._surprises[key]

    def _read(self, read: Any, examples: Sequence[Example], label: str) -> np.ndarray:
        lab = self._lab
        lab.progress.start(label, len(examples))
        with lab.journal.clock("routing"):
            found: np.ndarray = read(
                lab.base.model,
                lab.base.tokenizer,
                [example.prompt for example in examples],
                max_prompt_tokens=lab.settings.training.max_prompt_tokens,
                device=lab.base.device,
                report=lab.progress.advance,
            )
        return found


class RoutedRows:
    """The rows of one routed walk, one after another."""

    def __init__(
        self,
        lab: Lab,
        run: RunDirectory,
        archive: Archive,
        method: Method,
        component: Component,
        base_cells: Sequence[Cell],
    ) -> None:
        self._lab, self._run, self._archive = lab, run, archive
        self._method, self._component, self._base_cells = method, component, base_cells
        self._reader = PromptReader(lab, component, archive.vectors)
        self._own: dict[str, list[Cell]] = {}
        self._known: dict[tuple[str, SplitName, str], Answers] = {}
        self._confusions: dict[str, list[list[int]]] = {}
        self._oracle: list[Cell] = list(base_cells)

    def evaluate(self, training: Training) -> list[Cell]:
        """Every task after a training, its answers and choices stored."""
        lab = self._lab
        row = 1 + [task.name for task in lab.tasks].index(training.task)
        known = lab.tasks[:row]
        place = Place(
            row=row,
            through=training.task,
            label=label_walk(lab, self._method, training.seed),
            folder=training.folder,
        )
        self._decode_own(known[-1], training, place)
        cells, chosen = [], []
        for task in lab.tasks:
            for split, examples in list_splits(task).items():
                choices = self._choose(lab.settings.routing.by, known, task, split, place)
                cells.append(self._route(task, split, choices, known, place))
                chosen += [
                    describe_choice(task, split, example, choice, known)
                    for example, choice in zip(examples, choices, strict=True)
                ]
        write_jsonl(self._run.path / place.folder / CHOICES_FILE, chosen)
        if row == len(lab.tasks):
            self._finish(known, place)
        self._component.deactivate()
        return cells

    def describe(self) -> RoutedWalk:
        """What the results tell of the routing, once the last row is there."""
        settings = self._lab.settings.routing
        return RoutedWalk(
            by=settings.by,
            threshold=settings.threshold,
            tasks=tuple(task.name for task in self._lab.tasks),
            confusions={name: tuple(map(tuple, rows)) for name, rows in self._confusions.items()},
            oracle=tuple(self._oracle),
        )

    def _decode_own(self, task: Task, training: Training, place: Place) -> None:
        """The newest task's answers by its own component, and the row of R with the task's label."""
        lab = self._lab
        model = Model(
            base=training.base_fingerprint_after,
            kind=self._component.kind,
            component=fingerprint_component(self._component, task.name),
        )
        own_place = Place(
            row=place.row,
            through=place.through,
            label=f"{place.label}: own",
            folder=f"{place.folder}/{ORACLE_FOLDER}",
        )
        self._component.activate(task.name)
        own = evaluate_task(
            lab,
            self._archive,
            self._method,
            self._component,
            task,
            own_place,
            model,
            (),
            trained_on=list_trained_on(lab, self._method, task),
        )
        self._component.deactivate()
        decoded = [cell for cell in own if cell.has_file]
        if decoded:
            write_cells(self._run.path, decoded)
        self._own[task.name] = own
        for cell in own:
            self._known[task.name, cell.split, task.name] = self._cut_samples(cell.predictions)
        for other in lab.tasks:
            is_known = other.name in self._own
            origin: Origin = "taken-over" if is_known else "structural"
            for cell in self._own[other.name] if is_known else self._list_base(other):
                is_new = other is task
                self._oracle.append(cell if is_new else take_over(cell, place.row, task.name, origin))

    def _list_base(self, task: Task) -> list[Cell]:
        return [cell for cell in self._base_cells if cell.task == task.name]

    def _cut_samples(self, predictions: Sequence[Prediction]) -> Answers:
        count = self._lab.settings.decoding.samples
        return {
            start // count: tuple(predictions[start : start + count])
            for start in range(0, len(predictions), count)
        }

    def _choose(
        self, by: Router, known: Sequence[Task], task: Task, split: SplitName, place: Place
    ) -> tuple[Choice, ...]:
        threshold = self._lab.settings.routing.threshold
        return self._lab.journal.recall(
            f"routing/{place.folder}/{by}/{task.name}/{split}",
            tuple[Choice, ...],
            lambda: tuple(choose_tasks(self._reader.measure(by, known, task, split), threshold)),
        )

    def _route(
        self, task: Task, split: SplitName, choices: Sequence[Choice], known: Sequence[Task], place: Place
    ) -> Cell:
        """The cell of a split, every example answered by whom the router picked."""
        groups: dict[int | None, list[int]] = {}
        for position, choice in enumerate(choices):
            groups.setdefault(choice.task, []).append(position)
        answers: Answers = {}
        for number in sorted(group for group in groups if group is not None):
            self._decode_missing(task, split, known[number], groups[number], place)
            found = self._known[task.name, split, known[number].name]
            answers |= {position: found[position] for position in groups[number]}
        if None in groups:
            (of_base,) = (cell for cell in self._list_base(task) if cell.split == split)
            found = self._cut_samples(of_base.predictions)
            answers |= {position: found[position] for position in groups[None]}
        predictions = tuple(
            prediction for position in range(len(choices)) for prediction in answers[position]
        )
        alike = [*self._own.get(task.name, ()), *self._list_base(task)]
        scores = next(
            (cell.scores for cell in alike if cell.split == split and cell.predictions == predictions), None
        )
        if scores is None:
            unit = f"{place.folder}/{task.name}/{split}"
            scores = score_task(self._lab, predictions, task, unit)
        return Cell(
            row=place.row,
            trained_through=place.through,
            task=task.name,
            split=split,
            origin="routed",
            predictions=predictions,
            scores=scores,
            folder=place.folder,
        )

    def _decode_missing(
        self, task: Task, split: SplitName, chosen: Task, positions: Sequence[int], place: Place
    ) -> None:
        """Have a component answer those examples of a split that it has not answered in an earlier row."""
        lab = self._lab
        found = self._known.setdefault((task.name, split, chosen.name), {})
        missing = [position for position in positions if position not in found]
        if not missing:
            return
        examples = list_splits(task)[split]
        self._component.activate(chosen.name)
        lab.progress.start(
            f"{place.label}: component {chosen.name} on {task.name}",
            len(missing) * lab.settings.decoding.samples,
        )
        predictions = answer_examples(
            lab,
            [examples[position] for position in missing],
            lab.settings.decoding,
            f"{place.folder}/{task.name}/{split}/{chosen.name}-{hash_json(missing)[:16]}",
            compared=self._component if lab.settings.measurement.agreement else None,
            trained_on=list_trained_on(lab, self._method, chosen),
        )
        answers = self._cut_samples(predictions)
        found |= {position: answers[number] for number, position in enumerate(missing)}

    def _finish(self, known: Sequence[Task], place: Place) -> None:
        """Count what every router chooses in the last row, and store what one needs for new prompts."""
        lab = self._lab
        for by in ROUTERS:
            self._confusions[by] = [
                count_choices(self._choose(by, known, task, "test", place), len(known)) for task in lab.tasks
            ]
        if lab.settings.routing.by != "perplexity":
            content = pack_router({task.name: self._reader.fit(task) for task in known})
            write_bytes(self._run.path / place.folder / ROUTER_FILE, content)


def describe_choice(
    task: Task, split: SplitName, example: Example, choice: Choice, known: Sequence[Task]
) -> Mapping[str, Any]:
    """A line of ``routing.jsonl``: who answers an example, and how sure the router is."""
    return {
        "task": task.name,
        "split": split,
        "identifier": example.identifier,
        "chosen": None if choice.task is None else known[choice.task].name,
        "confidence": choice.confidence,
    }
