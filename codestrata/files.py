"""Reading and writing files so that a crash leaves the old file or the new one, never half of one.

Whatever codestrata changes on a disk goes through here, so that it is durable once a function is left, and so
that every failure of the disk is one kind of error. Links are replaced or removed, never followed.

What this does not do: know what the files mean, or where a run keeps them (see ``store``).
"""

import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from codestrata.errors import DataError, StorageError, shorten

PART_SUFFIX = ".part"
PART_NAME = re.compile(r"\..+\.[a-z0-9_]{8}" + re.escape(PART_SUFFIX), re.DOTALL)
"""A temporary file of ``write_bytes``: ``.<name>.<8 random characters>.part``."""
BINARY = getattr(os, "O_BINARY", 0)
NO_BLOCK = getattr(os, "O_NONBLOCK", 0)
APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT | BINARY | getattr(os, "O_NOFOLLOW", 0) | NO_BLOCK
ADVICE = {
    errno.ENOSPC: "Make room there, then try again.",
    errno.EDQUOT: "Make room there, then try again.",
    errno.EIO: "The disk may be failing: look at it before you try again.",
    errno.EACCES: "Give yourself the right to do that, or choose another folder.",
    errno.EPERM: "Give yourself the right to do that, or choose another folder.",
    errno.EROFS: "Nothing can be changed on that disk: choose another folder.",
}
"""What to do about a failure, where one can say."""

PIECE_BYTES = 2**20
"""A file is copied in pieces of this size."""
LONGEST_LINE_BYTES = 16 * 2**20
"""A line of a JSONL file may be this long; reading one takes a few times its bytes."""
LARGEST_DOCUMENT_BYTES = 256 * 2**20
DEEPEST_NESTING = 100
MOST_DIGITS = 300
"""A whole number in JSON may have this many digits, so that a float can always hold it too."""


@contextmanager
def explain_failure(path: Path, verb: str) -> Iterator[None]:
    """Whatever the system refuses inside is a ``StorageError``: ``path`` cannot be so and so."""
    try:
        yield
    except OSError as error:
        raise StorageError(path, verb, error, ADVICE.get(error.errno or 0, "")) from error


def write_bytes(path: Path, *pieces: bytes | memoryview) -> None:
    """Replace ``path`` by these bytes in one step: temporary file, fsync, rename, fsync of the folder.

    Raises: StorageError: it cannot be written; the old content is still there, and no temporary file.
    """
    write_pieces(path, pieces)


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """As ``write_bytes``, with bytes that come one after another."""
    make_folder(path.parent)
    with explain_failure(path, "written"):
        prefix = f".{path.name}."
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=PART_SUFFIX)
        try:
            try:
                for piece in pieces:
                    write_all(handle, piece)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.chmod(temporary, 0o644)  # mkstemp makes 0600, which others could not read
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):  # what stays behind is swept up later
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


def find_user_cache() -> Path:
    """The folder in which the user's programs keep what they can make again, with one of ours in it."""
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or usual)) / "codestrata"


def write_all(handle: int, content: bytes | memoryview) -> None:
    """Write all of ``content`` where the open file stands: the system may take it in pieces."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def append_line(path: Path, text: str) -> None:
    """Add ``text``, which has no line break, as a whole line of its own, and make it durable.

    A line that a crash left torn is closed first. The file is made if need be; a link is not followed.

    Raises: StorageError: it cannot be written; the file is as it was.
    """
    make_folder(path.parent)
    with explain_failure(path, "written"):
        handle = os.open(path, APPENDING, 0o644)
        try:
            size = os.lseek(handle, 0, os.SEEK_END)
            is_torn = size > 0 and os.lseek(handle, -1, os.SEEK_END) >= 0 and os.read(handle, 1) != b"\n"
            try:
                write_all(handle, (b"\n" if is_torn else b"") + text.encode("utf-8") + b"\n")
                os.fsync(handle)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)
        if size == 0:
            sync_folder(path.parent)


def make_folder(path: Path, *, fresh: bool = False) -> None:
    """Make a folder, and those above it, durably; one that is there already is fine unless it must be fresh.

    Raises: StorageError: it cannot be made; ``path`` is the folder in question, which may be one above.
    """
    with explain_failure(path, "made"):
        if not fresh and path.is_dir():
            return
        if path.parent != path:
            make_folder(path.parent)
        try:
            os.mkdir(path)
        except FileExistsError:
            if fresh or not path.is_dir():  # else another process was quicker
                raise
        sync_folder(path.parent)


def move(source: Path, target: Path) -> None:
    """Put a file in the place of another on the same disk in one step. Raises StorageError: it cannot be."""
    make_folder(target.parent)
    with explain_failure(target, "written"):
        os.replace(source, target)
        sync_folder(target.parent)
        sync_folder(source.parent)


def share_file(source: Path, target: Path) -> None:
    """Have ``target`` be the same file on the disk as ``source``, in one step; a copy where that cannot be.

    What replaces one of them, as all of this module do, leaves the other as it is.

    Raises: StorageError: ``target`` cannot be written, or ``source`` not be read; the old content is there.
    """
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}{PART_SUFFIX}")
    try:
        os.link(source, temporary, follow_symlinks=False)
    except OSError:  # another disk, a file system without links, or one link too many: a copy tells
        copy_file(source, target)
        return
    try:
        move(temporary, target)
    finally:
        with suppress(OSError):  # where both were one already, the system leaves the temporary name
            os.unlink(temporary)


def copy_file(source: Path, target: Path) -> None:
    """Replace ``target`` by what the plain file ``source`` holds. Raises StorageError: as ``share_file``."""
    with explain_failure(source, "read"):
        file = open_plain(source)
    with file:
        write_pieces(target, iter(partial(read_piece, file, source), b""))


def read_piece(file: io.BufferedReader, path: Path) -> bytes:
    """Some more of an open file; nothing at its end. Raises StorageError: it cannot be read."""
    with explain_failure(path, "read"):
        return file.read(PIECE_BYTES)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder with all that is in it; none there is fine.

    Raises: StorageError: it cannot be removed; of a folder, a part may be gone.
    """
    with explain_failure(path, "removed"):
        try:
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return
        if is_folder:
            shutil.rmtree(path)
        else:
            os.unlink(path)
        sync_folder(path.parent)


