"""CodeSearchNet functions, from the hub or from local JSONL, gzipped JSONL and Parquet files.

Two field schemas are read: the hub's (``func_code_string``, ``func_documentation_string``, ...) and the
original one (``code``, ``docstring``, ...); a folder may mix them.

What this does not do: split the functions or turn them into examples (``tasks`` and ``objectives`` do), or
fall back to other data where the hub cannot be reached.

Source: Husain et al. 2019, arXiv:1909.09436.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codestrata.data.tables import read_text, require_text
from codestrata.errors import DataError, HubError, SettingsError, describe_unknown
from codestrata.files import hash_json, parse_jsonl, read_jsonl

HUB_NAME = "code-search-net/code_search_net"
HUB_LANGUAGES = ("go", "java", "javascript", "php", "python", "ruby")
HUB_TIMEOUT_SECONDS = 10.0
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
ROWS_PER_BATCH = 1000

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
}

Row = tuple[int, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """One function with its documentation.

    ``identifier`` depends on the record alone, not on the file or its place there. ``docstring`` is the
    documentation as recorded, empty where there is none; Python ``code`` contains it too. ``repository`` and
    ``partition`` (``train``, ``validation`` or ``test``) are ``None`` where the record does not say.
    """

    identifier: str
    repository: str | None
    name: str
    language: str
    code: str
    docstring: str
    partition: str | None


def load_functions(
    language: str, path: Path | None, *, task: str = "<name>", revision: str | None = None
) -> tuple[list[Function], dict[str, int]]:
    """All functions of a language, in file order, and how many records were left out, by reason.

    Left out are records of another language and exact repetitions of an earlier record.

    Args:
        language: the programming language; upper and lower case are the same.
        path: a ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file, or a folder that holds some at any depth;
            ``None`` takes the hub's data set.
        task: the task's name, for the remedy in errors.
        revision: the hub's branch, tag or commit; ``None`` takes its default.

    Raises:
        DataError: no such file, a record that cannot be read (with file and line; in Parquet the row),
            or no record of this language.
        HubError: the hub could not be reached.
        SettingsError: the hub has no such language.
    """
    functions: list[Function] = []
    identifiers: set[str] = set()
    dropped: Counter[str] = Counter()
    sources = read_hub(language, task, revision) if path is None else read_files(path)
    for place, rows in sources:
        for line, row in rows:
            function = build_function(row, place, line)
            if function.language != language.lower():
                dropped[f"language is {function.language}"] += 1
            elif function.identifier in identifiers:
                dropped["repeated record"] += 1
            else:
                identifiers.add(function.identifier)
                functions.append(function)
    if not functions:
        found = ", ".join(f"{count} whose {reason}" for reason, count in sorted(dropped.items())) or "none"
        message = f"no {language} records (found: {found}); set tasks.{task}.language"
        raise DataError(message, path=path or HUB_NAME)
    return functions, dict(dropped)


def build_function(row: Mapping[str, Any], place: str | Path, line: int) -> Function:
    """One record, of either schema, as a function.

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

    Raises: DataError: there is no such file or folder, or none of a known suffix.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
        if not files:
            raise DataError(f"the folder holds no {', '.join(SUFFIXES)} file", path=path)
    elif not path.exists():
        raise DataError("no such file or folder", path=path)
    elif not path.name.endswith(SUFFIXES):
        raise DataError(f"unknown kind of file: expected {', '.join(SUFFIXES)}", path=path)
    else:
        files = [path]
    for file in files:
        yield file, read_rows(file)


def read_rows(path: Path) -> Iterator[Row]:
    """(line or row number from 1, record) for every record of one file.

    Raises: DataError: the file is damaged or holds no records.
    """
    if path.name.endswith(".parquet"):
        rows = read_parquet(path)
    elif path.name.endswith(".gz"):
        rows = read_gzipped(path)
    else:
        rows = read_jsonl(path)
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError("the file holds no records", path=path)


def read_gzipped(path: Path) -> Iterator[Row]:
    """(line number, record) for every non-empty line of a gzipped JSONL file."""
    try:
        with gzip.open(path) as file:
            yield from parse_jsonl(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be unpacked: {error}", path=path) from error


def read_parquet(path: Path) -> Iterator[Row]:
    """(row number from 1, record) for every row of a Parquet file; only known columns, a batch at a time."""
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    known = {*HUB_FIELDS.values(), *ORIGINAL_FIELDS.values()}
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in known]
            for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataError(f"cannot be read as Parquet after row {number}: {error}", path=path) from error


def read_hub(language: str, task: str, revision: str | None) -> Iterator[tuple[str, Iterable[Row]]]:
    """(split's name, its rows) for every split of the hub's data set.

    Raises:
        HubError: the hub could not be reached within ``HUB_TIMEOUT_SECONDS``, or refused.
        SettingsError: the hub has no such language.
    """
    if language.lower() not in HUB_LANGUAGES:
        raise SettingsError(describe_unknown("CodeSearchNet language", language, HUB_LANGUAGES))
    from datasets import load_dataset  # seconds to import
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the hub client's HTTP library

    try:
        # load_dataset alone would retry for half a minute; in the hub's offline mode it reads its cache.
        if not constants.HF_HUB_OFFLINE:
            HfApi().dataset_info(HUB_NAME, revision=revision, timeout=HUB_TIMEOUT_SECONDS)
        splits = load_dataset(HUB_NAME, language.lower(), revision=revision)
    except (OSError, HTTPError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise HubError(
            f"The hub's data set {HUB_NAME!r} could not be reached ({reason}); "
            f"use local files with --set tasks.{task}.path=FILE"
        ) from error
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
