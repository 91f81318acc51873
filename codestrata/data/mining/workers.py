"""Processes that mine files: started bare, so that nothing of the caller's program is run again in them.

A worker reads lists of files on its standard input and answers with what they gave. It ends when its input
does, also where the process that started it was killed. One that dies loses the file it was at, and no other.

What this does not do: say which files (``miner`` does), or mine one (``harvest`` does).
"""

import os
import pickle
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from codestrata.data.mining.harvest import SLOW, Harvest, harvest_file
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.seen import Seen
from codestrata.data.mining.sources import SourceFile
from codestrata.errors import DataError

LENGTH = struct.Struct(">Q")
MOST_FILES_IN_CHUNK = 32
MOST_BYTES_IN_CHUNK = 2**20
CHUNKS_AHEAD_PER_WORKER = 3
"""So many chunks may be under way or wait for their turn in the file, for each worker."""
MOST_SECONDS = 600.0
"""A worker that does not answer for so long is ended; parses have a limit of their own, far below."""
DIED = "its worker process died"
NO_START = "a process that mines cannot be started"
REMEDY = "try again with one job"
HOME = str(Path(__file__).parents[3])
"""Where workers find the package that this process runs."""
MEMORY_FILE = Path("/proc/self/status")


class Crew:
    """Some worker processes, each with a thread that waits for it; use it as a context."""

    def __init__(self, language: str, options: MiningOptions) -> None:
        self.memory_mib: float | None = None
        """The most memory that any worker has needed so far."""
        self._task = (language, options)
        self._workers: dict[int, Worker] = {}
        self._is_closing = False
        self._size = options.workers
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="mining")

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing = True
        for worker in list(self._workers.values()):
            worker.end()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers.values():  # one that was started meanwhile
            worker.end()

    def harvest(self, files: Iterable[SourceFile]) -> Iterator[tuple[SourceFile, Harvest]]:
        """What each file gave, in the order of the files, as soon as it and all before it are done.

        Raises: DataError: a worker cannot be started.
        """
        waiting: deque[tuple[list[SourceFile], Future[list[Harvest]]]] = deque()
        for chunk in cut(files):
            waiting.append((chunk, self._threads.submit(self._ask, chunk)))
            if len(waiting) >= CHUNKS_AHEAD_PER_WORKER * self._size:
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        for done, future in waiting:
            yield from zip(done, future.result(), strict=True)

    def _ask(self, chunk: Sequence[SourceFile]) -> list[Harvest]:
        """What the files of a chunk gave; where a worker dies, they are tried one by one."""
        harvests, _ = self._try(chunk)
        if harvests is not None:
            return harvests
        found = []
        for file in chunk:
            harvests, reason = self._try([file])
            found += harvests or [Harvest(file.bytes, skipped=reason)]
        return found

    def _try(self, chunk: Sequence[SourceFile]) -> tuple[list[Harvest] | None, str]:
        """What the files gave, or why this thread's worker did not say."""
        thread = threading.get_ident()
        worker = self._workers.get(thread)
        if self._is_closing:
            return None, DIED
        if worker is None:
            worker = self._workers[thread] = Worker(self._task)
        if self._is_closing:  # it was, while that one started
            worker.end()
        try:
            harvests, memory = worker.ask(chunk)
        except (EOFError, OSError, pickle.UnpicklingError):
            worker.end()
            del self._workers[thread]
            return None, SLOW if worker.is_late else DIED
        self.memory_mib = max(filter(None, (self.memory_mib, memory)), default=None)
        return harvests, ""


class Worker:
    """One process. Raises: DataError: it does not start."""

    def __init__(self, task: tuple[str, MiningOptions]) -> None:
        self.is_late = False
        paths = os.pathsep.join(filter(None, (HOME, os.environ.get("PYTHONPATH"))))
        try:
            # Neither the current folder, which may be the mined tree, nor the terminal's Ctrl-C reaches it.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __spec__.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": paths},
                start_new_session=True,
            )
        except OSError as error:
            raise DataError(f"{NO_START} ({error.strerror}): {REMEDY}") from error
        try:
            send(self._input, task)
            receive(self._output)
        except (EOFError, OSError) as error:
            self.end()
            raise DataError(f"{NO_START}: {REMEDY}") from error

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None  # it is a pipe
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None  # it is a pipe
        return self._process.stdout

    def ask(self, chunk: Sequence[SourceFile]) -> tuple[list[Harvest], float | None]:
        """What files gave, and the most memory that the process has needed. Raises: EOFError: it died."""
        timer = threading.Timer(MOST_SECONDS, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            send(self._input, list(chunk))
            answer: tuple[list[Harvest], float | None] = receive(self._output)
            return answer
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self.is_late = True
        self._process.kill()

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._input, self._output):
            with suppress(OSError):  # what was not sent yet cannot be
                stream.close()


def cut(files: Iterable[SourceFile]) -> Iterator[list[SourceFile]]:
    """The files in lists that are neither long nor, but for one large file, large."""
    chunk: list[SourceFile] = []
    for file in files:
        is_full = sum(entry.bytes for entry in chunk) + file.bytes > MOST_BYTES_IN_CHUNK
        if chunk and (is_full or len(chunk) == MOST_FILES_IN_CHUNK):
            yield chunk
            chunk = []
        chunk.append(file)
    if chunk:
        yield chunk


def send(stream: IO[bytes], value: Any) -> None:
    """Write a value to a process. Raises: OSError: it is gone."""
    content = pickle.dumps(value)
    stream.write(LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """The next value that a process writes. Raises: EOFError: it is gone."""
    head = stream.read(LENGTH.size)
    content = stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""
    if not content:
        raise EOFError
    return pickle.loads(content)


def find_peak_memory() -> float | None:
    """The most memory that this process has needed in MiB, where the system says."""
    try:
        text = MEMORY_FILE.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    lines = [line.split() for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) / 1024 if lines else None


def work() -> None:
    """Answer until the input ends. What anything prints goes to standard error, away from the answers."""
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    language, options = receive(sys.stdin.buffer)
    send(answers, "ready")
    mined = Seen()
    while True:
        try:
            chunk = receive(sys.stdin.buffer)
        except EOFError:
            return
        harvests = [harvest_file(file, language, options, mined) for file in chunk]
        send(answers, (harvests, find_peak_memory()))


if __name__ == "__main__":
    work()
