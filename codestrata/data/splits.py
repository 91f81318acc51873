"""Records kept apart: which are trained on, which are held out to validate and to test.

What this does not do: build examples or cap their number (``tasks`` does), or look for duplicates
(``duplicates`` does).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from codestrata.data.sourced import SourcedExample
from codestrata.data.sources import Record, read_own, read_repository
from codestrata.data.units import describe_apart, name_folders
from codestrata.errors import DataError
from codestrata.files import hash_text
from codestrata.settings.tasks import Split, TaskSettings

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
MOST_VALIDATION = 0.2
"""Whole units of more than this share of the training records are not taken for validation."""
MOST_TESTS = 0.5
"""A larger share of all records as tests is noted."""
FEWEST_TESTS = 10
LEAST_TESTED = 0.05
"""Fewer tests, or a smaller share of the records, are said to be few where more could be held out."""
FEW_TESTS = "few records are held out for tests"
"""How the note on that begins."""
UNITS: dict[Split, tuple[str, str]] = {
    "partition": ("part", "parts"),
    "repository": ("repository", "repositories"),
    "folder": ("folder", "folders"),
    "date": ("day", "days"),
    "record": ("record", "records"),
}
"""What a split moves as a whole, one and many of it."""

Held = TypeVar("Held")


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Records in their splits, before any is turned into an example; ``by`` is what kept them apart."""

    train: Sequence[Record]
    validation: Sequence[Record]
    test: Sequence[Record]
    by: Split
    notes: tuple[str, ...] = ()


def split_records(records: Sequence[Record], settings: TaskSettings) -> Splits:
    """The records in their splits, by what ``settings.split`` says, with a note on the shares.

    Raises: DataError: the records cannot be split as asked; with what was found and what is possible.
    """
    if settings.split is None and {record.partition for record in records} == {"train", "validation"}:
        return hold_out_tests(records, settings)
    by = choose_split(records, settings, ("partition", "repository", "folder", "record"))
    if by == "partition":
        train, validation, test = (
            [record for record in records if record.partition == name]
            for name in ("train", "validation", "test")
        )
        note = f"split by the data's own partitions: {count_splits(train, validation, test)}"
        splits = Splits(train=train, validation=validation, test=test, by=by)
        return replace(splits, notes=(note, *note_few(splits, records)))
    records = list({record.identifier: record for record in records}.values())
    unit = build_unit(records, by)
    train, test = hold_out_by(records, unit, by, TEST_SHARE, settings.seed)
    splits = hold_out_validation(Splits(train=train, validation=(), test=test, by=by), unit, settings)
    notes = (describe_split(splits, unit), *note_folders(records, by), *splits.notes)
    return replace(splits, notes=(*notes, *note_few(splits, records)))


def hold_out_tests(records: Sequence[Record], settings: TaskSettings) -> Splits:
    """The splits of data with no test part of their own: tests are held out of train, validation is as it is.

    Raises: DataError: as ``split_records``.
    """
    train = [record for record in records if record.partition == "train"]
    validation = [record for record in records if record.partition == "validation"]
    splits = split_records(train, replace(settings, validation_examples=0))
    note = (
        f"the data have no test part: tests are held out of their {len(train)} train records, and their "
        f"{len(validation)} validation records stay what they are"
    )
    return replace(splits, validation=validation, notes=(note, *splits.notes))


def split_training(records: Sequence[Record], settings: TaskSettings) -> Splits:
    """Records of which none are tests, as these come from elsewhere: training, and validation held out of it.

    The data's own partitions serve where every record has one and train occurs; those of test stay unused.
    """
    found = Counter(record.partition for record in records)
    if settings.split in (None, "partition") and found["train"] and not found[None]:
        train, validation = (
            [record for record in records if record.partition == name] for name in ("train", "validation")
        )
        splits = Splits(train=train, validation=validation, test=(), by="partition")
        unused = f"{found['test']} test records of the source are left unused: tests come from elsewhere"
        return replace(splits, notes=(describe_training(splits), *([unused] if found["test"] else [])))
    by = choose_split(records, settings, ("repository", "folder", "record"))
    unit = build_unit(records, by)
    splits = hold_out_validation(Splits(train=records, validation=(), test=(), by=by), unit, settings)
    notes = (describe_training(splits), *note_folders(records, by), *splits.notes)
    return replace(splits, notes=notes)


