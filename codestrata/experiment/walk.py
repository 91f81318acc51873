"""Walk the task sequence with every method and seed, fill R, and leave a run directory that explains itself.

The base is decoded once (row 0). A method then meets the tasks in order: train, prove the base unchanged,
decode every task whose answers nothing proves, go on.

What this does not do: resume a broken run, or know how a component or a metric works.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from codestrata.contracts import Component
from codestrata.data.tasks import fingerprint_task
from codestrata.environment import describe_environment
from codestrata.errors import IsolationError
from codestrata.experiment.archive import Archive
from codestrata.experiment.canaries import recheck_canaries
from codestrata.experiment.cells import group_by_folder, take_over, write_cells
from codestrata.experiment.probes import measure_controls, measure_transfer, repeat_decoding
from codestrata.experiment.rows import evaluate_base, evaluate_row, label_walk, name_component
from codestrata.files import write_json
from codestrata.lab import Lab, open_lab
from codestrata.languages.isolation import choose_isolation
from codestrata.methods import Method, build_component, choose_learning_rate, resolve_methods
from codestrata.metrics.catalogue import list_metrics
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import count_parameters
from codestrata.progress import Progress, Silence
from codestrata.records import Cell, Task, Training
from codestrata.report.markdown import render_analysis
from codestrata.results.measured import Measured, MethodWalks, Repeat, Walk
from codestrata.results.rechecks import choose_recheck
from codestrata.results.tree import describe_run, describe_task, describe_training
from codestrata.settings import ExecutionSettings, Settings, fingerprint, to_tree
from codestrata.store import RunDirectory, check_run_name, create_run
from codestrata.training import FitLog, fit

SWAPS = 50


def run_experiment(
    settings: Settings,
    *,
    root: Path = Path("runs"),
    name: str | None = None,
    progress: Progress | None = None,
) -> RunDirectory:
    """Carry out a run and give its directory: results, analysis, components, predictions, ``done.json`` last.

    Args:
        settings: the whole run.
        root: where run directories lie.
        name: the run's name; ``None`` takes the next free ``<preset>-<n>``.
        progress: is told what goes on; ``None`` tells nobody.

    Raises:
        SettingsError: an unknown method or a combination that makes no sense; before anything is written.
        RunError: a run of that name exists.
        IsolationError: a training changed the frozen base.
        DataError, HubError, ModelError, TrainingError: as their floors say.
    """
    methods = resolve_methods(settings.methods)
    check_run_name(root, name, settings.preset)
    started = time.perf_counter()
    lab = open_lab(settings, progress or Silence())
    for method in methods:
        if method.component is not None:
            build_component(method, lab.base, settings)  # settings that do not fit the base end the run here
    run = create_run(root, name, settings.preset)
    run.write_settings(settings)
    environment = describe_environment(lab.base.device) | {"allocator": lab.host.allocator}
    write_json(run.path / "environment.json", environment)
    run.append_event("started", run=run.name)
    results = describe_run(measure(lab, run, methods))
    results["environment"] = environment
    results["seconds"] = {**lab.seconds, "total": time.perf_counter() - started}
    run.finish(results, render_analysis(results))
    return run


def measure(lab: Lab, run: RunDirectory, methods: Sequence[Method]) -> Measured:
    """Everything that the run measures: the base's row, the controls, then every method with every seed."""
    base_cells = evaluate_base(lab)
    write_cells(run.path, base_cells)
    archive = Archive(lab)
    controls = measure_controls(lab, run)
    walks, repeats = [], list[Repeat]()
    for method in methods:
        found = []
        for seed in lab.settings.seeds:
            walk, repeated = run_method(lab, run, archive, method, seed, base_cells)
            found.append(walk)
            repeats += repeated
        walks.append(MethodWalks(method=asdict(method), walks=tuple(found)))
    others = choose_repeats(lab, base_cells, repeats)
    repeats += repeat_decoding(lab, run, others, method="base", seed=None, label="base")
    return Measured(
        run=run.name,
        settings=lab.settings,
        base={
            "name": lab.base.name,
            "fingerprint": lab.base.fingerprint,
            "parameters": count_parameters(lab.base.model),
        },
        base_cells=tuple(base_cells),
        tasks=tuple(describe_loaded_task(lab, task) for task in lab.tasks),
        metrics=list_metrics(lab.settings.measurement),
        execution=describe_execution([task.language for task in lab.tasks], lab.settings.execution),
        controls=controls,
        methods=tuple(walks),
        repeats=tuple(repeats),
    )


