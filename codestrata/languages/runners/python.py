"""Run Python programs one after another, each in a forked child; a script that ``sandbox`` starts.

Arguments: a JSON object of options (``filter``, ``alone``, ``folder_mib``, ``folder_files``), and the name
of the runner's folder. Reads lines ``{"token": ..., "source": ..., "tests": ..., "cpu_seconds": ...}`` on
standard input; answers each with the token, a blank and ``{"status": ..., "detail": ...}``. The first line
it writes is ``ready``. With a ``filter`` a child can start no process and reach none; ``alone`` says that
every process the runner can see is its own, so that it may kill all that a program left behind.

What this does not do: hide the harness from a program that searches its own process for it. The token, which
alone makes a verdict count, lies in a pipe until the last statement was reached.
"""

import base64
import gc
import importlib
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import types
from contextlib import suppress
from typing import Any

DETAIL_CHARACTERS = 300  # a whole report must fit into the smallest pipe, 4096 bytes
SECONDS_BETWEEN_LOOKS = 0.02
MIB = 2**20

# What programs and their tests commonly import: paid for once here instead of once in every child.
PRELOADED = (
    "abc",
    "bisect",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "re",
    "statistics",
    "string",
    "typing",
    "unittest",
)

# Taken now: by name they could be others once a program has run.
write, read, leave = os.write, os.read, os._exit


def main() -> None:
    """Answer requests until standard input ends."""
    options = json.loads(sys.argv[1])
    if options["alone"]:
        check_alone()
    pristine, kernel = import_neighbours("pristine", "kernel" if options["filter"] else None)
    for name in PRELOADED:
        importlib.import_module(name)
    if kernel is not None:
        kernel.hide_process()
    # Programs get /dev/null as standard streams; these two descriptors are closed in the children.
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.dup(1)
    silence_standard_streams()
    gc.freeze()  # so that collecting in the children does not copy the runner's memory
    os.write(replies, b"ready\n")
    root = os.getcwd()
    for number, line in enumerate(requests):
        if number == 0 or not is_empty_folder("."):
            os.chdir(root)
            os.mkdir(f"from-{number}")
            os.chdir(f"from-{number}")
        request = json.loads(line)
        line = b""  # a program that looks through the frames below it must not find the token
        child = Child(request, options, pristine, kernel)
        status, detail = child.run(private=(requests.fileno(), replies))
        if options["alone"]:
            kill_everything_else()
        empty_folder(".")
        reply = json.dumps({"status": status, "detail": detail})
        os.write(replies, f"{request['token']} {reply}\n".encode())


def import_neighbours(*names: str | None) -> list[Any]:
    """The modules that lie beside this script, out of the programs' reach by name; ``None`` for ``None``."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    modules = [None if name is None else importlib.import_module(name) for name in names]
    sys.path.pop(0)
    for name in names:
        sys.modules.pop(name or "", None)
    return modules


def silence_standard_streams() -> None:
    """Point the three standard descriptors at /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def is_empty_folder(path: str) -> bool:
    """Whether a folder exists and holds nothing: the next program may then start in it."""
    try:
        return not os.listdir(path)
    except OSError:
        return False


