"""How much data a task needs, as tables and a paragraph, for a run that trained on parts of the examples.

What this does not do: anything for a run that did not.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codestrata.report.tables import COLUMNS_ABREAST, Results, Table, split_evenly, write_score

WORDS = {
    "first": "more data helps",
    "second": "less is better",
    "cannot tell": "cannot tell",
    None: "not compared",
}
"""Verdict on all of the examples against a part of them."""


def list_efficiency_tables(results: Results) -> list[Table]:
    """Scores by method, task and part of the examples, and what is shown of each; none where not asked."""
    found = results["sample_efficiency"]
    if found is None or not found["methods"]:
        return []
    tables = [
        build_scores_table(found, fractions)
        for fractions in split_evenly(found["fractions"], COLUMNS_ABREAST)
    ]
    return [*tables, build_verdict_table(found)]


def build_scores_table(found: Mapping[str, Any], fractions: Sequence[float]) -> Table:
    """The headline metric at these fractions, with the number of examples."""
    rows = []
    for method, tasks in found["methods"].items():
        for task, points in tasks.items():
            shown = [point for point in points if point["fraction"] in fractions]
            scores = (
                f"{write_score(point['scores'][found['metric']])} ({point['examples']:,})" for point in shown
            )
            rows.append((method, task, *scores))
    title = f"How much data does it need? {found['metric']} (training examples)"
    return Table(
        title, ("method", "task", *(f"{fraction:g} of the data" for fraction in fractions)), tuple(rows)
    )


def build_verdict_table(found: Mapping[str, Any]) -> Table:
    """Whether all of the examples are shown to be better than each part."""
    parts = [fraction for fraction in found["fractions"] if fraction < 1]
    verdicts = {
        (entry["method"], entry["comparison"]["task"], entry["fraction"]): write_gain(entry["comparison"])
        for entry in found["comparisons"]
    }
    rows = tuple(
        (method, task, *(verdicts[method, task, fraction] for fraction in parts))
        for method, tasks in found["methods"].items()
        for task in tasks
    )
    title = f"All of the data less a part of it, {found['metric']}, paired, Holm-adjusted intervals"
    return Table(title, ("method", "task", *(f"1 - {fraction:g}" for fraction in parts)), rows)


def write_gain(comparison: Mapping[str, Any]) -> str:
    """What is shown of a difference, and the difference."""
    word = WORDS[comparison["verdict"]]
    if comparison["verdict"] is None:
        return word
    interval = comparison["interval"]
    return f"{word}, {comparison['difference']:+z.3f} [{interval['low']:+z.3f}, {interval['high']:+z.3f}]"


def explain_efficiency(results: Results) -> Iterator[str]:
    """What was measured, and of which methods not."""
    found = results["sample_efficiency"]
    yield f"Measured: {found['about']}."
    reasons: dict[str, list[str]] = {}
    for name, reason in found["not_measured"].items():
        reasons.setdefault(reason, []).append(f"`{name}`")
    yield from (f"Not measured for {', '.join(names)}: {reason}." for reason, names in reasons.items())
