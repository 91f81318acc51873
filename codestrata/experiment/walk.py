"""Walk the task sequence with every method and seed, fill R, and leave a run directory that explains itself.

The base is decoded once (row 0). A method then meets the tasks in order: train, prove the base unchanged,
decode every task whose answers nothing proves, go on.

A run that was broken off walks the same way again and takes what its journal knows from there.

What this does not do: know how a component or a metric works.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from codestrata.contracts import Component
from codestrata.data.tasks import fingerprint_task
from codestrata.environment import describe_environment
from codestrata.errors import RunError
from codestrata.experiment.archive import Archive
from codestrata.experiment.canaries import recheck_canaries
from codestrata.experiment.cells import take_over, write_cells
from codestrata.experiment.fairness import check_fair, check_solvable, give_own_settings, make_fair
from codestrata.experiment.inheritance import confirm, inherit
from codestrata.experiment.merged import MergedRows
from codestrata.experiment.orders import depends_on_order, list_labs, reorder_walk
from codestrata.experiment.portions import measure_portions
from codestrata.experiment.probes import measure_controls, measure_transfer, repeat_decoding
from codestrata.experiment.routing import RoutedRows
from codestrata.experiment.rows import evaluate_base, evaluate_row, label_walk, name_component
from codestrata.experiment.trainings import train_task, write_row
from codestrata.files import write_json
from codestrata.interrupts import Interrupts
from codestrata.journal import Journal
from codestrata.lab import Lab, keep_tasks, open_lab
from codestrata.languages.isolation import choose_isolation
from codestrata.methods import Method, build_component, resolve_methods
from codestrata.metrics.catalogue import list_metrics
from codestrata.models.loading import count_parameters
from codestrata.progress import Progress, Silence
from codestrata.records import Cell, Task, Training
from codestrata.report.markdown import render_analysis
from codestrata.results.measured import Measured, MethodWalks, Repeat, Walk
from codestrata.results.rechecks import choose_recheck
from codestrata.results.tree import describe_run, describe_task, describe_training
from codestrata.settings.sections import ExecutionSettings
from codestrata.settings.tree import Settings, fingerprint
from codestrata.store import RunDirectory, check_run_name, create_run, name_walk

SWAPS = 50


def run_experiment(
    settings: Settings,
    *,
    root: Path = Path("runs"),
    name: str | None = None,
    progress: Progress | None = None,
    interrupts: Interrupts | None = None,
    begun: Callable[[RunDirectory], None] | None = None,
) -> RunDirectory:
    """Carry out a run and give its directory: results, analysis, components, predictions, ``done.json`` last.

    Args:
        settings: the whole run.
        root: where run directories lie.
        name: the run's name; ``None`` takes the next free ``<preset>-<n>``.
        progress: is told what goes on; ``None`` tells nobody.
        interrupts: signals that wait for the end of a training step.
        begun: is told the directory once there is something to resume.

    Raises:
        SettingsError: an unknown method or a combination that makes no sense; before anything is written,
            but for what only training shows: that it takes too many steps for a time, or diverges with every
            learning rate that is tried.
        RunError: a run of that name exists.
        IsolationError: a training changed the frozen base.
        StorageError: the disk is full or fails; the run can be resumed.
        DataError, HubError, ModelError, TrainingError: as their floors say.
    """
    methods = resolve_methods(settings.methods)
    check_fair(settings, methods)
    check_run_name(root, name, settings.preset)
    lab = open_lab(settings, progress or Silence(), interrupts=interrupts)
    check_components(lab, methods)  # settings that do not fit the base end the run before it is there
    check_solvable(lab, methods)
    run = create_run(root, name, settings.preset)
    with run.hold():
        run.write_settings(settings)
        if begun is not None:
            begun(run)
        return carry_out(lab, run, methods)


def resume_experiment(
    run: RunDirectory, *, progress: Progress | None = None, interrupts: Interrupts | None = None
) -> RunDirectory:
    """Go on with a run where it was broken off; it ends as if it never had been.

    A complete run stays as it is. On one machine with as many threads all is the same to the last bit, but
    for times and ``events.jsonl``.

    Raises:
        RunError: the run never wrote its settings, is under way elsewhere, or what it began with (settings,
            data, base, version of codestrata) is not what is there now.
        Others: as ``run_experiment``.
    """
    with run.hold():
        if run.is_done:
            run.clear()
            return run
        settings = run.read_settings()
        methods = resolve_methods(settings.methods)
        progress, journal = progress or Silence(), Journal()
        journal.follow(run.journal_folder, progress.say)
        check_settings(journal, run, settings)
        lab = open_lab(settings, progress, journal=journal, interrupts=interrupts, kept=run.data_folder)
        run.sweep()
        return carry_out(lab, run, methods)


def carry_out(lab: Lab, run: RunDirectory, methods: Sequence[Method]) -> RunDirectory:
    """The run from its beginning, but for what its journal knows; with results and analysis at the end."""
    started = time.perf_counter() - lab.journal.seconds["loading"]
    lab.journal.follow(run.journal_folder, lab.progress.say)
    check_settings(lab.journal, run, lab.settings)
    check_inputs(lab, run)
    keep_tasks(lab, run.data_folder)
    environment = describe_environment(lab.base.device) | {"allocator": lab.host.allocator}
    taken = inherit(lab, run, methods, environment)
    sessions = note_session(lab, run, environment)
    lab = make_fair(lab, methods)
    measured = measure(lab, run, methods)
    results = describe_run(measured) | {"environment": sessions[0], "sessions": len(sessions)}
    results["extended_from"] = None if taken is None else confirm(run, taken)
    total = time.perf_counter() - started + lab.journal.recalled_seconds
    results["seconds"] = {**lab.journal.seconds, "total": total}
    run.finish(results, render_analysis(results))
    return run


def check_components(lab: Lab, methods: Sequence[Method]) -> None:
    """Build every method's component once. Raises SettingsError: its settings do not fit the base."""
    for method in methods:
        if method.component is not None:
            build_component(method, lab.base, lab.settings)


