"""What the records of a file repeat (each other, and named sets), and what they should not hold.

What this does not do: leave anything out, or say what a secret is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codestrata.data.duplicates import DuplicateIndex, Match, collect_shingles, may_be_near
from codestrata.data.exclusions import find_set, load_excluded
from codestrata.data.faults import Found
from codestrata.data.secrets import find_secrets, hide_secret
from codestrata.data.sniffing import sniff
from codestrata.data.sources import Record
from codestrata.data.traces import trace_record
from codestrata.errors import DataError, SettingsError
from codestrata.inspection.contents import read_texts
from codestrata.inspection.options import MOST_EXAMPLES, TEXTS_AT_ONCE, CheckOptions
from codestrata.progress import Progress
from codestrata.settings.tasks import ONLY_LANGUAGE, TaskSettings

MOST_COMPARED = 20_000
"""Of more records, near duplicates are looked for among the first; equal ones, and leaks, among all."""
HERE = "here"


def find_duplicates(records: Sequence[Found], options: CheckOptions, watcher: Progress) -> dict[str, Any]:
    """Records that repeat an earlier one, exactly or nearly."""
    equal, similar = DuplicateIndex(1.0), DuplicateIndex(options.near_duplicates)
    earlier: dict[str, Found] = {}
    counts = {True: 0, False: 0}
    named: list[dict[str, Any]] = []
    watcher.start("compare", len(records))
    for number, found in enumerate(records):
        trace = trace_record(found.record)
        is_compared = number < MOST_COMPARED
        match = equal.find_equal(trace, HERE, [HERE])
        if match is None:
            earlier.setdefault(trace.identifier, found)
            equal.add(trace, HERE)
            match = similar.find_near(trace, [HERE]) if is_compared else None
            if is_compared and match is None:  # one of many alike stands for all
                similar.add(trace, HERE)
        if match is not None:
            counts[match.is_exact] += 1
            if len(named) < MOST_EXAMPLES:
                first = earlier[match.entry.trace.identifier]
                named.append({**describe_match(found, match), "repeats": f"{first.file.name}:{first.line}"})
        if number % TEXTS_AT_ONCE == 0:
            watcher.advance(number, "records")
    return {
        "threshold": options.near_duplicates,
        "compared": min(len(records), MOST_COMPARED),
        "exact": counts[True],
        "near": counts[False],
        "examples": named,
    }


def find_leaks(
    records: Sequence[Found],
    name: str,
    settings: TaskSettings,
    options: CheckOptions,
    watcher: Progress,
) -> dict[str, Any]:
    """Records that are in a named set too, exactly or nearly; of the set, what is in one of their languages.

    Raises: DataError, HubError, SettingsError: there is no such set, or it cannot be read.
    """
    index = DuplicateIndex(options.near_duplicates)
    others = load_set(records, name, settings, options)
    traces = [trace_record(other, mixed=True) for other in others]
    for trace in traces:
        index.add(trace, name)
    known = collect_shingles(traces) if index.looks_near else None
    counts = {True: 0, False: 0}
    named: list[dict[str, Any]] = []
    watcher.start(f"compare with {name}", len(records))
    for number, found in enumerate(records):
        trace = trace_record(found.record, mixed=True)
        match = index.find_equal(trace, HERE, [name])
        if match is None and known is not None and may_be_near(trace, known, index.threshold):
            match = index.find_near(trace, [name])
        if match is not None:
            counts[match.is_exact] += 1
            if len(named) < MOST_EXAMPLES:
                repeats = hide_secret(match.entry.trace.identifier)
                named.append({**describe_match(found, match), "repeats": repeats})
        if number % TEXTS_AT_ONCE == 0:
            watcher.advance(number, "records")
    return {
        "set": name,
        "records": len(others),
        "threshold": options.near_duplicates,
        "exact": counts[True],
        "near": counts[False],
        "examples": named,
    }


def load_set(
    records: Sequence[Found], name: str, settings: TaskSettings, options: CheckOptions
) -> list[Record]:
    """What a named set holds in the language asked for, else in any language that the records are in.

    Where some records name no language, what the set itself names counts besides.

    Raises: DataError, HubError, SettingsError: as ``load_excluded``, where it holds nothing in any of them.
    """
    languages: dict[str | None, None] = dict.fromkeys([options.language] if options.language else [])
    if not languages:
        named = dict.fromkeys(found.language for found in records)
        if None in named or not named:
            named |= dict.fromkeys(list_set_languages(name, settings))
        languages = {language: None for language in named if language}
        languages = languages or {require_language(name, settings): None}
    found: dict[Record, None] = {}
    faults: list[DataError | SettingsError] = []
    for language in languages:
        try:
            found |= dict.fromkeys(load_excluded(replace(settings, exclude=(name,), language=language), name))
        except (DataError, SettingsError) as error:  # the set may have nothing in one of the languages
            faults.append(error)
    if not found and faults:
        raise faults[0]
    return list(found)


def require_language(name: str, settings: TaskSettings) -> str | None:
    """The language of a set where no record names one: its only one; ``None`` where it needs none.

    Raises: SettingsError: it has several, or there is no such set.
    """
    source, _ = find_set(settings, name)
    if source == "file" or source in ONLY_LANGUAGE:
        return ONLY_LANGUAGE.get(source)
    raise SettingsError(
        f"{name} is of several languages, and the records name none: say theirs with --language, such as "
        "--language python."
    )


def list_set_languages(name: str, settings: TaskSettings) -> tuple[str, ...]:
    """The languages that the first records of a local set name."""
    for path in (Path(name), Path(name.partition(":")[2])):
        if path.name and path.exists():
            try:
                return sniff(path, settings.columns).languages
            except DataError:  # said where it is loaded
                return ()
    return ()


def describe_match(found: Found, match: Match) -> dict[str, Any]:
    """Where a record stands that repeats another, and how like they are."""
    return {
        "file": found.file.name,
        "line": found.line,
        "identifier": hide_secret(found.record.identifier),
        "same": match.same,
        "jaccard": match.jaccard,
    }


def scan_secrets(records: Sequence[Found], watcher: Progress) -> dict[str, Any]:
    """Where keys, tokens or passwords are, by kind and line; never what they are."""
    kinds: Counter[str] = Counter()
    places: list[dict[str, Any]] = []
    hit = 0
    watcher.start("look for secrets", len(records))
    for number, found in enumerate(records):
        secrets = {secret.kind for text in read_texts(found) for secret in find_secrets(text)}
        hit += bool(secrets)
        for kind in sorted(secrets):
            kinds[kind] += 1
            if len(places) < MOST_EXAMPLES:
                places.append({"file": found.file.name, "line": found.line, "kind": kind})
        if number % TEXTS_AT_ONCE == 0:
            watcher.advance(number, "records")
    return {"records": hit, "kinds": dict(sorted(kinds.items())), "first": places}


def count_licenses(records: Sequence[Found]) -> dict[str, int]:
    """How many records are under which licence, the commonest first; ``unknown`` where they do not say."""
    counts = Counter(found.record.license or "unknown" for found in records)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
