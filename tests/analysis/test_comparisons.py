import json
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codestrata.analysis.aggregates import build_rows
from codestrata.analysis.comparisons import SMALLEST_P, adjust_comparisons, find_p, flip_signs
from codestrata.analysis.differences import compare_paired
from codestrata.errors import SettingsError

PROPERTY = settings(deadline=None, max_examples=25)


def compare_values(first, second, **options):
    tables = [build_rows(np.atleast_2d(np.asarray(values, dtype=float))) for values in (first, second)]
    return compare_paired(*tables, **options)


def judge(first, second, **options):
    """The comparison of two methods alone."""
    return adjust_comparisons([compare_values(first, second, bounds=(0.0, 1.0))], **options)[0]


def draw_family(seed, count, *, seeds=1, n=25):
    """Differences between nothing and clear."""
    generator = np.random.default_rng(seed)
    return [
        compare_values(
            size + generator.normal(size=(seeds, n)) + 0.2 * generator.normal(size=(seeds, 1)),
            np.zeros((seeds, n)),
        )
        for size in generator.uniform(-1, 1, size=count)
    ]


@PROPERTY
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 3), st.sampled_from([0.8, 0.95, 0.99]))
def test_interval_p_and_verdict_always_agree(seed, count, seeds, level):
    for found in adjust_comparisons(draw_family(seed, count, seeds=seeds), level):
        excludes = found.interval.low > 0 or found.interval.high < 0
        assert excludes == (found.adjusted_p < 1 - level) == (found.verdict != "cannot tell")
        assert (found.verdict == "first") == (found.interval.low > 0)
        assert found.p <= found.adjusted_p <= 1
        assert found.interval.low <= found.difference <= found.interval.high
        assert (found.examples_needed == 0) == excludes


@PROPERTY
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=14), st.integers(1, 3))
def test_rates_agree_too_and_claim_no_more_than_an_exact_test_of_signs_can(changes, seeds):
    second = np.array([[float(change < 0) for change in changes]] * seeds)
    found = judge(second + changes, second)
    assert (found.interval.low > 0 or found.interval.high < 0) == (found.adjusted_p < 0.05)
    assert -1 <= found.interval.low <= found.interval.high <= 1
    changed = sum(change != 0 for change in changes)
    if changed:
        assert found.p >= min(1.0, 2.0 ** (1 - changed)) * (1 - 1e-6)


def test_p_values_are_adjusted_as_holm_does():
    family = draw_family(1, 6)
    found = adjust_comparisons(family)
    p_values = np.array([find_p(entry) for entry in family])
    order = np.argsort(p_values)
    expected = np.minimum(1, np.maximum.accumulate(p_values[order] * np.arange(6, 0, -1)))
    assert [found[place].adjusted_p for place in order] == pytest.approx(expected.tolist())
    assert [entry.p for entry in found] == p_values.tolist()
    assert {entry.family for entry in found} == {6}


def build_clear(errors, n=400):
    """A difference that lies ``errors`` standard errors from 0."""
    noise = stats.zscore(np.random.default_rng(0).normal(size=n), ddof=1)
    return compare_values(errors / n**0.5 + noise, np.zeros(n))


def test_levels_rise_step_by_step_until_one_comparison_fails():
    found = adjust_comparisons([build_clear(errors) for errors in (0.5, 4.5, 1.0, 3.5)])
    assert [entry.verdict for entry in found] == ["cannot tell", "first", "cannot tell", "first"]
    alphas = [1 - entry.interval.level for entry in found]
    assert alphas == pytest.approx([0.05 / 2, 0.05 / 4, 0.05 / 2, 0.05 / 3])


def test_after_one_failure_no_later_comparison_passes_at_an_easier_level():
    family = [build_clear(errors) for errors in (2.2, -2.2, 2.2)]
    found = adjust_comparisons(family)
    assert all(0.02 < entry.p < 0.04 for entry in found)
    assert {entry.verdict for entry in found} == {"cannot tell"}
    assert [entry.interval.level for entry in found] == pytest.approx([1 - 0.05 / 3] * 3)
    assert [adjust_comparisons([entry])[0].verdict for entry in family] == ["first", "second", "first"]


