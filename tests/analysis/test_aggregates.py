import itertools
import math

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from codestrata.analysis.aggregates import (
    AGGREGATES,
    build_rows,
    compute_bleu,
    compute_chrf,
    divide_sums,
    find_aggregate,
)
from codestrata.errors import DataError

WORDS = ["x", "=", "1", "return", "f", "(", ")", "if", "\n", "é", "😀", "3.14", "_"]


@pytest.fixture(scope="module")
def texts():
    """120 pairs (completion, target): copies, near copies, unrelated ones, short and empty ones."""
    generator = np.random.default_rng(0)
    pairs = []
    for number in range(120):
        target = generator.choice(WORDS, size=generator.integers(0, 12)).tolist()
        completion = [word for word in target if generator.random() < 0.7]
        if number % 3 == 0:
            completion = generator.choice(WORDS, size=generator.integers(0, 6)).tolist()
        pairs.append((" ".join(completion), " ".join(target)))
    return pairs


def count(scorer, pairs):
    completions, targets = zip(*pairs, strict=True)
    return np.array(scorer._extract_corpus_statistics(list(completions), [list(targets)]), dtype=float)


def draw_subsets(rows, generator, draws):
    """Sums of ``draws`` samples of 1 to 40 rows with replacement, shape (draws, columns)."""
    sizes = generator.integers(1, 41, size=draws)
    return np.stack([rows[generator.integers(0, len(rows), size=size)].sum(axis=0) for size in sizes])


def read_bleu(sums):
    """What sacrebleu makes of one row of sums."""
    counts = [int(value) for value in sums]
    return BLEU.compute_bleu(counts[2:6], counts[6:], counts[0], counts[1], smooth_method="exp").score / 100


def read_chrf(sums):
    return CHRF()._compute_f_score([int(value) for value in sums]) / 100


# Columns: completion tokens, target tokens, matches 1..4, n-grams 1..4.
@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ([6, 6, 6, 5, 4, 3, 6, 5, 4, 3], 1.0),
        ([6, 6, 5, 3, 2, 1, 6, 5, 4, 3], (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25),
        ([4, 8, 4, 3, 2, 1, 4, 3, 2, 1], math.exp(-1)),
        ([8, 4, 4, 3, 2, 1, 8, 7, 6, 5], (4 / 8 * 3 / 7 * 2 / 6 * 1 / 5) ** 0.25),
        ([4, 4, 4, 0, 0, 0, 4, 3, 2, 1], (1 * 1 / 6 * 1 / 8 * 1 / 8) ** 0.25),
        ([5, 5, 1, 0, 0, 0, 5, 4, 3, 2], (1 / 5 * 1 / 8 * 1 / 12 * 1 / 16) ** 0.25),
        ([5, 5, 2, 1, 0, 0, 5, 4, 3, 2], (2 / 5 * 1 / 4 * 1 / 6 * 1 / 8) ** 0.25),
        ([5, 5, 0, 0, 0, 0, 5, 4, 3, 2], 0.0),
        ([3, 3, 3, 2, 1, 0, 3, 2, 1, 0], 0.0),
        ([0, 4, 0, 0, 0, 0, 0, 0, 0, 0], 0.0),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0.0),
    ],
)
def test_bleu_by_hand(sums, expected):
    assert float(compute_bleu(np.array(sums))) == pytest.approx(expected, abs=1e-15)


