"""The contract of components, every kind on every family of bases: one table."""

import copy

import pytest
import torch
from peft import PeftModel
from probing import compute_loss, disturb, generate, logits

import codestrata
from codestrata.components.hybrid import build_hybrid
from codestrata.components.ia3 import build_ia3
from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.own_layers import OwnLayersComponent
from codestrata.components.prompt import build_prompt
from codestrata.components.residents import OCCUPANT
from codestrata.components.shared_layers import build_shared_layers
from codestrata.components.weights import WeightsComponent
from codestrata.errors import ComponentError, SettingsError
from codestrata.models.fingerprints import fingerprint_model
from codestrata.settings.components import (
    HybridSettings,
    IA3Settings,
    LayersSettings,
    LoraSettings,
    OwnLayersSettings,
    PromptSettings,
    SharedLayersSettings,
)

FAMILIES = ("t5", "llama", "qwen2", "qwen3")
SHARED = SharedLayersSettings(rank=2, placement="top")
COMPONENTS = {
    "lora": lambda base: build_lora(base, LoraSettings(rank=2)),
    "dora": lambda base: build_lora(base, LoraSettings(rank=2, variant="dora")),
    "rslora": lambda base: build_lora(base, LoraSettings(rank=2, variant="rslora")),
    "ia3": lambda base: build_ia3(base, IA3Settings()),
    "layers-top": lambda base: build_layers(base, LayersSettings(placement="top")),
    "layers-between": lambda base: build_layers(base, LayersSettings(placement="interleaved:2", blocks=2)),
    "layers-random": lambda base: build_layers(base, LayersSettings(placement="top", init="scaled:0.5")),
    "hybrid-top": lambda base: build_hybrid(base, HybridSettings(rank=2, placement="top")),
    "hybrid-between": lambda base: build_hybrid(base, HybridSettings(rank=2, placement="interleaved:1")),
    "own-layers": lambda base: OwnLayersComponent(base, OwnLayersSettings(placement="top")),
    "prompt": lambda base: build_prompt(base, PromptSettings(tokens=3)),
    "shared-layers": lambda base: build_shared_layers(base, SHARED, is_kept=True),
    "shared-layers-seq": lambda base: build_shared_layers(base, SHARED, is_kept=False),
    "weights": WeightsComponent,
}
"""Name -> what builds a kind of component on a base."""
NO_IDENTITY = ("layers-random", "prompt")
"""Those whose newborn is not the base itself, as their settings ask for."""
LINKED = ("shared-layers-seq",)
"""Those whose residents change with the newest."""
PEFT_ADAPTERS = (
    "lora",
    "dora",
    "rslora",
    "ia3",
    "layers-top",
    "layers-between",
    "hybrid-top",
    "shared-layers",
)
"""Those that plain PEFT loads, once it knows our methods."""

VARIANTS = ("dora", "rslora", "layers-random", "hybrid-between")
"""Other settings of a kind that has a row already: they are looked at where there is time."""


def list_rows(names):
    """The parameters of a test that is run for these components."""
    return [pytest.param(name, marks=pytest.mark.slow if name in VARIANTS else ()) for name in names]


@pytest.fixture(params=list_rows(COMPONENTS))
def build(request):
    """What builds a component on a base, for every row of the table."""
    return COMPONENTS[request.param]


@pytest.fixture(params=FAMILIES)
def base(request, build_tiny_t5, first_tiny_decoders):
    """A tiny base of one's own, of every family."""
    if request.param == "t5":
        return build_tiny_t5(num_layers=3, num_decoder_layers=3)
    return copy.deepcopy(first_tiny_decoders[request.param])


def add(component, name, *, seed):
    """Attach a component whose weights are far from a newborn's."""
    component.attach(name, seed=seed)
    disturb(component, name, seed=seed)


def test_a_newborn_is_the_base_bit_for_bit_where_that_is_promised(build, base):
    bare = logits(base)
    component = build(base)
    component.attach("a", seed=3)
    component.activate("a")
    assert torch.equal(logits(base), bare) is (build not in [COMPONENTS[name] for name in NO_IDENTITY])
    disturb(component, "a")
    assert not torch.equal(logits(base), bare)


def test_training_reaches_every_parameter_and_detaching_gives_the_base_back(build, base):
    bare, before = logits(base), fingerprint_model(base)
    modules = dict(base.named_modules())
    component = build(base)
    add(component, "a", seed=1)
    component.activate("a")
    parameters = component.parameters("a")
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    base.train()
    compute_loss(base).backward()
    optimizer.step()
    base.eval()
    # A bias of keys adds the same to all scores of a query, which softmax does not see.
    unmoved = {name for name in start if torch.equal(parameters[name], start[name])}
    assert all(name.endswith("k_proj.bias") for name in unmoved)
    component.detach("a")
    assert torch.equal(logits(base), bare)
    assert component.fingerprint == fingerprint_model(base) == before
    assert dict(base.named_modules()) == modules
    assert not hasattr(base, OCCUPANT)


