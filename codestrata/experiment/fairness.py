"""A fair comparison: what methods get as much of, the settings solved for it, and each one's learning rate.

The run's settings stay what the user wrote. What was solved stands in the run's journal and in the results
under ``fair``; ``give_own_settings`` is the one place where a method's own settings come from it.

What this does not do: count sizes (``matching``), plan steps (``amounts``) or try learning rates (``rates``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from codestrata.errors import SettingsError
from codestrata.experiment.amounts import (
    check_token_target,
    choose_time_targets,
    choose_token_targets,
    count_amounts,
    count_set_steps,
    count_timed_steps,
)
from codestrata.experiment.matching import KNOBS, check_target, measure_method, solve_size
from codestrata.experiment.rates import check_judge, check_search, search_rate
from codestrata.experiment.timing import time_training
from codestrata.lab import Lab
from codestrata.methods import Method, choose_learning_rate
from codestrata.settings.fair import FairSettings, apply_values
from codestrata.settings.tree import Settings

UNIT = "fair/chosen"
"""What the journal calls all that was solved."""
UNITS = {"parameters": "trained parameters", "bytes": "bytes", "tokens": "tokens", "time": "seconds"}
TIMED_STEPS = 5
STEPS_KNOB = "training.steps"


def check_fair(settings: Settings, methods: Sequence[Method]) -> None:
    """Refuse what cannot be made fair, before anything is loaded. Raises SettingsError: why not."""
    reference = next((method for method in methods if method.name == settings.fair.reference), None)
    if reference is not None and reference.component is None:
        raise SettingsError(
            f"fair.reference is {reference.name!r}, which trains nothing: name a method that does."
        )
    check_search(settings)


def check_solvable(lab: Lab, methods: Sequence[Method]) -> None:
    """Refuse what base and tasks show cannot be made fair, before anything is solved or written.

    Raises: SettingsError: a target out of all proportion, or nothing to judge learning rates by.
    """
    fair, trained = lab.settings.fair, [method for method in methods if method.component is not None]
    if not trained:
        return
    check_judge(lab)
    if fair.match == "tokens":
        check_token_target(lab, trained)
    elif fair.match in ("parameters", "bytes") and fair.target is not None:
        check_target(lab, fair.target)


def is_fair(settings: FairSettings) -> bool:
    """Whether anything is to be solved or searched for."""
    return settings.match is not None or bool(settings.rates)


def make_fair(lab: Lab, methods: Sequence[Method], *, search: bool = True) -> Lab:
    """The lab with all that was solved for the methods; the same one where nothing is asked for.

    Args:
        lab: base, tasks and the run's settings.
        methods: all of the run's.
        search: try the learning rates too; else they stay as they are set.

    Raises: SettingsError: as ``check_solvable``; a method that diverges with every rate; a time of more steps
        than are planned.
    """
    check_fair(lab.settings, methods)
    check_solvable(lab, methods)
    trained = [method for method in methods if method.component is not None]
    if not is_fair(lab.settings.fair) or not trained:
        return lab
    fair = lab.journal.recall(UNIT, dict[str, Any], partial(solve_all, lab, trained, search=search))
    # One that was taken over from a run of more methods tells of those too.
    fair["methods"] = {method.name: fair["methods"][method.name] for method in trained}
    for line in describe_solution(fair):
        lab.progress.say(line)
    return replace(lab, fair=fair)


def give_own_settings(lab: Lab, method: Method) -> Lab:
    """The lab as one method sees it: ``settings`` are its own, ``steps`` those that were solved for it."""
    fair = lab.fair
    if fair is None or method.name not in fair["methods"]:
        return lab
    settings = apply_values(lab.settings, fair["methods"][method.name]["values"])
    lab = replace(lab, settings=settings, run_settings=lab.run_settings or lab.settings)
    return replace(lab, steps=solve_steps(lab, method, fair))


def solve_all(lab: Lab, trained: Sequence[Method], *, search: bool) -> dict[str, Any]:
    """The results' entry ``fair``, worked out now."""
    settings = lab.settings.fair
    reference = next((entry for entry in trained if entry.name == settings.reference), trained[0])
    fair: dict[str, Any] = {
        "match": settings.match,
        "unit": None if settings.match is None else UNITS[settings.match],
        "reference": reference.name if settings.match is not None and settings.target is None else None,
        "target": None,
        "tolerance": settings.tolerance,
        "machine_dependent": settings.match == "time",
        "methods": {method.name: build_entry() for method in trained},
    }
    if settings.match in ("parameters", "bytes"):
        match_sizes(lab, reference, trained, fair)
    elif settings.match is not None:
        match_steps(lab, reference, trained, fair)
    for method in trained:
        assert method.component is not None
        own = fair["methods"][method.name]
        if settings.rates and search:
            found = search_rate(give_own_settings(replace(lab, fair=fair), method), method)
            own["search"] = asdict(found)
            own["values"][f"{method.component.replace('-', '_')}.learning_rate"] = found.chosen
        own["learning_rate"] = choose_learning_rate(method, apply_values(lab.settings, own["values"]))
    return fair


def build_entry() -> dict[str, Any]:
    """A method's entry before anything is solved for it."""
    return {
        "knob": None,
        "values": {},
        "steps": None,
        "seconds_per_step": None,
        "target": None,
        "reached": None,
        "deviation": None,
        "within_tolerance": None,
        "reason": None,
        "learning_rate": None,
        "search": None,
    }


