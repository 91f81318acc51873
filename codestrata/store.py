"""A run is a directory: where everything in it lies, how one is made, held, finished and found whole again.

    runs/<name>/
        settings.toml  environment.json  events.jsonl
        base/                                  predictions.jsonl, scores.jsonl of the base (row 0 of R)
        controls/<control>/                    the same of what answers without a model
        methods/<method>/seed-<n>/<task>/      the component after that task, predictions.jsonl, scores.jsonl
            transfer/                          that component on the other tasks
            merged/                            what was merged of the components of all tasks so far
            routing.jsonl  router.safetensors  who answered which prompt without a label; the router
            oracle/                            a routed method's answers with the label
            retention/                         of the last task: what protects this one and all before it
            fraction-<f>/                      what a component trained on a part of the data answers
        methods/<method>/order-<n>/seed-<n>/   the same of every order of the tasks after the first
        noise/<method>/seed-<n>/<task>/        the same weights decoded once more
        lora_<task>/  full_<task>/             the first seed's components of ``lora`` and ``layers``
        experimental_results.json  results_analysis.md
        checksums.json                         size and SHA-256 of all of these
        done.json                              written last: the run is complete

    and for a while
        lock                                   the process that works on the run
        journal/  checkpoints/                 what an unfinished run goes on from
        rewritten/                             files that will take the place of a finished run's own

What this does not do: decide what is written into the files.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EEXIST
from pathlib import Path
from typing import Any

import tomli_w

from codestrata.errors import RunError, SettingsError, StorageError, describe_unknown
from codestrata.files import (
    append_line,
    make_folder,
    move,
    read_json,
    remove,
    sweep,
    write_bytes,
    write_json,
    write_text,
)
from codestrata.locks import hold, is_locked
from codestrata.manifests import (
    CHECKSUMS_FILE,
    DONE_FILE,
    Content,
    FileFault,
    check_folder,
    check_seal,
    is_unsealed,
    list_entries,
    measure_file,
    measure_folder,
    read_contents,
    seal_folder,
)
from codestrata.settings.checks import check_name
from codestrata.settings.reading import OFF, read_toml
from codestrata.settings.tree import Settings, build_settings, to_tree

RESULTS_FILE = "experimental_results.json"
ANALYSIS_FILE = "results_analysis.md"
SETTINGS_FILE = "settings.toml"
EVENTS_FILE = "events.jsonl"
LOCK_FILE = "lock"
JOURNAL, CHECKPOINTS, REWRITTEN = "journal", "checkpoints", "rewritten"
APART = frozenset({CHECKSUMS_FILE, DONE_FILE, LOCK_FILE, JOURNAL, CHECKPOINTS, REWRITTEN})
"""What the checksums of a run are not about."""
DEFAULT_ROOT = Path("runs")
NEVER_BEGUN = (
    "never wrote its settings, so there is nothing to go on with: start it again under another --name."
)
FOUNDING_PREFIXES: Mapping[str, str] = {"lora": "lora_", "layers": "full_"}
"""The founding experiment's directory names of our components."""


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def is_done(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / DONE_FILE).is_file()

    @property
    def is_held(self) -> bool:
        """Whether some process works on the run now."""
        return is_locked(self.path / LOCK_FILE)

    @property
    def settings_file(self) -> Path:
        """Where the resolved settings lie."""
        return self.path / SETTINGS_FILE

    @property
    def data_folder(self) -> Path:
        """Where the examples of tasks lie whose source may change or go."""
        return self.path / "data"

    @property
    def journal_folder(self) -> Path:
        """Where the finished units of an unfinished run lie."""
        return self.path / JOURNAL

    def checkpoints_folder(self, method: str, seed: int, task: str, order: int = 0) -> Path:
        """Where the checkpoints of a method's training on ``task`` lie while the run is unfinished."""
        return self.path / CHECKPOINTS / name_walk(method, seed, order) / task

    def task_folder(self, method: str, seed: int, task: str, order: int = 0) -> Path:
        """Where a method's component after training on ``task`` lies."""
        return self.path / "methods" / name_walk(method, seed, order) / task

    def memory_folder(self, method: str, seed: int, task: str, order: int = 0) -> Path:
        """Where a finished run keeps what a retention remembers after its last task."""
        return self.task_folder(method, seed, task, order) / "retention"

    def founding_folder(self, component: str, task: str) -> Path | None:
        """Where the founding experiment kept such a component, if it had it."""
        prefix = FOUNDING_PREFIXES.get(component)
        return None if prefix is None else self.path / f"{prefix}{task}"

    def inside(self, path: Path) -> Path:
        """``path``, which must lie in the run: no ``..`` and no symbolic link may lead out of it.

        The run directory may itself be a link. Raises RunError: it leads out.
        """
        try:
            is_inside = path.resolve().is_relative_to(self.path.resolve())
        except (OSError, RuntimeError, ValueError):  # a circle of links; a name that no file can have
            is_inside = False
        if not is_inside:
            raise RunError(
                f"{path} leads out of run {self.name!r} in {self.path.parent}: it is not "
                "followed. Remove the link, or what names this path."
            )
        return path

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Have the run for oneself as long as the context lasts; a rewriting that was cut off is finished.

        Raises:
            RunError: another process has it, with the owner; or a symbolic link in it leads out of it.
            StorageError: its files cannot be written.
        """
        with hold(self.path / LOCK_FILE, f"Run {self.name!r}"):
            for path, kind in list_entries(self.path)[0].items():
                if kind == "a symbolic link":
                    self.inside(self.path / path)
            self._put_in_place()
            yield

    def write_settings(self, settings: Settings) -> None:
        """Store the resolved settings; ``codestrata run settings.toml`` repeats the run."""
        write_text(self.settings_file, tomli_w.dumps(replace_off(to_tree(settings))))

    def read_settings(self) -> Settings:
        """The run's settings.

        Raises:
            RunError: it never wrote them.
            SettingsError: they are damaged.
        """
        if not self.settings_file.is_file():
            raise RunError(f"Run {self.name!r} in {self.path.parent} {NEVER_BEGUN}")
        tree = read_toml(self.inside(self.settings_file))
        try:
            return build_settings(tree)
        except SettingsError as error:
            raise SettingsError(f"{self.settings_file}: {error}") from error

    def append_event(self, kind: str, **details: Any) -> None:
        """Add a line with a time stamp to ``events.jsonl``."""
        event = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **details}
        append_line(self.path / EVENTS_FILE, json.dumps(event, ensure_ascii=False))

    def read_results(self) -> dict[str, Any]:
        """The content of ``experimental_results.json``.

        Raises: RunError: the run has not come to its end.
        """
        self._check_done("has no results")
        results: dict[str, Any] = read_json(self.inside(self.path / RESULTS_FILE))
        return results

    def write_results(self, results: Mapping[str, Any], analysis: str) -> None:
        """Store results and analysis."""
        write_json(self.path / RESULTS_FILE, results)
        write_text(self.path / ANALYSIS_FILE, analysis)

    def finish(self, results: Mapping[str, Any], analysis: str) -> None:
        """Write results, analysis, ``checksums.json`` and last ``done.json``; then forget how to go on."""
        self.write_results(results, analysis)
        self.append_event("done")
        seal_folder(self.path, measure_folder(self.path, APART))
        self.clear()

    def clear(self) -> None:
        """Remove what only an unfinished run needs and what a crash left; the run is complete and held."""
        remove(self.journal_folder)
        remove(self.path / CHECKPOINTS)
        self.sweep()

    def sweep(self) -> None:
        """Remove the temporary files that a crash left; for a run that is held."""
        sweep(self.path)

    @contextmanager
    def rewriting(self) -> Iterator[Path]:
        """A folder whose files take the place of the complete run's own at the end, all of them or none.

        The checksums of all other files stay what they are, so that damage to them is still found. Only for a
        run that is held.

        Raises: RunError: the run is not complete, or its checksums are damaged; it stays as it was.
        """
        self._check_done("cannot be rewritten")
        kept = measure_folder(self.path, APART) if is_unsealed(self.path) else self._read_checksums()
        self._drop_rewritten()
        folder = self.path / REWRITTEN
        make_folder(folder)
        try:
            yield folder
            log = self.inside(self.path / EVENTS_FILE)
            if log.is_file() and kept.get(EVENTS_FILE) == measure_file(log):
                write_bytes(folder / EVENTS_FILE, log.read_bytes())
                RunDirectory(folder).append_event("rewritten")
            seal_folder(folder, kept | measure_folder(folder))
        except BaseException:
            self._drop_rewritten()
            raise
        self._put_in_place()

    def check_files(self) -> list[FileFault]:
        """The files that are not as the run left them, by path; nothing where all is well.

        Raises: RunError: the run has not come to its end.
        """
        self._check_done("has no checksums")
        return check_folder(self.path, APART)

    def _check_done(self, lack: str) -> None:
        if not self.is_done:
            raise RunError(
                f"Run {self.name!r} {lack}: it did not come to its end ({self.path}). Go on with it: "
                f"{write_resume_command(self)}"
            )

    def _read_checksums(self) -> dict[str, Content]:
        fault = check_seal(self.path)
        if fault is not None:
            raise RunError(
                f"{self.path / fault.path} is {fault.kind}: wanted {fault.wanted}, found {fault.found}. "
                "Damage to other files would no longer be seen, so nothing was written."
            )
        return read_contents(self.path)

    def _put_in_place(self) -> None:
        """Carry a sealed rewriting to its end, from wherever it was cut off; drop one that is not sealed."""
        folder = self.path / REWRITTEN
        if (folder / DONE_FILE).is_file():
            remove(self.path / DONE_FILE)  # until all is in place the run does not call itself complete
            for path in list_entries(folder)[0]:
                if path != DONE_FILE:
                    move(folder / path, self.inside(self.path / path))
            move(folder / DONE_FILE, self.path / DONE_FILE)
        remove(folder)

    def _drop_rewritten(self) -> None:
        remove(self.path / REWRITTEN / DONE_FILE)  # first: half of the rest must not look sealed
        remove(self.path / REWRITTEN)


def name_walk(method: str, seed: int, order: int = 0) -> str:
    """What the folders of one walk are called; the first order has none of its own.

    >>> name_walk("lora", 0), name_walk("lora", 0, order=2)
    ('lora/seed-0', 'lora/order-2/seed-0')
    """
    return f"{method}/seed-{seed}" if order == 0 else f"{method}/order-{order}/seed-{seed}"


def replace_off(value: Any) -> Any:
    """The tree with ``None``, which TOML cannot say, as the word that settings read as off."""
    if isinstance(value, dict):
        return {key: replace_off(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [replace_off(entry) for entry in value]
    return OFF if value is None else value


def create_run(root: Path, name: str | None, preset: str) -> RunDirectory:
    """A new, empty run directory under ``root``; without a name the next free ``<preset>-<n>``.

    Raises:
        RunError: a run of that name exists; nothing in it is touched.
        SettingsError: name or preset has characters that names may not have.
        StorageError: it cannot be made.
    """
    check_run_name(root, name, preset)
    if name is not None:
        return make_directory(root / name)
    number = 1 + max((number_run(path.name, preset) for path in list_directories(root)), default=0)
    while True:  # another process may take the number between looking and making
        try:
            return make_directory(root / f"{preset}-{number}")
        except RunError:
            number += 1


def check_run_name(root: Path, name: str | None, preset: str) -> None:
    """Refuse a name that cannot be had, before anything is loaded. Raises as ``create_run`` does."""
    check_name("preset", preset)
    if name is not None:
        check_name("The run's name", name)
        if os.path.lexists(root / name):
            raise RunError(describe_taken(RunDirectory(root / name)))


def make_directory(path: Path) -> RunDirectory:
    """The directory, made now.

    Raises:
        RunError: something is there already.
        StorageError: it cannot be made.
    """
    try:
        make_folder(path, fresh=True)
    except StorageError as error:
        if error.errno == EEXIST and error.path == path:
            raise RunError(describe_taken(RunDirectory(path))) from None
        raise
    return RunDirectory(path)


def describe_taken(run: RunDirectory) -> str:
    """That a run is there already, and what to do about it."""
    there = f"Run {run.name!r} exists in {run.path.parent}."
    if run.is_done:
        show = write_command("show", run)
        return f"{there} It is complete: look at it with '{show}', or choose another --name."
    if run.settings_file.is_file() and run.is_held:
        return f"{there} A process works on it: choose another --name."
    if run.settings_file.is_file():
        resume = write_resume_command(run)
        return f"{there} It did not come to its end: go on with '{resume}', or choose another --name."
    return f"{there} It never began: choose another --name, or remove {run.path} if nobody needs it."


def write_resume_command(run: RunDirectory) -> str:
    """The command that goes on with a run, as a shell takes it."""
    return write_command("resume", run)


def write_command(command: str, run: RunDirectory) -> str:
    """A command about a run, as a shell takes it."""
    root = run.path.parent
    words = ["codestrata", command, run.name, *([] if root == DEFAULT_ROOT else ["--runs", str(root)])]
    return shlex.join(words)


def number_run(name: str, preset: str) -> int:
    """N of a directory called ``<preset>-<n>``, else 0."""
    match = re.fullmatch(re.escape(preset) + r"-(\d+)", name)
    return int(match[1]) if match else 0


def list_directories(root: Path) -> Sequence[Path]:
    """The directories in ``root``, by name; none where ``root`` is missing.

    Raises: StorageError: ``root`` cannot be read.
    """
    try:
        return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    except OSError as error:
        raise StorageError(root, "read", error) from error


def list_runs(root: Path) -> list[RunDirectory]:
    """The runs in ``root``, by name: the directories that hold settings."""
    return [RunDirectory(path) for path in list_directories(root) if (path / SETTINGS_FILE).is_file()]


def open_run(root: Path, name: str) -> RunDirectory:
    """An existing run, by its name in ``root`` or by its path.

    Raises: RunError: there is none, with the names that are there; or it never began.
    """
    for path in (root / name, Path(name)):
        if (path / SETTINGS_FILE).is_file():
            return RunDirectory(path if path.name not in ("", "..") else path.resolve())
    if name in [path.name for path in list_directories(root)]:
        RunDirectory(root / name).read_settings()
    raise RunError(
        f"{describe_unknown('run', name, [run.name for run in list_runs(root)])} Looked in {root}."
    )
