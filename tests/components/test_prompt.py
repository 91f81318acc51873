import copy
import json

import pytest
import torch
from peft import PeftModel
from probing import LEFT_PADDED, MASK, PROMPTS, disturb, edit_json, generate, logits, sign
from transformers import T5Config, T5ForConditionalGeneration

from codestrata.components.prompt import EMBEDDINGS, build_prompt, build_prompt_config
from codestrata.data.batches import EncodedExample
from codestrata.engine.decoding import can_decode, decode_greedily
from codestrata.engine.generation import decode_by_transformers
from codestrata.engine.prefixes import find_prefix
from codestrata.errors import ComponentError, SettingsError
from codestrata.exporting.plain import build_plain_model
from codestrata.models.virtual import count_virtual_tokens
from codestrata.progress import Silence
from codestrata.settings.components import PromptSettings
from codestrata.settings.sections import DecodingSettings, TrainingSettings
from codestrata.training import fit

TOKENS = 5
CPU = torch.device("cpu")
LENGTHS = (2, 3, 3, 5, 8, 13, 17, 2)


class Tokenizer:
    """Every word is a token: its length."""

    def __call__(self, text, *, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [len(word) for word in text.split()]}


def build(base, name="a", *, seed=0, **values):
    component = build_prompt(base, PromptSettings(tokens=TOKENS, **values), tokenizer=Tokenizer())
    component.attach(name, seed=seed)
    return component


def list_prompts():
    """The fixed prompts without padding."""
    return [row[kept.bool()] for row, kept in zip(PROMPTS, MASK, strict=True)]


def test_parameters_at_the_size_of_codet5_small():
    config = T5Config(vocab_size=32100, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)
    with torch.device("meta"):
        component = build_prompt(
            T5ForConditionalGeneration(config), PromptSettings(), fingerprint="not computed"
        )
        component.attach("a", seed=0)
    assert [parameter.numel() for parameter in component.parameters("a").values()] == [20 * 512]


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_peft_answers_the_same(options, build_tiny_t5, tmp_path):
    component = build(build_tiny_t5())
    disturb(component, "a")
    component.write("a", tmp_path, {})
    component.activate("a")
    theirs = PeftModel.from_pretrained(build_tiny_t5(), tmp_path).eval()
    assert torch.equal(logits(theirs), logits(component.model))
    assert generate(theirs, **options) == generate(component.model, **options)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_our_decoder_says_the_tokens_of_pefts_generate_one_by_one(batch_size, build_tiny_t5, tmp_path):
    base = build_tiny_t5(seed=4)
    prompts = [list(range(3, 3 + length)) for length in (9, 1, 4, 12, 2, 7)]
    component = build(base)
    disturb(component, "a", seed=2)
    component.write("a", tmp_path, {})
    theirs = PeftModel.from_pretrained(build_tiny_t5(seed=4), tmp_path).eval()
    wanted = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        said = theirs.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False
        )
        wanted.append(said[0, 1:].tolist())
    component.activate("a")
    assert can_decode(base)
    limits = {"max_new_tokens": 9, "precision": "fp32", "device": torch.device("cpu")}
    found = decode_greedily(base, prompts, batch_size=batch_size, **limits)
    assert found == wanted
    component.deactivate()
    assert decode_greedily(base, prompts, batch_size=batch_size, **limits) != wanted


def test_a_step_of_training_is_that_of_peft(build_tiny_t5, tmp_path):
    """One step of plain gradient descent by PEFT's own loss gives AdamW's first step its signs."""
    base = build_tiny_t5()
    component = build(base)
    component.write("a", tmp_path, {})
    theirs = PeftModel.from_pretrained(build_tiny_t5(), tmp_path).eval()
    theirs.prompt_encoder.requires_grad_(True)
    prompts = [ids.tolist() for ids in list_prompts()]
    rows = [
        EncodedExample(identifier=str(number), prompt_ids=prompt, target_ids=[7, 30, 1])
        for number, prompt in enumerate(prompts)
    ]
    targets = torch.tensor([[7, 30, 1]] * 2)
    theirs(input_ids=PROMPTS, attention_mask=MASK, labels=targets).loss.backward()
    before = component.parameters("a")[EMBEDDINGS].detach().clone()
    log = fit(
        component,
        "a",
        rows,
        TrainingSettings(steps=1, batch_size=2, weight_decay=0.0, precision="fp32"),
        learning_rate=0.01,
        seed=0,
        pad_id=0,
        device=torch.device("cpu"),
        progress=Silence(),
    )
    moved = component.parameters("a")[EMBEDDINGS].detach() - before
    gradient = theirs.prompt_encoder["default"].embedding.weight.grad
    assert torch.equal(moved.sign(), -gradient.sign())
    assert log.states is None