def sweep(folder: Path) -> list[Path]:
    """Remove the temporary files that a crash left in a folder, at any depth; gives their paths.

    Nobody else may be writing there. Raises StorageError: one cannot be removed, or a folder not be read.
    """
    found: list[Path] = []
    with explain_failure(folder, "read"):
        if folder.is_dir():
            for place, _, names in os.walk(folder, onerror=raise_error):
                found += [Path(place, name) for name in names if is_temporary(name)]
    for path in found:
        remove(path)
    return sorted(found)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is a temporary one of ``write_bytes``."""
    return PART_NAME.fullmatch(name) is not None


def raise_error(error: OSError) -> None:
    """For functions that take what is to be done with an error."""
    raise error


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable, where the system can do that to a folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by UTF-8 text in one step."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by indented JSON in one step; NaN and infinity are refused (use ``None``)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Replace ``path`` by one JSON document per line in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def open_plain(path: Path) -> io.BufferedReader:
    """``path`` opened for reading bytes, if it is a plain file: a pipe or a device could hold us up for ever.

    Raises: OSError: it cannot be opened, or is something else; ``strerror`` says so in words.
    """
    try:
        check_plain(os.stat(path).st_mode)  # before opening, which alone may already do something to a device
        descriptor = os.open(path, os.O_RDONLY | NO_BLOCK | BINARY)
    except ValueError as error:  # a NUL, or what the file system cannot spell
        raise OSError(errno.EINVAL, f"no path of a file ({error})") from error
    try:
        check_plain(os.fstat(descriptor).st_mode)  # again, as another may lie there by now
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def check_plain(mode: int) -> None:
    """Refuse what is no plain file by its mode. Raises: OSError."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(mode):
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise OSError(errno.EINVAL, f"It is {kind}, not a plain file")


def read_document(path: Path, *, largest: int = LARGEST_DOCUMENT_BYTES) -> str:
    """The UTF-8 text in ``path``.

    Raises: DataError: the file is missing, no plain file, larger than ``largest`` bytes, not UTF-8, or holds
        a NUL.
    """
    try:
        with open_plain(path) as file:
            if os.fstat(file.fileno()).st_size > largest:
                raise DataError(f"larger than {largest / 2**20:g} MiB, the most that is read", path=path)
            content = file.read()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error.reason} at byte {error.start}", path=path) from error
    refuse_nul(text, path)
    return text


def refuse_nul(text: str, path: Path, line: int | None = None) -> None:
    """Refuse text with a NUL in it; ``line`` is where the text begins. Raises: DataError: it has one."""
    place = text.find("\0")
    if place >= 0:
        line = (line or 1) + text.count("\n", 0, place)
        raise DataError("holds a NUL byte: damaged, or no text", path=path, line=line)


def read_json(path: Path, *, largest: int = LARGEST_DOCUMENT_BYTES, allow_nan: bool = False) -> Any:
    """The JSON document in ``path``.

    Raises: DataError: as ``read_document`` and ``parse_json`` say; with the line where known.
    """
    return parse_json(read_document(path, largest=largest), path, allow_nan=allow_nan)


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for every non-empty line of ``path``, counted from 1.

    Raises: DataError: the file is missing or no plain file, or as ``parse_jsonl`` says; with the place.
    """
    try:
        with open_plain(path) as file:
            yield from parse_jsonl(read_lines(file, path), path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error


def read_lines(file: io.BufferedIOBase, path: Path) -> Iterator[bytes]:
    """The lines of an open file, never more of it in memory than one of the longest.

    Raises: DataError: a line is longer than ``LONGEST_LINE_BYTES``; with file and line.
    """
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        if len(line) > LONGEST_LINE_BYTES:
            message = f"the line is longer than {LONGEST_LINE_BYTES / 2**20:g} MiB, the most that is read"
            raise DataError(message, path=path, line=number)
        yield line


def parse_jsonl(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for every non-empty line; ``path`` is only named in errors.

    Raises: DataError: a line is not UTF-8, not an object, or as ``parse_json`` says; with file and line.
    """
    for number, line in enumerate(lines, start=1):
        if not line.isspace():
            yield number, parse_row(line, path, number)