def describe_execution(languages: Sequence[str], settings: ExecutionSettings) -> dict[str, Any]:
    """Language -> what confines its programs, and why nothing better does."""
    return {
        language: asdict(choose_isolation(language, settings.isolation, settings.allow_unconfined))
        for language in dict.fromkeys(languages)
    }


def describe_loaded_task(lab: Lab, task: Task) -> dict[str, Any]:
    """The task with its fingerprint and what was cut from its training examples."""
    encoded = lab.encoded[task.name]
    truncated = {"train_prompts": encoded.truncated_prompts, "train_targets": encoded.truncated_targets}
    truncated["test_prompts"] = lab.cut_prompts[task.name]
    return describe_task(task, fingerprint_task(task), truncated)


def choose_repeats(lab: Lab, base_cells: Sequence[Cell], repeats: Sequence[Repeat]) -> list[Cell]:
    """The base's cells to decode twice: of tasks on which nothing was; with rechecks off, of the last."""
    repeated = {repeat.first.task for repeat in repeats}
    wanted = lab.tasks[-1:] if choose_recheck(lab.settings) == "off" else lab.tasks
    names = {task.name for task in wanted} - repeated
    return [cell for cell in base_cells if cell.task in names]


def run_method(
    lab: Lab, run: RunDirectory, archive: Archive, method: Method, seed: int, base_cells: Sequence[Cell]
) -> tuple[Walk, tuple[Repeat, ...]]:
    """One method with one seed through the whole sequence, and what was decoded twice for the noise floor."""
    if method.component is None:
        taken = [
            take_over(cell, row, task.name, "structural")
            for row, task in enumerate(lab.tasks, 1)
            for cell in base_cells
        ]
        return Walk(seed=seed, trainings=(), cells=(*base_cells, *taken), transfer=None, swap=None), ()
    isolated = method.schedule == "isolated"
    cells, trainings = list(base_cells), list[Training]()
    component = build_component(method, lab.base, lab.settings)
    for task in lab.tasks:
        training = train_task(lab, run, method, component, task, seed)
        row_cells = evaluate_row(lab, archive, method, component, training, cells)
        trainings.append(write_row(lab, run, method, component, task, training, row_cells))
        cells += row_cells
    label = label_walk(lab, method, seed)
    transfer = None
    if isolated and lab.settings.measurement.transfer:
        transfer = measure_transfer(lab, run, component, method=method.name, seed=seed, label=label)
    canaries = tuple[Repeat, ...]()
    if isolated and choose_recheck(lab.settings) == "canary":
        cells, canaries = recheck_canaries(lab, run, method, component, seed, cells, label)
    repeats = repeat_final_row(lab, run, method, component, seed, cells) or canaries
    swap = measure_swaps(component) if isolated and len(component.names) > 1 else None
    for resident in component.names:
        component.detach(resident)
    described = tuple(describe_training(training) for training in trainings)
    return Walk(seed=seed, trainings=described, cells=tuple(cells), transfer=transfer, swap=swap), repeats


