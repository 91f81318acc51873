"""What a training's validations have come to so far: the best of them, and whether it is time to stop.

What this does not do: measure a loss (``passes`` does), take steps, or look at test examples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from codestrata.data.batches import EncodedExample
from codestrata.settings.sections import TrainingSettings

LOSSES, BEST = "validation", "best"
"""Names in a checkpoint: the losses so far, and what the parameters were after the best step."""
Kept = Literal["last", "best"]
Stopped = Literal["all steps", "patience"]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The mean cross entropy per target token (nats) of the validation examples after a step."""

    step: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class ValidationLog:
    """What a training's validations said, and what was done about it.

    ``validation_steps`` and ``patience`` are as set; ``examples`` were validated on, which took ``seconds``
    of the training's. ``best_step`` is the first with the lowest loss, ``kept`` which weights the training
    left, and ``kept_step`` the step that they are of.
    """

    validation_steps: int
    patience: int | None
    examples: int
    seconds: float
    losses: tuple[Validation, ...]
    best_step: int
    best_loss: float
    kept: Kept
    kept_step: int


@dataclass(kw_only=True)
class Watch:
    """The validations of one training.

    Attributes:
        rows: the examples that the loss is measured on.
        every: after so many steps each time; after the last step always.
        patience: the most validations in a row that are no better than the best before; ``None``: no limit.
        kept: which weights the training is to leave.
        planned: how many steps the training has if nothing stops it.
        budget: the most tokens of a validation computed together; the training's own is another.
        seen: the validations so far.
        best_tensors: what the parameters were after the best step, in main memory; empty where the last
            weights are kept.
    """

    rows: Sequence[EncodedExample]
    every: int
    patience: int | None
    kept: Kept
    planned: int
    budget: int
    seen: list[Validation] = field(default_factory=list)
    best_tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def best(self) -> Validation:
        """The first validation with the lowest loss; there must be one."""
        return min(self.seen, key=lambda validation: validation.loss)

    @property
    def has_run_out(self) -> bool:
        """Whether as many validations as patience allows were no better than the best."""
        if self.patience is None or not self.seen:
            return False
        return len(self.seen) - 1 - self.seen.index(self.best) >= self.patience

    def is_due(self, step: int) -> bool:
        """Whether there is a validation after that step."""
        return step % self.every == 0 or step == self.planned

    def list_steps(self, done: int) -> Iterator[int]:
        """The steps, of those done, that a validation followed."""
        return (step for step in range(1, done + 1) if self.is_due(step))

    def note(self, step: int, loss: float, parameters: Mapping[str, nn.Parameter]) -> None:
        """Take a validation down; where the best weights are to be kept and it is the best, copy them."""
        self.seen.append(Validation(step=step, loss=loss))
        if self.kept == "best" and self.best.step == step:
            self.best_tensors = {
                name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters.items()
            }

    @torch.no_grad()
    def put_back(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Give the parameters what they were after the best step, where that is to be kept."""
        for name, tensor in self.best_tensors.items():
            parameters[name].copy_(tensor)

    def pack(self) -> dict[str, torch.Tensor]:
        """What of it goes into a checkpoint."""
        losses = torch.tensor([validation.loss for validation in self.seen], dtype=torch.float64)
        return {LOSSES: losses} | {f"{BEST}.{name}": tensor for name, tensor in self.best_tensors.items()}

    def list_shapes(
        self, done: int, parameters: Mapping[str, nn.Parameter]
    ) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Dtype and shape of every tensor of ``pack`` after so many steps."""
        count = len(list(self.list_steps(done)))
        shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {LOSSES: (torch.float64, (count,))}
        if self.kept == "best" and count:
            for name, parameter in parameters.items():
                shapes[f"{BEST}.{name}"] = (parameter.dtype, tuple(parameter.shape))
        return shapes

    def take(self, done: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Stand where ``pack`` stood after so many steps; the tensors have its shapes."""
        self.seen = [
            Validation(step=step, loss=loss)
            for step, loss in zip(self.list_steps(done), tensors[LOSSES].tolist(), strict=True)
        ]
        self.best_tensors = {
            name.removeprefix(f"{BEST}."): tensor.clone()
            for name, tensor in tensors.items()
            if name.startswith(f"{BEST}.")
        }

    def describe(self, done: int, seconds: float) -> ValidationLog:
        """The log of a training that is over after so many steps."""
        best = self.best
        return ValidationLog(
            validation_steps=self.every,
            patience=self.patience,
            examples=len(self.rows),
            seconds=seconds,
            losses=tuple(self.seen),
            best_step=best.step,
            best_loss=best.loss,
            kept=self.kept,
            kept_step=best.step if self.kept == "best" else done,
        )


def build_watch(
    rows: Sequence[EncodedExample], settings: TrainingSettings, *, planned: int, budget: int
) -> Watch | None:
    """The watch over a training of so many steps before its first; ``None`` where nothing is validated."""
    if settings.validation_steps is None:
        return None
    return Watch(
        rows=rows,
        every=settings.validation_steps,
        patience=settings.patience,
        kept=settings.keep,
        planned=planned,
        budget=budget,
    )
