"""One training of a component on a task: carried out, proved to have left the base alone, and stored.

A training that the journal knows is not done again: its component is loaded from where it was stored.

What this does not do: decode, or decide which tasks come when (``walk`` does).
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from codestrata.checkpoints import Checkpoints
from codestrata.contracts import Component, Retention
from codestrata.data.batches import EncodedExample, join_examples
from codestrata.data.tasks import fingerprint_task
from codestrata.errors import ComponentError, DataError, IsolationError
from codestrata.experiment.archive import fingerprint_component
from codestrata.experiment.cells import group_by_folder, write_cells
from codestrata.experiment.rows import label_walk, list_trained_on, name_component
from codestrata.lab import Lab
from codestrata.methods import Method, build_retention, choose_learning_rate
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import count_parameters
from codestrata.records import Cell, Task, Training
from codestrata.settings.sections import TrainingSettings
from codestrata.settings.tree import Settings, fingerprint, to_tree
from codestrata.store import RunDirectory, name_walk
from codestrata.training import FitLog, count_steps, fit


def train_task(
    lab: Lab,
    run: RunDirectory,
    method: Method,
    component: Component,
    task: Task,
    seed: int,
    source: Training | None = None,
) -> Training:
    """Train the method's component on the task, store it, and prove that the base stayed as it was.

    With a ``source``, a training of this run that would be this one, its component is taken over instead.

    Raises: IsolationError: the base's fingerprint changed, or that of the component to take over.
    """
    folder = run.task_folder(method.name, seed, task.name, lab.order)
    unit = name_training(method.name, seed, task.name, lab.order)
    checkpoints = Checkpoints(
        run.checkpoints_folder(method.name, seed, task.name, lab.order),
        seconds=lab.settings.checkpoints.seconds,
        interrupts=lab.interrupts,
        say=lab.progress.say,
    )
    name = name_component(method, task)
    work = partial(carry_out, lab, run, method, component, task, seed, folder, checkpoints)
    if source is not None:
        work = partial(take_over_training, lab, run, method, component, task, source, folder)
    training: Training = lab.journal.recall(
        unit,
        Training,
        work,
        serves=lambda training: (
            has_memory(lab, run, method, task, seed)
            and load_trained(lab, run, component, name, folder, training)
        ),
    )
    checkpoints.remove()
    if task == lab.tasks[-1]:
        keep_memory(lab, run, method, task, seed)
    return training


def name_training(method: str, seed: int, task: str, order: int = 0) -> str:
    """What the journal calls a training."""
    return f"trainings/{name_walk(method, seed, order)}/{task}"


def recall_earlier(lab: Lab, run: RunDirectory, method: Method, task: Task, seed: int) -> Retention | None:
    """The method's retention with what the training before ``task`` left; ``None`` where it has none.

    It comes from the disk in every run, so that one that goes on works with the same.
    """
    retention, position = build_retention(method, lab.settings, seed=seed), lab.tasks.index(task)
    if retention is not None and position:
        retention.load(name_memory_folder(run, method, lab.tasks[position - 1], seed, lab.order))
    return retention


def has_memory(lab: Lab, run: RunDirectory, method: Method, task: Task, seed: int) -> bool:
    """Whether what the method's retention kept after ``task``, if it has one, can be read again.

    Nobody will ask for it where the next training was taken over from another run.
    """
    following = lab.tasks[lab.tasks.index(task) + 1 :][:1]
    if any(
        lab.journal.is_given(name_training(method.name, seed, later.name, lab.order)) for later in following
    ):
        return True
    retention = build_retention(method, lab.settings, seed=seed)
    try:
        if retention is not None:
            retention.load(name_memory_folder(run, method, task, seed, lab.order))
    except DataError as error:
        lab.progress.say(f"{error} The task is trained again.")
        return False
    return True


def name_memory_folder(run: RunDirectory, method: Method, task: Task, seed: int, order: int = 0) -> Path:
    """Where an unfinished run keeps what a retention remembers after ``task``."""
    return run.journal_folder / "retention" / name_walk(method.name, seed, order) / task.name


def keep_memory(lab: Lab, run: RunDirectory, method: Method, task: Task, seed: int) -> None:
    """Store what the method's retention, if it has one, remembers of all tasks with the last component.

    The run could then be extended: see ``experiment.extending``.
    """
    retention = build_retention(method, lab.settings, seed=seed)
    if retention is not None:
        retention.load(name_memory_folder(run, method, task, seed, lab.order))
        retention.write(run.memory_folder(method.name, seed, task.name, lab.order))


def take_over_training(
    lab: Lab,
    run: RunDirectory,
    method: Method,
    component: Component,
    task: Task,
    source: Training,
    folder: Path,
) -> Training:
    """The component of an equal training of this run, resident and stored as the method's own too.

    Raises: IsolationError: it has other bytes than were trained.
    """
    name = name_component(method, task)
    if name in component.names:
        component.detach(name)
    component.load(name, run.path / source.folder)
    found = fingerprint_component(component, name)
    if found != source.component_fingerprint:
        raise IsolationError(
            f"{source.folder} holds a component with the fingerprint {found}, but "
            f"{source.component_fingerprint} was trained: it changed while the run went on."
        )
    component.write(name, folder, describe_component(lab, method, task, source.seed))
    own = folder.relative_to(run.path).as_posix()
    run.append_event("taken-over", method=method.name, task=task.name, folder=own, source=source.folder)
    return replace(source, folder=own, taken_over_from=source.taken_over_from or source.folder)


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
    prepare_component(lab, method, component, task, seed)
    component.deactivate()
    before = fingerprint_model(lab.base.model)
    learning_rate = choose_learning_rate(method, lab.settings)
    retention = recall_earlier(lab, run, method, task, seed)
    started = time.perf_counter()
    log = fit(
        component,
        name,
        gather_examples(lab, method, task),
        choose_training(lab, method, task),
        learning_rate=learning_rate,
        seed=seed,
        pad_id=lab.base.tokenizer.pad_token_id,
        device=lab.base.device,
        validation=gather_validation(lab, method, task),
        retention=retention,
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
    if retention is not None:
        retention.write(name_memory_folder(run, method, task, seed, lab.order))
    training = describe_fit(lab, run, method, component, task, seed, learning_rate, log, (before, after))
    run.append_event("trained", method=method.name, **asdict(training))
    return training


def prepare_component(lab: Lab, method: Method, component: Component, task: Task, seed: int) -> None:
    """Make what is to be trained on the task resident, as its schedule has it begin.

    A component that is resident already is trained on, unless the schedule makes it anew for every task.
    """
    name = name_component(method, task)
    if method.schedule == "joint" and name in component.names:
        component.detach(name)
    if name in component.names:
        return
    component.attach(name, seed=seed)
    position = lab.tasks.index(task)
    if method.schedule == "warm" and position:
        copy_tensors(component, name_component(method, lab.tasks[position - 1]), name)


@torch.no_grad()
def copy_tensors(component: Component, source: str, name: str) -> None:
    """Give a resident component the tensors of another; they share no memory."""
    tensors = component.parameters(source)
    for key, parameter in component.parameters(name).items():
        parameter.copy_(tensors[key])


def gather_examples(lab: Lab, method: Method, task: Task) -> Sequence[EncodedExample]:
    """The examples of one training: the task's, or all tasks' so far where they are trained at once."""
    tasks = list_trained_on(lab, method, task) if method.schedule == "joint" else (task,)
    return join_examples([lab.encoded[entry.name] for entry in tasks])


def gather_validation(lab: Lab, method: Method, task: Task) -> Sequence[EncodedExample]:
    """The examples that one training is validated on: of the tasks that it trains on, none of them test."""
    tasks = list_trained_on(lab, method, task) if method.schedule == "joint" else (task,)
    return join_examples([lab.validation[entry.name] for entry in tasks])


def choose_training(lab: Lab, method: Method, task: Task) -> TrainingSettings:
    """The settings of one training: the steps solved for it, else as many as its tasks have one by one."""
    settings = lab.settings.training
    if task.name in lab.steps:
        return replace(settings, steps=lab.steps[task.name], epochs=None)
    if method.schedule != "joint":
        return settings
    tasks = list_trained_on(lab, method, task)
    return replace(settings, steps=sum(count_task_steps(lab, entry) for entry in tasks), epochs=None)


def count_task_steps(lab: Lab, task: Task) -> int:
    """Optimizer steps of a training on one task alone."""
    return count_steps(len(lab.encoded[task.name]), lab.settings.training)


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
    replaces = method.component in ("weights", "own-layers")  # a copy stands in the base's place
    base_parameters = count_parameters(lab.base.model)
    folder = run.task_folder(method.name, seed, task.name, lab.order)
    return Training(
        task=task.name,
        folder=folder.relative_to(run.path).as_posix(),
        seed=seed,
        learning_rate=learning_rate,
        steps=log.steps,
        planned_steps=log.planned_steps,
        stopped=log.stopped,
        examples=log.examples,
        tokens=log.tokens,
        padding=log.padding,
        seconds=log.seconds,
        final_loss=log.final_loss,
        losses=log.losses,
        parameters=parameters,
        total_parameters=base_parameters if replaces else base_parameters + count_tensors(component, name),
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
        validation=None if log.validation is None else asdict(log.validation),
    )


def count_tensors(component: Component, name: str) -> int:
    """Numbers in all of a component's tensors, those included that its training leaves alone."""
    return sum(tensor.numel() for tensor in component.tensors(name).values())


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
        "trained_on": {entry.name: fingerprint_task(entry) for entry in list_trained_on(lab, method, task)},
        "settings_fingerprint": fingerprint(lab.run_settings or lab.settings),
        "settings": to_tree(lab.settings)[method.component.replace("-", "_")],
        "retention": describe_retention(method, lab.settings),
        "max_prompt_tokens": lab.settings.training.max_prompt_tokens,
    }


def describe_retention(method: Method, settings: Settings) -> dict[str, Any] | None:
    """What protected earlier tasks: its name and its settings; ``None`` where nothing did."""
    if method.retention is None:
        return None
    return {"kind": method.retention, **asdict(getattr(settings.retention, method.retention))}


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
    component.write(name, run.task_folder(method.name, training.seed, task.name, lab.order), about)
    founding = run.founding_folder(method.component, task.name)
    is_founding = method.schedule == "isolated" and method.is_isolated
    if founding is not None and training.seed == lab.settings.seeds[0] and is_founding:
        component.write(name, founding, about)
    for decoded in group_by_folder(cells):
        write_cells(run.path, decoded)
