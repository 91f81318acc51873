"""A repository's history as tasks in the order of time: for each year the functions that were new then.

A function belongs to the first year at whose last commit its code stands, in whatever file: moved and renamed
files and restored older code bring nothing new. Code is compared without layout and comments.

What this does not do: check anything out, see what came and went within one year, or leave out near
duplicates of an earlier year's functions (``data.duplicates`` does within a task).
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from itertools import chain, groupby, islice
from operator import attrgetter
from pathlib import Path
from secrets import token_hex
from typing import Any

from codestrata.data.licenses import check_licenses
from codestrata.data.mining.commits import (
    SUBMODULE_MODE,
    Entry,
    Repository,
    Year,
    list_entries,
    open_contents,
    open_repository,
    walk_years,
)
from codestrata.data.mining.harvest import LICENSE_REASONS, Harvest
from codestrata.data.mining.miner import rank
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.revisions import LicenseFiles, Reading, harvest_entry, judge_entry
from codestrata.data.mining.seen import Seen
from codestrata.data.mining.sources import check_language
from codestrata.data.mining.texts import DIGEST_BYTES
from codestrata.errors import DataError, SettingsError, shorten
from codestrata.files import PART_SUFFIX, make_folder, move, remove, write_pieces
from codestrata.progress import Progress
from codestrata.settings.checks import check_range

LEAST = 30
"""A year with fewer new functions is joined with the next one."""
UNCHANGED = "the same code as an earlier function"
YEAR_FILE = "{year:04d}.jsonl"
YEAR_NAME = re.compile(r"[0-9]{4}\.jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class YearFile:
    """One file of tasks: the years whose functions are in it, and the last one's last commit."""

    file: str
    years: tuple[int, ...]
    functions: int
    added: int
    changed: int
    sha: str
    commit_date: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryReport:
    """What a history gave. ``files`` and ``bytes`` are of different contents that were mined, each once.

    ``left_out`` has the functions of the last years, where they were too few for a file.
    """

    language: str
    repo: str
    out: str
    commits: int
    years: tuple[YearFile, ...]
    left_out: Mapping[str, int]
    files: int
    bytes: int
    errors: int
    functions: int
    kept: int
    skipped_files: Mapping[str, int]
    dropped_functions: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: float

    def to_plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Found:
    """A function that a year brought, as a line of JSON; ``is_changed``: an earlier year had its name."""

    year: int
    line: bytes
    is_changed: bool


class Account:
    """The counts of a history, and what earlier years had."""

    def __init__(self) -> None:
        self.files = self.bytes = self.errors = self.functions = self.kept = self.out_of_order = 0
        self.skipped: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.ends: dict[int, tuple[str, str]] = {}
        self._contents, self._functions, self._names = Seen(), Seen(), Seen()
        self._new_names: list[int] = []

    def knows(self, entry: Entry, reason: str | None) -> bool:
        """Whether a file's bytes were mined before, or skipped for the same reason."""
        return identify(entry, reason) in self._contents

    def remember(self, entry: Entry, reason: str | None) -> bool:
        """Have these bytes count as mined, or as skipped for a reason; whether that is new."""
        return self._contents.add(identify(entry, reason))

    def take(self, harvest: Harvest, year: int) -> Iterator[Found]:
        """Count what a file gave; gives those of its functions that are new."""
        if harvest.skipped is not None:
            self.skipped[harvest.skipped] += 1
            return
        self.files += 1
        self.bytes += harvest.bytes
        self.errors += harvest.has_errors
        self.functions += harvest.functions
        self.dropped.update(harvest.dropped)
        for number, line in harvest.records:
            if not self._functions.add(number):
                self.dropped[UNCHANGED] += 1
                continue
            record = json.loads(line)
            name = digest(record["path"].encode(), record["func_name"].encode())
            self._new_names.append(name)
            self.kept += 1
            yield Found(year, write_line({**record, "year": year}), name in self._names)

    def end_year(self, year: Year) -> None:
        """Have the year's names count as an earlier year's from now on."""
        for name in self._new_names:
            self._names.add(name)
        self._new_names = []
        self.out_of_order += year.out_of_order
        self.ends[year.year] = (year.sha, year.day)


