"""What a schedule alone decides of the numbers out of R: fixed by construction, or without a meaning.

What this does not do: compute them (``analysis`` does).
"""

from collections.abc import Mapping
from typing import Any

STRUCTURAL: Mapping[str, tuple[str, ...]] = {
    "isolated": ("backward_transfer", "forward_transfer", "forgetting"),
    "warm": ("backward_transfer", "forgetting"),
    "kept": ("backward_transfer", "forward_transfer", "forgetting"),
    "shared": ("forward_transfer",),
}
"""Zero by construction where every task has its own component: not findings. Warm components begin as copies
of the ones before, so that what a task gains before its own training is measured; where a part is shared and
trained on, what later trainings do to earlier tasks is measured."""
UNLABELLED: Mapping[str, str] = {
    "routed": "its components are those of the same method with the task's label: X is theirs",
    "merged": "one component serves all tasks: R[t, i] is its transfer",
}
"""Selection without a task label, which stands for the schedule here -> why there is no X."""
MEANINGLESS: Mapping[str, tuple[str, ...]] = {"joint": ("backward_transfer", "forgetting")}
NO_COMMON_MODEL = (
    "every row of R is another model, trained from birth on all tasks so far: none of them learned a task "
    "and then another, so that nothing can be forgotten"
)


def mark_schedule(found: Mapping[str, dict[str, Any]], schedule: str) -> dict[str, dict[str, Any]]:
    """ACC, LA, BWT, FWT and F, with ``structural`` where the schedule alone decides the value.

    Where rows of R are models that have nothing to do with each other, what compares them is no number.
    """
    return {name: mark_entry(entry, name, schedule) for name, entry in found.items()}


def mark_entry(entry: dict[str, Any], name: str, schedule: str) -> dict[str, Any]:
    """One of them."""
    if name in MEANINGLESS.get(schedule, ()):
        entry = {**entry, "value": None, "reason": NO_COMMON_MODEL}
        if "interval" in entry:
            entry["interval"] = None
    # Another value than 0 would say that a recheck differed: that is a finding.
    return {**entry, "structural": name in STRUCTURAL.get(schedule, ()) and entry["value"] == 0}


def explain_no_transfer(schedule: str, *, trained: bool) -> str:
    """Why there is no X."""
    if not trained:
        return "nothing was trained: there is no component"
    if schedule in UNLABELLED:
        return UNLABELLED[schedule]
    if schedule == "shared":
        return (
            "not measured: every training changes a part of all components, and R[t, i] shows what that does"
        )
    if schedule in STRUCTURAL:
        return "not asked for: set measurement.transfer"
    return "one component serves all tasks: R[t, i] is its transfer"
