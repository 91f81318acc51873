"""What is measured beside R: controls without a model, components on foreign tasks, and the noise floor.

What this does not do: train, or judge what the numbers mean (``results.verdicts`` does).
"""

from collections.abc import Sequence
from dataclasses import replace

from codestrata.contracts import Component
from codestrata.controls import CONTROLS, predict_control
from codestrata.experiment.archive import fingerprint_component
from codestrata.experiment.cells import Place, decode_task, forget_recheck, score_task, write_cells
from codestrata.lab import Lab, list_splits
from codestrata.records import Cell
from codestrata.results.measured import Control, Repeat
from codestrata.settings.sections import DecodingSettings
from codestrata.store import RunDirectory, name_walk


def measure_controls(lab: Lab, run: RunDirectory) -> tuple[Control, ...]:
    """Every control's answers to every task, scored and stored."""
    lab.progress.start("controls", len(CONTROLS) * len(lab.tasks))
    found: list[Control] = []
    for control in CONTROLS:
        cells: list[Cell] = []
        for task in lab.tasks:
            for split, examples in list_splits(task).items():
                predictions = predict_control(control, task.train, examples, lab.settings.decoding.samples)
                cells.append(
                    Cell(
                        row=0,
                        trained_through=None,
                        task=task.name,
                        split=split,
                        origin="control",
                        predictions=predictions,
                        scores=score_task(
                            lab, predictions, task, f"controls/{control.name}/{task.name}/{split}"
                        ),
                        folder=f"controls/{control.name}",
                    )
                )
            lab.progress.advance(len(found) * len(lab.tasks) + len({cell.task for cell in cells}))
        write_cells(run.path, cells)
        found.append(
            Control(name=control.name, about=control.about, source=control.source, cells=tuple(cells))
        )
    return tuple(found)


def measure_transfer(
    lab: Lab, run: RunDirectory, component: Component, *, method: str, seed: int, label: str
) -> tuple[Cell, ...]:
    """Every task's own component on every other task's test split: what R cannot show."""
    cells: list[Cell] = []
    for row, owner in enumerate(lab.tasks, start=1):
        component.activate(owner.name)
        fingerprint = fingerprint_component(component, owner.name)
        place = Place(
            row=row,
            through=owner.name,
            label=f"{label}: component {owner.name}",
            folder=f"methods/{name_walk(method, seed, lab.order)}/{owner.name}/transfer",
        )
        of_owner = [
            cell
            for task in lab.tasks
            if task.name != owner.name
            for cell in decode_task(
                lab,
                task,
                place,
                splits=("test",),
                fingerprint=fingerprint,
            )
        ]
        if of_owner:
            write_cells(run.path, of_owner)
        cells += of_owner
    component.deactivate()
    return tuple(cells)


def repeat_decoding(
    lab: Lab, run: RunDirectory, cells: Sequence[Cell], *, method: str, seed: int | None, label: str
) -> tuple[Repeat, ...]:
    """The test cells of one model state decoded again; it is active, and sampling draws from another seed."""
    tasks = {task.name: task for task in lab.tasks}
    repeats = []
    for first in cells:
        if first.split != "test":
            continue
        of_seed = "" if seed is None else f"/seed-{seed}"
        (second,) = decode_task(
            lab,
            tasks[first.task],
            Place(
                row=first.row,
                through=first.trained_through,
                label=f"{label}, once more",
                folder=f"noise/{method}{of_seed}/{first.task}",
            ),
            earlier=[first],
            splits=("test",),
            decoding=shift_seed(lab.settings.decoding),
            fingerprint=first.component_fingerprint,
        )
        write_cells(run.path, [second])
        repeats.append(Repeat(method=method, seed=seed, first=forget_recheck(first), second=second))
    return tuple(repeats)


def shift_seed(decoding: DecodingSettings) -> DecodingSettings:
    """The same decoding with draws that no sample of the first decoding used."""
    return replace(decoding, seed=decoding.seed + decoding.samples)
