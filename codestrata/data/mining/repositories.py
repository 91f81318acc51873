"""Where a mined file comes from: repository, commit, address, licence, and when it was last changed.

Going up from the file, the nearest of these says so: a git checkout (also a worktree or a submodule), a
distribution in site-packages, the standard library of Python, a node package; else the top folder of the
tree. What cannot be known is ``None``.

What this does not do: run what a repository brings along (see ``git``), look for changes that are not
committed yet, or guess a licence.
"""

import os
import re
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import Literal
from urllib.parse import quote, urlsplit

from codestrata.data.licenses import HEADER_CHARACTERS, read_license_line
from codestrata.data.mining.git import GitError, ask_git, stream_fields
from codestrata.data.mining.license_files import find_license
from codestrata.data.mining.packages import (
    INSTALLED,
    Package,
    find_standard_library,
    read_installed,
    read_limited,
    read_node_package,
)
from codestrata.files import open_plain

MOST_BOUNDARY_BYTES = 2**20
NODE_MODULES = "node_modules"
SHORT_SSH = re.compile(r"(?:[^@/\s]+@)?(?P<host>[\w.-]+):(?!/)(?P<path>[^\s]+)")
UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and what stands for bytes that are not UTF-8."""
FILE_PAGES = {
    "github.com": "https://github.com/{repo}/blob/{sha}/{path}",
    "gitlab.com": "https://gitlab.com/{repo}/-/blob/{sha}/{path}",
    "bitbucket.org": "https://bitbucket.org/{repo}/src/{sha}/{path}",
    "codeberg.org": "https://codeberg.org/{repo}/src/commit/{sha}/{path}",
}
"""Host -> the page of a file as it was at a commit."""
NOT_COMMITTED = "the file is not in the last commit"

Kind = Literal["git", "package", "tree"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a file comes from; ``note`` says why the commit of a git checkout is not known."""

    repo: str
    sha: str | None = None
    url: str | None = None
    license: str | None = None
    license_file: str | None = None
    commit_date: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What a folder belongs to: the root of a checkout, package or tree."""

    kind: Kind
    root: Path
    name: str = ""
    package: Package | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkout:
    """A repository at its HEAD; ``days`` has each file of it with the day of its last commit."""

    repo: str
    remote: str | None = None
    page: str | None = None
    sha: str | None = None
    days: dict[bytes, str | None] | None = None
    note: str | None = None


def find_provenance(file: Path, tree: Path, text: str | None = None) -> Provenance:
    """Where ``file`` comes from, which was found under ``tree``; cheap for all but the first of a repository.

    Args:
        file: a source file.
        tree: the folder or file that was asked for: ``license_file`` is relative to it (to its folder).
        text: what the file holds, where that is known: its licence line counts more than anything else.
    """
    file, tree = Path(os.path.abspath(file)), Path(os.path.abspath(tree))
    if tree == file:
        tree = tree.parent
    place = find_place(file.parent, tree)
    if place.kind == "git":
        found = describe_file(
            read_checkout(place.root), PurePosixPath(file.relative_to(place.root).as_posix())
        )
    elif place.package is None and place.root.name in INSTALLED:
        place = find_distribution(file, place, tree)
        found = Provenance(repo=place.name)
    else:
        found = Provenance(repo=clean(place.name))
    return add_license(found, file, tree, place, text)


def forget() -> None:
    """Look at everything anew from now on: repositories may have changed."""
    for cached in (find_place, read_checkout, find_license, read_installed):
        cached.cache_clear()


@lru_cache(maxsize=4096)
def find_place(folder: Path, tree: Path) -> Place:
    """What files of a folder belong to."""
    outermost: Place | None = None
    for above in (folder, *folder.parents):
        if above.name in INSTALLED:
            return Place(kind="package", root=above)
        if (above / ".git").exists():
            return Place(kind="git", root=above)
        if has_node_modules(above):
            package = read_node_package(above)
            if package is not None:
                return Place(kind="package", root=above, name=package.name, package=package)
        library = find_standard_library(above)
        if library is not None:
            return Place(kind="package", root=above, name=library.name, package=library)
        if outermost is None and above.is_relative_to(tree):
            package = read_node_package(above)
            if package is not None:
                outermost = Place(kind="package", root=above, name=package.name, package=package)
    return outermost or find_top(folder, tree)


def has_node_modules(folder: Path) -> bool:
    """Whether a folder is where npm puts a package: ``node_modules/name`` or ``node_modules/@scope/name``."""
    parent = folder.parent
    return parent.name == NODE_MODULES or (parent.name.startswith("@") and parent.parent.name == NODE_MODULES)


def find_top(folder: Path, tree: Path) -> Place:
    """The first folder below the tree, or the tree itself for what lies right in it."""
    parts = folder.relative_to(tree).parts if folder.is_relative_to(tree) else ()
    name = parts[0] if parts else tree.name or "root"
    return Place(kind="tree", root=tree, name=name)


def find_distribution(file: Path, place: Place, tree: Path) -> Place:
    """The distribution of site-packages that a file is of; the top folder in there where none owns it."""
    relative = PurePosixPath(file.relative_to(place.root).as_posix())
    package = read_installed(place.root).find(relative)
    if package is not None:
        return replace(place, name=clean(package.name), package=package)
    name = relative.parts[0] if len(relative.parts) > 1 else relative.stem
    return replace(place, kind="tree", name=clean(name))


def describe_file(checkout: Checkout, path: PurePosixPath) -> Provenance:
    """The provenance of a checkout's file but for its licence."""
    if checkout.sha is None or checkout.days is None:
        return Provenance(repo=checkout.repo, url=checkout.remote, note=checkout.note)
    key = os.fsencode(str(path))
    if key not in checkout.days:
        return Provenance(repo=checkout.repo, url=checkout.remote, note=NOT_COMMITTED)
    return Provenance(
        repo=checkout.repo,
        sha=checkout.sha,
        url=write_url(checkout.page, checkout.remote, checkout.sha, key),
        commit_date=checkout.days[key],
        note=checkout.note,
    )


