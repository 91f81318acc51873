import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.analysis import matrix
from codestrata.errors import MatrixError

PROPERTY = settings(deadline=None, max_examples=50)

NAN = math.nan

# The example that DESIGN pins: both earlier tasks improve after their own training.
IMPROVING = np.array(
    [
        [NAN, NAN, NAN],
        [0.80, NAN, NAN],
        [0.85, 0.70, NAN],
        [0.90, 0.75, 0.60],
    ]
)

# Worked by hand: task 1 peaks in the middle and falls, task 2 falls, nothing is missing.
FALLING = np.array(
    [
        [0.10, 0.20, 0.05],
        [0.60, 0.30, 0.10],
        [0.70, 0.50, 0.25],
        [0.40, 0.35, 0.90],
    ]
)


@st.composite
def full_matrices(draw: st.DrawFn, min_tasks: int = 2) -> np.ndarray:
    tasks = draw(st.integers(min_tasks, 6))
    values = draw(st.lists(st.floats(0, 1), min_size=(tasks + 1) * tasks, max_size=(tasks + 1) * tasks))
    return np.array(values).reshape(tasks + 1, tasks)


def test_improving_matrix_has_the_pinned_values():
    assert matrix.average_accuracy(IMPROVING) == pytest.approx(0.75)
    assert matrix.learning_accuracy(IMPROVING) == pytest.approx(0.70)
    assert matrix.backward_transfer(IMPROVING) == pytest.approx(0.075)
    assert matrix.forgetting(IMPROVING) == pytest.approx(-0.05)


def test_forgetting_differs_from_what_other_libraries_call_forgetting():
    avalanche = np.mean([IMPROVING[1, 0] - IMPROVING[3, 0], IMPROVING[2, 1] - IMPROVING[3, 1]])
    mammoth = np.mean(np.nanmax(IMPROVING[:, :2], axis=0) - IMPROVING[3, :2])
    assert avalanche == pytest.approx(-0.075)
    assert mammoth == 0
    assert matrix.forgetting(IMPROVING) not in (pytest.approx(avalanche), pytest.approx(mammoth))


def test_falling_matrix_has_the_values_worked_by_hand():
    assert matrix.average_accuracy(FALLING) == pytest.approx((0.40 + 0.35 + 0.90) / 3)
    assert matrix.learning_accuracy(FALLING) == pytest.approx((0.60 + 0.50 + 0.90) / 3)
    assert matrix.backward_transfer(FALLING) == pytest.approx((-0.20 - 0.15) / 2)
    assert matrix.forward_transfer(FALLING) == pytest.approx((0.10 + 0.20) / 2)
    assert matrix.forgetting(FALLING) == pytest.approx((0.30 + 0.15) / 2)


def test_forgetting_does_not_count_what_a_tasks_own_training_destroyed():
    scores = np.array([[0.9, 0.9], [0.5, 0.8], [0.5, 0.6]])
    assert matrix.forgetting(scores) == 0


def test_forgetting_percent_is_a_share_of_each_tasks_own_score():
    shares = matrix.forgetting_percent(FALLING)
    assert shares == pytest.approx([0.20 / 0.60, 0.15 / 0.50, 0.0])


def test_forgetting_percent_explains_the_published_number():
    # 0.2150 right after Python, 0.78 % less after JavaScript.
    after = 0.2150 * (1 - 0.0078)
    scores = np.array([[0.0, 0.0], [0.2150, NAN], [after, 0.2489]])
    assert matrix.forgetting_percent(scores)[0] == pytest.approx(0.0078)


@pytest.mark.parametrize(
    "scores",
    [
        [[NAN, NAN], [0.0, NAN], [0.5, 0.5]],
        [[NAN, NAN], [NAN, NAN], [0.5, 0.5]],
        [[NAN, NAN], [0.5, NAN], [NAN, 0.5]],
    ],
    ids=["nothing to forget", "not scored after its training", "not scored at the end"],
)
def test_forgetting_percent_is_nan_where_it_is_undefined(scores):
    shares = matrix.forgetting_percent(np.array(scores))
    assert math.isnan(shares[0])
    assert shares[1] == 0


def test_intransigence_is_per_task_and_nan_without_a_joint_model():
    gaps = matrix.intransigence(np.array([NAN, 0.55, 0.80]), FALLING)
    assert math.isnan(gaps[0])
    assert gaps[1:] == pytest.approx([0.05, -0.10])


def test_intransigence_needs_the_diagonal_only_where_there_is_a_joint_model():
    scores = np.array([[NAN, NAN], [NAN, NAN], [0.5, 0.4]])
    assert matrix.intransigence(np.array([NAN, 0.6]), scores)[1] == pytest.approx(0.2)
    with pytest.raises(MatrixError, match=r"Intransigence needs R\[1, 1\], not measured"):
        matrix.intransigence(np.array([0.6, 0.6]), scores)


