"""The orders of a run's tasks: a lab for each, and walks that a later order takes over from the first.

What this does not do: train or decode. A component that is born anew for every task and trained on it alone
has the same bytes in every order, so its later walks follow from the first.
"""

from dataclasses import replace

from codestrata.experiment.cells import take_over
from codestrata.lab import Lab
from codestrata.methods import Method
from codestrata.results.measured import Walk
from codestrata.settings.orders import list_orders


def list_labs(lab: Lab) -> list[Lab]:
    """The lab once for every order of the tasks, in that order."""
    tasks = {task.name: task for task in lab.tasks}
    orders = list_orders(lab.settings.orders, list(tasks))
    return [
        replace(lab, tasks=tuple(tasks[name] for name in order), order=number)
        for number, order in enumerate(orders)
    ]


def depends_on_order(method: Method) -> bool:
    """Whether what answers a task can depend on which others came before it, beyond being there already."""
    return method.schedule != "isolated" or method.selection != "oracle"


def reorder_walk(lab: Lab, first: Walk) -> Walk:
    """The walk of isolated components in this lab's order, from the walk of the same seed in another one.

    Nothing is trained or decoded: once task i has come R[t, i] is its own component's, before it the base's.
    """
    of_base = [cell for cell in first.cells if cell.row == 0]
    own = [cell for cell in first.cells if cell.row and cell.trained_through == cell.task]
    cells = list(of_base)
    for row, through in enumerate(lab.tasks, start=1):
        for place, task in enumerate(lab.tasks, start=1):
            is_trained = place <= row and bool(first.trainings)
            cells += [
                take_over(cell, row, through.name, "taken-over" if is_trained else "structural")
                for cell in (own if is_trained else of_base)
                if cell.task == task.name
            ]
    return Walk(seed=first.seed, order=lab.order, trainings=(), cells=tuple(cells))
