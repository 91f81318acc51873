import itertools
import json
import math
import random
import string
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from codestrata.analysis.aggregates import find_aggregate
from codestrata.metrics.text import (
    METRICS,
    score_bleu,
    score_chrf,
    score_edit_similarity,
    score_exact_match,
    score_length_ratio,
    split_tokens,
)
from codestrata.records import Prediction

FUNCTIONS = {
    "exact_match": score_exact_match,
    "edit_similarity": score_edit_similarity,
    "bleu": score_bleu,
    "chrf": score_chrf,
    "length_ratio": score_length_ratio,
}
SCORES = [score for name, score in FUNCTIONS.items() if name != "length_ratio"]
CORPUS_SCORES = [score_bleu, score_chrf]

# All code points, lone surrogates and NUL among them, with more of what code is made of.
any_text = st.text(st.one_of(st.characters(), st.sampled_from("ab1 _.,-&;\n\t\u0301😀\0\ud800")), max_size=30)
any_pairs = st.lists(st.tuples(any_text, any_text), min_size=1, max_size=5)

REAL_FUNCTIONS = (
    Path(__file__).parents[2] / ".." / "shared" / "data" / "codesearchnet" / "python" / "test.jsonl"
)


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
        [("a b c d", "a b c d e f g h")],
        [("a b c d e f g h", "a b c d")],
        [("a a a a", "a b c d")],
        [("d c b a", "a b c d")],
        [("é 😀 é x", "é 😀 é y")],
        [("a b", "a b c d"), ("a b c d", "a b c e")],
    ],
)
def test_bleu_against_the_definition(pairs):
    score = score_bleu([pair(*texts) for texts in pairs])
    assert score.value == pytest.approx(compute_bleu(pairs), abs=1e-12)
    assert score.n == len(pairs)


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


@pytest.mark.parametrize("score", CORPUS_SCORES)
def test_values_alone_are_those_of_one_prediction(score):
    predictions = [
        pair(*texts)
        for texts in [
            ("a b c d", "a b c d"),
            ("a b c x", "a b c d"),
            ("", "a b c d"),
            ("x", " \n"),
            ("x", "a b c"),
        ]
    ]
    together = score(predictions)
    assert together.per_example == tuple(score([prediction]).value for prediction in predictions)
    assert None in together.per_example


@pytest.mark.parametrize("score", CORPUS_SCORES)
def test_the_value_is_the_aggregate_of_the_rows(score):
    generator = random.Random(0)
    words = ["a", "b", "c", "(", ")", "é"]
    draw = lambda: " ".join(generator.choices(words, k=generator.randrange(12)))  # noqa: E731
    found = score([pair(draw(), draw()) for _ in range(50)])
    rows = np.array(found.statistics)
    aggregate = find_aggregate(found.aggregate)
    assert found.value == float(aggregate(rows.sum(axis=0)))
    known = [place for place, value in enumerate(found.per_example) if value is not None]
    assert aggregate(rows)[known].tolist() == [found.per_example[place] for place in known]


@pytest.mark.parametrize(("score", "scorer"), [(score_bleu, BLEU(force=True)), (score_chrf, CHRF())])
def test_random_corpora_against_sacrebleu(score, scorer):
    generator = random.Random(1)
    alphabet = "aab  (=1._-,&\n😀é"
    for _ in range(200):
        pairs = []
        for _ in range(10):
            target = "".join(generator.choices(alphabet, k=generator.randrange(40)))
            completion = "".join(letter for letter in target if generator.random() < 0.8)
            pairs.append((completion, target))
        completions, targets = zip(*pairs, strict=True)
        expected = scorer.corpus_score(list(completions), [list(targets)]).score / 100
        assert score([pair(*texts) for texts in pairs]).value == pytest.approx(expected, abs=1e-12)


