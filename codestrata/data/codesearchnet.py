"""CodeSearchNet functions, from the hub or from local JSONL, gzipped JSONL and Parquet files.

Two field schemas are read: the hub's (``func_code_string``, ``func_documentation_string``, ...) and the
original one (``code``, ``docstring``, ...); a folder may mix them.

What this does not do: split the functions or turn them into examples (``tasks`` and ``objectives`` do), or
fall back to other data where the hub cannot be reached.

Source: Husain et al. 2019, arXiv:1909.09436.
"""

import gzip
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codestrata.data.tables import read_text, require_text
from codestrata.errors import DataError, HubError, SettingsError, describe_unknown, shorten
from codestrata.files import hash_json, open_plain, parse_jsonl, read_jsonl, read_lines

HUB_NAME = "code-search-net/code_search_net"
HUB_LANGUAGES = ("go", "java", "javascript", "php", "python", "ruby")
HUB_TIMEOUT_SECONDS = 10.0
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
ROWS_PER_BATCH = 1000
MOST_REASONS_NAMED = 12
PLAUSIBLE_UNPACKED_BYTES = 16 * 2**20
MOST_UNPACKED_PER_BYTE = 200
"""Code packs to a fifth or a tenth. What unpacks to more than this many times its size, and to more than the
bytes above, is a bomb."""

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
            function = build_function(row, place, line)
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

    Raises: DataError: there is no such file or folder, it cannot be read, or none has a known suffix.
    """
    if os.path.isdir(path):
        files = list_record_files(path)
        if not files:
            raise DataError(f"the folder holds no {', '.join(SUFFIXES)} file", path=path)
    elif not os.path.lexists(path):
        raise DataError("no such file or folder", path=path)
    elif not path.name.endswith(SUFFIXES):
        raise DataError(f"unknown kind of file: expected {', '.join(SUFFIXES)}", path=path)
    else:
        files = [path]
    for file in files:
        yield file, read_rows(file)


def list_record_files(folder: Path) -> list[Path]:
    """All files of a known suffix under a folder, by name; links to folders are not followed.

    Raises: DataError: a folder in it cannot be read: leaving it out would change the data without a word.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot be read: {error.strerror}", path=error.filename) from error

    found = [
        Path(place, name)
        for place, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if name.endswith(SUFFIXES)
    ]
    return sorted(found)


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
        with open_plain(path) as packed, gzip.GzipFile(fileobj=packed) as file:
            packed_bytes = os.fstat(packed.fileno()).st_size
            yield from parse_jsonl(watch_size(read_lines(file, path), packed_bytes, path), path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be unpacked: {error}", path=path) from error


def watch_size(lines: Iterable[bytes], packed_bytes: int, path: Path) -> Iterator[bytes]:
    """The lines, as long as they are no more than a packed file of this size can mean to hold.

    Raises: DataError: they are; with file and line.
    """
    most = max(PLAUSIBLE_UNPACKED_BYTES, MOST_UNPACKED_PER_BYTE * packed_bytes)
    unpacked = 0
    for number, line in enumerate(lines, start=1):
        unpacked += len(line)
        if unpacked > most:
            found = f"unpacks to more than {MOST_UNPACKED_PER_BYTE} times its size"
            raise DataError(f"{found}: unpack it first if it is meant so", path=path, line=number)
        yield line


def read_parquet(path: Path) -> Iterator[Row]:
    """(row number from 1, record) for every row of a Parquet file; only known columns, a batch at a time."""
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    known = {*HUB_FIELDS.values(), *ORIGINAL_FIELDS.values()}
    number = 0
    try:
        open_plain(path).close()  # a pipe would be waited for
        with parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in known]
            check_columns(file.schema_arrow, columns, path)
            for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataError(f"cannot be read as Parquet after row {number}: {error}", path=path) from error


def check_columns(schema: Any, columns: Sequence[str], path: Path) -> None:
    """Refuse an Arrow schema with columns that hold no text, or two of one name; the line is the first row's.

    Raises: DataError.
    """
    from pyarrow import types

    for field in schema:
        if columns.count(field.name) > 1:
            raise DataError(f"field {field.name!r} occurs twice", path=path, line=1)
        inner = field.type.value_type if types.is_dictionary(field.type) else field.type
        is_text = types.is_string(inner) or types.is_large_string(inner) or types.is_null(inner)
        if field.name in columns and not is_text:
            raise DataError(f"field {field.name!r}: expected text, found {field.type}", path=path, line=1)


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