def match_sizes(lab: Lab, reference: Method, trained: Sequence[Method], fair: dict[str, Any]) -> None:
    """Solve every method's size for the target, which is the reference's as it is set unless one is given."""
    target = lab.settings.fair.target
    is_given = target is not None
    if target is None:
        target = measure_method(lab, reference)
    check_target(lab, target)
    fair["target"] = target
    for method in trained:
        own, knob = fair["methods"][method.name], KNOBS.get(method.component or "")
        if method == reference and not is_given:
            values, reached = dict[str, float](), target
        else:
            values, reached = solve_size(lab, method, target)
        own["values"] |= values
        own["knob"] = None if knob is None else knob.name
        state_outcome(own, target, reached, lab.settings.fair.tolerance)
        if not own["within_tolerance"]:
            own["reason"] = (
                f"nothing sets the size of component {method.component}"
                if knob is None
                else f"{knob.name} {values[knob.name]:g} comes nearest of all whole numbers that it can have"
            )


def match_steps(lab: Lab, reference: Method, trained: Sequence[Method], fair: dict[str, Any]) -> None:
    """Solve every method's steps for the tokens or the time that the reference takes as it is set."""
    if lab.settings.fair.match == "tokens":
        fair["target"] = choose_token_targets(lab, reference)
    else:
        time_methods(lab, trained, fair)
        fair["target"] = choose_time_targets(lab, fair["methods"][reference.name]["seconds_per_step"])
    for method in trained:
        own = fair["methods"][method.name]
        steps = solve_steps(lab, method, fair)
        own["knob"], own["steps"] = STEPS_KNOB, steps
        target, reached = measure_steps(replace(lab, steps=steps), method, fair)
        state_outcome(own, target, reached, lab.settings.fair.tolerance)
        if not own["within_tolerance"]:
            own["reason"] = "no whole number of steps comes nearer"


def time_methods(lab: Lab, trained: Sequence[Method], fair: dict[str, Any]) -> None:
    """Note every method's pace. Methods whose steps are the same work share one: noise must not part them.

    Where later trainings change less than the first (schedule ``kept``), a later one's pace serves for all.
    """
    paces: dict[str, float] = {}
    lab.progress.start(f"time {TIMED_STEPS} steps of each method", len(trained))
    for number, method in enumerate(trained, start=1):
        unit = f"fair/time/{method.component}-{method.retention or 'alone'}"
        if method.schedule == "kept":
            unit += "-later"
        if unit not in paces:
            paces[unit] = lab.journal.recall(unit, float, partial(time_method, lab, method))
        fair["methods"][method.name]["seconds_per_step"] = paces[unit]
        lab.progress.advance(number, method.name)


def time_method(lab: Lab, method: Method) -> float:
    """Seconds of one training step of a method here."""
    with lab.journal.clock("timing"):
        later = method.schedule == "kept" and len(lab.tasks) > 1
        pace = time_training(lab, method, steps=TIMED_STEPS, store=lab.store, later=later)
        return max(1e-9, pace.seconds_per_step)


def solve_steps(lab: Lab, method: Method, fair: Mapping[str, Any]) -> dict[str, int]:
    """Task -> optimizer steps of the method's training on it, in the order that ``lab`` has the tasks in.

    None where steps are not what is matched. Those of the method that the others are matched to are as set.
    """
    names = [task.name for task in lab.tasks]
    if fair["match"] not in ("tokens", "time"):
        return {}
    if method.name == fair["reference"]:
        steps = list(count_set_steps(lab, method))
    elif fair["match"] == "tokens":
        steps = [amount.steps for amount in count_amounts(lab, method, fair["target"])]
    else:
        pace = fair["methods"][method.name]["seconds_per_step"]
        steps = list(count_timed_steps(lab, method, fair["target"], pace))
    return dict(zip(names, steps, strict=True))


def measure_steps(lab: Lab, method: Method, fair: Mapping[str, Any]) -> tuple[float, float]:
    """What a method should get over all its trainings of one seed, and what its steps in ``lab`` come to."""
    shares = list(fair["target"].values())
    is_joint = method.schedule == "joint"
    target = sum(sum(shares[: place + 1]) if is_joint else share for place, share in enumerate(shares))
    if fair["match"] == "tokens":
        return target, float(sum(amount.tokens for amount in count_amounts(lab, method)))
    pace = fair["methods"][method.name]["seconds_per_step"]
    return target, sum(count_set_steps(lab, method)) * pace


def state_outcome(own: dict[str, Any], target: float, reached: float, tolerance: float) -> None:
    """Say how near a method has come."""
    deviation = (reached - target) / target
    own |= {
        "target": target,
        "reached": reached,
        "deviation": deviation,
        "within_tolerance": abs(deviation) <= tolerance,
    }


def describe_solution(fair: Mapping[str, Any]) -> list[str]:
    """A line for every method that something was solved or chosen for."""
    lines = []
    for name, own in fair["methods"].items():
        parts = [f"{setting} {value:g}" for setting, value in own["values"].items()]
        if own["steps"] is not None:
            parts.append(f"steps {', '.join(map(str, own['steps'].values()))}")
        if own["reached"] is not None:
            parts.append(
                f"{own['reached']:,.0f} {fair['unit']}, {100 * own['deviation']:+.1f} % from the target"
            )
        search = own["search"]
        if search is not None and search["edge"] is not None:
            parts.append(f"the {search['edge']} rate tried: widen fair.rates")
        lines.append(f"fair, {name}: {'; '.join(parts)}")
    return lines
