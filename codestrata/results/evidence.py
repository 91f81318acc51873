"""Numbers of a run with the place in its results where they stand, or why they cannot be had.

What this does not do: judge them (``founding`` does).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codestrata.records import COMPONENT_PER_TASK
from codestrata.report.pointers import build_pointer, read_pointer

Tree = Mapping[str, Any]

DECODED_AGAIN = ("rechecked", "canary")
"""Origins of cells that were decoded again, as a whole or in part."""
TAKEN_OVER = ("taken-over", "canary")
"""Origins of cells that stand on the proof that the bytes are the same."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A number of this run and where it stands, or why it cannot be had."""

    about: str
    pointer: str | None
    value: float | None
    interval: Mapping[str, Any] | None = None
    reason: str | None = None


def find_echo(tree: Tree, metric: str, language: str) -> Evidence:
    """What echoing the prompts of a language's task scores."""
    about = f"echo on {language}, {metric}"
    task = find_task(tree, language)
    for place, control in enumerate(tree["controls"]):
        for number, cell in enumerate(control["cells"]):
            if (control["name"], cell["task"], cell["split"]) == ("echo", task, "test"):
                return read_evidence(tree, about, "controls", place, "cells", number, "scores", metric)
    return miss(about, "this run has no such control or task")


def find_final(tree: Tree, metric: str, method: str, language: str) -> Evidence:
    """What a method of this run scores in the end on a language's task."""
    about = f"{method} on {language}, {metric}"
    place, task = find_method(tree, method), find_task(tree, language)
    if place is None or task is None:
        return miss(about, "this run has no such method or task")
    return read_evidence(tree, about, "methods", place, "final", "test", task, metric)


def find_forgetting(tree: Tree, metric: str, method: str) -> Evidence:
    """A method's forgetting in this run."""
    about = f"forgetting of {method}, {metric}"
    place = find_method(tree, method)
    if place is None:
        return miss(about, "this run has no such method")
    return read_evidence(tree, about, "methods", place, "continual", metric, "forgetting")


def find_rechecks(tree: Tree, method: str) -> tuple[Evidence, int]:
    """The share of an isolated method's cells that came out the same when decoded again; their number.

    Cells of which canaries alone were decoded again count with the others.
    """
    about = f"share of the older tasks' cells of {method} that came out the same when decoded again"
    place, cells = list_isolated_cells(tree, method)
    if place is None:
        return miss(about, "this run has no such method with a component per task"), 0
    again = [cell["identical_predictions"] for cell in cells if cell["origin"] in DECODED_AGAIN]
    if not again:
        return miss(about, "no older task was decoded again"), 0
    pointer = build_pointer("methods", place, "seeds")
    return Evidence(about=about, pointer=pointer, value=sum(again) / len(again)), len(again)


def find_taken_over(tree: Tree, method: str) -> Evidence:
    """How many cells of an isolated method were taken over, as base and component had the same bytes."""
    about = f"older tasks' cells of {method} that were taken over with the same bytes"
    place, cells = list_isolated_cells(tree, method)
    if place is None:
        return miss(about, "this run has no such method with a component per task")
    count = sum(cell["origin"] in TAKEN_OVER and cell["trained_through"] != cell["task"] for cell in cells)
    if not count:
        return miss(about, "no cell was taken over")
    return Evidence(about=about, pointer=build_pointer("methods", place, "seeds"), value=float(count))


def list_isolated_cells(tree: Tree, method: str) -> tuple[int | None, list[Mapping[str, Any]]]:
    """Where a method with a component per task stands, and the cells of all its seeds; else ``None``."""
    place = find_method(tree, method)
    if place is None or tree["methods"][place]["schedule"] not in COMPONENT_PER_TASK:
        return None, []
    return place, [cell for entry in tree["methods"][place]["seeds"] for cell in entry["cells"]]


def find_noise(tree: Tree, metric: str, task: str | None) -> Evidence:
    """The largest difference between two evaluations of the same weights, on one task or on any; signed."""
    about = f"noise floor{'' if task is None else f' on {task}'}, {metric}"
    sizes = [
        (abs(difference), number, difference)
        for number, entry in enumerate(tree["noise_floor"]["entries"])
        if task in (None, entry["task"]) and (difference := entry["differences"].get(metric)) is not None
    ]
    if not sizes:
        return miss(about, tree["noise_floor"]["reason"] or f"{metric} was not measured twice")
    _, number, difference = max(sizes)
    pointer = build_pointer("noise_floor", "entries", number, "differences", metric)
    return Evidence(about=about, pointer=pointer, value=difference)


def find_comparison(tree: Tree, language: str) -> Evidence:
    """This run's comparison of the two on a language's task."""
    about = f"difference of lora and layers on {language}"
    task = find_task(tree, language)
    for place, entry in enumerate(tree["comparisons"]):
        if task == entry["task"] and {entry["first"], entry["second"]} == {"lora", "layers"}:
            about = f"{entry['metric']} of {entry['first']} less that of {entry['second']} on {task}"
            return Evidence(
                about=about,
                pointer=build_pointer("comparisons", place),
                value=entry.get("difference"),
                interval=entry.get("interval"),
                reason=entry.get("reason"),
            )
    return miss(about, "this run has no such methods or task")


def find_trainings(tree: Tree, method: str, key: str) -> Sequence[Evidence]:
    """A number of each of a method's trainings; at least one entry, if only that there is none."""
    about = f"{key} of {method}"
    place = find_method(tree, method)
    found = [
        Evidence(
            about=f"{about}, {training['task']}, seed {entry['seed']}",
            pointer=build_pointer("methods", place or 0, "seeds", number, "trainings", index, key),
            value=training[key],
            reason=None if training[key] is not None else f"not counted: {training['memory_counter']}",
        )
        for number, entry in enumerate([] if place is None else tree["methods"][place]["seeds"])
        for index, training in enumerate(entry["trainings"])
    ]
    return found or [miss(about, "this run has no such training")]


def find_task(tree: Tree, language: str) -> str | None:
    """The first task in a language."""
    return next((task["name"] for task in tree["tasks"] if task["language"] == language), None)


def find_method(tree: Tree, name: str) -> int | None:
    """Where a method stands in the run."""
    return next((place for place, method in enumerate(tree["methods"]) if method["name"] == name), None)


def read_evidence(tree: Tree, about: str, *parts: str | int) -> Evidence:
    """The value and interval that stand at a place."""
    pointer = build_pointer(*parts)
    found = read_pointer(tree, pointer)
    return Evidence(
        about=about,
        pointer=pointer,
        value=found["value"],
        interval=found["interval"],
        reason=found["reason"] if found["value"] is None else None,
    )


def miss(about: str, reason: str) -> Evidence:
    """That there is no such number in this run."""
    return Evidence(about=about, pointer=None, value=None, reason=reason)
