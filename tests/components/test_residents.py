"""The contract of components, run over every kind and placement."""

import gc
import json
import weakref
from pathlib import Path

import pytest
import torch
from probing import IDENTITIES, KINDS, MASK, PROMPTS, SCALED, TARGETS, disturb, edit_json, generate, logits
from safetensors.torch import load_file, save_file

from codestrata.components.residents import OCCUPANT
from codestrata.errors import ComponentError
from codestrata.files import hash_file
from codestrata.models.fingerprints import fingerprint_model

every_kind = pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)


def tensors_file(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


@pytest.mark.parametrize("build", IDENTITIES.values(), ids=IDENTITIES)
def test_a_newborn_is_the_base_bit_for_bit(build, tiny_t5):
    bare = logits(tiny_t5)
    component = build(tiny_t5)
    component.attach("python", seed=3)
    component.activate("python")
    assert component.active == "python"
    assert torch.equal(logits(component.model), bare)
    disturb(component, "python")
    assert not torch.equal(logits(component.model), bare)


@every_kind
def test_a_newborn_depends_on_its_seed_alone(build, build_tiny_t5):
    first, second = build(build_tiny_t5()), build(build_tiny_t5())
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first.attach("a", seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    second.attach("other", seed=0)
    second.attach("a", seed=3)
    ours, theirs = first.parameters("a"), second.parameters("a")
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("build", [KINDS["lora"], *SCALED.values()], ids=["lora", "scaled"])
def test_other_seeds_give_other_newborns(build, tiny_t5):
    component = build(tiny_t5)
    component.attach("a", seed=1)
    component.attach("b", seed=2)
    one, two = component.parameters("a"), component.parameters("b")
    assert any(not torch.equal(one[name], two[name]) for name in one)


@every_kind
def test_swapping_is_exact_and_never_touches_the_base(build, tiny_t5):
    bare, fingerprint = logits(tiny_t5), fingerprint_model(tiny_t5)
    modules, tensors = dict(tiny_t5.named_modules()), dict(tiny_t5.named_parameters())
    component = build(tiny_t5)
    assert component.fingerprint == fingerprint
    seen = {}
    for number, name in enumerate(("python", "javascript")):
        component.attach(name, seed=number)
        disturb(component, name, seed=number)
        component.activate(name)
        seen[name] = logits(component.model)
    assert not torch.equal(seen["python"], seen["javascript"])
    for name in ("python", "javascript", "python"):
        component.activate(name)
        assert torch.equal(logits(component.model), seen[name])
    component.deactivate()
    assert component.active is None
    assert torch.equal(logits(component.model), bare)
    assert fingerprint_model(tiny_t5) == fingerprint
    assert dict(tiny_t5.named_modules()) == modules
    assert all(tiny_t5.get_parameter(name) is tensor for name, tensor in tensors.items())
    assert not hasattr(tiny_t5, OCCUPANT)
    assert not hasattr(tiny_t5, "peft_config")


@every_kind
def test_attaching_and_loading_leave_the_active_component_active(build, tiny_t5, tmp_path):
    component = build(tiny_t5)
    component.attach("a", seed=0)
    disturb(component, "a")
    component.activate("a")
    before = logits(component.model)
    component.write("a", tmp_path, {})
    component.attach("b", seed=0)
    component.load("c", tmp_path)
    assert component.active == "a"
    assert torch.equal(logits(component.model), before)
    assert component.names == ("a", "b", "c")


@every_kind
def test_written_and_loaded_components_are_the_same_function(build, build_tiny_t5, tmp_path):
    component = build(build_tiny_t5())
    component.attach("layer", seed=0)  # a name that occurs inside tensor names
    component.attach("encoder", seed=1)
    disturb(component, "layer")
    component.activate("layer")
    written = logits(component.model)
    component.write("layer", tmp_path / "one", {"task": "python"})
    component.deactivate()
    component.write("layer", tmp_path / "two", {"task": "python"})
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()

    again = build(build_tiny_t5())
    again.load("0", tmp_path / "one")
    again.activate("0")
    assert torch.equal(logits(again.model), written)
    assert list(again.parameters("0")) == list(component.parameters("layer"))
    assert set(load_file(tensors_file(tmp_path / "one"))) == set(again.parameters("0"))


@every_kind
def test_component_file_tells_kind_base_and_what_the_caller_says(build, tiny_t5, tmp_path):
    component = build(tiny_t5)
    component.attach("a", seed=0)
    component.write("a", tmp_path, {"task": "python", "kind": "cannot be overruled"})
    assert json.loads((tmp_path / "component.json").read_text()) == {
        "format": 2,
        "kind": component.kind,
        "base_fingerprint": component.fingerprint,
        "sha256": {file: hash_file(tmp_path / file) for file in component.read_files},
        "task": "python",
    }


@every_kind
def test_only_the_active_component_takes_gradients(build, tiny_t5):
    component = build(tiny_t5)
    component.attach("a", seed=0)
    component.attach("b", seed=1)
    component.activate("a")
    assert not any(p.requires_grad for p in component.parameters("b").values())
    component.activate("b")
    trainable = {id(p) for p in tiny_t5.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in component.parameters("b").values()}
    assert not any(p.requires_grad for p in component.parameters("a").values())
    component.deactivate()
    assert not any(p.requires_grad for p in tiny_t5.parameters())


@every_kind
def test_training_changes_the_component_and_nothing_else(build, tiny_t5):
    component = build(tiny_t5)
    component.attach("a", seed=0)
    disturb(component, "a")
    component.activate("a")
    parameters = component.parameters("a")
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    component.model.train()
    component.model(input_ids=PROMPTS, attention_mask=MASK, labels=TARGETS).loss.backward()
    optimizer.step()
    assert all(not torch.equal(parameters[name], before[name]) for name in before)
    component.deactivate()
    assert fingerprint_model(tiny_t5) == component.fingerprint


@every_kind
def test_a_component_comes_back_in_the_mode_the_base_has_by_then(build, tiny_t5):
    component = build(tiny_t5)
    component.attach("a", seed=0)
    disturb(component, "a")
    component.activate("a")
    calm = logits(component.model)
    component.model.train()
    component.deactivate()
    component.model.eval()
    component.activate("a")
    assert torch.equal(logits(component.model), calm)


@every_kind
def test_a_detached_component_is_gone(build, tiny_t5):
    bare = logits(tiny_t5)
    component = build(tiny_t5)
    component.attach("a", seed=0)
    component.attach("b", seed=0)
    disturb(component, "a")
    component.activate("a")
    traces = [weakref.ref(parameter) for parameter in component.parameters("a").values()]
    component.detach("a")
    gc.collect()
    assert all(trace() is None for trace in traces)
    assert component.names == ("b",)
    assert component.active is None
    assert torch.equal(logits(component.model), bare)
    component.attach("a", seed=0)
    assert component.names == ("b", "a")


@every_kind
@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3}, {"do_sample": True}], ids=["greedy", "beams", "sampled"]
)
def test_the_cache_changes_no_token(build, options, tiny_t5):
    component = build(tiny_t5)
    component.attach("a", seed=0)
    disturb(component, "a")
    bare = generate(component.model, **options)
    component.activate("a")
    tokens = generate(component.model, **options)
    assert tokens == generate(component.model, use_cache=False, **options)
    assert tokens != bare


