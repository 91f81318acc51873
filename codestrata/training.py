"""The one training loop: a component's parameters, encoded examples, AdamW and a learning rate schedule.

A step's examples are computed together as far as the token budget allows, and in parts beyond. What lies
below the first trained module is computed once per example, where a store for its states is given. Where
checkpoints are given, a training that was broken off goes on from the newest one, bit for bit.

What this does not do: know tasks, sequences, directories or what kind of component it trains.
"""

import gc
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
from codestrata.data.batches import IGNORED, EncodedExample, collate, cut_step, measure_rows, plan_epoch
from codestrata.engine.bench import Bench, forget_gradients, list_used, set_up, without_dropout
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
from codestrata.engine.losses import measure_loss
from codestrata.engine.memory import MemoryGauge
from codestrata.engine.precision import DTYPES, Chosen, compute_in
from codestrata.engine.prefixes import build_inputs
from codestrata.engine.states import StateStore, StateUse
from codestrata.errors import DivergenceError, TrainingError
from codestrata.progress import Progress, Silence
from codestrata.settings.sections import TrainingSettings

BATCH_TOKENS = {"cpu": 8192}
"""Token budget where the settings leave it open; other devices take more."""
ACCELERATOR_BATCH_TOKENS = 65536


@dataclass(frozen=True, kw_only=True)
class FitLog:
    """What one training did and cost, all processes that worked on it together.

    ``losses`` holds every step's mean cross entropy per target token (nats), a retention's penalty included.
    ``seconds`` is wall time, everything included but what was lost with a process that was killed. ``tokens``
    counts prompt and target tokens without padding; ``padding`` is the share of padding in what was computed.
    ``passes`` is how often the model ran forward and backward, ``batch_tokens`` the token budget in the end.
    ``states`` says what became of the frozen prefix, ``None`` where there is none. ``peak_memory_mib`` is the
    most that ``memory_counter`` saw.
    """

    steps: int
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
        retention: protects earlier tasks, and remembers this one at the end.
        store: keeps the states of the frozen prefix; ``None`` computes them in every step.
        checkpoints: keep the training's state, and the last one after the last step; the newest that is of
            this very training is where it goes on from. ``None`` keeps none.
        progress: is told of every step, as one phase called ``label``.
        label: what the phase is called.

    Raises:
        TrainingError: no examples, a loss or gradient that is not finite (the step and the examples are
            named), an example that does not fit into memory alone, or a base in fp16.
        StorageError: a checkpoint cannot be written.
        Interrupted: a signal came; the step under way is finished and its checkpoint stored.
    """
    if not rows:
        raise TrainingError("There are no training examples.")
    progress = progress or Silence()
    started = time.perf_counter()
    memory = MemoryGauge(device)
    own = len(rows)
    plan: Sequence[Sequence[int]] = plan_steps(measure_rows(rows), settings, seed=seed)
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
        identity = dict[str, Any]()
        if checkpoints is not None:
            identity = identify(component, bench, settings, learning_rate=learning_rate, seed=seed)
            find_place(course, checkpoints, identity, progress=progress, label=label)
        run_steps(course, settings, checkpoints, identity, progress=progress, label=label)
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
        budget=settings.batch_tokens or BATCH_TOKENS.get(bench.device.type, ACCELERATOR_BATCH_TOKENS),
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
        run_part(alone, [number], collate([bench.rows[number]], bench.pad_id)).backward()  # type: ignore[no-untyped-call]

    used = sorted(number for number in list_used(course.plan) if number < own)
    return Lesson(
        parameters=bench.parameters,
        examples={number: bench.rows[number] for number in used},
        usual_targets=float(bench.lengths[:own, 1].mean()),
        differentiate=differentiate,
    )


def describe_course(course: Course) -> FitLog:
    """The log of a training that is over."""
    spent = course.measure()
    return FitLog(
        steps=len(course.plan),
        examples=sum(map(len, course.plan)),
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
    )


def plan_steps(lengths: np.ndarray, settings: TrainingSettings, *, seed: int) -> list[list[int]]:
    """The examples of every optimizer step: a pure function of lengths, settings and seed."""
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
            if checkpoints is not None:
                checkpoints.offer(
                    len(course.done), lambda: build_checkpoint(course, identity), last=course.is_over
                )
        progress.advance(len(course.done), f"loss {step.loss:.3f}")


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
        cut = cut_step(bench.lengths[list(numbers)], budget, overhead=bench.overhead)
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
        if bench.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
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
        batch = collate([bench.rows[number] for number in part], bench.pad_id)
        cells += batch["input_ids"].numel() + batch["labels"].numel()
        loss = run_part(bench, part, batch)
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
    return len(part) * int(bench.lengths[list(part)].max(0).sum())


def run_part(bench: Bench, numbers: Sequence[int], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The summed cross entropy of some examples' target tokens, with what a retention adds to it."""
    states = None if bench.states is None else bench.states.read(numbers)
    batch = {key: tensor.to(bench.device) for key, tensor in batch.items()}

    def run() -> torch.Tensor:
        # Autocast keeps converted weights until its end: each run has its own, for the weights may differ.
        with compute_in(bench.precision, bench.device):
            hidden: torch.Tensor = bench.model(**build_inputs(bench.model, batch, states)).logits
        return hidden  # for lack of an output layer

    hidden, labels = run(), batch["labels"]
    with compute_in(bench.precision, bench.device):
        loss = measure_loss(hidden, bench.head, labels, DTYPES[bench.precision])
    if bench.retention is None:
        return loss

    def run_again() -> torch.Tensor:
        with without_dropout(bench.model):
            return run()

    added = bench.retention.compare(run_again, hidden, bench.head, labels != IGNORED)
    return loss if added is None else loss + added


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


def describe_failure(what: str, value: float, step: int, identifiers: Sequence[str]) -> str:
    """Where a training came to a number that it cannot go on from, and what to do."""
    return (
        f"The {what} is {value} at step {step}, on examples {', '.join(identifiers)}. "
        "Begin a new run with a lower learning rate (--set training.learning_rate=...), or look at these "
        "examples."
    )


def describe_kept(checkpoints: Checkpoints | None) -> str:
    """What is kept of a training that cannot go on."""
    if checkpoints is None or checkpoints.newest is None:
        return ""
    step = checkpoints.newest
    return f" The component before step {step + 1} is kept in {checkpoints.place(step)}."
