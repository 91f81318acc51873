"""``codestrata score``: a run's numbers once more, from its stored predictions.

What this does not do: load a model, or decode.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from codestrata.cli.comparing import JsonOption, RunsOption
from codestrata.cli.display import LiveProgress, console, render
from codestrata.report.tables import Table
from codestrata.store import open_run

if TYPE_CHECKING:
    from codestrata.experiment.rescoring import Rescored

DIFFERENT = 1
SHOWN = 20


def score(
    run: Annotated[str, typer.Argument(help="Name or path of a finished run.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if anything differs from what is stored.")
    ] = False,
    allow_unconfined: Annotated[
        bool,
        typer.Option("--allow-unconfined", help="Run its programs although nothing here would confine them."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Compute every number of a run again from its predictions, without a model."""
    from codestrata.experiment.rescoring import rescore_run, store_rescored

    directory = open_run(runs, run)
    with LiveProgress(console(), quiet=quiet) as progress:
        rescored = rescore_run(directory, progress, allow_unconfined=allow_unconfined)
    show_changes(rescored, as_json=as_json)
    if not check:
        store_rescored(directory, rescored)
    elif rescored.changes:
        raise typer.Exit(DIFFERENT)


def show_changes(rescored: "Rescored", *, as_json: bool) -> None:
    """Print how many entries were compared, and those that differ."""
    changes: list[dict[str, Any]] = [asdict(change) for change in rescored.changes]
    if as_json:
        typer.echo(json.dumps({"compared": rescored.compared, "changes": changes}))
        return
    if changes:
        header = tuple(changes[0])
        rows = tuple(
            tuple("-" if entry[key] is None else str(entry[key]) for key in header)
            for entry in changes[:SHOWN]
        )
        title = f"What differs from the stored results (the first {len(rows)} of {len(changes)})"
        Console().print(render(Table(title, header, rows)))
    typer.echo(
        f"{rescored.compared} entries of the results computed from predictions; {len(changes)} differ from "
        "the stored ones."
    )