# Columns: n-grams of completions, of targets, in both, for n = 1..6.
@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ([4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0], 1.0),
        ([6, 6, 6, 5, 5, 5, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1], 1.0),
        ([2, 2, 0] + [0] * 15, 0.0),
        ([0] * 18, 0.0),
        ([0, 4, 0, 0, 3, 0, 0, 2, 0, 0, 1, 0] + [0] * 6, 0.0),
        ([0, 0, 0] * 6, 0.0),
        # P = (1/2 + 0) / 2, R = (1/4 + 0) / 2; n = 3 and 4 have no n-gram on one side.
        ([2, 4, 1, 1, 3, 0, 0, 2, 0, 0, 1, 0] + [0] * 6, 5 * 0.25 * 0.125 / (4 * 0.25 + 0.125)),
        # P = 1, R = 1/2: recall counts twice.
        ([2, 4, 2] + [0] * 15, 5 * 0.5 / 4.5),
        ([4, 2, 2] + [0] * 15, 5 * 0.5 / (4 * 0.5 + 1)),
        ([1, 0, 0, 4, 4, 2] + [0] * 12, 0.5),
        ([10, 10, 5, 10, 10, 3, 10, 10, 1] + [0] * 9, 0.3),
    ],
)
def test_chrf_by_hand(sums, expected):
    assert float(compute_chrf(np.array(sums))) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("scorer", "aggregate", "reference"),
    [(BLEU(force=True), compute_bleu, read_bleu), (CHRF(), compute_chrf, read_chrf)],
)
def test_thousands_of_subsets_against_sacrebleu(texts, scorer, aggregate, reference):
    generator = np.random.default_rng(1)
    rows = count(scorer, texts)
    sums = np.concatenate([rows, draw_subsets(rows, generator, 3_000)])
    values = aggregate(sums)
    assert values.shape == (len(sums),)
    np.testing.assert_allclose(values, [reference(row) for row in sums], rtol=0, atol=1e-12)
    assert np.unique(values).size > 1_000


@pytest.mark.parametrize(("scorer", "aggregate"), [(BLEU(force=True), compute_bleu), (CHRF(), compute_chrf)])
def test_subsets_of_texts_against_the_corpus_score(texts, scorer, aggregate):
    generator = np.random.default_rng(2)
    for _ in range(30):
        chosen = [texts[index] for index in generator.integers(0, len(texts), size=20)]
        completions, targets = zip(*chosen, strict=True)
        expected = scorer.corpus_score(list(completions), [list(targets)]).score / 100
        assert float(aggregate(count(scorer, chosen).sum(axis=0))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "columns"), [("bleu", 10), ("chrf", 18)])
def test_counts_of_any_size_stay_within_bounds(name, columns):
    generator = np.random.default_rng(3)
    found = generator.integers(0, 5, size=(500, columns))
    if name == "bleu":
        sums = np.concatenate([found[:, :2], found[:, 2:6], found[:, 2:6] + found[:, 6:]], axis=1)
    else:
        both = found[:, ::3]
        sums = np.stack([both + found[:, 1::3], both + found[:, 2::3], both], axis=-1).reshape(500, 18)
    values = find_aggregate(name)(sums.astype(float))
    assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize(("name", "columns"), [("mean", 2), ("ratio", 2), ("bleu", 10), ("chrf", 18)])
def test_leading_axes_are_kept(name, columns):
    aggregate = find_aggregate(name)
    sums = np.random.default_rng(4).integers(1, 9, size=(3, 4, columns)).astype(float)
    together = aggregate(sums)
    assert together.shape == (3, 4)
    for place in itertools.product(range(3), range(4)):
        assert together[place] == aggregate(sums[place])


def test_a_ratio_by_zero_is_unknown():
    np.testing.assert_array_equal(
        divide_sums(np.array([[3.0, 2.0], [3.0, 0.0], [0.0, 0.0]])), [1.5, np.nan, np.nan]
    )


def test_rows_of_a_mean():
    rows = build_rows(np.array([0.5, 1.0, 0.0]))
    assert rows.tolist() == [[0.5, 1.0], [1.0, 1.0], [0.0, 1.0]]
    assert find_aggregate("mean")(rows.sum(axis=0)) == 0.5


def test_an_unknown_aggregate_is_refused_with_the_choices():
    with pytest.raises(DataError, match=r"Unknown aggregate 'blue'. Did you mean 'bleu'\? Known: "):
        find_aggregate("blue")
    assert {"mean", "ratio", "bleu", "chrf"} <= set(AGGREGATES)
