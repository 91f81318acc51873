"""Both distances on problems in two dimensions that can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from codestrata.errors import DataError
from codestrata.selection.choices import choose_tasks
from codestrata.selection.nearest import fit_task, measure_mahalanobis, measure_nearest, pool_covariance
from codestrata.settings.selection import LEAST_SHRINKAGE

LEFT = np.array([[0.0, 0.0], [2.0, 0.0]])  # mean (1, 0), scatter diag(2, 0)
RIGHT = np.array([[4.0, 4.0], [4.0, 6.0]])  # mean (4, 5), scatter diag(0, 2)
# Wide in x: variances 2 and 1/2, means (0, 0) and (3, 1.5).
WIDE = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
SHIFTED = WIDE + np.array([3.0, 1.5])


def test_statistics_are_those_of_the_prompts():
    task = fit_task(LEFT)
    assert (task.count, task.mean.tolist(), task.scatter.tolist()) == (
        2,
        [1.0, 0.0],
        [[2.0, 0.0], [0.0, 0.0]],
    )
    assert pool_covariance([task, fit_task(RIGHT)]).tolist() == [[0.5, 0.0], [0.0, 0.5]]


def test_nearest_means_have_the_energies_computed_by_hand():
    # Squares 1 and 9 + 16 over 2 s with s = 1/2.
    found = measure_nearest([fit_task(LEFT), fit_task(RIGHT)], np.array([[1.0, 1.0]]))
    assert found.tolist() == [[1.0, 25.0]]


def test_mahalanobis_has_the_energies_computed_by_hand():
    # S = diag(2, 1/2), s = 5/4; with shrinkage 1/5 C = diag(1.85, 0.65).
    tasks = [fit_task(WIDE), fit_task(SHIFTED)]
    found = measure_mahalanobis(tasks, np.array([[1.0, 1.4]]), shrinkage=0.2)
    first = (1.0 / 1.85 + 1.96 / 0.65) / 2
    second = (4.0 / 1.85 + 0.01 / 0.65) / 2
    assert found == pytest.approx(np.array([[first, second]]))


def test_the_spread_of_prompts_decides_where_distances_alone_are_wrong():
    # (1, 1.4) is nearer to the first mean, but far from it in the narrow direction.
    tasks, states = [fit_task(WIDE), fit_task(SHIFTED)], np.array([[1.0, 1.4]])
    assert choose_tasks(measure_nearest(tasks, states))[0].task == 0
    assert choose_tasks(measure_mahalanobis(tasks, states, shrinkage=0.01))[0].task == 1


def test_full_shrinkage_is_the_nearest_mean():
    tasks, states = [fit_task(WIDE), fit_task(SHIFTED)], np.random.default_rng(0).normal(size=(50, 2))
    assert measure_mahalanobis(tasks, states, shrinkage=1.0) == pytest.approx(measure_nearest(tasks, states))


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_prompts_changes_no_choice(seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(12, 6)) + shift for shift in rng.normal(size=(3, 6))]
    states = rng.normal(size=(40, 6))
    tasks = [fit_task(part) for part in parts]
    shuffled = [fit_task(rng.permutation(part)) for part in parts]
    order = rng.permutation(len(states))
    for measure in (measure_nearest, lambda *given: measure_mahalanobis(*given, shrinkage=0.1)):
        wanted = [choice.task for choice in choose_tasks(measure(tasks, states))]
        found = [choice.task for choice in choose_tasks(measure(shuffled, states[order]))]
        assert found == [wanted[place] for place in order]


def test_what_is_kept_of_a_task_stays_when_others_arrive():
    early = fit_task(WIDE)
    before = measure_nearest([early], WIDE)
    measure_mahalanobis([early, fit_task(RIGHT)], WIDE, shrinkage=0.5)
    assert (measure_nearest([early], WIDE) == before).all()


@pytest.mark.parametrize("measure", [measure_nearest, lambda *a: measure_mahalanobis(*a, shrinkage=0.1)])
def test_prompts_that_are_all_alike_can_be_told_apart(measure):
    tasks = [fit_task(np.array([[0.0, 0.0]])), fit_task(np.array([[3.0, 0.0]]))]
    found = choose_tasks(measure(tasks, np.array([[1.0, 0.0], [2.0, 0.0]])))
    assert [choice.task for choice in found] == [0, 1]
    assert all(0.5 < choice.confidence < 1.0 for choice in found)


def test_fewer_prompts_than_coordinates_suffice():
    rng = np.random.default_rng(0)
    tasks = [fit_task(rng.normal(size=(3, 50)) + shift) for shift in (0.0, 5.0)]
    found = choose_tasks(measure_mahalanobis(tasks, rng.normal(size=(20, 50)) + 5.0, shrinkage=0.05))
    assert {choice.task for choice in found} == {1}


def test_the_least_shrinkage_suffices_for_a_router_that_was_stored():
    rng = np.random.default_rng(0)
    width = 512  # nearly all variance lies in one of so many directions, of which five others have any
    parts = [rng.normal(size=(60, 1)) * 30 + rng.normal(size=(60, 5)) @ rng.normal(size=(5, width))] * 2
    parts = [part + shift * rng.normal(size=width) for part, shift in zip(parts, (0.0, 3.0), strict=True)]
    before = [fit_task(part) for part in parts]
    stored = [replace(task, scatter=task.scatter.astype(np.float32).astype(float)) for task in before]
    for tasks in (before, stored):
        for place, part in enumerate(parts):
            found = choose_tasks(measure_mahalanobis(tasks, part, shrinkage=LEAST_SHRINKAGE))
            assert {choice.task for choice in found} == {place}


def test_a_task_without_prompts_is_refused():
    with pytest.raises(DataError, match=r"shape \(prompts, width\), found \(0, 4\)"):
        fit_task(np.zeros((0, 4)))


def test_states_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="not finite"):
        fit_task(np.array([[np.inf, 0.0]]))
