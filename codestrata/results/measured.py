"""What a run measured, as plain data: all that its results are written from, decoded now or read from disk.

What this does not do: compute a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codestrata.records import COMPONENT_PER_TASK, Cell, Metric
from codestrata.settings.orders import list_orders
from codestrata.settings.tree import Settings


@dataclass(frozen=True, kw_only=True)
class Portion:
    """A component trained on the first part of a task's training examples, and what it answers to the task.

    ``training`` is already as it stands in the results.
    """

    fraction: float
    training: Mapping[str, Any]
    cell: Cell


@dataclass(frozen=True, kw_only=True)
class RoutedWalk:
    """What routers chose in one walk; R under routing is the walk's own.

    ``by`` filled R, under ``threshold``. ``confusions`` are the last row's on the test split, by router: of
    each of the ``tasks``, in the order they came, how often each was chosen for it, and last how often none
    was. ``oracle`` are the cells of R with the task's label.
    """

    by: str
    threshold: float | None
    tasks: tuple[str, ...]
    confusions: Mapping[str, tuple[tuple[int, ...], ...]]
    oracle: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Walk:
    """One method with one seed through the whole sequence.

    ``cells`` are R's, row 0 included. ``transfer`` are the components of each task on the other tasks;
    ``None`` where that was not asked for, or where there is one component only. ``trainings`` and ``swap``
    are already as they stand in the results. ``order`` is the number of the order of the tasks, from 0; a
    walk that took all its components over from the first order has no ``trainings`` of its own. ``curve`` is
    what parts of the training examples reach; ``None`` where that was not measured. ``routing`` and
    ``merging`` are of walks without a task label, the latter as it stands in the results.
    """

    seed: int
    trainings: tuple[Mapping[str, Any], ...]
    cells: tuple[Cell, ...]
    transfer: tuple[Cell, ...] | None = None
    swap: Mapping[str, Any] | None = None
    order: int = 0
    curve: tuple[Portion, ...] | None = None
    routing: RoutedWalk | None = None
    merging: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class MethodWalks:
    """A method, as its row of the table says, and its walk with every seed."""

    method: Mapping[str, Any]
    walks: tuple[Walk, ...]

    @property
    def name(self) -> str:
        """The method's name."""
        return str(self.method["name"])

    @property
    def schedule(self) -> str:
        """How the tasks share components: see ``records.Schedule``."""
        return str(self.method["schedule"])

    @property
    def is_isolated(self) -> bool:
        """Whether every task has a component of its own, which alone answers it."""
        return self.schedule in COMPONENT_PER_TASK and self.selection == "oracle"

    @property
    def selection(self) -> str:
        """How the component is found at inference: ``oracle``, ``routed`` or ``merged``."""
        return str(self.method["selection"])

    @property
    def settled_by(self) -> str:
        """The schedule, where it alone decides numbers out of R; a selection without label measures them."""
        return self.schedule if self.selection == "oracle" else self.selection


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """The same weights evaluated twice under the run's decoding settings; sampling draws anew."""

    method: str
    seed: int | None
    first: Cell
    second: Cell


@dataclass(frozen=True, kw_only=True)
class Control:
    """What answered without a model, and how it scored on every task and split."""

    name: str
    about: str
    source: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A whole run, before its results are written.

    ``base``, ``tasks``, ``execution`` (per language, what confined the programs) and ``shared_examples`` are
    already as they stand in the results.
    """

    run: str
    settings: Settings
    base: Mapping[str, Any]
    base_cells: tuple[Cell, ...]
    tasks: tuple[Mapping[str, Any], ...]
    metrics: tuple[Metric, ...]
    execution: Mapping[str, Any]
    controls: tuple[Control, ...]
    methods: tuple[MethodWalks, ...]
    repeats: tuple[Repeat, ...]
    fair: Mapping[str, Any] | None = None
    shared_examples: tuple[Mapping[str, Any], ...] = ()

    @property
    def task_names(self) -> list[str]:
        """The tasks in the order in which the settings list them."""
        return [str(task["name"]) for task in self.tasks]

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """The orders in which the tasks came; walks name theirs by its number."""
        return list_orders(self.settings.orders, self.task_names)
