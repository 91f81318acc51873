"""Trees of source code in, one file of documented functions out: in parallel, in order, in bounded memory.

The same trees give the same bytes, whatever the number of processes. Only little grows with the trees: two to
four words for each file and each function that was seen, and the names of one folder at a time.

What this does not do: split the functions into training and test, or leave out near duplicates
(``data.tasks`` and ``data.duplicates`` do).
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codestrata.data.licenses import check_licenses
from codestrata.data.mining.harvest import MEMORY, SLOW, Harvest, harvest_file
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.repositories import clean, forget
from codestrata.data.mining.seen import Seen
from codestrata.data.mining.sources import (
    SUFFIXES,
    SourceFile,
    Tally,
    Tree,
    Walk,
    check_language,
    find_trees,
)
from codestrata.data.mining.workers import DIED, MOST_FILES_IN_CHUNK, Crew, find_peak_memory
from codestrata.errors import DataError, SettingsError, shorten
from codestrata.files import write_pieces
from codestrata.progress import Progress

SUFFIX = ".jsonl"
COPY = "a copy of a file seen before"
REPEATED = "the same tokens as a function seen before"
NAMED_REASONS = (DIED, MEMORY, SLOW)
MOST_NAMED = 20
"""So many files that went wrong are named in a report."""
MOST_DEATHS = 50
"""Where more workers have died, it is not for the files."""


@dataclass(frozen=True, kw_only=True)
class MiningReport:
    """What was found, what was left out and why, and what it took.

    ``files`` are those of the language that were found; ``bytes`` and ``encodings`` are of those mined, of
    which ``errors`` have faults in their syntax. ``other_files`` are counted by language, and
    ``troubled_files`` name those that are skipped because something went wrong. ``notes`` say of how many
    files what is not known.
    """

    language: str
    out: str
    trees: tuple[str, ...]
    files: int
    mined_files: int
    skipped_files: Mapping[str, int]
    skipped_folders: Mapping[str, int]
    other_files: Mapping[str, int]
    troubled_files: tuple[Mapping[str, str], ...]
    notes: Mapping[str, int]
    encodings: Mapping[str, int]
    errors: int
    bytes: int
    functions: int
    kept: int
    dropped_functions: Mapping[str, int]
    jobs: int
    seconds: float
    memory_mib: Mapping[str, float | None]

    def to_plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


class Account:
    """The counts while a tree is mined, and what was seen before; ``tally`` is that of the walk over it."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.done = self.mined = self.errors = self.bytes = self.functions = self.kept = 0
        self.skipped: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.encodings: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.troubled: list[Mapping[str, str]] = []
        self._files, self._functions = Seen(), Seen()

    @property
    def all_skipped(self) -> Counter[str]:
        """The files that were skipped, by reason: before they were opened, and after."""
        return self.tally.skipped + self.skipped

    def take(self, file: SourceFile, harvest: Harvest) -> bytes:
        """Count what a file gave; gives the lines of those of its functions that are new."""
        self.done += 1
        reason = harvest.skipped
        if reason is None and not self._files.add(harvest.digest):
            reason = COPY
        if reason is not None:
            self.skipped[reason] += 1
            if reason in NAMED_REASONS and len(self.troubled) < MOST_NAMED:
                self.troubled.append({"path": clean(file.path), "reason": reason})
            return b""
        self.mined += 1
        self.bytes += harvest.bytes
        self.errors += harvest.has_errors
        self.functions += harvest.functions
        self.encodings[harvest.encoding] += 1
        self.dropped.update(harvest.dropped)
        if harvest.note is not None and (harvest.note in self.notes or len(self.notes) < MOST_NAMED):
            self.notes[harvest.note] += 1
        lines = [line for number, line in harvest.records if self._functions.add(number)]
        self.dropped[REPEATED] += len(harvest.records) - len(lines)
        self.kept += len(lines)
        return b"".join(lines)


