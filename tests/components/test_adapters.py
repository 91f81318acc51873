import json

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from probing import ADAPTERS, KINDS, disturb, edit_json, generate, logits, sign

from codestrata.components.adapters import CONFIG_FILE, TENSORS_FILE
from codestrata.errors import ComponentError
from codestrata.models.fingerprints import fingerprint_model

every_adapter = pytest.mark.parametrize("build", ADAPTERS.values(), ids=ADAPTERS)


@every_adapter
def test_plain_peft_loads_what_is_written(build, build_tiny_t5, tmp_path):
    component = build(build_tiny_t5())
    component.attach("a", seed=0)
    disturb(component, "a")
    component.write("a", tmp_path, {"task": "python"})
    component.activate("a")
    theirs = PeftModel.from_pretrained(build_tiny_t5(), tmp_path)
    assert torch.equal(logits(theirs), logits(component.model))
    assert generate(theirs) == generate(component.model)
    assert sorted(component.parameters("a")) == sorted(get_peft_model_state_dict(theirs))
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG_FILE, TENSORS_FILE, "component.json"]


def test_plain_peft_reloads_one_adapter_after_another(build_tiny_t5, tmp_path):
    component = KINDS["both-twice"](build_tiny_t5())
    seen = {}
    for number, name in enumerate(("python", "javascript")):
        component.attach(name, seed=number)
        disturb(component, name, seed=number)
        component.write(name, tmp_path / name, {})
        component.activate(name)
        seen[name] = logits(component.model)
    theirs = PeftModel.from_pretrained(build_tiny_t5(), tmp_path / "python", low_cpu_mem_usage=True)
    theirs.load_adapter(tmp_path / "javascript", "javascript")
    assert torch.equal(logits(theirs), seen["python"])
    theirs.set_adapter("javascript")
    assert torch.equal(logits(theirs), seen["javascript"])


ORDERS = [("lora", "both-twice"), ("both-twice", "lora"), ("ia3", "dora"), ("hybrid-both", "ia3")]


@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
def test_two_kinds_on_one_base_write_plain_folders(order, build_tiny_t5, tmp_path):
    base = build_tiny_t5()
    components = {kind: KINDS[kind](base) for kind in order}
    for kind in order:  # each is attached while the one before it runs
        components[kind].attach("python", seed=0)
        disturb(components[kind], "python")
        components[kind].activate("python")
    for kind, component in components.items():
        component.write("python", tmp_path / kind, {})
        component.activate("python")
        seen = logits(base)
        nested = any(".base_layer" in name for name in component.parameters("python"))
        assert nested == (kind == "hybrid-both")  # its own wrappers, never those of another component
        again = KINDS[kind](build_tiny_t5())
        again.load("python", tmp_path / kind)
        again.activate("python")
        assert torch.equal(logits(again.model), seen)
        assert torch.equal(logits(PeftModel.from_pretrained(build_tiny_t5(), tmp_path / kind)), seen)


