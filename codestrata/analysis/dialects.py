"""What other libraries would report on the same R: equal words, other formulas.

Each dialect was read in the library's own code or paper (its ``source``) and is written down here anew. All
numbers are shares in [0, 1] or differences of such, where several libraries print them times 100.

What this does not do: reproduce how a library gets its accuracies (pooling over classes, multi-head masks),
or what it prints for a single task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from codestrata.analysis.matrix import (
    Values,
    average_accuracy,
    backward_transfer,
    check_one_matrix,
    check_sequence,
    forgetting,
    forward_transfer,
    learning_accuracy,
    mean,
    pick,
)

Quantity = Literal["accuracy", "backward transfer", "forward transfer", "forgetting"]
POOLED = "It is pooled over test examples, and R does not say how many each task has."


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """What a library computes under a name of its own.

    ``quantity`` is what readers will take it for; ``None`` where no other library has the like. ``compute``
    is ``None`` where R alone cannot give the number, and ``reason`` says why.
    """

    name: str
    quantity: Quantity | None
    formula: str
    compute: Callable[[np.ndarray], Values] | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """A library or paper, where its code was read, and its definitions."""

    title: str
    source: str
    definitions: tuple[Definition, ...]


def negated_backward_transfer(scores: np.ndarray) -> Values:
    """Avalanche's forgetting: first minus last, mean over the tasks that were followed by another."""
    return -backward_transfer(scores)


def gem_backward_transfer(scores: np.ndarray) -> Values:
    """As ``backward_transfer``, with the last task's 0 in the mean."""
    scores, tasks = check_sequence("Backward transfer", scores)
    return backward_transfer(scores) * (len(tasks) - 1) / len(tasks)


def gem_forward_transfer(scores: np.ndarray) -> Values:
    """As ``forward_transfer``, with a 0 for the first task in the mean."""
    scores, tasks = check_sequence("Forward transfer", scores)
    return forward_transfer(scores) * (len(tasks) - 1) / len(tasks)


def chaudhry_forgetting(scores: np.ndarray) -> Values:
    """Best of rows 1..T - 1 minus last; rows before the task's own training count where measured."""
    scores, _ = check_sequence("Forgetting", scores)
    pick_learned("Forgetting", scores[:, :-1])
    return mean(np.nanmax(scores[1:-1, :-1], axis=0) - scores[-1, :-1])


def agem_forgetting(scores: np.ndarray) -> Values:
    """Best of rows 1..T - 1 minus last, all of them measured."""
    scores, tasks = check_sequence("Forgetting", scores)
    rows = [pick("Forgetting", scores, tasks[:-1], task) for task in tasks[:-1]]
    last = pick("Forgetting", scores, tasks[-1], tasks[:-1])
    return mean(np.max(rows, axis=1) - last)


def mammoth_forgetting(scores: np.ndarray) -> Values:
    """Best of all rows 1..T minus last, never negative; 0 stands for what is missing above the diagonal."""
    scores, _ = check_sequence("Forgetting", scores)
    pick_learned("Forgetting", scores[:, :-1])
    return mean(np.nan_to_num(scores[1:, :-1]).max(axis=0) - scores[-1, :-1])


def triangle_forgetting(scores: np.ndarray) -> Values:
    """Best of rows i..T minus last, never negative: their tables hold 0 above the diagonal."""
    scores, _ = check_sequence("Forgetting", scores)
    pick_learned("Forgetting", scores[:, :-1])
    return mean(np.tril(scores[1:])[:, :-1].max(axis=0) - scores[-1, :-1])


def continuum_accuracy(scores: np.ndarray) -> Values:
    """Mean of R on and below the diagonal."""
    scores, _ = check_one_matrix(scores)
    return mean(pick_learned("accuracy_A", scores))


def continuum_backward_transfer(scores: np.ndarray) -> Values:
    """Mean change of every earlier task after every later one, with the row right after a task left out.

    The sum leaves those rows out, the divisor does not.
    """
    scores, tasks = check_sequence("Backward transfer", scores)
    rows, columns = np.tril_indices(len(tasks), k=-2)
    later = pick("Backward transfer", scores, rows + 1, columns + 1)
    learned = pick("Backward transfer", scores, columns + 1, columns + 1)
    return float((later - learned).sum()) / count_pairs(tasks)


def continuum_positive_backward_transfer(scores: np.ndarray) -> Values:
    """The gain in Continuum's backward transfer, else 0."""
    return max(float(continuum_backward_transfer(scores)), 0.0)


