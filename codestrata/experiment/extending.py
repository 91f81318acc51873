"""A finished run with more tasks at its end, as a new run: nothing old is trained or answered again.

The run that is extended is never changed. The new one has its settings but for the tasks, takes over all that
it found (see ``inheritance``), and then walks as any run that goes on: it trains on the new tasks, decodes
them with what was there before, and shows once more that the old components are what they were.

What this does not do: make room in a component whose shape depends on the number of tasks.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codestrata.errors import DataError, SettingsError, describe_unknown, shorten
from codestrata.experiment.fairness import check_fair, check_solvable
from codestrata.experiment.finished import FinishedRun
from codestrata.experiment.inheritance import check_beginning, keep_source, list_memory
from codestrata.experiment.walk import carry_out, check_components
from codestrata.interrupts import Interrupts
from codestrata.lab import open_lab
from codestrata.methods import Method, resolve_methods
from codestrata.progress import Progress, Silence
from codestrata.results.rechecks import choose_recheck
from codestrata.settings.sections import CacheSettings
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings, to_tree
from codestrata.store import RunDirectory, check_run_name, create_run

FREE = ("tasks", "methods", "device", "checkpoints")
"""Settings that a run may have other than the one that it extends: what is taken over holds under all.

Some of ``cache`` may be others too: see ``free_cache``.
"""

SHARED = ("bytes", "tokens", "time")
"""What ``fair.match`` solves for all tasks of a run together."""


def extend_run(
    run: RunDirectory,
    settings: Settings,
    *,
    root: Path = Path("runs"),
    name: str | None = None,
    progress: Progress | None = None,
    interrupts: Interrupts | None = None,
    begun: Callable[[RunDirectory], None] | None = None,
) -> RunDirectory:
    """Carry out a run that begins with all that a finished one found, and give its directory.

    It ends as a run over all tasks from the start, but for times, on the machine of the first one.

    Args:
        run: the finished run; it stays as it is.
        settings: those of ``extend_settings``.
        root: where the new run is made.
        name: the new run's name; ``None`` takes that of the old one and of the new tasks.
        progress: is told what goes on; ``None`` tells nobody.
        interrupts: signals that wait for the end of a training step.
        begun: is told the directory once there is something to resume.

    Raises:
        RunError: the run is not finished, in use, damaged in its list of files, of another version, base or
            data; or the name is taken.
        DataError: a file of the run is missing or changed, with its path.
        SettingsError: settings that do not extend the run, or a method that cannot be extended, and why.
        Others: as ``run_experiment``.
    """
    progress = progress or Silence()
    finished = open_whole(run, progress)
    old = run.read_settings()
    check_extendable(old, settings.methods)
    check_extension(old, settings)
    methods = resolve_methods(settings.methods)
    check_methods(finished, old, methods)
    check_fair(settings, methods)
    name = name or name_extension(run, old, settings)
    check_run_name(root, name, settings.preset)
    lab = open_lab(settings, progress, interrupts=interrupts, kept=run.data_folder)
    check_components(lab, methods)
    check_solvable(lab, methods)
    check_beginning(finished, lab)
    new = create_run(root, name, settings.preset)
    with new.hold():
        lab.journal.follow(new.journal_folder, progress.say)
        keep_source(lab.journal, finished)  # before the settings: with these the run can be resumed
        new.write_settings(settings)
        if begun is not None:
            begun(new)
        return carry_out(lab, new, methods)


def open_whole(run: RunDirectory, progress: Progress) -> FinishedRun:
    """The finished run with every file as it was sealed.

    Raises:
        RunError: it is not finished or in use, or its list of files is damaged.
        DataError: a file is missing or changed; what was added does no harm.
    """
    progress.start(f"files of {run.name}", 1)
    faults = [fault for fault in run.check_files() if fault.kind != "extra"]
    if faults:
        raise DataError(
            f"is {faults[0].kind} since run {run.name!r} was finished ({len(faults)} files are not as they "
            "were): nothing is built on it. 'codestrata verify' names them all.",
            path=run.path / faults[0].path,
        )
    return FinishedRun(run)


def extend_settings(
    old: Settings, tasks: Sequence[TaskSettings], methods: Sequence[str] | None = None
) -> Settings:
    """The settings of a run with more tasks at its end, and with some of its methods only.

    The way older tasks are decoded again stays what it was, though it may depend on the number of tasks.

    Raises: SettingsError: no task, one whose name is taken, a method that the run has not, or a run that
        cannot be extended.
    """
    known = [task.name for task in old.tasks]
    for task in tasks:
        if task.name.casefold() in [name.casefold() for name in known]:
            raise SettingsError(
                f"Task {task.name!r} is in the run already, which has {', '.join(known)}: give the new task "
                "another name."
            )
    for method in methods or ():
        if method not in old.methods:
            raise SettingsError(describe_unknown("method of the run", method, old.methods))
    chosen = old.methods if methods is None else tuple(name for name in old.methods if name in methods)
    check_extendable(old, chosen)  # before settings of more tasks are built: they would be refused for less
    measurement = old.measurement
    new = replace(old, tasks=(*old.tasks, *tasks), methods=chosen)
    if choose_recheck(new) != choose_recheck(old):
        new = replace(new, measurement=replace(measurement, recheck=choose_recheck(old)))
    return new


def check_extendable(old: Settings, methods: Sequence[str]) -> None:
    """Refuse to extend a run of these settings, of its methods with those named.

    Raises: SettingsError: it has several orders, what was solved holds for its own tasks only, or the method
        to which the others were matched is left out.
    """
    if old.orders != "given":
        orders = old.orders if isinstance(old.orders, str) else f"a list of {len(old.orders)}"
        raise SettingsError(
            f"orders is {orders} in the run: where tasks come in other orders than the given one, the new "
            "task would come before old ones, which would have to be trained again. Begin a new run."
        )
    fair = old.fair
    if fair.match in SHARED:
        raise SettingsError(
            f"fair.match is {fair.match} in the run: it was solved for its {len(old.tasks)} tasks together, "
            "and would come out otherwise for more. Begin a new run."
        )
    if fair.reference is not None and fair.reference not in methods:
        raise SettingsError(
            f"fair.reference is {shorten(fair.reference)} in the run, to which the others were matched, and "
            f"is left out: extend it too (--methods {','.join((fair.reference, *methods))})."
        )


def free_cache(old: CacheSettings, new: CacheSettings) -> CacheSettings:
    """The old run's ``cache`` with what the new one may have otherwise: trainings stay the same under it.

    They would not with states in another number format, or kept where they were not.
    """
    sized = old.states_mib is not None and new.states_mib is not None
    size = new.states_mib if sized else old.states_mib
    return replace(old, folder=new.folder, tokens=new.tokens, states_mib=size)


def check_extension(old: Settings, new: Settings) -> None:
    """Refuse settings under which what the old run found does not hold. Raises SettingsError: naming one."""
    if new.tasks[: len(old.tasks)] != old.tasks or len(new.tasks) == len(old.tasks):
        raise SettingsError(
            "tasks: a run is extended by tasks at its end, and its own stay as they are: "
            f"{', '.join(task.name for task in old.tasks)}."
        )
    if [name for name in old.methods if name in new.methods] != list(new.methods):
        raise SettingsError(
            f"methods is {', '.join(new.methods)}: a run is extended with its own methods, or some of them: "
            f"{', '.join(old.methods)}."
        )
    if choose_recheck(new) == choose_recheck(old):  # whether that was asked for or not
        old = replace(old, measurement=replace(old.measurement, recheck=new.measurement.recheck))
    old = replace(old, cache=free_cache(old.cache, new.cache))
    then, now = ({key: tree[key] for key in tree if key not in FREE} for tree in map(to_tree, (old, new)))
    difference = find_difference(then, now)
    if difference is not None:
        key, was, found = difference
        raise SettingsError(
            f"{key} was {shorten(was)} in the run, and is {shorten(found)}: what it found holds for its own "
            f"settings. Only those of new tasks, {', '.join(FREE[2:])}, and folder, tokens and size of the "
            "cache, may be others."
        )


def find_difference(then: Any, now: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first value that differs between two trees of the same keys: its key, and what it was and is."""
    if not isinstance(then, dict) or not isinstance(now, dict):
        return None if then == now else (key, then, now)
    pairs = (find_difference(then[part], now[part], f"{key}.{part}".strip(".")) for part in then)
    return next((found for found in pairs if found is not None), None)


def check_methods(finished: FinishedRun, settings: Settings, methods: Sequence[Method]) -> None:
    """Refuse what cannot be extended.

    Raises:
        SettingsError: a method whose component depends on the number of tasks.
        DataError: the run kept nothing of what a method remembers.
    """
    for method in methods:
        if method.retention == "orthogonal":
            others = ",".join(entry.name for entry in methods if entry != method)
            remedy = f"Leave it out (--methods {others}), or begin" if others else "Begin"
            raise SettingsError(
                f"Method {method.name!r} has one component with a block of ranks for every task of the run, "
                f"which are {len(settings.tasks)}: there is no room for another. {remedy} a new run."
            )
        for seed in settings.seeds if method.retention is not None else ():
            list_memory(finished, method, seed)


def name_extension(run: RunDirectory, old: Settings, new: Settings) -> str:
    """What the new run is called where nobody says: the old name and the new tasks'."""
    return "-".join([run.name, *(task.name for task in new.tasks[len(old.tasks) :])])
