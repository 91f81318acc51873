"""Every call of this process that changes what lies below some folders: told before, in the middle and after.

The functions of ``os`` are replaced for good, so this is for a process that is there for nothing else. What C
code writes by itself (numpy's files of the caches) is not seen.
"""

import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal

Moment = Literal["before", "half", "after"]
Meet = Callable[[str, Path, Moment], None]
"""Is told the call's name, the path that it changes, and the moment: ``half`` is amid a write."""

OF_PATHS = ("mkdir", "unlink", "remove", "rmdir", "chmod", "truncate")
OF_TWO_PATHS = ("replace", "rename", "link")
OF_DESCRIPTORS = ("fsync", "ftruncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND


def watch(roots: Sequence[Path], meet: Meet) -> None:
    """Tell ``meet`` of every change below ``roots`` from now on; what it raises, the call raises."""
    places = [os.path.realpath(root) for root in roots]

    def tell(name: str, target: Any, moment: Moment, folder: int | None = None) -> None:
        path = locate(target, folder)
        if path is not None and any(path == place or path.startswith(place + os.sep) for place in places):
            meet(name, Path(path), moment)

    for name in (*OF_PATHS, *OF_DESCRIPTORS, *OF_TWO_PATHS):
        replace_call(name, tell, which=1 if name in OF_TWO_PATHS else 0)
    replace_open(tell)
    replace_write(tell)


def replace_call(name: str, tell: Callable[..., None], *, which: int) -> None:
    """Have one function of ``os`` tell of itself; ``which`` argument is the path that it changes."""
    real = getattr(os, name)

    @wraps(real)
    def call(*arguments: Any, **options: Any) -> Any:
        folder = options.get("dir_fd")
        tell(name, arguments[which], "before", folder)
        done = real(*arguments, **options)
        tell(name, arguments[which], "after", folder)
        return done

    setattr(os, name, call)


def replace_open(tell: Callable[..., None]) -> None:
    """The same of ``os.open``, where it opens for writing."""
    real = os.open

    @wraps(real)
    def call(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if not flags & WRITING:
            return real(path, flags, *rest, **options)
        tell("open", path, "before", options.get("dir_fd"))
        handle = real(path, flags, *rest, **options)
        try:
            tell("open", path, "after", options.get("dir_fd"))
        except BaseException:
            os.close(handle)
            raise
        return handle

    os.open = call


def replace_write(tell: Callable[..., None]) -> None:
    """The same of ``os.write``, which goes in two halves."""
    real = os.write

    @wraps(real)
    def call(handle: int, content: Any) -> int:
        tell("write", handle, "before")
        view = memoryview(content)
        done = real(handle, view[: len(view) // 2]) if len(view) > 1 else 0
        tell("write", handle, "half")
        done += real(handle, view[done:])
        tell("write", handle, "after")
        return done

    os.write = call


def locate(target: Any, folder: int | None) -> str | None:
    """The absolute path of a path or an open file; ``None`` of what is no file."""
    if isinstance(target, int):
        path = os.readlink(f"/proc/self/fd/{target}")
        return path.removesuffix(" (deleted)") if path.startswith(os.sep) else None
    name = os.fsdecode(target)
    if folder is not None and not os.path.isabs(name):
        name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    head, tail = os.path.split(os.path.abspath(name))
    return os.path.join(os.path.realpath(head), tail)
