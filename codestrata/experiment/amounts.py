"""Amounts of training: the tokens that steps take, and the steps that bring tokens or time to a target.

Tokens are counted out of the very plan of examples that a training follows, replayed ones included.

What this does not do: train, or foresee where a training stops early.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codestrata.contracts import Lesson
from codestrata.data.batches import EncodedExample, measure_extents, measure_rows, plan_epoch
from codestrata.engine.bench import list_used
from codestrata.errors import SettingsError
from codestrata.experiment.trainings import choose_training, count_task_steps, gather_examples
from codestrata.lab import Lab
from codestrata.methods import Method, build_retention
from codestrata.models.families import find_family
from codestrata.records import Task
from codestrata.retention.replay import Replay
from codestrata.settings.sections import TrainingSettings
from codestrata.training import count_steps, plan_steps

Plan = Sequence[Sequence[int]]
MOST_STEPS = 10**7
"""More optimizer steps of one training are no plan: the list of them alone would fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Amount:
    """What one training takes: optimizer steps, and prompt and target tokens without padding."""

    task: str
    steps: int
    tokens: int


def list_counted(lab: Lab, method: Method, task: Task) -> tuple[Task, ...]:
    """The tasks whose shares of the target a training gets.

    A joint model is made anew for every task: it gets what the others spend on all tasks so far.
    """
    position = lab.tasks.index(task)
    return lab.tasks[: position + 1] if method.schedule == "joint" else (task,)


def count_amounts(lab: Lab, method: Method, targets: Mapping[str, float] | None = None) -> tuple[Amount, ...]:
    """What each training of a method takes, with the run's first seed.

    With ``targets`` (task -> tokens) each has the steps whose tokens come nearest, at least one; without, as
    many as are set. Steps are a setting of the method, so they are the same for every seed; the order of
    examples is not, and with it the tokens differ a little from seed to seed.

    Raises: SettingsError: a target of more steps than are planned.
    """
    seed, causal = lab.settings.seeds[0], find_family(lab.base.model).is_causal
    retention = build_retention(method, lab.settings, seed=seed)
    replay = retention if isinstance(retention, Replay) else None  # the others add no examples
    amounts = []
    for task in lab.tasks:
        own = gather_examples(lab, method, task)
        training = choose_training(lab, method, task)
        rows: Sequence[EncodedExample] = own
        if targets is None:
            extents = measure_extents(measure_rows(own), causal=causal)
            target, plan = None, plan_steps(extents, training, seed=seed)
        else:
            target = sum(targets[entry.name] for entry in list_counted(lab, method, task))
            refuse_too_many(lab, task, estimate_steps(own, training, target))
            plan = plan_tokens(own, training, target, seed=seed, causal=causal)
        if replay is not None:
            rows, mixed = replay.mix(rows, plan, seed=seed)
            plan = [list(step) for step in mixed]
        tokens = measure_rows(rows).sum(1)
        reached = np.cumsum([tokens[list(step)].sum() for step in plan])
        steps = len(plan) if target is None else find_nearest_step(reached, target)
        if replay is not None:
            remember(replay, own, plan[:steps])
        amounts.append(Amount(task=task.name, steps=steps, tokens=int(reached[steps - 1])))
    return tuple(amounts)


def plan_tokens(
    rows: Sequence[EncodedExample],
    settings: TrainingSettings,
    target: float,
    *,
    seed: int,
    causal: bool,
) -> list[list[int]]:
    """The steps that ``training.fit`` would take, until they have at least so many tokens."""
    lengths = measure_rows(rows)
    extents = measure_extents(lengths, causal=causal)
    tokens, plan, total, epoch = lengths.sum(1), list[list[int]](), 0, 0
    while total < target:
        for step in plan_epoch(extents, settings.batch_size, seed=seed, epoch=epoch):
            plan.append(step)
            total += int(tokens[step].sum())
            if total >= target:
                break
        epoch += 1
    return plan


def estimate_steps(rows: Sequence[EncodedExample], settings: TrainingSettings, target: float) -> float:
    """About how many steps so many tokens take, if nothing is replayed."""
    return target / int(measure_rows(rows).sum()) * math.ceil(len(rows) / settings.batch_size)


