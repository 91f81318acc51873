"""A row of R: every task after one more training, each cell decoded only where nothing proves its answers.

Isolated components of older tasks are decoded again, or their cells are taken over on the proof that base and
component are the same bytes: ``measurement.recheck`` says which. Any other cell is taken over where the same
bytes answered the same questions before.

What this does not do: train, write, or decode canaries again (``canaries`` does).
"""

from collections.abc import Sequence

from codestrata.contracts import Component
from codestrata.errors import IsolationError
from codestrata.experiment.archive import Address, Archive, Model, fingerprint_component
from codestrata.experiment.canaries import choose_canaries
from codestrata.experiment.cells import Place, decode_task, take_over
from codestrata.lab import Lab, list_splits
from codestrata.methods import Method
from codestrata.records import BORN_LATE, Cell, SplitName, Task, Training
from codestrata.results.rechecks import choose_recheck
from codestrata.store import name_walk

SHARED = "shared"
"""The name of the one component of a method whose tasks share it."""


def name_component(method: Method, task: Task) -> str:
    """What the component that serves a task is called on the base."""
    return task.name if method.is_named_by_task else SHARED


def list_trained_on(lab: Lab, method: Method, task: Task) -> tuple[Task, ...]:
    """The tasks whose examples have gone into a component by the end of its training on ``task``."""
    position = lab.tasks.index(task)
    match method.schedule:
        case "isolated":
            return (task,)
        case "kept":  # its own, and those that made the part it keeps
            return (*lab.tasks[: min(1, position)], task)
        case _:
            return lab.tasks[: position + 1]


def label_walk(lab: Lab, method: Method, seed: int) -> str:
    """How a method with a seed is called while it runs; the order of the tasks too, after the first."""
    told = [f"order {lab.order + 1}"] if lab.order else []
    told += [f"seed {seed}"] if len(lab.settings.seeds) > 1 else []
    return f"{method.name} ({', '.join(told)})" if told else method.name


def evaluate_base(lab: Lab) -> list[Cell]:
    """Row 0 of R: the untouched base on every task."""
    place = Place(row=0, through=None, label="base", folder="base")
    return [cell for task in lab.tasks for cell in decode_task(lab, task, place)]


def evaluate_row(
    lab: Lab,
    archive: Archive,
    method: Method,
    component: Component,
    training: Training,
    cells: Sequence[Cell],
) -> list[Cell]:
    """Every task after a training; ``cells`` are those of the rows before.

    Tasks of the future have no component of their own yet: where every component begins anew, the base's
    cells are taken over; where the next one will begin as a copy of the newest, the newest answers.

    Raises: IsolationError: a component that was not trained since has other bytes than before.
    """
    row = 1 + [task.name for task in lab.tasks].index(training.task)
    place = Place(
        row=row,
        through=training.task,
        label=label_walk(lab, method, training.seed),
        folder=f"methods/{name_walk(method.name, training.seed, lab.order)}/{training.task}",
    )
    models: dict[str, Model] = {}  # a shared component is hashed once, whatever the number of tasks
    row_cells: list[Cell] = []
    for index, task in enumerate(lab.tasks, start=1):
        if method.schedule in BORN_LATE and index > row:
            of_base = [cell for cell in cells if cell.row == 0 and cell.task == task.name]
            row_cells += [take_over(cell, row, training.task, "structural") for cell in of_base]
            continue
        answering = task if index <= row else lab.tasks[row - 1]
        name = name_component(method, answering)
        if name not in models:
            models[name] = Model(
                base=training.base_fingerprint_after,
                kind=component.kind,
                component=fingerprint_component(component, name),
            )
        component.activate(name)
        is_older = method.has_component_per_task and index < row
        earlier = [cell for cell in cells if is_older and cell.row == index and cell.task == task.name]
        # What later trainings change was trained on their tasks too.
        source = answering if method.has_component_per_task else lab.tasks[row - 1]
        trained_on = list_trained_on(lab, method, source)
        row_cells += evaluate_task(
            lab, archive, method, component, task, place, models[name], earlier, trained_on=trained_on
        )
    component.deactivate()
    return row_cells


def evaluate_task(
    lab: Lab,
    archive: Archive,
    method: Method,
    component: Component,
    task: Task,
    place: Place,
    model: Model,
    earlier: Sequence[Cell],
    *,
    trained_on: Sequence[Task],
) -> list[Cell]:
    """A task's cells with the active component; ``earlier`` are those of an own component's training.

    ``trained_on`` are the tasks that the active component was trained on.

    Raises: IsolationError: there are earlier cells, and component or base have other bytes than then.
    """
    recheck = choose_recheck(lab.settings)
    if earlier and earlier[0].component_fingerprint != model.component:
        raise IsolationError(describe_change(method, task, place, model, earlier[0], lab.base.fingerprint))
    if earlier and recheck == "full":
        return decode_task(
            lab, task, place, earlier=earlier, fingerprint=model.component, trained_on=trained_on
        )
    apart: tuple[int, ...] = ()
    if method.has_component_per_task and recheck == "canary":
        apart = choose_canaries(len(task.test), lab.settings.measurement.canary_examples)
    addresses: dict[SplitName, Address] = {
        split: archive.locate(
            model, task, split, apart=len(apart) if split == "test" else 0, trained_on=trained_on
        )
        for split in list_splits(task)
    }
    missing = [split for split, address in addresses.items() if archive.find(address) is None]
    if earlier and missing:
        raise IsolationError(describe_change(method, task, place, model, earlier[0], lab.base.fingerprint))
    if missing:
        for cell in decode_task(
            lab,
            task,
            place,
            component=component,
            splits=missing,
            apart=apart,
            fingerprint=model.component,
            trained_on=trained_on,
        ):
            archive.keep(addresses[cell.split], cell)
    return [
        place_cell(archive.find(address), place, is_new=split in missing)
        for split, address in addresses.items()
    ]


def place_cell(cell: Cell | None, place: Place, *, is_new: bool) -> Cell:
    """A decoded cell where it was decoded, and taken over into any other place."""
    assert cell is not None
    assert place.through is not None
    return cell if is_new else take_over(cell, place.row, place.through, "taken-over")


def describe_change(
    method: Method, task: Task, place: Place, model: Model, first: Cell, base_fingerprint: str
) -> str:
    """That an older task's component or the base is not what answered, and what they were and are."""
    return (
        f"What {method.name!r} answers {task.name!r} with changed until after the training on "
        f"{place.through!r}: when it was decoded, the component's fingerprint was "
        f"{first.component_fingerprint} on the base {base_fingerprint}; now it is {model.component} on "
        f"{model.base}. A component must keep its bytes while others are trained: the run's numbers cannot "
        "be trusted."
    )
