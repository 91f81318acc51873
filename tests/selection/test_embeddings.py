"""Prompts as vectors of the base's states: padding and batches leave them alone."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from codestrata.selection.embeddings import cut_batches, embed_prompts

CPU = torch.device("cpu")
PROMPTS = ["add 1 to xs", "f", "take only the characters that are uppercase, return them", "add 2 to xs", ""]


@pytest.fixture(params=["t5", "llama"])
def base(request, tiny_base_folder, tiny_llama_folder):
    """A tiny model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    if request.param == "t5":
        model = AutoModelForSeq2SeqLM.from_pretrained(tiny_base_folder)
        return model.eval(), AutoTokenizer.from_pretrained(tiny_base_folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_folder)
    return model.eval(), AutoTokenizer.from_pretrained(tiny_llama_folder)


def read_states(model, ids):
    with torch.inference_mode():
        if model.config.is_encoder_decoder:
            return model.encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
        return model.model(input_ids=torch.tensor([ids])).last_hidden_state[0]


def test_a_vector_is_the_mean_of_the_states_of_its_prompt_alone(base):
    from codestrata.engine.generation import read_prompts

    model, tokenizer = base
    found = embed_prompts(model, tokenizer, PROMPTS, max_prompt_tokens=4, device=CPU)
    rows = read_prompts(model, tokenizer, PROMPTS, 4)
    assert {4} < {len(row) for row in rows}  # some are cut, others are padded
    wanted = np.stack([read_states(model, row).double().mean(0).numpy() for row in rows])
    assert found == pytest.approx(wanted, abs=1e-5)
    assert not np.allclose(found[0], found[1])


def test_batches_change_last_bits_alone(base):
    model, tokenizer = base
    together = embed_prompts(model, tokenizer, PROMPTS, max_prompt_tokens=64, device=CPU)
    alone = embed_prompts(model, tokenizer, PROMPTS, max_prompt_tokens=64, device=CPU, tokens_at_once=1)
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_watcher_is_told_of_all_prompts(base):
    told = []
    model, tokenizer = base
    embed_prompts(model, tokenizer, PROMPTS[:4], max_prompt_tokens=64, device=CPU, report=told.append)
    assert told[-1] == 4


def test_batches_hold_rows_of_like_length():
    assert cut_batches([5, 0, 2, 3], 6) == [[2, 3], [0]]
    assert cut_batches([9, 9], 4) == [[0], [1]]
    assert cut_batches([], 4) == []
