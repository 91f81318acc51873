"""How far methods stay behind joint training and behind experts on one task each, as a table.

What this does not do: compute it (``results.references`` does).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from codestrata.report.tables import MISSING, Results, Table, list_task_names, list_trained, write_score


def build_references_table(results: Results) -> Table | None:
    """Intransigence of every task and the expert gap of every trained method; ``None`` without any."""
    metric, tasks = results["headline_metric"], list_task_names(results)
    rows = []
    for method in list_trained(results):
        joint, expert = method["intransigence"], method["expert_gap"]
        gaps = [joint["metrics"][metric][task] for task in tasks]
        if any(entry["value"] is not None for entry in (*gaps, expert["metrics"][metric])):
            rows.append(
                (
                    method["name"],
                    joint["reference"] or MISSING,
                    *(write_score(gap) for gap in gaps),
                    expert["reference"] or MISSING,
                    write_score(expert["metrics"][metric]),
                )
            )
    if not rows:
        return None
    header = ("method", "joint", *(f"behind joint on {task}" for task in tasks), "expert", "expert gap")
    return Table(f"{metric} short of what else was trained (95 % interval)", header, tuple(rows))


def explain_references(results: Results) -> Iterator[str]:
    """What the columns mean, and what the run lacks for the rest."""
    yield (
        "*behind joint* is intransigence: what the *joint* method reaches on the task, trained on it and on "
        "all tasks before at once, less what the method reaches right after its own training on it. *expert "
        "gap* is the mean over tasks of what *expert* reaches, trained on that task alone, less the same. "
        "Negative means that the method is ahead. Where a reference is of another kind of component, the "
        "schedule is not all that differs."
    )
    for reason, names in group_reasons(results).items():
        yield f"Not known for {', '.join(names)}: {reason}."


def group_reasons(results: Results) -> dict[str, list[str]]:
    """Reason -> what is missing for it: ``the intransigence of `lora```, as often as there is one."""
    metric, tasks = results["headline_metric"], list_task_names(results)
    found: dict[str, list[str]] = {}
    for method in list_trained(results):
        entries: list[tuple[str, Mapping[str, Any]]] = [
            ("intransigence", method["intransigence"]["metrics"][metric][tasks[0]]),
            ("expert gap", method["expert_gap"]["metrics"][metric]),
        ]
        for name, entry in entries:
            if entry["value"] is None:
                found.setdefault(entry["reason"].rstrip("."), []).append(f"the {name} of `{method['name']}`")
    return found