def test_real_functions_against_sacrebleu():
    if not REAL_FUNCTIONS.exists():
        pytest.skip("the shared CodeSearchNet records are not here")
    with REAL_FUNCTIONS.open(encoding="utf-8") as file:
        targets = [json.loads(line)["code"] for line in itertools.islice(file, 50)]
    completions = [target[: len(target) // 2] for target in targets]
    predictions = [pair(*texts) for texts in zip(completions, targets, strict=True)]
    for score, scorer in ((score_bleu, BLEU(force=True)), (score_chrf, CHRF())):
        expected = scorer.corpus_score(completions, [targets]).score / 100
        assert score(predictions).value == pytest.approx(expected, abs=1e-12)
        assert 0.2 < expected < 0.8


def compute_chrf(pairs):
    """Corpus chrF2 in exact fractions, from the definition."""
    precisions, recalls = [], []
    for size in range(1, 7):
        completion_count = target_count = both = 0
        for completion, target in pairs:
            grams, wanted = (
                Counter(text[start : start + size] for start in range(len(text) - size + 1))
                for text in ("".join(completion.split()), "".join(target.split()))
            )
            # sacrebleu counts no n-grams of a completion whose target is too short for them.
            completion_count += grams.total() if wanted else 0
            target_count += wanted.total()
            both += (grams & wanted).total()
        if completion_count and target_count:
            precisions.append(Fraction(both, completion_count))
            recalls.append(Fraction(both, target_count))
    if not any(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return float(5 * precision * recall / (4 * precision + recall))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("abc", "abc")], 1),
        ([("a b\n c", "abc")], 1),
        ([("", "abc")], 0),
        ([("x", "abc")], 0),
        ([("ABC", "abc")], 0),
        # 3 of 4 letters, 2 of 3 pairs, 1 of 2 triples, 0 of 1 quadruple on both sides.
        ([("abcd", "abce")], (3 / 4 + 2 / 3 + 1 / 2) / 4),
        # P = 1 for n = 1, 2; R = 2/4 and 1/3.
        ([("ab", "abab")], 5 * (5 / 12) / (4 + 5 / 12)),
        # The other way round: P = 2/4 and 1/3, R = 1.
        ([("abab", "ab")], 5 * (5 / 12) / (4 * 5 / 12 + 1)),
        ([("ba", "ab")], 1 / 2),
        ([("aaaa", "a")], 5 * (1 / 4) / (4 * 1 / 4 + 1)),
        ([("é😀", "é😀")], 1),
        ([("e\u0301", "é")], 0),
        # Pooled: 3 of 4 letters, 2 of 2 pairs, 1 of 1 triple.
        ([("abc", "abc"), ("x", "y")], (3 / 4 + 1 + 1) / 3),
    ],
)
def test_chrf_by_hand(pairs, expected):
    score = score_chrf([pair(*texts) for texts in pairs])
    assert score.value == pytest.approx(float(expected), abs=1e-12)
    assert score.value == pytest.approx(compute_chrf(pairs), abs=1e-12)
    assert score.variant.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


@settings(max_examples=200, deadline=None)
@given(any_pairs)
def test_chrf_against_the_definition(pairs):
    score = score_chrf([pair(*texts) for texts in pairs])
    if score.value is None:
        assert score.reason == "every target is blank"
        assert not any(target.strip() for _, target in pairs)
    else:
        assert score.value == pytest.approx(compute_chrf(pairs), abs=1e-12)


def count_edits(left, right):
    """Levenshtein's distance, row by row."""
    row = list(range(len(right) + 1))
    for number, letter in enumerate(left, start=1):
        above, row = row, [number]
        for place, other in enumerate(right):
            row.append(min(above[place + 1] + 1, row[place] + 1, above[place] + (letter != other)))
    return row[-1]


@pytest.mark.parametrize(
    ("completion", "target", "expected"),
    [
        ("", "", 1),
        ("", "abc", 0),
        ("abc", "", 0),
        ("abc", "abc", 1),
        ("abc", "xyz", 0),
        ("kitten", "sitting", 1 - 3 / 7),
        ("saturday", "sunday", 1 - 3 / 8),
        ("flaw", "lawn", 1 - 2 / 4),
        ("ab", "ba", 0),
        ("A", "a", 0),
        ("x = 1", "x = 2", 1 - 1 / 5),
        ("x=1", "x = 1", 1 - 2 / 5),
        ("😀a", "a", 1 / 2),
        ("é", "e\u0301", 0),
        ("a\0b", "ab", 1 - 1 / 3),
        ("\ud800", "\ud800", 1),
    ],
)
def test_edit_similarity_by_hand(completion, target, expected):
    score = score_edit_similarity([pair(completion, target)])
    assert score.value == pytest.approx(expected, abs=1e-12)
    assert score.variant.startswith("rapidfuzz ")


