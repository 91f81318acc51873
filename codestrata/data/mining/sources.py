"""The source files below some folders, and what is no source worth mining, counted by reason.

Folders are walked in the order of their names, one listing in memory at a time. Links are not followed: what
they lead to is found where it lies, or lies outside what was asked for.

What this does not do: open a file (``texts`` does), or look at functions (``filters`` does).
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codestrata.data.mining.filters import is_test_path
from codestrata.data.mining.options import MiningOptions
from codestrata.errors import SettingsError, describe_unknown, shorten

SUFFIXES = {
    "go": (".go",),
    "java": (".java",),
    "javascript": (".js", ".mjs", ".cjs", ".jsx"),
    "php": (".php",),
    "python": (".py", ".pyi"),
    "ruby": (".rb",),
    "typescript": (".ts", ".tsx", ".mts", ".cts"),
}
"""The languages that can be mined, and how the names of their files end."""
LANGUAGE_OF = {suffix: language for language, suffixes in SUFFIXES.items() for suffix in suffixes}
OTHER = "other"

VERSION_CONTROL = {".bzr", ".git", ".hg", ".svn", "CVS", "_darcs"}
CACHES = {".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".tox", "__pycache__"}
DECLARATIONS = re.compile(r".+(\.d(\.[^.]+)?\.[mc]?ts|\.pyi)")
MINIFIED_NAME = re.compile(r".+[.-]min\.[cm]?js")
GENERATED_NAMES = re.compile(
    r".*_pb2(_grpc)?\.py|.*_pb\.(js|rb|d\.ts)|.*\.pb(\.gw)?\.go|.*_grpc_pb\.(js|rb)|.*_services_pb\.rb"
    r"|.*[._-]generated\.\w+|zz_generated[._].*|(parser?tab|yacctab|lextab)\.py|.*\.(tab|yy)\.\w+"
)
"""What generators call their files: protocol buffers, code generators of Kubernetes, lex and yacc."""

LARGE = "larger than the limit"
EMPTY = "empty"
NOT_PLAIN = "no plain file (a pipe, socket or device)"
TESTS = "tests by their path"
DECLARED = "declarations without bodies (.d.ts, .pyi)"
MINIFIED = "minified"
GENERATED = "generated"
UNREADABLE = "not readable"
GONE = "gone before it was read"
LINK_INSIDE = "a link to what is mined anyway"
LINK_OUTSIDE = "a link out of the tree"
LINK_NOWHERE = "a link that leads nowhere"
CONTROL_FOLDER = "of a version control system"
CACHE_FOLDER = "a cache"
LEFT_OUT = "named as one to leave out"


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder to mine, or one file of it; ``root`` has no links in it."""

    root: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to mine: its place, the folder it was found from, and its size."""

    path: str
    root: str
    bytes: int


@dataclass(slots=True)
class Tally:
    """What a walk came by: files of the language; files and folders skipped by reason; others by language."""

    files: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)


def check_language(language: str) -> None:
    """Refuse a language that cannot be mined. Raises: SettingsError: with the nearest name."""
    if language not in SUFFIXES:
        raise SettingsError(describe_unknown("language to mine", language, SUFFIXES))


def find_trees(paths: Sequence[Path]) -> tuple[Tree, ...]:
    """The folders and files to mine, in their order, each once, links resolved.

    Raises: SettingsError: there is no path, or one that is not there.
    """
    if not paths:
        raise SettingsError("No path to mine was given: name a folder of source code, or files.")
    trees = []
    for path in paths:
        try:
            real = os.path.realpath(path, strict=True)
            mode = os.stat(real).st_mode
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SettingsError(
                f"{shorten(str(path))} cannot be mined: {reason}. Give a folder of source code, or a file "
                "of it."
            ) from error
        trees.append(Tree(real) if stat.S_ISDIR(mode) else Tree(*os.path.split(real)))
    return tuple(dict.fromkeys(trees))


class Walk:
    """The source files of some trees in a fixed order; what is left out goes into ``tally``.

    A tree inside another one is walked once, as a tree of its own; a file inside one as a part of it.
    """

    def __init__(self, trees: Sequence[Tree], language: str, options: MiningOptions) -> None:
        self.tally = Tally()
        self._trees = trees
        self._language = language
        self._options = options
        self._roots = {tree.root for tree in trees if tree.name is None}

    def __iter__(self) -> Iterator[SourceFile]:
        for tree in self._trees:
            if tree.name is None:
                yield from self._walk(tree.root)
            elif not any(is_inside(os.path.join(tree.root, tree.name), root) for root in self._roots):
                yield from self._take(os.path.join(tree.root, tree.name), tree.root)

    def _walk(self, root: str) -> Iterator[SourceFile]:
        """The files of a folder, then those of the folders in it."""
        waiting = [root]
        while waiting:
            files, folders = self._list(waiting.pop())
            for path in files:
                yield from self._take(path, root)
            waiting += reversed(folders)

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        """The files that may be sources, and the folders to walk, by name."""
        files, folders = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_symlink() and self._is_folder(entry):
                        self.tally.folders[self._judge_link(entry.path)] += 1
                    elif entry.is_dir(follow_symlinks=False):
                        folders += self._choose_folder(entry)
                    elif self._is_of_language(entry.name):
                        files.append(entry.path)
        except OSError:
            self.tally.folders[UNREADABLE] += 1
        return sorted(files, key=os.fsencode), sorted(folders, key=os.fsencode)

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether a link leads to a folder, or in a circle."""
        try:
            return entry.is_dir()
        except OSError:
            return LANGUAGE_OF.get(find_suffix(entry.name)) is None

    def _choose_folder(self, entry: os.DirEntry[str]) -> list[str]:
        """The folder, unless it is one to leave alone."""
        if entry.path in self._roots:  # walked as a tree of its own
            return []
        if entry.path in self._options.leave_out:
            self.tally.folders[LEFT_OUT] += 1
            return []
        if entry.name in VERSION_CONTROL or entry.name in CACHES:
            self.tally.folders[CONTROL_FOLDER if entry.name in VERSION_CONTROL else CACHE_FOLDER] += 1
            return []
        return [entry.path]

    def _is_of_language(self, name: str) -> bool:
        """Whether a file is of the language by its name; others are counted."""
        language = LANGUAGE_OF.get(find_suffix(name), OTHER)
        if language == self._language:
            return True
        self.tally.others[language] += 1
        return False

    def _take(self, path: str, root: str) -> Iterator[SourceFile]:
        """The file, unless its name, kind or size speaks against it."""
        if LANGUAGE_OF.get(find_suffix(path)) != self._language:  # named by itself
            self.tally.others[LANGUAGE_OF.get(find_suffix(path), OTHER)] += 1
            return
        self.tally.files += 1
        reason, size = self._judge(path, root)
        if reason is None:
            yield SourceFile(path, root, size)
        else:
            self.tally.skipped[reason] += 1

    def _judge(self, path: str, root: str) -> tuple[str | None, int]:
        """Why a file is skipped before it is opened, if so; and its size."""
        reason = judge_name(os.path.basename(path))
        if reason is not None:
            return reason, 0
        if not self._options.keep_test_files and is_test_path(name_below(path, root), self._language):
            return TESTS, 0
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return GONE, 0
        except OSError:
            return UNREADABLE, 0
        if stat.S_ISLNK(found.st_mode):
            return self._judge_link(path), 0
        if not stat.S_ISREG(found.st_mode):
            return NOT_PLAIN, 0
        if found.st_size > self._options.most_file_bytes:
            return LARGE, found.st_size
        return (None if found.st_size else EMPTY), found.st_size

    def _judge_link(self, path: str) -> str:
        """Where a link leads."""
        try:
            target = os.path.realpath(path, strict=True)
        except OSError:
            return LINK_NOWHERE
        return LINK_INSIDE if any(is_inside(target, root) for root in self._roots) else LINK_OUTSIDE


def judge_name(name: str) -> str | None:
    """Why a file is skipped for its name alone, if so."""
    name = name.lower()
    if DECLARATIONS.fullmatch(name):
        return DECLARED
    if MINIFIED_NAME.fullmatch(name):
        return MINIFIED
    return GENERATED if GENERATED_NAMES.fullmatch(name) else None


def find_suffix(name: str) -> str:
    """How a name ends from its last dot on, in lower case."""
    return os.path.splitext(name)[1].lower()


def is_inside(path: str, folder: str) -> bool:
    """Whether a path without links lies in a folder, or is it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def name_below(path: str, root: str) -> str:
    """The path of a file in a tree from there on, with ``/``, and marks for what is not UTF-8 in it."""
    below = os.fsencode(path[len(root) :].lstrip(os.sep)).decode("utf-8", "replace")
    return below.replace(os.sep, "/")
