import copy

import pytest
import torch
from torch import nn

from codestrata.models import t5
from codestrata.models.t5 import T5Steps

PROMPTS = [[5, 9, 33, 21, 8, 1], [17, 40, 12, 1], [1]]
SAID = [[0, 7, 30, 22, 9, 11, 45, 6], [0, 50, 3, 20, 4, 31, 8, 60], [0, 12, 12, 61, 2, 19, 33, 5]]


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=["relu", "gated-gelu", "gelu"])
def model(request, build_tiny_t5):
    """A tiny T5 whose norms, biases and maps all matter."""
    model = build_tiny_t5(feed_forward_proj=request.param, num_decoder_layers=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def expected(model):
    """What transformers says after every token of ``SAID``, prompt by prompt, without batch or cache."""
    return [
        model(
            input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([said]), use_cache=False
        ).logits[0]
        for prompt, said in zip(PROMPTS, SAID, strict=True)
    ]


def encode(model, prompts):
    """Encoder states padded with what must not be read, and their lengths."""
    lengths = [len(prompt) for prompt in prompts]
    states = torch.full((len(prompts), max(lengths), model.config.d_model), 1e3)
    for row, prompt in zip(states, prompts, strict=True):
        row[: len(prompt)] = model.encoder(input_ids=torch.tensor([prompt])).last_hidden_state[0]
    return states, lengths


def begin(model, numbers=(0, 1, 2), *, limit=8, rows=None, dtype=torch.float32):
    rows = rows or len(numbers)
    steps = T5Steps(model, rows=rows, prompt_tokens=6, limit=limit, dtype=dtype)
    steps.admit(range(len(numbers)), *encode(model, [PROMPTS[number] for number in numbers]))
    return steps


def speak(steps, places):
    """One step in which place p says token t of answer a, for each (a, t) of ``places``; the logits."""
    return steps.step(torch.tensor([SAID[answer][token] for answer, token in places]))


def assert_near(found, expected, places):
    for row, (answer, token) in zip(found, places, strict=True):
        assert torch.allclose(row, expected[answer][token], rtol=1e-4, atol=1e-4)


def test_logits_are_those_of_transformers(model, expected):
    steps = begin(model)
    for token in range(8):
        places = [(answer, token) for answer in range(3)]
        assert_near(speak(steps, places), expected, places)


def test_rows_that_stay_say_what_they_would_have_said(model, expected):
    steps = begin(model)
    for token in range(3):
        speak(steps, [(answer, token) for answer in range(3)])
    steps.keep([2, 1])
    assert_near(speak(steps, [(2, 3), (1, 3)]), expected, [(2, 3), (1, 3)])
    assert steps.cross_B2HSK[0].shape[3] == 4  # the longest prompt that is left
    steps.keep([0])
    assert_near(speak(steps, [(2, 4)]), expected, [(2, 4)])
    assert steps.cross_B2HSK[0].shape[3] == 1


def test_rows_may_begin_later_and_in_places_of_others(model, expected):
    steps = begin(model, [0, 2], rows=2)
    speak(steps, [(0, 0), (2, 0)])
    assert_near(speak(steps, [(0, 1), (2, 1)]), expected, [(0, 1), (2, 1)])
    steps.admit([1], *encode(model, [PROMPTS[1]]))
    for token in range(6):
        places = [(0, token + 2), (1, token)]
        assert_near(speak(steps, places), expected, places)
    steps.admit([0], *encode(model, [PROMPTS[2]]))
    for token in range(2):
        places = [(2, token), (1, token + 6)]
        assert_near(speak(steps, places), expected, places)
    assert steps.starts == [6, 0]  # the two columns before the second row began are forgotten


def test_spare_places_take_new_prompts(model, expected):
    steps = begin(model, [2])
    speak(steps, [(2, 0)])
    steps.keep([0], spare=2, prompt_tokens=6)
    steps.admit([2], *encode(model, [PROMPTS[0]]))
    found = [speak(steps, [(2, token + 1), (2, 0), (0, token)]) for token in range(5)]
    for token, logits in enumerate(found):
        assert logits.isfinite().all()
        assert_near(logits[[0, 2]], expected, [(2, token + 1), (0, token)])


def test_memory_grows_and_forgets_what_nobody_looks_at(model, expected, monkeypatch):
    monkeypatch.setattr(t5, "COLUMNS_AT_ONCE", 2)
    steps = begin(model, [0, 1])
    for token in range(8):
        assert_near(speak(steps, [(0, token), (1, token)]), expected, [(0, token), (1, token)])
    for _ in range(3):
        steps.admit([0, 1], *encode(model, PROMPTS[:2]))
        for token in range(8):
            assert_near(speak(steps, [(0, token), (1, token)]), expected, [(0, token), (1, token)])
        assert steps.own_B2HLK[0].shape[3] <= 10


def test_a_row_that_nobody_reads_does_no_harm(model, expected):
    steps = begin(model, [0, 1], limit=4)
    for token in range(4):
        speak(steps, [(0, token), (0, token)])
    steps.admit([1], *encode(model, [PROMPTS[1]]))
    for token in range(4):  # the first row is older than the limit now
        logits = speak(steps, [(0, 7), (1, token)])
        assert logits.isfinite().all()
        assert_near(logits[1:], expected, [(1, token)])


def test_bf16_is_near(model, expected):
    steps = begin(model, dtype=torch.bfloat16)
    for token in range(4):
        logits = speak(steps, [(answer, token) for answer in range(3)])
        wanted = torch.stack([rows[token] for rows in expected])
        assert logits.dtype == torch.bfloat16
        assert torch.nn.functional.cosine_similarity(logits.float(), wanted).min() > 0.98
        assert not torch.allclose(logits.float(), wanted, rtol=1e-4, atol=1e-4)


class Opaque(nn.Module):
    """A linear map that does not show its matrix."""

    def __init__(self, linear):
        super().__init__()
        self.inside = [linear]

    @property
    def weight(self):
        return self.inside[0].weight

    def forward(self, hidden):
        return self.inside[0](hidden)


def test_maps_whose_matrix_cannot_be_had_are_called(model, expected):
    model = copy.deepcopy(model)
    for block in model.decoder.block:
        block.layer[0].SelfAttention.k = Opaque(block.layer[0].SelfAttention.k)
        block.layer[1].EncDecAttention.o = Opaque(block.layer[1].EncDecAttention.o)
        block.layer[2].DenseReluDense.wo = Opaque(block.layer[2].DenseReluDense.wo)
    steps = begin(model)
    for token in range(3):
        places = [(answer, token) for answer in range(3)]
        assert_near(speak(steps, places), expected, places)


def test_weights_are_not_copied_where_one_product_takes_one_matrix(model):
    steps = begin(model)
    multiply = steps.head.args[-1]
    assert multiply.args[0].data_ptr() == model.lm_head.weight.data_ptr()