def mine_history(
    repository: Path,
    language: str,
    out: Path,
    options: MiningOptions,
    progress: Progress,
    *,
    least: int = LEAST,
) -> HistoryReport:
    """Write ``<year>.jsonl`` for each year into the folder ``out``: the functions that were new in that year.

    A year with fewer than ``least`` is joined with the next; the last one is left out where it has fewer. The
    folder appears when it is whole.

    Raises:
        SettingsError: the language or a licence is unknown, there is no repository or no commit, git is not
            installed, or ``out`` is taken.
        DataError: the repository is damaged, or no year has enough functions.
        StorageError: ``out`` cannot be written.
    """
    started = time.perf_counter()
    check_language(language)
    check_range("--least", least, low=1)
    options = replace(options, licenses=check_licenses(options.licenses, "--license"))
    past = open_repository(repository)
    place = check_folder(out, overwrite=options.overwrite)
    account = Account()
    progress.start(f"mine {language} by year", past.commits)
    with appearing(place, overwrite=options.overwrite) as folder, open_contents(past) as contents:
        reading = Reading(past=past, contents=contents, language=language, options=options)
        found = find_functions(reading, account, progress)
        files, left_out = write_years(folder, found, account, least)
        if not files:
            raise DataError(describe_loss(account, language, least), path=repository)
    return HistoryReport(
        language=language,
        repo=past.about.repo,
        out=str(out),
        commits=past.commits,
        years=files,
        left_out=left_out,
        files=account.files,
        bytes=account.bytes,
        errors=account.errors,
        functions=account.functions,
        kept=sum(file.functions for file in files),
        skipped_files=rank(account.skipped),
        dropped_functions=rank(account.dropped),
        notes=list_notes(past, account),
        seconds=time.perf_counter() - started,
    )


def check_folder(out: Path, *, overwrite: bool) -> Path:
    """The folder to write, from the root. Raises: SettingsError: something else is there, or older files."""
    if out.suffix.lower() == ".jsonl":
        raise SettingsError(f"{shorten(str(out))} is called as a file: name a folder for the years' files.")
    out = out.resolve()
    if not out.exists():
        return out
    if not out.is_dir():
        raise SettingsError(f"{shorten(str(out))} is a file: name a folder for the years' files.")
    names = sorted(path.name for path in out.iterdir())
    others = [name for name in names if not (YEAR_NAME.fullmatch(name) and is_plain(out / name))]
    if others:
        raise SettingsError(
            f"{shorten(str(out))} holds {shorten(others[0])}, which no history made: choose a new folder."
        )
    if names and not overwrite:
        raise SettingsError(
            f"{shorten(str(out))} holds the years of an earlier call: choose a new one, or say --overwrite."
        )
    return out


def is_plain(path: Path) -> bool:
    """Whether a file lies there itself, no link to one."""
    return path.is_file() and not path.is_symlink()


