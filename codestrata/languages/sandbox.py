"""Run generated programs in batches, in a plain subprocess with limits, and say which reached their end.

One runner process per language takes program after program. Each gets a deadline; at the deadline the
runner's process group is killed and a new runner goes on with the next program. Runners have their own
session, a scrubbed environment, a temporary folder that is removed afterwards, and limits on memory,
processor time, file size, open files and core dumps. Python programs run in forked children, JavaScript in
fresh V8 contexts of a ``deno`` without any permission, Lua in fresh interpreters without ``io``, ``require``
and most of ``os``. A verdict counts only with a random token that the runner was given for this one program.

What this does not do: stop hostile Python. A Python program can read the user's files, use the network,
signal the user's processes, leave processes behind in sessions of their own, fill the disk with many small
files, and, by searching its own process for the harness, forge its own verdict. JavaScript and Lua programs
have no files, network or processes, but nothing here holds against a fault in V8 or Lua. Memory is limited on
Linux; macOS ignores most of these limits; Windows is not supported. Promises of JavaScript are awaited, and
there are no timers. Lua orders the keys of a table at random, anew in every state.
"""

import importlib.util
import json
import math
import os
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from codestrata.errors import ExecutionError, describe_unknown

LANGUAGES = ("javascript", "lua", "python")
RUNNERS = Path(__file__).with_name("runners")
MIB = 2**20

STARTUP_SECONDS = 60.0
"""How long a runner may take to be ready; generous, because it says nothing about a program."""

STARTUP_MIB = {"javascript": 640, "lua": 64, "python": 32}
"""What a runner needs for itself, on top of a program's memory; V8 reserves 512 MiB for machine code."""

FILE_MIB = 4
OPEN_FILES = 128


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one program ended.

    ``passed``: the last statement was reached. ``failed``: an error was raised, or the program left early.
    ``timeout``: it was still running at its deadline. ``crashed``: its process ended without a verdict.
    """

    status: Literal["passed", "failed", "timeout", "crashed"]
    detail: str


def run_programs(
    language: str, programs: Sequence[str], *, timeout_seconds: float, memory_mib: int
) -> list[Outcome]:
    """The outcome of every program, in order; a program is full source that raises an error if it is wrong.

    Args:
        language: ``javascript``, ``lua`` or ``python``.
        programs: Sources; each runs in a fresh global scope.
        timeout_seconds: Wall time of one program, compilation included.
        memory_mib: Memory a program may use (Python: address space; JavaScript: V8's heap, and all data of
            the process; Lua: all of the interpreter's allocations).

    Raises: ExecutionError: programs of this language cannot be run here, or not under this memory limit.
    """
    command = build_command(language, memory_mib)
    limits = choose_limits(language, len(programs), timeout_seconds, memory_mib)
    outcomes: list[Outcome] = []
    while len(outcomes) < len(programs):
        with Runner(command, limits) as runner:
            for program in programs[len(outcomes) :]:
                outcomes.append(runner.run(program, timeout_seconds))
                if not runner.alive:
                    break
    return outcomes


@lru_cache
def explain_missing(language: str) -> str | None:
    """Why programs of this language cannot be run here, found by running one; ``None`` if they can."""
    try:
        (outcome,) = run_programs(language, [""], timeout_seconds=STARTUP_SECONDS, memory_mib=256)
    except ExecutionError as error:
        return str(error)
    return (
        None
        if outcome.status == "passed"
        else f"An empty {language} program {outcome.status}: {outcome.detail}"
    )


def describe_runner(language: str) -> str:
    """What runs a language's programs, with its version, such as ``deno 2.9.8 in a plain subprocess``.

    Raises: ExecutionError: there is no runner for the language.
    """
    check_language(language)
    runtimes = {
        "javascript": lambda: f"deno {version('deno')}",
        "lua": lambda: f"Lua 5.4 (lupa {version('lupa')})",
        "python": lambda: f"Python {platform.python_version()}",
    }
    return f"{runtimes[language]()} in a plain subprocess"


def check_language(language: str) -> None:
    """Refuse a language without a runner.

    Raises: ExecutionError: there is no runner for the language.
    """
    if language not in LANGUAGES:
        raise ExecutionError(describe_unknown("language", language, LANGUAGES))


def build_command(language: str, memory_mib: int) -> list[str]:
    """The command that starts a language's runner.

    Raises: ExecutionError: the language is unknown, its runtime is not installed, or this is Windows.
    """
    check_language(language)
    if os.name != "posix":
        raise ExecutionError(f"Programs are run on Linux and macOS only; this is {platform.system()}.")
    # -s -P and not -I: -I would ignore PYTHONHASHSEED, and the order of sets would change from run to run.
    python = [sys.executable, "-s", "-P"]
    if language == "python":
        return [*python, str(RUNNERS / "python.py")]
    if language == "lua":
        if importlib.util.find_spec("lupa") is None:
            raise ExecutionError("No Lua here: the package lupa is not installed. Run: pip install lupa")
        return [*python, str(RUNNERS / "lua.py"), str(memory_mib)]
    flags = ["--no-prompt", "--no-remote", "--no-npm", "--no-config", "--no-lock", "--no-code-cache"]
    engine = f"--v8-flags=--max-old-space-size={memory_mib},--random-seed=1"
    return [find_deno(), "run", *flags, engine, str(RUNNERS / "javascript.js")]


def find_deno() -> str:
    """The path of the deno executable that came with the package ``deno``.

    Raises: ExecutionError: the package or its executable is missing.
    """
    try:
        from deno import find_deno_bin
    except ImportError as error:
        raise ExecutionError(
            "No JavaScript here: the package deno is not installed. Run: pip install deno"
        ) from error
    try:
        return str(find_deno_bin())
    except FileNotFoundError as error:
        raise ExecutionError(f"No JavaScript here: the package deno lacks its executable {error}.") from error


def choose_limits(language: str, programs: int, timeout_seconds: float, memory_mib: int) -> dict[str, int]:
    """Resource limits of a runner, by their names in the module ``resource``."""
    # With RLIMIT_AS V8 does not even start: it reserves address space far beyond what it uses.
    memory = "RLIMIT_DATA" if language == "javascript" else "RLIMIT_AS"
    return {
        memory: (memory_mib + STARTUP_MIB[language]) * MIB,
        # Deadlines are the parent's work; this ends an endless loop whose parent was killed.
        "RLIMIT_CPU": math.ceil(timeout_seconds * programs + STARTUP_SECONDS),
        "RLIMIT_FSIZE": FILE_MIB * MIB,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_CORE": 0,
    }


def build_environment(folder: str) -> dict[str, str]:
    """The whole environment of a runner; nothing of the parent's, which may hold secrets."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": folder,
        "TMPDIR": folder,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "DENO_DIR": folder,
        "DENO_NO_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
    }


