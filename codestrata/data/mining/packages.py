"""Which installed package a file belongs to: a Python distribution, the standard library, a node package.

What this does not do: import or run a package, or look into git.
"""

import csv
import json
import platform
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from codestrata.data.licenses import name_license, recognize_license
from codestrata.files import open_plain

MOST_METADATA_BYTES = 4 * 2**20
MOST_RECORD_BYTES = 64 * 2**20
INSTALLED = ("site-packages", "dist-packages")
"""Folders that Python's installers fill."""
INTERPRETER_FOLDER = re.compile(r"(?:python|pypy)(\d+\.\d+)t?")
PSF = "PSF-2.0"
CLASSIFIER = "License :: "
SHARED = ""
"""Stands for the owner of a folder that several distributions have files in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A package with its version: ``numpy-2.4.6``, ``cpython-3.11.7``, ``semver@7.6.3``.

    ``declared`` says whether its metadata names a licence at all, which ``license`` may not be able to name.
    """

    name: str
    license: str | None = None
    license_file: Path | None = None
    declared: bool = False


@dataclass(frozen=True, slots=True)
class Installed:
    """What the distributions of one site-packages folder own: folders, and files where those are shared."""

    folders: dict[str, str]
    files: dict[str, str]
    packages: dict[str, Package]

    def find(self, relative: PurePosixPath) -> Package | None:
        """The distribution that has the file, or else the folder it lies in."""
        owner = self.files.get(str(relative))
        for folder in relative.parents:
            owner = owner or self.folders.get(str(folder))
        return self.packages.get(owner) if owner else None


@lru_cache(maxsize=8)
def read_installed(folder: Path) -> Installed:
    """The distributions of a site-packages folder; what cannot be read of one is left out."""
    folders: dict[str, str] = {}
    packages: dict[str, Package] = {}
    lists = {}
    for entry in list_metadata_folders(folder):
        package = read_distribution(entry)
        if package is None:
            continue
        packages[entry.name] = package
        lists[entry.name] = entry
        for path in list_owned(entry):
            parent = str(PurePosixPath(path).parent)
            if folders.setdefault(parent, entry.name) != entry.name:
                folders[parent] = SHARED
    files = {}
    for name, entry in lists.items():
        for path in list_owned(entry):
            if folders.get(str(PurePosixPath(path).parent)) == SHARED:
                files[path] = name
    return Installed(folders, files, packages)


