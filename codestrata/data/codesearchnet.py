"""CodeSearchNet functions, from the hub or from local JSONL, gzipped JSONL and Parquet files.

Two field schemas are read: the hub's (``func_code_string``, ``func_documentation_string``, ...) and the
original one (``code``, ``docstring``, ...); a folder may mix them. Records of ``codestrata mine`` are of the
original one and say besides which licence a function is under and of which day its commit is.

What this does not do: split the functions or turn them into examples (``tasks`` and ``objectives`` do), or
fall back to other data where the hub cannot be reached.

Source: Husain et al. 2019, arXiv:1909.09436.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codestrata.data.rows import Row, is_record_file, read_rows
from codestrata.data.tables import read_day, read_license, read_text, require_text
from codestrata.errors import DataError, SettingsError, describe_unknown, shorten
from codestrata.files import hash_json
from codestrata.hub import load_hub_splits

HUB_NAME = "code-search-net/code_search_net"
HUB_LANGUAGES = ("go", "java", "javascript", "php", "python", "ruby")
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
ROWS_PER_BATCH = 1000
MOST_REASONS_NAMED = 12

PARTITIONS = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}

HUB_FIELDS = {
    "code": "func_code_string",
    "docstring": "func_documentation_string",
    "name": "func_name",
    "language": "language",
    "repository": "repository_name",
    "path": "func_path_in_repository",
    "url": "func_code_url",
    "partition": "split_name",
}
ORIGINAL_FIELDS = {
    "code": "code",
    "docstring": "docstring",
    "name": "func_name",
    "language": "language",
    "repository": "repo",
    "path": "path",
    "url": "url",
    "partition": "partition",
    "license": "license",
    "date": "commit_date",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """One function with its documentation.

    ``identifier`` depends on the record alone, not on the file or its place there. ``docstring`` is the
    documentation as recorded, empty where there is none; Python ``code`` contains it too. ``repository``,
    ``partition`` (``train``, ``validation`` or ``test``), ``path`` (of the file, in its repository),
    ``license`` (an SPDX identifier) and ``date`` (of the commit, an ISO day) are ``None`` where the record
    does not say.
    """

    identifier: str
    repository: str | None
    name: str
    language: str
    code: str
    docstring: str
    partition: str | None
    path: str | None = None
    license: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record was first found, and in which partition."""

    place: str | Path
    line: int
    partition: str | None


def load_functions(
    language: str,
    path: Path | None,
    *,
    task: str = "<name>",
    revision: str | None = None,
    allow_overlap: bool = False,
    dated: bool = False,
    licensed: bool = False,
) -> tuple[list[Function], dict[str, int]]:
    """All functions of a language, in file order, and how many records were left out, by reason.

    Left out are records of another language and exact repetitions of an earlier record. A repetition that
    local files put into another partition is refused; with ``allow_overlap`` it is in both.

    Args:
        language: the programming language; upper and lower case are the same.
        path: a ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file, or a folder that holds some at any depth;
            ``None`` takes the hub's data set.
        task: the task's name, for the remedy in errors.
        revision: the hub's branch, tag or commit; ``None`` takes its default.
        allow_overlap: take a record in two partitions as it is.
        dated: refuse a day that cannot be read, which else is none.
        licensed: the same of licences.

    Raises:
        DataError: no such file, a record that cannot be read (with file and line; in Parquet the row),
            a record in two partitions, or no record of this language.
        HubError: the hub could not be reached.
        SettingsError: the hub has no such language.
    """
    functions: list[Function] = []
    found: dict[tuple[str, str | None], Place] = {}
    dropped: Counter[str] = Counter()
    sources = read_hub(language, task, revision) if path is None else read_files(path)
    for place, rows in sources:
        for line, row in rows:
            function = build_function(row, place, line, dated=dated, licensed=licensed)
            key = (function.identifier, function.partition if allow_overlap else None)
            if function.language != language.lower():
                plain = function.language.isprintable() and len(function.language) <= 40
                dropped[f"language is {function.language if plain else shorten(function.language)}"] += 1
            elif key in found:
                if path is not None:
                    refuse_second_partition(function, found[key], place, line, task)
                dropped["repeated record"] += 1
            else:
                found[key] = Place(place, line, function.partition)
                functions.append(function)
    if not functions:
        common = dropped.most_common(MOST_REASONS_NAMED)
        reasons = ", ".join(f"{count} whose {reason}" for reason, count in sorted(common)) or "none"
        message = f"no {language} records (found: {reasons}); set tasks.{task}.language"
        raise DataError(message, path=path or HUB_NAME)
    return functions, dict(dropped)


