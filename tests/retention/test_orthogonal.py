"""O-LoRA on one linear map with two inputs, one rank per task."""

import pytest
import torch

from codestrata.contracts import Lesson
from codestrata.errors import TrainingError
from codestrata.retention.orthogonal import OrthogonalRanks
from codestrata.settings.retention import OrthogonalSettings

A, B = "map.lora_A.weight", "map.lora_B.weight"


def build_parameters(rows=((3.0, 4.0), (1.0, -2.0), (5.0, 5.0))):
    """Three ranks: A (3, 2) with these rows, B (1, 3) of ones."""
    return {A: torch.nn.Parameter(torch.tensor(rows)), B: torch.nn.Parameter(torch.ones(1, 3))}


def orthogonal(lessons=0, ranks=1, **values):
    retention = OrthogonalRanks(OrthogonalSettings(**values), ranks=ranks, seed=0)
    for _ in range(lessons):
        retention.remember(Lesson(parameters={}, examples={}, usual_targets=1.0, differentiate=pytest.fail))
    return retention


def test_the_first_task_has_no_penalty():
    assert orthogonal().penalise(build_parameters()) is None


def test_the_penalty_and_its_gradient_by_hand():
    parameters = build_parameters()
    penalty = orthogonal(1, strength=0.5).penalise(parameters)
    assert penalty.item() == 0.5 * abs(3 * 1 + 4 * -2)
    penalty.backward()
    # The overlap -5 is negative: its size falls along -(3, 4); the first task's rank feels nothing.
    assert parameters[A].grad.tolist() == [[0, 0], [-1.5, -2], [0, 0]]


def test_the_third_task_keeps_clear_of_both_before():
    penalty = orthogonal(2, strength=1.0).penalise(build_parameters())
    assert penalty.item() == abs(3 * 5 + 4 * 5) + abs(1 * 5 - 2 * 5)


def test_overlaps_of_a_block_with_itself_do_not_count():
    parameters = build_parameters(((1.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, 1.0)))
    assert orthogonal(1, ranks=2).penalise(parameters).item() == 0


def test_training_on_the_penalty_alone_makes_the_directions_orthogonal():
    parameters = build_parameters()
    retention = orthogonal(1, strength=1.0)
    optimizer = torch.optim.SGD(parameters.values(), lr=0.005)
    for _ in range(400):
        optimizer.zero_grad()
        retention.penalise(parameters).backward()
        retention.restrain(parameters)
        optimizer.step()
    first, second, third = parameters[A].detach()
    assert abs(float(first @ second)) < 0.2
    # The part of (1, -2) along (3, 4) / 5 is -1: without it (1.6, -1.2) is left.
    assert second.tolist() == pytest.approx([1.6, -1.2], abs=0.05)
    assert (first.tolist(), third.tolist()) == ([3, 4], [5, 5])


@pytest.mark.parametrize("lessons", [0, 1, 2])
def test_only_the_tasks_own_block_has_a_gradient(lessons):
    parameters = build_parameters()
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    orthogonal(lessons).restrain(parameters)
    own = [float(rank == lessons) for rank in range(3)]
    assert parameters[A].grad.tolist() == [[value, value] for value in own]
    assert parameters[B].grad.tolist() == [own]


def test_adamw_leaves_the_other_blocks_as_they_are_to_the_last_bit():
    parameters = build_parameters()
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    retention = orthogonal(1)
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.1, weight_decay=0.0, fused=True)
    for _ in range(20):
        optimizer.zero_grad()
        (parameters[B] @ parameters[A]).square().sum().backward()
        retention.restrain(parameters)
        optimizer.step()
    assert torch.equal(parameters[A][[0, 2]], before[A][[0, 2]])
    assert torch.equal(parameters[B][:, [0, 2]], before[B][:, [0, 2]])
    assert not torch.equal(parameters[A][1], before[A][1])


def test_a_parameter_without_a_gradient_is_passed_over():
    orthogonal(1).restrain(build_parameters())


def test_a_lora_without_room_is_refused():
    with pytest.raises(TrainingError, match=r"map\.lora_A\.weight has 3 ranks: 4 are needed for this task\."):
        orthogonal(3).begin(build_parameters())
    orthogonal(2).begin(build_parameters())


def test_what_is_no_lora_is_refused():
    parameters = {**build_parameters(), "map.lora_magnitude_vector": torch.nn.Parameter(torch.ones(1))}
    with pytest.raises(TrainingError, match="lora_magnitude_vector is no factor of a plain LoRA"):
        orthogonal().begin(parameters)