BAD_NAMES = ["", ".", "..", "a/b", "a\\b", "../a", "/a", "a.b", "-a", "a\n", "a\x00", "a\x1b[2J", " a", "ä"]
BAD_NAMES += ["x" * 65, "x" * 10**6]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: repr(name[:20]))
def test_names_that_are_not_allowed(name, tiny_t5, tmp_path):
    component = KINDS["encoder-top"](tiny_t5)
    component.attach("a", seed=0)
    component.write("a", tmp_path, {})
    for act in (lambda: component.attach(name, seed=0), lambda: component.load(name, tmp_path)):
        with pytest.raises(ComponentError, match="name"):
            act()
    assert component.names == ("a",)


@every_kind
def test_taken_and_unknown_names(build, tiny_t5, tmp_path):
    component = build(tiny_t5)
    component.attach("a", seed=0)
    component.write("a", tmp_path, {})
    with pytest.raises(ComponentError, match="already"):
        component.attach("a", seed=0)
    with pytest.raises(ComponentError, match="already"):
        component.load("a", tmp_path)
    for act in (component.activate, component.detach, component.parameters):
        with pytest.raises(ComponentError, match=r"'b'.*Resident: a"):
            act("b")


@every_kind
def test_a_component_of_another_base_is_refused(build, build_tiny_t5, tmp_path):
    component = build(build_tiny_t5())
    component.attach("a", seed=0)
    component.write("a", tmp_path, {})
    other = build(build_tiny_t5(seed=1))
    with pytest.raises(ComponentError) as caught:
        other.load("a", tmp_path)
    assert component.fingerprint in str(caught.value)
    assert other.fingerprint in str(caught.value)


def drop_tensor(folder: Path) -> str:
    tensors = load_file(tensors_file(folder))
    name = sorted(tensors)[1]
    save_file({key: value for key, value in tensors.items() if key != name}, tensors_file(folder))
    return rf"{name}.*found nothing"


