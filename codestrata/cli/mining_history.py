"""``codestrata mine --by-year``: a repository's history as a folder of tasks, one file per year.

What this does not do: read the history (``data.mining.history`` does).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from codestrata.cli.display import LiveProgress, console, render
from codestrata.errors import SettingsError
from codestrata.report.tables import Table

if TYPE_CHECKING:
    from codestrata.data.mining.history import HistoryReport
    from codestrata.data.mining.options import MiningOptions


def mine_years(
    paths: Sequence[Path],
    language: str,
    out: Path,
    options: "MiningOptions",
    least: int | None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Mine a repository's history and print what it gave. Raises: SettingsError: not one, or --jobs."""
    from codestrata.data.mining.history import LEAST, mine_history

    if len(paths) != 1:
        raise SettingsError(f"--by-year mines the history of one repository: {len(paths)} paths were given.")
    if options.jobs is not None:
        raise SettingsError(
            "--jobs does not go with --by-year: one process reads a history from its beginning."
        )
    with LiveProgress(console(), quiet=quiet) as progress:
        report = mine_history(
            paths[0], language, out, options, progress, least=LEAST if least is None else least
        )
    show_history(report, as_json=as_json)


def show_history(report: "HistoryReport", *, as_json: bool) -> None:
    """Print the years, and what was left out."""
    if as_json:
        typer.echo(json.dumps(report.to_plain()))
        return
    screen = Console()
    screen.print(render(build_years(report)))
    screen.print(render(build_overview(report)))
    counted = {
        ("Skipped files", "reason"): report.skipped_files,
        ("Left-out functions", "reason"): report.dropped_functions,
        ("Left-out years", "with too few functions"): report.left_out,
    }
    for (title, column), counts in counted.items():
        if counts:
            rows = tuple((name, f"{count:,}") for name, count in counts.items())
            screen.print(render(Table(title, (column, "count"), rows)))
    for note in report.notes:
        typer.echo(note, err=True)
    typer.echo(f"Tasks: {report.out}")


def build_years(report: "HistoryReport") -> Table:
    """A row for each file."""
    rows = tuple(
        (
            file.file,
            ", ".join(map(str, file.years)),
            f"{file.functions:,}",
            f"{file.added:,}",
            f"{file.changed:,}",
            f"{file.sha[:12]} of {file.commit_date}",
        )
        for file in report.years
    )
    return Table("Years", ("file", "years", "functions", "new", "changed", "as at commit"), rows)


def build_overview(report: "HistoryReport") -> Table:
    """The totals."""
    rows = (
        ("repository", report.repo),
        ("commits on the first-parent line", f"{report.commits:,}"),
        ("different file contents mined", f"{report.files:,} {report.language}"),
        ("of these with syntax errors", f"{report.errors:,}"),
        ("functions found in them", f"{report.functions:,}"),
        ("functions kept", f"{report.kept:,}"),
        ("code mined", f"{report.bytes / 1e6:,.1f} MB"),
        ("time", f"{report.seconds:,.1f} s"),
    )
    return Table("Mined", ("", "found"), rows)
