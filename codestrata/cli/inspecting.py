"""``codestrata list``, ``show`` and ``methods``: look at what is there.

What this does not do: change anything.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from codestrata.cli.comparing import JsonOption, RunsOption
from codestrata.cli.display import render
from codestrata.report.tables import Table, build_matrix_table, list_summary_tables
from codestrata.store import RunDirectory, list_runs, open_run


def list_all(runs: RunsOption = Path("runs"), as_json: JsonOption = False) -> None:
    """List the runs."""
    entries = [describe_run(run) for run in list_runs(runs)]
    if as_json:
        typer.echo(json.dumps(entries))
        return
    if not entries:
        typer.echo(f"No runs in {runs}. Start one with: codestrata run")
        return
    rows = tuple(tuple(str(value) for value in entry.values()) for entry in entries)
    Console().print(render(Table("Runs", tuple(entries[0]), rows)))


def describe_run(run: RunDirectory) -> dict[str, Any]:
    """One line about a run."""
    if not run.is_done:
        return {"run": run.name, "state": "not finished", "methods": "", "tasks": "", "seconds": ""}
    results = run.read_results()
    return {
        "run": run.name,
        "state": "done",
        "methods": " ".join(method["name"] for method in results["methods"]),
        "tasks": " ".join(task["name"] for task in results["tasks"]),
        "seconds": round(results["seconds"]["total"]),
    }


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
    matrices = [build_matrix_table(results, method) for method in results["methods"]]
    for table in [*list_summary_tables(results), *matrices]:
        out.print(render(table))
    typer.echo(f"Report: {directory.path / 'results_analysis.md'}")


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
            entry.component or "",
            entry.retention or "",
            entry.schedule,
            entry.about,
            entry.source or "",
        )
        for entry in METHODS.values()
    )
    Console().print(
        render(Table("Methods", ("name", "component", "retention", "schedule", "about", "source"), rows))
    )
