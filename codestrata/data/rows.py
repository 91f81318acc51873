"""The rows of a file of records, whatever its type: JSONL (also gzipped), a JSON list, CSV, TSV or Parquet.

What this does not do: know what a row means (``tables`` and ``codesearchnet`` do), or read a file whole.
"""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from codestrata.errors import DataError, shorten
from codestrata.files import (
    LONGEST_LINE_BYTES,
    open_plain,
    parse_jsonl,
    parse_row,
    read_json,
    read_jsonl,
    read_lines,
)

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""What stands between the fields of a table in text, where its first line does not say otherwise."""
OTHER_SEPARATORS = ";\t"
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", *SEPARATORS)
RECORD_SUFFIXES = (*SUFFIXES, ".json", ".json.gz")
"""What the names of files of records end in; of ``.json``, a list of objects or an object per line."""
BYTE_ORDER_MARK = "\ufeff"
ROWS_PER_BATCH = 1000
PLAUSIBLE_UNPACKED_BYTES = 16 * 2**20
MOST_UNPACKED_PER_BYTE = 200
"""Code packs to a fifth or a tenth. What unpacks to more than this many times its size, and to more than the
bytes above, is a bomb."""

Row = tuple[int, Mapping[str, Any]]
Finding = tuple[int, Mapping[str, Any] | DataError]
"""A line with its row, or with what is wrong with it."""


def read_rows(
    path: Path, known: Container[str] | None = None, *, texts: Container[str] = ()
) -> Iterator[Row]:
    """(line or row number from 1, record) for every record of one file.

    A file without suffix is read as JSONL. Texts of CSV and TSV are as they stand in the file; a field with
    nothing in it is "".

    Args:
        path: the file.
        known: the columns that matter; of Parquet, the others are not even read.
        texts: those of them that must hold text, which Parquet says beforehand.

    Raises: DataError: the file is damaged, holds no records, or is of an unknown kind.
    """
    kind = find_kind(path)
    if kind == "parquet":
        rows = read_parquet(path, known, texts)
    elif kind == "packed":
        rows = read_gzipped(path)
    elif kind == "text":
        rows = stop_at_fault(scan_csv(path))
    elif kind == "list":
        rows = read_list(path)
    else:
        rows = read_jsonl(path)
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError("the file holds no records", path=path)


def scan_rows(path: Path, known: Container[str] | None = None) -> Iterator[Finding]:
    """As ``read_rows``, but what is wrong with a line is given in its place, and the next one follows.

    A file that cannot be read on, or has no records, ends with that. A broken line of a file of another kind
    (Parquet, packed text) may be such an end.
    """
    try:
        kind = find_kind(path)
        if kind == "text":
            yield from scan_csv(path)
        elif kind == "lines":
            yield from scan_lines(path)
        elif kind == "packed":
            yield from scan_packed(path)
        elif kind == "list":
            yield from read_list(path)
        else:
            yield from read_parquet(path, known)
    except DataError as error:
        yield error.line or 1, error


def find_kind(path: Path) -> str:
    """How a file is read: ``parquet``, ``packed``, ``text`` (a table), ``list`` (JSON) or ``lines`` (JSONL).

    Raises: DataError: its name ends in an unknown suffix, or it cannot be read.
    """
    name = path.name.lower()
    if path.suffix and not name.endswith(RECORD_SUFFIXES) and os.path.lexists(path):
        raise DataError(f"unknown kind of file: expected {', '.join(RECORD_SUFFIXES)}", path=path)
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith(".gz"):
        return "packed"
    if path.suffix.lower() in SEPARATORS:
        return "text"
    return "list" if name.endswith(".json") and starts_list(path) else "lines"


def is_record_file(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Whether a file of a folder is read, by its name: of a known suffix in any case, and not hidden."""
    return not path.name.startswith(".") and path.name.lower().endswith(suffixes)


