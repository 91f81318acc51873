"""Elastic weight consolidation on two parameters, where every number can be had by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codestrata.contracts import Lesson
from codestrata.retention.ewc import ElasticWeights
from codestrata.settings.retention import EwcSettings

INPUTS = [(1.0, 0.0), (1.0, 2.0), (3.0, 0.0), (1.0, -2.0)]


def build_parameters(values):
    return {"w": torch.nn.Parameter(torch.tensor(values))}


def teach(retention, parameters, inputs=INPUTS, usual_targets=1.0):
    """A task whose example x has the cross entropy  w . x, and so the gradient x."""

    def differentiate(number):
        (parameters["w"] * torch.tensor(inputs[number])).sum().backward()

    retention.begin(parameters)
    retention.remember(
        Lesson(
            parameters=parameters,
            examples=dict(enumerate(inputs)),
            usual_targets=usual_targets,
            differentiate=differentiate,
        )
    )
    return retention


def ewc(**values):
    return ElasticWeights(EwcSettings(**values), seed=0)


def test_nothing_is_added_before_a_task_is_remembered():
    retention, parameters = ewc(), build_parameters([1.0, 1.0])
    retention.begin(parameters)
    assert retention.penalise(parameters) is None


def test_the_fisher_information_is_the_mean_square_of_single_gradients():
    retention = teach(ewc(), build_parameters([5.0, 7.0]))
    # (1 + 1 + 9 + 1) / 4 and (0 + 4 + 0 + 4) / 4; of the mean gradient it would be 9 / 4 and 0
    assert retention.tensors["fisher.w"].tolist() == [3.0, 2.0]
    assert retention.tensors["anchor.w"].tolist() == [5.0, 7.0]


def test_it_is_per_target_token():
    retention = teach(ewc(), build_parameters([5.0, 7.0]), usual_targets=4.0)
    assert retention.tensors["fisher.w"].tolist() == [0.75, 0.5]


def test_the_penalty_and_its_gradient_by_hand():
    retention = teach(ewc(strength=10.0), build_parameters([5.0, 7.0]))
    parameters = build_parameters([6.0, 4.0])
    retention.begin(parameters)
    penalty = retention.penalise(parameters)
    assert penalty.item() == 10 / 2 * (3 * 1**2 + 2 * 3**2)
    penalty.backward()
    assert parameters["w"].grad.tolist() == [10 * 3 * 1, 10 * 2 * -3]


def test_the_best_of_two_tasks_is_where_both_pull_alike():
    """Task two's loss is |w|^2 / 2: the minimum is  w_i = strength F_i / (1 + strength F_i) * old_i."""
    retention = teach(ewc(strength=0.5), build_parameters([5.0, 7.0]))
    parameters = build_parameters([5.0, 7.0])
    retention.begin(parameters)
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (parameters["w"].square().sum() / 2 + retention.penalise(parameters)).backward()
        optimizer.step()
    assert parameters["w"].tolist() == pytest.approx([5 * 1.5 / 2.5, 7 * 1.0 / 2.0], abs=1e-4)


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.0])
def test_a_second_task_is_added_to_the_decayed_first_and_holds_the_newest(decay):
    retention = ewc(decay=decay)
    teach(retention, build_parameters([5.0, 7.0]))
    teach(retention, build_parameters([1.0, 2.0]), inputs=[(2.0, 2.0)])
    assert retention.tensors["fisher.w"].tolist() == [4 + decay * 3, 4 + decay * 2]
    assert retention.tensors["anchor.w"].tolist() == [1.0, 2.0]
    assert retention.lessons == 2


def test_no_more_examples_than_asked_for_are_differentiated():
    seen = []
    parameters = build_parameters([0.0, 0.0])

    def differentiate(number):
        seen.append(number)
        (parameters["w"].sum() * number).backward()

    retention = ewc(examples=3)
    retention.remember(
        Lesson(
            parameters=parameters,
            examples={number: None for number in range(5, 50)},
            usual_targets=1.0,
            differentiate=differentiate,
        )
    )
    assert len(set(seen)) == len(seen) == 3
    assert set(seen) <= set(range(5, 50))
    assert parameters["w"].grad is None
    assert retention.tensors["fisher.w"][0].item() == pytest.approx(sum(n**2 for n in seen) / 3)


def test_a_parameter_without_a_gradient_is_free():
    parameters = {**build_parameters([0.0, 0.0]), "unused": torch.nn.Parameter(torch.ones(1))}
    retention = teach(ewc(), parameters)
    assert retention.tensors["fisher.unused"].tolist() == [0.0]


@given(
    values=st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=2),
    strength=st.floats(0, 100, width=32),
)
def test_the_penalty_is_never_negative_and_nothing_where_the_task_was_left(values, strength):
    retention = teach(ewc(strength=strength), build_parameters([5.0, 7.0]))
    parameters = build_parameters(values)
    retention.begin(parameters)
    assert retention.penalise(parameters).item() >= 0
    assert retention.penalise(build_parameters([5.0, 7.0])).item() == 0
