"""One training of a component on a task: carried out, proved to have left the base alone, and stored.

A training that the journal knows is not done again: its component is loaded from where it was stored.

What this does not do: decode, or decide which tasks come when (``walk`` does).
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from codestrata.checkpoints import Checkpoints
from codestrata.contracts import Component
from codestrata.data.tasks import fingerprint_task
from codestrata.errors import ComponentError, IsolationError
from codestrata.experiment.archive import fingerprint_component
from codestrata.experiment.cells import group_by_folder, write_cells
from codestrata.experiment.rows import label_walk, name_component
from codestrata.lab import Lab
from codestrata.methods import Method, choose_learning_rate
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import count_parameters
from codestrata.records import Cell, Task, Training
from codestrata.settings import fingerprint, to_tree
from codestrata.store import RunDirectory
from codestrata.training import FitLog, fit


def train_task(
    lab: Lab, run: RunDirectory, method: Method, component: Component, task: Task, seed: int
) -> Training:
    """Train the method's component on the task, store it, and prove that the base stayed as it was.

    Raises: IsolationError: the base's fingerprint changed.
    """
    folder = run.task_folder(method.name, seed, task.name)
    unit = f"trainings/{method.name}/seed-{seed}/{task.name}"
    checkpoints = Checkpoints(
        run.checkpoints_folder(method.name, seed, task.name),
        seconds=lab.settings.checkpoints.seconds,
        interrupts=lab.interrupts,
        say=lab.progress.say,
    )
    name = name_component(method, task)
    training: Training = lab.journal.recall(
        unit,
        Training,
        partial(carry_out, lab, run, method, component, task, seed, folder, checkpoints),
        serves=partial(load_trained, lab, run, component, name, folder),
    )
    checkpoints.remove()
    return training


def load_trained(
    lab: Lab, run: RunDirectory, component: Component, name: str, folder: Path, training: Training
) -> bool:
    """Whether the component of an earlier training could be made resident again, in its own bytes.

    Where it could not, a shared component is still what the training before left.
    """
    if run.path / training.folder != folder:
        return False  # the record of another training
    trial = next(free for number in count() if (free := f"stored-{number}") not in component.names)
    try:
        component.load(trial, folder)
    except ComponentError as error:
        lab.progress.say(f"{error} It is trained again.")
        return False
    found = fingerprint_component(component, trial)
    component.detach(trial)
    if found != training.component_fingerprint:
        lab.progress.say(
            f"{folder}: the component's fingerprint is {found}, but {training.component_fingerprint} was "
            "trained. It is trained again."
        )
        return False
    if name in component.names:
        component.detach(name)
    component.load(name, folder)
    return True


def carry_out(
    lab: Lab,
    run: RunDirectory,
    method: Method,
    component: Component,
    task: Task,
    seed: int,
    folder: Path,
    checkpoints: Checkpoints,
) -> Training:
    """The training itself; the component lies in its folder afterwards."""
    name = name_component(method, task)
    if name not in component.names:
        component.attach(name, seed=seed)
    component.deactivate()
    before = fingerprint_model(lab.base.model)
    learning_rate = choose_learning_rate(method, lab.settings)
    started = time.perf_counter()
    log = fit(
        component,
        name,
        lab.encoded[task.name],
        lab.settings.training,
        learning_rate=learning_rate,
        seed=seed,
        pad_id=lab.base.tokenizer.pad_token_id,
        device=lab.base.device,
        store=lab.store,
        checkpoints=checkpoints,
        progress=lab.progress,
        label=f"{label_walk(lab, method, seed)}: train {task.name}",
    )
    lab.journal.add("training", log.seconds)
    lab.journal.recalled_seconds += max(0.0, log.seconds - (time.perf_counter() - started))
    component.deactivate()
    after = fingerprint_model(lab.base.model)
    if not before == after == lab.base.fingerprint:
        checkpoints.remove()  # resumed from its end, the training would look as if nothing had happened
        raise IsolationError(
            f"The frozen base changed: its fingerprint was {lab.base.fingerprint} as loaded, {before} before "
            f"{method.name!r} was trained on {task.name!r}, and {after} afterwards. The run's numbers cannot "
            "be trusted."
        )
    component.write(name, folder, describe_component(lab, method, task, seed))
    training = describe_fit(lab, run, method, component, task, seed, learning_rate, log, (before, after))
    run.append_event("trained", method=method.name, **asdict(training))
    return training


def describe_fit(
    lab: Lab,
    run: RunDirectory,
    method: Method,
    component: Component,
    task: Task,
    seed: int,
    learning_rate: float,
    log: FitLog,
    fingerprints: tuple[str, str],
) -> Training:
    """The record of a training whose component is stored."""
    name = name_component(method, task)
    parameters = sum(p.numel() for p in component.parameters(name).values())
    replaces = method.component == "weights"
    base_parameters = count_parameters(lab.base.model)
    folder = run.task_folder(method.name, seed, task.name)
    return Training(
        task=task.name,
        folder=folder.relative_to(run.path).as_posix(),
        seed=seed,
        learning_rate=learning_rate,
        steps=log.steps,
        examples=log.examples,
        tokens=log.tokens,
        padding=log.padding,
        seconds=log.seconds,
        final_loss=log.final_loss,
        losses=log.losses,
        parameters=parameters,
        total_parameters=parameters if replaces else base_parameters + parameters,
        component_bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        component_fingerprint=fingerprint_component(component, name),
        peak_memory_mib=log.peak_memory_mib,
        memory_counter=log.memory_counter,
        base_fingerprint_before=fingerprints[0],
        base_fingerprint_after=fingerprints[1],
        base_dropout=lab.settings.training.base_dropout,
        precision=log.precision,
        passes=log.passes,
        batch_tokens=log.batch_tokens,
        states=None if log.states is None else asdict(log.states),
    )


def describe_component(lab: Lab, method: Method, task: Task, seed: int) -> dict[str, Any]:
    """What ``component.json`` says beside fingerprint and kind, before there are scores."""
    assert method.component is not None
    return {
        "task": task.name,
        "language": task.language,
        "prompt_template": task.prompt_template,
        "method": method.name,
        "seed": seed,
        "data_fingerprint": fingerprint_task(task),
        "settings_fingerprint": fingerprint(lab.settings),
        "settings": to_tree(lab.settings)[method.component],
        "max_prompt_tokens": lab.settings.training.max_prompt_tokens,
    }


def write_row(
    lab: Lab,
    run: RunDirectory,
    method: Method,
    component: Component,
    task: Task,
    training: Training,
    cells: Sequence[Cell],
) -> None:
    """Store predictions and scores of the row that follows a training, and the scores with the component.

    The first seed's components of the founding methods are stored under the founding names too.
    """
    assert method.component is not None
    name = name_component(method, task)
    about = describe_component(lab, method, task, training.seed)
    about["scores"] = [
        {"split": cell.split, **{found.metric: found.value for found in cell.scores}}
        for cell in cells
        if cell.task == task.name
    ]
    component.write(name, run.task_folder(method.name, training.seed, task.name), about)
    founding = run.founding_folder(method.component, task.name)
    if founding is not None and training.seed == lab.settings.seeds[0] and method.schedule == "isolated":
        component.write(name, founding, about)
    for decoded in group_by_folder(cells):
        write_cells(run.path, decoded)
