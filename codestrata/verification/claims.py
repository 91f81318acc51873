"""What the results of a finished run claim, typed: the parts that ``verification`` holds against the files.

What this does not do: believe any of it, or read scores (``experiment.rescoring`` does).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from codestrata.errors import RunError
from codestrata.experiment.canaries import name_canary_folder
from codestrata.experiment.cells import PREDICTIONS_FILE, read_predictions
from codestrata.experiment.orders import depends_on_order
from codestrata.methods import Method
from codestrata.records import Origin, Prediction, SplitName
from codestrata.report.tables import check_version
from codestrata.settings.orders import list_orders
from codestrata.settings.tree import Settings
from codestrata.store import RunDirectory


class Owner(NamedTuple):
    """A component of a run: the method's, with a seed, as it was after the training on a task.

    ``part`` is the later task whose training left the part that all tasks share; ``None``: its own did.
    """

    method: str
    seed: int
    task: str
    part: str | None = None

    def __str__(self) -> str:
        part = "" if self.part is None else f", with the shared part of {self.part}"
        return f"{self.method}, seed {self.seed}, component {self.task}{part}"

    @property
    def place(self) -> tuple[str, int, str]:
        """What the folder of its own training is called after."""
        return self.method, self.seed, self.task


@dataclass(frozen=True, kw_only=True)
class CellClaim:
    """A cell as the results describe it; fields as in ``records.Cell``."""

    row: int
    trained_through: str | None
    task: str
    split: SplitName
    origin: Origin
    decoded_again: int
    identical_predictions: bool | None
    component_fingerprint: str | None
    folder: str

    @property
    def place(self) -> str:
        """Where in R it stands, in words."""
        return f"row {self.row}, {self.task}, {self.split}"


@dataclass(frozen=True, kw_only=True)
class TrainingClaim:
    """A training; fields as in ``records.Training``."""

    task: str
    folder: str
    seed: int
    component_fingerprint: str
    base_fingerprint_before: str
    base_fingerprint_after: str


@dataclass(frozen=True, kw_only=True)
class TransferClaim:
    """The cells of components on other tasks."""

    cells: tuple[CellClaim, ...]


@dataclass(frozen=True, kw_only=True)
class OracleClaim:
    """The cells of R with the task's label, of a walk whose own R does without."""

    cells: tuple[CellClaim, ...]


@dataclass(frozen=True, kw_only=True)
class RoutingClaim:
    """A walk whose components are picked from prompts."""

    tasks: tuple[str, ...]
    oracle: OracleClaim


@dataclass(frozen=True, kw_only=True)
class MergedClaim:
    """The component that was merged for a row."""

    row: int
    folder: str
    tasks: tuple[str, ...]
    component_fingerprint: str


@dataclass(frozen=True, kw_only=True)
class MergingClaim:
    """A walk whose components are made into one."""

    components: tuple[MergedClaim, ...]


@dataclass(frozen=True, kw_only=True)
class WalkClaim:
    """One method with one seed in one order of the tasks."""

    seed: int
    order: int
    trainings: tuple[TrainingClaim, ...]
    cells: tuple[CellClaim, ...]
    transfer: TransferClaim
    routing: RoutingClaim | None = None
    merging: MergingClaim | None = None

    @property
    def oracle_cells(self) -> tuple[CellClaim, ...]:
        """The cells with the task's label where R does without; none where R has it."""
        return () if self.routing is None else self.routing.oracle.cells


@dataclass(frozen=True, kw_only=True)
class MethodClaim:
    """A method and its walks."""

    name: str
    component: str | None
    schedule: str
    seeds: tuple[WalkClaim, ...]


@dataclass(frozen=True, kw_only=True)
class TaskClaim:
    """A task and its data."""

    name: str
    language: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class BaseClaim:
    """The base and its cells."""

    name: str
    fingerprint: str
    cells: tuple[CellClaim, ...]


@dataclass(frozen=True, kw_only=True)
class RepeatClaim:
    """The same weights evaluated twice."""

    method: str
    seed: int | None
    task: str
    first: CellClaim
    second: CellClaim


