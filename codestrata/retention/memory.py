"""What every retention has: settings, a seed, and all that it keeps of earlier tasks as tensors and facts.

A retention overrides the verbs that it needs; the others do nothing.

What this does not do: protect anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from codestrata.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from codestrata.contracts import Lesson
from codestrata.errors import DataError
from codestrata.files import hash_json
from codestrata.models.fingerprints import fingerprint_tensors


class Memory:
    """``contracts.Retention`` that protects nothing, to build on.

    Args:
        settings: the retention's section of the settings.
        seed: of all that it draws.

    Attributes:
        tensors: what is kept of earlier tasks, by name.
        facts: what is kept and is no tensor, as JSON values; ``lessons`` counts the tasks.
    """

    kind: ClassVar[str] = "memory"

    def __init__(self, settings: Any, *, seed: int) -> None:
        self._stated = {"kind": self.kind, "settings": asdict(settings), "seed": seed}
        self.seed = seed
        self.tensors: dict[str, torch.Tensor] = {}
        self.facts: dict[str, Any] = {"lessons": 0}

    @property
    def lessons(self) -> int:
        """How many tasks are remembered."""
        return int(self.facts["lessons"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over settings, seed and all that is kept."""
        return hash_json([self._stated, self.facts, fingerprint_tensors(self.tensors)])

    def mix(
        self, rows: Sequence[Any], plan: Sequence[Sequence[int]], *, seed: int
    ) -> tuple[Sequence[Any], Sequence[Sequence[int]]]:
        """The examples and steps as they are."""
        return rows, plan

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Do nothing."""

    def compare(
        self,
        run: Callable[[], torch.Tensor],
        hidden: torch.Tensor,
        head: nn.Module,
        counted: torch.Tensor,
    ) -> torch.Tensor | None:
        """Add nothing."""
        return None

    def penalise(self, parameters: Mapping[str, nn.Parameter]) -> torch.Tensor | None:
        """Add nothing."""
        return None

    def restrain(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Leave the gradients as they are."""

    def remember(self, lesson: Lesson) -> None:
        """Count the task."""
        self.facts["lessons"] += 1

    def write(self, folder: Path) -> None:
        """Store all that is kept. Raises StorageError: it cannot be written."""
        facts = {"of": self._stated, "kept": self.facts}
        write_checkpoint(folder, Checkpoint(tensors=self.tensors, facts=facts))

    def load(self, folder: Path) -> None:
        """Take up what ``write`` stored.

        Raises: DataError: damaged, or of another retention, other settings or seed; nothing has changed then.
        """
        found = read_checkpoint(folder)
        if found.facts.get("of") != self._stated:
            raise DataError(
                f"what is kept of earlier tasks is of {found.facts.get('of')}, but {self._stated} is needed",
                path=folder,
            )
        self.tensors = dict(found.tensors)
        self.facts = dict(found.facts["kept"])
