"""``codestrata generate`` and ``pretrain``: use a run's components; make the shipped base again.

What this does not do: decode or train itself.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from codestrata.cli.comparing import JsonOption, RunsOption
from codestrata.cli.display import LiveProgress, console
from codestrata.errors import DataError, SettingsError
from codestrata.files import read_jsonl
from codestrata.store import open_run


def generate(
    run: Annotated[str, typer.Option(help="Name or path of a run.")],
    task: Annotated[str, typer.Option(help="The task whose component answers.")],
    prompt: Annotated[str | None, typer.Argument(help="What to ask.")] = None,
    file: Annotated[Path | None, typer.Option(help='JSONL with a "prompt" in every line.')] = None,
    method: Annotated[str | None, typer.Option(help="Method; default the best on this task.")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, cuda:<n>, mps or cpu.")] = "auto",
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Answer prompts with a task's component on the frozen base."""
    if (prompt is None) == (file is None):
        raise SettingsError("Give either a prompt or --file FILE.jsonl.")
    texts = [prompt] if prompt is not None else read_prompts(Path(str(file)))
    directory = open_run(runs, run)
    from codestrata.answering import answer, choose_component

    choice = choose_component(directory, task, method)
    console().print(
        f"[dim]{choice.method}, seed {choice.seed}, of run {directory.name}[/dim]", highlight=False
    )
    completions = answer(directory, choice, texts, device=device)
    for text, completion in zip(texts, completions, strict=True):
        plain = prompt is not None and not as_json
        typer.echo(completion if plain else json.dumps({"prompt": text, "completion": completion}))


def read_prompts(path: Path) -> list[str]:
    """The prompts of a JSONL file. Raises DataError: a line without one, or no line at all."""
    prompts = []
    for line, row in read_jsonl(path):
        if not isinstance(row.get("prompt"), str):
            raise DataError('expected a text field "prompt"', path=path, line=line)
        prompts.append(row["prompt"])
    if not prompts:
        raise DataError("holds no prompts", path=path)
    return prompts


def pretrain(
    base: Annotated[str, typer.Argument(help="The base to make: pocket.")],
    folder: Annotated[Path, typer.Option("--out", help="Where to write model, tokenizer and log.")],
    threads: Annotated[int | None, typer.Option(help="CPU threads of torch.")] = None,
) -> None:
    """Train the shipped pocket base again, from nothing (an hour or less on two cores)."""
    from codestrata.models.pocket import POCKET

    if base != POCKET:
        raise SettingsError(f"Unknown base {base!r}. Known: {POCKET}.")
    if folder.exists() and any(folder.iterdir()):
        raise SettingsError(f"{folder} is not empty: choose a new folder with --out.")
    import torch

    from codestrata.pretraining import PretrainingSettings, pretrain_pocket

    if threads is not None:
        torch.set_num_threads(threads)
    with LiveProgress(console()) as progress:
        record = pretrain_pocket(folder, PretrainingSettings(), progress)
    typer.echo(f"Base {record['base_fingerprint']} in {folder}")
