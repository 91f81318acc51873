"""The one training loop: a component's parameters, encoded examples, AdamW and a learning rate schedule.

What this does not do: know tasks, sequences, directories or what kind of component it trains.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from codestrata.contracts import Component, Retention
from codestrata.data.batches import EncodedExample, collate, plan_epoch
from codestrata.errors import TrainingError
from codestrata.progress import Progress
from codestrata.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class FitLog:
    """What one training did and cost.

    ``losses`` holds every step's mean cross entropy per target token (nats), a retention's penalty included.
    ``seconds`` is wall time. ``tokens`` counts prompt and target tokens without padding; ``padding`` is the
    share of padding in what was computed. ``peak_memory_mib`` is the most that ``memory_counter`` saw.
    """

    steps: int
    examples: int
    tokens: int
    padding: float
    seconds: float
    losses: tuple[float, ...]
    peak_memory_mib: float | None
    memory_counter: str

    @property
    def final_loss(self) -> float:
        """Mean loss of the last tenth of the steps, at least one."""
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(tail) / len(tail)


Report = Callable[[int, int, float], None]
"""Called after every step with (steps done, steps planned, loss)."""


def watch(progress: Progress, label: str) -> Report:
    """A report that tells ``progress`` of every step, as one phase."""

    def report(done: int, total: int, loss: float) -> None:
        if done == 1:
            progress.start(label, total)
        progress.advance(done, f"loss {loss:.3f}")

    return report


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
    report: Report | None = None,
) -> FitLog:
    """Train one resident component in place; it is the active one afterwards, in evaluation mode.

    Dropout inside the component is on, dropout of the frozen base only with ``settings.base_dropout`` (a
    component that replaces the base's weights adds no modules, so that its dropout is the base's). The order
    of examples and all random draws follow from ``seed``; the caller's random state is left as it was.

    Raises: TrainingError: no examples, or a loss that is not finite (the step and the examples are named).
    """
    if not rows:
        raise TrainingError("There are no training examples.")
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        return run_steps(
            component,
            name,
            rows,
            settings,
            learning_rate=learning_rate,
            seed=seed,
            pad_id=pad_id,
            device=device,
            retention=retention,
            report=report,
        )


def run_steps(
    component: Component,
    name: str,
    rows: Sequence[EncodedExample],
    settings: TrainingSettings,
    *,
    learning_rate: float,
    seed: int,
    pad_id: int,
    device: torch.device,
    retention: Retention | None,
    report: Report | None,
) -> FitLog:
    """``fit`` once the random state is set."""
    model = component.model
    prepare_modes(component, name, base_dropout=settings.base_dropout)
    parameters = component.parameters(name)
    total = count_steps(len(rows), settings)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", device_placement=False)
    optimizer = accelerator.prepare(
        # Fused: one pass over the tensors, where many small ones take longer to visit than to change.
        torch.optim.AdamW(
            parameters.values(), lr=learning_rate, weight_decay=settings.weight_decay, fused=True
        )
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer.optimizer, lambda step: scale_learning_rate(step, total, settings)
    )
    memory = MemoryGauge(device)
    losses, examples, tokens, cells, epoch = list[float](), 0, 0, 0, 0
    started = time.perf_counter()
    while len(losses) < total:
        for numbers in plan_epoch(rows, settings.batch_size, seed=seed, epoch=epoch)[: total - len(losses)]:
            batch = collate([rows[number] for number in numbers], pad_id)
            tokens += int(batch["attention_mask"].sum()) + int((batch["labels"] >= 0).sum())
            cells += batch["input_ids"].numel() + batch["labels"].numel()
            examples += len(numbers)
            batch = {key: tensor.to(device) for key, tensor in batch.items()}
            loss = model(**batch, use_cache=False).loss
            if retention is not None:
                loss = loss + retention.penalise(parameters)
            check_finite(
                loss, step=len(losses) + 1, identifiers=[rows[number].identifier for number in numbers]
            )
            accelerator.backward(loss)
            if settings.clip_norm is not None:
                accelerator.clip_grad_norm_(parameters.values(), settings.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            memory.sample()
            if report is not None:
                report(len(losses), total, losses[-1])
        epoch += 1
    model.eval()
    return FitLog(
        steps=total,
        examples=examples,
        tokens=tokens,
        padding=1 - tokens / cells,
        seconds=time.perf_counter() - started,
        losses=tuple(losses),
        peak_memory_mib=memory.read_peak(),
        memory_counter=memory.counter,
    )


def prepare_modes(component: Component, name: str, *, base_dropout: bool) -> None:
    """Activate the component with its dropout on, and the base's dropout on only where asked for."""
    component.deactivate()
    own = set(component.model.modules())
    component.activate(name)
    component.model.train(base_dropout)
    for module in component.model.modules():
        if module not in own:
            module.training = True  # not .train(): a wrapper's children include the base's own modules


def count_steps(examples: int, settings: TrainingSettings) -> int:
    """Optimizer steps of one training: as set, or what the epochs come to, at least one."""
    if settings.steps is not None:
        return settings.steps
    assert settings.epochs is not None
    return max(1, round(settings.epochs * math.ceil(examples / settings.batch_size)))


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


def check_finite(loss: torch.Tensor, *, step: int, identifiers: Sequence[str]) -> None:
    """Refuse to go on from a loss that is not a number."""
    if not torch.isfinite(loss):
        raise TrainingError(
            f"The loss is {loss.item()} at step {step}, on examples {', '.join(identifiers)}. "
            "Lower the learning rate (--set training.learning_rate=...) or look at these examples."
        )


class MemoryGauge:
    """The most memory that a device's own counter saw since the gauge was made; ``counter`` names it.

    CUDA keeps a peak of its allocator. Apple's MPS keeps none, so its allocation is read after every step. On
    the CPU it is the whole process's largest resident size: since the gauge was made on Linux, which can
    reset it, else since the process started.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._largest_bytes = 0
        self.counter = {
            "cuda": "torch.cuda.max_memory_allocated",
            "mps": "torch.mps.driver_allocated_memory after every step",
        }.get(device.type, "VmHWM of the process, reset before the training")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu" and not reset_process_peak():
            self.counter = "getrusage ru_maxrss: the process's peak since it started"

    def sample(self) -> None:
        """Read a counter that keeps no peak of its own."""
        if self._device.type == "mps":
            self._largest_bytes = max(self._largest_bytes, torch.mps.driver_allocated_memory())

    def read_peak(self) -> float | None:
        """MiB; ``None`` where the system has no such counter."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        if self._device.type == "mps":
            return self._largest_bytes / 2**20
        return read_status_peak() if self.counter.startswith("VmHWM") else read_usage_peak()


def reset_process_peak() -> bool:
    """Start Linux's peak of the process's resident size anew; False where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def read_status_peak() -> float | None:
    """Linux's VmHWM, the process's largest resident size since it was last reset, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


def read_usage_peak() -> float | None:
    """The process's largest resident size since it started, in MiB; ``None`` on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
