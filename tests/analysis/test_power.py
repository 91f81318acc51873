import numpy as np
import pytest
from scipy import stats

from codestrata.analysis.aggregates import build_rows
from codestrata.analysis.differences import compare_paired, find_margin
from codestrata.analysis.power import (
    Answer,
    find_detectable_effect,
    find_examples_needed,
    find_least,
    find_seeds_needed,
)


def compare_values(first, second, **options):
    tables = [build_rows(np.atleast_2d(np.asarray(values, dtype=float))) for values in (first, second)]
    return compare_paired(*tables, **options)


def compare_exact(seeds, n, *, shift, of_seeds, of_examples, of_both):
    """A difference whose mean squares are exactly those that the true parts lead to expect."""
    generator = np.random.default_rng(2)
    values = np.sqrt(of_examples**2 + of_both**2 / seeds) * stats.zscore(generator.normal(size=n), ddof=1)
    if seeds > 1:
        effects = stats.zscore(generator.normal(size=(seeds, 1)), ddof=1)
        rest = generator.normal(size=(seeds, n))
        rest = rest - rest.mean(axis=0) - rest.mean(axis=1, keepdims=True) + rest.mean()
        rest = rest * np.sqrt((seeds - 1) * (n - 1) / np.sum(rest**2))
        values = values + np.sqrt(of_seeds**2 + of_both**2 / n) * effects + of_both * rest
    return compare_values(shift + values, np.zeros((seeds, n)))


def find_share(effect, seeds, n, *, of_seeds, of_examples, of_both, runs):
    """How often a true difference of ``effect`` is found at 95 %."""
    generator = np.random.default_rng(11)
    found = 0
    for _ in range(runs):
        values = effect + of_seeds * generator.normal(size=(seeds, 1))
        values = values + of_examples * generator.normal(size=n) + of_both * generator.normal(size=(seeds, n))
        entry = compare_values(values, np.zeros((seeds, n)))
        found += abs(entry.difference) > find_margin(entry, 0.05)
    return found / runs


@pytest.mark.parametrize(
    ("seeds", "n", "of_seeds", "of_examples", "of_both"),
    [(1, 80, 0.0, 0.0, 1.0), (2, 30, 0.2, 0.3, 0.5), (5, 30, 0.2, 0.3, 0.5), (5, 30, 0.5, 1.0, 0.0)],
)
def test_the_detectable_effect_is_found_80_times_in_100(seeds, n, of_seeds, of_examples, of_both):
    parts = {"of_seeds": of_seeds, "of_examples": of_examples, "of_both": of_both}
    answer = find_detectable_effect(compare_exact(seeds, n, shift=0.0, **parts), 0.05)
    assert find_share(answer.value, seeds, n, **parts, runs=200) == pytest.approx(0.8, abs=0.085)


def test_with_one_seed_the_detectable_effect_is_the_textbooks():
    first, second = np.random.default_rng(0).normal(size=(2, 300))
    answer = find_detectable_effect(compare_values(first, second), 0.05)
    expected = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) * stats.sem(first - second)
    assert answer.value == pytest.approx(expected, rel=0.04)


def test_no_effect_is_detectable_beyond_the_largest_possible():
    values = np.array([[0.2, 0.4, 0.3], [0.9, 0.7, 0.8]])
    found = compare_values(values, np.zeros((2, 3)), bounds=(0.0, 1.0))
    answer = find_detectable_effect(found, 0.05)
    assert answer.value is None
    assert "even 1, the largest difference" in answer.reason


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_is_needed_would_just_do(seeds):
    found = compare_exact(seeds, 50, shift=0.15, of_seeds=0.02, of_examples=0.2, of_both=1.0)
    needed = find_examples_needed(found, 0.05).value
    assert needed > 0
    assert find_margin(found, 0.05, examples=50 + needed) < found.difference
    assert find_margin(found, 0.05, examples=50 + needed - 1) >= found.difference
    if seeds > 1:
        needed = find_seeds_needed(found, 0.05).value
        assert needed > 0
        assert find_margin(found, 0.05, seeds=3 + needed) < found.difference
        assert find_margin(found, 0.05, seeds=3 + needed - 1) >= found.difference


