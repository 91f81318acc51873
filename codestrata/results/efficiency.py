"""What parts of the training examples reach beside all of them, and which differences are real.

What this does not do: train (``experiment.portions`` does), or fit a curve through the points.
"""

from collections.abc import Sequence
from typing import Any

from codestrata.records import Cell, Score
from codestrata.results.estimates import estimate_final
from codestrata.results.measured import Measured, MethodWalks, Portion, Walk
from codestrata.results.verdicts import Contender, compare_family

ABOUT = (
    "a component for each task from the first part of its training examples, with as many optimizer steps as "
    "on all of them; each scored on its own task's test split; in the first order of the tasks"
)


def explain_no_curve(component: str | None, schedule: str, selection: str) -> str | None:
    """Why parts of the examples are not measured for a method; ``None`` where they are."""
    if component is None:
        return "nothing is trained"
    if selection != "oracle":
        return "its components are those of the method that is told the task"
    if schedule not in ("isolated", "warm"):
        return "its tasks share what is trained: less data of one would change what the others find"
    return None


def describe_efficiency(measured: Measured, metric: str) -> dict[str, Any] | None:
    """Scores by task and part of the examples, 1 included; ``None`` where the settings ask for no part."""
    fractions = sorted(measured.settings.measurement.data_fractions)
    if not fractions:
        return None
    reasons = {
        entry.name: explain_no_curve(entry.method["component"], entry.schedule, entry.selection)
        for entry in measured.methods
    }
    curved = [entry for entry in measured.methods if reasons[entry.name] is None]
    return {
        "about": ABOUT,
        "metric": metric,
        "fractions": [*fractions, 1.0],
        "methods": {entry.name: describe_curves(entry, measured) for entry in curved},
        "not_measured": {name: reason for name, reason in reasons.items() if reason is not None},
        "comparisons": compare_portions(curved, measured, fractions, metric),
    }


def describe_curves(entry: MethodWalks, measured: Measured) -> dict[str, list[dict[str, Any]]]:
    """Task -> the scores at every fraction over all seeds, 1 last."""
    described = [metric.name for metric in measured.metrics if metric.kind == "description"]
    sizes = {str(task["name"]): int(task["examples"]["train"]) for task in measured.tasks}
    return {
        task: [
            {
                "fraction": fraction,
                "examples": sizes[task] if fraction == 1 else cells[0][1],
                "scores": {
                    score.metric: estimate_final(
                        [find_score(cell, score.metric) for cell, _ in cells],
                        bounds=None if score.metric in described else (0.0, 1.0),
                    )
                    for score in cells[0][0].scores
                },
            }
            for fraction, cells in list_points(entry, measured, task)
        ]
        for task in measured.task_names
    }


def list_points(
    entry: MethodWalks, measured: Measured, task: str
) -> list[tuple[float, list[tuple[Cell, int]]]]:
    """(fraction, the cell and the examples with every seed) of a task, 1 last."""
    fractions = sorted(measured.settings.measurement.data_fractions)
    walks = list_curved_walks(entry)
    points = []
    for fraction in fractions:
        portions = [find_portion(walk, task, fraction) for walk in walks]
        points.append((fraction, [(part.cell, int(part.training["examples"])) for part in portions]))
    points.append((1.0, [(find_own_cell(walk, task), 0) for walk in walks]))
    return points


def list_curved_walks(entry: MethodWalks) -> list[Walk]:
    """The walks that parts were measured in: those of the first order of the tasks."""
    return [walk for walk in entry.walks if walk.order == 0]


def find_portion(walk: Walk, task: str, fraction: float) -> Portion:
    """The part of that size of a task."""
    assert walk.curve is not None
    return next(part for part in walk.curve if (part.cell.task, part.fraction) == (task, fraction))


def find_own_cell(walk: Walk, task: str) -> Cell:
    """The test cell right after the task's own training, on all of its examples."""
    wanted = (task, task, "test")
    return next(cell for cell in walk.cells if (cell.trained_through, cell.task, cell.split) == wanted)


def find_score(cell: Cell, metric: str) -> Score:
    """The score of a metric."""
    return next(found for found in cell.scores if found.metric == metric)


def compare_portions(
    entries: Sequence[MethodWalks], measured: Measured, fractions: Sequence[float], metric: str
) -> list[dict[str, Any]]:
    """All examples against every part, for every method and task, as one Holm-adjusted family."""
    places, pairs = [], list[tuple[Contender, Contender]]()
    for entry in entries:
        walks = list_curved_walks(entry)
        for task in measured.task_names:
            whole = [find_score(find_own_cell(walk, task), metric) for walk in walks]
            for fraction in fractions:
                part = [find_score(find_portion(walk, task, fraction).cell, metric) for walk in walks]
                name = f"{entry.name} on {fraction:g} of the data"
                pairs.append(((entry.name, task, whole), (name, task, part)))
                places.append({"method": entry.name, "fraction": fraction})
    compared = compare_family(pairs, metric)
    return [{**place, "comparison": found} for place, found in zip(places, compared, strict=True)]