def starts_list(path: Path) -> bool:
    """Whether a file begins with a bracket, as a JSON list does and no line of JSONL may."""
    try:
        with open_plain(path) as file:
            return file.read(io.DEFAULT_BUFFER_SIZE).lstrip().startswith(b"[")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error


def read_list(path: Path) -> Iterator[Row]:
    """(number from 1, object) of a JSON list. Raises: DataError: it is none, empty, or holds other values."""
    value = read_json(path)
    if not isinstance(value, list) or not value:
        raise DataError("expected a list of objects, or an object per line", path=path)
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise DataError(f"expected a JSON object, found {type(row).__name__}", path=path, line=number)
        yield number, row


def stop_at_fault(findings: Iterable[Finding]) -> Iterator[Row]:
    """The rows as long as nothing is wrong. Raises: DataError: the first thing that is."""
    for line, row in findings:
        if isinstance(row, DataError):
            raise row
        yield line, row


def scan_lines(path: Path) -> Iterator[Finding]:
    """(line, row or fault) for every non-empty line of JSONL. Raises: DataError: it cannot be read on."""
    try:
        with open_plain(path) as file:
            yield from judge_lines(read_lines(file, path), path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error


def scan_packed(path: Path) -> Iterator[Finding]:
    """(line, row or fault) for every non-empty line of packed JSONL. Raises: DataError: as ``scan_lines``."""
    yield from judge_lines(unpack_lines(path), path)


def judge_lines(lines: Iterable[bytes], path: Path) -> Iterator[Finding]:
    """(line, row or fault) for every non-empty line of JSONL."""
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            yield number, parse_row(line, path, number)
        except DataError as error:
            yield number, error


def read_gzipped(path: Path) -> Iterator[Row]:
    """(line number, record) for every non-empty line of a gzipped JSONL file."""
    yield from parse_jsonl(unpack_lines(path), path)


def unpack_lines(path: Path) -> Iterator[bytes]:
    """The lines of a gzipped file. Raises: DataError: it is damaged, or unpacks to far too much."""
    try:
        with open_plain(path) as packed, gzip.GzipFile(fileobj=packed) as file:
            packed_bytes = os.fstat(packed.fileno()).st_size
            yield from watch_size(read_lines(file, path), packed_bytes, path)
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


def scan_csv(path: Path) -> Iterator[Finding]:
    """(first line, row or fault) for every record of a table in text, whose own first line names columns.

    Quotes are as in RFC 4180; a quoted field may go on over lines. The first line decides what separates the
    fields: the commonest of comma, semicolon and tab in it. Blank lines count as none, columns without a name
    are left out.

    Raises: DataError: it cannot be read, or what its first line says is no list of columns.
    """
    remedy = "save the table as UTF-8 (spreadsheets call it CSV UTF-8)"
    try:
        with open_plain(path) as file:
            yield from parse_csv(decode_lines(read_lines(file, path), path, remedy), path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error


def decode_lines(lines: Iterable[bytes], path: Path, remedy: str) -> Iterator[str]:
    """The lines as text, without the byte order mark that spreadsheets write.

    Raises: DataError: one is not UTF-8 (``remedy`` says what to do then), or holds a NUL; with file and line.
    """
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"not UTF-8: {error.reason} at byte {error.start}: {remedy}"
            raise DataError(message, path=path, line=number) from error
        if "\0" in text:
            raise DataError("holds a NUL byte: damaged, or no text", path=path, line=number)
        yield text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text


def parse_csv(lines: Iterator[str], path: Path) -> Iterator[Finding]:
    """(line, row or fault) for every record; ``path`` is only named in errors. Raises: as ``scan_csv``."""
    opening: list[str] = []
    for text in lines:
        opening.append(text)
        if text.strip():
            break
    if not opening or not opening[-1].strip():
        return
    separator = choose_separator(opening[-1], path)
    reader = csv.reader(chain(opening, lines), delimiter=separator, strict=True)
    names: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            fields = read_record(reader)
        except csv.Error as error:
            fault = DataError(explain_csv(str(error)), path=path, line=line)
            if names is None:
                raise fault from error
            yield line, fault
            continue
        if fields is None:
            return
        if not fields or fields == [""]:
            continue
        if names is None:
            names = check_names([name.strip() for name in fields], path, line)
        elif len(fields) != len(names):
            yield line, DataError(explain_ragged(len(fields), len(names), separator), path=path, line=line)
        else:
            yield line, {name: field for name, field in zip(names, fields, strict=True) if name}


def read_record(reader: Iterator[list[str]]) -> list[str] | None:
    """The next record of a table, with fields as long as a line may be; ``None`` at the end."""
    before = csv.field_size_limit(LONGEST_LINE_BYTES)  # of the whole process: for this record only
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


def choose_separator(header: str, path: Path) -> str:
    """The commonest of comma, semicolon and tab outside the quotes of a table's first line."""
    bare = "".join(header.split('"')[::2])
    usual: str = SEPARATORS.get(path.suffix.lower(), ",")
    choices: list[str] = [usual, *(mark for mark in (",", *OTHER_SEPARATORS) if mark != usual)]
    counts = [bare.count(mark) for mark in choices]
    return choices[counts.index(max(counts))]


def check_names(names: list[str], path: Path, line: int) -> list[str]:
    """The columns of a table. Raises: DataError: two have one name, or none has any."""
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"column {shorten(twice)} occurs twice: rename one", path=path, line=line)
    if not any(names):
        raise DataError("the first line names no columns", path=path, line=line)
    return names


def explain_csv(reason: str) -> str:
    """What Python's reader found wrong with a record, and what to do."""
    if "end of data" in reason:
        return "a quote opens a field here that no quote closes: write a quote inside a field twice"
    if "field larger" in reason:
        return f"a field is longer than {LONGEST_LINE_BYTES / 2**20:g} MiB: does a quote lack its partner?"
    if "new-line character" in reason or "new line" in reason:
        return "a line ends in CR alone, or a field holds one without quotes: save it with LF or CRLF"
    if "expected after" in reason:
        return "text follows the closing quote of a field: write a quote inside a field twice"
    return f"is no table that can be read: {reason}"


def explain_ragged(found: int, expected: int, separator: str) -> str:
    """Why a record of another length than the first line is refused, and what to do."""
    mark = {"\t": "a tab", ";": "a semicolon"}.get(separator, "a comma")
    return (
        f"{found} fields where the first line names {expected} columns: put a field with {mark}, a quote or "
        "a line break in quotes"
    )


def read_parquet(
    path: Path, known: Container[str] | None = None, texts: Container[str] = ()
) -> Iterator[Row]:
    """(row number from 1, record) for every row of a Parquet file; only known columns, a batch at a time."""
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    number = 0
    try:
        open_plain(path).close()  # a pipe would be waited for
        with parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if known is None or name in known]
            check_columns(file.schema_arrow, columns, texts, path)
            for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataError(f"cannot be read as Parquet after row {number}: {error}", path=path) from error


def list_parquet_columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns, in their order. Raises: DataError: it cannot be read."""
    import pyarrow
    from pyarrow import parquet

    try:
        open_plain(path).close()
        with parquet.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataError(f"cannot be read as Parquet: {error}", path=path) from error


def check_columns(schema: Any, columns: Sequence[str], texts: Container[str], path: Path) -> None:
    """Refuse an Arrow schema where two columns are of one name, or one of ``texts`` holds something else.

    Raises: DataError; the line is the first row's.
    """
    from pyarrow import types

    for field in schema:
        if columns.count(field.name) > 1:
            raise DataError(f"field {field.name!r} occurs twice", path=path, line=1)
        inner = field.type.value_type if types.is_dictionary(field.type) else field.type
        is_text = types.is_string(inner) or types.is_large_string(inner) or types.is_null(inner)
        if field.name in columns and field.name in texts and not is_text:
            raise DataError(f"field {field.name!r}: expected text, found {field.type}", path=path, line=1)
