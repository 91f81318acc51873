"""What every kind of component shares: names, who runs on the base now, and the files around the tensors.

One component at most runs on a base, whatever its kind: it is the base's occupant. The others wait outside,
and the base without occupant is the untouched model, object for object. So a base must be on its device and
in its dtype before components come to it.

A folder that is loaded may come from a stranger: nothing in it is executed, and everything is checked before
memory is taken or the base is touched. A load that fails leaves base, residents and random state alone.

What this does not do: know how a kind adds to the base (``adapters``, ``weights``), or who made a folder.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn

from codestrata.components.folders import describe, read_object
from codestrata.errors import ComponentError, SettingsError
from codestrata.files import hash_file, write_json
from codestrata.models.fingerprints import fingerprint_model
from codestrata.settings.checks import check_name

FORMAT = 2
COMPONENT_FILE = "component.json"
OCCUPANT = "codestrata_occupant"
ADVICE = {
    "format": "Another version of codestrata wrote it: train the component again.",
    "kind": "Load it as the kind it is.",
    "base_fingerprint": "It was trained on another base: load that one.",
}

Resident = TypeVar("Resident")


class Residents(ABC, Generic[Resident]):
    """The components of one kind on one base, as ``contracts.Component`` describes them.

    A subclass says how one is made, read, put in place, taken out and written. It is asked to make, read and
    put in place only on a bare base.
    """

    read_files: ClassVar[tuple[str, ...]]
    """The files that a component is read from; ``component.json`` holds their hashes."""

    def __init__(self, base: nn.Module, *, kind: str, fingerprint: str | None = None) -> None:
        self.kind = kind
        self._base = base
        self._residents: dict[str, Resident] = {}
        self._active: str | None = None
        with bare(base):
            base.requires_grad_(False)
            self.fingerprint = fingerprint_model(base) if fingerprint is None else fingerprint

    @property
    def model(self) -> nn.Module:
        """The base itself: components come and go in place."""
        return self._base

    @property
    def names(self) -> tuple[str, ...]:
        """The resident components, in the order they came."""
        return tuple(self._residents)

    @property
    def active(self) -> str | None:
        """The component of this kind that runs now, or ``None``."""
        return self._active

    def attach(self, name: str, *, seed: int) -> None:
        """Add a newborn component; the random state of the process stays as it was.

        Raises: ComponentError: the name is taken or not allowed.
        """
        self._check_free(name)
        with bare(self._base), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self._residents[name] = self._create()

    def load(self, name: str, folder: Path) -> None:
        """Add a component from ``folder``; the random state of the process stays as it was.

        Raises: ComponentError: the name is taken or not allowed; files are missing, damaged, changed or not
            plain files; tensors do not fit the configuration or are not finite; the component is of another
            kind, or was trained on a base with another fingerprint. Nothing has changed then.
        """
        self._check_free(name)
        hashes = check_component_file(
            folder, kind=self.kind, fingerprint=self.fingerprint, read_files=self.read_files
        )
        with bare(self._base), torch.random.fork_rng(devices=[]):
            self._residents[name] = self._read(folder, hashes)

    def activate(self, name: str) -> None:
        """Run this component from now on, in the base's training or evaluation mode; another one leaves.

        Raises: ComponentError: no such resident component.
        """
        resident = self._find(name)
        if name == self._active:
            return
        self.deactivate()
        self._install(resident)
        self._active = name
        setattr(self._base, OCCUPANT, self)

    def deactivate(self) -> None:
        """Run the bare base from now on, whichever kind of component ran."""
        occupant: Residents[Any] | None = getattr(self._base, OCCUPANT, None)
        if occupant is not None:
            occupant._leave()

    def detach(self, name: str) -> None:
        """Forget a component. Raises ComponentError: no such component."""
        self._find(name)
        if name == self._active:
            self._leave()
        del self._residents[name]

    def parameters(self, name: str) -> Mapping[str, nn.Parameter]:
        """What training changes: tensor name as it is stored on disk -> parameter."""
        return self._list_parameters(self._find(name))

    def tensors(self, name: str) -> Mapping[str, torch.Tensor]:
        """All that the component is made of, as ``write`` would store it now."""
        return self._list_tensors(self._find(name))

    def write(self, name: str, folder: Path, about: Mapping[str, Any]) -> None:
        """Store the component in ``folder``; ``component.json`` comes last and holds ``about`` too."""
        self._write(self._find(name), folder)
        header = {
            "format": FORMAT,
            "kind": self.kind,
            "base_fingerprint": self.fingerprint,
            "sha256": {file: hash_file(folder / file) for file in self.read_files},
        }
        write_json(folder / COMPONENT_FILE, header | dict(about) | header)

    @abstractmethod
    def _create(self) -> Resident:
        """A newborn, drawn from torch's random state."""

    @abstractmethod
    def _read(self, folder: Path, hashes: Mapping[str, str]) -> Resident:
        """The component in ``folder``; its files have these hashes. Raises ComponentError: damaged files."""

    @abstractmethod
    def _install(self, resident: Resident) -> None:
        """Put the component in place; only its parameters take gradients."""

    @abstractmethod
    def _remove(self, resident: Resident) -> None:
        """Undo ``_install``: the base's own objects are back."""

    @abstractmethod
    def _list_parameters(self, resident: Resident) -> Mapping[str, nn.Parameter]:
        """The component's parameters by name on disk."""

    def _list_tensors(self, resident: Resident) -> Mapping[str, torch.Tensor]:
        """The component's tensors by name on disk: its parameters, and what else a subclass stores."""
        return self._list_parameters(resident)

    @abstractmethod
    def _write(self, resident: Resident, folder: Path) -> None:
        """Store everything but ``component.json``."""

    def _leave(self) -> None:
        if self._active is not None:
            self._remove(self._residents[self._active])
            self._active = None
            delattr(self._base, OCCUPANT)

    def _find(self, name: str) -> Resident:
        if name not in self._residents:
            known = ", ".join(self._residents) or "none"
            raise ComponentError(f"No {self.kind} component {name!r} on this base. Resident: {known}.")
        return self._residents[name]

    def _check_free(self, name: str) -> None:
        try:
            check_name("A component's name", name)
        except SettingsError as error:
            raise ComponentError(str(error)) from None
        if name in self._residents:
            raise ComponentError(
                f"A {self.kind} component {name!r} is already on this base: detach it first."
            )


