"""Attempts at a run, each in a process of its own that may be killed, stopped, signalled or refused the disk.

A nursery is a process that has everything imported and forks a child per attempt: so one costs no start-up.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

SMALL_DISK_BYTES = 48 * 2**20
SCRIPT = Path(__file__).with_name("nursery.py")


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What happens at a change of the disk.

    The process gets a signal, or the call raises ``OSError(errno)``; at the ``number``-th moment from 1 on,
    counted over everything or over one kind of file (``where``, as ``kinds.describe_place`` calls it). An
    error meets a call before it and in the middle of a write, a signal after it too.
    """

    number: int
    where: str | None = None
    signal: int | None = None
    errno: int | None = None


@dataclass(frozen=True, kw_only=True)
class Order:
    """One attempt: begin or resume a run, or call the command line with ``command``.

    ``tree`` are the settings of a run that is to begin; ``None`` resumes. ``cache`` is the user's cache
    folder. After so many seconds ``signal`` is sent: (number, seconds).
    """

    run: str
    cache: str
    tree: Mapping[str, Any] | None = None
    command: tuple[str, ...] | None = None
    trouble: Trouble | None = None
    signal: tuple[int, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        pid: the process.
        code: its exit code; ``-9`` where a signal 9 ended it.
        seconds: how long it lived.
        activity: what it was at in the end.
        met: the call that trouble met, and the path; empty where none was met.
        error: the exception's name, empty where there was none.
        text: what the exception says.
        trace: where it came from.
        said: what the run's watcher was told in words.
        moments: moments of changes of the disk by kind of file, where the process lived to tell.
        calls: the same of those an error can meet.
        out: its stdout, of a command.
        err: its stderr.
    """

    pid: int
    code: int
    seconds: float
    activity: str
    met: str = ""
    error: str = ""
    text: str = ""
    trace: str = ""
    said: tuple[str, ...] = ()
    moments: Mapping[str, int] = field(default_factory=dict)
    calls: int = 0
    out: str = ""
    err: str = ""

    @property
    def is_done(self) -> bool:
        """Whether it came to its end as it should."""
        return self.code == 0


class Nursery:
    """The process that forks attempts; one attempt at a time, unless one is started and left alone.

    ``prefix`` is a command that starts it, such as one that gives it a file system of its own.
    """

    def __init__(self, *, hash_seed: int = 0, prefix: Sequence[str] = ()) -> None:
        own = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(hash_seed), "COLUMNS": "200"}
        self._process = subprocess.Popen(
            [*prefix, sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **own},
        )

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        finally:
            self._process.kill()
            self._process.__exit__(kind, error, trace)

    def attempt(self, order: Order) -> Outcome:
        """Carry out an order to its end."""
        return self.wait(self.start(order))

    def start(self, order: Order) -> int:
        """Begin with an order: gives its process."""
        return int(self._ask({"start": asdict(order)})["pid"])

    def wait_until_stopped(self, pid: int) -> None:
        """Until the signal SIGSTOP was met."""
        self._ask({"stopped": pid})

    def go_on(self, pid: int) -> None:
        """Have a stopped process go on."""
        self._ask({"go_on": pid})

    def wait(self, pid: int) -> Outcome:
        """How an attempt that was started ends."""
        answer = self._ask({"wait": pid})
        return Outcome(**{**answer, "said": tuple(answer.get("said", ()))})

    def call(self, *command: str | Path) -> None:
        """Run another command where the nursery is, to look at or change its file system."""
        self._ask({"call": [str(word) for word in command]})

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the nursery died (exit code {self._process.wait()}): see its stderr")
        answer: dict[str, Any] = json.loads(line)
        return answer
