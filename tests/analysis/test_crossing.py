import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codestrata.analysis.crossing import add_seeds, find_t, find_z, measure_crossing

PROPERTY = settings(deadline=None, max_examples=30)


def test_mean_squares_of_a_table_worked_by_hand():
    """Means 2 and 4 of the seeds, 2, 3, 4 of the examples, 3 of all; what is left is -+ 1/2 or 0."""
    crossing = measure_crossing(np.array([[1.5, 2.0, 2.5], [2.5, 4.0, 5.5]]))
    assert crossing.example == pytest.approx(2 * (1 + 0 + 1) / 2)
    assert crossing.residual == pytest.approx(4 * 0.25 / 2)
    assert crossing.share == pytest.approx(1 - 0.5 / 2)


def test_mean_squares_estimate_the_parts():
    generator = np.random.default_rng(0)
    found = [
        measure_crossing(
            generator.normal(0, 3, (4, 1)) + generator.normal(0, 2, (1, 30)) + generator.normal(0, 1, (4, 30))
        )
        for _ in range(400)
    ]
    assert np.mean([crossing.residual for crossing in found]) == pytest.approx(1, rel=0.03)
    assert np.mean([crossing.example for crossing in found]) == pytest.approx(1 + 4 * 4, rel=0.05)


def test_with_one_seed_all_variance_over_examples_is_shared():
    crossing = measure_crossing(np.array([[1.0, 2.0, 6.0]]))
    assert (crossing.example, crossing.residual, crossing.share) == (pytest.approx(7), 0, 1)


def test_what_the_seeds_do_not_share_is_no_share():
    assert (
        measure_crossing(np.array([[1.0, -1.0], [-1.0, 1.0]])).share == 1
    )  # examples do not vary on average
    assert measure_crossing(np.array([[1.0, -1.0, 0.1], [-1.0, 1.0, 0.2]])).share == 0


@PROPERTY
@given(st.integers(1, 400), st.floats(1e-6, 0.9))
def test_quantiles_agree_with_scipy(freedom, alpha):
    assert find_t(freedom, alpha) == pytest.approx(stats.t.isf(alpha / 2, freedom), rel=1e-6)
    assert find_z(alpha) == pytest.approx(stats.norm.isf(alpha / 2), rel=1e-9)


def test_seeds_widen_a_margin_by_their_t_margin():
    assert add_seeds(3.0, 1.0, 4.0, 2, 0.05) == pytest.approx(math.sqrt(9 + 12.7062**2 * 4), rel=1e-5)
    assert add_seeds(3.0, 0.25, 4.0, 5, 0.05) == pytest.approx(math.sqrt(9 * 0.25 + 2.77645**2 * 4), rel=1e-5)


@pytest.mark.parametrize(("share", "variance", "seeds"), [(0.0, 1e-9, 5), (1.0, 0.0, 3), (0.3, 9.0, 1)])
def test_seeds_never_narrow_a_margin(share, variance, seeds):
    assert add_seeds(3.0, share, variance, seeds, 0.05) == 3
