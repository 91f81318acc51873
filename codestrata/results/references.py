"""How far a method stays behind what its run trained beside it: joint training, and experts on one task each.

    intransigence of task k = J_k[k] - R[k, k], J_k trained jointly on tasks 1..k
    expert gap = mean over i of S_i - R[i, i], S_i trained on task i alone

The reference is of the method's own kind of component where the run holds such a one, else one that trains
all weights; the results name it.

What this does not do: train a reference that the run lacks; its numbers are ``None`` then, with the reason.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from codestrata.analysis.continual import summarize_gap
from codestrata.records import Score
from codestrata.results.estimates import stack_rows
from codestrata.results.measured import Measured, MethodWalks

WANTED = {"joint": "a method that trains on all tasks so far at once", "isolated": "an expert for each task"}
EXAMPLES = {"joint": "joint", "isolated": "single"}
"""Schedule of a reference -> a method of the table that would serve any other."""


def describe_references(entry: MethodWalks, measured: Measured, scored: Sequence[str]) -> dict[str, Any]:
    """Intransigence and expert gap on the test split, by metric, each with the reference's name."""
    joint, expert = (find_reference(entry, measured, schedule) for schedule in ("joint", "isolated"))
    tasks, orders = measured.task_names, measured.orders
    return {
        "intransigence": {
            "reference": None if isinstance(joint, str) else joint.name,
            "metrics": {
                metric: {task: estimate_gap(joint, entry, orders, [task], metric) for task in tasks}
                for metric in scored
            },
        },
        "expert_gap": {
            "reference": None if isinstance(expert, str) else expert.name,
            "metrics": {metric: estimate_gap(expert, entry, orders, tasks, metric) for metric in scored},
        },
    }


def find_reference(entry: MethodWalks, measured: Measured, schedule: str) -> MethodWalks | str:
    """The run's method of that schedule to hold a method against; or why there is none."""
    if entry.method["component"] is None:
        return "nothing was trained"
    if entry.schedule == schedule and entry.method["component"] == "weights":
        return "the method is the reference itself"
    candidates = [
        other
        for other in measured.methods
        if other is not entry
        and (other.schedule, other.method["retention"], other.selection) == (schedule, None, "oracle")
        and other.method["component"] in (entry.method["component"], "weights")
    ]
    if not candidates:
        return f"the run holds no reference: add {WANTED[schedule]}, such as {EXAMPLES[schedule]!r}"
    return next(
        (other for other in candidates if other.method["component"] == entry.method["component"]),
        candidates[0],
    )


def estimate_gap(
    reference: MethodWalks | str,
    entry: MethodWalks,
    orders: Sequence[Sequence[str]],
    wanted: Sequence[str],
    metric: str,
) -> dict[str, Any]:
    """The mean of the reference's scores less the method's own, each right after the task's own training."""
    if isinstance(reference, str):
        return build_missing(len(entry.walks) // len(orders), reference)
    theirs = stack_tasks(reference, orders, wanted, metric)
    own = stack_tasks(entry, orders, wanted, metric)
    if isinstance(theirs, str) or isinstance(own, str):
        return build_missing(len(entry.walks) // len(orders), theirs if isinstance(theirs, str) else str(own))
    found = find_score(entry, orders, wanted[0], metric)[0]
    return asdict(summarize_gap(theirs, own, found.aggregate, orders=len(orders)))


def build_missing(seeds: int, reason: str) -> dict[str, Any]:
    """An entry without a value."""
    return {"value": None, "interval": None, "seeds": seeds, "reason": reason}


def stack_tasks(
    entry: MethodWalks, orders: Sequence[Sequence[str]], wanted: Sequence[str], metric: str
) -> list[np.ndarray] | str:
    """Per task the rows behind R[i, i], shape (walks, n, k); or why a task has none."""
    found = []
    for task in wanted:
        scores = find_score(entry, orders, task, metric)
        rows = stack_rows(scores)
        if rows is None:
            reasons = (score.reason for score in scores if score.reason)
            return next(reasons, f"`{entry.name}` has seeds without a value on {task}")
        found.append(rows)
    return found


def find_score(entry: MethodWalks, orders: Sequence[Sequence[str]], task: str, metric: str) -> list[Score]:
    """A metric's score of every walk on a task's test split, right after its own training."""
    rows = [1 + order.index(task) for order in orders]
    return [
        next(found for found in cell.scores if found.metric == metric)
        for walk in entry.walks
        for cell in walk.cells
        if (cell.row, cell.task, cell.split) == (rows[walk.order], task, "test")
    ]
