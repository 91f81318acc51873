"""How much a component changes what its base would say, from the ranks that were noted with the predictions.

What this does not do: ask the base (``evaluation`` does, while it decodes).
"""

from collections.abc import Sequence

from codestrata.records import Metric, Prediction, Score

MARGINAL_RANKS = 3
"""Tokens among the base's first three are at most a matter of taste; those below count as shifted."""

METRICS = (
    Metric(
        name="base_agreement",
        kind="description",
        formula="tokens that are the base's own choice in their place / tokens said",
        source="Lin et al. 2023, arXiv:2312.01552: the unshifted tokens",
        implementation="codestrata, one pass of the untouched base over prompt and completion",
    ),
    Metric(
        name="base_shift",
        kind="description",
        formula="tokens that are not among the base's first three in their place / tokens said",
        source="Lin et al. 2023, arXiv:2312.01552: the shifted tokens",
        implementation="codestrata, one pass of the untouched base over prompt and completion",
    ),
)


def score_agreement(predictions: Sequence[Prediction]) -> tuple[Score, Score]:
    """(``base_agreement``, ``base_shift``): shares of all tokens said that the base agrees with, and rejects.

        agreement = sum of agreed tokens / sum of tokens; shift = sum of tokens below rank 3 / sum of tokens

    The base reads the prompt and what the component said so far, and ranks the next token. The values are
    ``None`` where the base was not asked: of itself, of controls, and where ``measurement.agreement`` is off.

    Source: Lin et al. 2023, arXiv:2312.01552, who compare a tuned model with its base; ranks 2 and 3, which
    they call marginal, are what is missing to 1.
    """
    agreed = [(prediction.agreed, prediction.tokens) for prediction in predictions]
    shifted = [(prediction.shifted, prediction.tokens) for prediction in predictions]
    return share_tokens("base_agreement", agreed), share_tokens("base_shift", shifted)


def share_tokens(metric: str, counts: Sequence[tuple[int | None, int | None]]) -> Score:
    """The share of counted tokens in all tokens, pooled over predictions."""
    n = len(counts)
    rows = [(float(part), float(whole)) for part, whole in counts if part is not None and whole is not None]
    if n == 0:
        return Score(metric=metric, value=None, n=0, reason="no predictions")
    if len(rows) < n:
        return Score(metric=metric, value=None, n=n, reason="the base was not asked about these completions")
    total = sum(whole for _, whole in rows)
    if total == 0:
        return Score(metric=metric, value=None, n=n, reason="no tokens were said")
    return Score(
        metric=metric,
        value=sum(part for part, _ in rows) / total,
        n=n,
        per_example=tuple(part / whole if whole else None for part, whole in rows),
        statistics=tuple(rows),
        aggregate="ratio",
    )
