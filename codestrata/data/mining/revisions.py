"""What one file of a repository gives as it was at the end of a year, and the licence that it was under then.

What this does not do: walk the years (``history`` does), or compare functions with those of other files.
"""

import posixpath
from dataclasses import dataclass, replace

from codestrata.data.licenses import read_license_line
from codestrata.data.mining.commits import (
    LINK_MODE,
    SUBMODULE_MODE,
    Contents,
    Entry,
    Repository,
    Year,
    list_entries,
)
from codestrata.data.mining.definitions import DEEP
from codestrata.data.mining.filters import is_test_path
from codestrata.data.mining.harvest import MEMORY, SLOW, Harvest, harvest_text, judge_license
from codestrata.data.mining.license_files import MOST_LICENSE_BYTES, agree, choose_license_files
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.repositories import Provenance, write_url
from codestrata.data.mining.sources import EMPTY, LANGUAGE_OF, LARGE, TESTS, find_suffix, judge_name
from codestrata.data.mining.texts import SourceText, read_content
from codestrata.errors import SlowParseError

LINK = "a link"
SUBMODULE = "a submodule, a repository of its own"
POINTER = "a pointer of git LFS, whose content is not here"
ABSENT = "not here: a partial clone, or damaged"
POINTER_START = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A repository that is being read: for functions of which language, with which filters."""

    past: Repository
    contents: Contents
    language: str
    options: MiningOptions

    def name(self, entry: Entry) -> str:
        """A file's path from the folder that was asked for, as text."""
        return entry.path.removeprefix(self.past.prefix).decode("utf-8", "replace")

    def concerns(self, entry: Entry) -> bool:
        """Whether a file is of the language, or a submodule, which may hold some."""
        return entry.mode == SUBMODULE_MODE or LANGUAGE_OF.get(find_suffix(self.name(entry))) == self.language


def judge_entry(entry: Entry, reading: Reading) -> str | None:
    """Why a file is skipped before it is read, if so."""
    name = reading.name(entry)
    if entry.mode in (LINK_MODE, SUBMODULE_MODE):
        return LINK if entry.mode == LINK_MODE else SUBMODULE
    reason = judge_name(posixpath.basename(name))
    if reason is not None:
        return reason
    if not reading.options.keep_test_files and is_test_path(name, reading.language):
        return TESTS
    if entry.size is not None and entry.size > reading.options.most_file_bytes:
        return LARGE
    return EMPTY if entry.size == 0 else None


def harvest_entry(entry: Entry, year: Year, files: "LicenseFiles", reading: Reading) -> Harvest:
    """What a file gives; one that cannot be mined is skipped with a reason. Raises: DataError."""
    source = read_entry(entry, reading)
    if isinstance(source, str):
        return Harvest(skipped=source)
    provenance = describe(entry, year, files, source, reading.past)
    refused = judge_license(provenance.license, reading.options.licenses)
    if refused is not None:
        return Harvest(skipped=refused)
    try:
        return harvest_text(source, reading.name(entry), reading.language, provenance, reading.options)
    except SlowParseError:
        return Harvest(skipped=SLOW)
    except RecursionError:
        return Harvest(skipped=DEEP)
    except MemoryError:
        return Harvest(skipped=MEMORY)


def read_entry(entry: Entry, reading: Reading) -> SourceText | str:
    """The text of a file; a reason where it has none that is worth mining."""
    content = reading.contents.read(entry.sha)
    if content is None:
        return ABSENT
    return POINTER if content.startswith(POINTER_START) else read_content(content, reading.language)


def describe(
    entry: Entry, year: Year, files: "LicenseFiles", source: SourceText, past: Repository
) -> Provenance:
    """Where a file comes from, as it was at the end of a year."""
    license, license_file = files.find(entry.path)
    says, own = read_license_line(source.text)
    return Provenance(
        repo=past.about.repo,
        sha=year.sha,
        url=write_url(past.about.page, past.about.remote, year.sha, entry.path),
        license=own if says else license,
        license_file=license_file,
        commit_date=year.days.get(entry.path),
    )


class LicenseFiles:
    """The licence files at the end of a year; each is read where a function needs it."""

    def __init__(self, reading: Reading, year: Year) -> None:
        self._past = reading.past
        self._year = year
        self._contents = reading.contents
        self._folders: dict[str, dict[str, Entry]] | None = None
        self._found: dict[str, tuple[str | None, str | None]] = {}

    def find(self, path: bytes) -> tuple[str | None, str | None]:
        """(licence, path of its file from the folder that was asked for) of a file; nothing where none is."""
        folder = posixpath.dirname(path.decode("utf-8", "surrogateescape"))
        if folder not in self._found:
            self._found[folder] = self._look(folder)
        return self._found[folder]

    def _look(self, folder: str) -> tuple[str | None, str | None]:
        """The nearest above a folder that can be read, and is not too large for a licence."""
        folders = self._list()
        while True:
            files = folders.get(folder, {})
            texts = [(name, self._read(files[name])) for name in choose_license_files(sorted(files))]
            readable = [(name, text) for name, text in texts if text is not None]
            if readable:
                break
            if not folder:
                return None, None
            folder = posixpath.dirname(folder)
        prefix = self._past.prefix.decode("utf-8", "surrogateescape") or "."
        below = posixpath.relpath(posixpath.join(folder, readable[0][0]), prefix)
        named = agree([text for _, text in readable])
        return named, below.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def _read(self, entry: Entry) -> bytes | None:
        """What a licence file holds; ``None`` where it is not here, or too large for one."""
        if entry.size is None or entry.size > MOST_LICENSE_BYTES:
            return None
        return self._contents.read(entry.sha)

    def _list(self) -> dict[str, dict[str, Entry]]:
        """Folder -> name -> the licence files of the whole repository."""
        if self._folders is None:
            self._folders = {}
            for entry in list_entries(replace(self._past, prefix=b""), self._year.sha):
                folder, _, name = entry.path.decode("utf-8", "surrogateescape").rpartition("/")
                if entry.mode not in (LINK_MODE, SUBMODULE_MODE) and choose_license_files([name]):
                    self._folders.setdefault(folder, {})[name] = entry
        return self._folders
