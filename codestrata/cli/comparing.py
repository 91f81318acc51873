"""``codestrata run``: compare methods on a sequence of tasks.

What this does not do: anything that ``experiment.run_experiment`` does.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from codestrata.cli.display import LiveProgress, console, render
from codestrata.cli.offline import OfflineOption
from codestrata.errors import DivergenceError, IsolationError, MatrixError, RunError, SettingsError
from codestrata.interrupts import catch_signals
from codestrata.report.tables import Table, list_summary_tables
from codestrata.settings.reading import apply_assignment, merge, read_toml
from codestrata.settings.tasks import ColumnSettings
from codestrata.settings.tree import Settings, build_settings, to_tree
from codestrata.store import ANALYSIS_FILE, RunDirectory, replace_off, write_resume_command

if TYPE_CHECKING:
    from codestrata.planning import MethodPlan, Plan

DEFAULT_PRESET = "pocket"
LOADING = "loading libraries"
"""What is said before the imports that take seconds."""
MOST_NAMED = 10
"""So many files that are no tasks are named."""
SENSELESS = (SettingsError, RunError, DivergenceError, IsolationError, MatrixError)
"""Errors after which a run would only end in the same way again."""

RunsOption = Annotated[Path, typer.Option("--runs", help="Directory that holds the runs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def run(
    file: Annotated[
        Path | None, typer.Argument(help="Experiment file: what differs from the preset.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="pocket (default), mined, field, codetask, founding or founding-sound.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--tasks", metavar="FOLDER", help="A folder of tasks, in the order of their names, or one file."
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="With a folder of tasks: the language of records that name none.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; default <preset>-<n>.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Compare these methods, as lora,ewc; default those of the preset.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, cuda:<n>, mps or cpu.")] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Show settings, tasks, parameters and cost, then stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
    offline: OfflineOption = False,
) -> None:
    """Compare methods on a sequence of tasks: train, swap, measure, report."""
    changes = [*(assignments or []), *([] if methods is None else [f"methods={methods}"])]
    settings = resolve_settings(file, preset, changes, device, folder, language)
    if dry:
        show_plan(settings, quiet=quiet, as_json=as_json)
        return
    begun: list[RunDirectory] = []
    with (
        hint_at_resume(begun),
        catch_signals() as interrupts,
        LiveProgress(console(), quiet=quiet) as progress,
    ):
        progress.say(LOADING)
        with interrupts.postponed():  # a module whose import is cut off may stay half there
            from codestrata.experiment.walk import run_experiment
        finished = run_experiment(
            settings, root=runs, name=name, progress=progress, interrupts=interrupts, begun=begun.append
        )
    show_summary(finished, as_json=as_json)


@contextmanager
def hint_at_resume(begun: Sequence[RunDirectory]) -> Iterator[None]:
    """Add to whatever ends the block the command that goes on with the run in ``begun``, once there is one.

    Nothing is added where going on would only end in the same way.
    """
    try:
        yield
    except BaseException as error:
        if begun and not isinstance(error, SENSELESS):
            error.add_note(f"go on with: {write_resume_command(begun[-1])}")
        raise


def show_summary(run: RunDirectory, *, as_json: bool) -> None:
    """Print what a finished run found, and where its report lies."""
    results = run.read_results()
    if as_json:
        typer.echo(json.dumps(results))
        return
    for table in list_summary_tables(results):
        Console().print(render(table))
    show_report(run)


def show_report(run: RunDirectory) -> None:
    """Print where a finished run's report lies."""
    typer.echo(f"Report: {run.path / ANALYSIS_FILE}")


