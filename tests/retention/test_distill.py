"""Distillation with two words and one weight each, where the divergence can be had by hand."""

import math

import pytest
import torch
from torch.nn import functional

from codestrata.contracts import Lesson
from codestrata.retention import distill as module
from codestrata.retention.distill import Distillation, Outputs, measure_divergence
from codestrata.settings.retention import DistillSettings


def build_head(weights):
    """An output layer of two words on one number: the logits are that number times the weights."""
    head = torch.nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor(weights)[:, None]
    return head


def distill(head, **values):
    """After one task that left ``head``; the next one begins."""
    retention = Distillation(DistillSettings(**values), seed=0)
    retention.begin({"head": head.weight})
    retention.remember(Lesson(parameters={}, examples={}, usual_targets=1.0, differentiate=pytest.fail))
    retention.begin({"head": head.weight})
    return retention


def compare(retention, head, states):
    hidden = torch.tensor(states)[None, :, None]
    counted = torch.ones(hidden.shape[:2], dtype=torch.bool)
    return retention.compare(lambda: hidden, hidden, head, counted)


def test_the_first_task_has_nothing_to_compare_with():
    head = build_head([0.0, 1.0])
    retention = Distillation(DistillSettings(), seed=0)
    retention.begin({"head": head.weight})
    assert compare(retention, head, [1.0]) is None


def test_a_model_that_has_not_moved_costs_nothing():
    head = build_head([0.0, 1.0])
    added = compare(distill(head), head, [1.0, -2.0])
    assert added.item() == pytest.approx(0, abs=1e-7)
    added.backward()
    assert head.weight.grad.flatten().tolist() == pytest.approx([0, 0], abs=1e-7)


@pytest.mark.parametrize(("temperature", "strength"), [(1.0, 1.0), (2.0, 1.0), (2.0, 3.0)])
def test_the_divergence_and_its_gradient_by_hand(temperature, strength):
    head = build_head([0.0, math.log(3) * temperature])  # before: 1/4, 3/4 on the state 1
    retention = distill(head, temperature=temperature, strength=strength)
    head.weight.data = torch.zeros(2, 1)  # now: 1/2, 1/2
    added = compare(retention, head, [1.0])
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert added.item() == pytest.approx(strength * temperature**2 * divergence)
    added.backward()
    # d KL / d logit = (p_now - p_before) / T
    slope = strength * temperature * 0.25
    assert head.weight.grad.flatten().tolist() == pytest.approx([slope, -slope])


def test_it_is_summed_over_target_tokens_and_those_alone():
    head = build_head([0.0, 1.0])
    retention = distill(head)
    head.weight.data = torch.tensor([[0.5], [0.0]])
    single = [compare(retention, head, [state]).item() for state in (1.0, 2.0, 3.0)]
    assert compare(retention, head, [1.0, 2.0, 3.0]).item() == pytest.approx(sum(single))
    hidden = torch.tensor([1.0, 2.0, 3.0])[None, :, None]
    counted = torch.tensor([[True, False, True]])
    added = retention.compare(lambda: hidden, hidden, head, counted)
    assert added.item() == pytest.approx(single[0] + single[2])


def test_the_states_are_computed_with_the_parameters_before():
    inner, head = torch.nn.Parameter(torch.tensor([2.0])), build_head([0.0, 1.0])
    retention = Distillation(DistillSettings(temperature=1.0), seed=0)
    retention.facts["lessons"] = 1
    retention.begin({"inner": inner, "head": head.weight})
    inner.data, head.weight.data = torch.tensor([5.0]), torch.tensor([[1.0], [0.0]])
    counted = torch.ones(1, 1, dtype=torch.bool)

    def run():
        return (inner * 1.0)[None, :, None]

    added = retention.compare(run, run(), head, counted)
    wanted = functional.kl_div(
        torch.tensor([5.0, 0.0]).log_softmax(0),
        torch.tensor([0.0, 2.0]).log_softmax(0),
        reduction="sum",
        log_target=True,
    )
    assert added.item() == pytest.approx(wanted.item())
    assert (inner.item(), head.weight.flatten().tolist()) == (5.0, [1.0, 0.0])
    added.backward()
    assert inner.grad.item() == pytest.approx(
        torch.sigmoid(torch.tensor(5.0)).item() - 1 / (1 + math.exp(2)), rel=1e-4
    )


def test_the_parameters_come_back_where_the_run_fails():
    head = build_head([0.0, 1.0])
    retention = distill(head)
    head.weight.data = torch.tensor([[7.0], [8.0]])
    hidden = torch.ones(1, 1, 1)
    with pytest.raises(ZeroDivisionError):
        retention.compare(lambda: 1 / 0, hidden, head, torch.ones(1, 1, dtype=torch.bool))
    assert head.weight.flatten().tolist() == [7.0, 8.0]


def test_chunks_add_up(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    before, now = (
        Outputs(
            torch.randn(11, 3, generator=generator),
            torch.randn(5, 3, generator=generator),
            torch.randn(5, generator=generator),
        )
        for _ in range(2)
    )
    for part in now:
        part.requires_grad_(True)
    found = []
    for size in (10**6, 10):  # all at once, or two tokens
        monkeypatch.setattr(module, "LOGITS_AT_ONCE", size)
        for part in now:
            part.grad = None
        total = measure_divergence(before, now, 2.0)
        total.backward()
        found.append([total.detach(), *(part.grad for part in now)])
    for whole, pieces in zip(*found, strict=True):
        torch.testing.assert_close(whole, pieces)
