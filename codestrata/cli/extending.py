"""``codestrata extend``: a finished run with more tasks, as a new run that does nothing old again.

What this does not do: anything that ``experiment.extending`` does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from codestrata.cli.comparing import (
    LOADING,
    JsonOption,
    RunsOption,
    hint_at_resume,
    read_columns,
    show_summary,
)
from codestrata.cli.display import LiveProgress, console
from codestrata.cli.offline import OfflineOption
from codestrata.errors import DataError, SettingsError, describe_unknown, shorten
from codestrata.interrupts import catch_signals
from codestrata.settings.reading import apply_assignment, merge
from codestrata.settings.tasks import FUNCTIONS, ColumnSettings, Source, TaskSettings
from codestrata.settings.tree import Settings, build_settings, to_tree
from codestrata.store import RunDirectory, open_run


def extend(
    run: Annotated[str, typer.Argument(help="Name or path of a finished run; it stays as it is.")],
    tasks: Annotated[
        list[str],
        typer.Option(
            "--task",
            metavar="NAME=SOURCE",
            help="A new task: a file or folder of records, kata, a source such as codesearchnet, or one with "
            "its file, such as mbpp:mbpp.jsonl; repeatable, in the order they arrive.",
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
    offline: OfflineOption = False,
) -> None:
    """Add tasks to a finished run: only they are trained, and the old ones are looked at again."""
    old = open_run(runs, run)
    begun: list[RunDirectory] = []
    with (
        hint_at_resume(begun),
        catch_signals() as interrupts,
        LiveProgress(console(), quiet=quiet) as progress,
    ):
        progress.say(LOADING)
        with interrupts.postponed():  # a module whose import is cut off may stay half there
            from codestrata.experiment.extending import extend_run
        settings = resolve_extension(old.read_settings(), tasks, methods, assignments or [], device)
        require_paths(settings.tasks[-len(tasks) :])
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

    columns = read_columns(assignments)
    added = build_settings({"tasks": [read_task(text, old.tasks[-1], columns) for text in tasks]}).tasks
    chosen = None if methods is None else [part.strip() for part in methods.split(",")]
    tree = to_tree(extend_settings(old, added, chosen))
    for assignment in assignments:
        apply_assignment(tree, assignment)
    if device is not None:
        tree = merge(tree, {"device": {"name": device}})
    settings = build_settings(tree)
    require_languages(settings.tasks[-len(added) :])
    return settings


def read_task(
    text: str, last: TaskSettings, columns: Mapping[str, ColumnSettings] | None = None
) -> dict[str, Any]:
    """A task's section out of ``NAME=SOURCE``, which takes over from ``last`` what ``folders.inherit`` says.

    A file or folder is what its first records say, and of the language they name; ``columns`` as in
    ``list_folder_tasks``.

    Raises: SettingsError: no ``=``, or nothing on one side of it.
    """
    from codestrata.data.folders import choose_columns, inherit

    name, _, source = text.partition("=")
    source = source.strip()
    if not name.strip() or not source:
        raise SettingsError(
            f"--task {shorten(text)}: expected NAME=SOURCE, such as lua=lua.jsonl, lua=kata or "
            "go=codesearchnet."
        )
    kind, colon, path = source.partition(":")
    known = get_args(Source)
    place: dict[str, Any] = {"source": kind, "path": path or None}
    if source == "kata":
        place = {"source": "kata", "unseen_examples": last.unseen_examples}
    elif kind not in known or kind == "kata" or (colon and not path):
        place = read_place(source, choose_columns(columns or {}, name.strip()))
    return {"name": name.strip(), **inherit(place["source"], vars(last)), **place}


def read_place(place: str, columns: ColumnSettings) -> dict[str, Any]:
    """What a file or folder says of itself as a task; that it is a ``file`` where nothing can be read."""
    plain = {"source": "file", "path": place}
    path = Path(place)
    if not path.exists():  # said once all else is right
        return plain
    from codestrata.data.folders import Place, choose_paths, sniff_folder
    from codestrata.data.sniffing import sniff

    try:
        found = sniff_folder(path, columns) if path.is_dir() else sniff(path, columns)
    except DataError:  # said better where it is loaded
        return plain
    about = Place(path=path, name=path.name, sniffed=found)
    language = {"language": found.languages[0]} if len(found.languages) == 1 else {}
    return {**language, "source": found.source, **choose_paths(about)}


def require_paths(tasks: Sequence[TaskSettings]) -> None:
    """Refuse tasks whose file or folder is not there, or whose source is not spelt right.

    Raises: SettingsError: the first of them, with the nearest source.
    """
    for task in tasks:
        if task.path is not None and not Path(task.path).exists():
            unknown = describe_unknown("source of a task", task.path, get_args(Source))
            raise SettingsError(f"Task {task.name!r}: {unknown} No local file or folder is called so either.")


def require_languages(tasks: Sequence[TaskSettings]) -> None:
    """Refuse tasks of documented functions whose language nothing tells.

    Raises: SettingsError: the records name none or several, ``--set`` gives none, and a name is none.
    """
    from codestrata.languages.parsing import list_languages

    for task in tasks:
        if task.source in FUNCTIONS and task.language is None and task.name not in list_languages():
            raise SettingsError(
                f"Task {task.name!r} with source = {task.source!r} has no language, and none is called "
                f"{task.name!r}: say which with --set tasks.{task.name}.language=python, or name the task "
                "after it."
            )


def describe_extension(extended: Mapping[str, Any]) -> str:
    """What was taken over from the run before, as a sentence."""
    changed = extended["environment_changed"]
    elsewhere = f" It ran in another environment ({', '.join(changed)})." if changed else ""
    return (
        f"Extended from {extended['run']}: {extended['trainings']} trainings and {extended['predictions']} "
        f"predictions were taken over, and all {extended['files']} files of its components are the same, "
        f"byte for byte.{elsewhere}"
    )
