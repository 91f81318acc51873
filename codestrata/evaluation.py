"""Decode examples and score the predictions: predictions first, every number a view of them.

What this does not do: know which component is active, or where a cell stands in R.
"""

from collections.abc import Callable, Sequence
from typing import Any

from codestrata.generation import Completion, generate
from codestrata.metrics.code import score_syntax_pass
from codestrata.metrics.execution import score_pass_rate
from codestrata.metrics.text import score_bleu, score_exact_match
from codestrata.models.loading import Base
from codestrata.records import Example, Prediction, Score
from codestrata.settings import DecodingSettings, ExecutionSettings


def predict(
    model: Any,
    base: Base,
    examples: Sequence[Example],
    settings: DecodingSettings,
    *,
    max_prompt_tokens: int,
    report: Callable[[int], None] | None = None,
) -> tuple[Prediction, ...]:
    """What the model, with whatever is active on it, answers to each example."""
    completions = generate(
        model,
        base.tokenizer,
        [example.prompt for example in examples],
        settings,
        max_prompt_tokens=max_prompt_tokens,
        device=base.device,
        report=report,
    )
    return tuple(build_prediction(example, done) for example, done in zip(examples, completions, strict=True))


def build_prediction(example: Example, completion: Completion) -> Prediction:
    """An example with the model's answer to it."""
    return Prediction(
        identifier=example.identifier,
        prompt=example.prompt,
        target=example.target,
        completion=completion.text,
        tests=example.tests,
        group=example.group,
        finished=completion.finished,
        tokens=completion.tokens,
    )


def score(predictions: Sequence[Prediction], language: str, limits: ExecutionSettings) -> tuple[Score, ...]:
    """Every metric over the predictions of one task, from the predictions alone."""
    return (
        score_pass_rate(predictions, language, limits),
        score_exact_match(predictions),
        score_bleu(predictions),
        score_syntax_pass(predictions, language),
    )
