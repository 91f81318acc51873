"""What a run measured, as plain data: all that its results are written from, decoded now or read from disk.

What this does not do: compute a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codestrata.records import COMPONENT_PER_TASK, Cell, Metric
from codestrata.settings.tree import Settings


@dataclass(frozen=True, kw_only=True)
class Walk:
    """One method with one seed through the whole sequence.

    ``cells`` are R's, row 0 included. ``transfer`` are the components of each task on the other tasks;
    ``None`` where that was not asked for, or where there is one component only. ``trainings`` and ``swap``
    are already as they stand in the results.
    """

    seed: int
    trainings: tuple[Mapping[str, Any], ...]
    cells: tuple[Cell, ...]
    transfer: tuple[Cell, ...] | None = None
    swap: Mapping[str, Any] | None = None


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
        """Whether every task has a component of its own."""
        return self.schedule in COMPONENT_PER_TASK


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

    ``base``, ``tasks`` and ``execution`` (per language, what confined the programs) are already as they stand
    in the results.
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

    @property
    def task_names(self) -> list[str]:
        """The tasks in the order they came."""
        return [str(task["name"]) for task in self.tasks]
