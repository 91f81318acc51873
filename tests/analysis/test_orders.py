"""Orders of the tasks as a factor: against numbers worked out by hand, and how often intervals are right."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from codestrata.analysis.aggregates import build_rows
from codestrata.analysis.continual import summarize_cells, summarize_gap
from codestrata.analysis.crossing import add_seeds, average_runs, measure_variance, square_runs
from codestrata.analysis.differences import compare_paired, find_margin
from codestrata.analysis.matrix import METRICS
from codestrata.analysis.orders import summarize_ranges
from codestrata.analysis.statistics import rate_interval, seeds_interval
from codestrata.errors import MatrixError

GIVEN, TURNED = (1, 2), (2, 1)
T_ONE = 12.7062047  # Student's t for 95 % with 1 degree of freedom
T_TWO = 4.30265273


def constant(*values, examples=4):
    """Rows of examples that all have the same score, per walk."""
    return build_rows(np.repeat(np.array(values, dtype=float)[:, None], examples, axis=1))


def draw(rng, *shape):
    return build_rows(rng.random(shape))


def make_two_orders():
    """One seed in two orders of two tasks; R of the second has its columns the other way round.

    Order 1, 2: R = [[0, 0], [.8, .1], [.5, .9]]: ACC .7, LA .85, BWT -.3, FWT .1, F .3.
    Order 2, 1: R = [[0, 0], [.6, .2], [.4, .7]] (task 2 first): ACC .55, LA .65, BWT -.2, FWT .2, F .2.
    """
    return {
        (0, 1): constant(0.0),
        (0, 2): constant(0.0),
        (1, 1): constant(0.8, 0.2),
        (1, 2): constant(0.1, 0.6),
        (2, 1): constant(0.5, 0.7),
        (2, 2): constant(0.9, 0.4),
    }


def test_every_order_has_its_own_r():
    found = summarize_cells(make_two_orders(), 2, "mean", orders=(GIVEN, TURNED))
    expected = {
        "average_accuracy": (0.7, 0.55),
        "learning_accuracy": (0.85, 0.65),
        "backward_transfer": (-0.3, -0.2),
        "forward_transfer": (0.1, 0.2),
        "forgetting": (0.3, 0.2),
    }
    for name, (first, second) in expected.items():
        assert found[name].value == pytest.approx((first + second) / 2), name
        assert found[name].seeds == 1
        # V_orders = (difference^2 / 2) / 2, so that the margin is t[1] |difference| / 2
        margin = T_ONE * abs(first - second) / 2
        low = max(found[name].value - margin, 0.0 if "accuracy" in name else -1.0)
        assert found[name].interval.low == pytest.approx(low), name
        assert found[name].interval.method == "hierarchical"


def test_without_the_orders_the_numbers_would_be_others():
    found = summarize_cells(make_two_orders(), 2, "mean", orders=(GIVEN, GIVEN))
    assert found["forgetting"].value == pytest.approx((0.3 + (0.2 - 0.7)) / 2)


def test_one_given_order_changes_nothing():
    rng = np.random.default_rng(0)
    cells = {(row, task): draw(rng, 3, 20) for row in range(3) for task in (1, 2)}
    assert summarize_cells(cells, 2, "mean") == summarize_cells(cells, 2, "mean", orders=(GIVEN,))


def test_renamed_tasks_have_the_same_numbers():
    rng = np.random.default_rng(1)
    cells = {(row, task): draw(rng, 2, 15) for row in range(3) for task in (1, 2)}
    renamed = {(row, 3 - task): rows for (row, task), rows in cells.items()}
    plain, turned = (
        summarize_cells(cells, 2, "mean"),
        summarize_cells(renamed, 2, "mean", orders=(TURNED,)),
    )
    for name in METRICS:
        assert plain[name].value == pytest.approx(turned[name].value)
        # The draws of task 1 and task 2 change places.
        assert plain[name].interval.low == pytest.approx(turned[name].interval.low, abs=0.02)


def test_orders_that_change_nothing_make_nothing_surer():
    rng = np.random.default_rng(2)
    cells = {(row, task): draw(rng, 1, 30) for row in range(3) for task in (1, 2)}
    final = {place: np.repeat(rows, 3, axis=0) for place, rows in cells.items()}
    one, three = (
        summarize_cells(cells, 2, "mean"),
        summarize_cells(final, 2, "mean", orders=(GIVEN,) * 3),
    )
    for name in METRICS:
        assert three[name].value == pytest.approx(one[name].value)
        lengths = [found[name].interval.high - found[name].interval.low for found in (one, three)]
        assert lengths[1] == pytest.approx(lengths[0], rel=0.05)


def test_a_gap_is_a_mean_over_orders_too():
    found = summarize_gap([constant(0.9, 0.7)], [constant(0.5, 0.5)], "mean", orders=2)
    assert (found.value, found.seeds) == (pytest.approx(0.3), 1)
    assert found.interval.high == pytest.approx(1.0)  # .3 + t[1] .1 = 1.57


@pytest.mark.parametrize("orders", [((1, 1), (1, 2)), ((1, 2), (1, 3)), ((1, 2), (2,)), ()])
def test_orders_that_are_none_are_refused(orders):
    with pytest.raises(MatrixError, match="order"):
        summarize_cells(make_two_orders(), 2, "mean", orders=orders)


def test_orders_that_cannot_share_the_seeds_are_refused():
    with pytest.raises(MatrixError, match="2 seeds of 3 orders"):
        summarize_cells(make_two_orders(), 2, "mean", orders=(GIVEN, TURNED, GIVEN))


def test_seeds_and_orders_are_told_apart():
    by_seed, by_order = average_runs(np.array([1.0, 2.0, 3.0, 5.0, 6.0, 7.0]), orders=2)
    assert by_seed.tolist() == [3.0, 4.0, 5.0]
    assert by_order.tolist() == [2.0, 6.0]
    assert measure_variance(by_seed) == pytest.approx(1 / 3)
    assert measure_variance(by_order) == pytest.approx(4.0)  # 8 / 2
    assert measure_variance(by_order[:1]) == 0.0


def test_the_margin_of_runs_by_hand():
    values = np.array([1.0, 2.0, 3.0, 5.0, 6.0, 7.0])
    assert square_runs(values, 2, 0.05) == pytest.approx(T_TWO**2 / 3 + T_ONE**2 * 4)
    assert square_runs(values[:1], 1, 0.05) == 0.0
    expected = math.sqrt(0.25 * 0.5 + T_TWO**2 * 0.01 + T_ONE**2 * 0.02)
    assert add_seeds(0.5, 0.5, 0.01, 3, 0.05, order_variance=0.02, orders=2) == pytest.approx(expected)
    assert add_seeds(0.5, 0.5, 0.0, 3, 0.05, order_variance=0.0, orders=2) == 0.5


def test_scores_of_several_orders_by_hand():
    """Two orders of one seed, all passes in the first and half of them in the second."""
    passes = np.array([[1, 1, 1, 1], [1, 0, 1, 0]])
    found = rate_interval(passes, orders=2)
    assert (found.low, found.high, found.method) == (0.0, 1.0, "hierarchical")  # .75 -+ t[1] .25
    rows = constant(0.50, 0.52)
    found = seeds_interval(rows, orders=2)
    assert found.high == pytest.approx(0.51 + T_ONE * 0.01)
    assert seeds_interval(rows, orders=1).high == pytest.approx(found.high)  # two seeds, or two orders
    four = constant(0.50, 0.52, 0.50, 0.52)
    assert seeds_interval(four, orders=2).high == pytest.approx(0.51 + T_ONE * 0.01)  # the orders are alike


def test_a_difference_is_paired_by_order_and_seed():
    first, second = constant(0.5, 0.6, 0.7, 0.8), constant(0.4, 0.5, 0.3, 0.4)
    found = compare_paired(first, second, orders=2)
    assert (found.seeds, found.orders) == (2, 2)
    assert found.difference == pytest.approx(0.25)
    assert found.values == pytest.approx((0.1, 0.1, 0.4, 0.4))
    assert (found.seed_variance, found.order_variance) == (pytest.approx(0.0), pytest.approx(0.0225))
    assert found.units == pytest.approx((0.25, 0.25))
    assert find_margin(found, 0.05, towards_zero=False) == pytest.approx(T_ONE * 0.15)
    # More seeds would not tell what other orders do.
    assert find_margin(found, 0.05, towards_zero=False, seeds=50) == pytest.approx(T_ONE * 0.15)


def test_a_difference_with_one_seed_has_its_orders_for_units():
    found = compare_paired(constant(0.5, 0.7), constant(0.4, 0.3), orders=2)
    assert (found.seeds, found.units) == (1, pytest.approx((0.1, 0.4)))


def test_a_range_is_highest_less_lowest():
    found = summarize_ranges(make_two_orders(), 2, "mean", (GIVEN, TURNED))
    entry = found["average_accuracy"]
    assert (entry.value, entry.highest, entry.lowest, entry.seeds) == (pytest.approx(0.15), 0, 1, 1)
    # One seed and examples that do not vary: nothing is left to be unsure of.
    assert (entry.interval.low, entry.interval.high) == (pytest.approx(0.15), pytest.approx(0.15))
    assert (found["backward_transfer"].highest, found["forward_transfer"].highest) == (1, 1)


def test_a_range_of_three_orders_holds_for_all_pairs():
    """Two seeds; the means of the orders are .5, .6 and .3, the differences between seeds as below."""
    cells = {(1, 1): constant(0.50, 0.50, 0.60, 0.60, 0.29, 0.31), (0, 1): constant(0.0)}
    found = summarize_ranges(cells, 1, "mean", ((1,), (1,), (1,)))["average_accuracy"]
    assert (found.value, found.highest, found.lowest, found.seeds) == (pytest.approx(0.3), 1, 2, 2)
    t = stats.t.ppf(1 - 0.05 / 3 / 2, 1)
    margin = t * 0.01  # the seeds' differences between orders 1 and 2 are .31 and .29
    assert found.interval.low == pytest.approx(max(0.1, 0.3 - margin))
    assert found.interval.high == pytest.approx(0.3 + margin)


def test_orders_alike_are_not_shown_to_differ():
    rng = np.random.default_rng(3)
    rows = draw(rng, 1, 40)
    cells = {(row, task): np.repeat(rows, 2, axis=0) for row in range(3) for task in (1, 2)}
    for entry in summarize_ranges(cells, 2, "mean", (GIVEN, TURNED)).values():
        assert (entry.value, entry.interval.low, entry.interval.high) == (0.0, 0.0, 0.0)
        assert entry.interval.method == "constant"


def test_orders_that_differ_on_all_examples_are_shown_to():
    rng = np.random.default_rng(4)
    rows = 0.5 + 0.1 * rng.random((1, 60))
    other = np.concatenate([rows, rows - 0.3 + 0.02 * rng.random((1, 60))])
    cells = {(row, 1): build_rows(other) for row in range(2)}
    entry = summarize_ranges(cells, 1, "mean", ((1,), (1,)))["average_accuracy"]
    assert 0.2 < entry.interval.low < entry.value < entry.interval.high < 0.4


def test_what_a_range_lacks_is_a_reason():
    found = summarize_ranges({(2, 1): constant(0.5, 0.6)}, 2, "mean", (GIVEN, TURNED))
    assert found["average_accuracy"].value is None
    assert "not measured" in found["average_accuracy"].reason
    assert summarize_ranges({}, 2, "mean", (GIVEN, TURNED))["forgetting"].reason
    single = {(row, 1): constant(0.5, 0.6, examples=1) for row in range(2)}
    entry = summarize_ranges(single, 1, "mean", ((1,), (1,)))["average_accuracy"]
    assert (entry.value, entry.interval) == (pytest.approx(0.1), None)
    assert "2 examples" in entry.reason
    with pytest.raises(MatrixError, match="needs two"):
        summarize_ranges(single, 1, "mean", ((1,),))


def simulate(orders, seeds, spread, runs, rng):
    """Shares of runs whose 95 % interval holds the true mean 0: ours, and one of independent pairs."""
    by_order, by_seed, by_both = spread
    values = (
        by_order * rng.standard_normal((runs, orders, 1))
        + by_seed * rng.standard_normal((runs, 1, seeds))
        + by_both * rng.standard_normal((runs, orders, seeds))
    ).reshape(runs, -1)
    ours = [value.mean() ** 2 <= square_runs(value, orders, 0.05) for value in values]
    count = orders * seeds
    t = stats.t.ppf(0.975, count - 1)
    pairs = np.abs(values.mean(axis=1)) <= t * values.std(axis=1, ddof=1) / math.sqrt(count)
    return float(np.mean(ours)), float(pairs.mean())


SPREADS = {
    "orders": (1.0, 0.0, 0.0),
    "seeds": (0.0, 1.0, 0.0),
    "both": (1.0, 1.0, 0.5),
    "together": (0.0, 0.0, 1.0),
}


@pytest.mark.parametrize("spread", SPREADS)
def test_intervals_over_orders_and_seeds_cover(spread):
    ours, _ = simulate(3, 3, SPREADS[spread], 1_000, np.random.default_rng(0))
    assert ours >= 0.93


@pytest.mark.slow
def test_coverage_table():
    print()
    for orders, seeds in ((2, 1), (2, 3), (3, 3), (6, 3), (4, 5)):
        found = [
            simulate(orders, seeds, spread, 20_000, np.random.default_rng(0)) for spread in SPREADS.values()
        ]
        cells = [f"{100 * ours:.1f} ({100 * pairs:.1f})" for ours, pairs in found]
        print(f"| {orders} | {seeds} | " + " | ".join(cells) + " |")
        for ours, _ in found:
            assert ours >= 0.94 or seeds == 1


def test_more_orders_narrow_the_interval():
    rng = np.random.default_rng(5)
    values = rng.standard_normal(12)
    margins = [square_runs(values[:count], count, 0.05) for count in (2, 4, 12)]
    assert all(first > second for first, second in pairwise(margins))
