"""The page beside an export: what stands on it comes out of the results."""

import copy
import dataclasses

import pytest

from codestrata.answering import Choice
from codestrata.errors import RunError
from codestrata.exporting.cards import MERGED, write_adapter_card, write_base, write_checkpoint_card
from codestrata.exporting.comparison import Comparison
from codestrata.methods import METHODS
from codestrata.report.tables import write_score
from codestrata.settings.sections import BaseSettings

CHOICE = Choice(method="lora", seed=0, task="early")
COMPARISON = Comparison(prompts=8, tokens=100, largest_difference=2e-6, largest_logit=12.5, same_answers=7)


@pytest.fixture
def results(small_run):
    return copy.deepcopy(small_run.read_results())


SEQ2SEQ, CAUSAL = "AutoModelForSeq2SeqLM", "AutoModelForCausalLM"


def write(results, settings, *, deeper_decoder=False, choice=CHOICE, automatic_class=SEQ2SEQ):
    return write_checkpoint_card(
        results,
        settings,
        choice,
        template="early: {}",
        comparison=COMPARISON,
        automatic_class=automatic_class,
        deeper_decoder=deeper_decoder,
    )


def test_every_score_of_the_component_stands_there(results, small_settings):
    card = write(results, small_settings)
    lora = next(entry for entry in results["methods"] if entry["name"] == "lora")
    cells = [cell for cell in lora["seeds"][0]["cells"] if cell["row"] == 2 and cell["task"] == "early"]
    assert cells
    for cell in cells:
        for metric, score in cell["scores"].items():
            shown = (cell["split"], metric, write_score(score), str(score["n"]), score["reason"] or "")
            assert f"| {' | '.join(shown)} |" in card.splitlines()


def test_a_score_has_its_interval(results, small_settings):
    lora = next(entry for entry in results["methods"] if entry["name"] == "lora")
    cell = next(cell for cell in lora["seeds"][0]["cells"] if cell["row"] == 2 and cell["task"] == "early")
    cell["scores"]["bleu"] |= {
        "value": 0.25,
        "interval": {"low": 0.125, "high": 0.5},
        "n": 40,
        "reason": None,
    }
    assert "| test | bleu | 0.250 [0.125, 0.500] | 40 |  |" in write(results, small_settings)


def test_what_was_merged_and_compared_stands_there(results, small_settings):
    card = write(results, small_settings)
    assert "Component `lora`: the low-rank updates were added" in card
    assert "differs\nby more than 2e-06 (the largest is 12.5), and\n7 of 8 greedy answers" in card
    assert "'early: {}'.replace(\"{}\", " in card
    assert results["base"]["fingerprint"] in card


def test_only_a_deeper_decoder_comes_with_advice(results, small_settings):
    assert "DynamicCache" not in write(results, small_settings)
    assert "DynamicCache" in write(results, small_settings, deeper_decoder=True)


def test_an_adapter_s_page_says_whom_to_register(results, small_settings):
    settings = small_settings
    assert "register_with_peft" not in write_adapter_card(results, settings, CHOICE, automatic_class=SEQ2SEQ)
    layers = dataclasses.replace(CHOICE, method="layers")
    card = write_adapter_card(results, settings, layers, automatic_class=CAUSAL)
    assert "codestrata.register_with_peft()" in card
    assert "base = AutoModelForCausalLM.from_pretrained(BASE)" in card
    assert SEQ2SEQ not in card


def test_an_answer_of_a_decoder_alone_is_shown_without_its_prompt(results, small_settings):
    card = write(results, small_settings, automatic_class=CAUSAL)
    assert 'answer[0, inputs["input_ids"].shape[1] :]' in card
    assert "a prompt of more than 512 tokens lost its beginning" in card
    assert "a prompt was cut after 512 tokens" in write(results, small_settings)
    assert "model = AutoModelForCausalLM" in card
    assert SEQ2SEQ not in card


@pytest.mark.parametrize(
    ("name", "weights", "shown"),
    [
        ("pocket", "trained", ("`pocket`", "licence Apache-2.0")),
        ("pocket", "random", ("`pocket`", "licence not recorded")),
        ("Salesforce/codet5-small", "trained", ("`Salesforce/codet5-small`", "licence Apache-2.0")),
        ("somebody/model", "trained", ("`somebody/model`", "licence not recorded")),
        ("/home/me/secret/model", "trained", ("`model`", "licence not recorded")),
    ],
)
def test_the_base_is_named_without_its_path(name, weights, shown, small_settings):
    settings = dataclasses.replace(small_settings, base=BaseSettings(name=name, weights=weights))
    line = write_base({"fingerprint": "f" * 64, "parameters": 1234567}, settings)
    assert all(part in line for part in (*shown, "f" * 64, "1,234,567"))
    assert "secret" not in line


def test_every_component_that_is_trained_says_what_was_merged():
    refused = {None, "prompt"}  # virtual tokens have no place in a plain checkpoint
    assert {entry.component for entry in METHODS.values()} - refused <= set(MERGED)


@pytest.mark.parametrize(
    "change",
    [
        lambda results: results.pop("tasks"),
        lambda results: results.update(methods=7),
        lambda results: results["methods"][1]["seeds"][0].update(cells=[]),
        lambda results: results["tasks"][0].update(examples=[]),
        lambda results: results["base"].update(parameters="many"),
    ],
    ids=["no tasks", "no methods", "no cells", "no counts", "no number"],
)
def test_results_that_no_run_writes_are_refused(change, results, small_settings):
    change(results)
    with pytest.raises(RunError, match="results that no run writes"):
        write(results, small_settings)
