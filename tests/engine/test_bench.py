"""The model on the bench: its modes, its states, and that nothing of it stays afterwards."""

import numpy as np
import pytest
import torch

from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.data.batches import EncodedExample
from codestrata.engine import bench as module
from codestrata.engine.bench import PASS_PRODUCTS, list_used, prepare_modes, set_up
from codestrata.engine.states import StateStore
from codestrata.errors import TrainingError
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import count_parameters
from codestrata.progress import Silence
from codestrata.settings.components import LayersSettings, LoraSettings
from codestrata.settings.sections import CacheSettings, TrainingSettings

CPU = torch.device("cpu")
ROWS = [
    EncodedExample(identifier=str(number), prompt_ids=(5, 6 + number, 1), target_ids=(7, 1)[number % 2 :])
    for number in range(4)
]
STEPS = [[0, 1], [2, 3], [1, 0]]


def build(base, kind="layers"):
    component = (
        build_lora(base, LoraSettings(rank=2, dropout=0.1))
        if kind == "lora"
        else build_layers(base, LayersSettings())
    )
    component.attach("a", seed=0)
    return component


def lay_on(component, *, store=None, steps=STEPS, **values):
    settings = TrainingSettings(**{"steps": 3, "precision": "fp32", **values})
    return set_up(
        component,
        "a",
        ROWS,
        steps,
        settings,
        retention=None,
        store=store,
        pad_id=0,
        device=CPU,
        progress=Silence(),
        label="train",
    )


def open_store(folder):
    return StateStore(folder=folder, settings=CacheSettings(), base_fingerprint="base")


def describe(model):
    modes = [module.training for module in model.modules()]
    return model.lm_head, list(model.encoder.block), model.config._attn_implementation, modes


def test_a_bench_knows_its_rows_and_the_model(tiny_t5):
    component = build(tiny_t5)
    with lay_on(component) as bench:
        assert bench.usual_targets == 1.5
        assert np.array_equal(bench.lengths, [[3, 2], [3, 1], [3, 2], [3, 1]])
        assert bench.overhead == PASS_PRODUCTS["cpu"] // count_parameters(tiny_t5)
        assert bench.parameters.keys() == component.parameters("a").keys()
        assert bench.states is None
        assert bench.describe_states(STEPS) == bench.refused
        assert bench.refused.reason == "no store was given"


def test_kept_states_are_there_while_the_bench_is(tiny_t5, tmp_path):
    component = build(tiny_t5)
    whole = list(tiny_t5.decoder.block)
    with lay_on(component, store=open_store(tmp_path)) as bench:
        assert bench.refused is None
        use = bench.describe_states(STEPS[:2])
        assert (use.examples, use.kept, use.computed, use.reason) == (4, 4, 4, None)
        assert bench.describe_states(STEPS[:1]).examples == 2
        assert len(tiny_t5.decoder.block) < len(whole)
        assert bench.states.mapped is not None
    assert len(tiny_t5.decoder.block) == len(whole)
    assert bench.states.mapped is None


@pytest.mark.parametrize("base_dropout", [False, True])
def test_modes(base_dropout, tiny_t5):
    own = set(tiny_t5.modules())
    component = build(tiny_t5, "lora")
    prepare_modes(component, "a", base_dropout=base_dropout)
    assert component.active == "a"
    assert {module.training for module in own} == {base_dropout}
    added = [module for module in tiny_t5.modules() if module not in own]
    assert added
    assert all(module.training for module in added)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_model_is_whole_again_after_an_error(precision, tiny_t5, tmp_path):
    component = build(tiny_t5)
    component.activate("a")
    before, weights = describe(tiny_t5), fingerprint_model(tiny_t5)

    def fail():
        with lay_on(component, precision=precision, store=open_store(tmp_path)):
            assert describe(tiny_t5) != before
            for parameter in component.parameters("a").values():
                parameter.grad = torch.ones_like(parameter)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert describe(tiny_t5) == before
    assert fingerprint_model(tiny_t5) == weights
    assert all(parameter.grad is None for parameter in component.parameters("a").values())


def test_an_error_while_it_is_laid_on_leaves_it_whole_too(tiny_t5, monkeypatch):
    component = build(tiny_t5)
    component.activate("a")
    before, weights = describe(tiny_t5), fingerprint_model(tiny_t5)
    monkeypatch.setattr(module, "bare_head", lambda model: 1 / 0)
    with pytest.raises(ZeroDivisionError), lay_on(component, precision="bf16"):
        pytest.fail("there is no bench")
    assert describe(tiny_t5) == before
    assert fingerprint_model(tiny_t5) == weights


def test_a_base_in_fp16_is_refused_with_the_reason(tiny_t5):
    component = build(tiny_t5.half())
    with pytest.raises(TrainingError, match=r"is fp16\. T5's activations .* 65504: use bf16 or fp32"):
        lay_on(component).__enter__()
    assert component.active is None


def test_the_examples_that_steps_use():
    assert list_used(STEPS[:1]) == {0, 1}
    assert list_used([]) == set()