def parse_row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """The object of one line of JSONL; ``path`` and ``number`` are named in errors.

    Raises: DataError: the line is not UTF-8, not an object, or as ``parse_json`` says.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"not UTF-8: {error.reason} at byte {error.start}"
        raise DataError(message, path=path, line=number) from error
    row = parse_json(text, path, line=number)
    if not isinstance(row, dict):
        raise DataError(f"expected a JSON object, found {type(row).__name__}", path=path, line=number)
    return row


def parse_json(text: str, path: Path, *, line: int | None = None, allow_nan: bool = False) -> Any:
    """The JSON value that ``text`` is; ``path`` and ``line`` (``None``: a whole file) are named in errors.

    Stricter than Python's reader, which takes NaN (here only with ``allow_nan``) and infinity, keys that
    occur twice (the last one wins), half surrogate pairs, and any depth and length of number.

    Raises: DataError: any of these, a byte order mark, a NUL, or no JSON at all; with the line where known.
    """
    if text.startswith("\ufeff"):
        message = "starts with a byte order mark: save it as UTF-8 without one"
        raise DataError(message, path=path, line=line or 1)
    refuse_nul(text, path, line)
    try:
        value = json.loads(
            text,
            object_pairs_hook=build_object,
            parse_constant=parse_nan if allow_nan else refuse_constant,
            parse_float=parse_fraction,
            parse_int=parse_whole,
        )
    except json.JSONDecodeError as error:
        column = error.colno if line is None else error.pos + 1
        message = f"not JSON: {error.msg} (column {column})"
        raise DataError(message, path=path, line=line or error.lineno) from error
    except RecursionError as error:
        raise DataError("not usable JSON: nested too deeply", path=path, line=line) from error
    except ValueError as error:
        raise DataError(f"not usable JSON: {error}", path=path, line=line) from error
    fault = find_fault(value) if needs_search(text) else None
    if fault is not None:
        raise DataError(fault, path=path, line=line)
    return value


def build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises: ValueError: a key occurs twice."""
    built = dict(pairs)
    if len(built) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shorten(twice)} occurs twice in one object")
    return built


def refuse_constant(word: str) -> float:
    """Refuse what Python's reader takes for a number. Raises: ValueError."""
    raise ValueError(f"{word} is no number in JSON; null says not measured")


def parse_nan(word: str) -> float:
    """NaN, which Python writes into JSON. Raises: ValueError: infinity."""
    return math.nan if word == "NaN" else refuse_constant(word)


def parse_fraction(digits: str) -> float:
    """A number with a point or an exponent. Raises: ValueError: too large for a float."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {shorten(digits)} is too large")
    return number


def parse_whole(digits: str) -> int:
    """A whole number that a float can hold too. Raises: ValueError: it has more digits than that."""
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits is too large")
    return int(digits)


def needs_search(text: str) -> bool:
    """Whether JSON text could hold what ``find_fault`` looks for; nearly none does."""
    return "\\ud" in text or "\\uD" in text or text.count("[") + text.count("{") > DEEPEST_NESTING


def find_fault(value: Any) -> str | None:
    """What no later step could bear in a JSON value: half a surrogate pair, or too deep a nesting."""
    waiting = [(value, 0, "a text")]
    while waiting:
        entry, depth, place = waiting.pop()
        if depth > DEEPEST_NESTING:
            return "not usable JSON: nested too deeply"
        if isinstance(entry, dict):
            waiting += [(key, depth + 1, "a key") for key in entry]
            for key, inner in entry.items():
                waiting.append((inner, depth + 1, place if depth else f"field {shorten(key)}"))
        elif isinstance(entry, list):
            waiting += [(inner, depth + 1, place) for inner in entry]
        elif isinstance(entry, str):
            half = find_half_pair(entry)
            if half is not None:
                return f"{place} holds half a surrogate pair at character {half}"
    return None


def find_half_pair(text: str) -> int | None:
    """Where half a surrogate pair stands, which JSON can escape and UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def hash_text(text: str) -> str:
    """SHA-256 of UTF-8 text, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 over canonical JSON (sorted keys, no spaces), as 64 hexadecimal digits."""
    return hash_text(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False))


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits. Raises StorageError: it cannot be read."""
    with explain_failure(path, "read"):
        handle = os.open(path, os.O_RDONLY | BINARY | NO_BLOCK)  # a pipe would be waited for without end
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "Not a regular file")
            return hashlib.file_digest(file, "sha256").hexdigest()
