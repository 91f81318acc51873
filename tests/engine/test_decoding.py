import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from codestrata.components.hybrid import build_hybrid
from codestrata.components.ia3 import build_ia3
from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.own_layers import OwnLayersComponent
from codestrata.components.weights import WeightsComponent
from codestrata.data.batches import pad_rows
from codestrata.data.kata.problems import load_kata
from codestrata.data.tokens import encode_texts
from codestrata.engine import decoding
from codestrata.engine.decoding import Decoding, decode_greedily
from codestrata.models import causal
from codestrata.models.loading import load_base
from codestrata.settings.components import (
    HybridSettings,
    IA3Settings,
    LayersSettings,
    LoraSettings,
    OwnLayersSettings,
)
from codestrata.settings.sections import BaseSettings
from codestrata.settings.tasks import TaskSettings

CPU = torch.device("cpu")
LENGTHS = (1, 2, 3, 5, 8, 13, 21)


def decode(model, rows, *, limit=20, batch_size=5, precision="fp32", report=None):
    return decode_greedily(
        model,
        rows,
        batch_size=batch_size,
        max_new_tokens=limit,
        precision=precision,
        device=CPU,
        report=report,
    )


def decode_by_transformers(model, rows, *, limit=20):
    """All rows in one batch of ``generate``, each cut after its end token."""
    ids = pad_rows(rows, 0)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    config = GenerationConfig(
        max_new_tokens=limit, do_sample=False, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1
    )
    # A cache of its own: the one that transformers makes has as many layers as the encoder.
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    found = model.generate(
        input_ids=ids, attention_mask=mask.long(), past_key_values=cache, generation_config=config
    )
    return [row[: row.index(1) + 1] if 1 in row else row for row in found[:, 1:].tolist()]


def make_rows(count, *, seed=0, vocabulary=64):
    rng = random.Random(seed)
    return [
        [*(rng.randrange(2, vocabulary) for _ in range(LENGTHS[number % len(LENGTHS)] - 1)), 1]
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def build_talker(build_tiny_t5):
    """Makes a T5 that says different things to different prompts and ends at different times."""

    def build(*, seed=0, end=1.5, tied=False, **values):
        model = build_tiny_t5(seed=seed, **values)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3) if parameter.dim() == 2 else parameter.mul_(
                    1 + 0.3 * torch.randn(parameter.shape, generator=generator)
                )
            if not tied:
                model.lm_head.weight = nn.Parameter(
                    torch.randn(model.lm_head.weight.shape, generator=generator)
                )
                model.lm_head.weight[1] *= end
        return model

    return build


@pytest.fixture(scope="module")
def talker(build_talker):
    return build_talker(num_decoder_layers=3)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"tied": True},
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        {"num_layers": 1, "num_decoder_layers": 3, "num_heads": 2},
        {"num_layers": 3, "num_decoder_layers": 1, "relative_attention_num_buckets": 8},
    ],
    ids=["plain", "tied", "gated", "deeper decoder", "shallower decoder"],
)
def test_tokens_are_those_of_transformers(seed, values, build_talker):
    model = build_talker(seed=seed, **values)
    rows = make_rows(17, seed=seed)
    assert decode(model, rows, limit=40) == decode_by_transformers(model, rows, limit=40)


def test_answers_differ_and_end_at_different_times(build_talker):
    answers = [
        tuple(answer)
        for seed in range(4)
        for answer in decode(build_talker(seed=seed), make_rows(17, seed=seed), limit=40)
    ]
    lengths = {len(answer) for answer in answers}
    assert len(set(answers)) > 20
    assert len(lengths) > 8
    assert {1, 40} <= lengths


COMPONENTS = {
    "lora": lambda model: build_lora(model, LoraSettings(rank=2, alpha=4.0, dropout=0.5)),
    "dora": lambda model: build_lora(model, LoraSettings(variant="dora", rank=2, alpha=4.0, dropout=0.5)),
    "rslora": lambda model: build_lora(model, LoraSettings(variant="rslora", rank=2, alpha=4.0)),
    "hybrid": lambda model: build_hybrid(
        model, HybridSettings(rank=2, placement="both", blocks=2, init="scaled:1.5", dropout=0.5)
    ),
    "ia3": lambda model: build_ia3(model, IA3Settings()),
    "own-layers": lambda model: OwnLayersComponent(model, OwnLayersSettings(placement="both")),
    "weights": WeightsComponent,
    **{
        placement: (
            lambda model, placement=placement: build_layers(
                model, LayersSettings(placement=placement, blocks=2, init="scaled:1.5")
            )
        )
        for placement in ("encoder-top", "decoder-top", "both", "interleaved:1")
    },
}


