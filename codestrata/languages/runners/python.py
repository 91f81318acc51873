"""Run Python programs one after another, each in a forked child; a script that ``sandbox`` starts.

Reads lines ``{"token": ..., "source": ...}`` on standard input; answers each with the token, a blank and
``{"status": ..., "detail": ...}``. The first line it writes is ``ready``.

What this does not do: hide the harness from a program that searches its own process for it.
"""

import importlib
import json
import os
import random
import sys
import types

DETAIL_CHARACTERS = 300  # a whole report must fit into the smallest pipe, 4096 bytes

# What programs commonly import: paid for once here instead of once in every child.
PRELOADED = (
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "functools",
    "heapq",
    "itertools",
    "math",
    "re",
    "string",
)


def main() -> None:
    """Answer requests until standard input ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    # Programs get /dev/null as standard streams; these two descriptors are closed in the children.
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.dup(1)
    silence_standard_streams()
    os.write(replies, b"ready\n")
    root = os.getcwd()
    for number, line in enumerate(requests):
        if number == 0 or not is_empty_folder("."):
            os.chdir(root)
            os.mkdir(f"from-{number}")
            os.chdir(f"from-{number}")
        request = json.loads(line)
        token = request["token"]
        verdict = run_in_child(request["source"], token, (requests.fileno(), replies))
        os.write(replies, f"{token} {json.dumps(verdict)}\n".encode())


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


def run_in_child(source: str, token: str, private: tuple[int, ...]) -> dict[str, str]:
    """The verdict on one program, run in a child that holds none of the ``private`` descriptors."""
    report, report_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for descriptor in (*private, report):
                os.close(descriptor)
            os.write(report_end, (token + json.dumps(judge(source))).encode())
        finally:
            os._exit(0)  # whatever happened, the child must not go on as a second runner
    os.close(report_end)
    _, wait_status = os.waitpid(child, 0)
    reported = read_available(report)
    os.close(report)
    if reported.startswith(token):
        verdict: dict[str, str] = json.loads(reported.removeprefix(token))
        return verdict
    return {"status": "crashed", "detail": describe_end(os.waitstatus_to_exitcode(wait_status))}


def judge(source: str) -> dict[str, str]:
    """Run a program as a fresh ``__main__`` and say whether its last statement was reached."""
    random.seed(0)  # a score must not change from run to run
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    try:
        exec(compile(source, "program.py", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:  # SystemExit too: the program did not reach its end
        return {"status": "failed", "detail": f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS]}
    return {"status": "passed", "detail": ""}


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
