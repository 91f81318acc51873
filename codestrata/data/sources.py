"""The records of a source, whichever it is: documented functions or ready examples.

What this does not do: split, filter or count duplicates (``splits``, ``tasks`` and ``duplicates`` do).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from codestrata.data.codesearchnet import Function, load_functions
from codestrata.data.objectives import build_example
from codestrata.data.sniffing import find_columns
from codestrata.data.sourced import Loaded, SourcedExample
from codestrata.progress import Progress
from codestrata.records import Example
from codestrata.settings.tasks import Objective, Source, TaskSettings

Record = Function | SourcedExample

BENCHMARKS: tuple[Source, ...] = ("mbpp", "mbxp", "humaneval", "humaneval-x", "humanevalpack")
CODETASK: tuple[Source, ...] = ("concode", "translate", "refine")


@dataclass(frozen=True, kw_only=True)
class Records:
    """What a source holds, in its order; how many records it left out by reason; what else to say of it."""

    records: Sequence[Record]
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_records(
    settings: TaskSettings,
    source: Source,
    path: Path | None,
    objective: Objective,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Records:
    """The records of one source for a task.

    Args:
        settings: the task's, for its own records; for others, what ``replace_source`` made of them.
        source: any but ``kata``, whose problems are made and not read.
        path: a local file or folder; ``None`` takes the hub, with ``mined`` what is installed.
        objective: what is asked of the records; sources of ready examples may word their prompts by it.
        cache: where what is mined is kept; ``None`` takes the user's cache folder.
        progress: is told of mining.

    Raises: DataError, HubError, SettingsError: as the source's own module says.
    """
    if source == "codesearchnet":
        functions, dropped = load_functions(
            settings.code_language,
            path,
            task=settings.name,
            allow_overlap=settings.allow_overlap,
            dated=settings.split == "date",
            licensed=bool(settings.licenses),
        )
        return Records(records=functions, dropped=dropped)
    if source == "mined":
        from codestrata.data.mined import load_mined_functions  # mines: others need none of it

        functions, dropped, notes = load_mined_functions(settings, cache=cache, progress=progress)
        return Records(records=functions, dropped=dropped, notes=tuple(notes))
    loaded = load_ready(settings, source, path, objective)
    return Records(records=loaded.examples, dropped=loaded.dropped, notes=loaded.notes)


def replace_source(
    settings: TaskSettings, source: Source, path: Path | None, objective: Objective
) -> TaskSettings:
    """The task's settings for records that are no training data of its own: all there are, under any licence.

    Secrets are not looked for here either: ``sieve`` leaves out tests with some, and what is excluded is
    excluded with them.
    """
    return replace(
        settings,
        source=source,
        path=None if path is None else str(path),
        columns=find_columns(path, settings.columns) if path and source == "file" else settings.columns,
        language=settings.code_language,
        objective=objective,
        evaluation_objective=None,
        test_source=None,
        test_path=None,
        split=None,
        licenses=(),
        keep_secrets=True,
        unseen_examples=0,
        allow_overlap=source == "codesearchnet",
    )


def load_ready(settings: TaskSettings, source: Source, path: Path | None, objective: Objective) -> Loaded:
    """The examples of a source whose records are examples already."""
    if source in BENCHMARKS:
        from codestrata.data.benchmarks import load_benchmark

        return load_benchmark(settings, path, objective)
    if source in CODETASK:
        from codestrata.data.codetask import load_codetask

        return load_codetask(settings, path, objective)
    from codestrata.data.tables import load_table

    return load_table(settings, path, objective)


def build_record(objective: Objective, record: Record) -> Example | str:
    """The record's example for an objective, or why it cannot serve; ready ones are as they are."""
    return record.example if isinstance(record, SourcedExample) else build_example(objective, record)


def read_own(record: Record) -> str:
    """What a record is never separated from: itself, and of ready examples whatever has the same prompt."""
    if isinstance(record, SourcedExample):
        return f"prompt {record.example.prompt}"
    return record.identifier


def read_repository(record: Record) -> str:
    """The record's repository or group, or only itself where that is not known."""
    if record.repository is None:
        return read_own(record)
    return f"group {record.repository}" if isinstance(record, SourcedExample) else record.repository
