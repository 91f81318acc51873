"""``codestrata data``: the sources of tasks, whether a file can be one, and how well mining agrees with one.

What this does not do: check a file itself (``inspection`` does), or know a source (``data.catalogue`` does).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console

from codestrata.cli.comparing import JsonOption
from codestrata.cli.display import LiveProgress, console, render
from codestrata.cli.offline import OfflineOption
from codestrata.errors import SettingsError, describe_unknown, shorten
from codestrata.report.tables import Table
from codestrata.settings.sections import TrainingSettings
from codestrata.settings.tasks import NEAR_DUPLICATES, ColumnSettings, Objective

if TYPE_CHECKING:
    from codestrata.data.catalogue import DataSet

LIMITS = TrainingSettings(epochs=1.0)


def build_commands() -> typer.Typer:
    """The commands below ``codestrata data``."""
    commands = typer.Typer(
        help="Sources of tasks: list them, show one, check a file, mine its records again.",
        no_args_is_help=True,
    )
    commands.command("list")(list_sources)
    commands.command("show")(show_source)
    commands.command("check")(check)
    commands.command("agreement")(agreement)
    return commands


def list_sources(as_json: JsonOption = False) -> None:
    """List the sources that tasks can be made of."""
    from codestrata.data.catalogue import CATALOGUE

    if as_json:
        typer.echo(json.dumps([describe_source(row) for row in CATALOGUE]))
        return
    rows = tuple(
        (
            row.name,
            "any" if row.records is None else f"{row.records:,}",
            "\n".join(
                (
                    row.what,
                    f"languages: {', '.join(row.languages) or 'any'}",
                    f"licence: {row.license or row.license_note}",
                )
            ),
        )
        for row in CATALOGUE
    )
    show_words(Table("Sources of tasks", ("name", "records", "what it is"), rows))
    typer.echo("Everything about one: codestrata data show NAME")


def show_source(
    name: Annotated[str, typer.Argument(help="A source, as codestrata data list names it.")],
    as_json: JsonOption = False,
) -> None:
    """Show everything about one source."""
    from codestrata.data.catalogue import find_data_set

    row = find_data_set(name)
    if as_json:
        typer.echo(json.dumps(describe_source(row)))
        return
    show_words(Table(row.name, ("", row.what), tuple(list_source_lines(row))))


def show_words(table: Table) -> None:
    """Print a table of words, which begin at the left."""
    view = render(table)
    for column in view.columns:
        column.justify = "left"
    Console().print(view)


def describe_source(row: "DataSet") -> dict[str, Any]:
    """A row of the catalogue as plain values."""
    return {**asdict(row), "objectives": list(row.objectives), "records": row.records}


def list_source_lines(row: "DataSet") -> list[tuple[str, str]]:
    """Everything about a source, a line each."""
    sizes = [f"{size.language} {size.split}: {size.records:,}" for size in row.sizes]
    hub = None if row.hub is None else row.hub.name + (f" @ {row.hub.revision}" if row.hub.revision else "")
    lines = {
        "objectives": ", ".join(row.objectives),
        "languages": ", ".join(row.languages) or "any",
        "licence": ": ".join(filter(None, (row.license, row.license_note))),
        "version": row.version or "none",
        "records": "\n".join(sizes) or "as many as the files hold",
        "tests can be run": "yes" if row.is_executable else "no",
        "SHA-256 of files": "\n".join(
            [*(f"{name}\n{digest}" for name, digest in row.files.items()), *filter(None, [row.files_note])]
        ),
        "url": row.url or "none",
        "paper": row.paper or "none",
        "hub": hub or row.hub_note or "none",
        "loader": row.loader,
        "notes": "\n".join(row.notes) or "none",
    }
    return list(lines.items())


def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files of records, or folders of them.")
    ],
    base: Annotated[str, typer.Option(help="Measure lengths in this base's tokens.")] = "pocket",
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Look for records of this set: a file, a source, or source:file; repeatable.",
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="What columns are called, as prompt=question,target=answer.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of records that name none.")] = None,
    objective: Annotated[str, typer.Option(help="What would be asked of functions.")] = "generate",
    max_prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Limit on prompts.")
    ] = LIMITS.max_prompt_tokens,
    max_target_tokens: Annotated[
        int, typer.Option(min=1, help="Limit on targets.")
    ] = LIMITS.max_target_tokens,
    near_duplicates: Annotated[
        float, typer.Option(min=0.01, max=1, help="From which similarity on two records are near duplicates.")
    ] = NEAR_DUPLICATES,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check whether files can be tasks: schema, lengths, duplicates, leaks, secrets, languages."""
    from codestrata.inspection.checks import check_file
    from codestrata.inspection.options import CheckOptions

    options = CheckOptions(
        base=base,
        against=tuple(against or ()),
        columns=read_columns(columns),
        language=None if language is None else language.strip().lower(),
        objective=read_objective(objective),
        max_prompt_tokens=max_prompt_tokens,
        max_target_tokens=max_target_tokens,
        near_duplicates=near_duplicates,
    )
    with LiveProgress(console(), quiet=quiet) as progress:
        reports = [check_file(file, options, progress) for file in files]
    if as_json:
        typer.echo(json.dumps({"schema_version": reports[0]["schema_version"], "checks": reports}))
    else:
        for report in reports:
            show_check(report)
    if not all(report["usable"] for report in reports):
        raise typer.Exit(1)


