"""What runs a language's programs: the command, its version, its limits and its environment.

What this does not do: confine anything (``confinement``) or start anything (``sandbox``).
"""

import importlib.util
import math
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from codestrata.errors import ExecutionError, describe_unknown

LANGUAGES = ("javascript", "lua", "python")
RUNNERS = Path(__file__).with_name("runners")
MIB = 2**20

STARTUP_SECONDS = 60.0
"""How long a runner may take to be ready; generous, because it says nothing about a program."""

STARTUP_MIB = {"javascript": 640, "lua": 64, "python": 64}
"""What a runner needs for itself, on top of a program's memory; V8 reserves 512 MiB for machine code."""

FILE_MIB = 4
FOLDER_MIB = 64
FOLDER_FILES = 1000
OPEN_FILES = 128

PROCESSES = {"javascript": 512, "lua": 16, "python": 32}
"""Most processes and threads of a runner that has a user number of its own; deno starts threads per core."""


def check_language(language: str) -> None:
    """Refuse a language without a runner.

    Raises: ExecutionError: there is no runner for the language.
    """
    if language not in LANGUAGES:
        raise ExecutionError(describe_unknown("language", language, LANGUAGES))


def describe_runtime(language: str) -> str:
    """What runs a language's programs, with its version, such as ``deno 2.9.8``.

    Raises: ExecutionError: there is no runner for the language, or its runtime is not installed.
    """
    check_language(language)
    if language == "javascript":
        find_deno()
        return f"deno {version('deno')}"
    if language == "lua":
        check_lupa()
        return f"Lua 5.4 (lupa {version('lupa')})"
    return f"Python {platform.python_version()}"


def build_runtime_command(language: str, memory_mib: int, options: str) -> list[str]:
    """The command that starts a language's runner; ``options`` is JSON for it (see ``runners``).

    Raises: ExecutionError: the language is unknown, its runtime is not installed, or this is Windows.
    """
    check_language(language)
    if os.name != "posix":
        raise ExecutionError(f"Programs are run on Linux and macOS only; this is {platform.system()}.")
    # -s -P and not -I: -I would ignore PYTHONHASHSEED, and the order of sets would change from run to run.
    python = [sys.executable, "-s", "-P"]
    if language == "python":
        return [*python, str(RUNNERS / "python.py"), options]
    if language == "lua":
        check_lupa()
        return [*python, str(RUNNERS / "lua.py"), options]
    flags = ["--no-prompt", "--no-remote", "--no-npm", "--no-config", "--no-lock", "--no-code-cache"]
    engine = f"--v8-flags=--max-old-space-size={memory_mib},--random-seed=1"
    return [find_deno(), "run", *flags, engine, str(RUNNERS / "javascript.js"), options]


def check_lupa() -> None:
    """Raises: ExecutionError: the package lupa is not installed."""
    if importlib.util.find_spec("lupa") is None:
        raise ExecutionError("No Lua here: the package lupa is not installed. Run: pip install lupa")


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


def list_files_needed(language: str) -> list[str]:
    """Folders and files that a runner reads beside the system's: interpreter, packages, runner, engine."""
    python = Path(sys.executable)
    prefixes = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    wanted = [*prefixes, *map(os.path.realpath, prefixes), str(python.resolve().parents[1]), str(RUNNERS)]
    if language == "javascript":
        wanted.append(find_deno())
    return remove_contained(wanted)


def remove_contained(paths: Sequence[str]) -> list[str]:
    """The paths, sorted, without those that lie in another of them."""
    kept: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths}):
        if not any(Path(path).is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


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
