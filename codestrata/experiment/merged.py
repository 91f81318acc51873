"""Rows of R of one model for all: after every training the components of all tasks so far are made into one.

The merged component lies beside the task's own, in ``merged/``; it answers every task, those of the future
too. The first is a copy of the first task's own.

What this does not do: know how factors are merged (``merging`` does), or train.
"""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from codestrata.contracts import Component
from codestrata.experiment.archive import Archive, Model, fingerprint_component
from codestrata.experiment.cells import Place
from codestrata.experiment.rows import evaluate_task, label_walk
from codestrata.experiment.trainings import copy_tensors, describe_component
from codestrata.lab import Lab
from codestrata.merging import MERGED, merge_residents
from codestrata.methods import Method
from codestrata.records import Cell, Task, Training
from codestrata.store import RunDirectory

MERGED_FOLDER = MERGED


class MergedRows:
    """The rows of one walk with merged components, one after another."""

    def __init__(
        self, lab: Lab, run: RunDirectory, archive: Archive, method: Method, component: Component
    ) -> None:
        self._lab, self._run, self._archive = lab, run, archive
        self._method, self._component = method, component
        self._merges: list[dict[str, Any]] = []
        self.name = name_merged(lab)

    def evaluate(self, training: Training) -> list[Cell]:
        """Every task after a training, answered by what is merged of all components so far."""
        lab, component = self._lab, self._component
        row = 1 + [task.name for task in lab.tasks].index(training.task)
        known = lab.tasks[:row]
        merge_known(lab, component, known, self.name, seed=training.seed)
        folder = self._run.path / training.folder / MERGED_FOLDER
        self._write(folder, known, training)
        model = Model(
            base=training.base_fingerprint_after,
            kind=component.kind,
            component=fingerprint_component(component, self.name),
        )
        self._merges.append(
            {
                "row": row,
                "folder": folder.relative_to(self._run.path).as_posix(),
                "tasks": [task.name for task in known],
                "component_fingerprint": model.component,
            }
        )
        place = Place(
            row=row,
            through=training.task,
            label=label_walk(lab, self._method, training.seed),
            folder=training.folder,
        )
        component.activate(self.name)
        cells = [
            cell
            for task in lab.tasks
            for cell in evaluate_task(
                lab, self._archive, self._method, component, task, place, model, (), trained_on=known
            )
        ]
        component.deactivate()
        return cells

    def describe(self) -> dict[str, Any]:
        """What the results tell of the merged components."""
        settings = self._lab.settings.merging
        density = None if settings.how == "linear" else settings.density
        return {"how": settings.how, "density": density, "components": self._merges}

    def _write(self, folder: Path, known: Sequence[Task], training: Training) -> None:
        lab = self._lab
        about = describe_component(lab, self._method, known[-1], training.seed)
        about |= {
            "trained_on": self._list_data(known),
            "merged": {**self.describe(), "components": [task.name for task in known]},
        }
        self._component.write(self.name, folder, about)

    def _list_data(self, known: Sequence[Task]) -> dict[str, str]:
        found: dict[str, str] = {}
        for task in known:
            found |= describe_component(self._lab, self._method, task, 0)["trained_on"]
        return found


def name_merged(lab: Lab) -> str:
    """What the merged component is called on the base: a name that no task has."""
    taken = {task.name for task in lab.tasks}
    return next(name for number in count() if (name := f"{MERGED}-{number}") not in taken)


def merge_known(lab: Lab, component: Component, known: Sequence[Task], name: str, *, seed: int) -> None:
    """Make a resident of that name of the residents of these tasks, in the place of the one before."""
    if name in component.names:
        component.detach(name)
    if len(known) == 1:
        component.attach(name, seed=seed)
        copy_tensors(component, known[0].name, name)
        return
    settings = lab.settings
    merge_residents(
        component,
        settings.lora,
        [task.name for task in known],
        kind=settings.merging.how,
        density=settings.merging.density,
        seed=seed,
        target=name,
    )
