"""``codestrata generate`` and ``pretrain``: use a run's components; make the shipped base again.

What this does not do: decode or train itself.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from codestrata.cli.comparing import JsonOption, RunsOption
from codestrata.cli.display import LiveProgress, console
from codestrata.cli.offline import OfflineOption
from codestrata.errors import DataError, SettingsError
from codestrata.files import read_jsonl
from codestrata.store import RunDirectory, open_run


def generate(
    run: Annotated[str, typer.Option(help="Name or path of a run.")],
    task: Annotated[str | None, typer.Option(help="The task whose component answers.")] = None,
    route: Annotated[bool, typer.Option("--route", help="Pick the component from the prompt.")] = False,
    prompt: Annotated[str | None, typer.Argument(help="What to ask.")] = None,
    file: Annotated[Path | None, typer.Option(help='JSONL with a "prompt" in every line.')] = None,
    method: Annotated[str | None, typer.Option(help="Method; default the best on this task.")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, cuda:<n>, mps or cpu.")] = "auto",
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
    offline: OfflineOption = False,
) -> None:
    """Answer prompts with a task's component on the frozen base: that of --task, or picked by --route."""
    if (prompt is None) == (file is None):
        raise SettingsError("Give either a prompt or --file FILE.jsonl.")
    if (task is None) != route:
        raise SettingsError("Give either --task NAME, or --route to have the component picked.")
    texts = [prompt] if prompt is not None else read_prompts(Path(str(file)))
    directory = open_run(runs, run)
    is_plain = prompt is not None and not as_json
    if task is None:
        print_routed(directory, texts, method, device, is_plain=is_plain)
        return
    from codestrata.answering import answer, choose_component

    choice = choose_component(directory, task, method)
    console().print(
        f"[dim]{choice.method}, seed {choice.seed}, of run {directory.name}[/dim]", highlight=False
    )
    completions = answer(directory, choice, texts, device=device)
    for text, completion in zip(texts, completions, strict=True):
        typer.echo(completion if is_plain else json.dumps({"prompt": text, "completion": completion}))


def print_routed(
    run: RunDirectory, texts: Sequence[str], method: str | None, device: str, *, is_plain: bool
) -> None:
    """Answers with the components that the run's router picks, and how sure it is."""
    from codestrata.dispatch import answer_routed, choose_router

    router = choose_router(run, method)
    console().print(f"[dim]{router.method}, seed {router.seed}, of run {run.name}[/dim]", highlight=False)
    for text, found in zip(texts, answer_routed(run, router, texts, device=device), strict=True):
        picked = "the base (the router abstained)" if found.task is None else f"component {found.task}"
        if is_plain:
            console().print(
                f"[dim]{picked}, confidence {found.confidence:.2f}[/dim]", highlight=False, markup=True
            )
            typer.echo(found.text)
        else:
            about = {"task": found.task, "confidence": found.confidence}
            typer.echo(json.dumps({"prompt": text, "completion": found.text, **about}))


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
    offline: OfflineOption = False,
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
