"""Whether the order of the tasks matters, as tables and a paragraph, for a run with several orders.

What this does not do: anything for a run with one order.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from codestrata.report.tables import MISSING, Results, Table, list_trained, write_number, write_score

SHOWN = {"average_accuracy": "ACC", "forgetting": "forgetting"}


def list_order_tables(results: Results) -> list[Table]:
    """The range over orders of every trained method, and its numbers in every order; none with one order."""
    if len(results["orders"]) == 1:
        return []
    return [build_range_table(results), build_order_table(results)]


def build_range_table(results: Results) -> Table:
    """Per method how far the orders lie apart in ACC and forgetting, and whether that is shown."""
    rows = []
    for method in list_trained(results):
        found = method["orders"]
        cells: list[str] = []
        for name in SHOWN:
            cells += [
                write_span([entry[name]["value"] for entry in found["by_order"]]),
                write_range(found["range"][name]),
            ]
        rows.append((method["name"], *cells))
    header = [
        text for label in SHOWN.values() for text in (f"{label}, lowest to highest", "do orders differ?")
    ]
    title = (
        f"Does the order of the tasks matter? {results['headline_metric']}, {len(results['orders'])} orders "
        "(range, 95 % interval)"
    )
    return Table(title, ("method", *header), tuple(rows))


def write_span(values: list[float | None]) -> str:
    """The lowest and the highest of the values, if all are there."""
    present = [value for value in values if value is not None]
    if not present or len(present) < len(values):
        return MISSING
    return f"{write_number(min(present))} to {write_number(max(present))}"


def write_range(found: Mapping[str, Any]) -> str:
    """What is shown of a range."""
    if found["value"] is None:
        return MISSING
    if found["structural"]:
        return "structural"
    verdict = {"differ": "differ", "cannot tell": "cannot tell", None: "not compared"}[found["verdict"]]
    return f"{verdict}, {write_score(found)}"


def build_order_table(results: Results) -> Table:
    """The methods whose numbers hang on the order, order by order, with intervals over seeds and examples."""
    rows = [
        (method["name"], " > ".join(order), *(write_score(found[name]) for name in SHOWN))
        for method in list_trained(results)
        for order, found in zip(results["orders"], method["orders"]["by_order"], strict=True)
        if list_own_orders(results, method) != [0]
    ]
    title = f"Order by order, {results['headline_metric']}"
    return Table(title, ("method", "order", *SHOWN.values()), tuple(rows))


def list_own_orders(results: Results, method: Mapping[str, Any]) -> list[int]:
    """The orders in which a method was walked; in the others it has the components of the first."""
    walked = {entry["order"] for entry in method["seeds"] if entry["trainings"]}
    return [number for number in range(len(results["orders"])) if number == 0 or number in walked]


def explain_orders(results: Results) -> Iterator[str]:
    """What the tables say, and of what they say nothing."""
    seeds = len(results["settings"]["seeds"])
    yield (
        "Every method walked every order with the same seeds, and differences are paired by order, seed and "
        "example. *ACC* is the mean score over the tasks once the order was over. The range is the highest "
        "mean over seeds less the lowest; *differ* says that its interval, which holds for all pairs of "
        "orders at once, excludes 0. *structural*: a component that is born anew for every task and trained "
        "on it alone is the same in every order; it was trained once."
    )
    if seeds == 1:
        yield (
            "With one seed these intervals cover the draw of the test examples only: what looks like an "
            "order may be that seed's luck in it."
        )
