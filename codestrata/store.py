"""A run is a directory: where everything in it lies, and how a new one is made without touching an old one.

    runs/<name>/
        settings.toml  environment.json  events.jsonl
        base/                                  predictions.jsonl, scores.jsonl of the base (row 0 of R)
        controls/<control>/                    the same of what answers without a model
        methods/<method>/seed-<n>/<task>/      the component after that task, predictions.jsonl, scores.jsonl
            transfer/                          that component on the other tasks
        noise/<method>/seed-<n>/<task>/        the same weights decoded once more
        lora_<task>/  full_<task>/             the first seed's components of ``lora`` and ``layers``
        experimental_results.json  results_analysis.md
        done.json                              written last: the run is complete

What this does not do: decide what is written into the files.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from codestrata.errors import RunError, describe_unknown
from codestrata.files import read_json, write_json, write_text
from codestrata.settings import OFF, Settings, check_name, to_tree

RESULTS_FILE = "experimental_results.json"
ANALYSIS_FILE = "results_analysis.md"
DONE_FILE = "done.json"
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

    def task_folder(self, method: str, seed: int, task: str) -> Path:
        """Where a method's component after training on ``task`` lies."""
        return self.path / "methods" / method / f"seed-{seed}" / task

    def founding_folder(self, component: str, task: str) -> Path | None:
        """Where the founding experiment kept such a component, if it had it."""
        prefix = FOUNDING_PREFIXES.get(component)
        return None if prefix is None else self.path / f"{prefix}{task}"

    def write_settings(self, settings: Settings) -> None:
        """Store the resolved settings; ``codestrata run settings.toml`` repeats the run."""
        write_text(self.path / "settings.toml", tomli_w.dumps(replace_off(to_tree(settings))))

    def append_event(self, kind: str, **details: Any) -> None:
        """Add a line with a time stamp to ``events.jsonl``."""
        event = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **details}
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")

    def read_results(self) -> dict[str, Any]:
        """The content of ``experimental_results.json``.

        Raises: RunError: the run has not come to its end.
        """
        if not self.is_done:
            raise RunError(f"Run {self.name!r} has no results: it did not come to its end ({self.path}).")
        results: dict[str, Any] = read_json(self.path / RESULTS_FILE)
        return results

    def reopen(self) -> None:
        """Take back that the run is complete, before its results are replaced."""
        (self.path / DONE_FILE).unlink(missing_ok=True)

    def finish(self, results: Mapping[str, Any], analysis: str) -> None:
        """Write results and analysis, and last ``done.json``."""
        write_json(self.path / RESULTS_FILE, results)
        write_text(self.path / ANALYSIS_FILE, analysis)
        self.append_event("done")
        write_json(self.path / DONE_FILE, {"finished": datetime.now(UTC).isoformat(timespec="seconds")})


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
        if (root / name).exists():
            raise RunError(describe_taken(RunDirectory(root / name)))


def make_directory(path: Path) -> RunDirectory:
    """The directory, made now. Raises RunError: something is there already."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise RunError(describe_taken(RunDirectory(path))) from None
    except OSError as error:
        raise RunError(f"The run directory {path} cannot be made: {error.strerror}.") from error
    return RunDirectory(path)


def describe_taken(run: RunDirectory) -> str:
    """That a run is there already, and what to do about it."""
    there = f"Run {run.name!r} exists in {run.path.parent}."
    if run.is_done:
        return (
            f"{there} It is complete: look at it with 'codestrata show {run.name}', or choose another --name."
        )
    again = f"codestrata run {run.path / 'settings.toml'} --name ANOTHER"
    return f"{there} It did not come to its end: start it again with '{again}'."


def number_run(name: str, preset: str) -> int:
    """N of a directory called ``<preset>-<n>``, else 0."""
    match = re.fullmatch(re.escape(preset) + r"-(\d+)", name)
    return int(match[1]) if match else 0


def list_directories(root: Path) -> Sequence[Path]:
    """The directories in ``root``, by name; none where ``root`` is missing."""
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def list_runs(root: Path) -> list[RunDirectory]:
    """The runs in ``root``, by name: the directories that hold settings."""
    return [RunDirectory(path) for path in list_directories(root) if (path / "settings.toml").is_file()]


def open_run(root: Path, name: str) -> RunDirectory:
    """An existing run, by its name in ``root`` or by its path.

    Raises: RunError: there is none, with the names that are there.
    """
    for path in (root / name, Path(name)):
        if (path / "settings.toml").is_file():
            return RunDirectory(path)
    raise RunError(
        f"{describe_unknown('run', name, [run.name for run in list_runs(root)])} Looked in {root}."
    )
