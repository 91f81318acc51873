"""Sample efficiency: a component for each task from the first part of its training examples alone.

Parts are nested: the examples of a task stand in a seeded order, and a part is its beginning. Every part is
trained for as many optimizer steps as all of the examples are, so that only the data differs. The component
answers its own task's test split and is not kept.

What this does not do: train on all of the examples (the run does anyway), or compare (``results`` does).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

from codestrata.checkpoints import Checkpoints
from codestrata.contracts import Component
from codestrata.errors import IsolationError
from codestrata.experiment.archive import fingerprint_component
from codestrata.experiment.canaries import choose_canaries
from codestrata.experiment.cells import answer_examples, score_task, write_cells
from codestrata.experiment.rows import label_walk, name_component
from codestrata.experiment.trainings import choose_training, copy_tensors, gather_validation
from codestrata.lab import Lab
from codestrata.methods import Method, choose_learning_rate
from codestrata.models.fingerprints import fingerprint_model
from codestrata.records import Cell, Prediction, Task
from codestrata.results.efficiency import explain_no_curve
from codestrata.results.measured import Portion
from codestrata.results.rechecks import choose_recheck
from codestrata.store import RunDirectory, name_walk
from codestrata.training import FitLog, count_steps, fit


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a training on a part of the examples did, and what its component answered."""

    learning_rate: float
    examples: int
    steps: int
    tokens: int
    seconds: float
    final_loss: float
    component_fingerprint: str
    predictions: tuple[Prediction, ...]


def count_portion(examples: int, fraction: float) -> int:
    """How many examples a part holds, at least one.

    >>> count_portion(1000, 0.25), count_portion(3, 0.1)
    (250, 1)
    """
    return max(1, round(examples * fraction))


def name_fraction(fraction: float) -> str:
    """A folder's name, one for each fraction, however near another is.

    >>> name_fraction(0.25), name_fraction(0.2500001)
    ('fraction-0.25', 'fraction-0.2500001')
    """
    return f"fraction-{fraction!r}"


def name_portion(method: str, seed: int, task: str, fraction: float, order: int = 0) -> str:
    """Where the answers of a component from a part of the examples lie, inside the run."""
    return f"methods/{name_walk(method, seed, order)}/{task}/{name_fraction(fraction)}"


def name_trial(folder: str) -> str:
    """What the journal calls the training on a part whose answers lie in ``folder``."""
    return f"portions/{folder}"


def measure_portions(
    lab: Lab, run: RunDirectory, method: Method, component: Component, seed: int
) -> tuple[Portion, ...] | None:
    """Every task's parts, in the order of the tasks and of their sizes; ``None`` where it is not measured.

    Every task's component on all of its examples is resident. Measured is the first order of the tasks.

    Raises: IsolationError: a training changed the base.
    """
    fractions = lab.settings.measurement.data_fractions
    if not fractions or lab.order or explain_no_curve(method.component, method.schedule, method.selection):
        return None
    found = []
    for task in lab.tasks:
        for fraction in sorted(fractions):
            folder = name_portion(method.name, seed, task.name, fraction)
            trial = lab.journal.recall(
                name_trial(folder),
                Trial,
                partial(try_portion, lab, run, method, component, task, seed, fraction),
            )
            cell = build_cell(lab, task, trial, folder)
            write_cells(run.path, [cell])
            found.append(Portion(fraction=fraction, training=describe_trial(trial), cell=cell))
    return tuple(found)


