"""What a run found, in sentences: each is generated from one key of the results, and says which.

What this does not do: test anything (``results.verdicts`` did), or round a verdict up: who is better is what
the adjusted interval says, and where it does not say, the sentence says that.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codestrata.report.pointers import build_pointer
from codestrata.report.tables import Results, list_task_names, write_interval

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A sentence, and the JSON pointer to what it is generated from: its numbers stand there."""

    pointer: str
    text: str


@dataclass(frozen=True)
class Chapter:
    """Findings under one heading."""

    heading: str
    findings: tuple[Finding, ...]


def list_chapters(results: Results) -> list[Chapter]:
    """All findings, what matters most first; chapters without a finding are left out."""
    chapters = (
        Chapter("What was reached", tuple(find_reached(results))),
        Chapter("Against the controls", tuple(find_above_controls(results))),
        Chapter("Between the methods", tuple(find_differences(results))),
        Chapter("What was lost", tuple(find_losses(results))),
        Chapter("What carried over", tuple(find_transfer(results))),
        Chapter("How far to trust it", tuple(find_limits(results))),
    )
    return [chapter for chapter in chapters if chapter.findings]


def list_findings(results: Results) -> list[Finding]:
    """All findings in their order."""
    return [finding for chapter in list_chapters(results) for finding in chapter.findings]


def find_reached(results: Results) -> Iterator[Finding]:
    """What the base scores, and each trained method at the end, task by task."""
    metric = results["headline_metric"]
    for number, cell in enumerate(results["base"]["cells"]):
        score = cell["scores"].get(metric)
        if cell["split"] == "test" and score is not None and score["value"] is not None:
            yield Finding(
                build_pointer("base", "cells", number, "scores", metric),
                f"The base scores {metric} {write_value(score)} on {cell['task']} (n = {score['n']}).",
            )
    for number, method in list_trained_places(results):
        for task in list_task_names(results):
            score = method["final"].get("test", {}).get(task, {}).get(metric)
            if score is None:
                continue
            pointer = build_pointer("methods", number, "final", "test", task, metric)
            if score["value"] is None:
                text = f"`{method['name']}` has no {metric} on {task}: {score['reason'].removesuffix('.')}."
            else:
                text = (
                    f"`{method['name']}` reaches {metric} {write_value(score)} on {task} "
                    f"({write_basis(score['n'], score['seeds'])})."
                )
            yield Finding(pointer, text)


def find_above_controls(results: Results) -> Iterator[Finding]:
    """Per method and task whether it is above all controls, said by the control that decides it."""
    for judged in results["above_controls"]:
        method, task = judged["method"], judged["task"]
        entries = [
            (number, entry)
            for number, entry in enumerate(results["control_comparisons"])
            if (entry["first"], entry["task"]) == (method, task)
        ]
        number, entry = choose_decisive(entries, judged["verdict"])
        yield Finding(
            build_pointer("control_comparisons", number),
            describe_control_verdict(judged["verdict"], entry) + note_noise(results, entry) + ".",
        )


def choose_decisive(entries: Sequence[tuple[int, Entry]], verdict: str) -> tuple[int, Entry]:
    """The comparison that the verdict over all controls hangs on.

    Among those that decide it (lost ones for ``not above``, undecided ones for ``cannot tell``) the one in
    which the method comes off worst.
    """
    wanted = {"above": ("first",), "not above": ("second",), "cannot tell": ("cannot tell", None)}[verdict]
    deciding = [(number, entry) for number, entry in entries if entry["verdict"] in wanted]
    return min(deciding, key=lambda found: found[1].get("difference", -math.inf))


def describe_control_verdict(verdict: str, entry: Entry) -> str:
    """Above the controls, not above them, or not to be told; without the full stop."""
    method, control, task = f"`{entry['first']}`", f"`{entry['second']}`", entry["task"]
    if entry["verdict"] is None:
        return (
            f"It cannot be told whether {method} is above the controls on {task}: it was not compared with "
            f"{control}: {entry['reason']}"
        )
    less = f"{entry['metric']} of {method} less that of {control}"
    difference = f"{less} is {write_signed(entry)} ({write_basis_of(entry)})"
    if verdict == "above":
        return (
            f"{method} is above the controls on {task}: even the closest, {control}, is worse; {difference}"
        )
    if verdict == "not above":
        return f"{method} is NOT above the controls on {task}: {control} is better; {difference}"
    return (
        f"It cannot be told whether {method} is above the controls on {task}: {control} cannot be told from "
        f"it; {difference}; {write_needed(entry)}"
    )


def find_differences(results: Results) -> Iterator[Finding]:
    """Every pair of methods on every task: who is better, or what it would take to tell."""
    for number, entry in enumerate(results["comparisons"]):
        yield Finding(
            build_pointer("comparisons", number),
            describe_difference(entry) + note_noise(results, entry) + ".",
        )