def choose_split(records: Sequence[Record], settings: TaskSettings, order: Sequence[Split]) -> Split:
    """By what the records are split: as asked, else by the first of an order that can be.

    Unasked, records that do not say of which repository they are stand for themselves; where repositories are
    asked for they are refused, as they may be of any.

    Raises: DataError: what is asked cannot be; with what was found and what is possible.
    """
    if not records:  # what took them all is said where examples are missing
        return "record"
    possible = list_possible(records)
    if settings.split is not None:
        if settings.split not in possible:
            message = explain_impossible(records, settings, settings.split, possible)
            raise DataError(message, path=settings.path)
        return settings.split
    repositories = {record.repository for record in records}
    if len(repositories) > 1:
        possible |= {"repository": len(repositories)}
    return next((by for by in order if by in possible), "record")


def hold_out_validation(splits: Splits, unit: Callable[[Record], str], settings: TaskSettings) -> Splits:
    """The splits with validation held out of training; by single records where whole units are too large."""
    if settings.validation_examples == 0:
        return splits
    kept, held = hold_out_by(splits.train, unit, splits.by, VALIDATION_SHARE, settings.seed)
    total = len(splits.train)
    if splits.by == "record" or 0 < len(held) <= MOST_VALIDATION * total or not total:
        return replace(splits, train=kept, validation=held)
    one, many = name_unit(splits.train, splits.by)
    note = f"all training records are of one {one}: validation is held out of it by record"
    if held:
        note = (
            f"validation by whole {many} would take {len(held)} of {total} training records: it is held out "
            "by record"
        )
    kept, held = hold_out(splits.train, read_own, VALIDATION_SHARE, settings.seed)
    return replace(splits, train=kept, validation=held, notes=(*splits.notes, note))


