"""The one training loop: a component's parameters, encoded examples, AdamW and a learning rate schedule.

A step's examples are computed together as far as the token budget allows, and in parts beyond. What lies
below the first trained module is computed once per example, where a store for its states is given.

What this does not do: know tasks, sequences, directories or what kind of component it trains.
"""

import gc
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from codestrata.contracts import Component, Retention
from codestrata.data.batches import EncodedExample, collate, cut_step, measure_rows, plan_epoch
from codestrata.engine.attention import shared_masks
from codestrata.engine.host import seeded
from codestrata.engine.losses import bare_head, measure_loss
from codestrata.engine.memory import MemoryGauge
from codestrata.engine.precision import DTYPES, Chosen, choose_precision, compute_in, lowered_weights
from codestrata.engine.prefixes import Prefix, build_inputs, find_prefix, shortened
from codestrata.engine.states import KeptStates, StateStore, StateUse, refuse_states
from codestrata.errors import TrainingError
from codestrata.models.loading import count_parameters
from codestrata.progress import Progress, Silence
from codestrata.settings import TrainingSettings

BATCH_TOKENS = {"cpu": 8192}
"""Token budget where the settings leave it open; other devices take more."""
ACCELERATOR_BATCH_TOKENS = 65536
PASS_PRODUCTS = {"cpu": 2**29}
"""What a forward and backward pass costs beside its products, in multiplications: a step is not cut into
more passes where the padding saved is less. Measured on a CPU; accelerators wait longer for each pass."""
ACCELERATOR_PASS_PRODUCTS = 2**36
WORTHWHILE_SHARE = 0.5
"""States are kept where at least this share of the examples is used: they are computed in whole chunks."""


@dataclass(frozen=True, kw_only=True)
class FitLog:
    """What one training did and cost.

    ``losses`` holds every step's mean cross entropy per target token (nats), a retention's penalty included.
    ``seconds`` is wall time, everything included. ``tokens`` counts prompt and target tokens without padding;
    ``padding`` is the share of padding in what was computed. ``passes`` is how often the model ran forward
    and backward, ``batch_tokens`` the token budget in the end. ``states`` says what became of the frozen
    prefix, ``None`` where there is none. ``peak_memory_mib`` is the most that ``memory_counter`` saw.
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


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every step of one training works with."""

    model: Any
    head: nn.Module
    rows: Sequence[EncodedExample]
    lengths: np.ndarray
    parameters: Mapping[str, nn.Parameter]
    retention: Retention | None
    states: KeptStates | None
    refused: StateUse | None
    precision: Chosen
    pad_id: int
    device: torch.device

    @property
    def overhead(self) -> int:
        """What a pass costs beside its products, in tokens of this model."""
        products = PASS_PRODUCTS.get(self.device.type, ACCELERATOR_PASS_PRODUCTS)
        return products // max(1, count_parameters(self.model))

    @property
    def usual_targets(self) -> float:
        """Target tokens of an example, on average."""
        return float(self.lengths[:, 1].mean())


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step came to: mean loss, real tokens, tokens with padding, forward and backward passes."""

    loss: float
    tokens: int
    cells: int
    passes: int


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
    progress: Progress | None = None,
    label: str = "train",
) -> FitLog:
    """Train one resident component in place; it is the active one afterwards, in evaluation mode.

    Dropout inside the component is on, dropout of the frozen base only with ``settings.base_dropout`` (a
    component that replaces the base's weights adds no modules, so that its dropout is the base's). The order
    of examples and all random draws follow from ``seed``; the caller's random state is left as it was.

    Args:
        component: the kind of component, on its base.
        name: which resident to train.
        rows: the examples.
        settings: of the loop.
        learning_rate: AdamW's peak.
        seed: of the order of examples and of dropout.
        pad_id: what batches are filled with.
        device: where the base is.
        retention: protects earlier tasks.
        store: keeps the states of the frozen prefix; ``None`` computes them in every step.
        progress: is told of every step, as one phase called ``label``.
        label: what the phase is called.

    Raises: TrainingError: no examples, a loss that is not finite (the step and the examples are named), or an
        example that does not fit into memory alone.
    """
    if not rows:
        raise TrainingError("There are no training examples.")
    progress = progress or Silence()
    started = time.perf_counter()
    memory = MemoryGauge(device)
    steps = plan_steps(measure_rows(rows), settings, seed=seed)
    with (
        seeded(seed, device),
        set_up(
            component,
            name,
            rows,
            steps,
            settings,
            retention=retention,
            store=store,
            pad_id=pad_id,
            device=device,
            progress=progress,
            label=label,
        ) as bench,
    ):
        done, budget = run_steps(
            bench, steps, settings, learning_rate=learning_rate, memory=memory, progress=progress, label=label
        )
        use = bench.refused
        if bench.states is not None:
            use = bench.states.describe(list_used(steps))
    return FitLog(
        steps=len(steps),
        examples=sum(map(len, steps)),
        tokens=sum(step.tokens for step in done),
        padding=1 - sum(step.tokens for step in done) / sum(step.cells for step in done),
        seconds=time.perf_counter() - started,
        losses=tuple(step.loss for step in done),
        precision=bench.precision,
        passes=sum(step.passes for step in done),
        batch_tokens=budget,
        states=use,
        peak_memory_mib=memory.read_peak(),
        memory_counter=memory.counter,
    )


@contextmanager
def set_up(
    component: Component,
    name: str,
    rows: Sequence[EncodedExample],
    steps: Sequence[Sequence[int]],
    settings: TrainingSettings,
    *,
    retention: Retention | None,
    store: StateStore | None,
    pad_id: int,
    device: torch.device,
    progress: Progress,
    label: str,
) -> Iterator[Bench]:
    """The model made ready for these steps, and whole again afterwards, whatever happens inside."""
    model = component.model
    precision = choose_precision(settings.precision, device)
    parameters = component.parameters(name)
    with ExitStack() as during:
        prepare_modes(component, name, base_dropout=settings.base_dropout)
        during.callback(model.eval)
        during.callback(forget_gradients, parameters)
        during.enter_context(shared_masks(model))
        during.enter_context(lowered_weights(model, precision))
        prefix = find_prefix(model)
        states: KeptStates | StateUse | None = None
        if prefix is not None:
            states = open_states(
                model,
                prefix,
                rows,
                steps,
                store,
                settings,
                precision=precision,
                pad_id=pad_id,
                progress=progress,
            )
        if isinstance(states, KeptStates):
            during.enter_context(states)
            states.fill(list_used(steps), progress=progress, label=f"{label}: states of the frozen part")
            if states.reason is not None:
                progress.say(f"states of the frozen part are not all kept: {states.reason}")
            during.enter_context(shortened(model, prefix))
        yield Bench(
            model=model,
            head=during.enter_context(bare_head(model)),
            rows=rows,
            lengths=measure_rows(rows),
            parameters=parameters,
            retention=retention,
            states=states if isinstance(states, KeptStates) else None,
            refused=states if isinstance(states, StateUse) else None,
            precision=precision,
            pad_id=pad_id,
            device=device,
        )


def forget_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    """Leave none behind: after a failure they would count in the next training."""
    for parameter in parameters.values():
        parameter.grad = None


def list_used(steps: Sequence[Sequence[int]]) -> set[int]:
    """The examples that the steps use."""
    return {number for numbers in steps for number in numbers}


def prepare_modes(component: Component, name: str, *, base_dropout: bool) -> None:
    """Activate the component with its dropout on, and the base's dropout on only where asked for."""
    component.deactivate()
    own = set(component.model.modules())
    component.activate(name)
    component.model.train(base_dropout)
    for module in component.model.modules():
        if module not in own:
            module.training = True  # not .train(): a wrapper's children include the base's own modules


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


