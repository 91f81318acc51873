"""What the order of the tasks does to a method: the numbers out of R order by order, and their range.

Only the headline metric is looked at, on the test split.

What this does not do: anything for a run with one order.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from codestrata.analysis.orders import summarize_ranges
from codestrata.results.estimates import estimate_continual, number_tasks, stack_places
from codestrata.results.measured import Measured, MethodWalks
from codestrata.results.schedules import mark_schedule


def describe_orders(entry: MethodWalks, measured: Measured, metric: str) -> dict[str, Any] | None:
    """Per order ACC, LA, BWT, FWT and F over its seeds, and how far the orders lie apart in each.

    ``None`` where the run has one order.
    """
    orders, tasks = measured.orders, measured.task_names
    if len(orders) == 1:
        return None
    by_order = []
    for number, order in enumerate(orders):
        of_order = [walk.cells for walk in entry.walks if walk.order == number]
        found = estimate_continual(of_order, tasks, metric, [order])
        by_order.append(mark_schedule(found, entry.settled_by))
    rows, aggregate = stack_places([walk.cells for walk in entry.walks], tasks, metric)
    ranges = summarize_ranges(rows, len(tasks), aggregate, number_tasks(orders, tasks))
    return {
        "metric": metric,
        "by_order": by_order,
        "range": mark_ranges({name: asdict(found) for name, found in ranges.items()}, entry),
    }


def mark_ranges(ranges: Mapping[str, dict[str, Any]], entry: MethodWalks) -> dict[str, dict[str, Any]]:
    """The ranges, with a verdict each, and ``structural`` where every order has the same components."""
    marked = {}
    for name, found in mark_schedule(ranges, entry.settled_by).items():
        if found["value"] is None:
            found |= {"highest": None, "lowest": None}
        interval = found["interval"]
        structural = entry.settled_by == "isolated" and found["value"] == 0
        differs = interval is not None and interval["low"] > 0
        verdict = None if interval is None else "differ" if differs else "cannot tell"
        marked[name] = {**found, "structural": structural or found["structural"], "verdict": verdict}
    return marked
