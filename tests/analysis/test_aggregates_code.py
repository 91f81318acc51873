import math

import numpy as np
import pytest

from codestrata.analysis.aggregates import (
    compute_codebleu,
    compute_codebleu_ngram,
    compute_codebleu_pypi,
    find_aggregate,
)

# found_1..4, grams_1..4, completion words, target words
GRAMS = [
    ((4, 3, 2, 1, 4, 3, 2, 1, 4, 4), 1.0),
    ((4, 3, 2, 1, 6, 5, 4, 3, 6, 6), (4 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25),
    ((4, 3, 2, 1, 4, 3, 2, 1, 4, 8), math.exp(1 - 8 / 4)),
    ((4, 3, 2, 1, 8, 7, 6, 5, 8, 4), (4 / 8 * 3 / 7 * 2 / 6 * 1 / 5) ** 0.25),
    ((1, 0, 0, 0, 1, 1, 1, 1, 1, 1), 0.1**0.75),
    ((2, 1, 0, 0, 2, 1, 1, 1, 2, 2), 0.01**0.25),
    ((0.2, 0, 0, 0, 1, 1, 1, 1, 1, 2), (0.2 * 0.001) ** 0.25 * math.exp(-1)),
    ((0, 3, 2, 1, 4, 3, 2, 1, 4, 4), 0.0),
    ((0, 0, 0, 0, 1, 1, 1, 1, 0, 9), 0.0),
    ((0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0.0),
    ((20, 15, 10, 5, 20, 15, 10, 5, 20, 20), 1.0),
]


@pytest.mark.parametrize(("sums", "value"), GRAMS)
def test_ngrams_by_hand(sums, value):
    assert float(compute_codebleu_ngram(np.array(sums, dtype=float))) == pytest.approx(value)


def test_leading_axes_are_kept():
    sums = np.array([row for row, _ in GRAMS], dtype=float)
    expected = [value for _, value in GRAMS]
    assert compute_codebleu_ngram(sums) == pytest.approx(expected)
    stacked = np.stack([sums, sums[::-1]])
    assert compute_codebleu_ngram(stacked).shape == (2, len(GRAMS))
    assert compute_codebleu_ngram(stacked)[1] == pytest.approx(expected[::-1])


@pytest.mark.parametrize(
    ("edges", "ours", "theirs"),
    [((3, 4), (1 + 0.5 + 0.75 + 0.75) / 4, (1 + 0.5 + 0.75 + 0.75) / 4), ((0, 4), 2.25 / 4, 3.25 / 4)],
)
def test_codebleu_by_hand(edges, ours, theirs):
    half = (8 * 0.5**4, 8, 8, 8, 8, 8, 8, 8, 9, 8)
    sums = np.array([*GRAMS[0][0], *half, 6, 8, *edges], dtype=float)
    assert float(compute_codebleu(sums)) == pytest.approx(ours)
    assert float(compute_codebleu_pypi(sums)) == pytest.approx(theirs)


def test_no_data_flow_is_no_value():
    sums = np.array([*GRAMS[0][0], *GRAMS[0][0], 8, 8, 0, 0], dtype=float)
    assert math.isnan(compute_codebleu(sums))
    assert float(compute_codebleu_pypi(sums)) == 1
    both = compute_codebleu(np.stack([sums, sums + 1]))
    assert np.isnan(both).tolist() == [True, False]


@pytest.mark.parametrize("name", ["codebleu", "codebleu_ngram", "codebleu_pypi"])
def test_they_are_found_by_name(name):
    assert find_aggregate(name).__name__ == f"compute_{name}"
