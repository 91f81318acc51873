"""The matrix R of a task sequence -> what was reached, what was lost and what carried over.

R has shape (T + 1, T). ``R[t, i]`` is the score on task i after training through task t, in [0, 1], higher is
better; row 0 is the untouched base; NaN means not measured. Formulas count tasks from 1, as papers do.
Where a metric takes R, it also takes a stack of them, shape (..., T + 1, T), and gives one value for each.

What this does not do: fill R, put intervals on its numbers (see ``continual``), say what other libraries make
of R (see ``dialects``), or know that a schedule is isolated, where several of these numbers are 0 by
construction and no finding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from codestrata.errors import MatrixError, SettingsError, describe_unknown

ROUNDING = 1e-9  # a perfect BLEU comes out of floating point as 1.0000000000000004

Values = float | np.ndarray
"""A plain float for one matrix, shape (...) for a stack of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixValue:
    """One number out of R, or ``None`` with the reason."""

    value: float | None
    reason: str | None = None


def average_accuracy(scores: np.ndarray) -> Values:
    """Mean score over all tasks once the sequence is over.

        ACC = mean over i of R[T, i]

    Args:
        scores: R, shape (..., T + 1, T); row 0 is the base; entries in [0, 1].

    Raises: MatrixError: a needed entry is missing.
    Source: Lopez-Paz & Ranzato 2017, arXiv:1706.08840.
    """
    scores, tasks = check_matrix(scores)
    return mean(pick("Average accuracy", scores, tasks[-1], tasks))


def learning_accuracy(scores: np.ndarray) -> Values:
    """Mean score on each task right after training on it.

        LA = mean over i of R[i, i]

    Args:
        scores: R, shape (..., T + 1, T); row 0 is the base; entries in [0, 1].

    Raises: MatrixError: a needed entry is missing.
    Source: Riemer et al. 2019, arXiv:1810.11910.
    """
    scores, tasks = check_matrix(scores)
    return mean(pick("Learning accuracy", scores, tasks, tasks))


def backward_transfer(scores: np.ndarray) -> Values:
    """Mean change on earlier tasks once the sequence is over; negative means forgetting.

        BWT = mean over i < T of R[T, i] - R[i, i]

    Args:
        scores: R, shape (..., T + 1, T); row 0 is the base; entries in [0, 1].

    Raises: MatrixError: fewer than two tasks, or a needed entry is missing.
    Source: Lopez-Paz & Ranzato 2017, arXiv:1706.08840. ``forgetting`` uses the best earlier score instead.
    """
    name = "Backward transfer"
    scores, tasks = check_sequence(name, scores)
    earlier, last = tasks[:-1], tasks[-1]
    return mean(pick(name, scores, last, earlier) - pick(name, scores, earlier, earlier))


def forward_transfer(scores: np.ndarray) -> Values:
    """Mean gain over the base on tasks that are not trained yet; positive means earlier tasks helped.

        FWT = mean over i > 1 of R[i - 1, i] - R[0, i]

    Args:
        scores: R, shape (..., T + 1, T); row 0 is the base; entries in [0, 1].

    Raises: MatrixError: fewer than two tasks, or a needed entry is missing.
    Source: Lopez-Paz & Ranzato 2017, arXiv:1706.08840, whose row 0 is a randomly initialised model.
    """
    name = "Forward transfer"
    scores, tasks = check_sequence(name, scores)
    later = tasks[1:]
    return mean(pick(name, scores, later - 1, later) - pick(name, scores, 0, later))


def forgetting(scores: np.ndarray) -> Values:
    """Mean loss on earlier tasks against their best score on the way; negative means they only improved.

        F = mean over j < T of (max over j <= l < T of R[l, j]) - R[T, j]

    Args:
        scores: R, shape (..., T + 1, T); row 0 is the base; entries in [0, 1].

    Raises: MatrixError: fewer than two tasks, or a needed entry is missing.
    Source: Chaudhry et al. 2018, arXiv:1801.10112. They allow l < j too; we do not, so that harm done by a
        task's own training is not called forgetting. Others use the word for other formulas: Avalanche for
        first - last, which is -BWT per task, Mammoth for maximum over all rows - last, which cannot be
        negative (``report_as`` has them all).
    """
    name = "Forgetting"
    scores, tasks = check_sequence(name, scores)
    last = tasks[-1]
    best = [pick(name, scores, np.arange(task, last), task).max(axis=-1) for task in tasks[:-1]]
    return mean(np.stack(best, axis=-1) - pick(name, scores, last, tasks[:-1]))