def open_states(
    model: Any,
    prefix: Prefix,
    rows: Sequence[EncodedExample],
    steps: Sequence[Sequence[int]],
    store: StateStore | None,
    settings: TrainingSettings,
    *,
    precision: Chosen,
    pad_id: int,
    progress: Progress,
) -> KeptStates | StateUse:
    """Where the frozen prefix's states of these examples are kept, or why they are not."""
    used = len(list_used(steps))
    if settings.base_dropout:
        return refuse_states(prefix, used, "dropout of the frozen base is on: its states are never the same")
    if store is None:
        return refuse_states(prefix, used, "no store was given")
    if used < WORTHWHILE_SHARE * len(rows):
        return refuse_states(prefix, used, f"only {used} of {len(rows)} examples are used")
    found = store.open(model, prefix, rows, precision=precision, pad_id=pad_id)
    if isinstance(found, str):
        progress.say(f"states of the frozen part are not kept: {found}")
        return refuse_states(prefix, used, found)
    return found


def run_steps(
    bench: Bench,
    steps: Sequence[Sequence[int]],
    settings: TrainingSettings,
    *,
    learning_rate: float,
    memory: MemoryGauge,
    progress: Progress,
    label: str,
) -> tuple[list[Step], int]:
    """All optimizer steps; what each came to, and the token budget in the end."""
    accelerator = Accelerator(cpu=bench.device.type == "cpu", mixed_precision="no", device_placement=False)
    optimizer = accelerator.prepare(
        # Fused: one pass over the tensors, where many small ones take longer to visit than to change.
        torch.optim.AdamW(
            bench.parameters.values(), lr=learning_rate, weight_decay=settings.weight_decay, fused=True
        )
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer.optimizer, lambda step: scale_learning_rate(step, len(steps), settings)
    )
    budget = settings.batch_tokens or BATCH_TOKENS.get(bench.device.type, ACCELERATOR_BATCH_TOKENS)
    done: list[Step] = []
    progress.start(label, len(steps))
    for numbers in steps:
        step, affordable = differentiate(bench, numbers, budget, accelerator)
        if affordable < budget:
            progress.say(f"out of memory: at most {affordable} tokens are computed together from now on")
            budget = affordable
        check_finite(
            step.loss, step=len(done) + 1, identifiers=[bench.rows[number].identifier for number in numbers]
        )
        if settings.clip_norm is not None:
            accelerator.clip_grad_norm_(bench.parameters.values(), settings.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        done.append(step)
        memory.sample()
        progress.advance(len(done), f"loss {step.loss:.3f}")
    return done, budget


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
        accelerator.backward(penalty)
        total += penalty.item()
    return Step(loss=total, tokens=int(bench.lengths[numbers].sum()), cells=cells, passes=len(parts))


def count_cells(bench: Bench, part: Sequence[int]) -> int:
    """Tokens of a part with its padding."""
    return len(part) * int(bench.lengths[list(part)].max(0).sum())


def run_part(bench: Bench, numbers: Sequence[int], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The summed cross entropy of some examples' target tokens."""
    states = None if bench.states is None else bench.states.read(numbers)
    batch = {key: tensor.to(bench.device) for key, tensor in batch.items()}
    with compute_in(bench.precision, bench.device):
        hidden = bench.model(**build_inputs(bench.model, batch, states)).logits  # for lack of an output layer
        return measure_loss(hidden, bench.head, batch["labels"], DTYPES[bench.precision])


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


def check_finite(loss: float, *, step: int, identifiers: Sequence[str]) -> None:
    """Refuse to go on from a loss that is not a number."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss is {loss} at step {step}, on examples {', '.join(identifiers)}. "
            "Lower the learning rate (--set training.learning_rate=...) or look at these examples."
        )
