"""Orthogonal low-rank adaptation: a block of ranks per task, whose directions keep clear of earlier blocks'.

Letters: A (ranks, inputs) and B (outputs, ranks) are the two factors beside a linear map.

What this does not do: make room (the component is built with ``ranks`` for every task of the run).
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from codestrata.contracts import Lesson
from codestrata.errors import TrainingError
from codestrata.retention.memory import Memory
from codestrata.settings.retention import OrthogonalSettings

A_SUFFIX, B_SUFFIX = ".lora_A.weight", ".lora_B.weight"


class OrthogonalRanks(Memory):
    """Retention ``orthogonal``: task t trains the t-th block of every map's ranks alone.

        W = W_0 + alpha / r * sum over tasks i of  B_i A_i
        penalty = strength * sum over maps, over i < t, of  sum_jk |A_i A_t^T|_jk

    One LoRA of r ranks per task side by side is one LoRA of T r ranks; later blocks are the identity (B = 0)
    until their turn. Gradients of all blocks but the t-th are put to zero before clipping, and AdamW without
    weight decay leaves such entries as they are, bit for bit.

    Source: Wang et al. 2023 (O-LoRA), arXiv:2310.14152. The paper's L_orth sums squares of the overlap's
    entries, the authors' code their absolute values; ours is the code's. Their L2 term is left out.

    Args:
        settings: the strength.
        ranks: of one task's block.
        seed: draws nothing.
    """

    kind: ClassVar[str] = "orthogonal"

    def __init__(self, settings: OrthogonalSettings, *, ranks: int, seed: int) -> None:
        super().__init__(settings, seed=seed)
        self._stated["ranks"] = ranks
        self.settings = settings
        self.ranks = ranks

    @property
    def block(self) -> slice:
        """The ranks of the task that comes now."""
        return slice(self.lessons * self.ranks, (self.lessons + 1) * self.ranks)

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Refuse what has no room for this task.

        Raises: TrainingError: a parameter that is no factor of a LoRA, or too few ranks.
        """
        for name, parameter in parameters.items():
            if not name.endswith((A_SUFFIX, B_SUFFIX)):
                raise TrainingError(f"{name} is no factor of a plain LoRA: retention orthogonal needs one.")
            found = len(parameter) if name.endswith(A_SUFFIX) else parameter.shape[1]
            if found < self.block.stop:
                raise TrainingError(f"{name} has {found} ranks: {self.block.stop} are needed for this task.")

    def penalise(self, parameters: Mapping[str, nn.Parameter]) -> torch.Tensor | None:
        """The strength * sum |A_i A_t^T| over all maps; nothing in the first task."""
        terms = [
            (factor[: self.block.start].detach() @ factor[self.block].t()).abs().sum()
            for name, factor in parameters.items()
            if name.endswith(A_SUFFIX) and self.lessons
        ]
        return self.settings.strength * torch.stack(terms).sum() if terms else None

    def restrain(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Leave a gradient in this task's block alone."""
        for name, parameter in parameters.items():
            if parameter.grad is None:
                continue
            # A has its ranks in rows, B in columns.
            gradient = parameter.grad if name.endswith(A_SUFFIX) else parameter.grad.t()
            gradient[: self.block.start] = 0
            gradient[self.block.stop :] = 0

    def remember(self, lesson: Lesson) -> None:
        """Go on to the next block; the earlier ones stay in the component."""
        super().remember(lesson)
