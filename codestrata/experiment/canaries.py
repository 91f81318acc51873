"""Canaries: a few examples of every older task that are decoded again once the sequence is over.

A row's last bits may depend on its neighbours in the batch. So the canaries of a split are decoded in batches
of their own the first time too, and the second time repeats exactly that.

What this does not do: compare fingerprints (``rows`` does).
"""

from collections.abc import Sequence
from dataclasses import replace

from codestrata.contracts import Component
from codestrata.experiment.cells import Place, decode_task, forget_recheck, score_task, write_cells
from codestrata.lab import Lab
from codestrata.methods import Method
from codestrata.records import Cell, Prediction, Task
from codestrata.results.measured import Repeat
from codestrata.store import RunDirectory, name_walk


def choose_canaries(count: int, wanted: int) -> tuple[int, ...]:
    """Positions of at most ``wanted`` of ``count`` examples, spread evenly from the first on.

    >>> choose_canaries(10, 4)
    (0, 2, 5, 7)
    """
    kept = min(count, wanted)
    return tuple(place * count // kept for place in range(kept))


def keep_canaries(predictions: Sequence[Prediction], wanted: int, samples: int) -> tuple[Prediction, ...]:
    """The predictions of the canaries among those of a whole split, in their order."""
    positions = choose_canaries(len(predictions) // samples, wanted)
    return tuple(predictions[place * samples + sample] for place in positions for sample in range(samples))


def name_canary_folder(method: str, seed: int, task: str, order: int = 0) -> str:
    """Where the second answers of a task's canaries lie, inside the run."""
    return f"canaries/{name_walk(method, seed, order)}/{task}"


def recheck_canaries(
    lab: Lab,
    run: RunDirectory,
    method: Method,
    component: Component,
    seed: int,
    cells: Sequence[Cell],
    label: str,
) -> tuple[list[Cell], tuple[Repeat, ...]]:
    """The cells of R, the last row's older test cells marked, and what their canaries said twice."""
    marked, repeats = list(cells), []
    for task in lab.tasks[:-1]:
        place = find_place(cells, len(lab.tasks), task.name)
        component.activate(task.name)
        folder = name_canary_folder(method.name, seed, task.name, lab.order)
        repeat = repeat_canaries(lab, task, cells[place], method.name, seed, folder, label)
        write_cells(run.path, [repeat.second])
        marked[place] = mark_canary(cells[place], repeat.second)
        repeats.append(repeat)
    component.deactivate()
    return marked, tuple(repeats)


def find_place(cells: Sequence[Cell], row: int, task: str) -> int:
    """Where among cells the test cell of a task in a row stands."""
    wanted = (row, task, "test")
    return next(place for place, cell in enumerate(cells) if (cell.row, cell.task, cell.split) == wanted)


def mark_canary(cell: Cell, second: Cell) -> Cell:
    """A cell that was taken over, with what its canaries showed."""
    return replace(cell, origin="canary", decoded_again=len(second.predictions), identical=second.identical)


def repeat_canaries(
    lab: Lab, task: Task, cell: Cell, method: str, seed: int, folder: str, label: str
) -> Repeat:
    """The canaries' first answers, out of the cell taken over, and those of the active component now."""
    wanted, samples = lab.settings.measurement.canary_examples, lab.settings.decoding.samples
    kept = keep_canaries(cell.predictions, wanted, samples)
    first = narrow_cell(cell, kept)
    first = replace(first, scores=score_task(lab, kept, task, f"{folder}/{task.name}/first"))
    examples = tuple(task.test[place] for place in choose_canaries(len(task.test), wanted))
    (second,) = decode_task(
        lab,
        replace(task, test=examples),
        Place(row=cell.row, through=cell.trained_through, label=f"{label}, canaries", folder=folder),
        earlier=[first],
        splits=("test",),
        fingerprint=cell.component_fingerprint,
    )
    return Repeat(method=method, seed=seed, first=first, second=second)


def narrow_cell(cell: Cell, predictions: tuple[Prediction, ...]) -> Cell:
    """A cell as it was first decoded, with some of its predictions alone and no scores yet."""
    return replace(forget_recheck(cell), predictions=predictions, scores=())