def empty_folder(path: str) -> None:
    """Remove what a program left, as far as it lets itself be removed; the parent removes the rest."""
    with suppress(OSError, RecursionError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def check_alone() -> None:
    """End this process unless it is where bubblewrap puts it: in a namespace, right after the first process.

    Elsewhere, killing everything else would kill what the user runs.
    """
    if (os.getppid(), os.getpid()) != (1, 2):
        raise SystemExit(f"not alone: process {os.getpid()}, child of {os.getppid()}, not 2 and 1")


def kill_everything_else() -> None:
    """Kill every process of this namespace but its first and this one."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def measure_folder(path: str, most_files: int) -> tuple[int, int]:
    """How many files lie under ``path`` and how many bytes they take; a closed folder counts as full."""
    files, size, waiting = 0, 0, [path]
    while waiting and files <= most_files:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue  # gone since it was listed
        except OSError:
            files = most_files + 1
    return files, size


class Child:
    """One program in a process of its own."""

    def __init__(self, request: dict[str, Any], options: dict[str, Any], pristine: Any, kernel: Any) -> None:
        self.request, self.options = request, options
        self.pristine, self.kernel = pristine, kernel

    def run(self, private: tuple[int, ...]) -> tuple[str, str]:
        """Status and detail of the program, whose process holds none of the ``private`` descriptors."""
        report, report_end = os.pipe()
        secret, secret_end = os.pipe()
        token = self.request["token"]
        os.write(secret_end, token.encode())
        os.close(secret_end)
        runner = os.getpid()
        process = os.fork()
        if process == 0:
            try:
                if self.kernel is not None:
                    self.kernel.die_with_parent(runner)
                self.request["token"] = token = None
                for descriptor in (*private, report):
                    os.close(descriptor)
                self.give_up_rights()
                status, detail = self.judge()
                write(report_end, read(secret, 64) + f"{status} {detail}".encode("utf-8", "replace"))
            finally:
                leave(0)  # whatever happened, the child must not go on as a second runner
        os.close(report_end)
        os.close(secret)
        try:
            end = self.watch(process, report)
            reported = read_available(report)
        finally:
            os.close(report)
        if reported.startswith(token):
            status, _, detail = reported.removeprefix(token).partition(" ")
            return status, detail
        return "crashed", end

    def give_up_rights(self) -> None:
        """What the runner may and a program may not."""
        seconds = self.request["cpu_seconds"]
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        if self.kernel is not None:
            self.kernel.filter_calls(base64.b64decode(self.options["filter"]))

    def watch(self, process: int, report: int) -> str:
        """How the process ended; it is killed once its folder holds too much."""
        most_files, most_bytes = self.options["folder_files"], self.options["folder_mib"] * MIB
        while True:
            reported = select.select([report], [], [], SECONDS_BETWEEN_LOOKS)[0]
            ended, wait_status = os.waitpid(process, os.WNOHANG)
            if ended:
                return describe_end(os.waitstatus_to_exitcode(wait_status))
            if reported:
                select.select([], [], [], 0.0005)  # it is about to end, or closed its report and goes on
            files, size = measure_folder(".", most_files)
            if files > most_files or size >= most_bytes:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return f"left more than {most_files} files or {most_bytes // MIB} MiB in its folder"

    def judge(self) -> tuple[str, str]:
        """Run the program as a fresh ``__main__`` and say whether its last statement was reached."""
        random.seed(0)  # a score must not change from run to run
        sys.argv = ["program.py"]
        source, tests = self.request["source"], self.request["tests"]
        try:
            imported, used = self.pristine.list_names(tests)
            self.pristine.import_all(imported)
            snapshot = self.pristine.Snapshot(imported)
            judging = compile(tests, "tests.py", "exec", dont_inherit=True)
            namespace = self.open_main({})
            exec(compile(source, "program.py", "exec", dont_inherit=True), namespace)
            if tests:
                snapshot.restore()
                namespace = self.pristine.build_test_namespace(namespace, used, snapshot.builtins)
                exec(judging, self.open_main(namespace))
                snapshot.restore_builtins()
        except BaseException as error:  # SystemExit too: the program did not reach its end
            return "failed", f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS]
        return "passed", ""

    def open_main(self, contents: dict[str, Any]) -> dict[str, Any]:
        """The globals of a new module ``__main__`` that holds ``contents``."""
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        vars(module).update(contents)
        return vars(module)


def read_available(descriptor: int) -> str:
    """What lies in a pipe now; a process that the program left behind may hold the other end open."""
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, 65536).decode()
    except (BlockingIOError, UnicodeDecodeError):
        return ""


def describe_end(exit_code: int) -> str:
    """How a program ended that did not report."""
    if exit_code < 0:
        return f"killed by signal {-exit_code}"
    return f"exited with status {exit_code} before its last statement"


if __name__ == "__main__":
    main()
