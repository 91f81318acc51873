"""Locks on files: two processes never work on one thing, and one that dies, however it dies, locks nothing.

A lock is the kernel's (``flock``) and ends with its process. Where a file system has none, the file itself is
the lock: whoever it names holds it for as long as such a process lives.

What this does not do: know whether a process of another host lives; where only names count, it is taken to.
"""

import errno
import json
import os
import platform
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

from codestrata.errors import RunError, StorageError

UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
"""What ``flock`` says where there are no locks; EBADF: on a network, of a file that may only be read."""
HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
PATIENCE_SECONDS = 0.3
"""For how long a lock that is held is asked for again: ``is_locked`` holds one for an instant."""
TAKEOVER_SECONDS = 20.0
"""How long a dead process's lock is contended for, before a person has to look."""
PAUSE_SECONDS = 0.01
OWNER_BYTES = 4096
NOT_FOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags of every opening: a link is refused, and a pipe is not waited for."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that holds a lock, and since when (ISO 8601)."""

    pid: int
    host: str
    started: str


@contextmanager
def hold(path: Path, what: str) -> Iterator[None]:
    """Have ``what`` for oneself for as long as the context lasts; ``path`` says who has it, and then goes.

    A file that a dead process left is taken over.

    Raises:
        RunError: somebody has it, this process included; with the owner.
        StorageError: the file cannot be written.
    """
    try:
        release = lock_by_kernel(path, what) or lock_by_name(path, what)
    except OSError as error:
        advice = f"{what} is locked by this file: its folder must be writable."
        raise StorageError(path, "written", error, advice) from error
    try:
        yield
    finally:
        release()


def open_shared(path: Path) -> Any:
    """The file, made if need be, open for reading and writing; until it is closed ``is_locked``.

    Any number of processes may have it so. Where the file system has no locks, nobody knows of it.

    Raises: StorageError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NOT_FOLLOWED, 0o644)
    except OSError as error:
        raise StorageError(path, "written", error) from error
    file = os.fdopen(descriptor, "r+b", buffering=0)
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                file.close()
                raise StorageError(path, "locked", error) from error
    return file


def is_locked(path: Path) -> bool:
    """Whether a process that lives has the file, by ``hold`` or by ``open_shared``.

    Raises: StorageError: it cannot be opened.
    """
    try:
        descriptor = open_to_ask(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(path, "read", error) from error
    try:
        is_free = ask_kernel(descriptor)
    finally:
        os.close(descriptor)
    if is_free is None:
        owner = read_owner(path)
        return owner is not None and is_alive(owner)
    return not is_free


def open_to_ask(path: Path) -> int:
    """A descriptor to ask the kernel about: for writing where possible, as locks over networks need it."""
    try:
        return os.open(path, os.O_RDWR | NOT_FOLLOWED)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return os.open(path, os.O_RDONLY | NOT_FOLLOWED)


def ask_kernel(descriptor: int) -> bool | None:
    """Ask for the file alone: whether we have it now; ``None`` where the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        if error.errno in UNSUPPORTED:
            return None
        raise
    return True


