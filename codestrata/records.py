"""The plain data that travels between modules: examples, tasks, predictions, scores.

What this does not do: read, write or check anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One (prompt, target) pair of a task.

    ``tests`` is source code in the task's language, run after a completion; it raises if the completion is
    wrong. ``group`` names what the example has in common with others (a problem family, a repository).
    """

    identifier: str
    prompt: str
    target: str
    tests: str | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A named data set with a language, a training objective and an evaluation objective.

    ``train`` and ``validation`` hold examples of the training objective, ``test`` and ``unseen`` of the
    evaluation objective. ``unseen`` is a second test split, of kinds of problem that no training contains;
    it is reported apart and may be empty. ``dropped`` counts the records that could not serve, by reason.
    ``prompt_template`` turns what a person types into a prompt of this task (``{}`` is the text).
    """

    name: str
    language: str
    objective: str
    evaluation_objective: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    unseen: tuple[Example, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    prompt_template: str = "{}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a model answered to one example; every metric can be recomputed from these alone.

    ``finished`` is False where the answer was cut at the length limit.
    """

    identifier: str
    prompt: str
    target: str
    completion: str
    tests: str | None = None
    group: str | None = None
    finished: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One metric over n predictions: a value in [0, 1], higher is better, or ``None`` with the reason.

    ``per_example`` holds the value of each prediction in order, where the metric is a mean of such values.
    ``variant`` names the exact implementation (sacrebleu's signature, a parser's version).
    """

    metric: str
    value: float | None
    n: int
    reason: str | None = None
    per_example: tuple[float, ...] | None = None
    variant: str | None = None