def describe_difference(entry: Entry) -> str:
    """Who beats whom, or that it cannot be told; without the full stop."""
    first, second, task, metric = entry["first"], entry["second"], entry["task"], entry["metric"]
    if entry["verdict"] is None:
        return f"`{first}` and `{second}` were not compared on {task}: {entry['reason']}"
    if entry["verdict"] in ("first", "second"):
        loser = second if entry["verdict"] == "first" else first
        return (
            f"`{entry[entry['verdict']]}` beats `{loser}` on {task}: {metric} of `{first}` less that of "
            f"`{second}` is {write_signed(entry)} ({write_basis_of(entry)}){write_detectable(entry)}"
        )
    return (
        f"Cannot tell `{first}` from `{second}` on {task}: difference in {metric} {write_signed(entry)} "
        f"({write_basis_of(entry)}); {write_needed(entry)}{write_detectable(entry)}"
    )


def note_noise(results: Results, entry: Entry) -> str:
    """A warning where methods differ by no more than the same weights did on the task, decoded twice."""
    sizes = [
        abs(repeat["differences"][entry["metric"]])
        for repeat in results["noise_floor"]["entries"]
        if repeat["task"] == entry["task"] and repeat["differences"][entry["metric"]] is not None
    ]
    if not sizes or entry["verdict"] not in ("first", "second"):
        return ""
    within = abs(entry["difference"]) <= max(sizes)
    return "; but the same weights, evaluated twice, differed as much" if within else ""


def find_losses(results: Results) -> Iterator[Finding]:
    """What the sequence took from earlier tasks, method by method."""
    metric = results["headline_metric"]
    for number, method in list_trained_places(results):
        found = method["continual"][metric]["forgetting"]
        yield Finding(
            build_pointer("methods", number, "continual", metric, "forgetting"),
            describe_loss(method["name"], metric, found),
        )


def describe_loss(name: str, metric: str, found: Entry) -> str:
    """Forgetting with its interval, structural or found."""
    if found["value"] is None:
        return f"`{name}`: forgetting was not computed: {found['reason'].rstrip('.')}."
    if found["structural"]:
        return (
            f"`{name}` forgets {found['value']:z.3f}, structural: every task has a component of its own, so "
            "this is by construction and no finding."
        )
    value = f"{write_value(found)} in {metric}{write_continual_basis(found)}"
    side = find_side(found["interval"])
    if side is None:
        return f"`{name}`: forgetting over earlier tasks is {value}, without an interval: nothing is claimed."
    if side > 0:
        return f"`{name}` forgets: F over earlier tasks is {value}."
    if side < 0:
        return f"`{name}` improves on earlier tasks: F is {value}."
    return f"Cannot tell whether `{name}` forgets: F over earlier tasks is {value}."


def find_side(interval: Entry | None) -> int | None:
    """1 where the interval lies above 0, -1 below, 0 where it holds 0; ``None`` without one."""
    if interval is None:
        return None
    return int(interval["low"] > 0) - int(interval["high"] < 0)


def find_transfer(results: Results) -> Iterator[Finding]:
    """What a shared component brought to later tasks, and a task's own component to other tasks."""
    metric = results["headline_metric"]
    for number, method in list_trained_places(results):
        found = method["continual"][metric]["forward_transfer"]
        if found["value"] is not None and not found["structural"]:
            yield Finding(
                build_pointer("methods", number, "continual", metric, "forward_transfer"),
                describe_forward_transfer(method["name"], metric, found),
            )
        entry = method["seeds"][0]
        for place, cell in enumerate(entry["transfer"]["cells"]):
            score = cell["scores"].get(metric)
            if score is not None and score["value"] is not None:
                yield Finding(
                    build_pointer("methods", number, "seeds", 0, "transfer", "cells", place),
                    f"The component that `{method['name']}` trained on {cell['trained_through']} scores "
                    f"{metric} {write_value(score)} on {cell['task']} ({write_basis(score['n'], 1)}).",
                )


def describe_forward_transfer(name: str, metric: str, found: Entry) -> str:
    """Whether earlier tasks helped with later ones that were not trained yet."""
    value = f"{write_value(found)} in {metric}{write_continual_basis(found)}"
    words = {
        1: f"`{name}`: earlier tasks help with later ones: FWT is {value}.",
        -1: f"`{name}`: earlier tasks harm later ones before they are trained: FWT is {value}.",
        0: f"`{name}`: cannot tell whether earlier tasks help with later ones: FWT is {value}.",
        None: f"`{name}`: FWT is {value}, without an interval: nothing is claimed.",
    }
    return words[find_side(found["interval"])]


