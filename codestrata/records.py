"""The plain data that travels between modules: examples, tasks, predictions, scores.

What this does not do: read, write or check anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SplitName = Literal["test", "unseen"]
Schedule = Literal["isolated", "sequential", "joint", "warm", "kept", "shared"]
"""How the tasks of a sequence share components.

``isolated``: a component per task, each newborn. ``warm``: a component per task, each but the first begins
as a copy of the one before. ``sequential``: one component, trained on task after task. ``joint``: one
component, made anew for every task and trained on all tasks so far at once. ``kept``: a component per task,
with a part that the first task's training makes and all later ones keep as it is. ``shared``: a component per
task, with a part that is trained on with every task, so that all components change with it.
"""
COMPONENT_PER_TASK: tuple[Schedule, ...] = ("isolated", "warm", "kept")
"""Schedules under which every task has a component of its own, which no later training touches."""
NAMED_BY_TASK: tuple[Schedule, ...] = (*COMPONENT_PER_TASK, "shared")
"""Schedules under which every task has a component of its own, though later trainings may change it."""
BORN_LATE: tuple[Schedule, ...] = ("isolated", "kept", "shared")
"""Schedules under which the base answers a task until it has been trained on."""
Origin = Literal["decoded", "rechecked", "canary", "taken-over", "routed", "structural", "control"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One (prompt, target) pair of a task.

    ``tests`` is source code in the task's language, run after a completion; it raises if the completion is
    wrong. ``prelude`` is source code that stands before a completion when it is run, such as the head of a
    function whose body is asked for; where there is one, even an empty one, what a completion holds after the
    function that was asked for is not run. ``group`` names what the example has in common with others (a
    problem family, a repository).
    """

    identifier: str
    prompt: str
    target: str
    tests: str | None = None
    group: str | None = None
    prelude: str | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A named data set with a language, a training objective and an evaluation objective.

    ``train`` and ``validation`` hold examples of the training objective, ``test`` and ``unseen`` of the
    evaluation objective. ``unseen`` is a second test split, of kinds of problem that no training contains;
    it is reported apart and may be empty. ``dropped`` counts the records that could not serve, by reason;
    ``notes`` say what else a reader of the results should know about the data; ``duplicates`` is the report
    on near duplicates, as plain values for the results, ``None`` where none were looked for.
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
    notes: tuple[str, ...] = ()
    duplicates: Mapping[str, Any] | None = None
    prompt_template: str = "{}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a model answered to one example; every metric can be recomputed from these alone.

    ``finished`` is False where the answer was cut at the length limit; ``tokens`` is its length. ``sample``
    counts the answers to one example from 0. ``agreed`` and ``shifted`` say, of ``tokens``, how many the base
    would have said too in this place, and how many it ranks below its first three; ``None`` where the base
    was not asked. ``repeats`` says whether the completion repeats training text of the component that
    answered word for word (``data.repetition``), and ``target_repeats`` whether the target does; ``None``
    where that was not looked at. ``prelude`` is the example's.
    """

    identifier: str
    prompt: str
    target: str
    completion: str
    tests: str | None = None
    group: str | None = None
    finished: bool = True
    tokens: int | None = None
    sample: int = 0
    agreed: int | None = None
    shifted: int | None = None
    repeats: bool | None = None
    target_repeats: bool | None = None
    prelude: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """What a metric is: everything that a reader needs to know its numbers.

    ``kind``: a ``rate`` is a share of examples that pass, a ``score`` another number in [0, 1]; of both,
    higher is better. A ``description`` is neither better nor worse, and may leave [0, 1].
    """

    name: str
    kind: Literal["rate", "score", "description"]
    formula: str
    source: str
    implementation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One metric over n examples: a value, or ``None`` with the reason.

    ``per_example`` holds the value of each example alone, in order; ``None`` inside where one has none.
    ``aggregate`` (a name in ``analysis.aggregates``) says how they make up ``value``: as a ``mean``, as a
    ``rate`` (the mean of 0 and 1), or else from the sums of ``statistics``, a row per example. ``variant``
    names the exact implementation (sacrebleu's signature, a parser's version), ``isolation`` what confined
    the programs that were run for it.
    """

    metric: str
    value: float | None
    n: int
    reason: str | None = None
    per_example: tuple[float | None, ...] | None = None
    statistics: tuple[tuple[float, ...], ...] | None = None
    aggregate: str = "mean"
    variant: str | None = None
    isolation: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The scores of one model state on one split of one task, such as an entry of R.

    ``row`` counts the trainings (0 is the base), the last of them on ``trained_through``.

    ``decoded`` cells were decoded for the first time. ``rechecked`` cells belong to an older task and were
    decoded again as a whole. ``taken-over`` cells hold the predictions of an earlier cell, as base and
    component had the same bytes for both; of ``canary`` cells some predictions were decoded again besides.
    ``routed`` cells hold, example by example, the predictions of the component that a router picked.
    ``structural`` cells follow from the schedule (a component that does not exist yet: the base answers).
    ``control`` cells come from no model.

    ``decoded_again`` counts the predictions that were decoded again, and ``identical`` says whether each of
    them came out the same. ``component_fingerprint`` is that of the component in this row; ``None`` where the
    bare base or no model answered. ``folder`` is where the predictions lie, inside the run.
    """

    row: int
    trained_through: str | None
    task: str
    split: SplitName
    origin: Origin
    predictions: tuple[Prediction, ...]
    scores: tuple[Score, ...]
    folder: str
    decoded_again: int = 0
    identical: bool | None = None
    component_fingerprint: str | None = None

    @property
    def has_file(self) -> bool:
        """Whether its predictions were written for it; else they are those of an earlier cell."""
        return self.origin in ("decoded", "rechecked", "routed", "control")


@dataclass(frozen=True, kw_only=True)
class Training:
    """What training a component on one task did and cost.

    ``steps`` were taken of ``planned_steps``: fewer where validation ``stopped`` it. ``validation`` says what
    the loss on held-out examples was and which weights were kept (keys as in
    ``engine.watch.ValidationLog``); ``None`` where nothing was validated.

    ``seconds`` is wall time; ``component_bytes`` is the size of its tensors on disk; ``parameters`` counts
    what was trained, ``total_parameters`` base and component together (for a full copy of the weights, the
    copy alone). ``padding`` is the share of padding in what was computed, in ``passes`` forward and backward
    passes of at most ``batch_tokens`` tokens, products in ``precision``. ``states`` says what became of the
    states of the frozen part below the first trained module (keys as in ``engine.states.StateUse``); ``None``
    where there is none. ``taken_over_from`` is the folder of the component of another method of equal kind,
    schedule, settings and seed, whose training this is: it was not done again. ``component_fingerprint`` is
    that of the tensors it left; the base's fingerprints
    must be equal.
    """

    task: str
    folder: str
    seed: int
    learning_rate: float
    steps: int
    planned_steps: int
    stopped: Literal["all steps", "patience"]
    examples: int
    tokens: int
    padding: float
    seconds: float
    final_loss: float
    losses: tuple[float, ...]
    parameters: int
    total_parameters: int
    component_bytes: int
    component_fingerprint: str
    peak_memory_mib: float | None
    memory_counter: str
    base_fingerprint_before: str
    base_fingerprint_after: str
    base_dropout: bool
    precision: Literal["bf16", "fp32"]
    passes: int
    batch_tokens: int
    states: Mapping[str, Any] | None
    validation: Mapping[str, Any] | None
    taken_over_from: str | None = None