def add_tensor(folder: Path) -> str:
    save_file(load_file(tensors_file(folder)) | {"a.stranger": torch.zeros(2)}, tensors_file(folder))
    return r"a\.stranger.*expected nothing, found float32 \[2\]"


def reshape_tensor(folder: Path) -> str:
    tensors = load_file(tensors_file(folder))
    name = sorted(tensors)[0]
    save_file(tensors | {name: torch.zeros(3, 5)}, tensors_file(folder))
    return rf"{name}.*found float32 \[3, 5\]"


def recast_tensor(folder: Path) -> str:
    tensors = load_file(tensors_file(folder))
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name].half()}, tensors_file(folder))
    return rf"{name}.*expected float32.*found float16"


def truncate(folder: Path) -> str:
    content = tensors_file(folder).read_bytes()
    tensors_file(folder).write_bytes(content[:-4])
    return "damaged"


def replace_by_pickle(folder: Path) -> str:
    tensors = load_file(tensors_file(folder))
    file = tensors_file(folder)
    file.unlink()
    torch.save(tensors, file.with_suffix(".bin"))
    return r"\.bin: a pickle, which is not opened"


def remove_component_file(folder: Path) -> str:
    (folder / "component.json").unlink()
    return "component.json: cannot be read"


def break_component_file(folder: Path) -> str:
    (folder / "component.json").write_text("[")
    return "component.json:1: not JSON"


def change_format(folder: Path) -> str:
    edit_json(folder / "component.json", format=1)
    return "format is 1, but 2 is needed here. Another version of codestrata wrote it"


def change_a_byte(folder: Path) -> str:
    content = bytearray(tensors_file(folder).read_bytes())
    content[-2] ^= 1
    tensors_file(folder).write_bytes(content)
    return "changed since it was written"


def forget_hashes(folder: Path) -> str:
    edit_json(folder / "component.json", sha256={})
    return r"sha256 is \{\}, but the hashes of"


def change_kind(folder: Path) -> str:
    edit_json(folder / "component.json", kind="stranger")
    return "kind is 'stranger'"


DAMAGES = (
    drop_tensor,
    add_tensor,
    reshape_tensor,
    recast_tensor,
    truncate,
    replace_by_pickle,
    remove_component_file,
    break_component_file,
    change_format,
    change_a_byte,
    forget_hashes,
    change_kind,
)


@pytest.mark.parametrize("kind", ["encoder-top", "weights"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_folder_is_refused_and_leaves_no_trace(kind, damage, tiny_t5, tmp_path):
    bare = logits(tiny_t5)
    component = KINDS[kind](tiny_t5)
    component.attach("a", seed=0)
    disturb(component, "a")
    component.write("a", tmp_path, {})
    expected = damage(tmp_path)
    with pytest.raises(ComponentError, match=expected):
        component.load("b", tmp_path)
    assert component.names == ("a",)
    assert torch.equal(logits(tiny_t5), bare)


def test_a_component_of_one_kind_makes_another_kind_leave(tiny_t5):
    bare = logits(tiny_t5)
    components = [build(tiny_t5) for build in KINDS.values()]
    fingerprint, seen = fingerprint_model(tiny_t5), {}
    for component in components:  # each is attached while the one before it runs
        component.attach("same-name", seed=0)
        disturb(component, "same-name")
        component.activate("same-name")
        seen[component] = logits(tiny_t5)
    assert [component.active for component in components] == [None] * (len(components) - 1) + ["same-name"]
    for component in components + components[::-1] + components[::3]:
        component.activate("same-name")
        assert torch.equal(logits(tiny_t5), seen[component])
    components[1].deactivate()
    assert components[0].active is None
    assert torch.equal(logits(tiny_t5), bare)
    assert fingerprint_model(tiny_t5) == fingerprint


def test_a_fingerprint_given_is_taken(tiny_t5):
    from codestrata.components.weights import WeightsComponent

    assert WeightsComponent(tiny_t5, fingerprint="known").fingerprint == "known"


def test_the_fingerprint_is_the_bases_even_while_another_component_runs(tiny_t5):
    fingerprint = fingerprint_model(tiny_t5)
    component = KINDS["weights"](tiny_t5)
    component.attach("a", seed=0)
    disturb(component, "a")
    component.activate("a")
    assert fingerprint_model(tiny_t5) != fingerprint
    assert KINDS["lora"](tiny_t5).fingerprint == fingerprint
    assert component.active == "a"


@every_kind
def test_loading_leaves_the_random_state_as_it_was(build, tiny_t5, tmp_path):
    component = build(tiny_t5)
    component.attach("a", seed=0)
    component.write("a", tmp_path, {})
    torch.manual_seed(11)
    state = torch.get_rng_state()
    component.load("b", tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ComponentError):
        component.load("b", tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