def check_settings(journal: Journal, run: RunDirectory, settings: Settings) -> None:
    """Refuse to go on with other settings than the run began with: they name all that is loaded.

    Raises: RunError: they differ, or the version does.
    """
    wanted = {
        "version of codestrata": version("codestrata"),
        "settings (settings.toml)": fingerprint(settings),
    }
    compare_with_beginning(journal, run, "settings", wanted)


def check_inputs(lab: Lab, run: RunDirectory) -> None:
    """Refuse to go on with another base or other data. Raises RunError: naming the first that differs."""
    inputs = {
        f"base model {lab.base.name}": lab.base.fingerprint,
        **{f"data of task {task.name}": fingerprint_task(task) for task in lab.tasks},
    }
    compare_with_beginning(lab.journal, run, "inputs", inputs)


def compare_with_beginning(journal: Journal, run: RunDirectory, unit: str, now: Mapping[str, str]) -> None:
    """Keep what a run begins with, and compare it when it goes on.

    Raises: RunError: naming the first that differs, with both values.
    """
    began: dict[str, str] = journal.recall(unit, dict[str, str], lambda: dict(now), vital=True)
    for subject in [*began, *now]:
        if began.get(subject) != now.get(subject):
            raise RunError(
                f"Run {run.name!r} cannot go on: its {subject} was {began.get(subject)} when it began and is "
                f"{now.get(subject)} now. Bring it back, or begin a new run."
            )


def note_session(lab: Lab, run: RunDirectory, environment: dict[str, Any]) -> list[dict[str, Any]]:
    """The environments of all sessions of this run, this one last; what changed is said."""
    earlier = len(list((run.journal_folder / "sessions").glob("*.json")))
    sessions: list[dict[str, Any]] = [
        lab.journal.recall(f"sessions/{number}", dict[str, Any], lambda: environment)
        for number in range(earlier + 1)
    ]
    # Written again every time: nobody else would notice what a crash or a bad disk did to them meanwhile.
    run.write_settings(lab.settings)
    write_json(run.path / "environment.json", sessions[0])
    if not earlier:
        run.append_event("started", run=run.name, base_weights=lab.base.weights_format)
        return sessions
    changed = sorted(key for key in environment if environment[key] != sessions[0].get(key))
    run.append_event("resumed", run=run.name, changed=changed)
    if changed:
        lab.progress.say(
            f"resumed in another environment ({', '.join(changed)}): last bits may differ from what an "
            "uninterrupted run had come to"
        )
    return sessions


def measure(lab: Lab, run: RunDirectory, methods: Sequence[Method]) -> Measured:
    """Everything that the run measures: the base's row, the controls, then every method with every seed."""
    base_cells = evaluate_base(lab)
    write_cells(run.path, base_cells)
    archive = Archive(lab)
    controls = measure_controls(lab, run)
    walks, repeats = list[MethodWalks](), list[Repeat]()
    # Methods that pick or merge components come last: they take over what others have trained.
    for method in sorted(methods, key=lambda entry: entry.selection != "oracle"):
        found, repeated = walk_orders(lab, run, archive, method, base_cells)
        repeats += repeated
        walks.append(MethodWalks(method=asdict(method), walks=tuple(found)))
    names = [method.name for method in methods]
    walks.sort(key=lambda entry: names.index(entry.name))
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
        fair=lab.fair,
        shared_examples=lab.shared_examples,
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


