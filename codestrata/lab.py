"""What every step of a run needs, loaded once: settings, the frozen base, the tasks and their token ids.

What this does not do: train, evaluate, or write anything.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from codestrata.data.batches import EncodedExamples, encode_examples, encode_texts
from codestrata.data.tasks import load_task
from codestrata.models.loading import Base, choose_device, load_base
from codestrata.progress import Progress
from codestrata.records import Example, SplitName, Task
from codestrata.settings import Settings


@dataclass(frozen=True)
class Lab:
    """A frozen base and tasks, ready to work with.

    ``cut_prompts`` counts the evaluation prompts over the limit; ``seconds`` is wall time so far, by phase.
    """

    settings: Settings
    base: Base
    tasks: tuple[Task, ...]
    encoded: Mapping[str, EncodedExamples]
    cut_prompts: Mapping[str, int]
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
    if settings.device.threads is not None:
        torch.set_num_threads(settings.device.threads)
    progress.start("load base and tasks", 1 + len(settings.tasks))
    started = time.perf_counter()
    base = load_base(settings.base, choose_device(settings.device.name))
    progress.say(f"device: {base.device}, {torch.get_num_threads()} threads")
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
        )
        prompts = encode_texts([example.prompt for example in (*task.test, *task.unseen)], base.tokenizer)
        cut_prompts[task.name] = sum(len(ids) > settings.training.max_prompt_tokens for ids in prompts)
        progress.advance(number, section.name)
    return Lab(
        settings,
        base,
        tuple(tasks),
        encoded,
        cut_prompts,
        progress,
        {"loading": time.perf_counter() - started},
    )


def list_splits(task: Task) -> dict[SplitName, tuple[Example, ...]]:
    """The task's evaluation splits that hold examples."""
    splits: dict[SplitName, tuple[Example, ...]] = {"test": task.test, "unseen": task.unseen}
    return {name: examples for name, examples in splits.items() if examples}
