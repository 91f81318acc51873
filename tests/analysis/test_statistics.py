import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codestrata.analysis.aggregates import build_rows
from codestrata.analysis.statistics import (
    Interval,
    bootstrap_interval,
    rate_interval,
    seeds_interval,
    wilson_interval,
)
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
        lambda level: bootstrap_interval(np.array([0.0, 1.0]), level=level),
        lambda level: seeds_interval(np.ones((2, 3, 2)), level=level),
        lambda level: rate_interval(np.ones((2, 3)), level),
    ],
    ids=["wilson", "bootstrap", "seeds", "rate"],
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


@pytest.mark.parametrize("draw", ["exponential", "standard_normal", "random"])
@pytest.mark.parametrize("n", [8, 40, 300])
def test_bootstrap_is_scipys_bca_at_the_expanded_level(draw, n):
    values = getattr(np.random.default_rng(n), draw)(size=n)
    expanded = 2 * stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1)) - 1
    expected = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=40_000,
        batch=2_000,
        confidence_level=expanded,
        rng=np.random.default_rng(1),
    ).confidence_interval
    interval = bootstrap_interval(values)
    width = expected.high - expected.low
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.04 * width)


def test_bootstrap_of_a_corpus_value_resamples_whole_rows():
    generator = np.random.default_rng(0)
    below = generator.poisson(20, 200) + 1.0
    rows = np.stack([generator.binomial(below.astype(int), generator.beta(3, 3, 200)), below], axis=-1)
    expected = stats.bootstrap(
        (rows[:, 0], rows[:, 1]),
        lambda above, below, axis: above.sum(axis=axis) / below.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    interval = bootstrap_interval(rows, "ratio")
    width = expected.high - expected.low
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.04 * width)


def test_bootstrap_stays_sane_where_its_correction_has_a_pole():
    values = np.array([0.0, 0, 0, 0, 0, 1.0])
    interval = bootstrap_interval(values, level=0.99999)
    assert 0 <= interval.low < values.mean() < interval.high <= 1


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


@pytest.mark.parametrize("values", [[0.5], [[0.1, 1.0]]])
def test_bootstrap_needs_two_examples(values):
    with pytest.raises(DataError, match="needs 2 or more of them, found 1"):
        bootstrap_interval(np.array(values))


@pytest.mark.parametrize("values", [[], 0.5, np.ones((2, 3, 2))])
def test_bootstrap_refuses_other_shapes(values):
    with pytest.raises(DataError, match="shape"):
        bootstrap_interval(np.array(values))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bootstrap_refuses_what_is_not_finite_and_says_where(value):
    with pytest.raises(DataError, match=rf"example 1, column 0 is {value}"):
        bootstrap_interval(np.array([0.1, value, 0.3]))


def test_bootstrap_says_how_many_draws_have_no_value():
    rows = np.zeros((40, 2))
    rows[:3] = [[1, 1], [1, 2], [1, 3]]
    with pytest.raises(DataError, match=r"[0-9]+ of 9,999 draws of examples have no value under 'ratio'"):
        bootstrap_interval(rows, "ratio")


def draw_crossed(generator, seeds, n, *, of_seeds=0.3, of_examples=1.0, of_both=0.5):
    return (
        of_seeds * generator.normal(size=(seeds, 1))
        + of_examples * generator.normal(size=(1, n))
        + of_both * generator.normal(size=(seeds, n))
    )


def test_one_seed_has_the_interval_over_its_examples():
    values = np.random.default_rng(0).random(50)
    assert seeds_interval(build_rows(values[None])) == bootstrap_interval(values)
    passes = (values < 0.3).astype(float)
    assert rate_interval(passes[None]) == wilson_interval(int(passes.sum()), 50)


def test_equal_seeds_add_nothing():
    values = np.random.default_rng(0).random(50)
    interval, alone = seeds_interval(build_rows(np.tile(values, (3, 1)))), bootstrap_interval(values)
    assert (interval.low, interval.high) == pytest.approx((alone.low, alone.high))
    assert interval.method == "hierarchical"
    passes = np.tile(values < 0.3, (3, 1))
    interval, alone = rate_interval(passes), wilson_interval(int(passes[0].sum()), 50)
    assert (interval.low, interval.high) == pytest.approx((alone.low, alone.high))


def test_where_seeds_alone_differ_the_interval_is_students():
    values = np.array([0.2, 0.3, 0.55])
    interval = seeds_interval(build_rows(np.tile(values[:, None], (1, 40))))
    expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)


def test_seeds_add_their_margin_to_that_of_the_examples():
    values = draw_crossed(np.random.default_rng(1), 3, 400, of_both=0.0)
    over_examples = bootstrap_interval(values.mean(axis=0))
    margin = stats.t.ppf(0.975, 2) * stats.sem(values.mean(axis=1))
    interval, mean = seeds_interval(build_rows(values)), values.mean()
    assert mean - interval.low == pytest.approx(math.hypot(mean - over_examples.low, margin))
    assert interval.high - mean == pytest.approx(math.hypot(over_examples.high - mean, margin))


@PROPERTY
@given(st.integers(2, 5), st.integers(2, 30), st.integers(0, 100))
def test_seeds_never_make_an_interval_narrower_than_its_examples_do(seeds, n, seed):
    values = draw_crossed(np.random.default_rng(seed), seeds, n)
    interval, over_examples = seeds_interval(build_rows(values)), bootstrap_interval(values.mean(axis=0))
    assert interval.low <= over_examples.low + 1e-9
    assert interval.high >= over_examples.high - 1e-9


def test_the_order_of_seeds_does_not_matter_and_bounds_are_kept():
    values = np.clip(0.5 + draw_crossed(np.random.default_rng(2), 2, 30), 0, 1)
    interval = seeds_interval(build_rows(values), bounds=(0.0, 1.0))
    turned = seeds_interval(build_rows(values[::-1]), bounds=(0.0, 1.0))
    assert (interval.low, interval.high) == pytest.approx((turned.low, turned.high))
    assert (interval.low, interval.high) == (0, 1)
    assert seeds_interval(build_rows(values)).high > 1


@pytest.mark.parametrize("rate", [0, 1])
def test_a_rate_without_exception_is_not_certain_whatever_the_seeds(rate):
    interval, alone = rate_interval(np.full((3, 20), rate)), wilson_interval(20 * rate, 20)
    assert (interval.low, interval.high) == (alone.low, alone.high)


@PROPERTY
@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 100))
def test_a_rate_over_seeds_stays_within_0_and_1_and_holds_the_rate(seeds, n, seed):
    passes = np.random.default_rng(seed).random((seeds, n)) < 0.2
    interval = rate_interval(passes)
    assert 0 <= interval.low <= passes.mean() <= interval.high <= 1
    assert interval.low < interval.high


def test_independent_answers_of_seeds_count_as_more_examples():
    passes = np.random.default_rng(3).random((5, 200)) < 0.5
    interval, alone = rate_interval(passes), wilson_interval(int(passes[0].sum()), 200)
    assert interval.high - interval.low < 0.75 * (alone.high - alone.low)


@pytest.mark.parametrize("passes", [[1, 0], [[0.5, 1]], [[math.nan, 1]], [[]]])
def test_what_is_no_table_of_passes_is_refused(passes):
    with pytest.raises(DataError, match="Passes are 0 or 1"):
        rate_interval(np.array(passes))