def test_names_and_kinds_swap_on_one_base(base):
    bare = logits(base)
    kinds = {kind: build(base) for kind, build in COMPONENTS.items() if kind not in LINKED}
    seen = {}
    for number, (kind, component) in enumerate(kinds.items()):
        for name in ("python", "lua"):
            add(component, name, seed=number if name == "lua" else number + 50)
            component.activate(name)
            seen[kind, name] = logits(base)
    told_apart = {tuple(found.flatten().tolist()) for found in seen.values()}
    assert len(told_apart) == len(seen)
    order = [*seen][::3] + [*seen][::-1]
    for kind, name in order:
        kinds[kind].activate(name)
        assert torch.equal(logits(base), seen[kind, name]), kind
        assert [other for other, component in kinds.items() if component.active is not None] == [kind]
    kinds[order[-1][0]].deactivate()
    assert torch.equal(logits(base), bare)
    kinds["layers-between"].activate("lua")
    kinds["weights"].detach("lua")
    assert torch.equal(logits(base), seen["layers-between", "lua"])


def test_written_and_read_again_it_is_the_same_function(build, base, tmp_path):
    other = copy.deepcopy(base)
    component = build(base)
    add(component, "a", seed=4)
    component.activate("a")
    component.write("a", tmp_path, {"task": "python"})
    again = build(other)
    again.load("b", tmp_path)
    again.activate("b")
    assert torch.equal(logits(other), logits(base))
    assert list(again.parameters("b")) == list(component.parameters("a"))


def test_another_base_refuses_it_unchanged(build, base, tmp_path):
    component = build(base)
    component.attach("a", seed=0)
    component.write("a", tmp_path, {})
    with torch.no_grad():
        other = copy.deepcopy(base)
        other.get_input_embeddings().weight[3, 3] += 1
    bare = logits(other)
    elsewhere = build(other)
    with pytest.raises(ComponentError, match=r"base_fingerprint .*trained on another base"):
        elsewhere.load("a", tmp_path)
    assert elsewhere.names == ()
    assert torch.equal(logits(other), bare)


def test_the_cache_changes_no_token(build, base):
    component = build(base)
    add(component, "a", seed=5)
    bare = generate(base)
    component.activate("a")
    tokens = generate(base)
    assert tokens == generate(base, use_cache=False)
    assert tokens != bare


@pytest.mark.parametrize("kind", list_rows(PEFT_ADAPTERS))
def test_plain_peft_loads_a_folder(kind, base, tmp_path):
    codestrata.register_with_peft()
    other = copy.deepcopy(base)
    component = COMPONENTS[kind](base)
    add(component, "a", seed=6)
    component.write("a", tmp_path, {})
    component.activate("a")
    theirs = PeftModel.from_pretrained(other, tmp_path).eval()
    assert torch.equal(logits(theirs), logits(base))
    assert generate(theirs) == generate(base)


@pytest.mark.parametrize("placement", ["encoder-top", "both"])
@pytest.mark.parametrize("model_type", FAMILIES[1:])
def test_a_decoder_alone_refuses_an_encoders_top(placement, model_type, first_tiny_decoders):
    base = copy.deepcopy(first_tiny_decoders[model_type])
    for build in (
        lambda: build_layers(base, LayersSettings(placement=placement)),
        lambda: build_hybrid(base, HybridSettings(placement=placement)),
        lambda: OwnLayersComponent(base, OwnLayersSettings(placement=placement)),
    ):
        with pytest.raises(SettingsError, match=r'no encoder\. It is made of a decoder alone: use "top"'):
            build()


@pytest.mark.parametrize("model_type", FAMILIES[1:])
def test_top_and_decoder_top_are_one_place_in_a_decoder_alone(model_type, first_tiny_decoders):
    names = []
    for placement in ("top", "decoder-top"):
        component = build_layers(
            copy.deepcopy(first_tiny_decoders[model_type]), LayersSettings(placement=placement)
        )
        component.attach("a", seed=0)
        names.append(list(component.parameters("a")))
    assert names[0] == names[1]


@pytest.mark.parametrize("placement", ["top", "interleaved:1"])
@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=["greedy", "beams"])
@pytest.mark.parametrize("cache", [None, "static"])
def test_new_blocks_beside_blocks_that_see_near_tokens_only(placement, options, cache, build_tiny_decoder):
    kinds = ["full_attention", "sliding_attention", "sliding_attention"]
    base = build_tiny_decoder("qwen2", layer_types=kinds, use_sliding_window=True, sliding_window=4)
    component = build_layers(base, LayersSettings(placement=placement))
    add(component, "a", seed=0)
    component.activate("a")
    wanted = generate(base, use_cache=False, **options)
    assert generate(base, cache_implementation=cache, **options) == wanted
