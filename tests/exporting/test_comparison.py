"""Two models side by side: what differs is counted."""

import copy
import math

import pytest
import torch

from codestrata.exporting.comparison import answer_greedily, compare_models

ROWS = ([5, 9, 33, 1], [7, 1])


def test_a_model_is_equal_to_itself(tiny_t5):
    found = compare_models(tiny_t5, tiny_t5, ROWS, max_new_tokens=4)
    assert (found.prompts, found.same_answers, found.largest_difference) == (2, 2, 0.0)
    assert found.tokens == sum(answer_greedily(tiny_t5, row, 4).shape[1] - 1 for row in ROWS)


def test_a_difference_in_one_logit_is_found(tiny_t5):
    def shift(module, given, output):
        output.logits[..., 17] += 0.25

    other = copy.deepcopy(tiny_t5)
    other.register_forward_hook(shift)
    found = compare_models(tiny_t5, other, ROWS, max_new_tokens=4)
    assert found.largest_difference == pytest.approx(0.25, abs=1e-6)
    assert found.largest_logit == pytest.approx(
        compare_models(other, tiny_t5, ROWS, max_new_tokens=4).largest_logit, abs=0.26
    )


def test_what_is_no_number_is_a_difference(tiny_t5):
    other = copy.deepcopy(tiny_t5)
    other.shared.weight.data.fill_(float("nan"))
    found = compare_models(tiny_t5, other, ROWS, max_new_tokens=2)
    assert math.isnan(found.largest_difference)
    assert not math.isnan(found.largest_logit)


def test_other_answers_are_counted(tiny_t5):
    other = copy.deepcopy(tiny_t5)
    with torch.no_grad():
        for parameter in other.decoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    found = compare_models(tiny_t5, other, ROWS, max_new_tokens=4)
    assert found.same_answers < 2
    assert found.largest_difference > 0.01


def test_answers_are_those_of_generate(tiny_t5):
    wanted = tiny_t5.generate(input_ids=torch.tensor([ROWS[0]]), max_new_tokens=5, do_sample=False)
    assert torch.equal(answer_greedily(tiny_t5, ROWS[0], 5), wanted)
