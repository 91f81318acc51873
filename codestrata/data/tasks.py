"""Tasks out of their settings: records are read, split, turned into examples and capped.

What this does not do: tokenize or batch (``batches`` does), or know the problems of ``kata``.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from codestrata.data.codesearchnet import Function, load_functions
from codestrata.data.objectives import build_example
from codestrata.data.tables import Entry, count_repeats, find_overlaps, read_entries
from codestrata.errors import DataError
from codestrata.files import hash_json, hash_text
from codestrata.records import Example, Task
from codestrata.settings.sections import Objective, TaskSettings

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1


class Identified(Protocol):
    """Anything with an identifier of its own."""

    @property
    def identifier(self) -> str:
        """Its name among its like."""


Record = TypeVar("Record", bound=Identified)


@dataclass(frozen=True, kw_only=True)
class Splits(Generic[Record]):
    """Records in their splits, before any is turned into an example."""

    train: Sequence[Record]
    validation: Sequence[Record]
    test: Sequence[Record]
    notes: tuple[str, ...] = ()


def load_task(settings: TaskSettings) -> Task:
    """The task that ``settings`` describe, the same in every process.

    ``codesearchnet``: the data's own partitions where it has train and test; otherwise whole repositories are
    held out (single functions where no repository is known), and a note says so.
    ``file``: tests from ``test_path``, or held out of ``path`` by ``group`` (by prompt where there is none).
    Held out are 20 % for test and 10 % of the rest for validation. No two splits share a code (``file``:
    a prompt); test goes first, then validation. Each split is a seeded sample of at most as many examples
    as asked for; ``dropped`` counts the records that would have been in it. Only ``kata`` has ``unseen``.

    Data whose own splits share an example is refused: one record in two partitions, or in ``test_path`` the
    prompt and target, or the ``id``, of an example in ``path``. With ``allow_overlap`` it is taken as it is,
    training sees what is tested, and a note says how much. (Copies of a code in another repository, which
    any large corpus has, are no reason to refuse it: they are dropped from training, and counted.)

    Raises:
        DataError: records that cannot be used, splits that overlap, or no example for train or for test.
        HubError: the hub's records were asked for, and it could not be reached.
        SettingsError: the hub has no such language.
    """
    match settings.source:
        case "kata":
            from codestrata.data.kata.problems import load_kata  # generates problems: others need none of it

            return load_kata(settings)
        case "codesearchnet":
            return load_codesearchnet_task(settings)
        case "file":
            return load_file_task(settings)


def load_codesearchnet_task(settings: TaskSettings) -> Task:
    """A task of CodeSearchNet functions, from the hub or from local files."""
    path = Path(settings.path) if settings.path is not None else None
    functions, dropped = load_functions(
        settings.language or settings.name, path, task=settings.name, allow_overlap=settings.allow_overlap
    )
    splits = split_functions(functions, settings)
    return build_task(settings, splits, build_example, strip_layout, dropped)


def load_file_task(settings: TaskSettings) -> Task:
    """A task of one's own examples, from one JSONL file or from one for training and one for tests."""
    assert settings.path is not None, "TaskSettings refuses source = file without a path"
    entries = read_entries(Path(settings.path))
    notes = note_repeats(entries, Path(settings.path))
    train = [entry.example for entry in entries]
    if settings.test_path is not None:
        test_entries = read_entries(Path(settings.test_path))
        notes += note_repeats(test_entries, Path(settings.test_path))
        if not settings.allow_overlap:
            refuse_overlaps(entries, test_entries, settings)
        test = [entry.example for entry in test_entries]
    else:
        train, test = hold_out(train, group_example, TEST_SHARE, settings.seed)
    train, validation = hold_out_validation(train, group_example, settings)
    splits = Splits(train=train, validation=validation, test=test, notes=notes)
    return build_task(settings, splits, keep_example, read_prompt, {})


def note_repeats(entries: Sequence[Entry], path: Path) -> tuple[str, ...]:
    """A note where examples of a file say the same; they are kept."""
    repeats = count_repeats(entries)
    counted = f"{repeats} of {len(entries)} examples in {path.name}"
    return (f"{counted} repeat the prompt and target of an earlier one",) if repeats else ()


def refuse_overlaps(train: Sequence[Entry], test: Sequence[Entry], settings: TaskSettings) -> None:
    """Refuse files that share examples. Raises: DataError: they do; with both places of the first."""
    overlaps = find_overlaps(train, test)
    if overlaps:
        first = overlaps[0]
        raise DataError(
            f"has the {first.shared} of {settings.path}:{first.train.line}: {len(overlaps)} of {len(test)} "
            "test examples are training examples too. Take them out of one of the files, or accept it with "
            f"tasks.{settings.name}.allow_overlap=true",
            path=settings.test_path,
            line=first.test.line,
        )


