"""Tasks out of their settings: records are read, split, turned into examples and capped.

What this does not do: tokenize or batch (``batches`` does), know a source (its own module does) or a split
(``splits``), or decide what is a duplicate (``sieve``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from codestrata.data.catalogue import refuse_training
from codestrata.data.licenses import allows, check_licenses
from codestrata.data.sieve import Place, Sieve
from codestrata.data.sourced import SourcedExample
from codestrata.data.sources import Record, Records, load_records, replace_source
from codestrata.data.splits import Splits, split_records, split_training
from codestrata.data.traces import strip_layout
from codestrata.errors import DataError, shorten
from codestrata.files import hash_json, hash_text
from codestrata.progress import Progress
from codestrata.records import Example, Task
from codestrata.settings.tasks import Objective, Source, TaskSettings

LONGEST_LICENSE = 60


def load_task(settings: TaskSettings, *, cache: Path | None = None, progress: Progress | None = None) -> Task:
    """The task that ``settings`` describe, the same in every process.

    What is mined lies in ``cache`` (``None``: in the user's cache folder); ``progress`` is told of mining.

    Records are split as ``splits.split_records`` says; where tests come from elsewhere (``test_source``,
    ``test_path``), validation alone is held out. Each split is a seeded sample of at most as many examples as
    asked for, test first, then validation, then train; what repeats a record of its own split, of one before
    or of an excluded set is left out, as are records with secrets (``sieve``) and of other licences than
    asked for. ``dropped`` counts the records that would have been taken. Only ``kata`` has ``unseen``.

    Data whose own splits share an example is refused: one record of CodeSearchNet's schema in two partitions,
    or in one's own test file the prompt and target of a training example, whatever the layout. With
    ``allow_overlap`` it is taken as it is, training sees what is tested, and a note says how much. (Copies of
    a code in another repository, which any large corpus has, are no reason to refuse it: they are dropped
    from training, and counted.)

    Raises:
        DataError: records that cannot be used, splits that overlap or cannot be made as asked, or no example
            for train or for test.
        HubError: the hub's records were asked for, and it could not be reached.
        SettingsError: the source has nothing of this language, or holds tests only.
    """
    if settings.source == "kata":
        from codestrata.data.kata.problems import load_kata  # generates problems: others need none of it

        return load_kata(settings)
    refuse_training(settings)
    path, test_path = find_path(settings.path), find_path(settings.test_path)
    evaluation = settings.evaluation_objective or settings.objective
    found = load_records(settings, settings.source, path, settings.objective, cache=cache, progress=progress)
    found = filter_licenses(found, settings)
    if settings.tested_source is not None:
        source = settings.tested_source
        asked_of_tests = replace_source(settings, source, test_path, evaluation)
        tested = load_records(asked_of_tests, source, test_path, evaluation, cache=cache, progress=progress)
        refuse_overlaps(found.records, tested.records, settings)
        splits = choose_tests(split_training(found.records, settings), tested)
        found = replace(
            found,
            dropped=Counter(found.dropped) + Counter(tested.dropped),
            notes=(*found.notes, *tested.notes),
        )
    else:
        splits = split_records(found.records, settings)
        if splits.by == "partition":
            refuse_overlaps([*splits.train, *splits.validation], splits.test, settings)
        if evaluation != settings.objective and any(isinstance(test, SourcedExample) for test in splits.test):
            asked = load_records(settings, settings.source, path, evaluation, cache=cache, progress=progress)
            worded = reword_tests(splits, asked)
            lost = Counter({f"test without a form for {evaluation}": len(splits.test) - len(worded.test)})
            found, splits = replace(found, dropped=Counter(found.dropped) + lost), worded
    return build_task(settings, splits, found, build_sieve(settings, splits, cache, progress))


def check_task(settings: TaskSettings) -> None:
    """Refuse what is known to be wrong with a task before any record is read.

    Raises: SettingsError, DataError: a licence that is none, an excluded set of no known name, or a tree to
        be mined that is not there.
    """
    if settings.source == "kata":
        return
    check_licenses(settings.licenses, f"tasks.{settings.name}.licenses")
    read: list[tuple[Source, Path | None]] = [(settings.source, find_path(settings.path))]
    if settings.tested_source is not None:
        read.append((settings.tested_source, find_path(settings.test_path)))
    if settings.exclude:
        from codestrata.data.exclusions import find_set

        read += [find_set(settings, name) for name in settings.exclude]
    for source, path in read:
        if source == "mined":
            from codestrata.data.mined import choose_trees  # as in load_records

            choose_trees(replace_source(settings, source, path, "generate"))


def find_path(name: str | None) -> Path | None:
    """A path of the settings."""
    return None if name is None else Path(name)


def filter_licenses(found: Records, settings: TaskSettings) -> Records:
    """The records under the licences asked for; how many are under others is counted by licence.

    Raises: SettingsError: a licence that was asked for is none.
    """
    if not settings.licenses:
        return found
    allowed = check_licenses(settings.licenses, f"tasks.{settings.name}.licenses")
    kept: list[Record] = []
    dropped = Counter(found.dropped)
    for record in found.records:
        if allows(record.license, allowed):
            kept.append(record)
        else:
            dropped[f"licence {name_license(record.license)}"] += 1
    return replace(found, records=kept, dropped=dropped)


def name_license(license: str | None) -> str:
    """A record's licence as it is counted: what a stranger wrote there may be of any length."""
    if not license:
        return "unknown"
    return license if license.isprintable() and len(license) <= LONGEST_LICENSE else shorten(license)


def choose_tests(splits: Splits, tested: Records) -> Splits:
    """The splits with the records of another source as tests: its test partition where it has one."""
    tests = [record for record in tested.records if record.partition == "test"] or tested.records
    return replace(splits, test=tests)


def reword_tests(splits: Splits, asked: Records) -> Splits:
    """The splits with every test as the source words it for the evaluation objective."""
    worded = {record.identifier: record for record in asked.records}
    return replace(
        splits, test=[worded[test.identifier] for test in splits.test if test.identifier in worded]
    )


def refuse_overlaps(train: Sequence[Record], test: Sequence[Record], settings: TaskSettings) -> None:
    """Refuse one's own files of examples that share some, unless ``allow_overlap`` is set.

    Shared is an example of the same prompt and target, however they are laid out; an ``id`` says nothing, as
    many count them from 0 in each file.

    Raises: DataError: some are shared; with both places of the first.
    """
    if settings.allow_overlap or settings.source != "file" or settings.tested_source not in (None, "file"):
        return
    contents: dict[tuple[str, str], SourcedExample] = {}
    for record in train:
        assert isinstance(record, SourcedExample), "a file holds ready examples"
        contents.setdefault(read_content(record), record)
    first: tuple[SourcedExample, SourcedExample] | None = None
    count = 0
    for record in test:
        assert isinstance(record, SourcedExample), "a file holds ready examples"
        other = contents.get(read_content(record))
        if other is not None:
            count += 1
            first = first or (other, record)
    if first is not None:
        other, record = first
        raise DataError(
            f"has the prompt and target of {other.file}:{other.line}: {count} of {len(test)} "
            "test examples are training examples too. Take them out of one of the files, or accept it with "
            f"tasks.{settings.name}.allow_overlap=true",
            path=str(record.file),
            line=record.line,
        )


def read_content(record: SourcedExample) -> tuple[str, str]:
    """Prompt and target without their layout."""
    return strip_layout(record.example.prompt), strip_layout(record.example.target)


def build_task(settings: TaskSettings, splits: Splits, found: Records, sieve: Sieve) -> Task:
    """The task out of split records. Raises: DataError: no example for train or for test."""
    evaluation = settings.evaluation_objective or settings.objective
    counts = Counter(found.dropped)

    def choose(
        records: Sequence[Record], objective: Objective, place: Place, limit: int
    ) -> tuple[Example, ...]:
        """A seeded sample of a split, of what the sieve lets through."""
        chosen: list[Example] = []
        for record in sorted(records, key=lambda record: hash_text(f"{settings.seed}:{record.identifier}")):
            if len(chosen) == limit:
                break
            example = sieve.take(record, objective, place)
            if example is not None:
                chosen.append(example)
        return tuple(chosen)

    test = choose(splits.test, evaluation, "test", settings.test_examples)
    validation = choose(splits.validation, settings.objective, "validation", settings.validation_examples)
    train = choose(splits.train, settings.objective, "train", settings.train_examples)
    counts += sieve.counts
    for name, examples, records in (("test", test, splits.test), ("train", train, splits.train)):
        if not examples:
            raise DataError(explain_nothing(settings, name, len(records), counts), path=settings.path)
    return Task(
        name=settings.name,
        language=settings.code_language,
        objective=settings.objective,
        evaluation_objective=evaluation,
        train=train,
        validation=validation,
        test=test,
        dropped=dict(sorted(counts.items())),
        notes=(*found.notes, *splits.notes, *note_taken(settings, sieve, len(test))),
        duplicates=sieve.describe(),
    )


def build_sieve(
    settings: TaskSettings, splits: Splits, cache: Path | None, progress: Progress | None
) -> Sieve:
    """The sieve of a task, with the excluded sets in it."""
    excluded: dict[str, Sequence[Record]] = {}
    if settings.exclude:
        from codestrata.data.exclusions import load_excluded

        excluded = {
            name: load_excluded(settings, name, cache=cache, progress=progress) for name in settings.exclude
        }
    groups = (splits.train, splits.test, *excluded.values())
    mixed = len({isinstance(group[0], SourcedExample) for group in groups if group}) > 1
    sieve = Sieve(settings, mixed=mixed)
    for name, records in excluded.items():
        sieve.exclude(name, records)
    return sieve


def note_taken(settings: TaskSettings, sieve: Sieve, tests: int) -> tuple[str, ...]:
    """Notes on what was taken though it is no clean data, as the settings permit."""
    notes = []
    shared = sieve.count_shared_tests() if settings.allow_overlap else 0
    if shared:
        notes.append(f"{shared} of {tests} test examples occur in training too, as allow_overlap permits")
    if sieve.with_secrets:
        notes.append(f"{sieve.with_secrets} examples contain a secret, as keep_secrets permits")
    return tuple(notes)


def explain_nothing(settings: TaskSettings, split: str, records: int, dropped: Mapping[str, int]) -> str:
    """Why a split is without examples, and what to do."""
    reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted(dropped.items())) or "nothing"
    return (
        f"task {settings.name!r} has no {split} examples out of {records} {split} records "
        f"(dropped: {reasons}); give it more data, from more repositories or groups, or another objective"
    )


def fingerprint_task(task: Task) -> str:
    """SHA-256 over every field of every example and the split it is in, as 64 hexadecimal digits.

    Names, objectives and drop counts do not matter: equal examples in equal order, equal fingerprint.
    """
    splits = {"train": task.train, "validation": task.validation, "test": task.test, "unseen": task.unseen}
    return hash_json({name: [describe_example(entry) for entry in split] for name, split in splits.items()})


def describe_example(example: Example) -> dict[str, str | None]:
    """Every field of an example; a ``prelude`` only where there is one, as few have it."""
    fields = asdict(example)
    return fields if example.prelude is not None else {k: v for k, v in fields.items() if k != "prelude"}
