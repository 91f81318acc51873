"""Which differences are real: methods against methods, and methods against what needs no learning.

What this does not do: explore every metric. Only the headline metric is tested, on the test split, so that
the family of comparisons is known before anyone looks at a number.
"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from codestrata.analysis.comparisons import adjust_comparisons
from codestrata.analysis.differences import PairedDifference, compare_paired
from codestrata.errors import DataError
from codestrata.records import Cell, Score
from codestrata.results.estimates import stack_rows
from codestrata.results.measured import Measured, MethodWalks

Contender = tuple[str, str, Sequence[Score]]
"""(name, task, the headline score with every seed)."""


def compare_methods(measured: Measured, metric: str) -> list[dict[str, Any]]:
    """Every pair of trained methods on every task, as one family of Holm-adjusted paired comparisons.

    They are paired by example, seed and order of the tasks.
    """
    trained = [entry for entry in measured.methods if entry.method["component"] is not None]
    pairs = [
        (
            (first.name, task, find_final_scores(first, task, metric)),
            (second.name, task, find_final_scores(second, task, metric)),
        )
        for task in measured.task_names
        for first, second in combinations(trained, 2)
    ]
    return compare_family(pairs, metric, len(measured.orders))


def compare_with_controls(measured: Measured, metric: str) -> list[dict[str, Any]]:
    """Every trained method against the untouched base, echo and nearest, on every task: a family too."""
    trained = [entry for entry in measured.methods if entry.method["component"] is not None]
    controls: list[tuple[str, Sequence[Cell]]] = [("base", measured.base_cells)]
    controls += [(control.name, control.cells) for control in measured.controls]
    pairs = [
        (
            (entry.name, task, (scores := find_final_scores(entry, task, metric))),
            # A control does not depend on the seed: every seed is paired with the same answers.
            (name, task, [find_test_score(cells, task, metric)] * len(scores)),
        )
        for task in measured.task_names
        for entry in trained
        for name, cells in controls
    ]
    return compare_family(pairs, metric, len(measured.orders))


def find_final_scores(entry: MethodWalks, task: str, metric: str) -> list[Score]:
    """A method's score on a task once the sequence was over, with every seed."""
    last = max(cell.row for cell in entry.walks[0].cells)
    return [
        find_test_score([cell for cell in walk.cells if cell.row == last], task, metric)
        for walk in entry.walks
    ]


def find_test_score(cells: Sequence[Cell], task: str, metric: str) -> Score:
    """The score of a metric on a task's test split."""
    cell = next(cell for cell in cells if (cell.task, cell.split) == (task, "test"))
    return next(found for found in cell.scores if found.metric == metric)


def compare_family(
    pairs: Sequence[tuple[Contender, Contender]], metric: str, orders: int = 1
) -> list[dict[str, Any]]:
    """One entry per pair; those that can be compared are adjusted together.

    Scores are with all seeds in the first of the ``orders`` of the tasks, then in the next.
    """
    compared = [compare_scores(first[2], second[2], orders) for first, second in pairs]
    adjusted = iter(adjust_comparisons([found for found in compared if not isinstance(found, str)]))
    return [
        {
            "first": first[0],
            "second": second[0],
            "task": first[1],
            "split": "test",
            "metric": metric,
            **({"verdict": None, "reason": found} if isinstance(found, str) else asdict(next(adjusted))),
        }
        for (first, second), found in zip(pairs, compared, strict=True)
    ]


def compare_scores(
    first: Sequence[Score], second: Sequence[Score], orders: int = 1
) -> PairedDifference | str:
    """The paired difference of one metric on the same examples and seeds, or why there is none."""
    rows, others = stack_rows(first), stack_rows(second)
    if rows is None or others is None:
        reasons = [found.reason for found in (*first, *second) if found.value is None and found.reason]
        return reasons[0] if reasons else "there are seeds without a value"
    if rows.shape != others.shape:
        return "not the same examples on both sides"
    if rows.shape[1] < 2:
        return "one example does not vary"
    try:
        return compare_paired(rows, others, first[0].aggregate, bounds=(0.0, 1.0), orders=orders)
    except DataError as error:  # too many resamples have no value
        return str(error)


def judge_controls(comparisons: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per method and task whether it is above every control: ``above``, ``not above`` or ``cannot tell``.

    ``above``: better than each. ``not above``: worse than one of them. Otherwise it cannot be told.
    """
    judged = []
    for method, task in dict.fromkeys((entry["first"], entry["task"]) for entry in comparisons):
        entries = [entry for entry in comparisons if (entry["first"], entry["task"]) == (method, task)]
        verdicts = {entry["second"]: entry["verdict"] for entry in entries}
        if "second" in verdicts.values():
            verdict = "not above"
        elif set(verdicts.values()) == {"first"}:
            verdict = "above"
        else:
            verdict = "cannot tell"
        judged.append({"method": method, "task": task, "verdict": verdict, "against": verdicts})
    return judged
