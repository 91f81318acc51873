"""Where a training stands between two steps, and how it goes on from there in another process, bit for bit.

A checkpoint holds the component's tensors, AdamW's moments, the random states and what every step came to;
of a training that is validated also the losses of that, and the best tensors where those are kept.
The order of examples and the learning rates follow from how many steps are done.

What this does not do: take steps (``training`` does), or store checkpoints (``checkpoints`` does).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from codestrata.checkpoints import Checkpoint
from codestrata.contracts import Component
from codestrata.engine.bench import Bench
from codestrata.engine.memory import MemoryGauge
from codestrata.engine.states import StateUse, describe_arithmetic, fingerprint_rows
from codestrata.engine.watch import Stopped, Watch
from codestrata.models.fingerprints import fingerprint_tensors
from codestrata.settings.sections import TrainingSettings

PARAMETERS, LOSSES, COUNTS, RANDOM = "parameters", "losses", "counts", "random"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW keeps of every parameter that had a gradient."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step came to: mean loss, real tokens, tokens with padding, forward and backward passes."""

    loss: float
    tokens: int
    cells: int
    passes: int


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a training cost so far: wall time, of that states and validation, peak memory, states computed."""

    seconds: float = 0.0
    peak_memory_mib: float | None = None
    states_computed: int = 0
    states_seconds: float = 0.0
    validation_seconds: float = 0.0


@dataclass(kw_only=True)
class Course:
    """One training between two steps.

    Attributes:
        bench: what its steps work with.
        plan: the examples of every step.
        optimizer: AdamW over the bench's parameters.
        memory: the gauge of this process.
        started: when this process began with it, as ``time.perf_counter`` gives it.
        budget: the most tokens computed together.
        watch: its validations; ``None`` where it has none.
        validation_seconds: what these took in this process.
        done: what the steps so far came to.
        earlier: what other processes spent on it, up to the checkpoint that this one goes on from.
    """

    bench: Bench
    plan: Sequence[Sequence[int]]
    optimizer: torch.optim.Optimizer
    memory: MemoryGauge
    started: float
    budget: int
    watch: Watch | None = None
    validation_seconds: float = 0.0
    done: list[Step] = field(default_factory=list)
    earlier: Spent = field(default_factory=Spent)

    @property
    def is_over(self) -> bool:
        """Whether every step is done, or validation has called for no more."""
        return len(self.done) == len(self.plan) or self.stopped == "patience"

    @property
    def stopped(self) -> Stopped:
        """Why no step follows, once it is over."""
        return "patience" if self.watch is not None and self.watch.has_run_out else "all steps"

    @property
    def taken(self) -> Sequence[Sequence[int]]:
        """The examples of the steps that are done."""
        return self.plan[: len(self.done)]

    def measure(self) -> Spent:
        """What all processes together have spent; the largest of their peaks."""
        peaks = [peak for peak in (self.earlier.peak_memory_mib, self.memory.read_peak()) if peak is not None]
        states = self.bench.states
        return Spent(
            seconds=self.earlier.seconds + time.perf_counter() - self.started,
            peak_memory_mib=max(peaks, default=None),
            states_computed=self.earlier.states_computed + (0 if states is None else states.computed),
            states_seconds=self.earlier.states_seconds + (0.0 if states is None else states.seconds),
            validation_seconds=self.earlier.validation_seconds + self.validation_seconds,
        )

    def describe_states(self) -> StateUse | None:
        """What became of the frozen prefix's states, in all processes; ``None`` where there is no prefix."""
        use, spent = self.bench.describe_states(self.plan), self.measure()
        if use is None:
            return None
        return replace(use, computed=spent.states_computed, seconds=spent.states_seconds)


def identify(
    component: Component, course: Course, settings: TrainingSettings, *, learning_rate: float, seed: int
) -> dict[str, Any]:
    """What makes a training this one and no other; taken before its first step.

    How the component was made counts as far as its tensors show it, those included that are not trained: a
    LoRA's scale and dropout do not.
    """
    bench, watch = course.bench, course.watch
    assert component.active is not None
    return {
        "component": component.kind,
        "base": component.fingerprint,
        "starting tensors": fingerprint_tensors(component.tensors(component.active)),
        "examples": fingerprint_rows(bench.rows),
        "validation examples": None if watch is None else fingerprint_rows(watch.rows),
        "settings": asdict(settings),
        "learning rate": learning_rate,
        "seed": seed,
        "padding token": bench.pad_id,
        "retention": None if bench.retention is None else bench.retention.fingerprint,
        "precision": bench.precision,
        "device": bench.device.type,
    }


def describe_circumstances(bench: Bench) -> dict[str, Any]:
    """What the last bits of a training depend on beside its identity."""
    kept = bench.states
    states = "computed in every step" if kept is None else f"{kept.chunks} chunks of {kept.folder.name} kept"
    return {**describe_arithmetic(bench.device, bench.precision), "states of the frozen part": states}


def describe_reason(bench: Bench) -> str | None:
    """Why nothing, or not everything, of the frozen prefix's states is kept."""
    holder = bench.refused if bench.states is None else bench.states
    return None if holder is None else holder.reason


