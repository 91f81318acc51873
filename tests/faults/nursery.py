"""Imports codestrata once and forks a child for every attempt at a run, as ``attempts`` asks it to.

Requests and answers are lines of JSON on stdin and stdout. A process that never computed has one thread, so
that forking it is safe; this is checked before every fork.
"""

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What codestrata imports only where it is needed is imported here for all children together.
import bm25s
import torch
import transformers.models.t5.modeling_t5
import tree_sitter_javascript
import tree_sitter_python
from attempts import Order, Trouble
from kinds import describe_place
from watched_disk import Moment, watch

from codestrata.cli.main import main as call_command_line
from codestrata.experiment import cells, walk
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory

IMPORTED = (bm25s, transformers, tree_sitter_javascript, tree_sitter_python)
SLOT = 200
ACTIVITY, PLACE, MET = 0, SLOT, 2 * SLOT
"""Where in the shared memory it says what a child is at, on which kind of file, and what trouble it met."""
LABELS = {"load": "loading", "decode": "decoding", "train": "training", "controls": "controls"}


class Board:
    """Short texts in memory that a child shares with the nursery, there even after the child was killed."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 3 * SLOT)

    def write(self, slot: int, text: str) -> None:
        """Replace a text."""
        content = text.encode("utf-8", "replace")[-SLOT:]
        self._memory[slot : slot + SLOT] = content.ljust(SLOT, b"\0")

    def read(self, slot: int) -> str:
        """The text there."""
        return bytes(self._memory[slot : slot + SLOT]).rstrip(b"\0").decode("utf-8", "replace")


@dataclass
class Child:
    """An attempt under way."""

    pid: int
    board: Board
    result: Any
    streams: tuple[Any, Any]
    started: float
    signal: tuple[int, float] | None


class Watcher:
    """A run's progress: what it is at goes to the board, what it says is kept."""

    def __init__(self, board: Board) -> None:
        self.said: list[str] = []
        self._board = board

    def start(self, label: str, total: int) -> None:
        """A phase begins."""
        self._board.write(ACTIVITY, next((name for word, name in LABELS.items() if word in label), label))

    def advance(self, done: int, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


class Fate:
    """Counts the moments at which the disk changes, and has the ordered trouble come at one of them.

    A cache never fails: that is no failure of a run, but may change its last bits.
    """

    def __init__(self, run: Path, trouble: Trouble | None, board: Board) -> None:
        self.moments: Counter[str] = Counter()
        self.calls = 0
        self._run, self._trouble, self._board = Path(os.path.realpath(run)), trouble, board

    def meet(self, name: str, path: Path, moment: Moment) -> None:
        """One moment of one call."""
        place = describe_place(self._run, path)
        self._board.write(PLACE, place)
        self.moments[place] += 1
        can_fail = moment != "after" and place != "cache"
        self.calls += can_fail
        trouble = self._trouble
        if trouble is not None and self._count(trouble, place, can_fail) == trouble.number:
            self._trouble = None
            self._board.write(MET, f"{moment} {name} {path}")
            strike(trouble, path)
        if moment == "after":
            self._board.write(PLACE, "")

    def _count(self, trouble: Trouble, place: str, can_fail: bool) -> int:
        """The number of this moment as the trouble counts; 0 where it does not."""
        if trouble.signal is None:
            return self.calls if can_fail else 0
        if trouble.where is None:
            return self.moments.total()
        return self.moments[place] if place == trouble.where else 0


def strike(trouble: Trouble, path: Path) -> None:
    """Do to this process what was ordered."""
    if trouble.signal is not None:
        os.kill(os.getpid(), trouble.signal)
    else:
        assert trouble.errno is not None
        raise OSError(trouble.errno, os.strerror(trouble.errno), str(path))


def mark(board: Board, module: Any, name: str, activity: str) -> None:
    """Have a function of codestrata say on the board that it is at work."""
    real = getattr(module, name)

    def call(*arguments: Any, **options: Any) -> Any:
        before = board.read(ACTIVITY)
        board.write(ACTIVITY, activity)
        done = real(*arguments, **options)
        board.write(ACTIVITY, before)
        return done

    setattr(module, name, call)


def live(order: Order, board: Board) -> dict[str, Any]:
    """A child's life: what it has to tell in the end."""
    os.environ["XDG_CACHE_HOME"] = order.cache
    fate, watcher = Fate(Path(order.run), order.trouble, board), Watcher(board)
    board.write(ACTIVITY, "starting")
    for module, name, activity in (
        (cells, "score", "scoring"),
        (walk, "describe_run", "statistics"),
        (walk, "render_analysis", "analysis"),
    ):
        mark(board, module, name, activity)
    watch([Path(order.run), Path(order.cache)], fate.meet)
    told: dict[str, Any] = {"code": 0}
    try:
        told["code"] = carry_out(order, watcher)
    except Exception as error:
        told |= {
            "code": 1,
            "error": type(error).__name__,
            "text": str(error),
            "trace": traceback.format_exc(),
        }
    return told | {"said": watcher.said, "moments": dict(fate.moments), "calls": fate.calls}


def carry_out(order: Order, watcher: Watcher) -> int:
    """Do what is ordered; gives the exit code."""
    if order.command is not None:
        return call_command_line(order.command)
    path = Path(order.run)
    if order.tree is None:
        walk.resume_experiment(RunDirectory(path), progress=watcher)
    else:
        walk.run_experiment(build_settings(order.tree), root=path.parent, name=path.name, progress=watcher)
    return 0


def start(order: Order) -> Child:
    """Fork a child that carries out the order."""
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"{len(threads)} threads: forking would not be safe"
    board, result = Board(), tempfile.TemporaryFile()
    streams = (tempfile.TemporaryFile(), tempfile.TemporaryFile())
    started = time.monotonic()
    pid = os.fork()
    if pid:
        return Child(pid, board, result, streams, started, order.signal)
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, stream in enumerate(streams, 1):
            os.dup2(stream.fileno(), number)
        told = live(order, board)
        sys.stdout.flush()
        sys.stderr.flush()
        result.write(json.dumps(told).encode())
        result.flush()
        code = told["code"]
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait(child: Child) -> dict[str, Any]:
    """What became of a child; its signal is sent when it is time to."""
    status = None
    if child.signal is not None:
        number, seconds = child.signal
        while status is None and time.monotonic() - child.started < seconds:
            status = look(child.pid)
            time.sleep(0.002)
        if status is None:
            os.kill(child.pid, number)
    while status is None:
        status = look(child.pid)
        time.sleep(0.002)
    for stream in (child.result, *child.streams):
        stream.seek(0)
    content = child.result.read()
    told = json.loads(content) if content else {}
    return {
        "activity": child.board.read(PLACE) or child.board.read(ACTIVITY),
        "met": child.board.read(MET),
        **told,
        "pid": child.pid,
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - child.started,
        "out": child.streams[0].read().decode(),
        "err": child.streams[1].read().decode(),
    }


def look(pid: int) -> int | None:
    """The status of a child that is over."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return status if found else None


def wait_until_stopped(pid: int) -> None:
    """Until a child has stopped."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"the process ended ({status}) instead of stopping"


def answer(request: Mapping[str, Any], children: dict[int, Child]) -> dict[str, Any]:
    """What a request leads to."""
    ((verb, value),) = request.items()
    if verb == "start":
        trouble = value["trouble"] and Trouble(**value["trouble"])
        child = start(Order(**{**value, "trouble": trouble}))
        children[child.pid] = child
        return {"pid": child.pid}
    act: dict[str, Callable[[Any], Any]] = {
        "stopped": wait_until_stopped,
        "go_on": lambda pid: os.kill(pid, signal.SIGCONT),
        "wait": lambda pid: wait(children.pop(pid)),
        "call": lambda command: subprocess.check_call(command, stdin=subprocess.DEVNULL, stdout=2),
    }
    found = act[verb](value)
    return found if isinstance(found, dict) else {}


def main() -> None:
    """Answer requests until there are no more; then end what is still under way."""
    torch.set_num_threads(1)
    children: dict[int, Child] = {}
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    try:
        for line in requests:
            answers.write(json.dumps(answer(json.loads(line), children)) + "\n")
            answers.flush()
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
    os._exit(0)  # nothing to tidy up, and torch would take seconds for it


if __name__ == "__main__":
    main()