class Runner:
    """One runner process, ready for programs; leaving the ``with`` block kills it and all of its group.

    ``alive`` is False once the process is gone, by its own doing or at a program's deadline.

    Raises: ExecutionError: the process did not become ready.
    """

    def __init__(self, command: Sequence[str], limits: Mapping[str, int]) -> None:
        self.alive = True
        self._folder = tempfile.TemporaryDirectory(prefix="codestrata-", ignore_cleanup_errors=True)
        self._errors = tempfile.TemporaryFile()
        limited = [sys.executable, "-I", "-S", str(RUNNERS / "limited.py"), json.dumps(limits), *command]
        self._process = subprocess.Popen(
            limited,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._folder.name,
            env=build_environment(self._folder.name),
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        try:
            self._wait_until_ready()
        except BaseException:  # an interrupt too must not leave the process behind
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, program: str, timeout_seconds: float) -> Outcome:
        """The outcome of one program."""
        token = secrets.token_hex(16)
        request = json.dumps({"token": token, "source": program}) + "\n"
        with kill_after(self._process, timeout_seconds) as expired:
            outcome = self._exchange(request, token)
        # The deadline may pass just after the verdict was read: the verdict counts, the runner is gone.
        self.alive = outcome is not None and not expired.is_set()
        if outcome is not None:
            return outcome
        if expired.is_set():
            return Outcome("timeout", f"still running after {timeout_seconds:g} s")
        return Outcome("crashed", f"the runner {self._end()}")

    def close(self) -> None:
        """Kill the process group and remove everything that belonged to it."""
        kill_group(self._process)
        self._process.wait()
        with suppress(BrokenPipeError):
            self._input.close()
        self._output.close()
        self._errors.close()
        self._folder.cleanup()

    def _wait_until_ready(self) -> None:
        with kill_after(self._process, STARTUP_SECONDS):
            ready = self._output.readline() == b"ready\n"
        if not ready:
            end = self._end()
            self._errors.seek(0)
            said = self._errors.read(300).decode("utf-8", "replace").strip()
            raise ExecutionError(f"A runner did not start, it {end}. Its last words: {said or 'none'}")

    def _exchange(self, request: str, token: str) -> Outcome | None:
        """Send one request and wait for the line with its token; ``None`` if the process ends first."""
        try:
            self._input.write(request.encode())
            self._input.flush()
        except BrokenPipeError:
            return None
        for line in self._output:
            answered, _, verdict = line.decode("utf-8", "replace").partition(" ")
            if answered == token:
                fields = json.loads(verdict)
                # Lone surrogates are legal in JSON and cannot be written to a UTF-8 file.
                return Outcome(fields["status"], fields["detail"].encode("utf-8", "replace").decode())
        return None

    def _end(self) -> str:
        """How the process ended; called once its output has ended."""
        kill_group(self._process)  # its own end, if it has one, was decided before its output closed
        code = self._process.wait()
        return f"exited with status {code}" if code >= 0 else f"was killed by signal {-code}"

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None  # it is a pipe
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None  # it is a pipe
        return self._process.stdout


@contextmanager
def kill_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """Kill a process group unless the block ends within ``seconds``; the event says whether that happened."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        kill_group(process)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        timer.join()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group, unless it was already waited for and its number may be another's."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):  # macOS: a group of zombies only
            os.killpg(process.pid, signal.SIGKILL)
