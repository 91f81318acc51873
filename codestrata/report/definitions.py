"""The metrics of a run: tables of all their values, and what each of them is.

What this does not do: compute or compare anything.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from codestrata.report.tables import (
    MISSING,
    Results,
    Table,
    find_score,
    list_contenders,
    list_split_tasks,
    write_counts,
    write_score,
)

GROUPS = (
    ("Running and matching", ("pass@", "exact_match", "edit_similarity")),
    ("Text", ("bleu", "chrf", "meteor")),
    ("Structure", ("syntax_pass", "codebleu", "ast_")),
    ("Agreement with the base", ("base_",)),
)
"""Heading, and how the names of its metrics start."""
DESCRIPTIONS = "Descriptions"
OTHER = "Other scores"


def group_metrics(results: Results) -> dict[str, list[str]]:
    """Heading -> its metrics, both in the order of the tables; headings without a metric are left out."""
    groups: dict[str, list[str]] = {heading: [] for heading, _ in GROUPS}
    groups |= {OTHER: [], DESCRIPTIONS: []}
    for name, about in results["metrics"].items():
        groups[choose_group(name, about["kind"])].append(name)
    return {heading: names for heading, names in groups.items() if names}


def choose_group(name: str, kind: str) -> str:
    """The heading a metric stands under."""
    for heading, starts in GROUPS:
        if name.startswith(starts):
            return heading
    return DESCRIPTIONS if kind == "description" else OTHER


def build_metrics_tables(results: Results, split: str) -> list[Table]:
    """Every metric of base, controls and methods at the end, on one split, a table per group."""
    tasks = list_split_tasks(results, split)
    tables = []
    for heading, names in group_metrics(results).items() if tasks else ():
        rows = tuple(
            (task, contender, *(write_score(find_score(scores, split, task, name)) for name in names))
            for task in tasks
            for contender, scores in list_contenders(results)
        )
        shown = [index for index in range(len(names)) if any(row[index + 2] != MISSING for row in rows)]
        if shown:
            title = f"{heading}, split `{split}` ({write_counts(results, split)})"
            header = ("task", "method", *(names[index] for index in shown))
            tables.append(
                Table(title, header, tuple((*row[:2], *(row[index + 2] for index in shown)) for row in rows))
            )
    return tables


def list_definitions(results: Results) -> Iterator[tuple[str, str]]:
    """Each metric's formula, source, implementation and variants, and why it or a part of it is missing."""
    for name, about in results["metrics"].items():
        found = list(list_scores(results, name))
        variants = sorted({score["variant"] for _, score in found if score.get("variant")})
        yield (
            name,
            "; ".join(
                [
                    f"({about['kind']}) {about['formula']}",
                    f"source: {about['source']}",
                    f"implementation: {about['implementation']}",
                    *(f"variant: {variant}" for variant in variants),
                    *explain_missing(found),
                ]
            ),
        )


def list_scores(results: Results, metric: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(who answered, the score) of a metric: base, controls, and every cell of every method."""
    cells = [("base", cell) for cell in results["base"]["cells"]]
    cells += [(control["name"], cell) for control in results["controls"] for cell in control["cells"]]
    cells += [
        (method["name"], cell)
        for method in results["methods"]
        for entry in method["seeds"]
        for cell in entry["cells"]
        if cell["origin"] != "structural" and cell["row"] > 0
    ]
    for name, cell in cells:
        if metric in cell["scores"]:
            yield name, cell["scores"][metric]


def explain_missing(found: list[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Per reason: for whom there is no value, or only one over a part of the examples."""
    whom: dict[tuple[str, bool], list[str]] = {}
    for name, score in found:
        if score["reason"]:
            names = whom.setdefault((score["reason"], score["value"] is None), [])
            if name not in names:
                names.append(name)
    everyone = {name for name, _ in found}
    for (reason, is_lost), names in whom.items():
        said = "" if set(names) == everyone else f" for {', '.join(names)}"
        yield f"{'not computed' if is_lost else 'note'}{said}: {reason}"