def try_portion(
    lab: Lab,
    run: RunDirectory,
    method: Method,
    component: Component,
    task: Task,
    seed: int,
    fraction: float,
) -> Trial:
    """Train a component on a part of the task's examples, have it answer the test split, and forget it."""
    name = next(free for number in count() if (free := f"portion-{number}") not in component.names)
    rows = lab.encoded[task.name][: count_portion(len(lab.encoded[task.name]), fraction)]
    checkpoints = Checkpoints(
        run.checkpoints_folder(method.name, seed, name_fraction(fraction)) / task.name,
        seconds=lab.settings.checkpoints.seconds,
        interrupts=lab.interrupts,
        say=lab.progress.say,
    )
    label = f"{label_walk(lab, method, seed)}: {fraction:g} of {task.name}"
    component.attach(name, seed=seed)
    position = lab.tasks.index(task)
    if method.schedule == "warm" and position:
        copy_tensors(component, name_component(method, lab.tasks[position - 1]), name)
    component.deactivate()
    log = fit_portion(lab, method, component, name, task, rows, seed, checkpoints, label)
    component.deactivate()
    if (after := fingerprint_model(lab.base.model)) != lab.base.fingerprint:
        checkpoints.remove()
        raise IsolationError(
            f"The frozen base changed: its fingerprint was {lab.base.fingerprint} as loaded, and is {after} "
            f"after {method.name!r} was trained on {fraction:g} of {task.name!r}. The run's numbers cannot "
            "be trusted."
        )
    fingerprint = fingerprint_component(component, name)
    component.activate(name)
    lab.progress.start(f"{label}, decode", len(task.test) * lab.settings.decoding.samples)
    folder = name_portion(method.name, seed, task.name, fraction)
    predictions = answer_examples(
        lab,
        task.test,
        lab.settings.decoding,
        f"{folder}/{task.name}/test/{fingerprint}",
        apart=choose_apart(lab, task),
        compared=component if lab.settings.measurement.agreement else None,
    )
    component.deactivate()
    component.detach(name)
    checkpoints.remove()
    return Trial(
        learning_rate=choose_learning_rate(method, lab.settings),
        examples=len(rows),
        steps=log.steps,
        tokens=log.tokens,
        seconds=log.seconds,
        final_loss=log.final_loss,
        component_fingerprint=fingerprint,
        predictions=predictions,
    )


def fit_portion(
    lab: Lab,
    method: Method,
    component: Component,
    name: str,
    task: Task,
    rows: Sequence[Any],
    seed: int,
    checkpoints: Checkpoints,
    label: str,
) -> FitLog:
    """The training on a part: as the one on all examples, with as many steps planned."""
    settings = choose_training(lab, method, task)
    steps = count_steps(len(lab.encoded[task.name]), settings)
    started = time.perf_counter()
    log = fit(
        component,
        name,
        rows,
        replace(settings, steps=steps, epochs=None),
        learning_rate=choose_learning_rate(method, lab.settings),
        seed=seed,
        pad_id=lab.base.tokenizer.pad_token_id,
        device=lab.base.device,
        validation=gather_validation(lab, method, task),
        store=lab.store,
        checkpoints=checkpoints,
        progress=lab.progress,
        label=label,
    )
    lab.journal.add("training", log.seconds)
    lab.journal.recalled_seconds += max(0.0, log.seconds - (time.perf_counter() - started))
    return log


def choose_apart(lab: Lab, task: Task) -> tuple[int, ...]:
    """The test examples with batches of their own: as where the component on all examples was decoded."""
    if choose_recheck(lab.settings) != "canary":
        return ()
    return choose_canaries(len(task.test), lab.settings.measurement.canary_examples)


def build_cell(lab: Lab, task: Task, trial: Trial, folder: str) -> Cell:
    """The answers of a part's component, scored, where the task's own training stands."""
    return Cell(
        row=1 + lab.tasks.index(task),
        trained_through=task.name,
        task=task.name,
        split="test",
        origin="decoded",
        predictions=trial.predictions,
        scores=score_task(lab, trial.predictions, task, f"{folder}/test"),
        folder=folder,
        component_fingerprint=trial.component_fingerprint,
    )


def describe_trial(trial: Trial) -> dict[str, Any]:
    """What the results tell of the training."""
    keys = ("learning_rate", "examples", "steps", "tokens", "seconds", "final_loss")
    return {key: getattr(trial, key) for key in keys}
