"""``codestrata extend``: a finished run with more tasks, as a new run that does nothing old again.

What this does not do: anything that ``experiment.extending`` does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from codestrata.cli.comparing import JsonOption, RunsOption, hint_at_resume, show_summary
from codestrata.cli.display import LiveProgress, console
from codestrata.errors import SettingsError, shorten
from codestrata.interrupts import catch_signals
from codestrata.settings.reading import apply_assignment, merge
from codestrata.settings.sections import TaskSettings
from codestrata.settings.tree import Settings, build_settings, to_tree
from codestrata.store import RunDirectory, open_run

SIZES = ("train_examples", "validation_examples", "test_examples")
OBJECTIVES = ("objective", "evaluation_objective")


def extend(
    run: Annotated[str, typer.Argument(help="Name or path of a finished run; it stays as it is.")],
    tasks: Annotated[
        list[str],
        typer.Option(
            "--task",
            metavar="NAME=SOURCE",
            help="A new task: a JSONL file (prompt, target), kata, codesearchnet or codesearchnet:PATH; "
            "repeatable, in the order they arrive.",
        ),
    ],
    methods: Annotated[
        str | None, typer.Option(help="Extend only these methods of the run, as lora,ewc; default all.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new run; default <run>-<task>.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a new task; repeatable."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, cuda:<n>, mps or cpu.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Add tasks to a finished run: only they are trained, and the old ones are looked at again."""
    old = open_run(runs, run)
    begun: list[RunDirectory] = []
    with (
        hint_at_resume(begun),
        catch_signals() as interrupts,
        LiveProgress(console(), quiet=quiet) as progress,
    ):
        with interrupts.postponed():  # a module whose import is cut off may stay half there
            from codestrata.experiment.extending import extend_run
        settings = resolve_extension(old.read_settings(), tasks, methods, assignments or [], device)
        finished = extend_run(
            old,
            settings,
            root=runs,
            name=name,
            progress=progress,
            interrupts=interrupts,
            begun=begun.append,
        )
    show_summary(finished, as_json=as_json)
    if not as_json:
        typer.echo(describe_extension(finished.read_results()["extended_from"]))


def resolve_extension(
    old: Settings, tasks: Sequence[str], methods: str | None, assignments: Sequence[str], device: str | None
) -> Settings:
    """The settings of the new run: the old ones, ``--task``, then ``--set``, then ``--device``."""
    from codestrata.experiment.extending import extend_settings

    added = build_settings({"tasks": [read_task(text, old.tasks[-1]) for text in tasks]}).tasks
    chosen = None if methods is None else [part.strip() for part in methods.split(",")]
    tree = to_tree(extend_settings(old, added, chosen))
    for assignment in assignments:
        apply_assignment(tree, assignment)
    if device is not None:
        tree = merge(tree, {"device": {"name": device}})
    return build_settings(tree)


def read_task(text: str, last: TaskSettings) -> dict[str, Any]:
    """A task's section out of ``NAME=SOURCE``; sizes, and objectives if it has any, are those of ``last``.

    Raises: SettingsError: no ``=``, or nothing on one side of it.
    """
    name, _, source = text.partition("=")
    if not name.strip() or not source.strip():
        raise SettingsError(
            f"--task {shorten(text)}: expected NAME=SOURCE, such as lua=lua.jsonl, lua=kata or "
            "go=codesearchnet."
        )
    section = {"name": name.strip(), **{size: getattr(last, size) for size in SIZES}}
    kind, colon, path = source.strip().partition(":")
    if source.strip() == "kata":
        return {**section, "source": "kata", "unseen_examples": last.unseen_examples}
    if kind != "codesearchnet" or (colon and not path):
        return {**section, "source": "file", "path": source.strip()}
    if last.source == "codesearchnet":
        section |= {key: getattr(last, key) for key in OBJECTIVES}
    return {**section, "source": "codesearchnet", "path": path or None}


def describe_extension(extended: Mapping[str, Any]) -> str:
    """What was taken over from the run before, as a sentence."""
    changed = extended["environment_changed"]
    elsewhere = f" It ran in another environment ({', '.join(changed)})." if changed else ""
    return (
        f"Extended from {extended['run']}: {extended['trainings']} trainings and {extended['predictions']} "
        f"predictions were taken over, and all {extended['files']} files of its components are the same, "
        f"byte for byte.{elsewhere}"
    )
