"""``codestrata matrix``: what codestrata and other libraries report on one matrix of scores.

What this does not do: compute anything (``analysis.dialects`` does), or read the file (``data.matrices``).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console

from codestrata.cli.comparing import JsonOption
from codestrata.cli.display import render
from codestrata.report.tables import MISSING, Table
from codestrata.store import RESULTS_FILE

if TYPE_CHECKING:
    from codestrata.analysis.matrix import MatrixValue
    from codestrata.data.matrices import TaskMatrix

Reports = Mapping[str, Mapping[str, "MatrixValue"]]
"""Library -> its name of a number -> the number."""


def matrix(
    file: Annotated[
        Path, typer.Argument(help="R as JSON or CSV, or a run's directory or experimental_results.json.")
    ],
    percent: Annotated[bool, typer.Option("--percent", help="The numbers are in [0, 100].")] = False,
    method: Annotated[str | None, typer.Option(help="Of a run: the method.")] = None,
    metric: Annotated[str | None, typer.Option(help="Of a run: the metric; default its headline.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of a run: the seed; default the first.")] = None,
    split: Annotated[str | None, typer.Option(help="Of a run: the split; default test.")] = None,
    order: Annotated[int | None, typer.Option(help="Of a run: the order of its tasks, from 0.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what codestrata and other libraries report on a matrix of scores."""
    from codestrata.analysis.dialects import DIALECTS
    from codestrata.analysis.matrix import report_as
    from codestrata.data.matrices import MatrixChoice, read_matrix

    choice = MatrixChoice(method=method, metric=metric, seed=seed, split=split, order=order)
    found = read_matrix(file / RESULTS_FILE if file.is_dir() else file, choice, percent=percent)
    reports = {library: withhold(library, report_as(found.scores, library), found) for library in DIALECTS}
    if as_json:
        typer.echo(json.dumps(describe_reports(found, reports)))
        return
    out = Console()
    for table in (build_scores_table(found), build_side_by_side(found, reports), build_definitions(reports)):
        out.print(render(table))
    for line in list_gaps(reports):
        typer.echo(line)


def withhold(
    library: str, values: Mapping[str, "MatrixValue"], found: "TaskMatrix"
) -> Mapping[str, "MatrixValue"]:
    """A library's numbers without those that have no meaning on this run's matrix, by any name."""
    from codestrata.analysis.dialects import DIALECTS
    from codestrata.analysis.matrix import MatrixValue

    ours = {definition.name: definition.quantity for definition in DIALECTS["codestrata"].definitions}
    reasons = {ours[name]: reason for name, reason in found.withheld.items() if ours.get(name)}
    return {
        definition.name: MatrixValue(value=None, reason=reasons[definition.quantity])
        if definition.quantity in reasons
        else values[definition.name]
        for definition in DIALECTS[library].definitions
    }


def describe_reports(found: "TaskMatrix", reports: Reports) -> dict[str, Any]:
    """R and every library's numbers as JSON."""
    from codestrata.analysis.dialects import DIALECTS

    return {
        "origin": found.origin,
        "tasks": list(found.tasks),
        "R": [[None if entry != entry else float(entry) for entry in row] for row in found.scores],
        "structural": list(found.structural),
        "libraries": {
            library: {
                "title": DIALECTS[library].title,
                "source": DIALECTS[library].source,
                "values": {
                    definition.name: {
                        "value": values[definition.name].value,
                        "reason": values[definition.name].reason,
                        "quantity": definition.quantity,
                        "formula": definition.formula,
                    }
                    for definition in DIALECTS[library].definitions
                },
            }
            for library, values in reports.items()
        },
    }


def build_scores_table(found: "TaskMatrix") -> Table:
    """R itself."""
    labels = ["base", *(f"after {task}" for task in found.tasks)]
    rows = tuple(
        (label, *(write_number(None if entry != entry else float(entry)) for entry in row))
        for label, row in zip(labels, found.scores, strict=True)
    )
    title = "R: score on each task after each training"
    return Table(title if found.origin is None else f"{title} ({found.origin})", ("", *found.tasks), rows)


def build_side_by_side(found: "TaskMatrix", reports: Reports) -> Table:
    """One line per library: what readers will take for the same quantity."""
    from codestrata.analysis.dialects import DIALECTS, Quantity

    quantities: tuple[str, ...] = get_args(Quantity)
    rows = []
    for library, values in reports.items():
        names: dict[str | None, str] = {
            definition.quantity: definition.name for definition in DIALECTS[library].definitions
        }
        cells = []
        for quantity in quantities:
            name = names.get(quantity)
            mark = " (structural)" if library == "codestrata" and name in found.structural else ""
            cells.append(MISSING if name is None else write_number(values[name].value) + mark)
        rows.append((DIALECTS[library].title, *cells))
    return Table("Side by side", ("", *quantities), tuple(rows))


def build_definitions(reports: Reports) -> Table:
    """Every library's numbers with their names and formulas."""
    from codestrata.analysis.dialects import DIALECTS

    rows = tuple(
        (DIALECTS[library].title, found.name, write_number(values[found.name].value), found.formula)
        for library, values in reports.items()
        for found in DIALECTS[library].definitions
    )
    return Table("Definitions (sources: docs/matrix.md)", ("library", "its name", "value", "formula"), rows)


def list_gaps(reports: Reports) -> list[str]:
    """A line for every reason why numbers are missing, with the numbers."""
    from codestrata.analysis.dialects import DIALECTS

    names: dict[str, list[str]] = {}
    for library, values in reports.items():
        for name, value in values.items():
            if value.reason is not None:
                names.setdefault(value.reason, []).append(f"{DIALECTS[library].title} {name}")
    return [f"No {', '.join(of_reason)}: {reason}" for reason, of_reason in names.items()]


def write_number(value: float | None) -> str:
    """Four digits; 0 without a sign."""
    return MISSING if value is None else f"{round(value, 4) + 0.0:.4f}"