@contextmanager
def bare(base: nn.Module) -> Iterator[None]:
    """The base without its occupant for a while; afterwards the occupant runs again."""
    occupant: Residents[Any] | None = getattr(base, OCCUPANT, None)
    name = None if occupant is None else occupant.active
    if occupant is not None:
        occupant.deactivate()
    try:
        yield
    finally:
        if occupant is not None and name is not None:
            occupant.activate(name)


def check_component_file(
    folder: Path, *, kind: str, fingerprint: str, read_files: tuple[str, ...]
) -> dict[str, str]:
    """The hashes of the files to read, from a ``component.json`` that fits this kind and base.

    Raises: ComponentError: missing or damaged, another format or kind, or another base; with both values.
    """
    path = folder / COMPONENT_FILE
    found = read_object(folder, COMPONENT_FILE)
    for key, wanted in (("format", FORMAT), ("kind", kind), ("base_fingerprint", fingerprint)):
        value = found.get(key)
        if type(value) is not type(wanted) or value != wanted:
            raise ComponentError(
                f"{path}: {key} is {describe(value)}, but {wanted!r} is needed here. {ADVICE[key]}"
            )
    hashes = found.get("sha256")
    if not isinstance(hashes, dict) or not all(isinstance(hashes.get(file), str) for file in read_files):
        raise ComponentError(
            f"{path}: sha256 is {describe(hashes)}, but the hashes of {' and '.join(read_files)} are needed"
            " here. Get the component again."
        )
    return hashes