def agreement(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files or folders of CodeSearchNet's records.")
    ],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Mine the functions of records again, and list every one that is mined differently."""
    from codestrata.data.mining.agreement import measure_agreement

    with LiveProgress(console(), quiet=quiet) as progress:
        report = measure_agreement(files, progress)
    if as_json:
        typer.echo(json.dumps(report.to_plain()))
        return
    rows = tuple(
        (
            entry.language,
            entry.what,
            f"{entry.same:,} of {entry.records:,}",
            f"{entry.same / entry.records:.2%}",
        )
        for entry in report.agreements
    )
    show_words(Table("Mined as recorded", ("language", "what", "the same", "share"), rows))
    for found in report.differences:
        typer.echo(f"{found.file}:{found.line} {found.func_name}: {found.what}")
        typer.echo(f"  mined    {found.mined}\n  recorded {found.recorded}")


def read_columns(text: str | None) -> ColumnSettings:
    """Names of columns out of ``prompt=question,target=answer``.

    Raises: SettingsError: no ``=``, an unknown column, or two of one name.
    """
    from codestrata.settings.tree import build_section

    names: dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, equals, name = part.partition("=")
        if not equals or not name.strip():
            raise SettingsError(f"--columns {shorten(text)}: expected name=column, such as prompt=question.")
        names[key.strip()] = name.strip()
    built: ColumnSettings = build_section(ColumnSettings, names, "columns.")
    return built


def read_objective(name: str) -> Objective:
    """An objective by name. Raises: SettingsError: there is none, with the nearest name."""
    for objective in get_args(Objective):
        if objective == name:
            found: Objective = objective
            return found
    raise SettingsError(describe_unknown("objective", name, get_args(Objective)))


def show_check(report: Mapping[str, Any]) -> None:
    """Print what was found in a file: an overview, then what is wrong, place by place."""
    from codestrata.data.splits import FEW_TESTS

    show_words(Table(f"Check of {report['path']}", ("", "found"), tuple(list_lines(report))))
    broken = [(name_place(fault), str(fault["problem"])) for fault in report["first_broken"]]
    secrets = [(name_place(find), str(find["kind"])) for find in report["secrets"]["first"]]
    repeats = {"Duplicates": report["duplicates"]["examples"]}
    repeats |= {f"In {Path(leak['set']).name} too": leak["examples"] for leak in report["leaks"]}
    if broken:
        show_words(Table("Broken records (the first)", ("place", "problem"), tuple(broken)))
    for title, finds in repeats.items():
        rows = [(name_place(find), str(find["repeats"]), describe_find(find)) for find in finds]
        if rows:
            show_words(Table(f"{title} (the first)", ("place", "repeats", "how alike"), tuple(rows)))
    if secrets:
        show_words(Table("Secrets (the first)", ("place", "kind"), tuple(secrets)))
    usable = "can be a task" if report["task"] else "can be the tests of a task"
    verdict = usable if report["usable"] else "cannot be a task as it is"
    reason = f": {report['task_reason']}" if report["task_reason"] else ""
    typer.echo(f"{report['path']} {verdict}{reason}")
    for note in report["task"]["notes"] if report["task"] else ():
        if note.startswith(FEW_TESTS):
            typer.echo(note)


def name_place(find: Mapping[str, Any]) -> str:
    """File and line."""
    name = Path(str(find["file"])).name
    return name if find["line"] is None else f"{name}:{find['line']}"


def describe_find(find: Mapping[str, Any]) -> str:
    """How alike two records are, in words."""
    if find["same"] == "tokens":
        return f"near ({find['jaccard']:.2f})"
    return f"same {find['same']}"


def list_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The overview of a check."""
    lengths, duplicates, secrets = report["lengths"], report["duplicates"], report["secrets"]
    lines = {
        "source": report["source"] or "of no known kind",
        "files": "\n".join(map(describe_file, report["files"])),
        "fields": ", ".join(report["fields"]) or "none",
        "records": f"{report['records']:,} usable, {report['broken']:,} broken",
        "empty fields": join_counts(report["empty_fields"]),
        "no examples of": join_counts(report["not_examples"]),
        "texts": join_counts({name.replace("_", " "): count for name, count in report["texts"].items()}),
        "languages": "\n".join(map(describe_language, report["languages"])) or "none",
        "tokens are of": lengths["base"],
        "prompts": describe_length(lengths, "prompt"),
        "targets": describe_length(lengths, "target"),
        "duplicates": f"{duplicates['exact']:,} exact, {duplicates['near']:,} near "
        f"(at {duplicates['threshold']:g}, of {duplicates['compared']:,})",
        **{
            f"in {Path(leak['set']).name} too": f"{leak['exact']:,} exact, {leak['near']:,} near"
            f" (it has {leak['records']:,} records)"
            for leak in report["leaks"]
        },
        "secrets": f"{secrets['records']:,} records"
        + (f"\n{join_counts(secrets['kinds'])}" if secrets["kinds"] else ""),
        "licences": join_counts(report["licenses"]),
        "as a task": describe_task(report["task"], report["usable"]),
    }
    return list(lines.items())