def test_repeating_the_examples_is_significant_from_the_named_number_on():
    first = np.random.default_rng(8).normal(size=50)
    values = first - first.mean() + 0.15 * first.std()
    needed = find_examples_needed(compare_values(values, np.zeros(50)), 0.05).value
    for times in range(1, 8):
        many = np.tile(values, times)
        found = compare_values(many, np.zeros(len(many)))
        if abs(50 * times - 50 - needed) > 15:
            assert (find_margin(found, 0.05) < found.difference) == (50 * times > 50 + needed)


def test_with_the_named_examples_the_chance_is_even():
    parts = {"of_seeds": 0.0, "of_examples": 0.0, "of_both": 1.0}
    needed = find_examples_needed(compare_exact(1, 40, shift=0.2, **parts), 0.05).value
    assert find_share(0.2, 1, 40 + needed, **parts, runs=200) == pytest.approx(0.5, abs=0.1)


def test_with_the_named_seeds_the_chance_is_about_even():
    parts = {"of_seeds": 0.3, "of_examples": 0.1, "of_both": 0.1}
    needed = find_seeds_needed(compare_exact(3, 30, shift=0.3, **parts), 0.05).value
    assert needed > 0
    assert find_share(0.3, 3 + needed, 30, **parts, runs=200) == pytest.approx(0.5, abs=0.15)


def test_more_examples_alone_do_not_help_where_seeds_differ():
    found = compare_exact(2, 30, shift=0.3, of_seeds=0.3, of_examples=0.1, of_both=0.1)
    answer = find_examples_needed(found, 0.05)
    assert answer.value is None
    assert "the seeds differ too much" in answer.reason


def test_more_seeds_alone_do_not_help_where_examples_differ():
    values = np.random.default_rng(0).normal(0.05, 1, size=30)
    found = compare_values(np.tile(values, (3, 1)), np.zeros((3, 30)))
    answer = find_seeds_needed(found, 0.05)
    assert answer.value is None
    assert "more seeds do not lessen how much the examples differ" in answer.reason


def test_a_difference_that_is_too_small_is_no_matter_of_examples():
    found = compare_values(np.array([1.0, -1.0, 1.0, -0.9999]), np.zeros(4))
    answer = find_examples_needed(found, 0.05)
    assert answer.value is None
    assert "1,000,000 examples would not do: the difference is too small" in answer.reason


def test_one_seed_does_not_tell_how_many_seeds_are_needed():
    found = compare_values([1.0, 0.0, 0.5], [0.0, 0.1, 0.2])
    assert "one seed does not show how much seeds differ" in find_seeds_needed(found, 0.05).reason


def test_a_significant_difference_needs_no_more_of_anything():
    values = 1 + 0.1 * np.random.default_rng(0).normal(size=(3, 30))
    found = compare_values(values, np.zeros((3, 30)))
    assert find_examples_needed(found, 0.05) == find_seeds_needed(found, 0.05) == Answer(value=0)


def test_three_of_three_need_three_more():
    found = compare_values(np.ones(3), np.zeros(3))
    assert find_examples_needed(found, 0.05) == Answer(value=3)
    assert "do not vary" in find_detectable_effect(found, 0.05).reason


@pytest.mark.parametrize("find", [find_detectable_effect, find_examples_needed, find_seeds_needed])
def test_identical_answers_need_nothing_because_nothing_can_be_said(find):
    found = compare_values(np.ones((2, 5)), np.ones((2, 5)))
    assert find(found, 0.05) == Answer(value=None, reason="both have the same statistics on every example")


@pytest.mark.parametrize("find", [find_examples_needed, find_seeds_needed])
def test_a_difference_of_0_needs_no_more_data(find):
    found = compare_values([[1, 0], [0, 1]], [[0, 1], [1, 0]])
    assert find(found, 0.05) == Answer(value=None, reason="the difference is 0")


@pytest.mark.parametrize("least", [3, 4, 5, 17, 99, 100])
def test_the_least_number_is_found(least):
    assert find_least(lambda number: number >= least, 3, 100) == least
    assert find_least(lambda number: False, 3, 100) is None