def find_limits(results: Results) -> Iterator[Finding]:
    """Noise floor, proofs of isolation, confinement of programs, and completions cut at the limit."""
    yield describe_noise_floor(results)
    yield from find_isolation(results)
    for language, isolation in results["execution"].items():
        rung, runtime = isolation["rung"], isolation["runtime"]
        text = (
            f"Generated {language} programs were not run: {isolation['reason'].removesuffix('.')}."
            if rung is None
            else f"Generated {language} programs ran {write_confinement(rung)} ({runtime})."
        )
        yield Finding(build_pointer("execution", language), text)
    yield from find_cut(results)


def write_confinement(rung: str) -> str:
    """What a rung did, in words: plain limits confine nothing."""
    return "unconfined, under plain limits alone" if rung == "limits" else f"confined by `{rung}`"


def describe_noise_floor(results: Results) -> Finding:
    """What two evaluations of the same weights differ by."""
    floor = results["noise_floor"]
    if floor["largest"] is None:
        text = f"There is no noise floor: {floor['reason']}."
    else:
        text = (
            f"Noise floor: the same weights, evaluated twice, differed by up to {floor['largest']:z.3f} in "
            f"{floor['metric']}, in {len(floor['entries'])} pairs of evaluations."
        )
    return Finding(build_pointer("noise_floor"), text)


def find_isolation(results: Results) -> Iterator[Finding]:
    """What shows that components stayed apart: cells decoded again or taken over, and the base's hash."""
    yield from (Finding(build_pointer("isolation"), text) for text in list_proofs(results["isolation"]))


def list_proofs(found: Entry) -> Iterator[str]:
    """Proofs of isolation with their counts: by decoding first, then by bytes."""
    if found["rechecked_cells"]:
        yield (
            f"Isolation by decoding: {found['rechecked_cells']} cells of older tasks were decoded again "
            f"after later training; {found['identical_cells']} gave the same predictions to the last "
            "character."
        )
    if found["canary_cells"]:
        yield (
            f"Isolation by decoding: {found['canary_predictions']} predictions, canaries of "
            f"{found['canary_cells']} cells of older tasks, were decoded again after the last training; in "
            f"{found['identical_canary_cells']} cells they were the same to the last character."
        )
    if found["taken_over_cells"]:
        yield (
            f"Isolation by bytes: {found['taken_over_cells']} cells were taken over and not decoded, as base "
            "and component had the fingerprints with which they were decoded before."
        )
    if found["trainings"]:
        yield (
            f"The frozen base kept its fingerprint in {found['base_unchanged']} of {found['trainings']} "
            "trainings."
        )


def find_cut(results: Results) -> Iterator[Finding]:
    """How many completions at the end of the sequence the length limit cut, where it cut any."""
    for number, method in enumerate(results["methods"]):
        found = method["unfinished"]
        if found["count"]:
            yield Finding(
                build_pointer("methods", number, "unfinished"),
                f"`{method['name']}`: the length limit cut {found['count']} of its {found['n']} completions "
                "at the end.",
            )


def list_trained_places(results: Results) -> list[tuple[int, Entry]]:
    """(position, method) of the methods that train something."""
    return [(n, method) for n, method in enumerate(results["methods"]) if method["component"] is not None]


def write_value(found: Entry) -> str:
    """A value with its interval."""
    return f"{found['value']:z.3f}{write_interval(found['interval'])}"


def write_signed(entry: Entry) -> str:
    """A difference with its interval."""
    return f"{entry['difference']:z.3f}{write_interval(entry['interval'])}"


def write_basis(n: int, seeds: int) -> str:
    """What a number rests on: examples, and one seed or several."""
    return f"n = {n}, {'for this seed only' if seeds == 1 else f'{seeds} seeds'}"


def write_basis_of(entry: Entry) -> str:
    """What a comparison rests on."""
    return write_basis(entry["n"], entry["seeds"])


def write_continual_basis(found: Entry) -> str:
    """That a number of the sequence holds for one seed only, where it does."""
    return " (for this seed only)" if found["seeds"] == 1 else f" ({found['seeds']} seeds)"


def write_needed(entry: Entry) -> str:
    """What more it would take to tell two apart."""
    ways = []
    if entry["examples_needed"] is not None:
        ways.append(f"about {math.ceil(entry['examples_needed']):,} more examples")
    if entry["seeds_needed"] is not None:
        ways.append(f"about {math.ceil(entry['seeds_needed']):,} more seeds")
    if not ways:
        reasons = dict.fromkeys((entry["examples_needed_reason"], entry["seeds_needed_reason"]))
        return f"no number of more examples or seeds is known that would: {'; '.join(reasons)}"
    return " or ".join(ways) + " would"


def write_detectable(entry: Entry) -> str:
    """The smallest difference that such a comparison finds, where it is known."""
    smallest = entry["minimum_detectable_effect"]
    return "" if smallest is None else f"; the smallest difference that could be detected is {smallest:z.3f}"
