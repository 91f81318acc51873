import json

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from probing import ADAPTERS, KINDS, disturb, edit_json, generate, logits

from codestrata.components.adapters import CONFIG_FILE, TENSORS_FILE
from codestrata.errors import ComponentError

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
    assert list(component.parameters("a")) == list(get_peft_model_state_dict(theirs))
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


@pytest.mark.parametrize("order", [("lora", "both-twice"), ("both-twice", "lora")], ids=" then ".join)
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
        assert not any(".base_layer" in name for name in component.parameters("python"))
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
        ("lora", {"target_modules": ["nothing"]}),
        ("lora", {"target_modules": 7}),
        ("both-twice", {"placement": "sideways"}),
        ("both-twice", {"placement": "interleaved:9"}),
        ("both-twice", {"blocks": "two"}),
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_is_refused(kind, values, tiny_t5, tmp_path):
    bare = logits(tiny_t5)
    component = KINDS[kind](tiny_t5)
    component.attach("a", seed=0)
    component.write("a", tmp_path, {})
    edit_json(tmp_path / CONFIG_FILE, **values)
    with pytest.raises(ComponentError, match=CONFIG_FILE):
        component.load("b", tmp_path)
    assert component.names == ("a",)
    assert torch.equal(logits(tiny_t5), bare)
    assert not any(isinstance(module, BaseTunerLayer) for module in tiny_t5.modules())


def test_residents_may_differ_in_rank_and_targets(build_tiny_t5, tmp_path):
    from codestrata.components.lora import build_lora
    from codestrata.settings import LoraSettings

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
