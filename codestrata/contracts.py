"""The two protocols that make the lab swappable: ``Component`` and ``Retention``.

A component is what is added to a frozen base for a task. Many components of one kind live on one base at a
time; each has a name there, and one of them (or none) is active. A retention protects earlier tasks while a
component that they share is trained on. ``training.fit`` and ``evaluation`` know nothing else of a method.

What this does not do: implement either.
"""

from collections.abc import Mapping
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

    def write(self, name: str, folder: Path, about: Mapping[str, Any]) -> None:
        """Store tensors, configuration and ``component.json`` (fingerprint, kind, ``about``) in ``folder``.

        Only safetensors and JSON; ``load`` on a base with the same fingerprint gives the same function back.
        """


class Retention(Protocol):
    """What protects earlier tasks while a shared component learns the next one."""

    def penalise(self, parameters: Mapping[str, nn.Parameter]) -> torch.Tensor:
        """A scalar added to every step's loss."""
