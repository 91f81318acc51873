"""``codestrata list``, ``show`` and ``methods``: look at what is there.

What this does not do: change anything.
"""

import json
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from codestrata.cli.comparing import JsonOption, RunsOption, show_report
from codestrata.cli.display import render
from codestrata.errors import CodestrataError, RunError
from codestrata.report.efficiency import list_efficiency_tables
from codestrata.report.orders import list_order_tables
from codestrata.report.routing import list_routing_tables
from codestrata.report.tables import Table, list_matrix_tables, list_summary_tables
from codestrata.settings.tree import Settings
from codestrata.store import (
    EVENTS_FILE,
    LOCK_FILE,
    RESULTS_FILE,
    SETTINGS_FILE,
    RunDirectory,
    list_directories,
    open_run,
    write_resume_command,
)

DONE, RUNNING, INTERRUPTED, NEVER_BEGUN = "done", "running", "interrupted", "never begun"
WRITTEN_LATER = {"environment.json", EVENTS_FILE, RESULTS_FILE}
"""Files that a run writes after its settings."""


def list_all(runs: RunsOption = Path("runs"), as_json: JsonOption = False) -> None:
    """List the runs, and what became of them."""
    found = [describe_run(RunDirectory(path)) for path in list_directories(runs)]
    entries = [entry for entry in found if entry is not None]
    if as_json:
        typer.echo(json.dumps(entries))
        return
    if not entries:
        typer.echo(f"No runs in {runs}. Start one with: codestrata run")
        return
    rows = tuple(tuple(str(value) for value in entry.values()) for entry in entries)
    Console().print(render(Table("Runs", tuple(entries[0]), rows)))
    for entry in entries:
        if entry["state"] == INTERRUPTED:
            typer.echo(f"Go on with: {write_resume_command(RunDirectory(runs / entry['run']))}")


def describe_run(run: RunDirectory) -> dict[str, Any] | None:
    """One line about a run; ``None`` where the directory is not a run's."""
    about: dict[str, Any] = {"methods": "", "tasks": "", "seconds": ""}
    try:
        state = find_state(run)
        if state == DONE:
            about |= outline_results(run.read_results())
        elif state in (RUNNING, INTERRUPTED):
            about |= outline_settings(run.read_settings())
    except CodestrataError as error:
        state = f"damaged: {error}"
    except OSError as error:
        state = f"damaged: it cannot be looked into: {error.strerror}"
    except (KeyError, TypeError, ValueError, OverflowError):  # JSON, but not of the shape that we write
        state = f"damaged: {RESULTS_FILE} does not hold a run's results"
    return None if state is None else {"run": run.name, "state": state, **about}


def find_state(run: RunDirectory) -> str | None:
    """Whether a run is done, goes on now, can be resumed or never began; ``None`` where there is no run.

    Raises: RunError: what is there began as a run, but its settings are gone.
    """
    if run.is_done:
        return DONE
    if run.is_held:
        return RUNNING
    if run.settings_file.is_file():
        return INTERRUPTED
    names = {path.name for path in run.path.iterdir() if not path.name.startswith(".")}
    if names & WRITTEN_LATER:
        raise RunError(f"{SETTINGS_FILE} is missing")
    return None if names - {LOCK_FILE} else NEVER_BEGUN


def outline_results(results: dict[str, Any]) -> dict[str, Any]:
    """What the list says of a finished run."""
    return {
        "methods": " ".join(method["name"] for method in results["methods"]),
        "tasks": " ".join(task["name"] for task in results["tasks"]),
        "seconds": round(results["seconds"]["total"]),
    }


def outline_settings(settings: Settings) -> dict[str, Any]:
    """What the list says of a run that is not finished."""
    tasks = " ".join(task.name for task in settings.tasks)
    return {"methods": " ".join(settings.methods), "tasks": tasks}


def show(
    run: Annotated[str, typer.Argument(help="Name or path of a run.")],
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Show what a run found."""
    directory = open_run(runs, run)
    results = directory.read_results()
    if as_json:
        typer.echo(json.dumps(results))
        return
    out = Console()
    matrices = [table for method in results["methods"] for table in list_matrix_tables(results, method)]
    more = [build(results) for build in (list_order_tables, list_efficiency_tables, list_routing_tables)]
    for table in [*list_summary_tables(results), *chain(*more), *matrices]:
        out.print(render(table))
    show_report(directory)


def methods(as_json: JsonOption = False) -> None:
    """List the methods that a run can compare."""
    from dataclasses import asdict

    from codestrata.methods import METHODS

    if as_json:
        typer.echo(json.dumps([asdict(method) for method in METHODS.values()]))
        return
    rows = tuple(
        (
            entry.name,
            "\n".join(filter(None, (entry.component, entry.retention, entry.schedule, entry.selection))),
            "\n".join(
                (
                    entry.about,
                    f"paper: {entry.source or 'none'}",
                    f"verified: {entry.verified or 'not yet'}",
                )
            ),
        )
        for entry in METHODS.values()
    )
    header = ("name", "component, retention,\nschedule, selection", "what it is")
    Console().print(render(Table("Methods", header, rows)))