def build_checkpoint(course: Course, identity: Mapping[str, Any]) -> Checkpoint:
    """The course as it stands; the tensors are its own where they lie in main memory, not copies."""
    tensors = {f"{RANDOM}.{name}": state for name, state in read_random_states(course.bench.device).items()}
    for name, parameter in course.bench.parameters.items():
        tensors[f"{PARAMETERS}.{name}"] = parameter
        for moment, tensor in course.optimizer.state.get(parameter, {}).items():
            tensors[f"{moment}.{name}"] = tensor
    counts = [(step.tokens, step.cells, step.passes) for step in course.done]
    tensors[LOSSES] = torch.tensor([step.loss for step in course.done], dtype=torch.float64)
    tensors[COUNTS] = torch.tensor(counts, dtype=torch.int64).reshape(-1, 3)
    if course.watch is not None:
        tensors |= course.watch.pack()
    facts = {
        "steps": len(course.done),
        "budget": course.budget,
        "validation_budget": None if course.watch is None else course.watch.budget,
        "spent": asdict(course.measure()),
        "identity": dict(identity),
        "circumstances": describe_circumstances(course.bench),
        "reason": describe_reason(course.bench),
    }
    return Checkpoint(tensors=tensors, facts=facts)


def find_misfit(checkpoint: Checkpoint, course: Course, identity: Mapping[str, Any]) -> str | None:
    """Why a checkpoint is none of this training; ``None`` where it is one, and ``go_on`` can take it."""
    facts = checkpoint.facts
    stated = facts.get("identity")
    if not isinstance(stated, dict):
        return "it does not say of what training it is"
    others = [key for key in sorted(identity.keys() | stated.keys()) if stated.get(key) != identity.get(key)]
    if others:
        return f"it is of a training with other {', '.join(others)}"
    steps = facts.get("steps")
    if not isinstance(steps, int) or not 0 < steps <= len(course.plan):
        return f"it is of step {steps!r}, of {len(course.plan)}"
    try:
        read_spent(facts)
        int(facts["budget"])
        if course.watch is not None:
            int(facts["validation_budget"])
    except (KeyError, TypeError, ValueError) as error:
        return f"its facts cannot be read: {type(error).__name__} {error}"
    wanted = list_shapes(course, steps, checkpoint.tensors.keys())
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in checkpoint.tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            return f"tensor {name!r}: expected {wanted.get(name)}, found {found.get(name)}"
    return None


def list_shapes(
    course: Course, steps: int, names: Sequence[str] | Any
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape of every tensor in a checkpoint after so many steps.

    Parameters without a gradient so far have no moments: whose ``step`` is among ``names`` has all of them.
    """
    bench = course.bench
    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        LOSSES: (torch.float64, (steps,)),
        COUNTS: (torch.int64, (steps, 3)),
    }
    for name, state in read_random_states(bench.device).items():
        shapes[f"{RANDOM}.{name}"] = (state.dtype, tuple(state.shape))
    for name, parameter in bench.parameters.items():
        like = (parameter.dtype, tuple(parameter.shape))
        shapes[f"{PARAMETERS}.{name}"] = like
        if f"step.{name}" in names:
            for moment in MOMENTS:
                shapes[f"{moment}.{name}"] = (torch.float32, ()) if moment == "step" else like
    if course.watch is not None:
        shapes |= course.watch.list_shapes(steps, bench.parameters)
    return shapes


@torch.no_grad()
def go_on(course: Course, checkpoint: Checkpoint) -> None:
    """Put the course where the checkpoint, which fits, has it; random draws go on from there too."""
    tensors, facts = checkpoint.tensors, checkpoint.facts
    for name, parameter in course.bench.parameters.items():
        parameter.copy_(tensors[f"{PARAMETERS}.{name}"])
        if f"step.{name}" in tensors:
            course.optimizer.state[parameter] = {
                moment: copy_moment(tensors[f"{moment}.{name}"], parameter) for moment in MOMENTS
            }
    course.done = [
        Step(loss=loss, tokens=tokens, cells=cells, passes=passes)
        for loss, (tokens, cells, passes) in zip(
            tensors[LOSSES].tolist(), tensors[COUNTS].tolist(), strict=True
        )
    ]
    if course.watch is not None:
        course.watch.take(len(course.done), tensors)
        course.watch.budget = int(facts["validation_budget"])
    course.budget = int(facts["budget"])
    course.earlier = read_spent(facts)
    device = course.bench.device
    set_random_states(device, {name: tensors[f"{RANDOM}.{name}"] for name in read_random_states(device)})


def copy_moment(stored: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """A moment as AdamW makes it: on the parameter's device, and laid out as the parameter is."""
    if not stored.dim():
        return stored.to(parameter.device, copy=True)
    return torch.zeros_like(parameter, memory_format=torch.preserve_format).copy_(stored)


def read_spent(facts: Mapping[str, Any]) -> Spent:
    """What a checkpoint says was spent. Raises KeyError, TypeError, ValueError: it does not say it."""
    spent = facts["spent"]
    peak = spent["peak_memory_mib"]
    return Spent(
        seconds=float(spent["seconds"]),
        peak_memory_mib=None if peak is None else float(peak),
        states_computed=int(spent["states_computed"]),
        states_seconds=float(spent["states_seconds"]),
        validation_seconds=float(spent["validation_seconds"]),
    )


def describe_changes(checkpoint: Checkpoint, bench: Bench) -> str | None:
    """What is not as it was when the checkpoint was made, as far as last bits depend on it; or ``None``."""
    before, now = checkpoint.facts.get("circumstances"), describe_circumstances(bench)
    if not isinstance(before, dict):
        before = {}
    reasons = {reason for reason in (checkpoint.facts.get("reason"), describe_reason(bench)) if reason}
    changed = [name for name in now if before.get(name) != now[name]]
    if not changed:
        return None
    changes = [f"{name}: {before.get(name)} before, {now[name]} now" for name in changed]
    because = f" ({'; '.join(sorted(map(str, reasons)))})" if reasons else ""
    return "; ".join(changes) + because


def read_random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of every generator that a training on this device draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(device: torch.device, states: Mapping[str, torch.Tensor]) -> None:
    """Have the generators go on from these states."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