def refuse_too_many(lab: Lab, task: Task, steps: float) -> None:
    """Refuse a target that no training could reach. Raises SettingsError: with the steps it comes to."""
    if steps <= MOST_STEPS:
        return
    fair = lab.settings.fair
    stated = "is null" if fair.target is None else f"is {fair.target:g}"
    raise SettingsError(
        f"fair.target {stated} with fair.match {fair.match}: on task {task.name!r} that comes to about "
        f"{steps:,.0f} optimizer steps, and at most {MOST_STEPS:,} are planned. Give a lower fair.target."
    )


def check_token_target(lab: Lab, methods: Sequence[Method]) -> None:
    """Refuse a number of tokens that no training could reach. Raises SettingsError: as said."""
    target = lab.settings.fair.target
    if target is None:
        return
    for method in methods:
        for task in lab.tasks:
            own, training = gather_examples(lab, method, task), choose_training(lab, method, task)
            total = target * len(list_counted(lab, method, task))
            refuse_too_many(lab, task, estimate_steps(own, training, total))


def find_nearest_step(reached: np.ndarray, target: float) -> int:
    """How many steps come nearest to the target; ``reached`` are the tokens after each. The fewer of two.

    >>> find_nearest_step(np.array([10, 20, 30]), 24)
    2
    """
    return 1 + int(np.argmin(np.abs(reached - target)))


def remember(replay: Replay, own: Sequence[EncodedExample], plan: Plan) -> None:
    """Fill the reservoir as the training of these steps will."""
    used = sorted(number for number in list_used(plan) if number < len(own))
    examples = {number: own[number] for number in used}
    replay.remember(Lesson(parameters={}, examples=examples, usual_targets=0.0, differentiate=ignore))


def ignore(number: int) -> None:
    """Differentiate nothing: a reservoir asks for no gradients."""


def share_out(lab: Lab, method: Method, amounts: Sequence[float]) -> dict[str, float]:
    """Task -> its share of what a method's trainings take, one amount per task.

    Of a joint method a task's share is what its training takes more than the one before.
    """
    names = [task.name for task in lab.tasks]
    if method.schedule != "joint":
        return dict(zip(names, amounts, strict=True))
    before = [0.0, *amounts[:-1]]
    return {name: amount - earlier for name, amount, earlier in zip(names, amounts, before, strict=True)}


def choose_token_targets(lab: Lab, reference: Method) -> dict[str, float]:
    """Task -> the training tokens that every method gets for it."""
    if lab.settings.fair.target is not None:
        return {task.name: lab.settings.fair.target for task in lab.tasks}
    return share_out(lab, reference, [amount.tokens for amount in count_amounts(lab, reference)])


def choose_time_targets(lab: Lab, seconds_per_step: float) -> dict[str, float]:
    """Task -> the seconds of training that every method gets for it; the reference takes so long a step."""
    target = lab.settings.fair.target
    return {
        task.name: count_task_steps(lab, task) * seconds_per_step if target is None else target
        for task in lab.tasks
    }


def count_timed_steps(
    lab: Lab, method: Method, targets: Mapping[str, float], seconds_per_step: float
) -> tuple[int, ...]:
    """Steps of each training whose time comes nearest to the targets (task -> seconds), at least one.

    Raises: SettingsError: more steps than are planned.
    """
    counts = []
    for task in lab.tasks:
        steps = sum(targets[own.name] for own in list_counted(lab, method, task)) / seconds_per_step
        refuse_too_many(lab, task, steps)
        counts.append(max(1, round(steps)))
    return tuple(counts)


def count_set_steps(lab: Lab, method: Method) -> tuple[int, ...]:
    """Steps of each training of a method, as they are set."""
    return tuple(
        count_steps(len(gather_examples(lab, method, task)), choose_training(lab, method, task))
        for task in lab.tasks
    )


def with_steps(settings: TrainingSettings, steps: int) -> TrainingSettings:
    """The same training of so many steps."""
    return replace(settings, steps=steps, epochs=None)