@pytest.mark.parametrize("kind", COMPONENTS)
def test_tokens_are_those_of_transformers_with_a_component(kind, build_talker):
    model, rows = build_talker(), make_rows(11)
    bare = decode(model, rows)
    component = COMPONENTS[kind](model)
    component.attach("a", seed=0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in component.parameters("a").values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    component.activate("a")
    found = decode(model, rows)
    assert found == decode_by_transformers(model, rows)
    assert found != bare
    component.deactivate()
    assert decode(model, rows) == bare


def test_the_pocket_base_answers_as_with_transformers():
    base = load_base(BaseSettings(name="pocket"), CPU)
    task = load_kata(TaskSettings(name="lua", train_examples=1, validation_examples=0, test_examples=24))
    rows = encode_texts([example.prompt for example in task.test], base.tokenizer)
    found = decode(base.model, rows, limit=64, batch_size=9)
    assert found == decode_by_transformers(base.model, rows, limit=64)
    assert len({len(answer) for answer in found}) > 3


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 14),
    batch_size=st.integers(1, 16),
    limit=st.integers(1, 30),
    share=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_tokens_do_not_depend_on_places(talker, count, batch_size, limit, share, seed):
    rows = random.Random(seed).sample(make_rows(14), count)
    expected = decode_by_transformers(talker, rows, limit=limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "FREE_SHARE", share)
        assert decode(talker, rows, limit=limit, batch_size=batch_size) == expected


def test_answers_longer_than_memory_grows_at_once(build_talker):
    model, rows = build_talker(end=0.0), make_rows(9)
    found = decode(model, rows, limit=150, batch_size=4)
    assert {len(answer) for answer in found} == {150}
    assert found == decode_by_transformers(model, rows, limit=150)


def test_all_rows_end_at_once(build_talker):
    model, rows = build_talker(), make_rows(7)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # all tokens are equally likely: the first is said
    assert decode(model, rows, limit=3) == [[0, 0, 0]] * 7
    model.config.eos_token_id = 0
    assert decode(model, rows, limit=3) == [[0]] * 7


def test_one_token_and_no_rows(talker):
    rows = make_rows(7)
    assert decode(talker, rows, limit=1) == decode_by_transformers(talker, rows, limit=1)
    assert decode(talker, []) == []


def test_decoding_again_gives_the_same_bits(talker, monkeypatch):
    bits = []
    step = decoding.T5Steps.step

    def spy(steps, tokens):
        bits[-1].append(step(steps, tokens))
        return bits[-1][-1]

    monkeypatch.setattr(decoding.T5Steps, "step", spy)
    for seed in (1, 2):
        torch.manual_seed(seed)
        bits.append([])
        decode(talker, make_rows(13))
    assert len(bits[0]) == len(bits[1]) > 20
    assert all(torch.equal(one, other) for one, other in zip(*bits, strict=True))


def test_places_are_filled_again_and_given_up(talker, monkeypatch):
    sizes, admitted = [], []
    step, admit = decoding.T5Steps.step, decoding.T5Steps.admit
    monkeypatch.setattr(
        decoding.T5Steps, "step", lambda steps, tokens: sizes.append(len(tokens)) or step(steps, tokens)
    )

    def spy(steps, rows, states, lengths):
        admitted.append(lengths)
        admit(steps, rows, states, lengths)

    monkeypatch.setattr(decoding.T5Steps, "admit", spy)
    rows = make_rows(30)
    found = decode(talker, rows, batch_size=8)
    lengths = [length for group in admitted for length in group]
    assert lengths == sorted((len(row) for row in rows), reverse=True)
    assert len(admitted[0]) == 8
    assert len(admitted) > 3
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 8 > sizes[-1]
    assert sum(sizes) < 1.25 * sum(map(len, found))


def test_long_prompts_leave_fewer_places_until_they_are_done(talker, monkeypatch):
    monkeypatch.setattr(decoding, "PROMPT_TOKENS_AT_ONCE", 24)
    shapes = []
    step = decoding.T5Steps.step

    def spy(steps, tokens):
        shapes.append((len(tokens), steps.cross_B2HSK[0].shape[3]))
        return step(steps, tokens)

    monkeypatch.setattr(decoding.T5Steps, "step", spy)
    rows = make_rows(21)
    assert decode(talker, rows, batch_size=16) == decode_by_transformers(talker, rows)
    assert shapes[0] == (1, 21)
    assert max(count for count, _ in shapes) > 3
    assert all(count == 1 or count * length <= 24 for count, length in shapes)


def test_watchers_hear_how_many_answers_are_complete(talker):
    reports = []
    decode(talker, make_rows(12), report=reports.append)
    assert reports == sorted(set(reports))
    assert reports[-1] == 12


