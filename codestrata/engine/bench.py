"""The bench: a model made ready for the steps of one training, and whole again afterwards.

What this does not do: take a step (``training`` does).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from codestrata.contracts import Component, Retention
from codestrata.data.batches import EncodedExample, collate, measure_extents, measure_rows
from codestrata.engine.attention import shared_masks
from codestrata.engine.losses import bare_head
from codestrata.engine.precision import Chosen, choose_precision, lowered_weights, refuse_fp16
from codestrata.engine.prefixes import Prefix, find_prefix, has_mixed_attention, shortened
from codestrata.engine.states import KeptStates, StateStore, StateUse, refuse_states
from codestrata.models.families import find_family
from codestrata.models.loading import count_parameters
from codestrata.progress import Progress
from codestrata.settings.sections import TrainingSettings

PASS_PRODUCTS = {"cpu": 2**29}
"""What a forward and backward pass costs beside its products, in multiplications: a step is not cut into
more passes where the padding saved is less. Measured on a CPU; accelerators wait longer for each pass."""
ACCELERATOR_PASS_PRODUCTS = 2**36
WORTHWHILE_SHARE = 0.5
"""States are kept where at least this share of the examples is used: they are computed in whole chunks."""


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

    @cached_property
    def is_causal(self) -> bool:
        """Whether an example is one row, its prompt followed by its target."""
        return find_family(self.model).is_causal

    @cached_property
    def extents(self) -> np.ndarray:
        """What every example takes of a batch, (N, 2)."""
        return measure_extents(self.lengths, causal=self.is_causal)

    def collate(self, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        """Some examples as a batch for this model, in main memory."""
        return collate([self.rows[number] for number in numbers], self.pad_id, causal=self.is_causal)

    @property
    def usual_targets(self) -> float:
        """Target tokens of an example, on average."""
        return float(self.lengths[:, 1].mean())

    def describe_states(self, steps: Sequence[Sequence[int]]) -> StateUse | None:
        """What has become of the frozen prefix's states so far; ``None`` where there is no prefix."""
        return self.refused if self.states is None else self.states.describe(list_used(steps))


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
    own: int | None = None,
) -> Iterator[Bench]:
    """The model made ready for these steps, and whole again afterwards, whatever happens inside.

    The first ``own`` rows are the task's own (``None``: all); the others are another choice every time.

    Raises: TrainingError: its weights are fp16.
    """
    model = component.model
    refuse_fp16(model)
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
                own=len(rows) if own is None else own,
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


def prepare_modes(component: Component, name: str, *, base_dropout: bool) -> None:
    """Activate the component with its dropout on, and the base's dropout on only where asked for."""
    component.deactivate()
    own = set(component.model.modules())
    component.activate(name)
    component.model.train(base_dropout)
    for module in component.model.modules():
        if module not in own:
            module.training = True  # not .train(): a wrapper's children include the base's own modules


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Inside, no module drops anything; afterwards those that did do again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def forget_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    """Leave none behind: after a failure they would count in the next training."""
    for parameter in parameters.values():
        parameter.grad = None


def list_used(steps: Sequence[Sequence[int]]) -> set[int]:
    """The examples that the steps use."""
    return {number for numbers in steps for number in numbers}


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
    own: int,
) -> KeptStates | StateUse:
    """Where the frozen prefix's states of these examples are kept, or why they are not."""
    used = len(list_used(steps))
    if settings.base_dropout:
        return refuse_states(prefix, used, "dropout of the frozen base is on: its states are never the same")
    if own < len(rows):
        return refuse_states(prefix, used, "other tasks' examples are replayed: never the same ones twice")
    if has_mixed_attention(model):
        return refuse_states(prefix, used, "the base's blocks attend in different ways: none can be left out")
    if store is None:
        return refuse_states(prefix, used, "no store was given")
    if used < WORTHWHILE_SHARE * len(rows):
        return refuse_states(prefix, used, f"only {used} of {len(rows)} examples are used")
    found = store.open(model, prefix, rows, precision=precision, pad_id=pad_id)
    if isinstance(found, str):
        progress.say(f"states of the frozen part are not kept: {found}")
        return refuse_states(prefix, used, found)
    return found
