"""The BLEU of CodeXGLUE's summarisation task: the number in the tables of the CodeBERT and CodeT5 papers.

What this does not do: the corpus BLEU of CodeXGLUE's translation and refinement tasks, which those papers
call BLEU-4 too; ``metrics.text`` has sacrebleu's corpus BLEU.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from codestrata.metrics.text import average
from codestrata.records import Metric, Prediction, Score

METRICS: tuple[Metric, ...] = (
    Metric(
        name="bleu_codexglue",
        kind="score",
        formula="mean of BP * (p_1 p_2 p_3 p_4)^(1/4) per example, +1 on both sides of p_2, p_3, p_4",
        source="Lin & Och 2004, doi:10.3115/1220355.1220427; evaluator of CodeXGLUE, arXiv:2102.04664",
        implementation="codestrata.metrics.codexglue",
    ),
)

TOKEN = r"[^\W_]+|\S"
ORDERS = range(1, 5)


def score_bleu_codexglue(predictions: Sequence[Prediction]) -> Score:
    """Mean over examples of CodeXGLUE's smoothed sentence BLEU-4; see ``compute_sentence_bleu``.

    The official script reads one text per line and stops at a tab; here line ends and tabs are white space,
    and every text counts whole.

    Source: the script ``smooth_bleu.py`` of CodeT5, ``evaluator.py`` of CodeXGLUE code-to-text.
    """
    values = [
        compute_sentence_bleu(split_words(prediction.completion), split_words(prediction.target))
        for prediction in predictions
    ]
    return average(
        "bleu_codexglue",
        values,
        variant="sentence BLEU-4, +1 for n > 1, BP exp(1-(r+1)/(h+1)), lower-cased, underscores split off",
    )


def split_words(text: str) -> list[str]:
    r"""The lower-cased tokens of ``text``: runs of letters and digits, and every other character alone.

    The script first sets spaces between ``\w+`` and ``[^\s\w]``, then applies the normalisation of
    mteval-v11a. The rules of that one for ``<skipped>``, hyphens at line ends, XML entities, full stops,
    commas and dashes find nothing to match between those spaces: ``&amp;`` stays three tokens, and so does
    ``3.14``. Only the underscore is left for it to split off.
    """
    return re.findall(TOKEN, text.lower())


def compute_sentence_bleu(completion: Sequence[str], target: Sequence[str]) -> float:
    """BLEU-4 of one completion, smoothed as CodeXGLUE does it, in [0, 1].

        BLEU = BP * (p_1 p_2 p_3 p_4)^(1/4)
        p_1 = found_1 / h, p_n = (found_n + 1) / (n-grams_n + 1) for n = 2, 3, 4
        BP = min(1, exp(1 - (r + 1) / (h + 1)))

    h and r are the tokens of completion and target, found_n the completion's n-grams that are in the target
    (each as often as there). Where they share no token the value is 0 (the script: under 1e-76). An empty
    completion scores BP = exp(-r), as in the script, which makes two empty texts 1.

    Source: Lin & Och 2004 for the smoothing; the + 1 in the brevity penalty is the script's own.
    """
    brevity = min(1.0, math.exp(1 - (len(target) + 1) / (len(completion) + 1)))
    if not completion:
        return brevity
    logarithms = 0.0
    for order in ORDERS:
        grams, wanted = count_grams(completion, order), count_grams(target, order)
        found = sum(min(count, wanted[gram]) for gram, count in grams.items())
        if order == 1 and found == 0:
            return 0.0
        added = int(order > 1)
        logarithms += math.log((found + added) / (max(len(completion) - order + 1, 0) + added))
    return brevity * math.exp(logarithms / len(ORDERS))


def count_grams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of ``order`` tokens occurs."""
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))
