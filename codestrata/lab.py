"""What every step of a run needs, loaded once: settings, the frozen base, the tasks and their token ids.

What this does not do: train, evaluate, or write anything.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from codestrata.data.batches import EncodedExamples, encode_examples
from codestrata.data.tasks import load_task
from codestrata.data.tokens import encode_texts
from codestrata.engine.host import Host, prepare_host
from codestrata.engine.states import StateStore
from codestrata.models.loading import Base, choose_device, load_base
from codestrata.progress import Progress
from codestrata.records import Example, SplitName, Task
from codestrata.settings import CacheSettings, Settings


@dataclass(frozen=True)
class Lab:
    """A frozen base and tasks, ready to work with.

    ``cut_prompts`` counts the evaluation prompts over the limit; ``host`` says what was set for this process;
    ``store`` keeps what the frozen base makes of examples; ``seconds`` is wall time so far, by phase.
    """

    settings: Settings
    base: Base
    tasks: tuple[Task, ...]
    encoded: Mapping[str, EncodedExamples]
    cut_prompts: Mapping[str, int]
    host: Host
    store: StateStore
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Add the wall time inside to a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started


def open_lab(settings: Settings, progress: Progress) -> Lab:
    """Load what the settings name, on the device they name.

    Raises: DataError, HubError, ModelError: as ``load_task`` and ``load_base`` say.
    """
    host = prepare_host(threads=settings.device.threads, keep_memory=settings.device.keep_memory)
    cache = choose_cache_folder(settings.cache)
    progress.start("load base and tasks", 1 + len(settings.tasks))
    started = time.perf_counter()
    base = load_base(settings.base, choose_device(settings.device.name))
    progress.say(f"device: {base.device}, {host.threads} threads; memory: {host.allocator}")
    progress.advance(1, settings.base.name)
    tasks, encoded, cut_prompts = [], {}, {}
    for number, section in enumerate(settings.tasks, start=2):
        task = load_task(section)
        tasks.append(task)
        encoded[task.name] = encode_examples(
            task.train,
            base.tokenizer,
            max_prompt_tokens=settings.training.max_prompt_tokens,
            max_target_tokens=settings.training.max_target_tokens,
            folder=cache if settings.cache.tokens else None,
        )
        for note in encoded[task.name].notes:
            progress.say(note)
        prompts = encode_texts([example.prompt for example in (*task.test, *task.unseen)], base.tokenizer)
        cut_prompts[task.name] = sum(len(ids) > settings.training.max_prompt_tokens for ids in prompts)
        progress.advance(number, section.name)
    return Lab(
        settings,
        base,
        tuple(tasks),
        encoded,
        cut_prompts,
        host,
        StateStore(folder=cache, settings=settings.cache, base_fingerprint=base.fingerprint),
        progress,
        {"loading": time.perf_counter() - started},
    )


def choose_cache_folder(settings: CacheSettings) -> Path:
    """Where token ids and states are kept: as set, else in the user's cache folder."""
    if settings.folder is not None:
        return Path(os.path.expanduser(settings.folder))
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or usual)) / "codestrata"


def list_splits(task: Task) -> dict[SplitName, tuple[Example, ...]]:
    """The task's evaluation splits that hold examples."""
    splits: dict[SplitName, tuple[Example, ...]] = {"test": task.test, "unseen": task.unseen}
    return {name: examples for name, examples in splits.items() if examples}
