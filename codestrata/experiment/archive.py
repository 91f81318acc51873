"""What a run has done, by all that decides the outcome: no cell of R is decoded twice unasked.

Trainings are found again by methods that differ in how a component is picked alone.

What this does not do: decode, train, or keep anything beyond the run.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from codestrata.contracts import Component
from codestrata.files import hash_json
from codestrata.lab import Lab, list_splits
from codestrata.methods import Method
from codestrata.models.fingerprints import fingerprint_tensors
from codestrata.records import Cell, SplitName, Task, Training
from codestrata.settings.tree import fingerprint


@dataclass(frozen=True, kw_only=True)
class Model:
    """A base with a component on it, by their bytes; ``None`` twice for the bare base.

    The kind counts beside the component's tensors: its settings decide what they do, and are a run's own.
    """

    base: str
    kind: str | None = None
    component: str | None = None


@dataclass(frozen=True, kw_only=True)
class Address:
    """All that decides the answers of a cell: where it is equal, they are.

    ``data`` is the fingerprint of the split's examples. ``decoding`` is that of the decoding settings and the
    prompt limit. ``apart`` counts the examples that are decoded before the others, in batches of their own.
    ``trained_on`` are the tasks whose training text the answers were held against: equal components that
    were trained on other tasks share no answers.
    """

    model: Model
    task: str
    split: SplitName
    data: str
    decoding: str
    apart: int = 0
    trained_on: frozenset[str] = frozenset()


class Archive:
    """Decoded cells and trainings of one run by their addresses.

    Attributes:
        vectors: (task, part of its data) -> what routers read of the prompts, by the bare base.
    """

    def __init__(self, lab: Lab) -> None:
        self._cells: dict[Address, Cell] = {}
        self._trainings: dict[tuple[Any, ...], Training] = {}
        self.vectors: dict[tuple[str, str], np.ndarray] = {}
        self._data = {
            (task.name, split): hash_json([asdict(example) for example in examples])
            for task in lab.tasks
            for split, examples in list_splits(task).items()
        }
        limit = {"max_prompt_tokens": lab.settings.training.max_prompt_tokens}
        self._decoding = hash_json(asdict(lab.settings.decoding) | limit)

    def locate(
        self,
        model: Model,
        task: Task,
        split: SplitName,
        *,
        apart: int = 0,
        trained_on: Iterable[Task] = (),
    ) -> Address:
        """The address of a split's answers under the run's settings."""
        data = self._data[task.name, split]
        # A company of all is no company apart.
        apart = 0 if apart == len(list_splits(task)[split]) else apart
        return Address(
            model=model,
            task=task.name,
            split=split,
            data=data,
            decoding=self._decoding,
            apart=apart,
            trained_on=frozenset(entry.name for entry in trained_on),
        )

    def find(self, address: Address) -> Cell | None:
        """The cell that was decoded at this address, or ``None``."""
        return self._cells.get(address)

    def keep(self, address: Address, cell: Cell) -> None:
        """Remember a decoded cell."""
        self._cells[address] = cell

    def find_training(self, lab: Lab, method: Method, task: Task, seed: int) -> Training | None:
        """A training that a method without a task label need not do again; ``None`` where there is none."""
        if method.selection == "oracle":
            return None
        return self._trainings.get(identify_training(lab, method, task, seed))

    def keep_training(self, lab: Lab, method: Method, training: Training) -> None:
        """Remember a training on one task alone, that of the first such method."""
        (task,) = (entry for entry in lab.tasks if entry.name == training.task)
        if method.schedule == "isolated":
            self._trainings.setdefault(identify_training(lab, method, task, training.seed), training)


def identify_training(lab: Lab, method: Method, task: Task, seed: int) -> tuple[Any, ...]:
    """All that decides the bytes of a component that is born anew and sees one task."""
    own = (fingerprint(lab.settings), lab.steps.get(task.name))
    return (method.component, method.retention, method.schedule, *own, task.name, seed)


def fingerprint_component(component: Component, name: str) -> str:
    """SHA-256 over a resident component's tensors, computed now."""
    return fingerprint_tensors(component.tensors(name))