def split_functions(functions: list[Function], settings: TaskSettings) -> Splits[Function]:
    """The functions in their splits, with a note where these are not the data's own.

    The data's own partitions serve where every record has one and both train and test occur.
    """
    partitions = {function.partition for function in functions}
    if {"train", "test"} <= partitions and None not in partitions:
        train, validation, test = (
            [function for function in functions if function.partition == name]
            for name in ("train", "validation", "test")
        )
        return Splits(train=train, validation=validation, test=test)
    functions = list({function.identifier: function for function in functions}.values())
    train, test = hold_out(functions, group_function, TEST_SHARE, settings.seed)
    train, validation = hold_out_validation(train, group_function, settings)
    unit = "record" if all(function.repository is None for function in functions) else "repository"
    note = f"no train and test partitions in the data: split by {unit} instead"
    return Splits(train=train, validation=validation, test=test, notes=(note,))


def hold_out_validation(
    records: list[Record], group: Callable[[Record], str], settings: TaskSettings
) -> tuple[list[Record], list[Record]]:
    """(training, validation) records; none are held out where the settings ask for no validation."""
    if settings.validation_examples == 0:
        return records, []
    return hold_out(records, group, VALIDATION_SHARE, settings.seed)


def hold_out(
    records: Sequence[Record], group: Callable[[Record], str], share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """(kept, held) records, both in their old order; no group is on both sides.

    Groups are taken in the order of a hash of seed and name while they fit into ``share`` of the records; if
    none fits, the smallest is taken. Nothing is held out of a single group.
    """
    sizes = Counter(group(record) for record in records)
    names = sorted(sizes, key=lambda name: hash_text(f"{seed}:{name}"))
    held: set[str] = set()
    room = round(len(records) * share)
    for name in names:
        if sizes[name] <= room:
            held.add(name)
            room -= sizes[name]
    if not held and len(names) > 1:
        held.add(min(names, key=lambda name: sizes[name]))
    kept = [record for record in records if group(record) not in held]
    return kept, [record for record in records if group(record) in held]


def group_function(function: Function) -> str:
    """What a function must not be separated from: its repository, or only itself where that is not known."""
    return function.repository or function.identifier


def group_example(example: Example) -> str:
    """What an example must not be separated from: its group, or its prompt where it has none."""
    return f"prompt {example.prompt}" if example.group is None else f"group {example.group}"


def strip_layout(function: Function) -> str:
    """What no two splits may share: the code, however it is laid out."""
    return " ".join(function.code.split())


def read_prompt(example: Example) -> str:
    """What no two splits may share: the prompt."""
    return example.prompt


def keep_example(_: Objective, example: Example) -> Example | str:
    """The example itself: a file's examples are already what its task asks."""
    return example


def build_task(
    settings: TaskSettings,
    splits: Splits[Record],
    build: Callable[[Objective, Record], Example | str],
    content: Callable[[Record], str],
    dropped: dict[str, int],
) -> Task:
    """The task out of split records.

    Args:
        settings: objectives, limits and the seed.
        splits: the records of each split.
        build: a record's example for an objective, or the reason why there is none.
        content: what of a record must not occur in two splits.
        dropped: the records left out before, by reason.

    Raises: DataError: no example for train or for test.
    """
    evaluation = settings.evaluation_objective or settings.objective
    counts = Counter(dropped)

    def choose(
        records: Sequence[Record], objective: Objective, limit: int, taken: AbstractSet[str]
    ) -> tuple[tuple[Example, ...], list[str]]:
        """A seeded sample of a split without the contents already taken, and the contents of the sample."""
        chosen: list[Example] = []
        contents: list[str] = []
        for record in sorted(records, key=lambda record: hash_text(f"{settings.seed}:{record.identifier}")):
            if len(chosen) == limit:
                break
            repeated = content(record) in taken
            example = "repeats a record of a held-out split" if repeated else build(objective, record)
            if isinstance(example, str):
                counts[example] += 1
            else:
                chosen.append(example)
                contents.append(content(record))
        return tuple(chosen), contents

    test, tested = choose(splits.test, evaluation, settings.test_examples, set())
    taken = set() if settings.allow_overlap else set(tested)
    validation, validated = choose(splits.validation, settings.objective, settings.validation_examples, taken)
    taken = taken.union(validated)
    train, trained = choose(splits.train, settings.objective, settings.train_examples, taken)
    for name, examples, records in (("test", test, splits.test), ("train", train, splits.train)):
        if not examples:
            raise DataError(explain_nothing(settings, name, len(records), counts), path=settings.path)
    return Task(
        name=settings.name,
        language=settings.language or settings.name,
        objective=settings.objective,
        evaluation_objective=evaluation,
        train=train,
        validation=validation,
        test=test,
        dropped=dict(sorted(counts.items())),
        notes=(*splits.notes, *note_overlap(tested, set(trained))),
    )


def note_overlap(tested: Sequence[str], trained: AbstractSet[str]) -> tuple[str, ...]:
    """A note where test examples have what training has too, which nothing but ``allow_overlap`` allows."""
    shared = sum(content in trained for content in tested)
    said = f"{shared} of {len(tested)} test examples occur in training too, as allow_overlap permits"
    return (said,) if shared else ()


def explain_nothing(settings: TaskSettings, split: str, records: int, dropped: Counter[str]) -> str:
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
    return hash_json({name: [asdict(example) for example in examples] for name, examples in splits.items()})
