"""Decode examples and score the predictions: predictions first, every number a view of them.

What this does not do: know which component is active, or where a cell stands in R.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from codestrata.contracts import Component
from codestrata.engine.generation import Completion, generate, rank_completions
from codestrata.metrics.agreement import MARGINAL_RANKS
from codestrata.models.loading import Base
from codestrata.records import Example, Prediction
from codestrata.settings.sections import DecodingSettings


def predict(
    base: Base,
    examples: Sequence[Example],
    settings: DecodingSettings,
    *,
    max_prompt_tokens: int,
    compared: Component | None = None,
    report: Callable[[int], None] | None = None,
) -> tuple[Prediction, ...]:
    """What the base, with whatever is active on it, answers to each example; all samples of one together.

    Args:
        base: the base; its model runs with the component that is active.
        examples: what is asked.
        settings: how to decode; sample k draws from ``settings.seed + k``.
        max_prompt_tokens: longer prompts are cut.
        compared: the component that is active, if the bare base is to rank what it says; it rests meanwhile
            and is active again afterwards. ``None`` asks nobody.
        report: is told how many completions are there.
    """
    prompts = [example.prompt for example in examples]
    samples: list[list[Prediction]] = []
    for sample in range(settings.samples):
        done = sample * len(examples)
        completions = generate(
            base.model,
            base.tokenizer,
            prompts,
            replace(settings, seed=settings.seed + sample),
            max_prompt_tokens=max_prompt_tokens,
            device=base.device,
            report=shift_report(report, done),
        )
        ranks: Sequence[tuple[int, ...] | None] = [None] * len(examples)
        if compared is not None:
            with resting(compared):
                ranks = rank_completions(
                    base.model,
                    base.tokenizer,
                    prompts,
                    completions,
                    max_prompt_tokens=max_prompt_tokens,
                    device=base.device,
                )
        rows = zip(examples, completions, ranks, strict=True)
        samples.append([build_prediction(example, answer, sample, found) for example, answer, found in rows])
    return tuple(prediction for of_example in zip(*samples, strict=True) for prediction in of_example)


def shift_report(report: Callable[[int], None] | None, done: int) -> Callable[[int], None] | None:
    """A watcher of one sample's completions that counts those of earlier samples too."""
    return None if report is None else lambda count: report(done + count)


@contextmanager
def resting(component: Component) -> Iterator[None]:
    """The bare base inside, and the component active again afterwards."""
    name = component.active
    component.deactivate()
    try:
        yield
    finally:
        if name is not None:
            component.activate(name)


def build_prediction(
    example: Example, done: Completion, sample: int, ranks: tuple[int, ...] | None
) -> Prediction:
    """An example with one of the model's answers to it, and what the base thinks of its tokens."""
    return Prediction(
        identifier=example.identifier,
        prompt=example.prompt,
        target=example.target,
        completion=done.text,
        tests=example.tests,
        group=example.group,
        prelude=example.prelude,
        finished=done.finished,
        tokens=len(done.ids),
        sample=sample,
        agreed=None if ranks is None else sum(rank == 0 for rank in ranks),
        shifted=None if ranks is None else sum(rank >= MARGINAL_RANKS for rank in ranks),
    )