def write_url(page: str | None, remote: str | None, sha: str, path: bytes) -> str | None:
    """The page of a file at a commit, or where pages are not known the repository's address."""
    return remote if page is None else page.replace("{sha}", sha).replace("{path}", quote(path))


@lru_cache(maxsize=16)
def read_checkout(root: Path) -> Checkout:
    """What git says of a repository; where it says nothing, the reason is in ``note``."""
    checkout = name_checkout(root, "")
    try:
        checkout = name_checkout(root, read_remote(root))
        sha = read_head_commit(root)
        days, note = read_days(root)
    except GitError as error:
        return replace(checkout, note=str(error))
    return replace(checkout, sha=sha, days=days, note=note)


def read_head_commit(root: Path) -> str:
    """The commit that is checked out. Raises: GitError: there is none, or git cannot read it."""
    return ask_git(root, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()


def read_remote(root: Path) -> str:
    """The address of ``origin``, or of the first other remote; empty where there is none.

    Raises: GitError: git does not read the repository.
    """
    ask_git(root, "rev-parse", "--git-dir")
    listed = ask_git(root, "config", "--null", "--list").split(b"\0")
    remotes: dict[str, str] = {}
    for entry in listed:
        key, _, value = entry.decode("utf-8", errors="replace").partition("\n")
        if key.startswith("remote.") and key.endswith(".url"):
            remotes.setdefault(key[len("remote.") : -len(".url")], value)
    return remotes.get("origin") or next(iter(remotes.values()), "")


def name_checkout(root: Path, remote: str) -> Checkout:
    """What a repository is called: by its remote ``owner/name``, else by its folder."""
    host, path = split_remote(remote)
    if host is None or not path:
        name = path.rpartition("/")[2] or root.name.removesuffix(".git") or "root"
        return Checkout(repo=clean(name))
    page = FILE_PAGES.get(host)
    quoted = quote(path)
    return Checkout(
        repo=clean(path),
        remote=clean(f"https://{host}/{quoted}"),
        page=None if page is None else page.replace("{repo}", quoted),
    )


def split_remote(remote: str) -> tuple[str | None, str]:
    """(host, path) of a remote's address, without user, password, port and query.

    There is no host for a local path, nor where a password with a slash may be taken for a host and a path:
    of such an address only what follows the last ``@`` is left.
    """
    host, path = split_address(remote.strip())
    if "@" in path and (host is not None or ":" in path):
        return None, path.rpartition("@")[2]
    return host, path


def split_address(remote: str) -> tuple[str | None, str]:
    """(host, path) by the grammar of addresses, which a password with a slash breaks."""
    if "://" in remote:
        try:
            parts = urlsplit(remote)
            host = parts.hostname
        except ValueError:
            return None, ""
        if parts.scheme == "file" or not host:
            return None, trim_path(parts.path)
        return host.lower(), trim_path(parts.path)
    short = SHORT_SSH.fullmatch(remote)
    if short is not None and len(short.group("host")) > 1:  # one letter and a colon is a drive
        return short.group("host").lower(), trim_path(short.group("path"))
    return None, trim_path(remote.replace("\\", "/"))


def trim_path(path: str) -> str:
    """A repository's path without slashes at its ends and without ``.git``."""
    return path.split("?")[0].split("#")[0].strip("/").removesuffix(".git").rstrip("/")


def read_days(root: Path) -> tuple[dict[bytes, str | None], str | None]:
    """(file of HEAD -> day of its last commit, a note), by one walk over the commits from the newest.

    The walk ends when every file was met. In a shallow clone, what changed before it begins has no day.

    Raises: GitError: git cannot read the commits.
    """
    listed = ask_git(root, "ls-tree", "-r", "-z", "--full-tree", "--name-only", "HEAD")
    days: dict[bytes, str | None] = dict.fromkeys(listed.split(b"\0")[:-1])
    shallow = ask_git(root, "rev-parse", "--is-shallow-repository").strip() == b"true"
    boundary = read_boundary(root) if shallow else set()
    missing = len(days)
    mark = token_hex(8).encode()
    with closing(stream_fields(root, *LOG_OPTIONS, f"--format={mark.decode()} %H %ct")) as fields:
        day: str | None = None
        is_known, is_first = True, False
        for field in fields:
            if field.startswith(mark):
                _, commit, seconds = field.split(b" ")
                day, is_known, is_first = write_day(seconds), commit not in boundary, True
                continue
            path = field.removeprefix(b"\n") if is_first else field
            is_first = False
            if is_known and path in days and days[path] is None:
                days[path] = day
                missing -= 1
                if not missing:
                    break
    return days, SHALLOW if shallow else None


LOG_OPTIONS = (
    *("log", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"),
    *("--no-show-signature", "--no-notes", "--no-decorate", "--no-mailmap", "--ignore-submodules=all"),
)
SHALLOW = "a shallow clone, which does not know when older files were changed"


def read_boundary(root: Path) -> set[bytes]:
    """The commits at which a shallow clone begins: all files look new there."""
    place = ask_git(root, "rev-parse", "--git-path", "shallow").decode("utf-8", errors="replace").strip()
    return set((read_limited(root / place, MOST_BOUNDARY_BYTES) or b"").split())


def write_day(seconds: bytes) -> str | None:
    """The day in UTC of a commit's time; ``None`` where that is no time."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def add_license(found: Provenance, file: Path, tree: Path, place: Place, text: str | None) -> Provenance:
    """With the licence: by the file's own line, else the package's metadata, else the file nearest above."""
    package = place.package
    top = place.root if place.kind == "git" or has_own_root(place) else tree
    near = find_license(file.parent, top if file.is_relative_to(top) else tree)
    named = near.license if near is not None else None
    path = near.path if near is not None else None
    if package is not None:
        if package.license is not None or package.declared:
            named = package.license or named
        path = path or package.license_file
    says, own = read_license_line(read_head(file) if text is None else text)
    return replace(
        found, license=own if says else named, license_file=None if path is None else relate(path, tree)
    )


def has_own_root(place: Place) -> bool:
    """Whether a package has a folder to itself: those of site-packages share one."""
    return place.kind == "package" and place.root.name not in INSTALLED


def read_head(file: Path) -> str:
    """The beginning of a file; nothing where it cannot be read."""
    try:
        with open_plain(file) as opened:
            return opened.read(HEADER_CHARACTERS).decode("utf-8", errors="replace")
    except OSError:
        return ""


def relate(path: Path, tree: Path) -> str:
    """A path from the tree, with slashes; one outside begins with ``..``."""
    return clean(Path(os.path.relpath(path, tree)).as_posix())


def clean(text: str) -> str:
    """A name as text that every file can hold and a terminal only shows; a mark for what is not such."""
    return UNSHOWN.sub("\ufffd", text)
