"""Asking git about a stranger's repository: nothing that its configuration or hooks name is run.

What this does not do: change a repository, reach the network, or know what an answer means.
"""

import os
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO

TIMEOUT_SECONDS = 60
KEPT_VARIABLES = ("GIT_CONFIG_GLOBAL", "GIT_EXEC_PATH")
"""Of the variables that steer git only these are left: a hook's GIT_DIR would lead to another repository."""
VARIABLES = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
}
SAFE_OPTIONS = (
    *("--no-pager", "--no-optional-locks", "--literal-pathspecs"),
    *(
        "-c",
        "core.fsmonitor=false",
        "-c",
        f"core.hooksPath={os.devnull}",
        "-c",
        "log.showSignature=false",
        "-c",
        "log.showRoot=true",
        "-c",
        "log.date=default",
        "-c",
        "log.diffMerges=separate",
        "-c",
        "format.pretty=medium",
        "-c",
        "diff.relative=false",
        "-c",
        f"diff.orderFile={os.devnull}",
    ),
)
"""What is configured otherwise would run a program, or change what we read or whether git answers at all."""
MOST_SAID_BYTES = 4096
LISTENER_SECONDS = 1.0
NOT_INSTALLED = "git is not installed"
OWNED_BY_ANOTHER = "git does not read it, as another user owns it (see git's safe.directory)"
NO_COMMITS = "the repository has no commits yet"
TOO_LONG = f"git did not answer in {TIMEOUT_SECONDS} seconds"
BROKEN = "git cannot read the repository"
CAUSES = (
    ("dubious ownership", OWNED_BY_ANOTHER),
    ("unsafe repository", OWNED_BY_ANOTHER),
    ("does not have any commits", NO_COMMITS),
    ("ambiguous argument 'HEAD'", NO_COMMITS),
    ("needed a single revision", NO_COMMITS),
)


class GitError(Exception):
    """Git gave no answer; the text is the reason, in words that hold no path.

    ``said`` is what git said first where the reason is not one of ours, with paths and whatever a stranger's
    files hold.
    """

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(reason)
        self.said = said


def ask_git(root: Path, *arguments: str) -> bytes:
    """What git prints of the repository whose root a folder is.

    Raises: GitError: it is not installed, refuses, fails, or takes too long.
    """
    try:
        done = subprocess.run(
            ["git", *SAFE_OPTIONS, *arguments],
            cwd=root,
            env=build_variables(root),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GitError(TOO_LONG) from error
    except OSError as error:
        raise explain_start(root, error) from error
    if done.returncode:
        raise explain_failure(done.stderr)
    return done.stdout


@contextmanager
def open_git(
    root: Path, *arguments: str, said: bytearray | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A running git with pipes to it. It is ended at the end, whether or not all was read.

    The beginning of what it says on its error output is added to ``said``; it never waits for a reader.

    Raises: GitError: it cannot be started.
    """
    kept = bytearray() if said is None else said
    try:
        process = subprocess.Popen(
            ["git", *SAFE_OPTIONS, *arguments],
            cwd=root,
            env=build_variables(root),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise explain_start(root, error) from error
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    listener = Thread(target=keep_beginning, args=(process.stderr, kept), daemon=True)
    listener.start()
    try:
        yield process
    finally:
        process.kill()
        process.stdout.close()
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        process.wait()
        listener.join(LISTENER_SECONDS)


def keep_beginning(stream: IO[bytes], kept: bytearray) -> None:
    """Read a stream to its end, and add its beginning to ``kept``."""
    with stream:
        while piece := stream.read(MOST_SAID_BYTES):
            kept += piece[: MOST_SAID_BYTES - len(kept)]


def stream_fields(root: Path, *arguments: str) -> Generator[bytes, None, None]:
    """The fields of what git prints, which NULs separate, never much more in memory than one of them.

    Close it where not all is read. Raises: GitError: git cannot be started, or breaks off.
    """
    said = bytearray()
    with open_git(root, *arguments, said=said) as process:
        assert process.stdout is not None
        yield from split_fields(process.stdout)
        failed = process.wait() != 0
    if failed:
        raise explain_failure(said)


def explain_start(folder: Path, error: OSError) -> GitError:
    """Why git could not be started at all."""
    if isinstance(error, FileNotFoundError) and folder.is_dir():
        return GitError(NOT_INSTALLED)
    return GitError(f"git cannot be started ({error.strerror})")


def build_variables(root: Path) -> dict[str, str]:
    """The environment in which git is asked about the repository at ``root``.

    Where that is damaged, git takes no repository above it, and where its configuration names another folder
    as its working tree, git stays in this one. Who owns it is still checked.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in KEPT_VARIABLES
    }
    places = {
        "GIT_CEILING_DIRECTORIES": os.path.realpath(root.parent),
        "GIT_WORK_TREE": os.path.realpath(root),
    }
    return kept | VARIABLES | places


def explain_failure(said: bytes | bytearray) -> GitError:
    """The reason for a failure, from what git said."""
    text = said.decode("utf-8", errors="replace")
    cause = next((cause for sign, cause in CAUSES if sign.lower() in text.lower()), None)
    lines = text.strip().splitlines()
    return GitError(cause) if cause else GitError(BROKEN, lines[0] if lines else "")


def split_fields(stream: IO[bytes], *, piece_bytes: int = 2**16) -> Iterator[bytes]:
    """The fields of an output that NULs separate, never much more of it in memory than one of them."""
    rest = b""
    while piece := stream.read(piece_bytes):
        *fields, rest = (rest + piece).split(b"\0")
        yield from fields
    if rest:
        yield rest
