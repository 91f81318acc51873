"""What a run began with, looked at again: its files, its settings, the base, the data.

What this does not do: look at what was trained (``trained`` does) or answered (``replay`` does).
"""

from collections.abc import Mapping
from typing import Any

from codestrata.data.tasks import fingerprint_task, load_task
from codestrata.errors import DataError, HubError, ModelError, RunError, SettingsError, StorageError
from codestrata.lab import recall_task
from codestrata.manifests import FileFault, list_entries
from codestrata.methods import resolve_methods
from codestrata.models.loading import Base, choose_device, load_base
from codestrata.progress import Progress
from codestrata.records import Task
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings, build_settings
from codestrata.store import APART, RunDirectory
from codestrata.verification.checks import Check
from codestrata.verification.claims import Case, Claims


def check_files(run: RunDirectory, progress: Progress) -> Check:
    """Every file of the run against ``checksums.json``. Raises RunError: the run is not finished."""
    total = len(list_entries(run.path, APART)[0])
    progress.start("files against checksums.json", total)
    faults = run.check_files()
    progress.advance(total)
    return Check(
        subject="files",
        about="every file against checksums.json, and that against done.json",
        count=total,
        differences=tuple(describe_fault(fault) for fault in faults),
    )


def describe_fault(fault: FileFault) -> str:
    """What is wrong with a file, in words."""
    parts = [f"wanted {fault.wanted}" if fault.wanted else "", f"found {fault.found}" if fault.found else ""]
    return f"{fault.path} is {fault.kind}: {', '.join(filter(None, parts))}"


def find_escape(run: RunDirectory) -> str | None:
    """Why nothing in the run may be opened: the first symbolic link that leads out of it."""
    for path, kind in list_entries(run.path)[0].items():
        if kind == "a symbolic link":
            try:
                run.inside(run.path / path)
            except RunError as error:
                return str(error)
    return None


def choose_settings(run: RunDirectory, claims: Claims) -> tuple[Settings, tuple[str, ...]]:
    """The run's settings, and what is wrong with ``settings.toml`` where those in the results must serve.

    Raises: SettingsError: neither can be used.
    """
    try:
        return run.read_settings(), ()
    except (RunError, SettingsError) as error:
        return build_settings(claims.settings), (f"settings.toml: {error}",)


def check_base(case: Case, progress: Progress) -> tuple[Check, Base | None]:
    """The base that the settings name, as it is now, against all that the run says of it; and the base.

    Where the run's device is not here, the base is loaded on the CPU: its bytes are the same there.
    """
    claimed = case.claims.base
    cases = [case, *case.list_later_orders()]
    trainings = [pair for ordered in cases for pair in ordered.trainings.items()]
    progress.start(f"base {case.settings.base.name}", 1)
    differences: list[str] = []
    unchecked: tuple[str, ...] = ()
    base = None
    try:
        base = load_base(case.settings.base, choose_present_device(case.settings))
    except (ModelError, SettingsError) as error:
        unchecked = (str(error),)
    else:
        if base.fingerprint != claimed.fingerprint:
            differences.append(
                f"base {base.name}: its fingerprint was {claimed.fingerprint} and is {base.fingerprint} now"
            )
    progress.advance(1)
    for owner, training in trainings:
        stages = (("before", training.base_fingerprint_before), ("after", training.base_fingerprint_after))
        differences += [
            f"{owner}: {stage} the training the base had the fingerprint {found}, as loaded "
            f"{claimed.fingerprint}"
            for stage, found in stages
            if found != claimed.fingerprint
        ]
    about = "the base as loaded now, and before and after every training, against the results"
    count = (base is not None) + 2 * len(trainings)
    check = Check(
        subject="base",
        about=about,
        count=count,
        differences=tuple(differences),
        unchecked=unchecked,
    )
    return check, base


def choose_present_device(settings: Settings) -> Any:
    """The device of the settings where it is here, else the CPU."""
    try:
        return choose_device(settings.device.name)
    except ModelError:
        return choose_device("cpu")


def check_data(case: Case, progress: Progress) -> tuple[Check, dict[str, Task]]:
    """Every task as its data are now, against the results; and those that are still the same, by name."""
    progress.start("data of the tasks", len(case.settings.tasks))
    differences, unchecked, same = [], [], dict[str, Task]()
    for number, section in enumerate(case.settings.tasks, start=1):
        try:
            task = load_again(section, case.run)
        except (DataError, HubError, SettingsError, StorageError) as error:
            unchecked.append(f"task {section.name}: {error}")
        else:
            claimed, found = case.data_fingerprints.get(task.name), fingerprint_task(task)
            if found == claimed:
                same[task.name] = task
            else:
                differences.append(
                    f"task {task.name}: its data had the fingerprint {claimed}, now it is {found}"
                )
        progress.advance(number, section.name)
    check = Check(
        subject="data",
        about="the examples of every task as loaded now, against the fingerprints in the results",
        count=len(case.settings.tasks) - len(unchecked),
        differences=tuple(differences),
        unchecked=tuple(unchecked),
    )
    return check, same


def load_again(section: TaskSettings, run: RunDirectory) -> Task:
    """A task's examples as they are now; of a mined task as they are in the run: nothing is mined again.

    Raises: as ``load_task``; DataError: the copy in the run is gone or damaged.
    """
    if not section.is_mined:
        return load_task(section)
    task = recall_task(section, run.data_folder)
    if task is None:
        raise DataError("the run's own copy of its mined examples is gone", path=run.data_folder)
    return task


def build_case(run: RunDirectory, claims: Claims) -> tuple[Case, tuple[str, ...]]:
    """The run with what it claims and was to do; and what is wrong with its ``settings.toml``.

    Raises: SettingsError: no settings can be had, or they name a method that is unknown here.
    """
    settings, faults = choose_settings(run, claims)
    return Case(run, claims, settings, tuple(resolve_methods(settings.methods))), faults


def list_environment_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What decides the last bits of a number and is not as it was when the run began, both values."""
    keys = ("device", "device_name", "cpu_capability", "threads")
    packages = ("torch", "transformers", "tokenizers")
    old, new = then.get("packages"), now["packages"]
    before = {key: then.get(key) for key in keys}
    before |= {name: old.get(name) if isinstance(old, Mapping) else None for name in packages}
    after = {key: now[key] for key in keys} | {name: new[name] for name in packages}
    return [f"{key} was {before[key]}, is {after[key]}" for key in before if before[key] != after[key]]
