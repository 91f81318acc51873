import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codestrata.analysis.aggregates import build_rows
from codestrata.analysis.differences import (
    compare_paired,
    find_example_margin,
    find_margin,
    find_sign_margin,
)
from codestrata.errors import DataError

PROPERTY = settings(deadline=None, max_examples=25)


def compare_values(first, second, **options):
    """The paired difference of tables of values, shape (S, n); one row stands for one seed."""
    tables = [build_rows(np.atleast_2d(np.asarray(values, dtype=float))) for values in (first, second)]
    return compare_paired(*tables, **options)


def compare_noise(seed=0, seeds=1, n=60, *, shift=0.0, of_seeds=0.0):
    """Two methods that differ by ``shift``, by noise per answer and, if told, per seed."""
    generator = np.random.default_rng(seed)
    second = generator.normal(size=(seeds, n)) + generator.normal(size=n)
    first = second + shift + generator.normal(size=(seeds, n)) + of_seeds * generator.normal(size=(seeds, 1))
    return compare_values(first, second)


def test_a_difference_is_the_mean_of_the_seeds_differences():
    found = compare_values([[1, 0, 1, 1], [1, 1, 1, 1]], [[0, 0, 0, 1], [1, 1, 0, 0]])
    assert (found.difference, found.values, found.n, found.seeds) == (0.5, (0.5, 0.5), 4, 2)
    assert found.changed == 3
    assert found.one_sided
    assert found.seed_variance == 0


def test_the_order_of_methods_turns_the_sign_and_nothing_else():
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 3, 20))
    found, turned = compare_values(first, second), compare_values(second, first)
    assert found.difference == pytest.approx(-turned.difference)
    assert find_margin(found, 0.05) == pytest.approx(find_margin(turned, 0.05))


def test_pairing_takes_out_what_examples_share():
    found = compare_noise(n=400)
    assert found.variance == pytest.approx(1 / 400, rel=0.15)


def test_with_one_seed_the_margin_is_nearly_students():
    generator = np.random.default_rng(3)
    first, second = generator.normal(size=(2, 200))
    found = compare_values(first, second)
    error = stats.sem(first - second)
    for alpha in (0.3, 0.05, 0.01, 0.001, 1e-6):
        expected = stats.t.isf(alpha / 2, 199) * error
        assert find_margin(found, alpha) == pytest.approx(expected, rel=0.06)


@PROPERTY
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 30))
def test_the_margin_falls_as_alpha_grows(seed, seeds, n):
    found = compare_noise(seed, seeds, n, shift=0.5, of_seeds=0.5)
    margins = [find_margin(found, alpha) for alpha in (1e-9, 1e-4, 0.009, 0.011, 0.05, 0.3, 0.9)]
    assert margins == sorted(margins, reverse=True)


def test_the_margin_beyond_the_tail_goes_on_where_the_draws_end():
    found = compare_noise(n=300)
    assert find_margin(found, 0.0099999) == pytest.approx(find_margin(found, 0.0100001), rel=1e-3)


def test_seeds_that_differ_widen_the_margin():
    calm, wild = compare_noise(1, 3, 100), compare_noise(1, 3, 100, of_seeds=2.0)
    assert find_margin(wild, 0.05) > 3 * find_margin(calm, 0.05)
    expected = stats.t.isf(0.025, 2) * stats.sem(wild.values)
    assert find_margin(wild, 0.05) == pytest.approx(expected, rel=0.02)


def test_the_margin_at_the_present_size_is_the_present_margin():
    for seeds in (1, 2, 5):
        found = compare_noise(2, seeds, 40, of_seeds=0.3)
        again = find_margin(found, 0.05, examples=40, seeds=seeds)
        assert again == pytest.approx(find_margin(found, 0.05))


@pytest.mark.parametrize(("seeds", "of_seeds"), [(1, 0.0), (5, 0.5)])
def test_the_margin_at_another_size_is_the_one_that_would_be_measured(seeds, of_seeds):
    def average(size, **other):
        found = [compare_noise(seed, seeds, size, of_seeds=of_seeds) for seed in range(30)]
        return np.sqrt(np.mean([find_margin(entry, 0.05, **other) ** 2 for entry in found]))

    assert average(40, examples=120) == pytest.approx(average(120), rel=0.2)
    if seeds > 1:
        more = [compare_noise(seed, 8, 40, of_seeds=of_seeds) for seed in range(30)]
        measured = np.sqrt(np.mean([find_margin(entry, 0.05) ** 2 for entry in more]))
        assert average(40, seeds=8) == pytest.approx(measured, rel=0.2)


def test_more_seeds_help_where_seeds_differ():
    found = compare_noise(4, 2, 50, of_seeds=0.5)
    assert find_margin(found, 0.05, seeds=3) < 0.5 * find_margin(found, 0.05)


@pytest.mark.parametrize(("changed", "enough"), [(1, False), (5, False), (6, True), (12, True)])
@pytest.mark.parametrize("n", [12, 300])
def test_few_changed_examples_are_never_enough_though_all_agree(changed, enough, n):
    values = np.zeros(n)
    values[:changed] = 1
    found = compare_values(values, np.zeros(n))
    assert (find_margin(found, 0.05) < found.difference) == enough
    assert bool(stats.binomtest(changed, changed).pvalue < 0.05) == enough


def test_the_sign_margin_is_clopper_and_pearsons():
    found = compare_values(np.ones(9), np.zeros(9))
    low = stats.binomtest(9, 9).proportion_ci(0.95, method="exact").low
    assert 1 - find_sign_margin(found, 0.05, found.changed) == pytest.approx(2 * low - 1)
    assert find_example_margin(found, 0.05, 9) == pytest.approx(0)


def test_signs_that_differ_leave_the_margin_to_the_draws():
    found = compare_values([1, 1, 1, 0, 0.5], [0, 0, 0, 1, 0.5])
    assert not found.one_sided
    assert find_sign_margin(found, 0.05, found.changed) == 0


def test_the_same_answers_have_no_difference_and_no_margin():
    values = np.random.default_rng(0).random((2, 20))
    found = compare_values(values, values)
    assert (found.difference, found.changed, found.one_sided) == (0, 0, True)
    assert find_margin(found, 0.05) == 0


def test_one_example_says_nothing():
    for seeds in (1, 2):
        found = compare_values(np.ones((seeds, 1)), np.zeros((seeds, 1)))
        assert find_margin(found, 0.05) > found.difference


def test_rows_that_are_not_paired_are_refused():
    with pytest.raises(DataError, match=r"shape \(1, 3, 2\), the second \(1, 4, 2\): a paired comparison"):
        compare_values(np.ones(3), np.ones(4))


def test_rows_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="Seed 0, example 1, column 0 is nan"):
        compare_values([0.0, np.nan], [0.0, 1.0])


def test_a_ratio_without_a_value_on_too_many_draws_is_refused():
    rows = np.zeros((1, 40, 2))
    rows[0, :3] = 1
    with pytest.raises(DataError, match="have no value under 'ratio'"):
        compare_paired(rows, rows, "ratio")