@dataclass(frozen=True, kw_only=True)
class NoiseClaim:
    """All pairs of evaluations."""

    entries: tuple[RepeatClaim, ...]


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The results of a run, as far as they are checked against its files here."""

    settings: Mapping[str, Any]
    settings_fingerprint: str
    environment: Mapping[str, Any]
    base: BaseClaim
    tasks: tuple[TaskClaim, ...]
    methods: tuple[MethodClaim, ...]
    noise_floor: NoiseClaim


def read_claims(run: RunDirectory) -> Claims:
    """The claims of a finished run.

    Raises:
        RunError: not finished, results of another version, or of a shape that no run writes; with the place.
        DataError: they are no JSON.
    """
    results = run.read_results()
    if not isinstance(results, dict):
        raise RunError(f"Run {run.name!r} has results that no run writes: {type(results).__name__}.")
    check_version(results)
    try:
        claims: Claims = msgspec.convert(results, Claims)
    except msgspec.ValidationError as error:
        raise RunError(f"Run {run.name!r} has results that no run writes: {error}.") from error
    return claims


@dataclass(frozen=True)
class Case:
    """A run in one order of its tasks, what it claims, and what its settings say was to be done.

    Of an order after the first it has the methods that were walked in it. Names in paths are those of the
    settings, which are checked to be names.
    """

    run: RunDirectory
    claims: Claims
    settings: Settings
    methods: tuple[Method, ...]
    order: int = 0
    linked: dict[Owner, str | None] = field(default_factory=dict, repr=False)
    """Fingerprints of components with a later task's part, as they were worked out so far."""
    _files: dict[str, dict[tuple[str, str], tuple[Prediction, ...]]] = field(default_factory=dict, repr=False)

    @cached_property
    def task_names(self) -> tuple[str, ...]:
        """The tasks in the order they came."""
        return self.orders[self.order]

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """All orders in which the tasks came."""
        return list_orders(self.settings.orders, [task.name for task in self.settings.tasks])

    def list_later_orders(self) -> list["Case"]:
        """The run in each order of its tasks after the first, with the methods that depend on the order."""
        methods = tuple(method for method in self.methods if depends_on_order(method))
        return [
            replace(self, order=order, methods=methods, linked={}) for order in range(1, len(self.orders))
        ]

    @cached_property
    def walks(self) -> dict[tuple[str, int], WalkClaim]:
        """(method, seed) -> what the results tell of it in this order of the tasks."""
        names = [method.name for method in self.methods]
        return {
            (entry.name, walk.seed): walk
            for entry in self.claims.methods
            for walk in entry.seeds
            if walk.order == self.order and (entry.name in names or not self.order)
        }

    @cached_property
    def trainings(self) -> dict[Owner, TrainingClaim]:
        """What the results tell of the training that a component comes from."""
        return {
            Owner(method, seed, training.task): training
            for (method, seed), walk in self.walks.items()
            for training in walk.trainings
        }

    @cached_property
    def data_fingerprints(self) -> dict[str, str]:
        """Task -> the fingerprint that the results give its data."""
        return {task.name: task.fingerprint for task in self.claims.tasks}

    @property
    def trained(self) -> list[Method]:
        """The methods that have components."""
        return [method for method in self.methods if method.component is not None]

    def list_owners(self) -> Iterator[tuple[Method, Owner]]:
        """Every component that the run must hold, with its method."""
        for method in self.trained:
            for seed in self.settings.seeds:
                for task in self.task_names:
                    yield method, Owner(method.name, seed, task)

    def find_merged(self, owner: Owner) -> MergedClaim | None:
        """What the results tell of the component merged after a training; ``None`` where none was."""
        walk = self.walks.get((owner.method, owner.seed))
        components = () if walk is None or walk.merging is None else walk.merging.components
        return next((entry for entry in components if entry.tasks[-1:] == (owner.task,)), None)

    def find_fingerprint(self, owner: Owner) -> str | None:
        """The fingerprint of what answers for a component's owner: its own, or what was merged then."""
        found = self.find_merged(owner) or self.trainings.get(owner)
        return None if found is None else found.component_fingerprint

    def list_cells(self, method: str, seed: int, row: int, task: str) -> list[CellClaim]:
        """The cells at a place of R: of every split."""
        walk = self.walks.get((method, seed))
        cells = () if walk is None else walk.cells
        return [cell for cell in cells if (cell.row, cell.task) == (row, task)]

    def read_answers(self, folder: str, task: str, split: str) -> tuple[Prediction, ...]:
        """The stored predictions of a split.

        Raises:
            DataError: the file is missing or damaged.
            RunError: it holds none of these, or leads out of the run.
        """
        if folder not in self._files:
            path = self.run.path / folder
            self.run.inside(path / PREDICTIONS_FILE)
            self._files[folder] = read_predictions(path)
        found = self._files[folder].get((task, split))
        if not found:
            raise RunError(f"{folder} holds no predictions of {task}, split {split}.")
        return found

    def read_canaries(self, owner: Owner, split: str) -> tuple[Prediction, ...]:
        """What the canaries of a component's task answered the second time. Raises as ``read_answers``."""
        return self.read_answers(name_canary_folder(*owner.place, self.order), owner.task, split)


def find_owner(
    method: Method, seed: int, cell: CellClaim, tasks: Sequence[str], *, is_transfer: bool = False
) -> Owner | None:
    """Whose component answers in a cell, by the method's schedule; ``None`` for the bare base or for several.

    Of a method that merges them, the owner stands for what was merged after its training. ``tasks`` are all,
    in the order they came: one whose turn has not come has no component of its own.
    """
    if cell.row == 0 or method.component is None or cell.origin in ("structural", "routed"):
        return None
    is_future = cell.row <= tasks.index(cell.task) if cell.task in tasks else False
    if method.schedule == "shared" and not is_future:
        part = None if cell.trained_through == cell.task else cell.trained_through
        return Owner(method.name, seed, cell.task, part)
    has_own = method.has_component_per_task and method.selection != "merged"
    by_task = has_own and not is_transfer and not is_future
    name = cell.task if by_task else cell.trained_through
    return None if name is None else Owner(method.name, seed, name)