def repeat_final_row(
    lab: Lab, run: RunDirectory, method: Method, component: Component, seed: int, cells: Sequence[Cell]
) -> tuple[Repeat, ...]:
    """The last row's test cells evaluated twice: where decoding samples, with other draws.

    Without sampling the rechecked cells are such pairs already, and nothing is decoded for it.
    """
    if lab.settings.decoding.temperature is None:
        return tuple(
            Repeat(method=method.name, seed=seed, first=first, second=second)
            for second in cells
            for first in cells
            if second.origin == "rechecked" and second.row == len(lab.tasks) and second.split == "test"
            if (first.task, first.split, first.trained_through) == (second.task, "test", second.task)
        )
    repeats: list[Repeat] = []
    label = label_walk(lab, method, seed)
    for task in lab.tasks:
        component.activate(name_component(method, task))
        last = [cell for cell in cells if cell.row == len(lab.tasks) and cell.task == task.name]
        repeats += repeat_decoding(lab, run, last, method=method.name, seed=seed, label=label)
    component.deactivate()
    return tuple(repeats)


def train_task(
    lab: Lab, run: RunDirectory, method: Method, component: Component, task: Task, seed: int
) -> Training:
    """Train the method's component on the task and prove that the base stayed as it was.

    Raises: IsolationError: the base's fingerprint changed.
    """
    name = name_component(method, task)
    if name not in component.names:
        component.attach(name, seed=seed)
    component.deactivate()
    before = fingerprint_model(lab.base.model)
    learning_rate = choose_learning_rate(method, lab.settings)
    label = label_walk(lab, method, seed)
    with lab.clock("training"):
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
            progress=lab.progress,
            label=f"{label}: train {task.name}",
        )
    component.deactivate()
    after = fingerprint_model(lab.base.model)
    if not before == after == lab.base.fingerprint:
        raise IsolationError(
            f"The frozen base changed: its fingerprint was {lab.base.fingerprint} as loaded, {before} before "
            f"{method.name!r} was trained on {task.name!r}, and {after} afterwards. The run's numbers cannot "
            "be trusted."
        )
    return describe_fit(lab, run, method, component, task, seed, learning_rate, log, (before, after))


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
    """The record of a training, its tensors counted; their bytes on disk are known once they are written."""
    parameters = sum(p.numel() for p in component.parameters(name_component(method, task)).values())
    replaces = method.component == "weights"
    base_parameters = count_parameters(lab.base.model)
    return Training(
        task=task.name,
        folder=run.task_folder(method.name, seed, task.name).relative_to(run.path).as_posix(),
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
        component_bytes=0,
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


def write_row(
    lab: Lab,
    run: RunDirectory,
    method: Method,
    component: Component,
    task: Task,
    training: Training,
    cells: Sequence[Cell],
) -> Training:
    """Store the component, its predictions and scores; the training's record with the bytes on disk.

    The first seed's components of the founding methods are stored under the founding names too.
    """
    assert method.component is not None
    folder = run.path / training.folder
    about = {
        "task": task.name,
        "language": task.language,
        "prompt_template": task.prompt_template,
        "method": method.name,
        "seed": training.seed,
        "data_fingerprint": fingerprint_task(task),
        "settings_fingerprint": fingerprint(lab.settings),
        "settings": to_tree(lab.settings)[method.component],
        "max_prompt_tokens": lab.settings.training.max_prompt_tokens,
        "scores": [
            {"split": cell.split, **{found.metric: found.value for found in cell.scores}}
            for cell in cells
            if cell.task == task.name
        ],
    }
    name = name_component(method, task)
    component.write(name, folder, about)
    founding = run.founding_folder(method.component, task.name)
    if founding is not None and training.seed == lab.settings.seeds[0] and method.schedule == "isolated":
        component.write(name, founding, about)
    for decoded in group_by_folder(cells):
        write_cells(run.path, decoded)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    written = replace(training, component_bytes=size)
    run.append_event("trained", method=method.name, **asdict(written))
    return written


def measure_swaps(component: Component) -> dict[str, Any]:
    """How long it takes to put another resident component in place: milliseconds over 50 swaps."""
    names = component.names
    milliseconds = []
    for count in range(SWAPS):
        name = names[count % len(names)]
        started = time.perf_counter()
        component.activate(name)
        milliseconds.append((time.perf_counter() - started) * 1000)
    component.deactivate()
    ordered = sorted(milliseconds)
    return {"n": SWAPS, "median_milliseconds": median(ordered), "largest_milliseconds": ordered[-1]}