@contextmanager
def appearing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place at the end, or is gone after a failure."""
    mark = token_hex(4)
    folder, older = (out.parent / f".{out.name}.{mark}{end}{PART_SUFFIX}" for end in ("", ".older"))
    make_folder(folder, fresh=True)
    try:
        yield folder
        check_folder(out, overwrite=overwrite)  # again: others may have written there meanwhile
        replace_folder(out, folder, older)
    except BaseException:
        remove(folder)
        raise


def replace_folder(out: Path, folder: Path, older: Path) -> None:
    """Put ``folder`` in the place of ``out``, which waits as ``older`` until that is done.

    Raises: StorageError: it cannot be; what was there is there again.
    """
    try:
        if out.exists():
            move(out, older)
        move(folder, out)
    except BaseException:
        if older.exists() and not out.exists():
            move(older, out)
        raise
    remove(older)


def find_functions(reading: Reading, account: Account, progress: Progress) -> Iterator[Found]:
    """The new functions of all years, in the order of time and then of paths."""
    for year in walk_years(reading.past):
        before = account.kept
        files = LicenseFiles(reading, year)
        for entry in list_entries(reading.past, year.sha):
            if not reading.concerns(entry):
                continue
            reason = judge_entry(entry, reading)
            if account.knows(entry, reason):
                continue
            harvest = Harvest(skipped=reason) if reason else harvest_entry(entry, year, files, reading)
            if harvest.skipped in LICENSE_REASONS:  # a copy, or a later year, may have another licence
                reason = harvest.skipped
            if account.remember(entry, reason):
                yield from account.take(harvest, year.year)
            progress.advance(year.commits_before, f"{year.year}: {account.kept - before:,} functions")
        account.end_year(year)
        done = year.commits_before + year.commits
        progress.advance(done, f"{year.year}: {account.kept - before:,} functions")


def write_years(
    folder: Path, found: Iterable[Found], account: Account, least: int
) -> tuple[tuple[YearFile, ...], dict[str, int]]:
    """Write the files as their functions come: (what they are, year -> functions that are left)."""
    files: list[YearFile] = []
    waiting: list[Found] = []
    for year, group in groupby(found, key=attrgetter("year")):
        waiting += islice(group, least - len(waiting))
        if len(waiting) < least:
            continue
        counts: Counter[str] = Counter()
        years = {function.year for function in waiting}
        name = YEAR_FILE.format(year=year)
        write_pieces(folder / name, count_lines(chain(waiting, group), counts))  # noqa: B031 - its rest
        files.append(
            YearFile(
                file=name,
                years=tuple(sorted(years)),
                functions=counts.total(),
                added=counts["added"],
                changed=counts["changed"],
                sha="",
                commit_date="",
            )
        )
        waiting = []
    ended = [
        replace(file, sha=account.ends[file.years[-1]][0], commit_date=account.ends[file.years[-1]][1])
        for file in files
    ]
    return tuple(ended), {
        str(year): count for year, count in Counter(function.year for function in waiting).items()
    }


def count_lines(found: Iterable[Found], counts: Counter[str]) -> Iterator[bytes]:
    """The lines, counted by whether they are new or changed."""
    for function in found:
        counts["changed" if function.is_changed else "added"] += 1
        yield function.line


def write_line(record: Mapping[str, Any]) -> bytes:
    """A record as a line of JSON."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def identify(entry: Entry, reason: str | None) -> int:
    """A number for what a file holds together with why it is skipped, if so."""
    what = entry.path if entry.mode == SUBMODULE_MODE else entry.sha
    return digest(what, (reason or "").encode())


def digest(*parts: bytes) -> int:
    """A number that only equal parts share."""
    return int.from_bytes(blake2b(b"\0".join(parts), digest_size=DIGEST_BYTES).digest())


def list_notes(past: Repository, account: Account) -> tuple[str, ...]:
    """What a reader of the files should know of the repository."""
    notes = []
    if past.is_shallow:
        notes.append(
            "A shallow clone: what is older than its first commit counts as new in that commit's year. "
            "git fetch --unshallow gets the rest."
        )
    if account.out_of_order:
        notes.append(
            f"{account.out_of_order:,} commits say that they are from an earlier year than one before them; "
            "they count for that one's year."
        )
    return tuple(notes)


def describe_loss(account: Account, language: str, least: int) -> str:
    """That no file could be written, and why."""
    reasons = (account.skipped + account.dropped).most_common(6)
    why = "; ".join(f"{name}: {count:,}" for name, count in reasons) or "there is no such file"
    return (
        f"{account.kept:,} documented {language} functions in all years, but a file takes {least:,} ({why}). "
        "Nothing was written. Ask for fewer with --least, or give another repository or language."
    )
