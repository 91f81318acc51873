"""A learning rate for every method: equal trials of the same rates on the first task, judged by validation.

Only the first task is used, because a learner does not know the later ones when it has to choose: Chaudhry et
al. 2019 (A-GEM, arXiv:1812.00420) choose on the first tasks of a sequence for this reason, and then never
again. What a retention does cannot be seen there, as there is nothing to retain yet.

What this does not do: look at a test example, or search for anything but the peak learning rate.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from codestrata.data.batches import EncodedExamples
from codestrata.engine.states import fingerprint_rows
from codestrata.errors import DataError, DivergenceError, SettingsError, StorageError
from codestrata.experiment.amounts import with_steps
from codestrata.experiment.trainings import choose_training, gather_examples
from codestrata.files import hash_json, read_json, write_json
from codestrata.lab import Lab, choose_cache_folder
from codestrata.methods import Method, build_component, build_retention
from codestrata.records import Task
from codestrata.settings.sections import TrainingSettings
from codestrata.settings.tree import Settings, to_tree
from codestrata.training import count_steps, fit
from codestrata.validation import measure_loss, without_validation

CACHE = "rates"
FORMAT = "codestrata trial of a learning rate 1"
TRIAL = "rate-trial"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of one learning rate: validation loss in nats per target token, or why there is none."""

    rate: float
    loss: float | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """All trials of a method in the order of the grid, the rate that is chosen, and the edge it lies at."""

    task: str
    steps: int
    seed: int
    trials: tuple[Trial, ...]
    chosen: float
    edge: str | None


def check_search(settings: Settings) -> None:
    """Refuse a search that nothing could judge. Raises SettingsError: the first task holds nothing out."""
    first = settings.tasks[0]
    if settings.fair.rates and not first.validation_examples:
        raise SettingsError(
            f"fair.rates asks for a search, but tasks.validation_examples is 0 for the first task, "
            f"{first.name!r}, by whose validation loss rates are judged: hold some examples out, such as 100."
        )


def check_judge(lab: Lab) -> None:
    """Refuse a search that the loaded data cannot judge. Raises SettingsError: nothing is held out."""
    task = lab.tasks[0]
    if lab.settings.fair.rates and not len(lab.validation[task.name]):
        raise SettingsError(
            f"fair.rates asks for a search, but the first task, {task.name!r}, has no validation examples to "
            "judge rates by: give it more records, or set fair.rates to []."
        )


def search_rate(lab: Lab, method: Method) -> Search:
    """The best of the learning rates for a method, of which ``lab`` has the own settings.

    Of equal losses the lower rate wins. A trial that diverges is worse than any that does not.

    Raises: SettingsError: the first task has no validation examples, or every rate diverged.
    """
    fair, task = lab.settings.fair, lab.tasks[0]
    check_judge(lab)
    training = choose_trial(lab, method, task)
    lab.progress.start(f"{method.name}: learning rates", len(fair.rates))
    trials = list[Trial]()
    for number, rate in enumerate(fair.rates):
        work = partial(try_rate, lab, method, task, training, rate)
        trial = lab.journal.recall(f"fair/rates/{method.name}/{number}", Trial, work)
        trials.append(trial)
        lab.progress.advance(number + 1, f"{rate:g}: {describe_trial(trial)}")
    chosen = choose_trial_rate(trials)
    if chosen is None:
        raise SettingsError(
            f"Every learning rate of fair.rates ({', '.join(f'{rate:g}' for rate in fair.rates)}) made "
            f"{method.name!r} diverge on {task.name!r}: try lower ones."
        )
    assert training.steps is not None
    return Search(
        task=task.name,
        steps=training.steps,
        seed=fair.search_seed,
        trials=tuple(trials),
        chosen=chosen,
        edge=find_edge(fair.rates, chosen),
    )


def choose_trial(lab: Lab, method: Method, task: Task) -> TrainingSettings:
    """The training of every trial: as many steps as asked for, or as the method takes on its first task."""
    settings = choose_training(lab, method, task)
    own = count_steps(len(gather_examples(lab, method, task)), settings)
    return with_steps(without_validation(settings), lab.settings.fair.search_steps or own)


def choose_trial_rate(trials: Sequence[Trial]) -> float | None:
    """The rate with the lowest loss, the lower one of two; ``None`` where every trial diverged."""
    found = [(trial.loss, trial.rate) for trial in trials if trial.loss is not None]
    return min(found)[1] if found else None