def test_the_configuration_names_no_place_but_the_base(tiny_t5, tmp_path):
    tiny_t5.name_or_path = str(tmp_path / "somewhere")
    component = KINDS["lora"](tiny_t5)
    component.attach("a", seed=0)
    component.write("a", tmp_path / "a", {})
    values = json.loads((tmp_path / "a" / CONFIG_FILE).read_text())
    assert values.pop("base_model_name_or_path") == str(tmp_path / "somewhere")
    assert str(tmp_path) not in json.dumps(values)
    assert values["inference_mode"] is True
    assert values["target_modules"] == ["q", "wo"]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("lora", {"init_lora_weights": "pissa"}),  # would change the base's own weights
        ("lora", {"bias": "all"}),
        ("lora", {"layer_replication": [[0, 2]]}),
        ("lora", {"peft_type": "LAYERS"}),
        ("lora", {"stranger": 1}),
        ("lora", {"r": -1}),
        ("lora", {"r": 2.0}),
        ("lora", {"r": True}),
        ("lora", {"r": None}),
        ("lora", {"lora_alpha": 0}),
        ("lora", {"lora_alpha": "8"}),
        ("lora", {"lora_dropout": 1.5}),
        ("lora", {"target_modules": ".*"}),  # PEFT would match it as a pattern, which may take for ever
        ("lora", {"target_modules": "all-linear"}),
        ("lora", {"target_modules": []}),
        ("lora", {"target_modules": [["q"]]}),
        ("lora", {"target_modules": ["q", "shared"]}),
        ("lora", {"use_dora": "yes"}),
        ("lora", {"use_dora": True, "use_rslora": True}),
        ("rslora", {"use_dora": True}),
        ("dora", {"use_rslora": True}),
        ("ia3", {"target_modules": ["k", "v"]}),
        ("ia3", {"target_modules": ["k", "v", "wo", "q"]}),
        ("ia3", {"target_modules": "all-linear"}),
        ("ia3", {"target_modules": ["wo", "v", "k"]}),
        ("ia3", {"feedforward_modules": ["k"]}),
        ("ia3", {"feedforward_modules": "wo"}),
        ("ia3", {"feedforward_modules": None}),
        ("ia3", {"fan_in_fan_out": True}),
        ("ia3", {"init_ia3_weights": False}),
        ("ia3", {"modules_to_save": ["shared"]}),
        ("ia3", {"peft_type": "LORA"}),
        ("lora", {"modules_to_save": ["shared"]}),
        ("lora", {"target_parameters": ["shared.weight"]}),
        ("lora", {"trainable_token_indices": [1]}),
        ("lora", {"layers_to_transform": [0]}),
        ("lora", {"rank_pattern": {"q": 3}}),
        ("lora", {"megatron_core": "os"}),
        ("lora", {"auto_mapping": "os"}),
        ("lora", {"peft_version": 1}),
        ("lora", {"task_type": ["CAUSAL_LM"]}),
        ("lora", {"revision": "x" * 5000}),
        ("lora", {"target_modules": ["nothing"]}),
        ("lora", {"target_modules": 7}),
        ("both-twice", {"placement": "sideways"}),
        ("both-twice", {"placement": "interleaved:9"}),
        ("both-twice", {"blocks": "two"}),
        ("both-twice", {"blocks": True}),
        ("both-twice", {"blocks": 0}),
        ("both-twice", {"placement": "interleaved:-1"}),
        ("both-twice", {"placement": "encoder-top"}),  # and target_modules say otherwise
        ("both-twice", {"init": "scaled:nan"}),
        ("both-twice", {"target_modules": ["encoder.block.0"]}),
        ("both-twice", {"target_modules": "encoder.block.1"}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_configuration_that_does_not_fit_is_refused(kind, values, tiny_t5, tmp_path):
    bare = logits(tiny_t5)
    component = KINDS[kind](tiny_t5)
    component.attach("a", seed=0)
    component.write("a", tmp_path, {})
    edit_json(tmp_path / CONFIG_FILE, **values)
    sign(tmp_path)
    with pytest.raises(ComponentError, match=CONFIG_FILE):
        component.load("b", tmp_path)
    assert component.names == ("a",)
    assert torch.equal(logits(tiny_t5), bare)
    assert not any(isinstance(module, BaseTunerLayer) for module in tiny_t5.modules())
    assert fingerprint_model(tiny_t5) == component.fingerprint


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("lora", {"use_dora": True}, r"lora_magnitude_vector.*expected float32 \[16\], found nothing"),
        ("dora", {"use_dora": False}, r"lora_magnitude_vector.*expected nothing, found float32 \[16\]"),
        ("ia3", {"target_modules": ["k", "v"], "feedforward_modules": []}, r"wo\.ia3_l.*expected nothing"),
    ],
    ids=["no magnitudes", "magnitudes", "scales"],
)
def test_a_variant_without_its_tensors_is_refused(kind, values, message, tiny_t5, tmp_path):
    bare = logits(tiny_t5)
    component = KINDS[kind](tiny_t5)
    component.attach("a", seed=0)
    component.write("a", tmp_path, {})
    edit_json(tmp_path / CONFIG_FILE, **values)
    sign(tmp_path)
    with pytest.raises(ComponentError, match=message):
        component.load("b", tmp_path)
    assert torch.equal(logits(tiny_t5), bare)


def test_variants_of_lora_live_on_one_base(build_tiny_t5, tmp_path):
    component, seen = KINDS["lora"](build_tiny_t5()), {}
    for kind in ("dora", "rslora"):
        other = KINDS[kind](build_tiny_t5())
        other.attach("a", seed=0)
        disturb(other, "a")
        other.write("a", tmp_path / kind, {})
        other.activate("a")
        seen[kind] = logits(other.model)
        component.load(kind, tmp_path / kind)
    for kind in ("dora", "rslora", "dora"):
        component.activate(kind)
        assert torch.equal(logits(component.model), seen[kind])


def test_residents_may_differ_in_rank_and_targets(build_tiny_t5, tmp_path):
    from codestrata.components.lora import build_lora
    from codestrata.settings.components import LoraSettings

    other = build_lora(build_tiny_t5(), LoraSettings(rank=3, alpha=7, targets=("k", "wi")))
    other.attach("a", seed=0)
    disturb(other, "a")
    other.write("a", tmp_path, {})
    other.activate("a")
    component = KINDS["lora"](build_tiny_t5())
    component.attach("b", seed=0)
    component.load("a", tmp_path)
    component.activate("a")
    assert torch.equal(logits(component.model), logits(other.model))


@pytest.mark.parametrize("field", ["r", "lora_alpha", "lora_dropout", "target_modules"])
def test_a_configuration_that_leaves_something_open_is_refused(field, tiny_t5, tmp_path):
    component = KINDS["lora"](tiny_t5)
    component.attach("a", seed=0)
    component.write("a", tmp_path, {})
    values = json.loads((tmp_path / CONFIG_FILE).read_text())
    del values[field]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(values))
    sign(tmp_path)
    with pytest.raises(ComponentError, match=f"{CONFIG_FILE}: {field} is missing"):
        component.load("b", tmp_path)


@every_adapter
@pytest.mark.parametrize(
    "values", [{}, {"feed_forward_proj": "gated-gelu"}, {"num_decoder_layers": 3}], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_outline_is_what_peft_builds(build, values, dtype, build_tiny_t5):
    """What a file must hold is known before anything is built, so it must be known exactly."""
    component = build(build_tiny_t5(**values).to(dtype))
    component.attach("a", seed=0)
    outlines = list(component._form.outline(component.model, component._config))
    built = {name: (own.dtype, tuple(own.shape)) for name, own in component.parameters("a").items()}
    assert {name: (dtype, shape) for name, dtype, shape in outlines} == built
    assert len(outlines) == len(built)
