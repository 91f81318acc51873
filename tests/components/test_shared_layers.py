import json

import pytest
import torch
from peft import PeftModel
from probing import disturb, logits

import codestrata
from codestrata.checkpoints import Checkpoints
from codestrata.components.hybrid import build_hybrid
from codestrata.components.lora import build_lora
from codestrata.components.shared_layers import BLOCKS, build_shared_layers
from codestrata.data.batches import EncodedExample
from codestrata.errors import ComponentError, SettingsError
from codestrata.settings.components import HybridSettings, LoraSettings, SharedLayersSettings
from codestrata.settings.sections import TrainingSettings
from codestrata.training import fit

both_ways = pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "shared"])


def build(base, *, is_kept, **values):
    settings = SharedLayersSettings(**{"rank": 2, "placement": "both"} | values)
    return build_shared_layers(base, settings, is_kept=is_kept)


def add(component, name, seed):
    """Attach a component and change what its training would."""
    component.attach(name, seed=seed)
    disturb(component, name, seed)


def see(component, name):
    component.activate(name)
    return logits(component.model)


def split(tensors):
    """Copies of the tensors of new blocks, and of the others."""
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    blocks = {name: copies.pop(name) for name in list(copies) if BLOCKS in name}
    return blocks, copies


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@both_ways
def test_the_first_is_a_hybrid(is_kept, build_tiny_t5):
    base = build_tiny_t5()
    shared, hybrid = (
        build(base, is_kept=is_kept),
        build_hybrid(base, HybridSettings(rank=2, placement="both")),
    )
    for component in (shared, hybrid):
        component.attach("a", seed=3)
    assert equal(dict(shared.parameters("a")), dict(hybrid.parameters("a")))
    assert shared.tensors("a").keys() == shared.parameters("a").keys()


@both_ways
def test_a_newborn_begins_with_the_blocks_that_are_there(is_kept, tiny_t5):
    component = build(tiny_t5, is_kept=is_kept)
    bare = logits(tiny_t5)
    add(component, "a", 1)
    component.attach("b", seed=2)
    assert equal(split(component.tensors("b"))[0], split(component.tensors("a"))[0])
    alone = split(component.tensors("a"))[0]
    with torch.no_grad():  # without its updates, "a" is what "b" begins as
        for name, parameter in component.parameters("a").items():
            if name.endswith("layers_up.weight"):
                parameter.zero_()
    assert torch.equal(see(component, "b"), see(component, "a"))
    assert not torch.equal(see(component, "b"), bare)
    assert equal(split(component.tensors("b"))[0], alone)


def test_kept_blocks_are_not_trained_again(tiny_t5):
    component = build(tiny_t5, is_kept=True)
    add(component, "a", 1)
    before = split(component.tensors("a")), see(component, "a")
    add(component, "b", 2)
    assert all(BLOCKS not in name for name in component.parameters("b"))
    assert component.tensors("b").keys() == component.tensors("a").keys()
    component.activate("b")
    trained = {name for name, own in component.tensors("b").items() if own.requires_grad}
    assert trained == component.parameters("b").keys()
    assert torch.equal(see(component, "a"), before[1])
    assert all(equal(*pair) for pair in zip(split(component.tensors("a")), before[0], strict=True))
    assert all(own.requires_grad for own in component.parameters("a").values())
    component.deactivate()
    for name in ("a", "b"):
        assert not any(own.requires_grad for own in component.tensors(name).values())


def test_shared_blocks_change_all_residents(tiny_t5):
    component = build(tiny_t5, is_kept=False)
    add(component, "a", 1)
    (blocks, updates), seen = split(component.tensors("a")), see(component, "a")
    component.attach("b", seed=2)
    assert torch.equal(see(component, "a"), seen)
    disturb(component, "b", 2)
    assert not torch.equal(see(component, "a"), seen)
    now, kept = split(component.tensors("a"))
    assert equal(kept, updates)
    assert not equal(now, blocks)
    assert equal(now, split(component.tensors("b"))[0])


@both_ways
def test_every_folder_is_complete_and_loads_alone_in_plain_peft(is_kept, build_tiny_t5, tmp_path):
    codestrata.register_with_peft()
    component = build(build_tiny_t5(), is_kept=is_kept)
    for seed, name in enumerate(("a", "b"), start=1):
        add(component, name, seed)
    for name in ("a", "b"):
        component.write(name, tmp_path / name, {})
        seen = see(component, name)
        theirs = PeftModel.from_pretrained(build_tiny_t5(), tmp_path / name).eval()
        assert torch.equal(logits(theirs), seen)
        alone = build(build_tiny_t5(), is_kept=is_kept)
        alone.load("c", tmp_path / name)
        assert torch.equal(see(alone, "c"), seen)
        assert all(own.requires_grad for own in alone.tensors("c").values())  # nobody else has its blocks
        assert json.loads((tmp_path / name / "component.json").read_text())["kind"] == "shared-layers"


def test_kept_components_that_come_back_share_again(build_tiny_t5, tmp_path):
    component = build(build_tiny_t5(), is_kept=True)
    for seed, name in enumerate(("a", "b"), start=1):
        add(component, name, seed)
        component.write(name, tmp_path / name, {})
    again = build(build_tiny_t5(), is_kept=True)
    for name in ("a", "b"):
        again.load(name, tmp_path / name)
        assert again.parameters(name).keys() == component.parameters(name).keys()
        assert torch.equal(see(again, name), see(component, name))
    own, taken = (again.tensors(name) for name in ("a", "b"))
    assert all(own[name] is taken[name] for name in own if BLOCKS in name)


