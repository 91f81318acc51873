"""Scores that compare completions with targets as texts: BLEU, chrF, edit similarity, exact match, length.

Two texts are compared as they are: an answer that repeats most of its prompt scores well where the target
contains the prompt, so read these beside the controls.

What this does not do: know that code has a structure (see ``metrics.code``), or that it runs
(``metrics.execution``); the BLEU of code summarisation papers is in ``metrics.codexglue``, METEOR in
``metrics.meteor``.
"""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from codestrata.analysis.aggregates import AGGREGATES
from codestrata.records import Metric, Prediction, Score

METRICS: tuple[Metric, ...] = (
    Metric(
        name="exact_match",
        kind="rate",
        formula="share of completions equal to their target, white space at the ends of lines and text aside",
        source="Lu et al. 2021 (CodeXGLUE), arXiv:2102.04664, which compares white-space tokens",
        implementation="codestrata.metrics.text",
    ),
    Metric(
        name="edit_similarity",
        kind="score",
        formula="mean of 1 - Levenshtein distance / characters of the longer text",
        source="Levenshtein 1966; Svyatkovskiy et al. 2020, arXiv:2005.08025",
        implementation="rapidfuzz",
    ),
    Metric(
        name="bleu",
        kind="score",
        formula="BP * exp(mean over n = 1..4 of log p_n) over the corpus, p_n smoothed exponentially",
        source="Papineni et al. 2002, doi:10.3115/1073083.1073135; Post 2018, arXiv:1804.08771",
        implementation="counts by sacrebleu, value by codestrata.analysis.aggregates",
    ),
    Metric(
        name="chrf",
        kind="score",
        formula="5 P R / (4 P + R) over the corpus, P and R means over character n-grams, n = 1..6",
        source="Popovic 2015, doi:10.18653/v1/W15-3049; Popovic 2016, doi:10.18653/v1/W16-2341 (beta = 2)",
        implementation="counts by sacrebleu, value by codestrata.analysis.aggregates",
    ),
    Metric(
        name="length_ratio",
        kind="description",
        formula="tokens of all completions / tokens of all targets",
        source="a description of the completions: 1 is as long as the targets",
        implementation="codestrata.metrics.text",
    ),
)

TOKEN = r"\w+|[^\w\s]"
"""A word (letters, digits, underscores) or a single other character that is no white space."""


def split_tokens(text: str) -> list[str]:
    """The words and the single punctuation marks of ``text``: ``c=a+b`` is five tokens."""
    return re.findall(TOKEN, text)


def score_bleu(predictions: Sequence[Prediction]) -> Score:
    """Corpus BLEU-4 of sacrebleu with its default tokenizer and smoothing, divided by 100.

        BLEU = BP * exp(mean over n = 1..4 of log p_n)
        BP = min(1, exp(1 - target tokens / completion tokens))

    p_n is the share of the completions' n-grams that are found in their targets, pooled over the corpus; a
    p_n without a match is smoothed, the k-th of them by 1 / 2^k matches. Every completion has one target. The
    value is ``None`` where no target has four tokens: even the targets themselves would score 0 then. So is
    the value of such an example alone. ``statistics`` are sacrebleu's rows, ``aggregate`` says their order.

    Source: Papineni et al. 2002; Post 2018, arXiv:1804.08771. ``variant`` is sacrebleu's signature.
    """
    # `force` drops a warning about texts that look tokenized: code often ends in a separate full stop.
    return score_corpus(
        "bleu", BLEU(force=True), predictions, missing="no target has four tokens", needed=(1, 4)
    )


def score_chrf(predictions: Sequence[Prediction]) -> Score:
    """Corpus chrF2 of sacrebleu: F-score, recall counting twice, of character n-grams without white space.

        chrF2 = (1 + 2^2) P R / (2^2 P + R)

    P is the mean over n = 1..6 of the share of the completions' n-grams that are found in their targets, R
    that of the targets' in their completions, each share pooled over the corpus; an n that one side is too
    short for is left out. The value is ``None`` where every target is blank, and so is that of such an
    example alone.

    Source: Popovic 2015, 2016; Post 2018, arXiv:1804.08771. ``variant`` is sacrebleu's signature.
    """
    return score_corpus("chrf", CHRF(), predictions, missing="every target is blank", needed=(1, 1))