def mine(
    paths: Sequence[Path], language: str, out: Path, options: MiningOptions, progress: Progress
) -> MiningReport:
    """Write the documented functions of the trees to ``out``, one JSON record per line.

    The files are counted first, by a walk that opens none.

    Raises:
        SettingsError: the language or a licence is unknown, a path is not there, or ``out`` is no name for a
            file of records or exists and is not to be replaced.
        DataError: there is no file of the language, or no function was left.
        StorageError: ``out`` cannot be written.
    """
    started = time.perf_counter()
    check_language(language)
    options = replace(options, licenses=check_licenses(options.licenses, "--license"))
    trees = find_trees(paths)
    check_out(out, overwrite=options.overwrite)
    forget()  # what an earlier call saw of the trees may have changed
    total = count_files(trees, language, options, progress)
    walk = Walk(trees, language, options)
    account = Account(walk.tally)
    progress.start(f"mine {language}", total)
    jobs, memory = write_functions(out, walk, account, language, choose_jobs(options, total), progress)
    return MiningReport(
        language=language,
        out=str(out),
        trees=tuple(clean(str(Path(tree.root, tree.name or ""))) for tree in trees),
        files=walk.tally.files,
        mined_files=account.mined,
        skipped_files=rank(account.all_skipped),
        skipped_folders=rank(walk.tally.folders),
        other_files=rank(walk.tally.others),
        troubled_files=tuple(account.troubled),
        notes=rank(account.notes),
        encodings=rank(account.encodings),
        errors=account.errors,
        bytes=account.bytes,
        functions=account.functions,
        kept=account.kept,
        dropped_functions=rank(account.dropped),
        jobs=jobs,
        seconds=time.perf_counter() - started,
        memory_mib={"parent": find_peak_memory(), "worker": memory},
    )


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a name that nothing would read, and a file that is there. Raises: SettingsError."""
    if out.suffix != SUFFIX:
        raise SettingsError(
            f"{shorten(str(out))} is no name for mined functions, which are lines of JSON: end it in "
            f"{SUFFIX}."
        )
    if out.is_dir():
        raise SettingsError(f"{shorten(str(out))} is a folder: name a file.")
    if not overwrite and out.exists():
        raise SettingsError(f"{shorten(str(out))} is there already: choose another name, or say --overwrite.")


def count_files(trees: Sequence[Tree], language: str, options: MiningOptions, progress: Progress) -> int:
    """How many files there are to open. Raises: DataError: there is none of the language at all."""
    progress.start("find files", 1)
    walk = Walk(trees, language, options)
    total = sum(1 for _ in walk)
    if walk.tally.files == 0:
        raise DataError(describe_absence(trees, language, walk.tally))
    progress.advance(1, f"{total:,} to open of {walk.tally.files:,} {language} files")
    return total


def choose_jobs(options: MiningOptions, total: int) -> MiningOptions:
    """The options with the number of processes: none are started for few files, unless that was asked."""
    jobs = 1 if options.jobs is None and total <= MOST_FILES_IN_CHUNK else options.workers
    return replace(options, jobs=jobs)


def write_functions(
    out: Path, walk: Walk, account: Account, language: str, options: MiningOptions, progress: Progress
) -> tuple[int, float | None]:
    """Write what the files give; gives the number of processes and the most memory that a worker took."""
    if options.workers == 1:
        mined = Seen()
        harvests = ((file, harvest_file(file, language, options, mined)) for file in walk)
        write_pieces(out, watch(harvests, account, progress))
        return 1, None
    with Crew(language, options) as crew:
        write_pieces(out, watch(crew.harvest(walk), account, progress))
        return options.workers, crew.memory_mib


def watch(
    harvests: Iterable[tuple[SourceFile, Harvest]], account: Account, progress: Progress
) -> Iterator[bytes]:
    """The lines of the functions that are kept, while telling how far it is.

    Raises: DataError: there is none, or too many workers died.
    """
    started = time.perf_counter()
    for file, harvest in harvests:
        lines = account.take(file, harvest)
        if harvest.skipped in NAMED_REASONS:
            progress.say(f"{clean(file.path)}: {harvest.skipped}")
        if account.skipped[DIED] > MOST_DEATHS:
            raise DataError(f"more than {MOST_DEATHS} processes have died while they mined: try one job")
        speed = account.bytes / 1e6 / max(time.perf_counter() - started, 1e-6)
        progress.advance(account.done, f"{account.kept:,} functions, {speed:.1f} MB/s")
        if lines:
            yield lines
    if account.kept == 0:
        raise DataError(describe_loss(account))


def describe_absence(trees: Sequence[Tree], language: str, tally: Tally) -> str:
    """That there is no file of the language, and what there is."""
    found = ", ".join(f"{count:,} {name}" for name, count in rank(tally.others).items()) or "no file at all"
    unread = "".join(f"; {count} folder(s): {name}" for name, count in rank(tally.folders).items())
    places = ", ".join(clean(tree.root) for tree in trees[:3])
    return (
        f"No {language} file ({' '.join(SUFFIXES[language])}) in {places}: found {found}{unread}. "
        "Give another folder, or another language."
    )


def describe_loss(account: Account) -> str:
    """That nothing was kept, and why."""
    reasons = (account.all_skipped + account.dropped).most_common()
    why = "; ".join(f"{name}: {count:,}" for name, count in reasons) or "the files define none"
    return (
        f"No function is left of {account.functions:,} in {account.mined:,} files: {why}. "
        "Nothing was written. Give a tree whose functions are documented, or a weaker filter."
    )


def rank(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts that are not zero, the largest first, equal ones by name."""
    return dict(
        sorted(((name, count) for name, count in counts.items() if count), key=lambda e: (-e[1], e[0]))
    )
