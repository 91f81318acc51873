"""A git repository's past as a stream: its commits by year, its files at a commit, their contents.

Nothing is checked out: files are read out of git's objects, and the working tree is never touched.

What this does not do: look at functions (``history`` does), or follow branches that were merged: of these
only the merge is a step of the first-parent line.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import IO

from codestrata.data.mining.git import (
    NO_COMMITS,
    NOT_INSTALLED,
    OWNED_BY_ANOTHER,
    GitError,
    ask_git,
    open_git,
    stream_fields,
)
from codestrata.data.mining.repositories import LOG_OPTIONS, Checkout, name_checkout, read_remote, write_day
from codestrata.errors import DataError, SettingsError, shorten

LINK_MODE, SUBMODULE_MODE = b"120000", b"160000"
EPOCH = "1970-01-01"
REMEDIES = {
    NOT_INSTALLED: "Install git, by which the history is read.",
    NO_COMMITS: "Commit something first.",
    OWNED_BY_ANOTHER: "If you trust it: git config --global --add safe.directory FOLDER.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A repository to read: ``prefix`` is the part of it that was asked for, ``""`` or ending in ``/``."""

    root: Path
    prefix: bytes
    commits: int
    is_shallow: bool
    about: Checkout


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file at a commit; ``size`` is in bytes, unknown for a submodule and what is not here."""

    mode: bytes
    sha: bytes
    size: int | None
    path: bytes


@dataclass(slots=True)
class Year:
    """A calendar year (UTC) at its last commit; ``days`` has each path with the day of its last change."""

    year: int
    sha: str = ""
    day: str = EPOCH
    commits: int = 0
    commits_before: int = 0
    out_of_order: int = 0
    days: dict[bytes, str] = field(default_factory=dict)


def open_repository(folder: Path) -> Repository:
    """The repository that a folder is, or is a part of; a bare one too.

    Raises: SettingsError: there is none, it has no commits, or git is not installed or refuses it.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "not there"
        raise SettingsError(f"{shorten(str(folder))} is {found}: give the folder of a git repository.")
    root, prefix = find_root(folder)
    if not any((root / name).exists() for name in (".git", "HEAD")):
        raise SettingsError(f"{shorten(str(folder))} is no git repository, nor in one.")
    try:
        ask_git(root, "rev-parse", "--verify", "HEAD^{commit}")
        commits = int(ask_git(root, "rev-list", "--count", "--first-parent", "HEAD", "--"))
        shallow = ask_git(root, "rev-parse", "--is-shallow-repository").strip() == b"true"
        about = name_checkout(root, read_remote(root))
    except GitError as error:
        remedy = REMEDIES.get(str(error), "Give the folder of a git repository.")
        raise SettingsError(
            f"The history of {shorten(str(folder))} cannot be read: {quote_git(error)}. {remedy}"
        ) from error
    return Repository(root=root, prefix=prefix, commits=commits, is_shallow=shallow, about=about)


def quote_git(error: GitError) -> str:
    """The reason of a failure, with git's own words where it had any."""
    return f"{error} ({shorten(error.said)})" if error.said else str(error)


def find_root(folder: Path) -> tuple[Path, bytes]:
    """(the repository's root, the way from there to the folder); the folder itself where there is none."""
    folder = folder.resolve()
    is_bare = (folder / "HEAD").is_file() and all((folder / name).is_dir() for name in ("objects", "refs"))
    above = () if is_bare else (folder, *folder.parents)
    root = next((path for path in above if (path / ".git").exists()), folder)
    return root, os.fsencode("".join(f"{part}/" for part in folder.relative_to(root).parts))


def walk_years(repository: Repository) -> Iterator[Year]:
    """The years from the first to the last, each at the last commit that belongs to it.

    A commit that says it is older than one before it on the line belongs to that one's year. What is given is
    changed when the next year is asked for.

    Raises: DataError: git breaks off.
    """
    mark = token_hex(8).encode()
    lines = ("--first-parent", "-m", "--reverse", f"--format={mark.decode()} %H %ct", "HEAD", "--")
    current: Year | None = None
    is_first, seen = False, 0
    try:
        with closing(stream_fields(repository.root, *LOG_OPTIONS, *lines)) as fields:
            for field_ in fields:
                if field_.startswith(mark):
                    _, commit, seconds = field_.split(b" ")
                    day = write_day(seconds) or (current.day if current else EPOCH)
                    if current is not None and int(day[:4]) > current.year:
                        yield current
                        current = Year(int(day[:4]), commits_before=seen, days=current.days)
                    current = current or Year(int(day[:4]))
                    current.out_of_order += int(day[:4]) < current.year
                    current.sha, current.day = commit.decode("ascii"), max(day, current.day)
                    current.commits += 1
                    is_first, seen = True, seen + 1
                elif current is not None:
                    current.days[field_.removeprefix(b"\n") if is_first else field_] = current.day
                    is_first = False
    except GitError as error:
        raise DataError(f"the history cannot be read: {quote_git(error)}", path=repository.root) from error
    if seen < repository.commits or current is None:
        raise DataError(
            f"git broke off after {seen:,} of {repository.commits:,} commits: see what git fsck says.",
            path=repository.root,
        )
    yield current


def list_entries(repository: Repository, sha: str) -> Iterator[Entry]:
    """The files at a commit below the part that was asked for, in git's order. Raises: DataError."""
    try:
        with closing(stream_fields(repository.root, "ls-tree", "-rzl", "--full-tree", sha)) as lines:
            for line in lines:
                about, _, path = line.partition(b"\t")
                mode, _, name, size = about.split()
                if path.startswith(repository.prefix):
                    yield Entry(mode=mode, sha=name, size=int(size) if size.isdigit() else None, path=path)
    except GitError as error:
        raise DataError(
            f"the files at {sha} cannot be read: {quote_git(error)}", path=repository.root
        ) from error


class Contents:
    """Reads what files hold, by their hashes."""

    def __init__(self, questions: IO[bytes], answers: IO[bytes]) -> None:
        self._questions = questions
        self._answers = answers

    def read(self, sha: bytes) -> bytes | None:
        """The content of a file; ``None`` where a clone lacks it. Raises: DataError: git broke off."""
        try:
            self._questions.write(sha + b"\n")
            self._questions.flush()
            words = self._answers.readline().split()
            if words[1:] == [b"missing"]:
                return None
            if len(words) != 3:
                raise DataError(f"git broke off at {sha.decode('ascii')}: see what git fsck says")
            content = self._answers.read(int(words[2]))
            self._answers.read(1)
        except BrokenPipeError as error:
            raise DataError(f"git broke off at {sha.decode('ascii')}: see what git fsck says") from error
        return content


@contextmanager
def open_contents(repository: Repository) -> Iterator[Contents]:
    """A reader of files, which is one process of git. Raises: DataError: git cannot be started."""
    try:
        with open_git(repository.root, "cat-file", "--batch") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            yield Contents(process.stdin, process.stdout)
    except GitError as error:
        raise DataError(f"files cannot be read: {error}", path=repository.root) from error
