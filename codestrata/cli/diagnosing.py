"""``codestrata doctor``: what is supported on a base, and why not, before anything is downloaded or trained.

What this does not do: look into a model itself (``diagnosis`` does).
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from codestrata.cli.comparing import JsonOption
from codestrata.cli.display import render
from codestrata.cli.offline import OfflineOption
from codestrata.report.tables import Table
from codestrata.settings.reading import apply_assignment
from codestrata.settings.tree import Settings, build_settings

if TYPE_CHECKING:
    from codestrata.diagnosis import Diagnosis

UNSUPPORTED = 1
DECODERS = {"own": "fast decoding", "generate": "transformers' generate"}


def doctor(
    model: Annotated[str, typer.Argument(help="The base: pocket, a model hub name or a local folder.")],
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Ask under another setting; repeatable."),
    ] = None,
    as_json: JsonOption = False,
    offline: OfflineOption = False,
) -> None:
    """Say what is supported on a base, and why not; its weights are neither loaded nor downloaded."""
    settings = resolve_question(model, assignments or [])
    from codestrata.diagnosis import diagnose

    found = diagnose(settings)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "is_usable": found.is_usable}))
    else:
        show_diagnosis(found)
    if not found.is_usable:
        raise typer.Exit(UNSUPPORTED)


def resolve_question(model: str, assignments: list[str]) -> Settings:
    """The default settings about that base, with the assignments; no preset's."""
    tree = {"tasks": [{"name": "python"}], "base": {"name": model}}
    for assignment in assignments:
        apply_assignment(tree, assignment)
    return build_settings(tree)


def show_diagnosis(found: "Diagnosis") -> None:
    """Print tables of what was found, then what stands in the way and what to know."""
    out = Console()
    out.print(render(build_base_table(found)))
    if found.components:
        out.print(render(build_component_table(found)))
        out.print(render(build_placement_table(found)))
    for note in found.notes:
        out.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for problem in found.problems:
        out.print(f"not supported: {problem}", markup=False, highlight=False, soft_wrap=True)


def build_base_table(found: "Diagnosis") -> Table:
    """The base itself, fact by fact; what is not known is left out."""
    kind = {True: "decoder-only", False: "encoder-decoder", None: None}[found.is_causal]
    tokenizer = found.tokenizer
    facts = {
        "base": found.name,
        "usable": "yes" if found.is_usable else "no",
        "model type": found.model_type,
        "family": found.family and f"{found.family}, {kind}",
        "blocks": ", ".join(f"{count} in the {stack}" for stack, count in found.blocks.items()),
        "parameters": found.parameters and f"{found.parameters:,}",
        "memory of the weights": found.memory_mib is not None and f"{found.memory_mib:,} MiB (float32)",
        "stored as": found.stored_dtype,
        "matrix products here": found.precision,
        "tokenizer": tokenizer and f"{tokenizer.kind}, {tokenizer.tokens:,} tokens",
        "end and padding": tokenizer and f"{tokenizer.end} and {tokenizer.padding}",
        "greedy answers": found.decoding and DECODERS[found.decoding.by],
    }
    rows = tuple((name, str(value)) for name, value in facts.items() if value)
    return Table("Base", ("", "found"), rows)


def build_component_table(found: "Diagnosis") -> Table:
    """Every kind of component: how much trains, and why it cannot be had."""
    rows = tuple(
        (
            entry.kind,
            "yes" if entry.reason is None else "no",
            "" if entry.parameters is None else f"{entry.parameters:,}",
            "" if entry.frozen_blocks is None else str(entry.frozen_blocks),
            "" if entry.decoded_by is None else DECODERS[entry.decoded_by],
            entry.reason or "",
        )
        for entry in found.components
    )
    header = (
        "component",
        "supported",
        "trained parameters",
        "blocks computed once",
        "greedy answers",
        "why not",
    )
    return Table("Components", header, rows)


def build_placement_table(found: "Diagnosis") -> Table:
    """Every placement of new blocks."""
    rows = tuple(
        (
            entry.placement,
            "yes" if entry.reason is None else "no",
            "" if entry.new_blocks is None else str(entry.new_blocks),
            "" if entry.parameters is None else f"{entry.parameters:,}",
            entry.reason or "",
        )
        for entry in found.placements
    )
    return Table(
        "Placements of new blocks", ("placement", "supported", "new blocks", "parameters", "why not"), rows
    )
