"""Merged components are those that PEFT's ``add_weighted_adapter`` makes."""

import copy

import pytest
import torch
from peft import PeftModel

from codestrata.components.lora import build_lora
from codestrata.errors import ComponentError, SettingsError
from codestrata.merging import merge_lora, merge_tensors
from codestrata.settings.components import LoraSettings

SETTINGS = LoraSettings(rank=4, alpha=6.0)
KINDS = ("linear", "ties", "dare_linear", "dare_ties")
ROWS = torch.tensor([[5, 9, 33, 1]])


@pytest.fixture
def folders(tiny_t5, tmp_path):
    """Two trained components of the same settings."""
    component = build_lora(tiny_t5, SETTINGS)
    for seed, name in enumerate(("early", "late")):
        component.attach(name, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in component.parameters(name).values():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        component.write(name, tmp_path / name, {})
        component.detach(name)
    return [tmp_path / "early", tmp_path / "late"]


def read_logits(model):
    with torch.inference_mode():
        return model(input_ids=ROWS, decoder_input_ids=ROWS).logits


def merge_by_peft(base, folders, kind, weights, density):
    model = PeftModel.from_pretrained(base, folders[0], adapter_name="a")
    model.load_adapter(folders[1], adapter_name="b")
    model.add_weighted_adapter(["a", "b"], weights, "m", combination_type=kind, density=density)
    model.set_adapter("m")
    return read_logits(model.eval())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [[0.7, 0.4], [1.0, -0.5]], ids=str)
def test_it_computes_what_peft_s_merge_computes(kind, weights, tiny_t5, folders, tmp_path, monkeypatch):
    # PEFT draws for its newborn in between, so here equal shapes get equal entries.
    draw = torch.bernoulli
    monkeypatch.setattr(
        "peft.utils.merge_utils.torch.bernoulli",
        lambda shares: draw(shares, generator=torch.Generator().manual_seed(shares.numel())),
    )
    merge_lora(tiny_t5, SETTINGS, folders, tmp_path / "m", kind=kind, weights=weights, density=0.5)
    wanted = merge_by_peft(copy.deepcopy(tiny_t5), folders, kind, weights, 0.5)
    component = build_lora(tiny_t5, SETTINGS)
    bare = read_logits(tiny_t5)
    component.load("m", tmp_path / "m")
    component.activate("m")
    found = read_logits(tiny_t5)
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert (wanted - bare).abs().max() > 1e-2 * wanted.abs().max()


def test_merged_tensors_are_those_computed_by_hand():
    first, second = torch.tensor([[4.0, -1.0, 0.5, 3.0]]), torch.tensor([[2.0, 3.0, 0.25, -5.0]])
    linear = merge_tensors([first, second], [0.5, 1.0], "linear", 1.0)
    assert linear.tolist() == [[4.0, 2.5, 0.5, -3.5]]
    # Kept: 4 and 3 of the first, 3 and -5 of the second. Weighted: 2, 1.5, 3, -5; the larger sum elects.
    ties = merge_tensors([first, second], [0.5, 1.0], "ties", 0.5)
    assert ties.tolist() == [[2.0, 3.0, 0.0, -5.0]]


def test_the_same_seed_gives_the_same_bytes_and_draws_nothing(tiny_t5, folders, tmp_path):
    before = torch.get_rng_state()
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        merge_lora(tiny_t5, SETTINGS, folders, tmp_path / name, kind="dare_linear", seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    one, again, other = (
        (tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("one", "again", "other")
    )
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "lineer"}, r"Unknown kind of merge 'lineer'\. Did you mean 'linear'"),
        ({"weights": [1.0]}, r"The weights are \[1\.0\]: a finite number for each of 2"),
        ({"weights": [1.0, float("nan")]}, "a finite number for each of 2"),
        ({"density": 0.0}, r"The density is 0\.0"),
        ({"density": 1.5}, r"The density is 1\.5"),
    ],
    ids=str,
)
def test_requests_that_make_no_sense_are_refused(values, message, tiny_t5, folders, tmp_path):
    with pytest.raises(SettingsError, match=message):
        merge_lora(tiny_t5, SETTINGS, folders, tmp_path / "m", **values)
    assert not (tmp_path / "m").exists()


def test_one_component_and_other_variants_are_refused(tiny_t5, folders, tmp_path):
    with pytest.raises(SettingsError, match="1 components to merge: name two at least"):
        merge_lora(tiny_t5, SETTINGS, folders[:1], tmp_path / "m")
    with pytest.raises(SettingsError, match="only plain LoRA can be merged"):
        merge_lora(tiny_t5, LoraSettings(variant="dora"), folders, tmp_path / "m")


def test_a_component_of_other_settings_is_refused(tiny_t5, folders, tmp_path):
    with pytest.raises(ComponentError, match=r"lora_alpha is 6\.0, but only components with 7\.0 are merged"):
        merge_lora(tiny_t5, LoraSettings(rank=4, alpha=7.0), folders, tmp_path / "m")