def test_edit_similarity_of_thousands_of_pairs_against_the_definition():
    generator = random.Random(2)
    texts = ["".join(generator.choices("ab =\n😀", k=generator.randrange(15))) for _ in range(4_001)]
    pairs = list(itertools.pairwise(texts))
    score = score_edit_similarity([pair(*texts) for texts in pairs])
    expected = [1 - count_edits(*texts) / max(map(len, texts)) if any(texts) else 1.0 for texts in pairs]
    assert score.per_example == pytest.approx(expected, abs=1e-12)
    assert score.value == pytest.approx(sum(expected) / 4_000, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(any_text, any_text)
def test_edit_similarity_is_symmetric(left, right):
    assert (
        score_edit_similarity([pair(left, right)]).value == score_edit_similarity([pair(right, left)]).value
    )


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \n\t\u2003", []),
        ("c=a+b", ["c", "=", "a", "+", "b"]),
        ("foo_bar.baz()", ["foo_bar", ".", "baz", "(", ")"]),
        ("x1 1x 3.14", ["x1", "1x", "3", ".", "14"]),
        ("é😀日本", ["é", "😀", "日本"]),
        ("e\u0301", ["e", "\u0301"]),
        ("a\0\ud800b", ["a", "\0", "\ud800", "b"]),
        ("!=", ["!", "="]),
        ("don't", ["don", "'", "t"]),
    ],
)
def test_tokens(text, tokens):
    assert split_tokens(text) == tokens


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("a", "a")], 1),
        ([("a b c", "a")], 3),
        ([("", "a b")], 0),
        ([("x = 1", "x=1")], 1),
        ([("c=a+b", "c")], 5),
        ([("a\n\n\n", "b")], 1),
        ([("a b", "a b c d")], 1 / 2),
        ([("é 😀", "x")], 2),
        # A ratio of sums, not a mean of ratios: (1 + 4) / (2 + 1).
        ([("a", "a b"), ("a b c d", "a")], 5 / 3),
        ([("a b", ""), ("a", "a")], 3),
        ([("x" * 1_000, "x")], 1),
    ],
)
def test_length_ratio_by_hand(pairs, expected):
    score = score_length_ratio([pair(*texts) for texts in pairs])
    assert score.value == pytest.approx(expected, abs=1e-12)
    assert float(find_aggregate(score.aggregate)(np.array(score.statistics).sum(axis=0))) == score.value


def test_length_ratio_of_one_empty_target_is_unknown():
    assert score_length_ratio([pair("a b", " "), pair("a", "a b")]).per_example == (None, 0.5)
    score = score_length_ratio([pair("a b", " ")])
    assert (score.value, score.n, score.reason) == (None, 1, "no target has a token")


def test_metrics_name_every_score():
    assert [metric.name for metric in METRICS] == list(FUNCTIONS)
    for name, score in FUNCTIONS.items():
        assert score([pair("a b c d e", "a b c d")]).metric == name
    kinds = {metric.name: metric.kind for metric in METRICS}
    assert kinds["exact_match"] == "rate"
    assert kinds["length_ratio"] == "description"


@pytest.mark.parametrize("score", FUNCTIONS.values())
def test_no_predictions_are_no_score(score):
    found = score([])
    assert (found.value, found.n, found.reason) == (None, 0, "no predictions")


@settings(max_examples=60, deadline=None)
@given(any_pairs)
def test_scores_of_any_texts_stay_within_bounds(pairs):
    predictions = [pair(*texts) for texts in pairs]
    for score in SCORES:
        found = score(predictions)
        assert found.value is None or 0 <= found.value <= 1
        assert (found.value is None) == (found.reason is not None)
        assert found.n == len(pairs)
        if found.per_example is not None:
            assert len(found.per_example) == len(pairs)
            assert all(value is None or 0 <= value <= 1 for value in found.per_example)
    assert (score_length_ratio(predictions).value or 0) >= 0


@settings(max_examples=60, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=5))
def test_equal_texts_score_one(texts):
    predictions = [pair(text, text) for text in texts]
    for score in (score_exact_match, score_edit_similarity):
        assert score(predictions).value == 1.0
    # BLEU needs a text of four tokens and chrF one character, else there is no score at all.
    for score in (score_bleu, score_chrf, score_length_ratio):
        assert score(predictions).value in (1.0, None)


@pytest.mark.parametrize("score", FUNCTIONS.values())
@pytest.mark.parametrize("kind", ["random", "one word", "repeated line"])
def test_texts_of_100_kb_take_seconds(score, kind):
    generator = random.Random(3)
    completion, target = {
        "random": tuple("".join(generator.choices(string.printable, k=100_000)) for _ in range(2)),
        "one word": ("y" * 100_000, "y" * 99_999 + "z"),
        "repeated line": ("x = 1 + y\n" * 10_000, "x = 2 + y\n" * 10_000),
    }[kind]
    start = time.process_time()
    found = score([pair(completion, target)])
    assert time.process_time() - start < 20
    assert found.value is not None or (score is score_bleu and kind == "one word")