def join_counts(counts: Mapping[str, int]) -> str:
    """Names with their counts; those of nothing are left out."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"


def describe_file(file: Mapping[str, Any]) -> str:
    """A file's name, size and encoding."""
    size = "cannot be read" if file["bytes"] is None else f"{file['bytes']:,} bytes"
    signs = [
        *(["byte order mark"] if file["byte_order_mark"] else []),
        *([f"{file['crlf_lines']:,} lines end in CRLF"] if file["crlf_lines"] else []),
    ]
    return ", ".join([f"{file['name']}: {size}", *signs])


def describe_language(entry: Mapping[str, Any]) -> str:
    """A language, its records and how many of them parse."""
    if entry["parsed_share"] is None:
        return (
            f"{entry['language'] or 'unnamed'}: {entry['records']:,} (not parsed: {entry['parsed_reason']})"
        )
    share = f"{entry['parsed_share']:.1%} of {entry['parsed_of']:,} parse"
    return f"{entry['language']}: {entry['records']:,} ({share})"


def describe_length(lengths: Mapping[str, Any], side: str) -> str:
    """The lengths of prompts or targets, and how many are cut."""
    found = lengths[side]
    if found is None:
        return str(lengths["reason"])
    return (
        f"median {found['median']:g}, p95 {found['p95']:g}, max {found['max']:,} tokens\n"
        f"{found['truncated']:,} of {lengths['measured']:,} over the limit of {found['limit']:,}"
    )


def describe_task(task: Mapping[str, Any] | None, usable: bool) -> str:
    """The splits that a task of the records would have; of usable ones that make none, what they are for."""
    if task is None:
        return "tests of another source" if usable else "not possible"
    splits = ", ".join(f"{task[name]:,} {name}" for name in ("train", "validation", "test"))
    parts: Sequence[str] = [splits, *task["notes"]]
    return "\n".join([*parts, *([f"left out: {join_counts(task['dropped'])}"] if task["dropped"] else [])])
