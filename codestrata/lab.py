"""What every step of a run needs, loaded once: settings, the frozen base, the tasks and their token ids.

What this does not do: train, evaluate, or write anything but the examples of mined tasks.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from codestrata.data.batches import EncodedExamples, encode_examples
from codestrata.data.kept import read_task, write_task
from codestrata.data.repetition import TrainingStretches
from codestrata.data.shared import describe_shared, find_shared_examples
from codestrata.data.splits import FEW_TESTS
from codestrata.data.tasks import check_task, load_task
from codestrata.data.tokens import encode_prompts
from codestrata.engine.host import Host, prepare_host
from codestrata.engine.states import StateStore
from codestrata.errors import DataError, describe_unknown
from codestrata.files import find_user_cache
from codestrata.interrupts import Interrupts
from codestrata.journal import Journal
from codestrata.languages.parsing import list_languages
from codestrata.models.families import find_family
from codestrata.models.loading import Base, choose_device, load_base
from codestrata.progress import Progress
from codestrata.records import Example, SplitName, Task
from codestrata.settings.sections import CacheSettings
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A frozen base and tasks, ready to work with.

    ``encoded`` are the training examples by task, ``validation`` those held out to choose by.
    ``cut_prompts`` counts the evaluation prompts over the limit; ``host`` says what was set for this process;
    ``store`` keeps what the frozen base makes of examples; ``journal`` what was done so far and how long it
    took; ``interrupts`` are the signals that wait for the end of a training step. ``order`` counts the orders
    of the tasks from 0; ``tasks`` come in it. ``fair`` is what was solved to make methods comparable, as the
    results have it. In the lab of one method ``settings`` are the method's own, ``run_settings`` those of the
    run, and ``steps`` (task -> optimizer steps) stand for what the settings say of its trainings.
    ``stretches`` are those of the tasks' training text, for finding repetitions of it. ``shared_examples``
    are tests of one task that another is trained on, as the results have them.
    """

    settings: Settings
    base: Base
    tasks: tuple[Task, ...]
    encoded: Mapping[str, EncodedExamples]
    validation: Mapping[str, EncodedExamples]
    cut_prompts: Mapping[str, int]
    host: Host
    store: StateStore
    progress: Progress
    journal: Journal
    interrupts: Interrupts
    order: int = 0
    fair: Mapping[str, Any] | None = None
    run_settings: Settings | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    stretches: TrainingStretches = field(default_factory=TrainingStretches)
    shared_examples: tuple[Mapping[str, Any], ...] = ()


def open_lab(
    settings: Settings,
    progress: Progress,
    *,
    journal: Journal | None = None,
    interrupts: Interrupts | None = None,
    kept: Path | None = None,
) -> Lab:
    """Load what the settings name, on the device they name; examples that ``keep_tasks`` kept, from ``kept``.

    Raises: DataError, HubError, ModelError: as ``load_task`` and ``load_base`` say.
    """
    journal = journal or Journal()
    host = prepare_host(threads=settings.device.threads, keep_memory=settings.device.keep_memory)
    cache = choose_cache_folder(settings.cache)
    phase = "load base and tasks", 1 + len(settings.tasks)
    progress.start(*phase)
    recalled = {section.name: recall_task(section, kept) for section in settings.tasks}
    for section in settings.tasks:
        if recalled[section.name] is None:
            check_task(section)
    tasks, encoded, validation, cut_prompts = [], {}, {}, {}
    with journal.clock("loading"):
        base = load_base(settings.base, choose_device(settings.device.name))
        causal = find_family(base.model).is_causal
        progress.say(f"device: {base.device}, {host.threads} threads; memory: {host.allocator}")
        if base.weights_format == "checked pickle":
            progress.say(f"{settings.base.name} has no safetensors: read by torch's restricted unpickler")
        progress.advance(1, settings.base.name)
        for number, section in enumerate(settings.tasks, start=2):
            task = recalled[section.name] or load_task(section, cache=cache, progress=progress)
            if section.is_mined:
                progress.start(*phase)  # mining is a phase of its own
            for remark in list_remarks(task, section):
                progress.say(remark)
            check_validation(task, settings)
            tasks.append(task)
            encode = partial(
                encode_examples,
                tokenizer=base.tokenizer,
                max_prompt_tokens=settings.training.max_prompt_tokens,
                max_target_tokens=settings.training.max_target_tokens,
                folder=cache if settings.cache.tokens else None,
                causal=causal,
            )
            encoded[task.name], validation[task.name] = encode(task.train), encode(task.validation)
            for note in encoded[task.name].notes:
                progress.say(note)
            asked = [example.prompt for example in (*task.test, *task.unseen)]
            prompts = encode_prompts(asked, base.tokenizer, causal=causal)
            cut_prompts[task.name] = sum(len(ids) > settings.training.max_prompt_tokens for ids in prompts)
            progress.advance(number, section.name)
        shared_examples = find_shared_examples(tasks)
        for sentence in describe_shared(shared_examples):
            progress.say(sentence)
    return Lab(
        settings=settings,
        base=base,
        tasks=tuple(tasks),
        encoded=encoded,
        validation=validation,
        cut_prompts=cut_prompts,
        host=host,
        store=StateStore(folder=cache, settings=settings.cache, base_fingerprint=base.fingerprint),
        progress=progress,
        journal=journal,
        interrupts=interrupts or Interrupts(),
        shared_examples=shared_examples,
    )