def lock_by_kernel(path: Path, what: str) -> Callable[[], None] | None:
    """Have the file by ``flock``: gives what releases it, or ``None`` where there are no locks."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NOT_FOLLOWED, 0o644)
        try:
            answer = ask_kernel(descriptor)
            if answer and is_same(descriptor, path):  # else the one before removed it meanwhile
                write_owner(descriptor, path)
                return partial(release_to_kernel, descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if answer is None:
            return None
        if not answer:
            if time.monotonic() > deadline:
                raise RunError(describe_use(what, read_owner(path)))
            time.sleep(PAUSE_SECONDS)


def release_to_kernel(descriptor: int, path: Path) -> None:
    """Remove the file, and only then let go of it. A file that cannot be removed locks nobody out."""
    with suppress(OSError):
        if is_same(descriptor, path):
            os.unlink(path)
    os.close(descriptor)


def is_same(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one that lies there."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def write_owner(descriptor: int, path: Path) -> None:
    """Write into a file that we have alone who that is; if it cannot be written, nothing stays behind."""
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, encode_owner(describe_process()))
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        raise


def lock_by_name(path: Path, what: str) -> Callable[[], None]:
    """Have the file by being named in it: gives what releases it. It appears whole, by a hard link."""
    mine = describe_process()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # as `files.sweep` knows them
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOT_FOLLOWED, 0o644)
    try:
        try:
            os.write(descriptor, encode_owner(mine))
        finally:
            os.close(descriptor)
        deadline = time.monotonic() + TAKEOVER_SECONDS
        while not place(draft, path):
            if time.monotonic() > deadline:
                raise RunError(f"{what} cannot be taken over: remove {path} and {name_guard(path)}.")
            found = read_owner(path)
            if found is not None and is_alive(found):
                remedy = f" If there is no such process any more, remove {path}."
                raise RunError(describe_use(what, found) + remedy)
            clear_dead(draft, path, what)
        return partial(release_name, path, mine)
    finally:
        with suppress(OSError):
            os.unlink(draft)


def place(draft: Path, path: Path) -> bool:
    """Put the draft at ``path`` too; whether there was nothing yet."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    return True


def clear_dead(draft: Path, path: Path, what: str) -> None:
    """Remove the lock of a dead process. One process at a time does: it cannot be another one's by then.

    Raises: RunError: one died while it did that.
    """
    guard = name_guard(path)
    if not place(draft, guard):
        other = read_owner(guard)
        if other is not None and not is_alive(other):
            raise RunError(f"{what} was about to be taken over by a process that died: remove {guard}.")
        time.sleep(PAUSE_SECONDS)
        return
    try:
        if is_dead(path):
            os.unlink(path)
    finally:
        os.unlink(guard)


def name_guard(path: Path) -> Path:
    """What whoever removes a dead lock holds meanwhile."""
    return path.with_name(f"{path.name}.takeover")


def is_dead(path: Path) -> bool:
    """Whether the lock that lies there now is that of a process that is gone, or of none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NOT_FOLLOWED)
    except FileNotFoundError:
        return False
    try:
        owner = decode_owner(descriptor)
        # Whoever is gone now may have let go before, and another one's lock lie there.
        return (owner is None or not is_alive(owner)) and is_same(descriptor, path)
    finally:
        os.close(descriptor)


def release_name(path: Path, mine: Owner) -> None:
    """Remove the file that names us."""
    if read_owner(path) == mine:
        with suppress(OSError):
            os.unlink(path)


def describe_process() -> Owner:
    """This process as an owner."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(pid=os.getpid(), host=platform.node(), started=now)


def encode_owner(owner: Owner) -> bytes:
    """The owner as a lock's content."""
    return json.dumps(asdict(owner)).encode("ascii") + b"\n"


def read_owner(path: Path) -> Owner | None:
    """The owner that a lock's file names; ``None`` where there is no file or it names none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NOT_FOLLOWED)
    except OSError:
        return None
    try:
        return decode_owner(descriptor)
    finally:
        os.close(descriptor)


def decode_owner(descriptor: int) -> Owner | None:
    """The owner that an open file names."""
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        found: Any = json.loads(os.read(descriptor, OWNER_BYTES)) if is_file else None
        owner = Owner(pid=found["pid"], host=found["host"], started=found["started"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    is_number = isinstance(owner.pid, int) and not isinstance(owner.pid, bool) and 0 < owner.pid < 2**31
    words = (owner.host, owner.started)
    is_text = all(isinstance(word, str) and word.isprintable() and len(word) <= 255 for word in words)
    return owner if is_number and is_text else None


def is_alive(owner: Owner) -> bool:
    """Whether the owner's process may live: one of this host that is gone does not."""
    if owner.host != platform.node() or os.name == "nt":  # signal 0 is no question on Windows
        return True
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def describe_use(what: str, owner: Owner | None) -> str:
    """That somebody has it, who, and what to do."""
    by = "another process" if owner is None else f"process {owner.pid} on {owner.host} since {owner.started}"
    return f"{what} is in use by {by}: wait for it, or end it."
