"""Run generated programs in batches, confined, and say which reached their end.

A few runner processes per language take program after program. Each program gets a deadline; at the deadline
the runner is killed with everything it started and a new one goes on with the next program. A runner is
confined by a rung of the ladder (``confinement``), chosen by attacking it (``isolation``); whatever the
rung, it has its own session, a scrubbed environment, a folder that is removed afterwards, and limits on
memory, processor time, file size, open files and core dumps. Python programs run in forked children,
JavaScript in fresh V8 contexts of a ``deno`` without any permission, Lua in fresh interpreters without
``io``, ``require`` and most of ``os``. A verdict counts only with a random token that the runner was given
for this one program.

What this does not do: on the rung ``limits``, stop hostile Python: it can read the user's files, use the
network, signal the user's processes, leave processes behind and fill the disk. On every rung a Python
program that searches its own process for the harness can forge its own verdict, as can a completion whose
results are equal to everything. Memory is limited on Linux; macOS ignores most limits; Windows is not
supported. Promises of JavaScript are awaited, and there are no timers. Lua orders the keys of a table at
random, anew in every state.
"""

import json
import math
import os
import secrets
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from codestrata.errors import ExecutionError
from codestrata.languages.confinement import Isolation, build_command, choose_user
from codestrata.languages.runtimes import STARTUP_SECONDS, build_environment, choose_limits

MOST_WORKERS = 2
PROGRAMS_PER_WORKER = 8
"""A further worker is started only for as many more programs: it takes time to start."""
END_SECONDS = 2.0
"""How long the end of a killed runner is awaited."""


