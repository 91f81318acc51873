"""``codestrata export``: a run's component as a folder that others can load.

What this does not do: merge or compare itself (``exporting`` does).
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codestrata.cli.comparing import JsonOption, RunsOption
from codestrata.cli.display import console
from codestrata.cli.offline import OfflineOption
from codestrata.errors import SettingsError, describe_unknown
from codestrata.store import open_run

if TYPE_CHECKING:
    from codestrata.exporting.exports import Export


def export(
    run: Annotated[str, typer.Argument(help="Name or path of a finished run.")],
    task: Annotated[str, typer.Option(help="The task whose component is exported.")],
    out: Annotated[Path, typer.Option("--out", help="Where to: a new or empty folder.")],
    form: Annotated[
        str, typer.Option("--format", help="hf: a plain checkpoint; peft: the PEFT adapter as it is.")
    ] = "hf",
    method: Annotated[str | None, typer.Option(help="Method; default the best on this task.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; default the best on this task.")] = None,
    allow_secrets: Annotated[
        bool, typer.Option("--allow-secrets", help="Export although keys or passwords may get out with it.")
    ] = False,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
    offline: OfflineOption = False,
) -> None:
    """Write a task's component as a checkpoint that transformers loads without codestrata."""
    directory = open_run(runs, run)
    from codestrata.answering import choose_component
    from codestrata.exporting.exports import FORMATS, export_component

    chosen = next((known for known in FORMATS if known == form), None)
    if chosen is None:
        raise SettingsError(describe_unknown("format", form, FORMATS))
    choice = choose_component(directory, task, method, seed=seed)
    console().print(
        f"[dim]{choice.method}, seed {choice.seed}, of run {directory.name}[/dim]", highlight=False
    )
    done = export_component(directory, choice, out, chosen, allow_secrets=allow_secrets)
    show_export(done, as_json=as_json)


def show_export(done: "Export", *, as_json: bool) -> None:
    """Print where it lies on stdout, and on stderr what a user of it should know."""
    if as_json:
        typer.echo(json.dumps(asdict(done) | {"folder": str(done.folder)}))
        return
    typer.echo(str(done.folder))
    for line in list_remarks(done):
        console().print(line, markup=False, highlight=False, soft_wrap=True)


def list_remarks(done: "Export") -> list[str]:
    """What the comparison found, and how to generate where transformers needs to be told."""
    lines = []
    if done.comparison is not None:
        found = done.comparison
        lines.append(
            f"Compared on {found.prompts} of the run's prompts: logits differ by at most"
            f" {found.largest_difference:.2g} of {found.largest_logit:.3g}, {found.same_answers} of"
            f" {found.prompts} greedy answers are the same."
        )
    if done.deeper_decoder:
        lines.append(
            "More blocks in the decoder than in the encoder: transformers 5.23 cannot generate with its"
            ' default cache. generation_config.json says "use_cache": false; README.md says how to have one.'
        )
    return lines
