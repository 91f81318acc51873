"""Scores with their intervals: of one cell, over seeds, and of what a sequence does to its tasks.

What this does not do: compare methods (see ``verdicts``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from codestrata.analysis.aggregates import build_rows
from codestrata.analysis.continual import summarize_cells
from codestrata.analysis.statistics import Interval, rate_interval, seeds_interval
from codestrata.errors import DataError
from codestrata.records import Cell, Score

AVERAGES = ("average_accuracy", "learning_accuracy")


def estimate_score(found: Score) -> dict[str, Any]:
    """A score with its n, interval, reason and variant; single examples' values stay in scores.jsonl."""
    interval, fault = find_interval(found)
    return {
        "value": found.value,
        "n": found.n,
        "interval": None if interval is None else asdict(interval),
        "reason": join_reasons(found.reason, fault),
        "variant": found.variant,
        "isolation": found.isolation,
    }


def join_reasons(*reasons: str | None) -> str | None:
    """The reasons that there are, as one; ``None`` where there is none."""
    return "; ".join(reason for reason in reasons if reason) or None


@lru_cache(maxsize=4096)  # the same score stands in several rows of R
def find_interval(found: Score) -> tuple[Interval | None, str | None]:
    """The 95 % interval of a score over its examples, or why there is none: see ``build_interval``.

    Neither where there is no value, or only one example.
    """
    rows = find_rows(found)
    if rows is None:
        return None, None if found.value is None else "no interval: single examples have no value"
    return build_interval(rows[None], found.aggregate)


def build_interval(
    rows: np.ndarray, aggregate: str, bounds: tuple[float, float] | None = None, orders: int = 1
) -> tuple[Interval | None, str | None]:
    """The 95 % interval of rows of shape (seeds, n, columns), or the reason why there is none.

    Wilson's for rates, BCa bootstrap over examples otherwise; with several seeds both count. ``bounds`` are
    the least and the greatest value there can be. With several ``orders`` of the tasks the rows are of all
    seeds of the first order, then of the next.
    """
    if rows.shape[1] < 2:
        return None, None
    try:
        if aggregate == "rate":
            return rate_interval(rows[..., 0], orders=orders), None
        return seeds_interval(rows, aggregate, bounds=bounds, orders=orders), None
    except DataError as error:  # too many resamples have no value
        return None, f"no interval: {error}"


def find_rows(found: Score) -> np.ndarray | None:
    """A score's rows of sufficient statistics, shape (n, columns); ``None`` where it has no value."""
    if found.value is None:
        return None
    if found.statistics is not None:
        return np.array(found.statistics)
    if found.per_example is None or None in found.per_example:
        return None
    return build_rows(np.array(found.per_example, dtype=float))


def stack_rows(scores: Sequence[Score]) -> np.ndarray | None:
    """One metric with several seeds, shape (seeds, n, columns); ``None`` where a seed has no value."""
    rows = [find_rows(found) for found in scores]
    present = [of_seed for of_seed in rows if of_seed is not None]
    if not present or len(present) < len(rows) or len({of_seed.shape for of_seed in present}) > 1:
        return None
    return np.stack(present)


def estimate_final(
    scores: Sequence[Score], bounds: tuple[float, float] | None = (0.0, 1.0), orders: int = 1
) -> dict[str, Any]:
    """One metric over all seeds: mean of their values, its interval, n, seeds; the reason where it has none.

    With one seed the interval is that of the cell, over examples: it says nothing of other seeds. ``bounds``
    are the least and the greatest value there can be; ``orders`` as in ``build_interval``.
    """
    first = scores[0]
    values = [found.value for found in scores if found.value is not None]
    rows = stack_rows(scores)
    if len(scores) == 1:
        interval, fault = find_interval(first)
    else:
        interval, fault = (
            (None, None) if rows is None else build_interval(rows, first.aggregate, bounds, orders)
        )
    reason = next((found.reason for found in scores if found.reason is not None), None)
    return {
        "value": sum(values) / len(values) if len(values) == len(scores) else None,
        "n": first.n,
        "seeds": len(scores) // orders,
        "interval": None if interval is None else asdict(interval),
        "reason": join_reasons(reason, fault),
    }


def estimate_continual(
    walks: Sequence[Sequence[Cell]],
    tasks: Sequence[str],
    metric: str,
    orders: Sequence[Sequence[str]] | None = None,
) -> dict[str, dict[str, Any]]:
    """ACC, LA, BWT, FWT and F of one metric on the test split, over all seeds, with intervals.

    With several ``orders`` of the tasks the walks are those of the first order, then of the next.
    """
    rows, aggregate = stack_places(walks, tasks, metric)
    found_values: Mapping[str, Any] = summarize_cells(
        rows, len(tasks), aggregate, orders=None if orders is None else number_tasks(orders, tasks)
    )
    return {name: open_point(asdict(entry), name, aggregate) for name, entry in found_values.items()}


def number_tasks(orders: Sequence[Sequence[str]], tasks: Sequence[str]) -> list[list[int]]:
    """Orders of the tasks by their numbers from 1."""
    return [[1 + tasks.index(name) for name in order] for order in orders]


def stack_places(
    walks: Sequence[Sequence[Cell]], tasks: Sequence[str], metric: str
) -> tuple[dict[tuple[int, int], np.ndarray], str]:
    """The rows of every place of R that has values, shape (walks, n, columns), and their aggregate.

    A place is (trainings so far, number of the task from 1), on the test split.
    """
    places: dict[tuple[int, int], list[Score]] = {}
    for cells in walks:
        for cell in cells:
            if cell.split == "test":
                found = next(score for score in cell.scores if score.metric == metric)
                places.setdefault((cell.row, tasks.index(cell.task) + 1), []).append(found)
    rows = {place: stacked for place, scores in places.items() if (stacked := stack_rows(scores)) is not None}
    # Of a score that has a value: one without never came to name its aggregate.
    known = [score.aggregate for scores in places.values() for score in scores if score.value is not None]
    return rows, known[0] if known else "mean"


def open_point(entry: dict[str, Any], name: str, aggregate: str) -> dict[str, Any]:
    """The entry, without an interval that is a point only because all answers passed, or none did."""
    interval = entry["interval"]
    if aggregate != "rate" or name not in AVERAGES or interval is None or interval["method"] != "constant":
        return entry
    reason = "no interval: every example has the same answer; the cells' own intervals say how sure that is"
    return {**entry, "interval": None, "reason": join_reasons(entry["reason"], reason)}
