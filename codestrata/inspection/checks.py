"""Whether a task can be made of a file, and what one should know before: the engine of ``data check``.

What this does not do: change the file, load a model's weights, or print.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from codestrata.data.catalogue import TEST_ONLY
from codestrata.data.exclusions import find_set
from codestrata.data.faults import Survey, recognize_file, survey_path
from codestrata.data.rows import scan_rows
from codestrata.data.sniffing import sniff
from codestrata.data.tables import list_tables
from codestrata.data.tasks import load_task
from codestrata.errors import CodestrataError, DataError, SettingsError, describe_unknown
from codestrata.files import PIECE_BYTES, open_plain
from codestrata.inspection.contents import describe_languages, describe_texts, measure_lengths
from codestrata.inspection.options import TASK, CheckOptions, name_options
from codestrata.inspection.repeats import count_licenses, find_duplicates, find_leaks, scan_secrets
from codestrata.progress import Progress, Silence
from codestrata.settings.tasks import OBJECTIVES, ColumnSettings, Source, TaskSettings

SCHEMA_VERSION = 1
MARK = b"\xef\xbb\xbf"


def check_file(path: Path, options: CheckOptions, progress: Progress | None = None) -> dict[str, Any]:
    """Everything about a file or folder of records, as plain values (``schemas/data_check.schema.json``).

    Raises:
        SettingsError: no such file, a name in the options that is unknown, or a column that no row has.
        DataError, ModelError: one of the named sets, or the base's tokenizer, cannot be loaded.
    """
    try:
        return check_records(path, options, progress or Silence())
    except CodestrataError as error:
        error.args = (name_options(str(error)),)
        raise


def check_records(path: Path, options: CheckOptions, watcher: Progress) -> dict[str, Any]:
    """As ``check_file``; what it raises may speak of settings."""
    if not path.exists():
        raise SettingsError(f"{str(path)!r} is not there: name a file or folder of records.")
    settings = TaskSettings(
        name=TASK,
        source="file",
        path=str(path),
        language=options.language,
        columns=options.columns,
        objective="generate",
    )
    for name in options.against:
        find_set(settings, name)
    refuse_unknown_columns(path, options.columns)
    source, fault = find_source(path, settings)
    if source is None:
        survey = Survey(files=(path,))
        if fault is not None:
            survey.blame(fault)
    else:
        settings = settle(settings, path, source, options)
        survey = survey_path(path, source, settings, watcher)
    settings = replace(settings, language=choose_language(survey, options))
    return describe(path, survey, settings, options, watcher)


def refuse_unknown_columns(path: Path, columns: ColumnSettings) -> None:
    """Refuse columns that were named by hand and are in no row.

    Raises: SettingsError: the first of them, with the nearest name that is there.
    """
    usual = vars(ColumnSettings())
    missing = [name for key, name in vars(columns).items() if name != usual[key]]
    known: set[str] = set()
    try:
        for file in [table for table, _ in list_tables(path)] if path.is_dir() and missing else [path]:
            for _, row in scan_rows(file) if missing else ():
                known |= set(() if isinstance(row, DataError) else row)
                missing = [name for name in missing if name not in known]
                if not missing:
                    return
    except DataError:  # said where the records are read
        return
    if missing and known:
        raise SettingsError(f"{path}: {describe_unknown('column', missing[0], known)}")


def find_source(path: Path, settings: TaskSettings) -> tuple[Source | None, DataError | None]:
    """The source that a path is of, or what is wrong with it."""
    try:
        return sniff(path, settings.columns).source, None
    except DataError as error:
        if path.is_dir():
            return None, error
        return recognize_file(path, settings)


def settle(settings: TaskSettings, path: Path, source: Source, options: CheckOptions) -> TaskSettings:
    """The settings of a task of this source."""
    possible = OBJECTIVES.get(source, ("generate",))
    objective = options.objective if options.objective in possible else possible[0]
    language = options.language
    if language is None and source != "file":  # of one's own, every record says it for itself
        try:
            language = next(iter(sniff(path, settings.columns).languages), None)
        except DataError:  # the first line is broken
            language = None
    return replace(settings, source=source, objective=objective, language=language)


def choose_language(survey: Survey, options: CheckOptions) -> str | None:
    """The language of a task of these records: as asked, else the commonest of them, if any names one."""
    counts = Counter(found.language for found in survey.found if found.language)
    common = counts.most_common(1)
    return options.language or (common[0][0] if common else None)


def describe(
    path: Path, survey: Survey, settings: TaskSettings, options: CheckOptions, watcher: Progress
) -> dict[str, Any]:
    """The report, out of what a file holds."""
    task, reason = try_task(survey, settings)
    serves_as_tests = survey.source in TEST_ONLY and bool(survey.found) and not survey.first_broken
    return {
        "schema_version": SCHEMA_VERSION,
        "path": str(path),
        "files": [describe_bytes(file) for file in survey.files],
        "source": survey.source,
        "fields": list(survey.fields),
        "records": len(survey.found),
        "broken": survey.broken,
        "first_broken": [describe_fault(error, path) for error in survey.first_broken],
        "empty_fields": dict(sorted(survey.empty.items())),
        "not_examples": dict(sorted(survey.dropped.items())),
        "texts": describe_texts(survey.found),
        "languages": describe_languages(survey.found),
        "lengths": measure_lengths(survey.found, options, watcher),
        "duplicates": find_duplicates(survey.found, options, watcher),
        "leaks": [find_leaks(survey.found, name, settings, options, watcher) for name in options.against],
        "secrets": scan_secrets(survey.found, watcher),
        "licenses": count_licenses(survey.found),
        "task": task,
        "task_reason": reason,
        "usable": task is not None or serves_as_tests,
    }


def describe_fault(error: DataError, path: Path) -> dict[str, Any]:
    """A fault with its place."""
    text = str(error)
    place = f"{error.path}: " if error.line is None else f"{error.path}:{error.line}: "
    return {
        "file": str(error.path or path),
        "line": error.line,
        "problem": name_options(text.removeprefix(place)),
    }


def describe_bytes(file: Path) -> dict[str, Any]:
    """A file's name and size, and how it is encoded."""
    size = marks = returns = 0
    try:
        with open_plain(file) as content:
            last = b""
            while piece := content.read(PIECE_BYTES):
                marks += size == 0 and piece.startswith(MARK)
                returns += (last + piece).count(b"\r\n")
                last = piece[-1:] if piece.endswith(b"\r") else b""
                size += len(piece)
    except OSError:
        return {"name": file.name, "bytes": None, "byte_order_mark": None, "crlf_lines": None}
    binary = file.name.lower().endswith((".gz", ".parquet"))
    return {
        "name": file.name,
        "bytes": size,
        "byte_order_mark": None if binary else bool(marks),
        "crlf_lines": None if binary else returns,
    }


def try_task(survey: Survey, settings: TaskSettings) -> tuple[dict[str, Any] | None, str | None]:
    """What a task of the records would hold, or why there can be none."""
    if survey.first_broken and (survey.source is None or not survey.broken):
        return None, str(describe_fault(survey.first_broken[0], Path(settings.path or "."))["problem"])
    if survey.broken:
        lines = "1 record is" if survey.broken == 1 else f"{survey.broken} records are"
        return None, f"{lines} broken: mend them or take them out"
    if survey.source in TEST_ONLY:
        return (
            None,
            f"{survey.source} holds tests only: train on another source and test on this one, with "
            f'test_source = "{survey.source}"',
        )
    try:
        task = load_task(settings)
    except CodestrataError as error:
        return None, name_options(str(error))
    return {
        "objective": task.objective,
        "train": len(task.train),
        "validation": len(task.validation),
        "test": len(task.test),
        "dropped": dict(task.dropped),
        "notes": list(task.notes),
    }, None
