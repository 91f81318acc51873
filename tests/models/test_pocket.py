import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codestrata.data.kata.problems import build_example, choose_problems
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import count_parameters
from codestrata.models.pocket import (
    END,
    PAD,
    SENTINELS,
    VOCABULARY,
    build_model,
    build_tokenizer,
    find_pocket,
)

LARGEST_MIB = 8


def list_kata_texts(problems):
    chosen = choose_problems(0, {"train": problems})["train"]
    examples = [
        build_example(problem, language) for problem in chosen for language in ("python", "lua", "pivot")
    ]
    return [text for example in examples for text in (example.prompt, example.target)]


@pytest.fixture(scope="module")
def texts():
    return list_kata_texts(60)


@pytest.fixture(scope="module")
def tokenizer(texts):
    return build_tokenizer(texts)


def round_trip(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@given(text=st.text())
def test_every_string_round_trips(tokenizer, text):
    assert round_trip(tokenizer, text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  \n\n   x\t\r\n 12  345 ",
        "\uff45\u0301\u0000\U0001f600 ½ ١٢ ",
        "a <b> </c> don't . , n't 's",
    ],
)
def test_odd_strings_round_trip(text, tokenizer):
    assert round_trip(tokenizer, text) == text


def test_texts_of_kata_round_trip_and_are_compressed(tokenizer, texts):
    assert [text for text in texts if round_trip(tokenizer, text) != text] == []
    tokens = sum(len(ids) for ids in tokenizer(texts)["input_ids"])
    assert sum(map(len, texts)) / tokens > 3


def test_a_target_round_trips_as_decoding_does_it(tokenizer, texts):
    """``generation`` skips special tokens; nothing of a program may be lost by that."""
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_the_vocabulary_has_at_most_1024_tokens_and_all_bytes(tokenizer):
    assert len(tokenizer) == VOCABULARY == 1024
    assert len(build_tokenizer(["a"])) <= 1024
    assert round_trip(build_tokenizer(["a"]), "日本語 xyz") == "日本語 xyz"
    assert max(tokenizer.get_vocab().values()) < 1024


def test_special_tokens(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
    assert tokenizer("x")["input_ids"][-1] == 1
    assert tokenizer("x")["input_ids"].count(1) == 1
    for sentinel in SENTINELS:
        (token,) = tokenizer(sentinel, add_special_tokens=False)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(token) == sentinel
        assert token < 1024
    assert tokenizer(f"a{SENTINELS[3]}\n b", add_special_tokens=False)["input_ids"].count(6) == 1
    assert {PAD, END} <= set(tokenizer.get_vocab())


def test_numbers_and_lines_are_token_borders(tokenizer):
    for token in tokenizer.get_vocab():
        spelled = token.replace("Ġ", " ").replace("Ċ", "\n")
        if token in (*SENTINELS, PAD, END):
            continue
        assert spelled.find("\n") <= 0, token
        assert not (any(map(str.isdigit, spelled)) and any(map(str.isalpha, spelled))), token


def test_the_same_texts_give_the_same_tokenizer(texts, tokenizer):
    assert build_tokenizer(texts).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_a_stored_tokenizer_is_the_same(tokenizer, texts, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert (loaded.pad_token_id, loaded.eos_token_id, len(loaded)) == (0, 1, len(tokenizer))


def build_seeded(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(VOCABULARY)


def test_the_model_has_its_size():
    model = build_seeded(0)
    assert 1_400_000 < count_parameters(model) < 4_000_000
    assert 4 * count_parameters(model) < LARGEST_MIB * 2**20
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 1)
    assert model.config.decoder_start_token_id == 0
    assert model.shared.weight is model.lm_head.weight


def test_the_model_is_drawn_from_torchs_generator():
    assert fingerprint_model(build_seeded(0)) == fingerprint_model(build_seeded(0))
    assert fingerprint_model(build_seeded(0)) != fingerprint_model(build_seeded(1))


def test_a_newborn_answers_something():
    model = build_seeded(0).eval()
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[5, 6, 1]]), decoder_input_ids=torch.tensor([[0, 7]])).logits
    assert logits.shape == (1, 2, VOCABULARY)
    assert torch.isfinite(logits).all()


@pytest.fixture
def pocket():
    return find_pocket()


def test_the_shipped_base_is_the_one_its_log_tells_of(pocket):
    from codestrata.models.loading import load_base
    from codestrata.settings.sections import BaseSettings

    log = json.loads((pocket / "pretraining.json").read_text(encoding="utf-8"))
    base = load_base(BaseSettings(name="pocket"), torch.device("cpu"))
    assert base.fingerprint == log["base_fingerprint"]
    assert count_parameters(base.model) == log["parameters"]
    assert 1_400_000 < log["parameters"] < 4_000_000
    assert len(base.tokenizer) <= 1024
    assert (pocket / "model.safetensors").stat().st_size <= LARGEST_MIB * 2**20
