"""What every kind of component shares: names, who runs on the base now, and the files around the tensors.

One component at most runs on a base, whatever its kind: it is the base's occupant. The others wait outside,
and the base without occupant is the untouched model, object for object. So a base must be on its device and
in its dtype before components come to it.

What this does not do: know how a kind adds to the base (``adapters``, ``weights``).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from codestrata.errors import ComponentError, DataError, SettingsError
from codestrata.files import read_json, write_bytes, write_json
from codestrata.models.fingerprints import fingerprint_model
from codestrata.settings import check_name

FORMAT = 1
COMPONENT_FILE = "component.json"
OCCUPANT = "codestrata_occupant"

Resident = TypeVar("Resident")


class Residents(ABC, Generic[Resident]):
    """The components of one kind on one base, as ``contracts.Component`` describes them.

    A subclass says how one is made, read, put in place, taken out and written. It is asked to make, read and
    put in place only on a bare base.
    """

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
        """Add a component from ``folder``.

        Raises: ComponentError: the name is taken or not allowed; files are missing or damaged; the component
            is of another kind, or was trained on a base with another fingerprint.
        """
        self._check_free(name)
        check_component_file(folder, kind=self.kind, fingerprint=self.fingerprint)
        with bare(self._base):
            self._residents[name] = self._read(folder)

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

    def write(self, name: str, folder: Path, about: Mapping[str, Any]) -> None:
        """Store the component in ``folder``; ``component.json`` comes last and holds ``about`` too."""
        self._write(self._find(name), folder)
        header = {"format": FORMAT, "kind": self.kind, "base_fingerprint": self.fingerprint}
        write_json(folder / COMPONENT_FILE, header | dict(about) | header)

    @abstractmethod
    def _create(self) -> Resident:
        """A newborn, drawn from torch's random state."""

    @abstractmethod
    def _read(self, folder: Path) -> Resident:
        """The component in ``folder``. Raises ComponentError: damaged files."""

    @abstractmethod
    def _install(self, resident: Resident) -> None:
        """Put the component in place; only its parameters take gradients."""

    @abstractmethod
    def _remove(self, resident: Resident) -> None:
        """Undo ``_install``: the base's own objects are back."""

    @abstractmethod
    def _list_parameters(self, resident: Resident) -> Mapping[str, nn.Parameter]:
        """The component's parameters by name on disk."""

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


def check_component_file(folder: Path, *, kind: str, fingerprint: str) -> None:
    """Refuse a folder whose ``component.json`` does not fit this kind and base.

    Raises: ComponentError: missing or damaged, another format or kind, or another base; with both values.
    """
    found = read_object(folder / COMPONENT_FILE)
    for key, wanted in (("format", FORMAT), ("kind", kind), ("base_fingerprint", fingerprint)):
        if found.get(key) != wanted:
            raise ComponentError(
                f"{folder / COMPONENT_FILE}: {key} is {found.get(key)!r}, but {wanted!r} is needed here."
            )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``. Raises ComponentError: missing, damaged or not an object."""
    try:
        value = read_json(path)
    except DataError as error:
        raise ComponentError(str(error)) from error
    if not isinstance(value, dict):
        raise ComponentError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_tensors(path: Path, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors in a safetensors file, which must be exactly those expected: names, dtypes and shapes.

    Raises: ComponentError: missing or damaged file, or a tensor that does not fit; names the first one.
    """
    if not path.is_file():
        raise ComponentError(f"{path}: missing. Tensors are read from safetensors files only.")
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ComponentError(f"{path}: damaged: {error}") from error
    for name in sorted(expected.keys() | found.keys()):
        wanted, present = describe_tensor(expected.get(name)), describe_tensor(found.get(name))
        if wanted != present:
            raise ComponentError(f"{path}: tensor {name!r}: expected {wanted}, found {present}.")
    return found


def describe_tensor(tensor: torch.Tensor | None) -> str:
    """Dtype and shape in words; "nothing" for no tensor."""
    return "nothing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Replace ``path`` by a safetensors file in one step; the same tensors give the same bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata={"format": "pt"}))
