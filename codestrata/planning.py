"""What a run would do and cost, before it does it: units of work, trained parameters, and a time estimate.

The estimate times two real training steps of every method and one real decoding batch on the loaded base.

What this does not do: write anything but token ids into the cache.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from codestrata.evaluation import predict
from codestrata.lab import Lab, list_splits, open_lab
from codestrata.methods import Method, build_component, choose_learning_rate, resolve_methods
from codestrata.progress import Progress, Silence
from codestrata.results.rechecks import Recheck, choose_recheck
from codestrata.settings.tree import Settings
from codestrata.training import count_steps, fit

TIMED_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class MethodPlan:
    """What one method would train: per task and seed, and the estimate for all of them."""

    name: str
    parameters: int
    steps_per_task: tuple[int, ...]
    trainings: int
    decoded_cells: int
    training_seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run: its methods, how many prompts are decoded, and the estimated seconds."""

    methods: tuple[MethodPlan, ...]
    examples: dict[str, dict[str, int]]
    decoded_prompts: int
    decoding_seconds: float

    @property
    def total_seconds(self) -> float:
        """Training and decoding together; scoring and loading are left out."""
        return self.decoding_seconds + sum(method.training_seconds for method in self.methods)


def plan_run(settings: Settings, progress: Progress | None = None) -> Plan:
    """The plan of a run. Raises what ``run_experiment`` raises before it trains."""
    methods = resolve_methods(settings.methods)
    lab = open_lab(settings, progress or Silence())
    lab.progress.start("time two steps of each method", len(methods))
    plans = []
    for number, method in enumerate(methods, start=1):
        plans.append(plan_method(lab, method))
        lab.progress.advance(number, method.name)
    decoded = count_prompts(lab, methods) * settings.decoding.samples
    return Plan(
        methods=tuple(plans),
        examples={
            task.name: {"train": len(task.train), "test": len(task.test), "unseen": len(task.unseen)}
            for task in lab.tasks
        },
        decoded_prompts=decoded,
        decoding_seconds=decoded * time_decoding(lab),
    )


def count_prompts(lab: Lab, methods: Sequence[Method]) -> int:
    """How many prompts are decoded, each once per sample: row 0, R, X and what is decoded twice.

    Not foreseen is that a component comes to the same bytes as another: its answers are then taken over.
    """
    recheck, last = choose_recheck(lab.settings), len(lab.tasks)
    trained = [method for method in methods if method.component is not None]
    isolated = [method for method in trained if method.has_component_per_task]
    seeds = len(lab.settings.seeds)
    total = sum(len(part) for task in lab.tasks for part in list_splits(task).values())
    for row, task in enumerate(lab.tasks, start=1):
        prompts, tests = sum(map(len, list_splits(task).values())), len(task.test)
        total += prompts * seeds * sum(count_decodes(method, row, last, recheck) for method in methods)
        if recheck == "canary" and row < last:
            canaries = min(tests, lab.settings.measurement.canary_examples)
            total += canaries * seeds * len(isolated)
        if lab.settings.measurement.transfer:
            total += tests * seeds * len(isolated) * (last - 1)
        if lab.settings.decoding.temperature is not None and trained:
            total += tests * seeds * len(trained)
        elif row == last or (not isolated and recheck != "off"):  # no recheck covers it: twice by the base
            total += tests
    return total


def count_decodes(method: Method, position: int, tasks: int, recheck: Recheck) -> int:
    """How often a task, at its position from 1, is decoded as a whole by one method and seed."""
    if method.component is None:
        return 0
    if not method.has_component_per_task:
        return tasks
    before = position - 1 if method.schedule == "warm" else 0  # by the components it will begin as
    return before + (tasks - position + 1 if recheck == "full" else 1)


def plan_method(lab: Lab, method: Method) -> MethodPlan:
    """The method's part of the plan, timed on the first task."""
    seeds = len(lab.settings.seeds)
    steps = count_method_steps(lab, method)
    if method.component is None:
        return MethodPlan(
            name=method.name,
            parameters=0,
            steps_per_task=(),
            trainings=0,
            decoded_cells=0,
            training_seconds=0.0,
        )
    parameters, seconds = time_training(lab, method)
    recheck = choose_recheck(lab.settings)
    decodes = [count_decodes(method, row, len(lab.tasks), recheck) for row in range(1, len(lab.tasks) + 1)]
    return MethodPlan(
        name=method.name,
        parameters=parameters,
        steps_per_task=steps,
        trainings=len(lab.tasks) * seeds,
        decoded_cells=sum(decodes) * seeds,
        training_seconds=seconds * sum(steps) * seeds,
    )


def count_method_steps(lab: Lab, method: Method) -> tuple[int, ...]:
    """Optimizer steps of each training: joint ones take as many as all tasks so far one by one."""
    own = [count_steps(len(lab.encoded[task.name]), lab.settings.training) for task in lab.tasks]
    return tuple(accumulate(own)) if method.schedule == "joint" else tuple(own)


def time_training(lab: Lab, method: Method) -> tuple[int, float]:
    """(trained parameters, seconds per step) from two steps after a first one."""
    component = build_component(method, lab.base, lab.settings)
    component.attach("trial", seed=0)
    stopwatch = Stopwatch()
    fit(
        component,
        "trial",
        lab.encoded[lab.tasks[0].name],
        replace(lab.settings.training, steps=1 + TIMED_STEPS, epochs=None),
        learning_rate=choose_learning_rate(method, lab.settings),
        seed=0,
        pad_id=lab.base.tokenizer.pad_token_id,
        device=lab.base.device,
        progress=stopwatch,
    )
    parameters = sum(parameter.numel() for parameter in component.parameters("trial").values())
    component.detach("trial")
    return parameters, (stopwatch.stamps[-1] - stopwatch.stamps[0]) / TIMED_STEPS


class Stopwatch(Silence):
    """A watcher that notes when every unit was over."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def advance(self, done: int, note: str = "") -> None:
        """Note the time."""
        self.stamps.append(time.perf_counter())


def time_decoding(lab: Lab) -> float:
    """Seconds per prompt, from one batch of the first task decoded by the untouched base."""
    examples = lab.tasks[0].test[: lab.settings.decoding.batch_size]
    started = time.perf_counter()
    predict(
        lab.base,
        examples,
        lab.settings.decoding,
        max_prompt_tokens=lab.settings.training.max_prompt_tokens,
    )
    return (time.perf_counter() - started) / len(examples)
