"""The two protocols that make the lab swappable: ``Component`` and ``Retention``.

A component is what is added to a frozen base for a task. Many components of one kind live on one base at a
time; each has a name there, and one of them (or none) is active. A retention protects earlier tasks while a
component that they share is trained on. ``training.fit`` and ``evaluation`` know nothing else of a method.

What this does not do: implement either.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn


class Component(Protocol):
    """One kind of component on one frozen base: attach, activate, train, write, load.

    Names of components are letters, digits, ``_`` and ``-``. Whatever the sequence of calls, ``deactivate``
    gives the base's function back bit for bit, and no call changes a tensor of the base.
    """

    kind: str
    fingerprint: str
    """Of the frozen base."""

    @property
    def model(self) -> nn.Module:
        """The module to run: the base with the active component; has ``forward`` and ``generate``."""

    @property
    def names(self) -> tuple[str, ...]:
        """The resident components, in the order they came."""

    @property
    def active(self) -> str | None:
        """The component that runs now, or ``None`` for the bare base."""

    def attach(self, name: str, *, seed: int) -> None:
        """Add a newborn component. Raises ComponentError: the name is taken or not allowed."""

    def load(self, name: str, folder: Path) -> None:
        """Add a component from ``folder``.

        Raises: ComponentError: damaged files, or one that was trained on a base with another fingerprint.
        """

    def activate(self, name: str) -> None:
        """Run this component from now on, in place. Raises ComponentError: no such resident component."""

    def deactivate(self) -> None:
        """Run the bare base from now on."""

    def detach(self, name: str) -> None:
        """Remove a component from the base and from memory. Raises ComponentError: no such component."""

    def parameters(self, name: str) -> Mapping[str, nn.Parameter]:
        """What training changes: tensor name as it is stored on disk -> parameter."""

    def tensors(self, name: str) -> Mapping[str, torch.Tensor]:
        """All that makes the component what it is now, what training leaves alone too; by name on disk."""

    def write(self, name: str, folder: Path, about: Mapping[str, Any]) -> None:
        """Store tensors, configuration and ``component.json`` (fingerprint, kind, ``about``) in ``folder``.

        Only safetensors and JSON; ``load`` on a base with the same fingerprint gives the same function back.
        """


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A training that is over, as a retention looks back on it before the next task.

    ``examples`` are the task's own that steps took, by number. ``differentiate`` leaves the gradient of one
    such example's cross entropy, summed over its target tokens, in the parameters, without dropout;
    ``usual_targets`` is how many target tokens an example has on average.
    """

    parameters: Mapping[str, nn.Parameter]
    examples: Mapping[int, Any]
    usual_targets: float
    differentiate: Callable[[int], None]


class Retention(Protocol):
    """What protects earlier tasks while a shared component learns the next one.

    A training calls ``mix`` and ``begin``, then in every step ``compare`` (once per pass), ``penalise`` and
    ``restrain``, and ``remember`` at its end. All that is carried from task to task is in what ``write``
    stores: after ``load`` the next training is the same, bit for bit.
    """

    @property
    def fingerprint(self) -> str:
        """SHA-256 over settings and all that is kept of earlier tasks."""

    def mix(
        self, rows: Sequence[Any], plan: Sequence[Sequence[int]], *, seed: int
    ) -> tuple[Sequence[Any], Sequence[Sequence[int]]]:
        """The examples and those of every step, by number; what is added follows behind the task's own."""

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """See the component as the tasks before left it."""

    def compare(
        self,
        run: Callable[[], torch.Tensor],
        hidden: torch.Tensor,
        head: nn.Module,
        counted: torch.Tensor,
    ) -> torch.Tensor | None:
        """A scalar added to the summed cross entropy of some examples (nats); ``None`` adds nothing.

        Args:
            run: computes ``hidden`` anew, without dropout and with what the parameters then are.
            hidden: what goes into the output layer, (examples, tokens, width).
            head: the output layer.
            counted: which tokens are targets, (examples, tokens).
        """

    def penalise(self, parameters: Mapping[str, nn.Parameter]) -> torch.Tensor | None:
        """A scalar added to every step's loss; ``None`` adds nothing."""

    def restrain(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Change a step's gradients in place, before they are clipped."""

    def remember(self, lesson: Lesson) -> None:
        """Keep what the next tasks need of this training."""

    def write(self, folder: Path) -> None:
        """Store all that is kept in ``folder``. Raises StorageError: it cannot be written."""

    def load(self, folder: Path) -> None:
        """Take up what ``write`` stored.

        Raises: DataError: damaged, or of another retention; nothing has changed then.
        """