def list_metadata_folders(folder: Path) -> list[Path]:
    """The ``*.dist-info`` and ``*.egg-info`` folders of a site-packages folder, by name."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [entry for entry in entries if entry.suffix in (".dist-info", ".egg-info") and entry.is_dir()]


def list_owned(entry: Path) -> Iterator[str]:
    """What a distribution has installed, as paths from site-packages: by its RECORD, else its top names."""
    record = read_limited(entry / "RECORD", MOST_RECORD_BYTES)
    if record is not None:
        for row in csv.reader(record.decode("utf-8", errors="replace").replace("\0", "").splitlines()):
            if row and not row[0].startswith(("../", "/")) and row[0].endswith((".py", ".pyi", ".js", ".ts")):
                yield row[0].replace("\\", "/")
        return
    names = read_limited(entry / "top_level.txt", MOST_METADATA_BYTES) or b""
    for name in names.decode("utf-8", errors="replace").split():
        yield f"{name}.py"
        yield f"{name}/__init__.py"


def read_distribution(entry: Path) -> Package | None:
    """Name, version and licence of a distribution by its metadata, or ``None`` where there is none."""
    name = "METADATA" if entry.suffix == ".dist-info" else "PKG-INFO"
    content = read_limited(entry / name, MOST_METADATA_BYTES)
    if content is None:
        return None
    message = BytesHeaderParser().parsebytes(content)
    stem = entry.name.removesuffix(entry.suffix)
    title, version = message.get("Name"), message.get("Version")
    license, declared = read_metadata_license(message)
    license_file, license_text = find_distribution_file(entry, message)
    if license is None and license_text is not None:
        license = recognize_license(license_text)
    return Package(
        name=f"{title}-{version}" if title and version else stem,
        license=license,
        license_file=license_file,
        declared=declared,
    )


def read_metadata_license(message: Message) -> tuple[str | None, bool]:
    """The licence that a distribution's metadata names with certainty, and whether they name one at all.

    First the expression, then the free text, then the classifiers, of which one alone must remain.
    """
    words = str(message.get("License-Expression") or "").strip()
    if words:
        return name_license(words), True
    words = str(message.get("License") or "").strip()
    named = name_license(words) or (recognize_license(words) if len(words) > 200 else None)
    if named is not None:
        return named, True
    kinds = [
        str(line).split(" :: ")[-1]
        for line in message.get_all("Classifier") or ()
        if str(line).startswith(CLASSIFIER)
    ]
    kinds = [kind for kind in kinds if kind not in ("OSI Approved", "DFSG approved")]
    named = name_license(kinds[0]) if len(kinds) == 1 else None
    return named, bool(kinds) or words not in ("", "UNKNOWN")


def find_distribution_file(entry: Path, message: Message) -> tuple[Path | None, str | None]:
    """The licence file of a distribution with its text; the first of several that is there."""
    names = [str(name) for name in message.get_all("License-File") or ()]
    for name in (*names, "LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"):
        if ".." in Path(name).parts or not (entry / name).is_relative_to(entry):
            continue
        for path in (entry / "licenses" / name, entry / name):
            content = read_limited(path, MOST_METADATA_BYTES)
            if content is not None:
                return path, content.decode("utf-8", errors="replace")
    return None, None


def read_node_package(folder: Path) -> Package | None:
    """The node package whose ``package.json`` lies in a folder; ``None`` where it names no package."""
    content = read_limited(folder / "package.json", MOST_METADATA_BYTES)
    if content is None:
        return None
    try:
        about = json.loads(content.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(about, dict) or not isinstance(about.get("name"), str) or not about["name"]:
        return None
    version = about.get("version")
    declared = about.get("license", about.get("licenses"))
    return Package(
        name=f"{about['name']}@{version}" if isinstance(version, str) and version else about["name"],
        license=read_node_license(declared),
        declared=declared is not None,
    )


def read_node_license(value: Any) -> str | None:
    """The licence of a ``package.json``: a text, or as it was long ago an object or a list of those.

    Of a list the user may choose one, as npm's documentation said of it.
    """
    if isinstance(value, dict):
        value = value.get("type")
    if isinstance(value, str):
        return name_license(value)
    if not isinstance(value, list) or not value:
        return None
    names = [read_node_license(entry) if not isinstance(entry, list) else None for entry in value]
    known = [name for name in names if name is not None]
    if len(known) < len(names):
        return None
    return (
        known[0] if len(known) == 1 else " OR ".join(f"({name})" if " " in name else name for name in known)
    )


def find_standard_library(folder: Path) -> Package | None:
    """The Python whose standard library lies in just this folder, by its name and what it holds."""
    own = Path(sysconfig.get_path("stdlib"))
    if folder == own or (folder.name == own.name and folder.resolve() == own.resolve()):
        implementation = platform.python_implementation().lower()
        license = PSF if implementation == "cpython" else None
        return Package(name=f"{implementation}-{platform.python_version()}", license=license, declared=True)
    found = INTERPRETER_FOLDER.fullmatch(folder.name)
    if found is None or not (folder / "os.py").is_file() or not (folder / "abc.py").is_file():
        return None
    is_cpython = folder.name.startswith("python")
    name = f"{'cpython' if is_cpython else 'pypy'}-{found.group(1)}"
    return Package(name=name, license=PSF if is_cpython else None, declared=True)


def read_limited(path: Path, most_bytes: int) -> bytes | None:
    """What a plain file holds; ``None`` where there is none, it cannot be read, or it is larger."""
    try:
        with open_plain(path) as file:
            content = file.read(most_bytes + 1)
    except OSError:
        return None
    return content if len(content) <= most_bytes else None
