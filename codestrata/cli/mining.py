"""``codestrata mine``: the documented functions of a source tree, in one file of records.

What this does not do: mine (``data.mining`` does), or make tasks of the functions (``data.tasks`` does).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from codestrata.cli.comparing import JsonOption
from codestrata.cli.display import LiveProgress, console, render
from codestrata.cli.mining_history import mine_years
from codestrata.errors import SettingsError
from codestrata.report.tables import Table
from codestrata.settings.checks import check_range

if TYPE_CHECKING:
    from codestrata.data.mining.miner import MiningReport

BYTES_PER_MIB = 2**20
MOST_FILE_MIB = 1024


def mine(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Folders of source code, or files of it.")
    ],
    language: Annotated[
        str,
        typer.Option("--language", "-l", help="python, javascript, typescript, java, go, php or ruby."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where the functions go: FILE.jsonl; with --by-year a folder.")
    ],
    jobs: Annotated[
        int | None, typer.Option(help="Processes; default: one per processor; not with --by-year.")
    ] = None,
    most_mib: Annotated[float, typer.Option("--max-file-mib", help="Skip files that are larger.")] = 1.0,
    licenses: Annotated[
        list[str] | None,
        typer.Option("--license", metavar="SPDX", help="Only code under this licence; repeatable."),
    ] = None,
    keep_secrets: Annotated[
        bool, typer.Option("--keep-secrets", help="Keep functions in which keys or passwords are found.")
    ] = False,
    keep_test_files: Annotated[
        bool, typer.Option("--keep-test-files", help="Keep files that are tests by their path.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older file.")] = False,
    by_year: Annotated[
        bool, typer.Option("--by-year", help="Mine a git repository's history: one file of tasks per year.")
    ] = False,
    least: Annotated[
        int | None, typer.Option(help="With --by-year: fewer functions join the next year; default 30.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Mine a source tree for functions with documentation, in CodeSearchNet's schema."""
    check_range("--max-file-mib", most_mib, above=0, high=MOST_FILE_MIB)
    from codestrata.data.mining import miner
    from codestrata.data.mining.options import MiningOptions

    options = MiningOptions(
        jobs=jobs,
        most_file_bytes=max(1, round(most_mib * BYTES_PER_MIB)),
        licenses=tuple(licenses or ()),
        keep_secrets=keep_secrets,
        keep_test_files=keep_test_files,
        overwrite=overwrite,
    )
    if by_year:
        mine_years(paths, language, out, options, least, quiet=quiet, as_json=as_json)
        return
    if least is not None:
        raise SettingsError("--least goes with --by-year: another mined file may be of any length.")
    with LiveProgress(console(), quiet=quiet) as progress:
        report = miner.mine(paths, language, out, options, progress)
    show_mined(report, as_json=as_json)


def show_mined(report: "MiningReport", *, as_json: bool) -> None:
    """Print what was mined and what was left out."""
    if as_json:
        typer.echo(json.dumps(report.to_plain()))
        return
    screen = Console()
    counted = {
        "Files that were skipped": report.skipped_files,
        "Folders that were skipped": report.skipped_folders,
        "Functions that were left out": report.dropped_functions,
        "What is not known of files": report.notes,
    }
    screen.print(render(build_overview(report)))
    for title, counts in counted.items():
        if counts:
            screen.print(render(build_counts(title, counts)))
    for entry in report.troubled_files:
        typer.echo(f"{entry['path']}: {entry['reason']}", err=True)
    typer.echo(f"Functions: {report.out}")


def build_overview(report: "MiningReport") -> Table:
    """The totals."""
    megabytes = report.bytes / 1e6
    others = ", ".join(f"{count:,} {name}" for name, count in report.other_files.items())
    memory = ", ".join(f"{name} {mib:,.0f} MiB" for name, mib in report.memory_mib.items() if mib is not None)
    rows = (
        ("files found", f"{report.files:,} {report.language}"),
        ("files mined", f"{report.mined_files:,}"),
        ("files with syntax errors, mined all the same", f"{report.errors:,}"),
        ("files skipped", f"{sum(report.skipped_files.values()):,}"),
        ("other files", others or "0"),
        ("encodings", ", ".join(f"{name} {count:,}" for name, count in report.encodings.items())),
        ("functions found", f"{report.functions:,}"),
        ("functions kept", f"{report.kept:,}"),
        ("functions left out", f"{sum(report.dropped_functions.values()):,}"),
        ("code mined", f"{megabytes:,.1f} MB"),
        ("time", f"{report.seconds:,.1f} s, {report.jobs} process(es)"),
        ("speed", f"{megabytes / max(report.seconds, 1e-6):,.2f} MB/s"),
        ("peak memory", memory or "not known here"),
    )
    return Table("Mined", ("", "found"), rows)


def build_counts(title: str, counts: Mapping[str, int]) -> Table:
    """Reasons and how often each held."""
    rows = tuple((name, f"{count:,}") for name, count in counts.items())
    return Table(title, ("reason", "count"), rows)