def find_edge(rates: Sequence[float], chosen: float) -> str | None:
    """Whether the chosen rate is the ``lowest`` or ``highest`` of all: a better one may lie beyond."""
    return {min(rates): "lowest", max(rates): "highest"}.get(chosen)


def describe_trial(trial: Trial) -> str:
    """A trial in a word."""
    return "diverged" if trial.loss is None else f"validation loss {trial.loss:.4f}"


def try_rate(lab: Lab, method: Method, task: Task, training: TrainingSettings, rate: float) -> Trial:
    """A trial, taken out of the cache folder where the very same one is there; else trained and kept."""
    about = describe_conditions(lab, method, task, training, rate)
    path = choose_cache_folder(lab.settings.cache) / CACHE / f"{hash_json(about)}.json"
    if lab.settings.fair.reuse:
        known = read_trial(path, about, rate)
        if known is not None:
            return known
    with lab.journal.clock("search"):
        trial = train_trial(lab, method, task, training, rate)
    try:
        write_json(path, {"about": about, "trial": asdict(trial), "sha256": seal(about, trial)})
    except StorageError as error:
        lab.progress.say(f"the trial is not kept for other runs: {error}")
    return trial


def train_trial(lab: Lab, method: Method, task: Task, training: TrainingSettings, rate: float) -> Trial:
    """Train a newborn on the task with this rate, and measure its loss on the task's validation examples."""
    seed, pad_id = lab.settings.fair.search_seed, lab.base.tokenizer.pad_token_id
    component = build_component(method, lab.base, lab.settings)
    component.attach(TRIAL, seed=seed)
    try:
        fit(
            component,
            TRIAL,
            gather_examples(lab, method, task),
            training,
            learning_rate=rate,
            seed=seed,
            pad_id=pad_id,
            device=lab.base.device,
            # The others do nothing on a first task, so that methods which differ in them share their trials.
            retention=build_retention(method, lab.settings, seed=seed) if shapes_first_task(method) else None,
            store=lab.store,
        )
        rows = lab.validation[task.name]
        loss = measure_loss(component.model, rows, training, pad_id=pad_id, device=lab.base.device)
    except DivergenceError:
        return Trial(rate=rate, loss=None, reason="the training diverged")
    finally:
        component.detach(TRIAL)
    if not math.isfinite(loss):
        return Trial(rate=rate, loss=None, reason="the validation loss is not finite")
    return Trial(rate=rate, loss=loss)


def shapes_first_task(method: Method) -> bool:
    """Whether a method's retention has a say before there is anything to retain: O-LoRA's blocks do."""
    return method.retention == "orthogonal"


def describe_conditions(
    lab: Lab, method: Method, task: Task, training: TrainingSettings, rate: float
) -> dict[str, Any]:
    """All that decides a trial: where it is equal, so is the loss (but for rounding on another machine)."""
    import torch

    assert method.component is not None
    section = method.component.replace("-", "_")
    tree, cache = to_tree(lab.settings), lab.settings.cache
    validation: EncodedExamples = lab.validation[task.name]
    return {
        "format": FORMAT,
        "versions": [version("codestrata"), torch.__version__],
        "device": lab.base.device.type,
        "base": lab.base.fingerprint,
        "component": method.component,
        "settings": {**tree[section], "learning_rate": rate},
        # Its blocks are stacked, one for every task.
        "retention": [tree["retention"], len(lab.tasks)] if shapes_first_task(method) else None,
        "training": {**asdict(training), "learning_rate": rate},
        "train": fingerprint_rows(gather_examples(lab, method, task)),
        "validation": fingerprint_rows(validation),
        "seed": lab.settings.fair.search_seed,
        # Training starts from them as they were rounded.
        "states": None if cache.states_mib is None else cache.states_dtype,
    }


def seal(about: Mapping[str, Any], trial: Trial) -> str:
    """SHA-256 over what a trial was and what came of it."""
    return hash_json([about, asdict(trial)])


def read_trial(path: Path, about: Mapping[str, Any], rate: float) -> Trial | None:
    """The trial that lies in a file; ``None`` where there is none, it is damaged, or it is of another."""
    try:
        found = read_json(path)
        trial = Trial(**found["trial"])
        is_sound = found["sha256"] == seal(about, trial) and trial.rate == rate
    except (DataError, KeyError, TypeError):
        return None
    return trial if is_sound else None
