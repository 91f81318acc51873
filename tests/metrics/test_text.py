import math

import pytest

from codestrata.metrics.text import score_bleu, score_exact_match
from codestrata.records import Prediction


def pair(completion, target):
    return Prediction(identifier="p", prompt="", target=target, completion=completion)


def compute_bleu(pairs):
    """Corpus BLEU-4 of white-space tokens with sacrebleu's exponential smoothing, from the definition."""
    found, total = [0] * 4, [0] * 4
    completion_length = target_length = 0
    for completion, target in pairs:
        words, wanted = completion.split(), target.split()
        completion_length += len(words)
        target_length += len(wanted)
        for size in range(1, 5):
            grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
            wanted_grams = [tuple(wanted[i : i + size]) for i in range(len(wanted) - size + 1)]
            total[size - 1] += len(grams)
            found[size - 1] += sum(min(grams.count(gram), wanted_grams.count(gram)) for gram in set(grams))
    logarithms, misses = [], 0
    for hits, count in zip(found, total, strict=True):
        if hits == 0:
            misses += 1
            hits = 1 / 2**misses
        logarithms.append(math.log(hits / count))
    return min(1, math.exp(1 - target_length / completion_length)) * math.exp(sum(logarithms) / 4)


@pytest.mark.parametrize(
    "pairs",
    [
        [("the cat sat on the mat", "the cat sat on a mat")],
        [("the cat sat", "the cat sat on a mat"), ("a dog lay on the rug today", "a dog lay on the rug")],
        [("one two three four", "one three two four")],
        [("the the the the the", "the cat is here now")],
        [("a b c d e f", "a b c x y z"), ("g h i j", "g h i j")],
    ],
)
def test_bleu_against_the_definition(pairs):
    score = score_bleu([pair(*texts) for texts in pairs])
    assert score.value == pytest.approx(compute_bleu(pairs), abs=1e-12)
    assert score.n == len(pairs)
    assert score.per_example is None


def test_bleu_by_hand():
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; equal lengths.
    score = score_bleu([pair("the cat sat on the mat", "the cat sat on a mat")])
    assert score.value == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert score.variant.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_bleu_of_equal_texts_is_exactly_one():
    texts = ["the cat sat on the mat", "x = f ( y ) .", "é 😀 é 😀 é"]
    assert score_bleu([pair(text, text) for text in texts]).value == 1.0


def test_bleu_of_empty_completions_is_zero_and_of_empty_targets_unknown():
    assert score_bleu([pair("", "a b c d e"), pair("", "f g h i")]).value == 0
    for target in ("", "a b c"):
        score = score_bleu([pair("a b c d", target), pair("", target)])
        assert (score.value, score.reason) == (None, "no target has four tokens")


def test_bleu_logs_no_warning(caplog):
    assert score_bleu([pair("x is y .", "x is y .")] * 200).value == 1.0
    assert caplog.records == []


def test_bleu_of_large_texts():
    text = "x = 1 + y\n" * 10_000
    assert score_bleu([pair(text, text)]).value == 1.0


def test_exact_match_forgives_white_space_at_ends_only():
    pairs = [
        ("x = 1", "x = 1"),
        ("x = 1  \r\ny = 2\n\n", "x = 1\ny = 2"),
        ("\n\nx = 1", "x = 1"),
        ("x  = 1", "x = 1"),
        ("if x:\n  y", "if x:\n    y"),
        ("", "x"),
        ("", " \n"),
        ("é😀", "é😀"),
        ("x" * 100_000, "x" * 100_000),
    ]
    score = score_exact_match([pair(*texts) for texts in pairs])
    assert score.per_example == (1, 1, 1, 0, 0, 0, 1, 1, 1)
    assert score.value == pytest.approx(6 / 9)
    assert score.n == 9


@pytest.mark.parametrize("metric", [score_bleu, score_exact_match])
def test_no_predictions_are_no_score(metric):
    score = metric([])
    assert (score.value, score.n, score.reason) == (None, 0, "no predictions")