def hold_out_by(
    records: Sequence[Record], unit: Callable[[Record], str], by: Split, share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """(kept, held) records by whole units: of days the newest, else as ``hold_out`` draws them."""
    if by == "date":
        return hold_out_newest(records, unit, share)
    return hold_out(records, unit, share, seed)


def hold_out(
    records: Sequence[Held], group: Callable[[Held], str], share: float, seed: int
) -> tuple[list[Held], list[Held]]:
    """(kept, held) records, both in their old order; no group is on both sides.

    Groups are taken in the order of a hash of seed and name while they fit into ``share`` of the records. If
    none fits, the smallest is taken; if they come to less than half of the share, the smallest others are
    taken too, up to half of the records. Nothing is held out of a single group.
    """
    sizes = Counter(group(record) for record in records)
    names = sorted(sizes, key=lambda name: hash_text(f"{seed}:{name}"))
    held: set[str] = set()
    room = round(len(records) * share)
    for name in names:
        if sizes[name] <= room:
            held.add(name)
            room -= sizes[name]
    wanted = round(len(records) * share)
    count = wanted - room
    for name in sorted((name for name in names if name not in held), key=lambda name: sizes[name]):
        is_small = 2 * count < wanted and 2 * (count + sizes[name]) <= len(records)
        if len(names) > 1 and (not held or is_small):
            held.add(name)
            count += sizes[name]
    kept = [record for record in records if group(record) not in held]
    return kept, [record for record in records if group(record) in held]


def hold_out_newest(
    records: Sequence[Held], day: Callable[[Held], str], share: float
) -> tuple[list[Held], list[Held]]:
    """(kept, held) records, both in their old order: held are those of the newest days.

    Days are taken from the newest while they fit into ``share`` of the records, at least one; the records of
    a day stay together. Nothing is held out of a single day.
    """
    sizes = Counter(day(record) for record in records)
    days = sorted(sizes, reverse=True)
    room = round(len(records) * share)
    held = set(days[:1]) if len(days) > 1 else set()
    room -= sum(sizes[one] for one in held)
    for one in days[1:-1]:
        room -= sizes[one]
        if room < 0:
            break
        held.add(one)
    kept = [record for record in records if day(record) not in held]
    return kept, [record for record in records if day(record) in held]


def build_unit(records: Sequence[Record], by: Split) -> Callable[[Record], str]:
    """What a record must not be separated from when ``by`` decides."""
    if by == "repository":
        return read_repository
    if by == "date":
        return lambda record: record.date or ""
    if by == "folder":
        folders = name_folders(records).units
        return lambda record: folders[record.repository or "", record.path or ""]
    return read_own


def list_possible(records: Sequence[Record]) -> dict[Split, int]:
    """The ways in which the records can be split and how many units each has."""
    found: dict[Split, int] = {}
    parts = {record.partition for record in records}
    if {"train", "test"} <= parts and None not in parts:
        found["partition"] = len(parts)
    repositories = {record.repository for record in records}
    if None not in repositories and len(repositories) > 1:
        found["repository"] = len(repositories)
    if records and all(record.path for record in records):
        found["folder"] = len(set(name_folders(records).units.values()))
    days = {record.date for record in records}
    if None not in days:
        found["date"] = len(days)
    found["record"] = len({read_own(record) for record in records})
    return {by: count for by, count in found.items() if count > 1}


def explain_impossible(
    records: Sequence[Record], settings: TaskSettings, by: Split, possible: Mapping[Split, int]
) -> str:
    """Why the records cannot be split as asked, and how they can be."""
    return (
        f"task {settings.name!r} cannot be split by {by}: {explain_missing(records, by)}. "
        f"Possible values of tasks.split: {list_ways(records, possible)}"
    )


def list_ways(records: Sequence[Record], possible: Mapping[Split, int]) -> str:
    """The ways to split records, each with the number of its units."""
    ways = (f"{way} ({count} {name_unit(records, way)[1]})" for way, count in possible.items())
    return ", ".join(ways) or "none"


def explain_missing(records: Sequence[Record], by: Split) -> str:
    """What the records lack for a split."""
    total = len(records)
    if by == "partition":
        counts = Counter(record.partition or "no partition" for record in records)
        found = ", ".join(f"{count} of {name}" for name, count in sorted(counts.items())) or "none"
        return f"every record must be of a partition, and both train and test occur; found: {found}"
    if by == "record":
        return f"there is only one record to tell apart, out of {total}"
    read: dict[Split, Callable[[Record], str | None]] = {
        "repository": lambda record: record.repository,
        "folder": lambda record: record.path,
        "date": lambda record: record.date,
    }
    values = [read[by](record) for record in records]
    absent = values.count(None)
    name = {"repository": "repository (group)", "folder": "path", "date": "date"}[by]
    if absent:
        return f"{absent} of {total} records have no {name}"
    return f"all {total} records are of one {name_unit(records, by)[0]}"


def name_unit(records: Sequence[Record], by: Split) -> tuple[str, str]:
    """What a split moves as a whole, one and many of it; the repositories of ready examples are groups."""
    if by == "repository" and any(isinstance(record, SourcedExample) for record in records):
        return "group", "groups"
    return UNITS[by]


def count_splits(*splits: Sequence[Record]) -> str:
    """How many records each split holds, and which share of all that is."""
    total = sum(map(len, splits)) or 1
    names = ("train", "validation", "test")
    return ", ".join(
        f"{len(split)} {name} ({len(split) / total:.0%})" for name, split in zip(names, splits, strict=True)
    )


def note_folders(records: Sequence[Record], by: Split) -> tuple[str, ...]:
    """The note on folders that were taken apart for a split by folder."""
    return describe_apart(name_folders(records)) if by == "folder" else ()


def note_few(splits: Splits, records: Sequence[Record]) -> tuple[str, ...]:
    """The note that few records are tests though there are more, and how else they can be split."""
    total, count = len(records), len(splits.test)
    wanted = min(FEWEST_TESTS, round(total * TEST_SHARE))
    is_thin = splits.by != "partition" and count < total * LEAST_TESTED
    if count >= wanted and not is_thin:
        return ()
    possible = {way: number for way, number in list_possible(records).items() if way != splits.by}
    share = f"{count} of {total} ({count / total:.0%})"
    return (f"{FEW_TESTS}: {share}; other values of tasks.split: {list_ways(records, possible)}",)


def describe_training(splits: Splits) -> str:
    """The note on training and validation where tests come from elsewhere."""
    total = max(len(splits.train) + len(splits.validation), 1)
    by = "the data's own partitions" if splits.by == "partition" else name_unit(splits.train, splits.by)[0]
    return (
        f"tests come from elsewhere; split by {by}: {len(splits.train)} train "
        f"({len(splits.train) / total:.0%}), {len(splits.validation)} validation "
        f"({len(splits.validation) / total:.0%})"
    )


def describe_split(splits: Splits, unit: Callable[[Record], str]) -> str:
    """The note on what was kept apart: by what, how many records, and how many units."""
    counted = count_splits(splits.train, splits.validation, splits.test)
    parts = (splits.train, splits.validation, splits.test)
    units = [len({unit(record) for record in part}) for part in parts]
    one, many = name_unit([*splits.train, *splits.test], splits.by)
    said = f"split by {one}: {counted}"
    if splits.by == "record":
        return said
    said = f"{said}, of {units[0]}, {units[1]} and {units[2]} {many}"
    large = len(splits.test) > MOST_TESTS * sum(map(len, parts))
    return f"{said}; more than half are tests, as no {one} is cut" if large else said
