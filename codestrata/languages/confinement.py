"""The rungs of the ladder: for each, the command line that starts a runner confined by it.

``bubblewrap``: namespaces of its own (processes, network, files, IPC), a read-only system, a small file
system in memory as its folder. ``landlock``: the kernel's Landlock for files, TCP and signals. Both with a
seccomp filter, without capabilities and, started by root, as a user of their own. ``deno``: JavaScript only,
by the engine's own refusal to give files, network and processes. ``limits``: resource limits alone.

What this does not do: find out whether a rung holds on this machine (``isolation``), or hold against a fault
in the kernel or, for ``deno``, in V8.
"""

import base64
import json
import os
import platform
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codestrata.errors import ExecutionError, describe_unknown
from codestrata.languages.runtimes import (
    FOLDER_FILES,
    FOLDER_MIB,
    MIB,
    PROCESSES,
    RUNNERS,
    build_environment,
    build_runtime_command,
    check_language,
    list_files_needed,
    remove_contained,
)
from codestrata.languages.seccomp import Strictness, build_filter

RUNGS = ("bubblewrap", "landlock", "deno", "limits")
"""From the strongest to the weakest."""

SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix/store")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

USERS = range(61184, 65520)
"""User numbers that belong to nobody: systemd's range for services without an account."""


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """What confines a language's programs here: a rung of the ladder, or ``None`` with the reason.

    ``runtime`` is what runs the programs (``deno 2.9.8``), ``refused`` tells for every rung that was asked
    and not taken why not.
    """

    language: str
    rung: str | None
    runtime: str | None
    refused: Mapping[str, str]
    reason: str | None = None


def check_rung(rung: str) -> None:
    """Raises: ExecutionError: there is no such rung."""
    if rung not in RUNGS:
        raise ExecutionError(describe_unknown("isolation", rung, RUNGS))


def find_obstacle(language: str, rung: str) -> str | None:
    """Why a rung is out of question here, as far as that can be told without trying it.

    Raises: ExecutionError: the language or the rung is unknown.
    """
    check_language(language)
    check_rung(rung)
    if rung == "deno" and language != "javascript":
        return "deno runs JavaScript only"
    if rung in ("bubblewrap", "landlock") and sys.platform != "linux":
        return f"{rung} is there on Linux only; this is {platform.system()}"
    if rung == "bubblewrap" and shutil.which("bwrap") is None:
        return "the command bwrap is not installed (Debian, Ubuntu, Fedora: package bubblewrap)"
    if rung == "landlock" and build_filter(platform.machine(), "program") is None:
        return f"there is no seccomp filter for the processor {platform.machine()}"
    return None


def choose_user(rung: str) -> int | None:
    """A user number for one runner where this process is root and may give it away; else ``None``.

    A number of its own makes the limit on processes hold, which root is exempt from, and separates runners.
    """
    if rung not in ("bubblewrap", "landlock") or os.geteuid() != 0:
        return None
    return USERS[secrets.randbelow(len(USERS))]


def build_command(
    language: str, rung: str, folder: str, *, user: int | None, limits: Mapping[str, int], memory_mib: int
) -> list[str]:
    """The command that starts a language's runner on a rung.

    Args:
        language: ``javascript``, ``lua`` or ``python``.
        rung: One of ``RUNGS``.
        folder: The runner's own folder; under bubblewrap only its path is taken, for a folder in memory.
        user: As ``choose_user`` gave it; the folder must belong to it.
        limits: As ``runtimes.choose_limits`` gives them.
        memory_mib: Memory of a program.

    Raises: ExecutionError: the language or the rung is unknown, or the language's runtime is not installed.
    """
    obstacle = find_obstacle(language, rung)
    if obstacle is not None:
        raise ExecutionError(f"No isolation by {rung} for {language}: {obstacle}.")
    confined = rung in ("bubblewrap", "landlock")
    options = {
        "memory_mib": memory_mib,
        "filter": build_filter_text("program") if confined else None,
        "alone": rung == "bubblewrap",
        "folder_mib": FOLDER_MIB,
        "folder_files": FOLDER_FILES,
    }
    runtime = build_runtime_command(language, memory_mib, json.dumps(options))
    readable = [
        path for path in (*SYSTEM, *SYSTEM_FILES, *list_files_needed(language)) if os.path.exists(path)
    ]
    plan: dict[str, Any] = {
        "limits": {**limits, **({} if user is None else {"RLIMIT_NPROC": PROCESSES[language]})},
        "user": user,
        "may_read_everything": user is not None
        and rung == "landlock"
        and not all(map(is_open_to_all, readable)),
        "files": None,
        "filter": build_filter_text("engine" if language == "javascript" else "runner") if confined else None,
    }
    if rung == "landlock":
        devices = [path for path in DEVICES if os.path.exists(path)]
        plan["files"] = {"readable": readable, "devices": devices, "writable": folder}
    # The folder's name at the end marks the processes that belong to this runner.
    launcher = [sys.executable, "-I", "-S", str(RUNNERS / "confine.py"), json.dumps(plan), *runtime, folder]
    return [*wrap_in_namespaces(language, folder, user), *launcher] if rung == "bubblewrap" else launcher


def build_filter_text(strictness: Strictness) -> str | None:
    """The seccomp filter as text that fits into JSON; ``None`` where there is none for this processor."""
    program = build_filter(platform.machine(), strictness)
    return None if program is None else base64.b64encode(program).decode()


def is_open_to_all(path: str) -> bool:
    """Whether a user without rights comes as far as ``path``."""
    real = Path(path).resolve()
    return all(folder.stat().st_mode & 0o001 for folder in real.parents)


def wrap_in_namespaces(language: str, folder: str, user: int | None) -> list[str]:
    """The bubblewrap command, up to the command that runs inside."""
    namespaces = ["--unshare-all"]
    capabilities = ["--cap-drop", "ALL"]
    if user is not None:
        # In a namespace of users the runner would be root outside, whom limits on processes do not bind.
        kinds = ("ipc", "pid", "net", "uts", "cgroup-try")
        namespaces = [f"--unshare-{kind}" for kind in kinds]
        capabilities += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # confine.py becomes the user
    environment = [
        word for name, value in build_environment(folder).items() for word in ("--setenv", name, value)
    ]
    return [
        str(shutil.which("bwrap")),
        *namespaces,
        "--die-with-parent",
        "--new-session",
        *capabilities,
        "--clearenv",
        *environment,
        *list_mounts(language, folder),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--perms", "0777", "--size", str(FOLDER_MIB * MIB), "--tmpfs", folder),
        *("--chdir", folder, "--"),
    ]


def list_mounts(language: str, folder: str) -> list[str]:
    """Options that show the system and the runner's files, read-only, and nothing else."""
    links = [path for path in SYSTEM if os.path.islink(path)]
    needed = [*(path for path in SYSTEM if path not in links), *SYSTEM_FILES, *list_files_needed(language)]
    shown = [path for path in remove_contained(needed) if os.path.exists(path)]
    # Made beforehand: the folders that bubblewrap makes on its own are closed to all but their owner.
    ways = sorted({str(parent) for path in (*shown, folder) for parent in Path(path).parents} - {"/"})
    return [
        *(word for path in ways for word in ("--perms", "0755", "--dir", path)),
        *(word for path in shown for word in ("--ro-bind", path, path)),
        *(word for path in links for word in ("--symlink", os.readlink(path), path)),
    ]