def intransigence(joint_scores: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """What each task falls short of joint training, shape (T,); NaN where there is no joint model.

        I_k = J_k[k] - R[k, k], where J_k is trained jointly on tasks 1..k

    Args:
        joint_scores: J_k[k], shape (T,); entries in [0, 1]; NaN where J_k was not trained.
        scores: R, shape (T + 1, T); row 0 is the base; entries in [0, 1].

    Raises: MatrixError: R[k, k] is missing where J_k[k] is there, or the shapes do not fit.
    Source: Chaudhry et al. 2018, arXiv:1801.10112.
    """
    scores, tasks = check_one_matrix(scores)
    joint_scores = check_vector("J", joint_scores, tasks)
    trained = ~np.isnan(joint_scores)
    gaps = np.full(len(tasks), np.nan)
    gaps[trained] = joint_scores[trained] - pick("Intransigence", scores, tasks[trained], tasks[trained])
    return gaps


def expert_gap(expert_scores: np.ndarray, scores: np.ndarray) -> float:
    """Mean distance to experts that saw one task alone; positive means the sequence learned less.

        gap = mean over i of S_i - R[i, i], where S_i is trained on task i alone

    Args:
        expert_scores: S, shape (T,); entries in [0, 1].
        scores: R, shape (T + 1, T); row 0 is the base; entries in [0, 1].

    Raises: MatrixError: a needed entry is missing, or the shapes do not fit.
    Source: ours; ``intransigence`` compares with joint training instead.
    """
    scores, tasks = check_one_matrix(scores)
    expert_scores = check_vector("S", expert_scores, tasks)
    absent = tasks[np.isnan(expert_scores)]
    if absent.size:
        places = ", ".join(f"S[{task}]" for task in absent)
        raise MatrixError(f"Expert gap needs {places}, not measured: train an expert on each task alone.")
    return float(np.mean(expert_scores - pick("Expert gap", scores, tasks, tasks)))


def forgetting_percent(scores: np.ndarray) -> np.ndarray:
    """What share of each task's own score the rest of the sequence took, shape (..., T).

        (R[i, i] - R[T, i]) / R[i, i]

    A share, not times 100: the founding experiment's 0.78 % is 0.0078. Negative means that the task improved.
    The last task's share is 0 by construction.

    Args:
        scores: R, shape (..., T + 1, T); row 0 is the base; entries in [0, 1].

    Returns: NaN where an entry is missing or R[i, i] is 0.
    Raises: MatrixError: R is not a matrix of scores.
    Source: the founding experiment, for its first of two tasks.
    """
    scores, tasks = check_matrix(scores)
    learned = scores[..., tasks, tasks - 1]
    lost = learned - scores[..., -1, :]
    shares = np.full(learned.shape, np.nan)
    np.divide(lost, learned, out=shares, where=learned > 0)
    return shares


def summarize_matrix(scores: np.ndarray) -> dict[str, MatrixValue]:
    """Every metric of R alone, by name; what cannot be computed is ``None`` with the reason.

    Args:
        scores: R, shape (T + 1, T); row 0 is the base; entries in [0, 1].

    Raises: MatrixError: R is not a matrix of scores; missing entries are reasons instead.
    """
    check_one_matrix(scores)
    return {name: measure(metric, scores) for name, metric in METRICS.items()}


def report_as(scores: np.ndarray, library: str) -> dict[str, MatrixValue]:
    """What a library would report on this R, by the library's own names.

    Args:
        scores: R, shape (T + 1, T); row 0 is the base; entries in [0, 1]; NaN where not measured.
        library: a name of ``dialects.DIALECTS``, such as ``avalanche`` or ``mammoth``.

    Returns: ``None`` with the reason where R alone does not give the number.
    Raises: MatrixError: R is not a matrix of scores. SettingsError: an unknown library.
    """
    from codestrata.analysis.dialects import DIALECTS  # which is written in the terms of this module

    if library not in DIALECTS:
        raise SettingsError(describe_unknown("library", library, DIALECTS))
    scores, _ = check_one_matrix(scores)
    return {
        found.name: MatrixValue(value=None, reason=found.reason)
        if found.compute is None
        else measure(found.compute, scores)
        for found in DIALECTS[library].definitions
    }


METRICS: Mapping[str, Callable[[np.ndarray], Values]] = {
    "average_accuracy": average_accuracy,
    "learning_accuracy": learning_accuracy,
    "backward_transfer": backward_transfer,
    "forward_transfer": forward_transfer,
    "forgetting": forgetting,
}


def measure(metric: Callable[[np.ndarray], Values], scores: np.ndarray) -> MatrixValue:
    """The metric's value, or the reason why R does not give it."""
    try:
        return MatrixValue(value=float(metric(scores)))
    except MatrixError as error:
        return MatrixValue(value=None, reason=str(error))


def check_matrix(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R or a stack of such matrices as floats, shape (..., T + 1, T), and the task numbers 1..T.

    Raises: MatrixError: another shape, or an entry outside [0, 1].
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim < 2 or scores.shape[-1] < 1 or scores.shape[-2] != scores.shape[-1] + 1:
        wanted = "(T + 1, T), a row for the base and then one for each of T tasks"
        raise MatrixError(f"R has shape {scores.shape}: expected {wanted}.")
    check_scores("R", scores, first=(0, 1))
    return scores, np.arange(1, scores.shape[-1] + 1)


def check_one_matrix(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As ``check_matrix``, for what takes no stack.

    Raises: MatrixError: a stack, another shape, or an entry outside [0, 1].
    """
    scores, tasks = check_matrix(scores)
    if scores.ndim > 2:
        raise MatrixError(f"R has shape {scores.shape}, a stack of matrices: expected one of (T + 1, T).")
    return scores, tasks


def check_sequence(name: str, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As ``check_matrix``, for the metric ``name``, which compares tasks.

    Raises: MatrixError: fewer than two tasks, another shape, or an entry outside [0, 1].
    """
    scores, tasks = check_matrix(scores)
    if len(tasks) < 2:
        raise MatrixError(f"{name} compares tasks of a sequence: it needs at least 2, found {len(tasks)}.")
    return scores, tasks


def check_vector(letter: str, values: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Scores as floats, one per task.

    Raises: MatrixError: another number of scores, or one outside [0, 1].
    """
    values = np.asarray(values, dtype=float)
    if values.shape != tasks.shape:
        raise MatrixError(f"{letter} has shape {values.shape}: expected {tasks.shape}, one score per task.")
    check_scores(letter, values, first=(1,))
    return values


def check_scores(letter: str, values: np.ndarray, first: tuple[int, ...]) -> None:
    """Refuse a score outside [0, 1]; NaN passes; ``first`` is what the formulas call the first entry.

    Axes before those of ``first`` count the matrices of a stack, from 0.
    """
    outside = np.argwhere((values < -ROUNDING) | (values > 1 + ROUNDING))
    if outside.size:
        index = tuple(int(number) for number in outside[0])
        stack, entry = index[: -len(first)], index[-len(first) :]
        place = ", ".join(str(number + start) for number, start in zip(entry, first, strict=True))
        which = f" in matrix {stack} of the stack" if stack else ""
        raise MatrixError(
            f"{letter}[{place}]{which} is {values[index]}: scores are in [0, 1]; divide percentages by 100."
        )


def pick(name: str, scores: np.ndarray, rows: np.ndarray | int, tasks: np.ndarray | int) -> np.ndarray:
    """R[t, i] for each t of ``rows`` with its i of ``tasks`` (or one for all), for the metric ``name``.

    Raises: MatrixError: some of them were not measured, in any matrix of a stack.
    """
    rows, tasks = np.broadcast_arrays(rows, tasks)
    values: np.ndarray = scores[..., rows, tasks - 1]
    missing = np.isnan(values).any(axis=tuple(range(values.ndim - rows.ndim)))
    if missing.any():
        pairs = zip(rows[missing], tasks[missing], strict=True)
        places = ", ".join(f"R[{row}, {task}]" for row, task in pairs)
        meaning = "R[t, i] is the score on task i after training through task t"
        raise MatrixError(f"{name} needs {places}, not measured: {meaning}.")
    return values


def mean(values: np.ndarray) -> Values:
    """The mean over the last axis; a plain float where that is the only one."""
    means = np.mean(values, axis=-1)
    return float(means) if np.ndim(means) == 0 else np.asarray(means)
