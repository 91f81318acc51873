"""How a corpus metric's value comes out of the sums of its examples' sufficient statistics.

A metric that is no mean over examples (corpus BLEU, say) keeps one row of counts per example. Its value is a
function of the rows' sums alone, so it can be resampled without looking at a text again.

What this does not do: count anything in a text (``metrics`` does), or resample (``statistics`` does).
"""

from collections.abc import Callable, Mapping

import numpy as np

from codestrata.errors import DataError, describe_unknown

Aggregate = Callable[[np.ndarray], np.ndarray]
"""Sums of rows, shape (..., columns) -> values, shape (...); NaN where the sums give none."""


def divide_sums(sums: np.ndarray) -> np.ndarray:
    """A ratio of sums: the first column over the second; NaN where the second is 0.

    value = sum of numerators / sum of denominators
    """
    numerators, denominators = sums[..., 0], sums[..., 1]
    values = np.full(numerators.shape, np.nan)
    np.divide(numerators, denominators, out=values, where=denominators != 0)
    return values


def compute_bleu(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU-4 in [0, 1]; 0 where no n-gram of the completions is found in the targets.

        BLEU = BP * exp(mean over n = 1..4 of log p_n), p_n = found_n / n-grams_n
        BP = min(1, exp(1 - target tokens / completion tokens))

    A p_n without a match counts 1 / 2^k matches, k = 1 for the first such n, 2 for the second and so on. The
    value is 0, never NaN, where no completion has four tokens.

    Args:
        sums: shape (..., 10): completion tokens, target tokens, found_1..found_4, n-grams_1..n-grams_4. They
            must be sums and no means: the smoothing depends on their size.

    Source: sacrebleu's ``corpus_score`` with smoothing "exp", divided by 100.
    """
    completion_tokens, target_tokens = sums[..., 0], sums[..., 1]
    found, grams = sums[..., 2:6], sums[..., 6:10]
    matches = np.where(found > 0, found, 0.5 ** np.cumsum(found == 0, axis=-1))
    scored = np.any(found > 0, axis=-1, keepdims=True) & np.all(grams > 0, axis=-1, keepdims=True)
    precisions = np.where(scored, matches / np.maximum(grams, 1), 1.0)
    excess = target_tokens / np.maximum(completion_tokens, 1)
    brevity = np.exp(np.minimum(0.0, 1.0 - excess))
    return np.where(scored[..., 0], brevity * np.exp(np.log(precisions).mean(axis=-1)), 0.0)


def compute_chrf(sums: np.ndarray) -> np.ndarray:
    """Corpus chrF2 in [0, 1]; 0 where no character n-gram is in completions and targets alike.

        chrF2 = 5 P R / (4 P + R), P = mean of both_n / completions_n, R = mean of both_n / targets_n

    over the n for which completions and targets have an n-gram. The value is 0, never NaN, where there is no
    such n.

    Args:
        sums: shape (..., 18): completions_1, targets_1, both_1, completions_2 and so on to both_6.

    Source: Popovic 2015; sacrebleu's ``corpus_score`` without word n-grams and smoothing, divided by 100.
    """
    grams = sums.reshape(*sums.shape[:-1], 6, 3)
    completions, targets, both = grams[..., 0], grams[..., 1], grams[..., 2]
    effective = (completions > 0) & (targets > 0)
    orders = np.maximum(effective.sum(axis=-1), 1)
    precision = (np.where(effective, both, 0) / np.maximum(completions, 1)).sum(axis=-1) / orders
    recall = (np.where(effective, both, 0) / np.maximum(targets, 1)).sum(axis=-1) / orders
    weight = 4 * precision + recall
    values = np.zeros(weight.shape)
    np.divide(5 * precision * recall, weight, out=values, where=weight > 0)
    return values


def compute_codebleu_ngram(sums: np.ndarray) -> np.ndarray:
    """An n-gram part of CodeBLEU, in [0, 1]; 0 where no single word is found.

        BP * exp(mean over n = 1..4 of log (found_n / grams_n)), found_n = 0 counts as 0.1
        BP = min(1, exp(1 - target words / completion words)), 0 without a word in the completions

    Args:
        sums: shape (..., 10): found_1..found_4, grams_1..grams_4, completion words, target words. Each row
            has at least 1 of each grams_n.

    Source: Ren et al. 2020, arXiv:2009.10297, with NLTK's smoothing "method1".
    """
    found, grams = sums[..., 0:4], sums[..., 4:8]
    completion_words, target_words = sums[..., 8], sums[..., 9]
    scored = (found[..., 0] > 0) & (completion_words > 0)
    precisions = np.where(found > 0, found, 0.1) / np.maximum(grams, 1)
    brevity = np.exp(np.minimum(0.0, 1.0 - target_words / np.maximum(completion_words, 1)))
    return np.where(scored, brevity * np.exp(np.log(precisions).mean(axis=-1)), 0.0)


def compute_codebleu(sums: np.ndarray) -> np.ndarray:
    """CodeBLEU in [0, 1]: the mean of its four parts; NaN where no target has data flow.

    Args:
        sums: shape (..., 24): ten columns of the n-gram part, ten of the weighted one, found and all
            subtrees, found and all data-flow edges.

    Source: Ren et al. 2020, arXiv:2009.10297.
    """
    return compute_syntactic_parts(sums) / 4 + divide_sums(sums[..., 22:24]) / 4


def compute_codebleu_pypi(sums: np.ndarray) -> np.ndarray:
    """As ``compute_codebleu``, but a data-flow part of 0, or none, counts as 1: as PyPI's codebleu 0.7.0."""
    flow = divide_sums(sums[..., 22:24])
    return compute_syntactic_parts(sums) / 4 + np.where(flow > 0, flow, 1.0) / 4


def compute_syntactic_parts(sums: np.ndarray) -> np.ndarray:
    """The sum of the first three parts of CodeBLEU, from the columns of ``compute_codebleu``."""
    plain, weighted = compute_codebleu_ngram(sums[..., 0:10]), compute_codebleu_ngram(sums[..., 10:20])
    parts: np.ndarray = plain + weighted + divide_sums(sums[..., 20:22])
    return parts


AGGREGATES: Mapping[str, Aggregate] = {
    "mean": divide_sums,  # rows are (value, 1)
    "rate": divide_sums,  # the same, the values being 0 and 1
    "ratio": divide_sums,
    "bleu": compute_bleu,
    "chrf": compute_chrf,
    "codebleu": compute_codebleu,
    "codebleu_ngram": compute_codebleu_ngram,
    "codebleu_pypi": compute_codebleu_pypi,
}


def find_aggregate(name: str) -> Aggregate:
    """The function of that name. Raises DataError: there is none."""
    if name not in AGGREGATES:
        raise DataError(describe_unknown("aggregate", name, AGGREGATES))
    return AGGREGATES[name]


def build_rows(per_example: np.ndarray) -> np.ndarray:
    """Rows of sufficient statistics for a mean: (value, 1) per example; shape (..., n) -> (..., n, 2)."""
    values = np.asarray(per_example, dtype=float)
    return np.stack([values, np.ones_like(values)], axis=-1)
