"""Evaluation sets that must not be trained on, by the names that settings give them.

What this does not do: compare their examples with others (``sieve`` does).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from codestrata.data.sniffing import find_columns, sniff
from codestrata.data.sources import Record, load_records, replace_source
from codestrata.errors import SettingsError, describe_unknown
from codestrata.progress import Progress
from codestrata.settings.tasks import OBJECTIVES, Objective, Source, TaskSettings

SOURCES: tuple[Source, ...] = tuple(source for source in get_args(Source) if source not in ("kata", "file"))


def load_excluded(
    settings: TaskSettings, name: str, *, cache: Path | None = None, progress: Progress | None = None
) -> Sequence[Record]:
    """The records of one evaluation set that ``settings.exclude`` names.

    A name is ``<source>:<file>``, a local file or folder of a known schema, or a source, of which its test
    partition is taken where it has one. Of a file all records are taken. ``cache`` and ``progress`` are as in
    ``load_records``.

    Raises: DataError, HubError: it cannot be read; SettingsError: there is no such set.
    """
    source, path = find_set(settings, name)
    possible = OBJECTIVES.get(source, ("generate",))
    objective: Objective = settings.objective if settings.objective in possible else "generate"
    asked = replace_source(settings, source, path, objective)
    records = load_records(asked, source, path, objective, cache=cache, progress=progress).records
    tests = [record for record in records if record.partition == "test"]
    return tests if path is None and tests else records


def find_set(settings: TaskSettings, name: str) -> tuple[Source, Path | None]:
    """(source, file) of a name.

    Raises: DataError: a file of no known kind; SettingsError: nothing is called so, or no such file is there.
    """
    for source in SOURCES:
        if name == source:
            return source, None
        if name.startswith(f"{source}:"):
            file = Path(name.removeprefix(f"{source}:"))
            if not file.exists():
                raise SettingsError(f"tasks.{settings.name}.exclude names {str(file)!r}, which is not there.")
            return source, file
    path = Path(name.removeprefix("file:"))
    if name.startswith("file:") and path.exists():
        return "file", path
    if path.exists():
        return sniff(path, find_columns(path, settings.columns)).source, path
    raise SettingsError(
        f"{describe_unknown(f'tasks.{settings.name}.exclude', name, SOURCES)} No local file or folder is "
        "called so either; a set of a source in a file of your own is <source>:<file>."
    )