def test_a_component_of_another_run_keeps_its_own_blocks(build_tiny_t5, tmp_path):
    stranger = build(build_tiny_t5(), is_kept=True, placement="decoder-top", blocks=2)
    add(stranger, "x", 7)
    stranger.write("x", tmp_path, {})
    component = build(build_tiny_t5(), is_kept=True)
    add(component, "a", 1)
    seen = see(component, "a")
    component.load("x", tmp_path)
    assert torch.equal(see(component, "x"), see(stranger, "x"))
    assert torch.equal(see(component, "a"), seen)
    assert component.parameters("x").keys() == stranger.parameters("x").keys()


def test_who_runs_changes_with_the_newest_and_back_again(build_tiny_t5, tmp_path):
    """As a run does that goes on: what is loaded for a trial leaves no trace."""
    component = build(build_tiny_t5(), is_kept=False)
    add(component, "a", 1)
    component.write("a", tmp_path / "a", {})
    first = see(component, "a")
    add(component, "b", 2)
    component.write("b", tmp_path / "b", {})
    second = see(component, "a")
    other = build(build_tiny_t5(), is_kept=False)
    bare = logits(other.model)
    other.load("a", tmp_path / "a")
    assert torch.equal(see(other, "a"), first)
    other.load("trial", tmp_path / "b")
    assert other.active == "a"
    assert torch.equal(logits(other.model), second)
    other.detach("trial")
    assert other.active == "a"
    assert torch.equal(logits(other.model), first)
    other.load("b", tmp_path / "b")
    assert torch.equal(see(other, "b"), see(component, "b"))
    assert torch.equal(see(other, "a"), second)
    other.write("a", tmp_path / "again", {})  # as it runs now, not as it came
    alone = build(build_tiny_t5(), is_kept=False)
    alone.load("a", tmp_path / "again")
    assert torch.equal(see(alone, "a"), second)
    other.activate("b")
    other.detach("b")
    assert torch.equal(logits(other.model), bare)
    other.detach("a")
    assert other.names == ()


def test_blocks_at_other_places_cannot_be_shared(build_tiny_t5, tmp_path):
    stranger = build(build_tiny_t5(), is_kept=False, placement="decoder-top")
    add(stranger, "x", 7)
    stranger.write("x", tmp_path, {})
    component = build(build_tiny_t5(), is_kept=False)
    add(component, "a", 1)
    seen = see(component, "a")
    with pytest.raises(ComponentError, match=r"placement 'decoder-top', but those .* placement 'both'"):
        component.load("x", tmp_path)
    assert component.names == ("a",)
    assert torch.equal(logits(component.model), seen)
    stranger = build(build_tiny_t5(), is_kept=True)
    stranger.load("x", tmp_path)
    with pytest.raises(ComponentError, match=r"settings: 1 new blocks .* they cannot be shared"):
        stranger.attach("new", seed=0)
    assert stranger.names == ("x",)


def test_a_checkpoint_beside_other_kept_blocks_is_of_another_training(build_tiny_t5, tmp_path):
    row = EncodedExample(identifier="0", prompt_ids=[5, 9, 1], target_ids=[7, 30, 1])

    def train(first_seed):
        said = []
        component = build(build_tiny_t5(), is_kept=True)
        add(component, "a", first_seed)
        component.attach("b", seed=2)
        fit(
            component,
            "b",
            [row],
            TrainingSettings(steps=2, batch_size=1),
            learning_rate=0.01,
            seed=0,
            pad_id=0,
            device=torch.device("cpu"),
            checkpoints=Checkpoints(tmp_path, seconds=0.0, say=said.append),
        )
        return said

    assert train(1) == []
    assert train(1) == []
    assert "of a training with other starting tensors" in train(3)[0]


@both_ways
def test_other_kinds_take_turns_with_it(is_kept, tiny_t5):
    component, lora = build(tiny_t5, is_kept=is_kept), build_lora(tiny_t5, LoraSettings(rank=2))
    bare = logits(tiny_t5)
    for seed, name in enumerate(("a", "b"), start=1):
        add(component, name, seed)
        add(lora, name, seed)
    seen = {(kind, name): see(kind, name) for kind in (component, lora) for name in ("a", "b")}
    lora.activate("a")
    component.detach("b") if is_kept else component.deactivate()
    assert lora.active == ("a" if is_kept else None)
    for kind, name in ((component, "a"), (lora, "b"), (component, "a"), (lora, "a")):
        assert torch.equal(see(kind, name), seen[kind, name])
    lora.deactivate()
    assert torch.equal(logits(tiny_t5), bare)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"targets": ()}, "shared_layers.targets is empty"),
        ({"targets": ("q", "wi0")}, "linear map in shared_layers.targets 'wi0'"),
        ({"placement": "top-decoder"}, "shared_layers.placement"),
        ({"blocks": 0}, "shared_layers.blocks is 0"),
        ({"rank": 0}, "shared_layers.rank is 0"),
        ({"init": "random"}, "shared_layers.init"),
    ],
)
def test_settings_that_make_no_sense(values, named, tiny_t5):
    with pytest.raises(SettingsError, match=named):
        build(tiny_t5, is_kept=True, **values)


def test_a_stack_that_the_base_has_not_is_named_with_the_section(tiny_llama):
    with pytest.raises(SettingsError, match=r"^shared_layers\.placement is 'encoder-top'"):
        build(tiny_llama, is_kept=True, placement="encoder-top")