def walk_orders(
    lab: Lab, run: RunDirectory, archive: Archive, method: Method, base_cells: Sequence[Cell]
) -> tuple[list[Walk], list[Repeat]]:
    """One method with every seed in every order of the tasks, the first order first.

    What is trained on a task alone is trained in the first order only. The noise floor is that of the first
    order too: the same weights are no noisier in another.
    """
    first: dict[int, Walk] = {}
    walks, repeats = list[Walk](), list[Repeat]()
    for ordered in list_labs(lab):
        for seed in lab.settings.seeds:
            if seed in first and not depends_on_order(method):
                walks.append(reorder_walk(ordered, first[seed]))
                continue
            walk, repeated = run_method(ordered, run, archive, method, seed, base_cells)
            first.setdefault(seed, walk)
            walks.append(walk)
            repeats += repeated
    return walks, repeats


def run_method(
    lab: Lab, run: RunDirectory, archive: Archive, method: Method, seed: int, base_cells: Sequence[Cell]
) -> tuple[Walk, tuple[Repeat, ...]]:
    """One method with one seed through the whole sequence, and what was decoded twice for the noise floor.

    The tasks come in the order that they have in the lab.
    """
    if method.component is None:
        taken = [
            take_over(cell, row, task.name, "structural")
            for row, task in enumerate(lab.tasks, 1)
            for cell in base_cells
        ]
        return Walk(seed=seed, order=lab.order, trainings=(), cells=(*base_cells, *taken)), ()
    lab = give_own_settings(lab, method)
    isolated = method.is_isolated
    cells, trainings = list(base_cells), list[Training]()
    component = build_component(method, lab.base, lab.settings)
    unlabelled = build_unlabelled(lab, run, archive, method, component, base_cells)
    for task in lab.tasks:
        source = archive.find_training(lab, method, task, seed)
        training = train_task(lab, run, method, component, task, seed, source)
        archive.keep_training(lab, method, training)
        if unlabelled is None:
            row_cells = evaluate_row(lab, archive, method, component, training, cells)
        else:
            row_cells = unlabelled.evaluate(training)
        write_row(lab, run, method, component, task, training, row_cells)
        trainings.append(training)
        cells += row_cells
    label = label_walk(lab, method, seed)
    transfer = None
    if isolated and lab.settings.measurement.transfer:
        transfer = measure_transfer(lab, run, component, method=method.name, seed=seed, label=label)
    curve = measure_portions(lab, run, method, component, seed)
    canaries = tuple[Repeat, ...]()
    if isolated and choose_recheck(lab.settings) == "canary":
        cells, canaries = recheck_canaries(lab, run, method, component, seed, cells, label)
    repeats = tuple[Repeat, ...]()
    if lab.order == 0:
        repeats = repeat_final_row(lab, run, method, component, seed, cells) or canaries
    swap = None
    if method.has_component_per_task and method.selection != "merged" and len(component.names) > 1:
        unit = f"swaps/{name_walk(method.name, seed, lab.order)}"
        swap = lab.journal.recall(unit, dict[str, Any], partial(measure_swaps, component))
    for resident in component.names:
        component.detach(resident)
    described = tuple(describe_training(training) for training in trainings)
    walk = Walk(
        seed=seed,
        order=lab.order,
        trainings=described,
        cells=tuple(cells),
        transfer=transfer,
        swap=swap,
        curve=curve,
        routing=unlabelled.describe() if isinstance(unlabelled, RoutedRows) else None,
        merging=unlabelled.describe() if isinstance(unlabelled, MergedRows) else None,
    )
    return walk, repeats


def build_unlabelled(
    lab: Lab,
    run: RunDirectory,
    archive: Archive,
    method: Method,
    component: Component,
    base_cells: Sequence[Cell],
) -> RoutedRows | MergedRows | None:
    """What evaluates the rows of a method without a task label; ``None`` where the label picks."""
    if method.selection == "routed":
        return RoutedRows(lab, run, archive, method, component, base_cells)
    if method.selection == "merged":
        return MergedRows(lab, run, archive, method, component)
    return None


def repeat_final_row(
    lab: Lab, run: RunDirectory, method: Method, component: Component, seed: int, cells: Sequence[Cell]
) -> tuple[Repeat, ...]:
    """The last row's test cells evaluated twice: where decoding samples, with other draws.

    Without sampling the rechecked cells are such pairs already, and nothing is decoded for it.
    """
    if method.selection != "oracle":
        return ()  # the base's repeats say how noisy decoding is
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