def recall_task(section: TaskSettings, folder: Path | None) -> Task | None:
    """The task as ``keep_tasks`` kept it in a run's folder; ``None`` where it is not there.

    Raises: DataError: its file is damaged.
    """
    if not section.is_mined or folder is None:
        return None
    path = folder / f"{section.name}.jsonl"
    return read_task(path) if path.exists() else None


def keep_tasks(lab: Lab, folder: Path) -> None:
    """Keep the examples of the tasks that were mined: the trees they came from change as people work.

    Raises: StorageError: a file cannot be written.
    """
    for section, task in zip(lab.settings.tasks, lab.tasks, strict=True):
        path = folder / f"{section.name}.jsonl"
        if section.is_mined and not path.exists():
            write_task(path, task)


def check_validation(task: Task, settings: Settings) -> None:
    """Refuse a task without validation examples where trainings are to be validated.

    Raises: DataError: it has none, and how many were asked for.
    """
    if settings.training.validation_steps is None or task.validation:
        return
    section = next(section for section in settings.tasks if section.name == task.name)
    raise DataError(
        f"Task {task.name!r} has no validation examples ({section.validation_examples} were asked for, and "
        f"{len(task.train)} are there to train on), but training.validation_steps is "
        f"{settings.training.validation_steps}: give the task more records or groups to hold some out, "
        "or set training.validation_steps to null."
    )


def list_remarks(task: Task, section: TaskSettings) -> Iterator[str]:
    """What to know of a task before it is trained: few examples, few tests, a language not spelt right."""
    if shortage := describe_shortage(task, section):
        yield shortage
    yield from (f"{task.name}: {note}" for note in task.notes if note.startswith(FEW_TESTS))
    known = list_languages()
    if task.language not in known and get_close_matches(task.language, known, n=1):
        yield f"{task.name}: {describe_unknown('language', task.language, known)} Its code is not parsed."


def describe_shortage(task: Task, section: TaskSettings) -> str | None:
    """That a task holds fewer examples than were asked for, if it does."""
    asked = {
        "train": section.train_examples,
        "validation": section.validation_examples,
        "test": section.test_examples,
        "unseen": section.unseen_examples,
    }
    short = [
        f"{len(getattr(task, split))} of {count} {split}"
        for split, count in asked.items()
        if len(getattr(task, split)) < count
    ]
    return f"{task.name} has fewer examples than asked for: {', '.join(short)}" if short else None


def choose_cache_folder(settings: CacheSettings) -> Path:
    """Where token ids and states are kept: as set, else in the user's cache folder."""
    if settings.folder is not None:
        return Path(os.path.expanduser(settings.folder))
    return find_user_cache()


def list_splits(task: Task) -> dict[SplitName, tuple[Example, ...]]:
    """The task's evaluation splits that hold examples."""
    splits: dict[SplitName, tuple[Example, ...]] = {"test": task.test, "unseen": task.unseen}
    return {name: examples for name, examples in splits.items() if examples}