def continuum_remembering(scores: np.ndarray) -> Values:
    """1 minus the loss in Continuum's backward transfer."""
    return 1.0 + min(float(continuum_backward_transfer(scores)), 0.0)


def continuum_forward_transfer(scores: np.ndarray) -> Values:
    """Mean of R below the diagonal: what is kept of earlier tasks, whatever the name says."""
    scores, tasks = check_sequence("Forward transfer", scores)
    rows, columns = np.tril_indices(len(tasks), k=-1)
    return mean(pick("Forward transfer", scores, rows + 1, columns + 1))


def continuum_forgetting(scores: np.ndarray) -> Values:
    """Best of rows j..T - 2 minus last, for the tasks j < T - 1, over T - 1."""
    scores, tasks = check_sequence("Forgetting", scores)
    last = int(tasks[-1])
    lost = [
        float(pick("Forgetting", scores, np.arange(task, last - 1), task).max())
        - float(pick("Forgetting", scores, last, np.array([task]))[0])
        for task in range(1, last - 1)
    ]
    return sum(lost) / (last - 1)


def pick_learned(name: str, scores: np.ndarray) -> np.ndarray:
    """Every R[t, i] with i <= t of these tasks. Raises MatrixError: some of them were not measured."""
    rows, columns = np.tril_indices(scores.shape[0] - 1, m=scores.shape[1])
    return pick(name, scores, rows + 1, columns + 1)


def count_pairs(tasks: np.ndarray) -> float:
    """How many pairs of an earlier and a later task there are."""
    return len(tasks) * (len(tasks) - 1) / 2


BACKWARD = "mean over i < T of R[T, i] - R[i, i]"
FORWARD = "mean over i > 1 of R[i-1, i] - R[0, i]"
CLIPPED = "mean over j < T of (max over j <= l <= T of R[l, j]) - R[T, j]"


def define_accuracy(name: str) -> Definition:
    """The mean of R's last row, which several libraries report."""
    formula = "mean over i of R[T, i]"
    return Definition(name=name, quantity="accuracy", formula=formula, compute=average_accuracy)


def define_pooled(name: str, formula: str) -> Definition:
    """An accuracy over the examples of several tasks together."""
    return Definition(name=name, quantity="accuracy", formula=formula, compute=None, reason=POOLED)


def define_backward_transfer(name: str) -> Definition:
    """The change since a task's own training, which most libraries call backward transfer."""
    return Definition(name=name, quantity="backward transfer", formula=BACKWARD, compute=backward_transfer)


def define_forward_transfer(name: str) -> Definition:
    """The gain over an untrained model before a task's own training, which most call forward transfer."""
    return Definition(name=name, quantity="forward transfer", formula=FORWARD, compute=forward_transfer)


def define_forgetting(name: str, formula: str, compute: Callable[[np.ndarray], Values]) -> Definition:
    """What a library calls forgetting."""
    return Definition(name=name, quantity="forgetting", formula=formula, compute=compute)


OURS = Dialect(
    title="codestrata",
    source="codestrata/analysis/matrix.py",
    definitions=(
        define_accuracy("average_accuracy"),
        Definition(
            name="learning_accuracy",
            quantity=None,
            formula="mean over i of R[i, i]",
            compute=learning_accuracy,
        ),
        define_backward_transfer("backward_transfer"),
        define_forward_transfer("forward_transfer"),
        define_forgetting(
            "forgetting", "mean over j < T of (max over j <= l < T of R[l, j]) - R[T, j]", forgetting
        ),
    ),
)

AVALANCHE = Dialect(
    title="Avalanche",
    source="ContinualAI/avalanche, avalanche/evaluation/metrics, forgetting_bwt.py and forward_transfer.py "
    "at 93a71ad",
    definitions=(
        define_pooled("Top1_Acc_Stream", "correct examples of all tasks over all examples, after training T"),
        define_backward_transfer("StreamBWT"),
        define_forward_transfer("StreamForwardTransfer"),
        define_forgetting(
            "StreamForgetting", "mean over i < T of R[i, i] - R[T, i]", negated_backward_transfer
        ),
    ),
)

MAMMOTH = Dialect(
    title="Mammoth",
    source="aimagelab/mammoth, utils/metrics.py at d75fe5f",
    definitions=(
        define_accuracy("mean accuracy"),
        define_backward_transfer("backward_transfer"),
        define_forward_transfer("forward_transfer"),
        define_forgetting(
            "forgetting",
            "mean over j < T of (max over 1 <= l <= T of R[l, j]) - R[T, j], 0 for missing l < j",
            mammoth_forgetting,
        ),
    ),
)