def test_nothing_below_virtual_tokens_counts_as_frozen(tiny_t5):
    component = build(tiny_t5)
    assert find_prefix(tiny_t5) is not None
    component.activate("a")
    assert find_prefix(tiny_t5) is None
    assert count_virtual_tokens(tiny_t5) == TOKENS
    component.deactivate()
    assert count_virtual_tokens(tiny_t5) == 0


def test_births(tiny_t5):
    words = tiny_t5.get_input_embeddings().weight
    rows = {
        init: build(tiny_t5, init=init, text="to be or" if init == "text" else None)
        .parameters("a")[EMBEDDINGS]
        .detach()
        for init in ("vocabulary", "random", "text")
    }
    assert all(any(torch.equal(row, word) for word in words) for row in rows["vocabulary"])
    assert not any(torch.equal(row, word) for row in rows["random"] for word in words)
    assert torch.equal(rows["text"], words[[2, 2, 2, 2, 2]])
    cut = build(tiny_t5, init="text", text="a bb ccc dddd eeeee ffffff ggggggg").parameters("a")[EMBEDDINGS]
    assert torch.equal(cut, words[[1, 2, 3, 4, 5]])
    repeated = build(tiny_t5, init="text", text="a bb").parameters("a")[EMBEDDINGS]
    assert torch.equal(repeated, words[[1, 2, 1, 2, 1]])


def test_the_seed_decides_the_draws(tiny_t5):
    first, again, other = (build(tiny_t5, seed=seed).parameters("a")[EMBEDDINGS] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"tokens": 0}, "prompt.tokens is 0"),
        ({"init": "text"}, "needs a text that is not blank"),
        ({"init": "text", "text": " "}, "needs a text that is not blank"),
        ({"text": "write code"}, "the others take none"),
        ({"learning_rate": 0}, "prompt.learning_rate is 0"),
    ],
)
def test_settings_that_make_no_sense(values, named):
    with pytest.raises(SettingsError, match=named):
        PromptSettings(**values)


def test_a_text_without_tokens(tiny_t5):
    def nothing(text, *, add_special_tokens):
        return {"input_ids": []}

    with pytest.raises(SettingsError, match="has no tokens: use another text"):
        build_prompt(tiny_t5, PromptSettings(init="text", text="?"), tokenizer=nothing)


def test_settings_reach_peft(tiny_t5):
    config = build_prompt_config(PromptSettings(tokens=7, init="random"), tiny_t5)
    assert (config.num_virtual_tokens, config.token_dim, config.num_transformer_submodules) == (7, 16, 1)
    assert config.prompt_tuning_init == "RANDOM"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_virtual_tokens": 6}, "expected float32 \\[6, 16\\], found float32 \\[5, 16\\]"),
        ({"num_virtual_tokens": 0}, "prompt.tokens is 0"),
        ({"prompt_tuning_init": "TEXT"}, "Unknown prompt_tuning_init 'TEXT'"),
        ({"num_transformer_submodules": 2}, "num_transformer_submodules"),
        ({"token_dim": 8}, "token_dim"),
        ({"tokenizer_kwargs": {"trust_remote_code": True}}, "tokenizer_kwargs"),
    ],
)
def test_folders_of_strangers_that_are_refused(change, named, tiny_t5, tmp_path):
    component = build(tiny_t5)
    component.write("a", tmp_path, {})
    edit_json(tmp_path / "adapter_config.json", **change)
    sign(tmp_path)
    with pytest.raises(ComponentError, match=named):
        component.load("b", tmp_path)
    assert component.names == ("a",)


