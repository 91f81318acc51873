"""The one training loop: a component's parameters, encoded examples, AdamW and a learning rate schedule.

A step's examples are computed together as far as the token budget allows, and in parts beyond. What lies
below the first trained module is computed once per example, where a store for its states is given. Where
checkpoints are given, a training that was broken off goes on from the newest one, bit for bit.

What this does not do: know tasks, sequences, directories or what kind of component it trains.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from codestrata.checkpoints import Checkpoints
from codestrata.contracts import Component, Lesson, Retention
from codestrata.data.batches import EncodedExample, cut_step, measure_extents, measure_rows, plan_epoch
from codestrata.engine.bench import Bench, forget_gradients, list_used, set_up
from codestrata.engine.course import (
    Course,
    Step,
    build_checkpoint,
    describe_changes,
    find_misfit,
    go_on,
    identify,
)
from codestrata.engine.host import seeded
from codestrata.engine.memory import MemoryGauge
from codestrata.engine.passes import choose_budget, free_memory, measure_entropy, run_part
from codestrata.engine.precision import Chosen
from codestrata.engine.remarks import describe_failure, describe_kept, describe_step, say_outcome
from codestrata.engine.states import StateStore, StateUse
from codestrata.engine.watch import Stopped, ValidationLog, Watch, build_watch
from codestrata.errors import DivergenceError, TrainingError
from codestrata.models.families import find_family
from codestrata.progress import Progress, Silence
from codestrata.settings.sections import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class FitLog:
    """What one training did and cost, all processes that worked on it together.

    ``losses`` holds every step's mean cross entropy per target token (nats), a retention's penalty included.
    ``seconds`` is wall time, everything included but what was lost with a process that was killed. ``tokens``
    counts prompt and target tokens without padding; ``padding`` is the share of padding in what was computed.
    ``passes`` is how often the model ran forward and backward, ``batch_tokens`` the token budget in the end.
    ``states`` says what became of the frozen prefix, ``None`` where there is none. ``peak_memory_mib`` is the
    most that ``memory_counter`` saw. ``steps`` were taken of ``planned_steps``: fewer where validation
    ``stopped`` the training; ``validation`` is ``None`` where there was none.
    """

    steps: int
    planned_steps: int
    stopped: Stopped
    examples: int
    tokens: int
    padding: float
    seconds: float
    losses: tuple[float, ...]
    precision: Chosen
    passes: int
    batch_tokens: int
    states: StateUse | None
    peak_memory_mib: float | None
    memory_counter: str
    validation: ValidationLog | None

    @property
    def final_loss(self) -> float:
        """Mean loss of the last tenth of the steps, at least one."""
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(tail) / len(tail)


def fit(
    component: Component,
    name: str,
    rows: Sequence[EncodedExample],
    settings: TrainingSettings,
    *,
    learning_rate: float,
    seed: int,
    pad_id: int,
    device: torch.device,
    validation: Sequence[EncodedExample] = (),
    retention: Retention | None = None,
    store: StateStore | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
    label: str = "train",
) -> FitLog:
    """Train one resident component in place; it is the active one afterwards, in evaluation mode.

    Dropout inside the component is on, dropout of the frozen base only with ``settings.base_dropout`` (a
    component that replaces the base's weights adds no modules, so that its dropout is the base's). The order
    of examples and all random draws follow from ``seed``; the caller's random state is left as it was.

    Args:
        component: the kind of component, on its base.
        name: which resident to train; to go on from a checkpoint, as it was before the first step.
        rows: the examples.
        settings: of the loop.
        learning_rate: AdamW's peak.
        seed: of the order of examples and of dropout.
        pad_id: what batches are filled with.
        device: where the base is.
        validation: examples whose loss decides when to stop and which weights stay, as the settings have it;
            nothing is learned from them. Not looked at without ``settings.validation_steps``.
        retention: protects earlier tasks, and remembers this one at the end.
        store: keeps the states of the frozen prefix; ``None`` computes them in every step.
        checkpoints: keep the training's state, and the last one after the last step; the newest that is of
            this very training is where it goes on from. ``None`` keeps none.
        progress: is told of every step, as one phase called ``label``.
        label: what the phase is called.

    Raises:
        TrainingError: no examples (to train on, or to validate on where that is asked for), a loss or
            gradient that is not finite (the step and the examples are named), an example that does not fit
            into memory alone, or a base in fp16.
        StorageError: a checkpoint cannot be written.
        Interrupted: a signal came; the step under way is finished and its checkpoint stored.
    """
    if not rows:
        raise TrainingError("There are no training examples.")
    if settings.validation_steps is not None and not validation:
        raise TrainingError(
            f"training.validation_steps is {settings.validation_steps}, but there are no validation examples."
        )
    progress = progress or Silence()
    started = time.perf_counter()
    memory = MemoryGauge(device)
    own = len(rows)
    extents = measure_extents(measure_rows(rows), causal=find_family(component.model).is_causal)
    plan: Sequence[Sequence[int]] = plan_steps(extents, settings, seed=seed)
    if retention is not None:
        rows, plan = retention.mix(rows, plan, seed=seed)
    with (
        seeded(seed, device),
        set_up(
            component,
            name,
            rows,
            plan,
            settings,
            retention=retention,
            store=store,
            pad_id=pad_id,
            device=device,
            progress=progress,
            label=label,
            own=own,
        ) as bench,
    ):
        if retention is not None:
            retention.begin(bench.parameters)
        course = begin(bench, plan, settings, learning_rate=learning_rate, memory=memory, started=started)
        course.watch = build_watch(validation, settings, planned=len(plan), budget=course.budget)
        identity = dict[str, Any]()
        if checkpoints is not None:
            identity = identify(component, course, settings, learning_rate=learning_rate, seed=seed)
            find_place(course, checkpoints, identity, progress=progress, label=label)
        run_steps(course, settings, checkpoints, identity, progress=progress, label=label)
        if course.watch is not None:
            course.watch.put_back(bench.parameters)
            say_outcome(course, course.watch, progress, label)
        if retention is not None:
            retention.remember(look_back(course, own))
        return describe_course(course)


def begin(
    bench: Bench,
    plan: Sequence[Sequence[int]],
    settings: TrainingSettings,
    *,
    learning_rate: float,
    memory: MemoryGauge,
    started: float,
) -> Course:
    """A training before its first step."""
    optimizer = torch.optim.AdamW(
        # Fused: one pass over the tensors, where many small ones take longer to visit than to change.
        bench.parameters.values(),
        lr=learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = learning_rate  # where a schedule that does not begin at the first step looks
    return Course(
        bench=bench,
        plan=plan,
        optimizer=optimizer,
        memory=memory,
        started=started,
        budget=choose_budget(settings, bench.device),
    )


def find_place(
    course: Course, checkpoints: Checkpoints, identity: Mapping[str, Any], *, progress: Progress, label: str
) -> None:
    """Put a training where its newest checkpoint has it; where there is none, it begins."""
    found = checkpoints.read(lambda checkpoint: find_misfit(checkpoint, course, identity))
    if found is None:
        return
    go_on(course, found)
    progress.say(f"{label}: goes on after step {len(course.done)} of {len(course.plan)}")
    changes = describe_changes(found, course.bench)
    if changes is not None:
        progress.say(f"{label}: the last bits may differ from an uninterrupted run ({changes})")


def look_back(course: Course, own: int) -> Lesson:
    """What a retention may know of a training that is over; its first ``own`` examples were its own."""
    bench = course.bench
    alone = replace(bench, retention=None)
    bench.model.eval()
    forget_gradients(bench.parameters)

    def differentiate(number: int) -> None:
        run_part(alone, [number], bench.collate([number])).backward()  # type: ignore[no-untyped-call]

    used = sorted(number for number in list_used(course.taken) if number < own)
    return Lesson(
        parameters=bench.parameters,
        examples={number: bench.rows[number] for number in used},
        usual_targets=float(bench.lengths[:own, 1].mean()),
        differentiate=differentiate,
    )


def describe_course(course: Course) -> FitLog:
    """The log of a training that is over."""
    spent, steps, watch = course.measure(), len(course.done), course.watch
    return FitLog(
        steps=steps,
        planned_steps=len(course.plan),
        stopped=course.stopped,
        examples=sum(map(len, course.taken)),
        tokens=sum(step.tokens for step in course.done),
        padding=1 - sum(step.tokens for step in course.done) / sum(step.cells for step in course.done),
        seconds=spent.seconds,
        losses=tuple(step.loss for step in course.done),
        precision=course.bench.precision,
        passes=sum(step.passes for step in course.done),
        batch_tokens=course.budget,
        states=course.describe_states(),
        peak_memory_mib=spent.peak_memory_mib,
        memory_counter=course.memory.counter,
        validation=None if watch is None else watch.describe(steps, spent.validation_seconds),
    )


def plan_steps(lengths: np.ndarray, settings: TrainingSettings, *, seed: int) -> list[list[int]]:
    """The examples of every optimizer step: a pure function of lengths, settings and seed.

    ``lengths`` are what the examples take of a batch, (N, 2).
    """
    total = count_steps(len(lengths), settings)
    steps: list[list[int]] = []
    epoch = 0
    while len(steps) < total:
        steps += plan_epoch(lengths, settings.batch_size, seed=seed, epoch=epoch)
        epoch += 1
    return steps[:total]


def count_steps(examples: int, settings: TrainingSettings) -> int:
    """Optimizer steps of one training: as set, or what the epochs come to, at least one."""
    if settings.steps is not None:
        return settings.steps
    assert settings.epochs is not None
    return max(1, round(settings.epochs * math.ceil(examples / settings.batch_size)))


def run_steps(
    course: Course,
    settings: TrainingSettings,
    checkpoints: Checkpoints | None,
    identity: Mapping[str, Any],
    *,
    progress: Progress,
    label: str,
) -> None:
    """All optimizer steps that are not done yet, each offered to the checkpoints once it is done."""
    accelerator = Accelerator(
        cpu=course.bench.device.type == "cpu", mixed_precision="no", device_placement=False
    )
    optimizer = accelerator.prepare(course.optimizer)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        course.optimizer,
        lambda step: scale_learning_rate(step, len(course.plan), settings),
        last_epoch=len(course.done) - 1,
    )
    progress.start(label, len(course.plan))
    while not course.is_over:
        with nullcontext() if checkpoints is None else checkpoints.undisturbed():
            step = differentiate_next(course, accelerator, checkpoints, settings.clip_norm, progress)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            course.done.append(step)
            course.memory.sample()
            if course.watch is not None and course.watch.is_due(len(course.done)):
                validate(course, course.watch, checkpoints, progress)
            if checkpoints is not None:
                checkpoints.offer(
                    len(course.done), lambda: build_checkpoint(course, identity), last=course.is_over
                )
        progress.advance(len(course.done), describe_step(course))


def validate(course: Course, watch: Watch, checkpoints: Checkpoints | None, progress: Progress) -> None:
    """Measure the validation loss after the step that was taken last, and take it down.

    Out of memory halves the watch's own budget: the training goes on as it would have gone on.

    Raises: TrainingError: it is not finite.
    """
    started, step = time.perf_counter(), len(course.done)
    loss, affordable = measure_entropy(course.bench, watch.rows, watch.budget)
    if affordable < watch.budget:
        progress.say(f"out of memory: validations compute at most {affordable} tokens together from now on")
        watch.budget = affordable
    if not math.isfinite(loss):
        raise DivergenceError(
            f"The validation loss is {loss} after step {step}. Begin a new run with a lower learning rate "
            f"(--set training.learning_rate=...).{describe_kept(checkpoints)}"
        )
    watch.note(step, loss, course.bench.parameters)
    course.validation_seconds += time.perf_counter() - started


def differentiate_next(
    course: Course,
    accelerator: Accelerator,
    checkpoints: Checkpoints | None,
    clip_norm: float | None,
    progress: Progress,
) -> Step:
    """The next step's gradient, clipped; nothing is changed by it yet.

    Raises: TrainingError: its loss, or the norm of its gradient, is not finite.
    """
    bench, numbers = course.bench, course.plan[len(course.done)]
    step, affordable = differentiate(bench, numbers, course.budget, accelerator)
    if affordable < course.budget:
        progress.say(f"out of memory: at most {affordable} tokens are computed together from now on")
        course.budget = affordable
    norm = clip_gradient(bench, clip_norm, accelerator)
    for what, value in (("loss", step.loss), ("norm of the gradient", norm)):
        if not math.isfinite(value):
            identifiers = [bench.rows[number].identifier for number in numbers]
            raise DivergenceError(
                describe_failure(what, value, len(course.done) + 1, identifiers) + describe_kept(checkpoints)
            )
    return step


def clip_gradient(bench: Bench, clip_norm: float | None, accelerator: Accelerator) -> float:
    """The norm that the gradient has, or had before it was scaled down to ``clip_norm``."""
    if clip_norm is not None:
        return float(accelerator.clip_grad_norm_(bench.parameters.values(), clip_norm))
    gradients = [parameter.grad for parameter in bench.parameters.values() if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def differentiate(
    bench: Bench, numbers: Sequence[int], budget: int, accelerator: Accelerator
) -> tuple[Step, int]:
    """Add the gradient of a step's loss, in as many parts as budget and padding make worthwhile.

    CUDA out of memory halves what is computed together, and the step begins anew.

    Raises: TrainingError: one example alone does not fit.
    """
    while True:
        cut = cut_step(bench.extents[list(numbers)], budget, overhead=bench.overhead)
        parts = [[numbers[place] for place in part] for part in cut]
        try:
            return accumulate(bench, parts, accelerator), budget
        except torch.OutOfMemoryError as error:
            if budget == 1 or all(len(part) == 1 for part in parts):
                longest = int(bench.lengths[list(numbers)].sum(1).max())
                raise TrainingError(
                    f"An example of {longest} tokens does not fit into the memory of {bench.device} alone: "
                    "lower training.max_prompt_tokens and training.max_target_tokens."
                ) from error
        forget_gradients(bench.parameters)
        free_memory(bench.device)
        budget = min(budget, max(count_cells(bench, part) for part in parts)) // 2


def accumulate(bench: Bench, parts: Sequence[Sequence[int]], accelerator: Accelerator) -> Step:
    """The gradient of a step's loss, added up over its parts.

    The summed cross entropy is divided by the target tokens that as many examples have on average, not by
    this step's own: batches are of like length, and so every token of the task weighs the same.
    """
    numbers = [number for part in parts for number in part]
    divisor = bench.usual_targets * len(numbers)
    entropy, cells = 0.0, 0
    for part in parts:
        cells += count_cells(bench, part)
        loss = run_part(bench, part, bench.collate(part))
        accelerator.backward(loss / divisor)
        entropy += loss.item()
    total = entropy / int(bench.lengths[numbers, 1].sum())
    if bench.retention is not None:
        penalty = bench.retention.penalise(bench.parameters)
        if penalty is not None:
            accelerator.backward(penalty)
            total += penalty.item()
        bench.retention.restrain(bench.parameters)
    return Step(loss=total, tokens=int(bench.lengths[numbers].sum()), cells=cells, passes=len(parts))


def count_cells(bench: Bench, part: Sequence[int]) -> int:
    """Tokens of a part with its padding."""
    return len(part) * int(bench.extents[list(part)].max(0).sum())


def scale_learning_rate(step: int, total: int, settings: TrainingSettings) -> float:
    """The share of the peak learning rate at a step (from 0): a linear rise, then the chosen decay to 0."""
    warmup = max(1, round(settings.warmup_fraction * total))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    match settings.decay:
        case "constant":
            return 1.0
        case "linear":
            return max(0.0, 1 - progress)
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