def test_expert_gap_is_the_mean_distance_to_the_experts():
    assert matrix.expert_gap(np.array([0.7, 0.5, 0.8]), FALLING) == pytest.approx((0.1 + 0.0 - 0.1) / 3)


def test_expert_gap_names_the_experts_that_are_missing():
    with pytest.raises(MatrixError, match=r"Expert gap needs S\[1\], S\[3\], not measured"):
        matrix.expert_gap(np.array([NAN, 0.5, NAN]), FALLING)


@pytest.mark.parametrize("compare", [matrix.expert_gap, matrix.intransigence])
def test_references_must_hold_one_score_in_range_per_task(compare):
    with pytest.raises(MatrixError, match=r"has shape \(2,\): expected \(3,\)"):
        compare(np.array([0.1, 0.2]), FALLING)
    with pytest.raises(MatrixError, match=r"\[2\] is 21\.5: scores are in \[0, 1\]"):
        compare(np.array([0.1, 21.5, 0.2]), FALLING)


@pytest.mark.parametrize(
    ("metric", "entry", "message"),
    [
        (matrix.average_accuracy, (3, 1), r"Average accuracy needs R\[3, 2\], not measured"),
        (matrix.learning_accuracy, (1, 0), r"Learning accuracy needs R\[1, 1\], not measured"),
        (matrix.backward_transfer, (3, 0), r"Backward transfer needs R\[3, 1\], not measured"),
        (matrix.backward_transfer, (2, 1), r"Backward transfer needs R\[2, 2\], not measured"),
        (matrix.forward_transfer, (0, 2), r"Forward transfer needs R\[0, 3\], not measured"),
        (matrix.forward_transfer, (1, 1), r"Forward transfer needs R\[1, 2\], not measured"),
        (matrix.forgetting, (2, 0), r"Forgetting needs R\[2, 1\], not measured"),
    ],
)
def test_a_missing_entry_is_named(metric, entry, message):
    scores = FALLING.copy()
    scores[entry] = NAN
    with pytest.raises(MatrixError, match=message):
        metric(scores)


@pytest.mark.parametrize("metric", [matrix.backward_transfer, matrix.forward_transfer, matrix.forgetting])
def test_one_task_is_no_sequence(metric):
    with pytest.raises(MatrixError, match="needs at least 2, found 1"):
        metric(np.array([[0.1], [0.5]]))


@pytest.mark.parametrize("shape", [(3, 3), (2, 3), (3,), (1, 0), (4, 3, 1)])
@pytest.mark.parametrize(
    "metric", [*matrix.METRICS.values(), matrix.forgetting_percent, matrix.summarize_matrix]
)
def test_another_shape_is_refused(metric, shape):
    with pytest.raises(MatrixError, match=r"expected \(T \+ 1, T\)"):
        metric(np.zeros(shape))


@pytest.mark.parametrize("value", [21.5, -0.01, math.inf, -math.inf])
def test_a_score_outside_the_unit_interval_is_refused_with_its_place(value):
    scores = FALLING.copy()
    scores[2, 0] = value
    with pytest.raises(MatrixError, match=rf"R\[2, 1\] is {value}: scores are in \[0, 1\]"):
        matrix.average_accuracy(scores)


def test_rounding_above_one_passes():
    assert matrix.average_accuracy(np.array([[0.0], [1.0000000000000004]])) == pytest.approx(1)


def test_summary_gives_every_metric_of_a_full_matrix():
    summary = matrix.summarize_matrix(FALLING)
    assert {name: entry.value for name, entry in summary.items()} == {
        name: metric(FALLING) for name, metric in matrix.METRICS.items()
    }
    assert all(entry.reason is None for entry in summary.values())


def test_summary_says_why_a_number_is_missing():
    summary = matrix.summarize_matrix(IMPROVING)
    assert summary["forward_transfer"].value is None
    assert "R[1, 2], R[2, 3]" in summary["forward_transfer"].reason
    assert summary["forgetting"].value == pytest.approx(-0.05)


def test_summary_of_one_task_has_no_transfer():
    summary = matrix.summarize_matrix(np.array([[0.1], [0.5]]))
    assert summary["average_accuracy"].value == summary["learning_accuracy"].value == 0.5
    for name in ("backward_transfer", "forward_transfer", "forgetting"):
        assert summary[name].value is None
        assert "at least 2" in summary[name].reason


