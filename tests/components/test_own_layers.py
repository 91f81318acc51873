import copy

import pytest
import torch
from probing import disturb, edit_json, logits, sign
from safetensors.torch import load_file
from transformers import T5Config, T5EncoderModel

from codestrata.components.own_layers import OwnLayersComponent, list_own_blocks
from codestrata.components.weights import WeightsComponent
from codestrata.data.batches import EncodedExample
from codestrata.engine.prefixes import find_prefix
from codestrata.engine.states import StateStore
from codestrata.errors import ComponentError, SettingsError
from codestrata.models.fingerprints import fingerprint_model
from codestrata.settings.components import OwnLayersSettings
from codestrata.settings.sections import CacheSettings, TrainingSettings
from codestrata.training import fit

ROWS = [
    EncodedExample(identifier="short", prompt_ids=(5, 9, 1), target_ids=(7, 1)),
    EncodedExample(identifier="long", prompt_ids=(17, 40, 12, 3, 1), target_ids=(50, 8, 9, 1)),
]


def build(base, **values):
    component = OwnLayersComponent(base, OwnLayersSettings(**values))
    component.attach("a", seed=0)
    return component


@pytest.mark.parametrize(
    ("placement", "blocks", "expected"),
    [
        ("decoder-top", 1, ["decoder.block.2"]),
        ("encoder-top", 2, ["encoder.block.0", "encoder.block.1"]),
        ("both", 2, ["encoder.block.0", "encoder.block.1", "decoder.block.1", "decoder.block.2"]),
    ],
)
def test_the_last_blocks_are_chosen(placement, blocks, expected, build_tiny_t5):
    model = build_tiny_t5(num_decoder_layers=3)
    assert list(list_own_blocks(model, OwnLayersSettings(placement=placement, blocks=blocks))) == expected
    base = dict(model.named_parameters())
    copies = build(model, placement=placement, blocks=blocks).parameters("a")
    assert set(copies) == {
        name for name in base if any(name.startswith(f"{path}.") for path in expected) and name in base
    }


def test_blocks_that_the_base_has_not_are_refused(tiny_t5):
    with pytest.raises(SettingsError, match=r"own_layers\.blocks is 3: the base's encoder has 2 blocks"):
        build(tiny_t5, placement="encoder-top", blocks=3)
    encoder = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=2, d_ff=8, num_layers=2, num_heads=2))
    with pytest.raises(SettingsError, match="no decoder"):
        list_own_blocks(encoder, OwnLayersSettings())


def test_whole_stacks_train_what_weights_does_inside_the_blocks(tiny_t5):
    everything = WeightsComponent(tiny_t5)
    everything.attach("a", seed=0)
    inside = [name for name in everything.parameters("a") if ".block." in name]
    component = build(tiny_t5, placement="both", blocks=2)
    assert list(component.parameters("a")) == inside
    assert any("relative_attention_bias" in name for name in inside)


def test_a_tensor_that_is_used_outside_the_blocks_too_stays_the_bases_own(tiny_t5):
    first, last = (block.layer[0].SelfAttention for block in tiny_t5.decoder.block)
    last.q.weight = first.q.weight
    before = fingerprint_model(tiny_t5)
    component = build(tiny_t5)
    assert not any("SelfAttention.q" in name for name in component.parameters("a"))
    component.activate("a")
    assert last.q.weight is first.q.weight
    component.deactivate()
    assert fingerprint_model(tiny_t5) == before


@pytest.mark.parametrize(
    ("placement", "blocks", "prefix"),
    [("decoder-top", 1, (2, 1)), ("decoder-top", 2, (2, 0)), ("encoder-top", 1, (1, None))],
)
def test_stored_states_train_the_same_component(placement, blocks, prefix, tiny_t5, tmp_path):
    def train(**cache):
        component = build(copy.deepcopy(tiny_t5), placement=placement, blocks=blocks)
        store = StateStore(folder=tmp_path, settings=CacheSettings(**cache), base_fingerprint="base")
        settings = TrainingSettings(epochs=6, batch_size=2, decay="constant", precision="fp32")
        device = torch.device("cpu")
        log = fit(
            component, "a", ROWS, settings, learning_rate=0.02, seed=0, pad_id=0, device=device, store=store
        )
        found = find_prefix(component.model)
        assert (found.encoder, found.decoder) == prefix
        return component, log

    (plain, without), (_, first), (_, second) = (
        train(states_mib=None),
        train(states_dtype="fp32"),
        train(states_dtype="fp32"),
    )
    assert without.states.kept == 0
    assert (first.states.kept, first.states.computed) == (2, 2)
    assert (second.states.kept, second.states.computed) == (2, 0)
    assert first.losses == pytest.approx(without.losses, abs=1e-4)
    assert second.losses == first.losses
    assert without.losses[-1] < 0.9 * without.losses[0]
    plain.deactivate()
    assert fingerprint_model(plain.model) == plain.fingerprint


def test_a_folder_of_other_blocks_is_refused(tiny_t5, tmp_path):
    component = build(tiny_t5)
    disturb(component, "a")
    component.write("a", tmp_path, {})
    assert set(load_file(tmp_path / "blocks.safetensors")) == set(component.parameters("a"))
    bare = logits(tiny_t5)
    for values, missing in (
        ({"blocks": 2}, r"decoder\.block\.0.*found nothing"),
        ({"placement": "both"}, r"encoder\.block\.1.*found nothing"),
    ):
        other = OwnLayersComponent(tiny_t5, OwnLayersSettings(**values))
        with pytest.raises(ComponentError, match=missing):
            other.load("b", tmp_path)
        assert other.names == ()
    assert torch.equal(logits(tiny_t5), bare)


def test_a_folder_of_weights_is_no_folder_of_blocks(tiny_t5, tmp_path):
    weights = WeightsComponent(tiny_t5)
    weights.attach("a", seed=0)
    weights.write("a", tmp_path, {})
    edit_json(tmp_path / "component.json", kind="own-layers")
    sign(tmp_path)
    with pytest.raises(ComponentError, match=r"blocks\.safetensors are needed"):
        build(tiny_t5).load("b", tmp_path)