def refuse_second_partition(
    function: Function, first: Place, place: str | Path, line: int, task: str
) -> None:
    """Refuse a repeated record of another partition than the first. Raises: DataError; with both places."""
    if None not in (function.partition, first.partition) and function.partition != first.partition:
        raise DataError(
            f"the record of {first.place}:{first.line} again, there for {first.partition}, here for "
            f"{function.partition}: give it one partition, or accept it with tasks.{task}.allow_overlap=true",
            path=place,
            line=line,
        )


def build_function(
    row: Mapping[str, Any], place: str | Path, line: int, *, dated: bool = False, licensed: bool = False
) -> Function:
    """One record, of either schema, as a function; ``dated`` and ``licensed`` as in ``load_functions``.

    Raises: DataError: a field is missing or of a wrong type, or the partition is unknown; with file and line.
    """
    fields = HUB_FIELDS if HUB_FIELDS["code"] in row else ORIGINAL_FIELDS
    texts = {key: require_text(row, fields[key], place, line) for key in ("code", "name", "language")}
    if fields["docstring"] not in row:  # null or empty is a function without documentation
        require_text(row, fields["docstring"], place, line)
    extras = {
        key: read_text(row, fields[key], place, line) for key in ("docstring", "repository", "path", "url")
    }
    language = texts["language"].lower()
    digest = hash_json([language, *texts.values(), *extras.values()])
    return Function(
        identifier=f"{extras['repository'] or language}:{texts['name']}:{digest[:16]}",
        repository=extras["repository"] or None,
        name=texts["name"],
        language=language,
        code=texts["code"],
        docstring=extras["docstring"] or "",
        partition=read_partition(row, fields["partition"], place, line),
        path=extras["path"] or None,
        license=read_license(row, ORIGINAL_FIELDS["license"], place, line, must=licensed),
        date=read_day(row, ORIGINAL_FIELDS["date"], place, line, must=dated),
    )


def read_partition(row: Mapping[str, Any], name: str, place: str | Path, line: int) -> str | None:
    """The record's partition as ``train``, ``validation`` or ``test``; ``None`` where it does not say."""
    partition = read_text(row, name, place, line)
    if not partition:
        return None
    if partition not in PARTITIONS:
        raise DataError(describe_unknown(name, partition, PARTITIONS), path=place, line=line)
    return PARTITIONS[partition]


def read_files(path: Path) -> Iterator[tuple[Path, Iterable[Row]]]:
    """(file, its rows) for ``path`` itself, or for every record file under it in the order of their names.

    Raises: DataError: there is no such file or folder, it cannot be read, or none has a known suffix.
    """
    if os.path.isdir(path):
        files = list_record_files(path)
        if not files:
            raise DataError(f"the folder holds no {', '.join(SUFFIXES)} file", path=path)
    elif not os.path.lexists(path):
        raise DataError("no such file or folder", path=path)
    elif not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"unknown kind of file: expected {', '.join(SUFFIXES)}", path=path)
    else:
        files = [path]
    known = {*HUB_FIELDS.values(), *ORIGINAL_FIELDS.values()}
    texts = known - {ORIGINAL_FIELDS["license"], ORIGINAL_FIELDS["date"]}
    for file in files:
        yield file, read_rows(file, known, texts=texts)


def list_record_files(folder: Path) -> list[Path]:
    """All files of a known suffix under a folder, by name; hidden ones, and links to folders, are left out.

    Raises: DataError: a folder in it cannot be read: leaving it out would change the data without a word.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot be read: {error.strerror}", path=error.filename) from error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if is_record_file(Path(name), SUFFIXES)]
    return sorted(found)


def read_hub(language: str, task: str, revision: str | None) -> Iterator[tuple[str, Iterable[Row]]]:
    """(split's name, its rows) for every split of the hub's data set.

    Raises:
        HubError: as ``hub.load_hub_splits``.
        SettingsError: the hub has no such language.
    """
    if language.lower() not in HUB_LANGUAGES:
        raise SettingsError(describe_unknown("CodeSearchNet language", language, HUB_LANGUAGES))
    splits = load_hub_splits(HUB_NAME, language.lower(), task=task, revision=revision)
    for name, split in splits.items():
        yield f"{HUB_NAME}/{name}", read_split(split)


def read_split(split: Any) -> Iterator[Row]:
    """(row number from 1, record) for every row of a ``datasets.Dataset``, a batch at a time."""
    split = split.select_columns([name for name in split.column_names if name in HUB_FIELDS.values()])
    number = 0
    for columns in split.iter(batch_size=ROWS_PER_BATCH):
        for values in zip(*columns.values(), strict=True):
            number += 1
            yield number, dict(zip(columns, values, strict=True))