def resolve_settings(
    file: Path | None,
    preset: str | None,
    assignments: list[str],
    device: str | None,
    folder: Path | None = None,
    language: str | None = None,
) -> Settings:
    """Preset, then experiment file, then ``--tasks``, then ``--set``, then ``--device``."""
    from codestrata.presets import build_preset

    changes = {} if file is None else read_toml(file)
    chosen = preset or str(changes.get("preset", DEFAULT_PRESET))
    start = build_preset(chosen)
    tree: dict[str, Any] = merge(start, changes) | {"preset": chosen}
    place = tree["tasks"] if folder is None else folder
    if isinstance(place, str | Path):  # in an experiment file: tasks = "folder"
        tree["tasks"] = read_folder(Path(place), language, start["tasks"][0], read_columns(assignments))
    elif language is not None:
        raise SettingsError("--language goes with a folder of tasks: give one with --tasks FOLDER.")
    for assignment in assignments:
        apply_assignment(tree, assignment)
    if tree["preset"] != chosen:  # the name alone would change, and the values under it would be another's
        raise SettingsError(f"--set preset={tree['preset']}: choose a preset with --preset.")
    if device is not None:
        tree = merge(tree, {"device": {"name": device}})
    return build_settings(tree)


def read_columns(assignments: Sequence[str]) -> dict[str, ColumnSettings]:
    """What ``--set`` says that columns are called, by task; ``*`` is every other.

    Whether there is such a task is seen when the assignments are made.

    Raises: SettingsError: there is no such column, or two are called the same.
    """
    keys = [(text, text.partition("=")[0].strip().split(".")) for text in assignments]
    asked = [(text, key[1]) for text, key in keys if key[0] == "tasks" and key[2:3] == ["columns"]]
    tree = {"tasks": [{"name": name} for name in dict.fromkeys(["*", *(name for _, name in asked)])]}
    for text, _ in asked:
        apply_assignment(tree, text)
    return {
        task["name"]: build_settings({"tasks": [task | {"name": "any"}]}).tasks[0].columns
        for task in tree["tasks"]
        if "columns" in task
    }


def read_folder(
    folder: Path, language: str | None, first: dict[str, Any], columns: dict[str, ColumnSettings]
) -> list[dict[str, Any]]:
    """The sections of a folder's tasks; what was left out of it is said on stderr."""
    from codestrata.data.folders import list_folder_tasks

    found = list_folder_tasks(folder, language=language, first=first, columns=columns)
    for path, reason in found.ignored[:MOST_NAMED]:
        console().print(f"not a task: {path} ({reason})", markup=False, highlight=False, soft_wrap=True)
    if len(found.ignored) > MOST_NAMED:
        console().print(f"not tasks: {len(found.ignored) - MOST_NAMED} more", markup=False, highlight=False)
    return list(found.sections)


def show_plan(settings: Settings, *, quiet: bool, as_json: bool) -> None:
    """Print what the run would do: resolved settings, tasks, trained parameters, estimated time."""
    from dataclasses import asdict

    import tomli_w

    with LiveProgress(console(), quiet=quiet) as progress:
        progress.say(LOADING)
        from codestrata.planning import plan_run

        plan = plan_run(settings, progress)
    if as_json:
        estimate = {**asdict(plan), "total_seconds": plan.total_seconds}
        typer.echo(json.dumps({"settings": to_tree(settings), "plan": estimate}))
        return
    typer.echo(tomli_w.dumps(replace_off(to_tree(settings))))
    Console().print(render(build_plan_table(plan)))
    for line in plan.fair:
        typer.echo(line)
    for task, counts in plan.examples.items():
        typer.echo(f"Task {task}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    typer.echo(
        f"Decoding: {plan.decoded_prompts} prompts, about {plan.decoding_seconds:.0f} s. "
        f"Together about {plan.total_seconds / 60:.1f} minutes, loading and scoring not counted."
    )


def describe_parameters(method: "MethodPlan") -> str:
    """How many parameters a method trains: on the first task and, where it differs, on later ones."""
    if method.later_parameters in (0, method.parameters):
        return f"{method.parameters:,}"
    return f"{method.parameters:,}, then {method.later_parameters:,}"


def build_plan_table(plan: "Plan") -> Table:
    """The plan's methods as a table."""
    rows = tuple(
        (
            method.name,
            describe_parameters(method),
            str(method.trainings),
            ", ".join(map(str, method.steps_per_task)),
            str(method.decoded_cells),
            f"{method.training_seconds:.0f}",
        )
        for method in plan.methods
    )
    header = (
        "method",
        "trained parameters",
        "trainings",
        "steps per task",
        "decoded cells",
        "training s (estimate)",
    )
    return Table("Plan", header, rows)
