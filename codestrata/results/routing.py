"""What routers chose in a walk: how often the right component, and which one instead.

    accuracy = test prompts for which the router picked their own task's component / all test prompts

Abstaining counts as not right. A confusion matrix has a row for every task and a column for every component,
and last one for prompts that the base was left to answer.

What this does not do: score answers; R under routing is the method's own R.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from codestrata.analysis.statistics import wilson_interval
from codestrata.results.measured import RoutedWalk


def describe_choices(routed: RoutedWalk) -> dict[str, Any]:
    """The routers' accuracies and confusion matrices in the last row, and who filled R."""
    return {
        "by": routed.by,
        "threshold": routed.threshold,
        "tasks": list(routed.tasks),
        "routers": {name: describe_router(rows) for name, rows in routed.confusions.items()},
    }


def describe_router(confusion: Sequence[Sequence[int]]) -> dict[str, Any]:
    """One router: accuracy with its interval, prompts it abstained from, and whom it chose for whom."""
    n = sum(map(sum, confusion))
    right = sum(row[place] for place, row in enumerate(confusion))
    return {
        "accuracy": {
            "value": right / n if n else None,
            "n": n,
            "interval": asdict(wilson_interval(right, n)) if n > 1 else None,
            "reason": None if n else "no test prompt was routed",
        },
        "abstained": sum(row[-1] for row in confusion),
        "confusion": [list(row) for row in confusion],
    }