def test_bf16_answers_mostly_as_fp32(talker):
    rows = make_rows(20)
    exact, rounded = decode(talker, rows, limit=4), decode(talker, rows, limit=4, precision="bf16")
    assert sum(one == other for one, other in zip(exact, rounded, strict=True)) > 10
    made = Decoding(talker, rows, batch_size=4, max_new_tokens=4, dtype=torch.bfloat16, device=CPU)
    assert {memory.dtype for memory in made.steps.own_B2HLK} == {torch.bfloat16}


def decode_alone(model, row, *, limit, ends=1):
    """The answer to one prompt by ``generate`` of a decoder-only model, without padding."""
    config = GenerationConfig(max_new_tokens=limit, do_sample=False, pad_token_id=0, eos_token_id=ends)
    ids = torch.tensor([row])
    found = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config, use_cache=True
    )
    return found[0, len(row) :].tolist()


CAUSAL_COMPONENTS = {
    "bare": None,
    "lora": COMPONENTS["lora"],
    "top": lambda model: build_layers(model, LayersSettings(placement="top", blocks=2, init="scaled:1.5")),
    "interleaved:1": COMPONENTS["interleaved:1"],
    "hybrid": lambda model: build_hybrid(
        model, HybridSettings(rank=2, placement="top", blocks=2, init="scaled:1.5", dropout=0.5)
    ),
    "ia3": COMPONENTS["ia3"],
    "weights": WeightsComponent,
}


def make_prompts(count, *, seed=0):
    """Prompts of uneven lengths for a decoder-only model: none of their tokens is an end."""
    return [[token if token > 1 else 2 for token in row] for row in make_rows(count, seed=seed)]


def build_causal(build, model_type, kind, *, seed=0):
    """A decoder-only model with a component that changes what it says, and whose answers may end."""
    model = build(model_type, seed=seed)
    with torch.no_grad():
        model.lm_head.weight[1] *= 1.3
    if CAUSAL_COMPONENTS[kind] is not None:
        component = CAUSAL_COMPONENTS[kind](model)
        component.attach("a", seed=0)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in component.parameters("a").values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        component.activate("a")
    return model


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        *(("llama", kind) for kind in CAUSAL_COMPONENTS),
        *((other, kind) for other in ("qwen2", "qwen3") for kind in ("bare", "lora", "interleaved:1")),
    ],
)
def test_a_decoders_tokens_are_those_of_each_prompt_alone(model_type, kind, build_tiny_decoder):
    model, rows = build_causal(build_tiny_decoder, model_type, kind), make_prompts(9)
    alone = [decode_alone(model, row, limit=12) for row in rows]
    assert len(set(map(tuple, alone))) > 4
    assert decode(model, rows, limit=12, batch_size=4) == alone
    assert decode(model, rows[::-1], limit=12, batch_size=64) == alone[::-1]


@settings(max_examples=6, deadline=None)
@given(
    count=st.integers(1, 14),
    batch_size=st.integers(1, 16),
    limit=st.integers(1, 12),
    share=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_a_decoders_tokens_do_not_depend_on_places(
    first_tiny_decoders, count, batch_size, limit, share, seed
):
    model = first_tiny_decoders["llama"]
    rows = random.Random(seed).sample(make_prompts(14), count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "FREE_SHARE", share)
        found = decode(model, rows, limit=limit, batch_size=batch_size)
        patch.setattr(decoding, "PROMPT_TOKENS_AT_ONCE", 24)
        patch.setattr(causal, "COLUMNS_AT_ONCE", 3)
        assert decode(model, rows, limit=limit, batch_size=batch_size) == found
    assert decode(model, rows, limit=limit, batch_size=1) == found


def test_a_decoders_answers_end_at_different_times(build_tiny_decoder):
    answers = [
        answer
        for seed in range(3)
        for answer in decode(
            build_causal(build_tiny_decoder, "llama", "bare", seed=seed), make_prompts(14), limit=30
        )
    ]
    assert len({len(answer) for answer in answers}) > 6
    assert {answer[-1] == 1 for answer in answers} == {True, False}
    assert all(1 not in answer[:-1] for answer in answers)


def test_several_tokens_may_end_an_answer(build_tiny_decoder):
    model, rows = build_causal(build_tiny_decoder, "llama", "bare"), make_prompts(9)
    whole = decode(model, rows, limit=20)
    common = max(range(2, 64), key=[token for answer in whole for token in answer].count)
    model.config.eos_token_id = [1, common]
    found = decode(model, rows, limit=20)
    assert found == [decode_alone(model, row, limit=20, ends=[1, common]) for row in rows]
    assert sum(map(len, found)) < sum(map(len, whole))