def test_residents_may_differ_in_how_many_tokens_they_have(build_tiny_t5, tmp_path):
    base = build_tiny_t5()
    build(base).write("a", tmp_path, {})
    other = build_prompt(base, PromptSettings(tokens=2))
    other.attach("short", seed=0)
    other.load("long", tmp_path)
    for name, count in (("short", 2), ("long", TOKENS), ("short", 2)):
        other.activate(name)
        assert count_virtual_tokens(base) == count
    assert json.loads((tmp_path / "adapter_config.json").read_text())["num_virtual_tokens"] == TOKENS


@pytest.mark.parametrize("options", [{}, {"beams": 2}], ids=["greedy", "beams"])
def test_windows_do_not_show_who_is_answered_beside_a_prompt(options, build_tiny_decoder):
    """Padding would stand between virtual tokens and prompt, and windows count columns."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    base = build_tiny_decoder("qwen2", layer_types=kinds, use_sliding_window=True, sliding_window=8)
    component = build(base)
    disturb(component, "a")
    component.activate("a")
    rows = [[3 + (5 * row + place) % 60 for place in range(length)] for row, length in enumerate(LENGTHS)]
    together, alone = (
        decode_by_transformers(
            base, rows, DecodingSettings(max_new_tokens=10, batch_size=size, **options), CPU, ends={1}
        )
        for size in (8, 1)
    )
    assert [cut(answer) for answer in together] == [cut(answer) for answer in alone]
    assert len(set(map(tuple, alone))) > 4


def cut(answer):
    """An answer without what fills its row up after its end."""
    return answer[: answer.index(1)] if 1 in answer else answer


def test_a_copy_of_the_model_computes_the_same_and_leaves_the_original_alone(tiny_t5):
    component = build(tiny_t5)
    component.activate("a")
    twin, seen = copy.deepcopy(tiny_t5), logits(tiny_t5)
    assert torch.equal(logits(twin), seen)
    with torch.no_grad():
        component.parameters("a")[EMBEDDINGS].zero_()
    assert torch.equal(logits(twin), seen)
    assert not torch.equal(logits(tiny_t5), seen)


def test_a_base_in_half_precision(tiny_t5):
    base = tiny_t5.to(torch.bfloat16)
    component = build(base)
    bare = logits(base)
    component.activate("a")
    assert component.parameters("a")[EMBEDDINGS].dtype == torch.float32
    assert logits(base).dtype == torch.bfloat16
    component.deactivate()
    assert torch.equal(logits(base), bare)


def test_no_plain_checkpoint_has_a_place_for_them(tiny_t5):
    build(tiny_t5).activate("a")
    with pytest.raises(ComponentError, match=r"no place for them in a plain checkpoint\. Use --format peft"):
        build_plain_model(tiny_t5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_decoder_alone_answers_as_peft_does_one_by_one(family, first_tiny_decoders, tmp_path):
    base = copy.deepcopy(first_tiny_decoders[family])
    component = build(base)
    disturb(component, "a")
    component.write("a", tmp_path, {})
    component.activate("a")
    theirs = PeftModel.from_pretrained(copy.deepcopy(first_tiny_decoders[family]), tmp_path).eval()
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "pad_token_id": 0, "do_sample": False}
    padded = base.generate(**LEFT_PADDED, **options)[:, -8:].tolist()
    for row, kept, batched in zip(*LEFT_PADDED.values(), padded, strict=True):
        ids = row[kept.bool()][None]
        ones = torch.ones_like(ids)
        with torch.inference_mode():
            wanted = theirs(input_ids=ids, attention_mask=ones).logits[:, TOKENS:]
            assert torch.equal(base(input_ids=ids, attention_mask=ones).logits, wanted)
            assert torch.equal(base(input_ids=ids).logits, wanted)
        with pytest.warns(UserWarning, match="Position ids are not supported"):
            said = theirs.generate(input_ids=ids, attention_mask=ones, **options)
        assert base.generate(input_ids=ids, attention_mask=ones, **options).tolist() == said.tolist()
        assert batched == said[0, -8:].tolist()
