"""The records of a file with all that is wrong with it: every line is looked at, broken ones are counted.

What this does not do: judge the records (``inspection`` does), or read on where a file itself is damaged.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codestrata.data.codesearchnet import (
    HUB_FIELDS,
    ORIGINAL_FIELDS,
    Function,
    build_function,
    list_record_files,
)
from codestrata.data.rows import Finding, scan_rows
from codestrata.data.secrets import hide_secret
from codestrata.data.sniffing import explain_unknown, name_language, recognize
from codestrata.data.sourced import SourcedExample
from codestrata.data.sources import Record, build_record, load_records
from codestrata.data.tables import Demands, build_entry, list_tables
from codestrata.errors import DataError, SettingsError, shorten
from codestrata.progress import Progress
from codestrata.records import Example
from codestrata.settings.tasks import Source, TaskSettings

MOST_NAMED = 10
"""So many faults are named; all are counted."""
LINES_PER_NOTICE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A usable record, where it stands, its code's language, and its example or why it has none."""

    record: Record
    file: Path
    line: int
    language: str | None
    example: Example | str


@dataclass(kw_only=True)
class Survey:
    """What the lines of a file, or of a folder's files, hold; ``first_broken`` are the first faults."""

    source: Source | None = None
    files: tuple[Path, ...] = ()
    fields: dict[str, None] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    broken: int = 0
    first_broken: list[DataError] = field(default_factory=list)
    empty: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def blame(self, error: DataError) -> None:
        """Keep a fault if it is one of the first, and count it if it is of a record, not of a whole file."""
        self.broken += error.line is not None
        if len(self.first_broken) < MOST_NAMED:
            self.first_broken.append(error)


def recognize_file(path: Path, settings: TaskSettings) -> tuple[Source | None, DataError | None]:
    """The source of the first line that can be read; else what is wrong with the file."""
    fault: DataError | None = None
    for line, row in scan_rows(path):
        if isinstance(row, DataError):
            fault = fault or row
            continue
        source = recognize(row, settings.columns)
        if source is not None:
            return source, None
        return None, DataError(explain_unknown(row, settings.columns), path=path, line=line)
    return None, fault or DataError("the file holds no records", path=path)


def survey_path(path: Path, source: Source, settings: TaskSettings, progress: Progress) -> Survey:
    """Every record of a file or folder of a known source, and every fault in it.

    Tables and CodeSearchNet's records are read line by line; of other sources, which their own modules read
    whole, the first fault is the only one.
    """
    survey = Survey(source=source)
    try:
        survey.files = tuple(list_files(path, source))
        if source == "file":
            survey_tables(survey, settings, progress)
        elif source == "codesearchnet":
            survey_functions(survey, settings, progress)
        else:
            survey_whole(survey, path, settings)
    except DataError as error:
        survey.blame(error)
    return survey


def list_files(path: Path, source: Source) -> Sequence[Path]:
    """The files that a source reads of a path. Raises: DataError: a folder cannot be read."""
    if not path.is_dir():
        return [path]
    if source == "codesearchnet":
        return list_record_files(path)
    if source == "file":
        return [file for file, _ in list_tables(path)]
    return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))


def watch_lines(file: Path, findings: Iterable[Finding], progress: Progress) -> Iterator[Finding]:
    """The findings of a file, while the watcher is told how far they are."""
    progress.start(f"read {file.name}", 0)
    for number, finding in enumerate(findings, start=1):
        if number % LINES_PER_NOTICE == 0:
            progress.advance(number, "records")
        yield finding


def survey_tables(survey: Survey, settings: TaskSettings, progress: Progress) -> None:
    """Look at one's own prompts and targets."""
    demands = Demands(columns=settings.columns, task=settings.name)
    columns = list(vars(settings.columns).values())
    for file in survey.files:
        lines: dict[str, int] = {}
        for line, row in watch_lines(file, scan_rows(file), progress):
            if isinstance(row, DataError):
                survey.blame(row)
                continue
            count_fields(survey, row, columns)
            try:
                entry = build_entry(row, file, line, demands)
                name = entry.example.identifier
                if lines.setdefault(name, line) != line:
                    shown = shorten(hide_secret(name))
                    said = f"id {shown} was used in line {lines[name]} already: ids must differ"
                    raise DataError(said, path=file, line=line)
            except DataError as error:
                survey.blame(error)
                continue
            record = SourcedExample(example=entry.example, date=entry.date, license=entry.license, line=line)
            language = name_language(row) or settings.language
            survey.found.append(
                Found(record=record, file=file, line=line, language=language, example=entry.example)
            )


def survey_functions(survey: Survey, settings: TaskSettings, progress: Progress) -> None:
    """Look at documented functions."""
    for file in survey.files:
        for line, row in watch_lines(file, scan_rows(file), progress):
            if isinstance(row, DataError):
                survey.blame(row)
                continue
            hub = HUB_FIELDS["code"] in row
            count_fields(survey, row, list((HUB_FIELDS if hub else ORIGINAL_FIELDS).values()))
            try:
                function = build_function(row, file, line)
            except DataError as error:
                survey.blame(error)
                continue
            example = build_record(settings.objective, function)
            if isinstance(example, str):
                survey.dropped[example] += 1
            survey.found.append(
                Found(record=function, file=file, line=line, language=function.language, example=example)
            )


def survey_whole(survey: Survey, path: Path, settings: TaskSettings) -> None:
    """Look at a source whose own module reads it. Raises: DataError: the first thing that is wrong."""
    assert survey.source is not None
    try:
        loaded = load_records(settings, survey.source, path, settings.objective)
    except SettingsError as error:
        raise DataError(str(error), path=path) from error
    survey.dropped.update(loaded.dropped)
    for number, record in enumerate(loaded.records, start=1):
        example = build_record(settings.objective, record)
        line = getattr(record, "line", None) or number
        language = record.language if isinstance(record, Function) else settings.code_language
        survey.found.append(Found(record=record, file=path, line=line, language=language, example=example))


def count_fields(survey: Survey, row: Mapping[str, Any], known: Sequence[str]) -> None:
    """Note the fields of a row, and which of the known ones say nothing though others have them."""
    survey.fields |= dict.fromkeys(row)
    for name in known:
        value = row.get(name)
        if name in row and (value is None or (isinstance(value, str) and not value.strip())):
            survey.empty[name] += 1
