import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codestrata.analysis.statistics import Interval, bootstrap_interval, wilson_interval
from codestrata.errors import DataError, SettingsError

PROPERTY = settings(deadline=None, max_examples=50)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_limits(successes, n, low, high):
    """Newcombe 1998, table I, method 3."""
    interval = wilson_interval(successes, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert (interval.level, interval.method) == (0.95, "wilson")


@PROPERTY
@given(st.data(), st.integers(1, 500), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_agrees_with_scipy_and_holds_the_rate(data, n, level):
    successes = data.draw(st.integers(0, n))
    interval = wilson_interval(successes, n, level)
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= interval.low <= successes / n <= interval.high <= 1


def test_wilson_limits_at_the_ends_are_exact():
    assert wilson_interval(0, 7).low == 0
    assert wilson_interval(7, 7).high == 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5), (0, -1)])
def test_wilson_refuses_counts_that_are_no_rate(successes, n):
    with pytest.raises(DataError, match=r"needs at least 1 example|expected a number from 0 to"):
        wilson_interval(successes, n)


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, math.nan])
@pytest.mark.parametrize(
    "interval",
    [
        lambda level: wilson_interval(1, 2, level),
        lambda level: bootstrap_interval(np.array([0.0, 1.0]), level),
    ],
    ids=["wilson", "bootstrap"],
)
def test_a_level_outside_the_open_unit_interval_is_refused(interval, level):
    with pytest.raises(SettingsError, match="level is"):
        interval(level)


def test_bootstrap_depends_on_its_seed_and_nothing_else():
    values = np.random.default_rng(0).random(40)
    first = bootstrap_interval(values, seed=1)
    np.random.default_rng(5).random(3)
    assert bootstrap_interval(values, seed=1) == first
    assert bootstrap_interval(values, seed=2) != first
    assert first.method == "bootstrap"


def test_bootstrap_of_many_symmetric_values_agrees_with_the_normal_interval():
    values = np.random.default_rng(0).normal(size=400)
    margin = 1.959964 * values.std(ddof=1) / math.sqrt(len(values))
    interval = bootstrap_interval(values)
    assert interval.low == pytest.approx(values.mean() - margin, abs=0.1 * margin)
    assert interval.high == pytest.approx(values.mean() + margin, abs=0.1 * margin)


def test_bootstrap_leans_towards_the_tail_of_skewed_values():
    values = np.random.default_rng(0).exponential(size=40)
    interval = bootstrap_interval(values)
    assert interval.high - values.mean() > values.mean() - interval.low > 0


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    intervals = [bootstrap_interval(generator.beta(2, 5, size=25), level=0.9) for _ in range(100)]
    covered = sum(interval.low <= 2 / 7 <= interval.high for interval in intervals)
    assert 80 <= covered <= 97


def test_a_higher_level_gives_a_wider_interval():
    values = np.random.default_rng(0).random(30)
    narrow, wide = bootstrap_interval(values, level=0.8), bootstrap_interval(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, -3e6])
def test_equal_values_give_a_point_that_says_so(value):
    interval = bootstrap_interval(np.full(7, value))
    assert interval == Interval(low=interval.low, high=interval.low, level=0.95, method="constant")
    assert interval.low == pytest.approx(value)


@PROPERTY
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_bootstrap_stays_within_the_values(values):
    interval = bootstrap_interval(np.array(values))
    assert min(values) - 1e-12 <= interval.low <= interval.high <= max(values) + 1e-12


@pytest.mark.parametrize("values", [[], [0.5], [[0.1, 0.2], [0.3, 0.4]]])
def test_bootstrap_needs_two_values_in_a_row(values):
    with pytest.raises(DataError, match="needs 2 values or more in a row, found shape"):
        bootstrap_interval(np.array(values))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bootstrap_refuses_what_is_not_finite_and_says_where(value):
    with pytest.raises(DataError, match=rf"Value 1 is {value}"):
        bootstrap_interval(np.array([0.1, value, 0.3]))
