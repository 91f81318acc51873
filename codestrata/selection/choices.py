"""From how well every task explains a prompt to the task that is chosen, and how sure that is.

Every router gives an energy for every prompt and task: minus the logarithm of how likely the prompt is under
the task, up to what all tasks share. With equal prior chances of all tasks

    p(task | prompt) = exp(-energy) / sum over tasks of exp(-energy)

The chosen task is the one of least energy, its p the confidence, in [1 / tasks, 1]. Under a threshold nobody
is chosen, and the base answers.

What this does not do: make energies, or see that a prompt belongs to no task at all (of the known ones one
is always the likeliest, and a single task has confidence 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from codestrata.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The number of the chosen task, from 0, and its confidence; ``None`` where the router abstains.

    The confidence is that of the likeliest task then too.
    """

    task: int | None
    confidence: float


def choose_tasks(energies: np.ndarray, threshold: float | None = None) -> list[Choice]:
    """A choice for every prompt; of tasks with equal energy the first is chosen.

    Args:
        energies: (prompts, tasks), lower is likelier; at least one task.
        threshold: the least confidence, in [0, 1]; ``None`` never abstains.

    Raises: DataError: no task, or an energy that is not finite, by which nothing could be compared.
    """
    if energies.ndim != 2 or not energies.shape[1]:
        raise DataError(
            f"Energies have shape (prompts, tasks) with at least one task, found {energies.shape}."
        )
    if not np.isfinite(energies).all():
        prompts = int((~np.isfinite(energies)).any(axis=1).sum())
        raise DataError(
            f"Of {prompts} of {len(energies)} prompts an energy is not finite, as the states or losses that "
            "it comes from are not: no router can choose for them. Set another routing.by, or another base."
        )
    if not len(energies):
        return []
    best = energies.argmin(axis=1)
    least = energies[np.arange(len(best)), best]
    sure = np.exp(-least - logsumexp(-energies, axis=1))
    return [
        Choice(
            task=None if threshold is not None and confidence < threshold else int(task),
            confidence=min(1.0, float(confidence)),
        )
        for task, confidence in zip(best, sure, strict=True)
    ]


def count_choices(choices: Sequence[Choice], tasks: int) -> list[int]:
    """How often each task was chosen, and last how often none was."""
    counts = [0] * (tasks + 1)
    for choice in choices:
        counts[tasks if choice.task is None else choice.task] += 1
    return counts