@st.composite
def stacks(draw: st.DrawFn) -> np.ndarray:
    tasks, shape = draw(st.integers(2, 5)), draw(st.sampled_from([(1,), (4,), (2, 3)]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.random((*shape, tasks + 1, tasks))


@pytest.mark.parametrize("metric", [*matrix.METRICS.values(), matrix.forgetting_percent])
@PROPERTY
@given(scores=stacks())
def test_a_stack_gives_what_its_matrices_give_one_by_one(metric, scores):
    values = metric(scores)
    places = list(np.ndindex(scores.shape[:-2]))
    assert values.shape[: scores.ndim - 2] == scores.shape[:-2]
    assert np.array_equal(values, np.reshape([metric(scores[place]) for place in places], values.shape))


@PROPERTY
@given(stacks())
def test_identities_hold_in_a_stack(scores):
    tasks = scores.shape[-1]
    backward, lost = matrix.backward_transfer(scores), matrix.forgetting(scores)
    learned = matrix.learning_accuracy(scores)
    assert np.allclose(matrix.average_accuracy(scores), learned + (tasks - 1) / tasks * backward, atol=1e-12)
    assert np.all(lost >= -backward - 1e-12)


@PROPERTY
@given(stacks())
def test_a_stack_of_isolated_components_gives_exactly_zero(scores):
    tasks = scores.shape[-1]
    rows, columns = np.indices((tasks + 1, tasks))
    isolated = np.where(rows > columns, scores[..., -1:, :], scores[..., :1, :])
    for metric in (matrix.forgetting, matrix.backward_transfer, matrix.forward_transfer):
        assert not np.any(metric(isolated))


@pytest.mark.parametrize("metric", matrix.METRICS.values())
def test_an_entry_missing_in_one_matrix_of_a_stack_is_named(metric):
    stack = np.stack([FALLING, FALLING])
    stack[1, 2:, 1] = NAN
    stack[1, 1, 1] = NAN
    with pytest.raises(MatrixError, match=r"R\[\d, 2\]"):
        metric(stack)


def test_a_score_outside_the_unit_interval_is_found_in_a_stack():
    stack = np.stack([FALLING, FALLING])
    stack[1, 2, 0] = 2
    with pytest.raises(MatrixError, match=r"R\[2, 1\] in matrix \(1,\) of the stack is 2.0"):
        matrix.average_accuracy(stack)


@pytest.mark.parametrize(
    "call",
    [
        matrix.summarize_matrix,
        lambda stack: matrix.expert_gap(np.ones(3), stack),
        lambda stack: matrix.intransigence(np.ones(3), stack),
    ],
    ids=["summarize_matrix", "expert_gap", "intransigence"],
)
def test_what_takes_one_matrix_refuses_a_stack(call):
    with pytest.raises(MatrixError, match=r"R has shape \(2, 4, 3\), a stack of matrices"):
        call(np.stack([FALLING, FALLING]))


@PROPERTY
@given(full_matrices(min_tasks=1))
def test_values_are_plain_floats_and_scores_are_not_changed(scores):
    before = scores.copy()
    values = [entry.value for entry in matrix.summarize_matrix(scores).values() if entry.value is not None]
    assert {type(value) for value in values} == {float}
    assert np.array_equal(scores, before)


@PROPERTY
@given(full_matrices())
def test_average_accuracy_is_learning_accuracy_and_backward_transfer(scores):
    tasks = scores.shape[1]
    expected = matrix.learning_accuracy(scores) + (tasks - 1) / tasks * matrix.backward_transfer(scores)
    assert matrix.average_accuracy(scores) == pytest.approx(expected, abs=1e-12)


@PROPERTY
@given(full_matrices())
def test_forgetting_is_never_less_than_negated_backward_transfer(scores):
    assert matrix.forgetting(scores) >= -matrix.backward_transfer(scores) - 1e-12


@PROPERTY
@given(full_matrices())
def test_two_tasks_forget_exactly_what_backward_transfer_says(scores):
    pair = scores[:3, :2]
    assert matrix.forgetting(pair) == -matrix.backward_transfer(pair)


@PROPERTY
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_isolated_components_give_exactly_zero(pairs):
    """A task scores as the base does until its component exists, and the same ever after."""
    tasks = len(pairs)
    scores = np.array([[pairs[i][row > i] for i in range(tasks)] for row in range(tasks + 1)])
    assert matrix.forgetting(scores) == 0
    assert matrix.backward_transfer(scores) == 0
    assert matrix.forward_transfer(scores) == 0
    assert not np.any(np.nan_to_num(matrix.forgetting_percent(scores)))


@PROPERTY
@given(full_matrices())
def test_metrics_agree_with_loops_over_the_formulas(scores):
    tasks = scores.shape[1]
    earlier = range(1, tasks)

    def entry(row, task):
        return scores[row][task - 1]

    backward = sum(entry(tasks, i) - entry(i, i) for i in earlier) / (tasks - 1)
    forward = sum(entry(i, j) - entry(0, j) for i, j in pairwise(range(1, tasks + 1))) / (tasks - 1)
    lost = sum(max(entry(row, j) for row in range(j, tasks)) - entry(tasks, j) for j in earlier) / (tasks - 1)
    assert matrix.backward_transfer(scores) == pytest.approx(backward, abs=1e-12)
    assert matrix.forward_transfer(scores) == pytest.approx(forward, abs=1e-12)
    assert matrix.forgetting(scores) == pytest.approx(lost, abs=1e-12)
