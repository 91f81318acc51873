"""Scores that compare completions with targets as texts: corpus BLEU and exact match.

What this does not do: know that code has a structure (see ``metrics.code``), or that it runs
(``metrics.execution``).
"""

from collections.abc import Sequence

from sacrebleu.metrics.bleu import BLEU

from codestrata.records import Prediction, Score


def score_bleu(predictions: Sequence[Prediction]) -> Score:
    """Corpus BLEU-4 of sacrebleu with its default tokenizer and smoothing, divided by 100.

        BLEU = BP * exp(mean over n = 1..4 of log p_n)
        BP = min(1, exp(1 - target tokens / completion tokens))

    p_n is the share of the completions' n-grams that are found in their targets, pooled over the corpus; a
    p_n without a match is smoothed, the k-th of them by 1 / 2^k matches. Every completion has one target. The
    value is ``None`` where no target has four tokens: even the targets themselves would score 0 then.

    Source: Papineni et al. 2002; Post 2018, arXiv:1804.08771. ``variant`` is sacrebleu's signature.
    """
    n = len(predictions)
    if n == 0:
        return Score(metric="bleu", value=None, n=0, reason="no predictions")
    targets = [prediction.target for prediction in predictions]
    # `force` drops a warning about texts that look tokenized: code often ends in a separate full stop.
    bleu = BLEU(force=True)
    if not any(len(bleu.tokenizer(target).split()) >= 4 for target in targets):
        return Score(metric="bleu", value=None, n=n, reason="no target has four tokens")
    percent = bleu.corpus_score([prediction.completion for prediction in predictions], [targets]).score
    return Score(metric="bleu", value=min(percent / 100, 1.0), n=n, variant=str(bleu.get_signature()))


def score_exact_match(predictions: Sequence[Prediction]) -> Score:
    """Share of completions that equal their targets.

    White space at the end of a line and at both ends of the text does not count.
    """
    if not predictions:
        return Score(metric="exact_match", value=None, n=0, reason="no predictions")
    matches = tuple(
        float(strip_lines(prediction.completion) == strip_lines(prediction.target))
        for prediction in predictions
    )
    return Score(metric="exact_match", value=sum(matches) / len(matches), n=len(matches), per_example=matches)


def strip_lines(text: str) -> str:
    """``text`` without white space at the ends of its lines and at its own ends."""
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()
