import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.analysis import resampling
from codestrata.analysis.aggregates import build_rows, find_aggregate
from codestrata.analysis.resampling import (
    RESAMPLES,
    check_rows,
    compute_pseudo_values,
    compute_values,
    drop_missing,
    iterate_counts,
    keep_counts,
    leave_one_out,
    resample_examples,
)
from codestrata.errors import DataError

PROPERTY = settings(deadline=None, max_examples=20)


def draw_bleu_rows(generator, seeds, examples):
    """Rows of corpus BLEU: lengths, matches and n-grams of made-up completions."""
    lengths = generator.integers(8, 40, size=(seeds, examples, 2)).astype(float)
    grams = lengths[..., :1] - np.arange(4)
    found = generator.binomial(grams.astype(int), 0.8 ** np.arange(1, 5))
    return np.concatenate([lengths, found, grams], axis=-1)


@PROPERTY
@given(st.integers(1, 40), st.integers(0, 5))
def test_every_draw_takes_as_many_examples_as_there_are(examples, seed):
    counts = np.concatenate(list(iterate_counts(examples, seed)))
    assert counts.shape == (RESAMPLES, examples)
    assert (counts.sum(axis=1) == examples).all()


def test_examples_are_drawn_evenly_and_independently():
    counts = keep_counts(50, 0).astype(float)
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.06)
    assert counts.var(axis=0) == pytest.approx(np.full(50, 0.98), abs=0.1)


def test_draws_depend_on_the_seed_alone_and_cannot_be_written_to():
    assert (keep_counts(20, 1) == np.concatenate(list(resampling.generate_counts(20, 1, 100_000)))).all()
    assert (keep_counts(20, 1) != keep_counts(20, 2)).any()
    with pytest.raises(ValueError, match="read-only"):
        keep_counts(20, 1)[0, 0] = 1


def test_many_examples_are_drawn_piece_by_piece_with_the_same_numbers(monkeypatch):
    rows = build_rows(np.random.default_rng(0).random((1, 60)))
    monkeypatch.setattr(resampling, "COUNTS_AT_ONCE", 60_000)
    kept = resample_examples(rows, "mean", 3)
    monkeypatch.setattr(resampling, "LARGEST_KEPT", 59)
    monkeypatch.setattr(resampling, "keep_counts", None)
    assert (resample_examples(rows, "mean", 3) == kept).all()


@pytest.mark.parametrize("aggregate", ["mean", "bleu"])
def test_draws_are_the_aggregate_of_the_drawn_rows(aggregate):
    generator = np.random.default_rng(1)
    rows = draw_bleu_rows(generator, 3, 12) if aggregate == "bleu" else build_rows(generator.random((3, 12)))
    counts = keep_counts(12, 0)[:5]
    expected = [
        np.mean(
            [find_aggregate(aggregate)(np.repeat(of_seed, drawn, axis=0).sum(axis=0)) for of_seed in rows]
        )
        for drawn in counts
    ]
    assert resample_examples(rows, aggregate, 0)[:5] == pytest.approx(expected, abs=1e-12)


def test_equal_examples_are_drawn_for_two_methods():
    values = np.random.default_rng(2).random((2, 30))
    shift = resample_examples(build_rows(values + 0.25), "mean", 0) - resample_examples(
        build_rows(values), "mean", 0
    )
    assert shift == pytest.approx(np.full(RESAMPLES, 0.25))


def test_one_example_is_left_out_at_a_time():
    rows = draw_bleu_rows(np.random.default_rng(3), 2, 9)
    found = leave_one_out(rows, "bleu")
    for seed, example in [(0, 0), (1, 8), (0, 4)]:
        rest = np.delete(rows[seed], example, axis=0).sum(axis=0)
        assert found[seed, example] == pytest.approx(float(find_aggregate("bleu")(rest)), abs=1e-12)


@PROPERTY
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_pseudo_values_of_a_mean_are_the_examples_own(values):
    rows = build_rows(np.array([values]))
    assert compute_pseudo_values(rows, "mean")[0] == pytest.approx(values, abs=1e-9)


def test_pseudo_values_of_a_corpus_value_have_nearly_its_mean_and_variance():
    rows = draw_bleu_rows(np.random.default_rng(4), 1, 300)
    contributions = compute_pseudo_values(rows, "bleu")[0]
    assert contributions.mean() == pytest.approx(compute_values(rows, "bleu")[0], abs=0.002)
    error = contributions.std(ddof=1) / np.sqrt(300)
    assert error == pytest.approx(resample_examples(rows, "bleu", 0).std(), rel=0.05)


@pytest.mark.parametrize(
    "rows", [[], [[1.0, 1.0]], np.ones((0, 3, 2)), np.ones((1, 0, 2)), np.ones((1, 3, 0))]
)
def test_rows_of_another_shape_are_refused(rows):
    with pytest.raises(DataError, match=r"shape \(seeds, examples, columns\), found"):
        check_rows(rows)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused_with_their_place(value):
    rows = np.ones((2, 3, 2))
    rows[1, 2, 0] = value
    with pytest.raises(DataError, match=f"Seed 1, example 2, column 0 is {value}"):
        check_rows(rows)


def test_a_corpus_without_a_value_is_refused():
    with pytest.raises(DataError, match="The 4 examples together have no value under 'ratio'"):
        compute_values(np.zeros((1, 4, 2)), "ratio")


def test_a_value_that_one_example_carries_is_refused():
    rows = np.zeros((1, 4, 2))
    rows[0, 2] = 1
    with pytest.raises(DataError, match="Without example 2 of 4 there is no value"):
        compute_pseudo_values(rows, "ratio")


def test_draws_without_a_value_are_counted_unless_they_are_rare():
    draws = np.ones(RESAMPLES)
    draws[:9] = np.nan
    assert len(drop_missing(draws, "ratio")) == RESAMPLES - 9
    draws[:10] = np.nan
    with pytest.raises(DataError, match=r"10 of 9,999 draws of examples have no value under 'ratio'"):
        drop_missing(draws, "ratio")