@dataclass(frozen=True, slots=True)
class Program:
    """Source code to run, and tests to run after it, which raise an error if it is wrong.

    Between the two, what the source did to the language itself is undone. Without tests, the source judges
    itself.
    """

    source: str
    tests: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one program ended.

    ``passed``: the last statement was reached. ``failed``: an error was raised, or the program left early.
    ``timeout``: it was still running at its deadline. ``crashed``: its process ended without a verdict.
    """

    status: Literal["passed", "failed", "timeout", "crashed"]
    detail: str


def run_programs(
    language: str,
    programs: Sequence[Program],
    *,
    timeout_seconds: float,
    memory_mib: int,
    isolation: Isolation,
    workers: int | None = None,
) -> list[Outcome]:
    """The outcome of every program, in order; equal programs run once.

    Args:
        language: ``javascript``, ``lua`` or ``python``.
        programs: Each runs in a fresh global scope.
        timeout_seconds: Wall time of one program, compilation included.
        memory_mib: Memory a program may use (Python: address space; JavaScript: V8's heap, and all data of
            the process; Lua: all of the interpreter's allocations).
        isolation: What confines the programs, from ``isolation.choose_isolation``.
        workers: Most runners at a time; ``None`` takes 2, or 1 where there is one processor.

    Raises: ExecutionError: nothing confines this language here, or its runner does not start under these
    limits.
    """
    rung = check_isolation(isolation, language)
    distinct = list(dict.fromkeys(programs))
    limits = choose_limits(language, len(distinct), timeout_seconds, memory_mib)
    outcomes: dict[Program, Outcome] = {}
    waiting, lock = iter(distinct), threading.Lock()

    def take() -> Program | None:
        with lock:
            return next(waiting, None)

    def work() -> None:
        program = take()
        while program is not None:
            with Runner(language, rung, limits=limits, memory_mib=memory_mib) as runner:
                while program is not None and runner.alive:
                    outcomes[program] = runner.run(program, timeout_seconds)
                    program = take()

    count = choose_workers(len(distinct), workers)
    with ThreadPoolExecutor(max(1, count)) as pool:
        tasks = [pool.submit(work) for _ in range(count)]
        try:
            for task in tasks:
                task.result()
        finally:
            waiting = iter(())  # after an error or an interrupt the other workers stop at their next program
    return [outcomes[program] for program in programs]


def check_isolation(isolation: Isolation, language: str) -> str:
    """The rung of ``isolation``. Raises: ExecutionError: it has none, or is another language's."""
    if isolation.language != language:
        raise ExecutionError(
            f"The isolation was chosen for {isolation.language}, the programs are {language}: choose anew."
        )
    if isolation.rung is None:
        raise ExecutionError(isolation.reason or f"Nothing confines {language} here: choose an isolation.")
    return isolation.rung


def choose_workers(programs: int, most: int | None) -> int:
    """How many runners so many programs are worth."""
    if most is None:
        most = min(MOST_WORKERS, os.cpu_count() or 1)
    return min(most, math.ceil(programs / PROGRAMS_PER_WORKER))


class Runner:
    """One confined runner process, ready for programs; leaving the ``with`` block kills all that it started.

    ``alive`` is False once the process is gone, by its own doing or at a program's deadline. ``within`` is
    the folder for the runner's own folder; ``None`` takes the system's.

    Raises: ExecutionError: the process did not become ready.
    """

    def __init__(
        self,
        language: str,
        rung: str,
        *,
        limits: dict[str, int],
        memory_mib: int,
        within: Path | None = None,
    ) -> None:
        self.alive = True
        user = choose_user(rung)
        self._folder = Path(tempfile.mkdtemp(prefix="codestrata-", dir=within))
        try:
            command = build_command(
                language, rung, str(self._folder), user=user, limits=limits, memory_mib=memory_mib
            )
            if user is not None:
                os.chown(self._folder, user, user)
            self._errors = tempfile.TemporaryFile()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=self._folder,
                env=build_environment(str(self._folder)),
                start_new_session=True,
            )
        except BaseException:  # an interrupt too must not leave the folder behind
            remove_folder(self._folder)
            raise

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

    def run(self, program: Program, timeout_seconds: float) -> Outcome:
        """The outcome of one program."""
        token = secrets.token_hex(16)
        request = {"token": token, "source": program.source, "tests": program.tests.strip() and program.tests}
        # Threads may use several processors; this only ends what outlives its deadline.
        line = json.dumps({**request, "cpu_seconds": 2 * math.ceil(timeout_seconds)}) + "\n"
        with kill_after(self._process, timeout_seconds) as expired:
            outcome = self._exchange(line, token)
        # The deadline may pass just after the verdict was read: the verdict counts, the runner is gone.
        self.alive = outcome is not None and not expired.is_set()
        if outcome is not None:
            return outcome
        if expired.is_set():
            return Outcome("timeout", f"still running after {timeout_seconds:g} s")
        return Outcome("crashed", f"the runner {self._end()}")

    def close(self) -> None:
        """Kill the process and all that it started, and remove everything that belonged to it."""
        kill_group(self._process)
        self._process.wait()
        wait_until_closed(self._output)
        with suppress(BrokenPipeError):
            self._input.close()
        self._output.close()
        self._errors.close()
        remove_folder(self._folder)

    def _wait_until_ready(self) -> None:
        with kill_after(self._process, STARTUP_SECONDS):
            ready = self._output.readline() == b"ready\n"
        if not ready:
            end = self._end()
            self._errors.seek(0)
            said = self._errors.read().decode("utf-8", "replace").strip()[-300:]
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


def wait_until_closed(pipe: IO[bytes]) -> None:
    """Wait until the last process that holds the other end is gone; in bubblewrap that is the first process.

    Killing bubblewrap kills the namespace's first process and with it all others, but a moment later.
    """
    deadline = time.monotonic() + END_SECONDS
    while (left := deadline - time.monotonic()) > 0 and select.select([pipe], [], [], left)[0]:
        if not os.read(pipe.fileno(), 65536):
            return


def remove_folder(folder: Path) -> None:
    """Remove a folder, however deep; what a process that escaped the limits still writes there may stay."""
    prefix = secrets.token_hex(8)
    moved = 0
    with suppress(OSError):
        while subfolders := remove_files(folder):
            for subfolder in subfolders:
                os.chmod(subfolder, 0o700)
                # Up, not down: a path can be too long for the system, and recursion too deep.
                for inner in remove_files(subfolder):
                    os.chmod(inner, 0o700)
                    os.rename(inner, folder / f"{prefix}-{moved}")
                    moved += 1
                os.rmdir(subfolder)
        os.rmdir(folder)


def remove_files(folder: Path) -> list[Path]:
    """Remove all that lies in a folder but its folders, and list those."""
    with os.scandir(folder) as entries:
        listed = [(Path(entry.path), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for path, is_folder in listed:
        if not is_folder:
            path.unlink()
    return [path for path, is_folder in listed if is_folder]