def test_the_order_of_a_family_is_kept_and_does_not_matter():
    family = draw_family(3, 5)
    found = adjust_comparisons(family)
    assert adjust_comparisons(family[::-1]) == found[::-1]
    assert [entry.difference for entry in found] == [entry.difference for entry in family]
    assert adjust_comparisons([]) == []


def test_p_is_students_where_differences_are_normal():
    for size in (0.0, 0.05, 0.2, 0.3):
        generator = np.random.default_rng(5)
        values = size + generator.normal(size=300)
        expected = stats.ttest_1samp(values, 0).pvalue
        found = find_p(compare_values(values, np.zeros(300)))
        assert stats.norm.isf(found / 2) == pytest.approx(stats.norm.isf(expected / 2), abs=0.15)


def test_a_clear_difference_has_the_smallest_p_that_is_told():
    assert find_p(compare_values(np.ones(300), np.zeros(300))) == SMALLEST_P


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_all_against_nothing_is_told_apart(seeds):
    found = judge(np.ones((seeds, 300)), np.zeros((seeds, 300)))
    assert (found.verdict, found.difference, found.interval.high) == ("first", 1, 1)
    assert 0.97 < found.interval.low < 1
    assert judge(np.zeros((seeds, 300)), np.ones((seeds, 300))).verdict == "second"


def test_three_of_three_is_not_told_apart():
    found = judge(np.ones(3), np.zeros(3))
    assert (found.verdict, found.examples_needed) == ("cannot tell", 3)
    assert found.p == pytest.approx(0.25)
    assert found.interval.low == pytest.approx(2 * 0.025 ** (1 / 3) - 1)


@pytest.mark.parametrize(
    "values", [np.zeros((1, 1)), np.ones((2, 30)), np.random.default_rng(0).random((3, 8))]
)
def test_identical_methods_have_the_point_0(values):
    found = judge(values, values)
    assert (found.interval.low, found.interval.high, found.interval.method) == (0, 0, "constant")
    assert (found.p, found.verdict, found.examples_needed) == (1, "cannot tell", None)
    assert found.examples_needed_reason == "both have the same statistics on every example"


def test_one_seed_is_for_this_seed_only():
    values = np.random.default_rng(0).random((2, 30))
    alone = judge(values[0], np.zeros(30))
    assert (alone.for_this_seed_only, alone.seeds, alone.sign_flip_p, alone.seeds_needed) == (
        True,
        1,
        None,
        None,
    )
    both = judge(values, np.zeros((2, 30)))
    assert (both.for_this_seed_only, both.seeds, both.sign_flip_p) == (False, 2, 0.5)


def test_a_comparison_can_be_written_as_json():
    assert json.loads(json.dumps(asdict(judge(np.ones((2, 30)), np.zeros((2, 30))))))["verdict"] == "first"


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_outside_the_open_unit_interval_is_refused(level):
    with pytest.raises(SettingsError, match="level is"):
        adjust_comparisons([], level)


@pytest.mark.parametrize(
    "values",
    [(0.1, 0.2), (0.3, 0.1, -0.2), (1.0, 1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.1), (0.1, -0.1, 0.2, 0.3)],
)
def test_sign_flips_are_all_counted(values):
    expected = stats.permutation_test(
        (np.array(values),),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    assert flip_signs(values) == pytest.approx(expected)
    sums = [abs(np.dot(signs, values)) for signs in product((-1, 1), repeat=len(values))]
    assert flip_signs(values) == pytest.approx(np.mean(np.array(sums) >= abs(sum(values)) - 1e-12))


def test_five_seeds_cannot_go_under_a_sixteenth():
    assert flip_signs((1.0, 2.0, 3.0, 4.0, 5.0)) == 0.0625


@pytest.mark.parametrize("count", [1, 21])
def test_sign_flips_of_one_value_or_too_many_are_not_counted(count):
    assert flip_signs((1.0,) * count) is None