GEM = Dialect(
    title="GEM",
    source="facebookresearch/GradientEpisodicMemory, metrics/metrics.py at 1919989",
    definitions=(
        define_accuracy("Final Accuracy"),
        Definition(
            name="Backward",
            quantity="backward transfer",
            formula="sum over i < T of R[T, i] - R[i, i], over T",
            compute=gem_backward_transfer,
        ),
        Definition(
            name="Forward",
            quantity="forward transfer",
            formula="sum over i > 1 of R[i-1, i] - R[0, i], over T",
            compute=gem_forward_transfer,
        ),
    ),
)

CHAUDHRY = Dialect(
    title="Chaudhry et al. 2018",
    source="Riemannian Walk, arXiv:1801.10112",
    definitions=(
        define_accuracy("average accuracy A"),
        define_forgetting(
            "forgetting F",
            "mean over j < T of (max over 1 <= l < T of R[l, j]) - R[T, j], missing l < j left out",
            chaudhry_forgetting,
        ),
    ),
)

AGEM = Dialect(
    title="A-GEM",
    source="facebookresearch/agem, utils/utils.py at 1ef4c10",
    definitions=(
        define_accuracy("average accuracy"),
        define_forgetting(
            "average forgetting",
            "mean over j < T of (max over 1 <= l < T of R[l, j]) - R[T, j], all measured",
            agem_forgetting,
        ),
    ),
)

CONTINUUM = Dialect(
    title="Continuum",
    source="Continvvm/continuum, continuum/metrics/metrics.py of release 1.2.7",
    definitions=(
        define_pooled("accuracy", "correct examples of all tasks over all examples, after training T"),
        Definition(
            name="accuracy_A",
            quantity=None,
            formula="mean over all i <= t of R[t, i]",
            compute=continuum_accuracy,
        ),
        Definition(
            name="backward_transfer",
            quantity="backward transfer",
            formula="sum over all i < t - 1 of R[t, i] - R[i, i], over T (T - 1) / 2",
            compute=continuum_backward_transfer,
        ),
        Definition(
            name="positive_backward_transfer",
            quantity=None,
            formula="max(0, its backward_transfer)",
            compute=continuum_positive_backward_transfer,
        ),
        Definition(
            name="remembering",
            quantity=None,
            formula="1 - max(0, -its backward_transfer)",
            compute=continuum_remembering,
        ),
        Definition(
            name="forward_transfer",
            quantity="forward transfer",
            formula="mean over all i < t of R[t, i]",
            compute=continuum_forward_transfer,
        ),
        define_forgetting(
            "forgetting",
            "sum over j < T - 1 of (max over j <= l < T - 1 of R[l, j]) - R[T, j], over T - 1",
            continuum_forgetting,
        ),
    ),
)

FACIL = Dialect(
    title="FACIL",
    source="mmasana/FACIL, src/main_incremental.py at 3e1a0b0 and src/utils.py at 74a826f",
    definitions=(
        define_accuracy("TAg Acc"),
        define_forgetting(
            "TAg Forg", "mean over j < T of (max over j <= l < T of R[l, j]) - R[T, j]", forgetting
        ),
    ),
)

PYCIL = Dialect(
    title="PyCIL",
    source="G-U-N/PyCIL, trainer.py at a7e3038",
    definitions=(
        define_pooled("Average Accuracy", "mean over t of the accuracy over all examples of tasks 1..t"),
        define_forgetting("Forgetting", CLIPPED, triangle_forgetting),
    ),
)

L2P = Dialect(
    title="L2P (PyTorch)",
    source="JH-LEE-KR/l2p-pytorch, engine.py at 009146a",
    definitions=(
        define_accuracy("Acc@1"),
        define_backward_transfer("Backward"),
        define_forgetting("Forgetting", CLIPPED, triangle_forgetting),
    ),
)

SEQUOIA = Dialect(
    title="Sequoia",
    source="lebrice/Sequoia, sequoia/settings/assumptions/incremental_results.py at 0883307",
    definitions=(
        define_pooled("Average Final Performance", "all tasks' results after training T, added up"),
    ),
)

DIALECTS: Mapping[str, Dialect] = {
    "codestrata": OURS,
    "avalanche": AVALANCHE,
    "mammoth": MAMMOTH,
    "gem": GEM,
    "chaudhry": CHAUDHRY,
    "agem": AGEM,
    "continuum": CONTINUUM,
    "facil": FACIL,
    "pycil": PYCIL,
    "l2p": L2P,
    "sequoia": SEQUOIA,
}
