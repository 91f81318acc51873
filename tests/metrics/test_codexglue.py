import math
import random
import re
import sys
import time
from xml.sax.saxutils import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from codestrata.metrics.codexglue import METRICS, score_bleu_codexglue, split_words
from codestrata.records import Prediction

PIECES = [
    *"the returns List foo_bar __init__ 3.14 1,000 x-1 -1 1- don't e.g. ... ( ) [ ` ~ @".split(),
    *"&amp; &lt; &quot; & <skipped> é e\u0301 İ ΑΣ ß 日本 😀 \ud800 \0 ² \u0661".split(),
    *("-\n", "\n", "\t", "\r\n", "\x0b", "\x1c", "\u2028", "\xa0"),
]

any_text = st.lists(st.one_of(st.sampled_from(PIECES), st.characters()), max_size=12).map("".join)


def pair(completion, target):
    return Prediction(identifier="p", prompt="", target=target, completion=completion)


def score_one(completion, target):
    return score_bleu_codexglue([pair(completion, target)]).value


def normalize(text):
    """The official steps one after the other, also those that have no effect after the first."""
    text = " ".join(re.findall(r"\w+|[^\s\w]", text.strip().lower()))
    for old, new in (("<skipped>", ""), ("-\n", ""), ("\n", " ")):
        text = text.replace(old, new)
    text = f" {unescape(text, {'&quot;': chr(34)})} ".lower()
    marks = "".join(re.escape(mark) for mark in '!"#$%&()*+/:;<=>?@[\\]^_`{|}~')
    text = re.sub(f"([{marks}])", r" \1 ", text)
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    text = re.sub(r"([0-9])(-)", r"\1 \2 ", text)
    return text.split()


def compute_slowly(completion, target):
    """CodeXGLUE's sentence BLEU-4 in logarithms, with the least float where the script adds it."""
    words, wanted = normalize(completion), normalize(target)
    total = 0.0
    for size in (1, 2, 3, 4):
        left = [words[start : start + size] for start in range(len(words) - size + 1)]
        unused = [wanted[start : start + size] for start in range(len(wanted) - size + 1)]
        found = 0
        for gram in left:
            if gram in unused:
                unused.remove(gram)
                found += 1
        more = 0 if size == 1 else 1
        total += math.log(found + more + sys.float_info.min) - math.log(len(left) + more + sys.float_info.min)
    penalty = min(0, 1 - (len(wanted) + 1) / (len(words) + 1))
    return math.exp(total / 4 + penalty)


@pytest.mark.parametrize(
    ("completion", "target", "expected"),
    [
        ("a b c d", "a b c d", 1),
        ("a", "a", 1),  # nothing is missing of n-grams that do not exist: (0 + 1) / (0 + 1)
        ("x", "y", 0),
        ("a", "", 0),
        ("", "", 1),
        ("", "a b c", math.exp(-3)),
        (" \n", "a", math.exp(-1)),
        # 1 of 2 words, (0 + 1) / (1 + 1) pairs, no longer n-gram; as many words as the target.
        ("a b", "a c", (1 / 2 * 1 / 2) ** 0.25),
        ("a", "a b", math.exp(1 - 3 / 2)),
        ("a b", "a", (1 / 2 * 1 / 2) ** 0.25),
        ("a b c d", "a b c d e", math.exp(1 - 6 / 5)),
        ("the cat sat on the mat", "the cat sat on a mat", (5 / 6 * 4 / 6 * 3 / 5 * 2 / 4) ** 0.25),
        ("a a a a", "a b c d", (1 / 4 * 1 / 4 * 1 / 3 * 1 / 2) ** 0.25),
        ("b a", "a b", (1 * 1 / 2) ** 0.25),
        ("Return X", "return x", 1),
        ("foo_bar", "foo _ bar", 1),
        ("3.14", "3 . 14", 1),
        ("&lt;", "& lt ;", 1),
        ("&lt;", "<", 0),
        ("a\tb\nc", "a b c", 1),
        ("é 😀", "é😀", 1),
    ],
)
def test_by_hand(completion, target, expected):
    assert score_one(completion, target) == pytest.approx(expected, abs=1e-12)
    assert compute_slowly(completion, target) == pytest.approx(expected, abs=1e-12)


def test_thousands_of_pairs_against_the_definition():
    generator = random.Random(0)
    pairs = []
    for _ in range(5_000):
        target = generator.choices(PIECES, k=generator.randrange(12))
        completion = [piece for piece in target if generator.random() < 0.7]
        completion += generator.choices(PIECES, k=generator.randrange(3))
        glue = generator.choice([" ", " ", ""])
        pairs.append((glue.join(completion), glue.join(target)))
    score = score_bleu_codexglue([pair(*texts) for texts in pairs])
    expected = [compute_slowly(*texts) for texts in pairs]
    assert score.per_example == pytest.approx(expected, abs=1e-9)
    assert score.value == pytest.approx(sum(expected) / len(expected), abs=1e-9)
    assert score.n == 5_000
    assert 0.3 < score.value < 0.9


def test_thousands_of_pairs_against_sacrebleu_with_the_other_brevity_penalty():
    scorer = BLEU(tokenize="none", smooth_method="add-k", smooth_value=1, effective_order=True, force=True)
    generator = random.Random(1)
    for _ in range(2_000):
        target = generator.choices("abcdef", k=generator.randrange(1, 12))
        completion = [word for word in target if generator.random() < 0.7] + generator.choices("abc", k=1)
        found = scorer.sentence_score(" ".join(completion), [" ".join(target)])
        shared = set(completion) & set(target)
        penalty = math.exp(min(0, 1 - (found.ref_len + 1) / (found.sys_len + 1)))
        expected = found.score / 100 / found.bp * penalty if shared else 0
        assert score_one(" ".join(completion), " ".join(target)) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(any_text, any_text)
def test_any_pair_against_the_definition(completion, target):
    value = score_one(completion, target)
    assert 0 <= value <= 1
    assert value == pytest.approx(compute_slowly(completion, target), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(any_text)
def test_equal_texts_score_one(text):
    assert split_words(text) == normalize(text)
    assert score_one(text, text) == 1.0


def test_the_mean_over_examples():
    score = score_bleu_codexglue([pair("a", "a"), pair("x", "y"), pair("a", "a b")])
    assert score.value == pytest.approx((1 + math.exp(-0.5)) / 3)
    assert (score.n, score.statistics, score.aggregate) == (3, None, "mean")
    assert "BP exp(1-(r+1)/(h+1))" in score.variant


def test_no_predictions_are_no_score():
    score = score_bleu_codexglue([])
    assert (score.value, score.n, score.reason) == (None, 0, "no predictions")


def test_the_metric_is_described():
    assert [(metric.name, metric.kind) for metric in METRICS] == [("bleu_codexglue", "score")]


@pytest.mark.parametrize(
    ("completion", "target"),
    [
        ("y" * 100_000, "x" * 100_000),
        ("_" * 100_000, "a_" * 50_000),
        (" ".join(map(str, range(18_000))), " ".join(map(str, range(18_000, 0, -1)))),
    ],
)
def test_texts_of_100_kb_take_seconds(completion, target):
    start = time.process_time()
    assert 0 <= score_one(completion, target) <= 1
    assert time.process_time() - start < 10
