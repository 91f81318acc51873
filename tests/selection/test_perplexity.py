"""The surprise of a prompt: the likelihood of its tokens one after another."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from codestrata.components.lora import build_lora
from codestrata.engine.generation import read_prompts
from codestrata.selection.perplexity import measure_surprise
from codestrata.settings.components import LoraSettings

CPU = torch.device("cpu")
PROMPTS = ["add 1 to xs", "take only the characters that are uppercase", "f"]


def add_up(logits, ids):
    """Minus the logarithm of the likelihood of ids, whose logits these are, one row each."""
    logged = torch.log_softmax(logits.double(), dim=-1)
    return -sum(float(logged[place, token]) for place, token in enumerate(ids))


def test_a_decoder_reads_the_prompt_without_its_first_token(tiny_llama_folder):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_folder)
    found = measure_surprise(model, tokenizer, PROMPTS, max_prompt_tokens=9, device=CPU)
    for prompt, energy in zip(read_prompts(model, tokenizer, PROMPTS, 9), found, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt])).logits[0]
        assert energy == pytest.approx(add_up(logits[:-1], prompt[1:]), abs=1e-4)


def test_an_encoder_decoder_says_the_prompt_after_reading_nothing(tiny_base_folder):
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_base_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_folder)
    found = measure_surprise(model, tokenizer, PROMPTS, max_prompt_tokens=9, device=CPU)
    for prompt, energy in zip(read_prompts(model, tokenizer, PROMPTS, 9), found, strict=True):
        nothing, said = torch.tensor([[model.config.eos_token_id]]), torch.tensor([prompt])
        with torch.inference_mode():
            logits = model(input_ids=nothing, labels=said).logits[0]
        assert energy == pytest.approx(add_up(logits, prompt), abs=1e-4)


def test_a_component_that_was_trained_on_such_prompts_is_less_surprised(tiny_llama_folder):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_folder)
    component = build_lora(model, LoraSettings(rank=4, alpha=8.0))
    tasks = {"digits": "7 3 7 3 7 3 7 3", "words": "return xs return xs return xs"}
    for name, text in tasks.items():
        component.attach(name, seed=0)
        component.activate(name)
        optimizer = torch.optim.Adam(component.parameters(name).values(), lr=0.05)
        (row,) = read_prompts(model, tokenizer, [text], 64)
        for _ in range(10):
            optimizer.zero_grad()
            model(input_ids=torch.tensor([row]), labels=torch.tensor([row])).loss.backward()
            optimizer.step()
    energies = {}
    for name in tasks:
        component.activate(name)
        texts = list(tasks.values())
        energies[name] = measure_surprise(model, tokenizer, texts, max_prompt_tokens=64, device=CPU)
    assert energies["digits"][0] < energies["words"][0]
    assert energies["words"][1] < energies["digits"][1]