def score_corpus(
    name: str, scorer: Any, predictions: Sequence[Prediction], *, missing: str, needed: tuple[int, int]
) -> Score:
    """A score of sacrebleu from its own counts per example and our aggregate ``name`` of their sums.

    An example has a value alone where column ``needed[0]`` of its row, which tells of its target alone, is at
    least ``needed[1]``; where no example has one the value is ``None`` for the reason ``missing``.
    """
    n = len(predictions)
    if n == 0:
        return Score(metric=name, value=None, n=0, reason="no predictions")
    column, least = needed
    # sacrebleu shows its rows to its own significance tests only, so the name of this method is private.
    rows = scorer._extract_corpus_statistics(
        [prediction.completion for prediction in predictions],
        [[prediction.target for prediction in predictions]],
    )
    counts = np.array(rows, dtype=float)
    has_value = counts[:, column] >= least
    if not has_value.any():
        return Score(metric=name, value=None, n=n, reason=missing)
    aggregate = AGGREGATES[name]
    alone = aggregate(counts)
    return Score(
        metric=name,
        value=float(aggregate(counts.sum(axis=0))),
        n=n,
        per_example=tuple(
            float(value) if known else None for value, known in zip(alone, has_value, strict=True)
        ),
        statistics=tuple(tuple(map(float, row)) for row in rows),
        aggregate=name,
        variant=str(scorer.get_signature()),
    )


def score_exact_match(predictions: Sequence[Prediction]) -> Score:
    """Share of completions that equal their targets.

    White space at the end of a line and at both ends of the text does not count.
    """
    matches = [
        float(strip_lines(prediction.completion) == strip_lines(prediction.target))
        for prediction in predictions
    ]
    return average("exact_match", matches, aggregate="rate")


def strip_lines(text: str) -> str:
    """``text`` without white space at the ends of its lines and at its own ends."""
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()


def score_edit_similarity(predictions: Sequence[Prediction]) -> Score:
    """Mean over examples of one minus the Levenshtein distance by the length of the longer text.

        similarity = 1 - (fewest insertions, deletions and replacements) / max(len(completion), len(target))

    in characters (code points), white space and case included. Two empty texts have similarity 1.

    Source: Levenshtein 1966; as a score of code completion Svyatkovskiy et al. 2020, arXiv:2005.08025.
    """
    similarities = [
        Levenshtein.normalized_similarity(prediction.completion, prediction.target)
        for prediction in predictions
    ]
    return average("edit_similarity", similarities, variant=f"rapidfuzz {version('rapidfuzz')}, characters")


def average(
    name: str, values: Sequence[float], *, variant: str | None = None, aggregate: str = "mean"
) -> Score:
    """The mean over examples as a score; ``None`` without examples."""
    if not values:
        return Score(metric=name, value=None, n=0, reason="no predictions")
    return Score(
        metric=name,
        value=sum(values) / len(values),
        n=len(values),
        per_example=tuple(values),
        aggregate=aggregate,
        variant=variant,
    )


def score_length_ratio(predictions: Sequence[Prediction]) -> Score:
    """How long the completions are by their targets: a description, for which 1 is no better than 2.

        ratio = tokens of all completions / tokens of all targets

    Tokens are words and single punctuation marks, so layout does not count. The value is ``None`` where no
    target has a token, and so is that of such an example alone.
    """
    n = len(predictions)
    if n == 0:
        return Score(metric="length_ratio", value=None, n=0, reason="no predictions")
    rows = tuple(
        (float(len(split_tokens(prediction.completion))), float(len(split_tokens(prediction.target))))
        for prediction in predictions
    )
    total = sum(target for _, target in rows)
    if total == 0:
        return Score(metric="length_ratio", value=None, n=n, reason="no target has a token")
    return Score(
        metric="length_ratio",
        value=sum(completion for completion, _ in rows) / total,
        n=n,
        per_example=tuple(completion / target if target else None for completion, target in rows),
        statistics=rows,
        aggregate="ratio",
        variant=f"tokens {TOKEN}",
    )
