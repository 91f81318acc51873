"""A finished run to take things over from: its results, and its files as they were sealed or not at all.

What this does not do: take anything over (``inheritance`` does).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from codestrata.errors import DataError, RunError
from codestrata.files import hash_file, read_json
from codestrata.manifests import Content, read_contents
from codestrata.records import Origin, SplitName
from codestrata.report.tables import check_version
from codestrata.store import RESULTS_FILE, RunDirectory

COMPONENT_FILE = "component.json"


@dataclass(frozen=True, kw_only=True)
class StoredCell:
    """A cell as the results describe it; fields as in ``records.Cell``."""

    row: int
    trained_through: str | None
    task: str
    split: SplitName
    origin: Origin
    folder: str
    component_fingerprint: str | None


@dataclass(frozen=True, kw_only=True)
class StoredTransfer:
    """The cells of components on other tasks."""

    cells: tuple[StoredCell, ...]


@dataclass(frozen=True, kw_only=True)
class StoredPortion:
    """A component from a part of the training examples, and the cell that it answers."""

    fraction: float
    training: dict[str, Any]
    cell: StoredCell


@dataclass(frozen=True, kw_only=True)
class StoredWalk:
    """One method with one seed; ``trainings`` are records without their losses."""

    seed: int
    trainings: tuple[dict[str, Any], ...]
    cells: tuple[StoredCell, ...]
    transfer: StoredTransfer
    sample_efficiency: tuple[StoredPortion, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StoredMethod:
    """A method and its walks."""

    name: str
    seeds: tuple[StoredWalk, ...]


@dataclass(frozen=True, kw_only=True)
class StoredTask:
    """A task and its data."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class StoredBase:
    """The base and its cells."""

    name: str
    fingerprint: str
    cells: tuple[StoredCell, ...]


@dataclass(frozen=True, kw_only=True)
class StoredRepeat:
    """A pair of evaluations of the same weights."""

    method: str
    task: str


@dataclass(frozen=True, kw_only=True)
class StoredNoise:
    """All pairs of evaluations."""

    entries: tuple[StoredRepeat, ...]


@dataclass(frozen=True, kw_only=True)
class StoredControl:
    """A control and its cells."""

    name: str
    cells: tuple[StoredCell, ...]


@dataclass(frozen=True, kw_only=True)
class StoredResults:
    """The results of a finished run, as far as a run that extends it has a use for them."""

    environment: dict[str, Any]
    seconds: dict[str, float]
    tasks: tuple[StoredTask, ...]
    base: StoredBase
    controls: tuple[StoredControl, ...]
    methods: tuple[StoredMethod, ...]
    noise_floor: StoredNoise
    extended_from: dict[str, Any] | None = None
    fair: dict[str, Any] | None = None


class FinishedRun:
    """A finished run, of which every file is read as it was sealed or refused.

    Raises: RunError: not finished, in use, its checksums damaged, or results of another version or shape.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        if run.is_held:
            raise RunError(f"Run {run.name!r} is in use: a process works on it.")
        tree = run.read_results()
        self.contents: Mapping[str, Content] = read_contents(run.path)
        self.sha256 = hash_file(self.take(RESULTS_FILE))
        check_version(tree)
        try:
            self.results: StoredResults = msgspec.convert(tree, StoredResults)
        except msgspec.ValidationError as error:
            raise RunError(f"Run {run.name!r} has results that no run writes: {error}.") from error

    def take(self, path: str) -> Path:
        """Where a file of the run lies. Raises DataError: it is not there, or not as the run left it."""
        place = self.run.inside(self.run.path / path)
        wanted = self.contents.get(path)
        if wanted is None or not place.is_file() or place.is_symlink():
            raise DataError(f"is missing from run {self.run.name!r}", path=place)
        if hash_file(place) != wanted.sha256:
            raise DataError(f"is changed since run {self.run.name!r} was finished", path=place)
        return place

    def list_component(self, folder: str) -> list[str]:
        """The files of which a component in this folder of the run consists, but for ``component.json``.

        Raises: DataError: that is damaged.
        """
        path = self.take(f"{folder}/{COMPONENT_FILE}")
        tree = read_json(path)
        hashes = tree.get("sha256") if isinstance(tree, dict) else None
        if not isinstance(hashes, dict):
            raise DataError("holds no hashes of a component's files", path=path)
        return [f"{folder}/{name}" for name in hashes]
