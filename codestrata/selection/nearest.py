"""Two routers on states of the frozen base: the nearest class mean, and the Mahalanobis distance.

A prompt is one vector x of D numbers. Of every task the training prompts give a mean m_t; all tasks together
give one covariance S within tasks, the mean over all their prompts of (x - m_t)(x - m_t)'. The energies are

    nearest-mean   ||x - m_t||^2 / (2 s),  s = trace(S) / D
    mahalanobis    (x - m_t)' C^-1 (x - m_t) / 2,  C = (1 - shrinkage) S + shrinkage s I

the negative log densities of normal distributions with these means and one common covariance, s I or C. With
shrinkage 1 both are the same. Where coordinates vary together the first counts the same evidence again and
again and is too sure of itself: the choice is not touched by that, the confidence is.

Sources: Rebuffi et al. 2017 (iCaRL's nearest mean of exemplars), arXiv:1611.07725, here over all training
prompts and without scaling to length 1; Lee et al. 2018, arXiv:1807.03888 (Mahalanobis distance on a net's
states with one covariance of all classes), here shrunk.

What this does not do: compute states (``embeddings`` does), or learn anything but sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codestrata.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskStatistics:
    """What is kept of one task's training prompts: it never changes when other tasks arrive.

    Attributes:
        count: prompts.
        mean: (D,).
        scatter: (D, D), the sum over prompts of (x - mean)(x - mean)'.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray


def fit_task(states: np.ndarray) -> TaskStatistics:
    """The statistics of one task's prompts, (N, D). Raises DataError: none, or not finite."""
    if states.ndim != 2 or not len(states):
        raise DataError(f"A router needs states of shape (prompts, width), found {states.shape}.")
    if not np.isfinite(states).all():
        raise DataError("The base's states of a training prompt are not finite: no router can use them.")
    mean = states.mean(axis=0)
    apart = states - mean
    return TaskStatistics(count=len(states), mean=mean, scatter=apart.T @ apart)


def measure_nearest(tasks: Sequence[TaskStatistics], states: np.ndarray) -> np.ndarray:
    """The energies (N, tasks) of prompts (N, D) by their distance to every task's mean."""
    return measure_squares(tasks, states) / (2 * find_scale(pool_covariance(tasks)))


def measure_mahalanobis(
    tasks: Sequence[TaskStatistics], states: np.ndarray, *, shrinkage: float
) -> np.ndarray:
    """The energies (N, tasks) of prompts (N, D) in the metric of the shrunk common covariance.

    Args:
        tasks: what is kept of every task that is known.
        states: the prompts.
        shrinkage: the share of the round covariance, from 1e-6 to 1.
    """
    covariance = pool_covariance(tasks)
    scale = find_scale(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * scale * np.eye(len(covariance))
    whiten = build_whitening(shrunk, least=shrinkage * scale)
    white = [TaskStatistics(count=1, mean=task.mean @ whiten, scatter=task.scatter) for task in tasks]
    return measure_squares(white, states @ whiten) / 2


def build_whitening(covariance: np.ndarray, *, least: float) -> np.ndarray:
    """W, (D, D), with (x W)(x W)' = x C^-1 x'.

    A stored covariance is rounded to single precision, by which variances of nearly 0 can fall under it:
    such count as ``least``, the smallest that C has.
    """
    try:
        whiten: np.ndarray = np.linalg.inv(np.linalg.cholesky(covariance)).T
    except np.linalg.LinAlgError:
        variances, directions = np.linalg.eigh(covariance)
        whiten = directions / np.sqrt(np.maximum(variances, least))
    return whiten


def measure_squares(tasks: Sequence[TaskStatistics], states: np.ndarray) -> np.ndarray:
    """The squared distances (N, tasks) of prompts (N, D) to every task's mean."""
    return np.stack([((states - task.mean) ** 2).sum(axis=1) for task in tasks], axis=1)


def pool_covariance(tasks: Sequence[TaskStatistics]) -> np.ndarray:
    """S, (D, D): every prompt counts once, whatever its task."""
    scatter: np.ndarray = sum((task.scatter for task in tasks[1:]), start=tasks[0].scatter)
    return scatter / sum(task.count for task in tasks)


def find_scale(covariance: np.ndarray) -> float:
    """s, the mean variance of a coordinate; 1 where all prompts of each task have the same state."""
    return float(np.trace(covariance)) / len(covariance) or 1.0
