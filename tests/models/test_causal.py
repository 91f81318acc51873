import copy

import pytest
import torch

from codestrata.models import causal
from codestrata.models.causal import CausalSteps, can_step

PROMPTS = [[5, 9, 33, 21, 8, 41, 2], [17, 40, 12, 3], [6]]
SAID = [[7, 30, 22, 9, 11, 45, 6], [50, 3, 20, 4, 31, 8, 60], [12, 12, 61, 2, 19, 33, 5]]
TYPES = ("llama", "qwen2", "qwen3")


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(params=TYPES)
def model(request, first_tiny_decoders):
    return first_tiny_decoders[request.param]


def expect(model, number):
    """The model's own logits after every token of an answer, without batch, cache or padding."""
    prompt = PROMPTS[number]
    logits = model(input_ids=torch.tensor([prompt + SAID[number]]), use_cache=False).logits[0]
    return logits[len(prompt) - 1 : -1]


def choose_token(number, step):
    """What a row is given: its prompt's last token, then what was said."""
    return PROMPTS[number][-1] if step == 0 else SAID[number][step - 1]


def check(model, found, places):
    for logits, place in zip(found, places, strict=True):
        if place is not None:
            number, step = place
            torch.testing.assert_close(logits, expect(model, number)[step], atol=2e-5, rtol=1e-4)


def speak(steps, places):
    """One step: place p is at step s of answer a for (a, s) of ``places``, or free."""
    tokens = [0 if place is None else choose_token(*place) for place in places]
    return steps.step(torch.tensor(tokens))


def test_logits_are_the_models_own(model):
    steps = CausalSteps(model, rows=3, prompt_tokens=7)
    steps.admit([0, 1, 2], PROMPTS)
    for step in range(7):
        places = [(0, step), (1, step), (2, step)]
        check(model, speak(steps, places), places)


def test_prompts_come_beside_rows_that_are_half_done(model):
    steps = CausalSteps(model, rows=2, prompt_tokens=7)
    steps.admit([1], [PROMPTS[0]])
    for step in range(3):
        places = [None, (0, step)]
        check(model, speak(steps, places), places)
    steps.admit([0], [PROMPTS[1]])
    for step in range(4):
        places = [(1, step), (0, 3 + step)]
        check(model, speak(steps, places), places)
    steps.admit([1], [PROMPTS[2]])
    for step in range(3):
        places = [(1, 4 + step), (2, step)]
        check(model, speak(steps, places), places)


def test_rows_are_dropped_and_places_made(model):
    steps = CausalSteps(model, rows=3, prompt_tokens=7)
    steps.admit([0, 1, 2], PROMPTS)
    for step in range(2):
        speak(steps, [(0, step), (1, step), (2, step)])
    steps.keep([2, 0], spare=1)
    places = [(2, 2), (0, 2), None]
    check(model, speak(steps, places), places)
    steps.admit([2], [PROMPTS[1]])
    places = [(2, 3), (0, 3), (1, 0)]
    check(model, speak(steps, places), places)


def test_memory_is_made_as_it_is_needed_and_forgotten(model, monkeypatch):
    monkeypatch.setattr(causal, "COLUMNS_AT_ONCE", 2)
    steps = CausalSteps(model, rows=1, prompt_tokens=7)
    for number in (0, 1, 2, 2, 2, 1, 0):  # the last two are longer than what came before
        steps.admit([0], [PROMPTS[number]])
        for step in range(7):
            check(model, speak(steps, [(number, step)]), [(number, step)])
        assert steps.columns.memory_B2HLK[0].shape[3] <= 7 + 7 + 2 * 2


def test_bf16_memory_is_near(model):
    steps = CausalSteps(model, rows=3, prompt_tokens=7, dtype=torch.bfloat16)
    assert {memory.dtype for memory in steps.columns.layers} == {torch.bfloat16}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        steps.admit([0, 1, 2], PROMPTS)
        found = speak(steps, [(0, 0), (1, 0), (2, 0)])
    for number, logits in enumerate(found):
        exact = expect(model, number)[0]
        assert torch.nn.functional.cosine_similarity(logits.float(), exact, dim=0) > 0.99


def test_who_can_step(model, tiny_t5, build_tiny_decoder):
    assert can_step(model)
    assert not can_step(tiny_t5)
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    assert not can_step(plain)
    windows = build_tiny_decoder(
        "qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1, layer_types=None
    )
    assert not can_step(windows)
