"""What survives of the published findings, claim by claim."""

import json
from pathlib import Path

import numpy as np
import pytest

from codestrata.analysis.statistics import bootstrap_interval
from codestrata.controls import CONTROLS, predict_control
from codestrata.data.codesearchnet import load_functions
from codestrata.data.objectives import build_example
from codestrata.metrics.codexglue import score_bleu_codexglue
from codestrata.metrics.text import score_bleu
from codestrata.presets import build_preset
from codestrata.report.pointers import read_pointer
from codestrata.results.founding import PUBLISHED, compute_sign_p, judge_founding
from codestrata.settings.tree import build_settings, to_tree

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT.parent / "shared" / "data" / "codesearchnet"
TASKS = ("python", "javascript")
METRIC = "bleu_codexglue"


def make_interval(low, high):
    return {"low": low, "high": high, "level": 0.95, "method": "bootstrap"}


def make_score(value, margin=0.02):
    interval = make_interval(value - margin, value + margin)
    return {"value": value, "n": 50, "interval": interval, "reason": None}


def make_cell(row, task, value, origin="decoded", *, identical=None):
    return {
        "row": row,
        "trained_through": None if row == 0 else TASKS[row - 1],
        "task": task,
        "split": "test",
        "origin": origin,
        "identical_predictions": identical,
        "scores": {METRIC: make_score(value), "bleu": make_score(value)},
    }


def make_training(task, seconds, parameters):
    return {
        "task": task,
        "seconds": seconds,
        "parameters": parameters,
        "parameter_share": parameters / (60_492_288 + parameters),
        "peak_memory_mib": 2000.0,
        "memory_counter": "a counter",
    }


def make_method(name, seconds, parameters, seeds=(0,)):
    entries = [
        {
            "seed": seed,
            "cells": [
                make_cell(1, "python", 0.3),
                make_cell(2, "python", 0.3, "rechecked", identical=True),
                make_cell(2, "javascript", 0.3),
            ],
            "trainings": [make_training(task, seconds, parameters) for task in TASKS],
        }
        for seed in seeds
    ]
    return {
        "name": name,
        "component": name,
        "schedule": "isolated",
        "final": {"test": {task: {METRIC: make_score(0.3)} for task in TASKS}},
        "continual": {METRIC: {"forgetting": make_score(0.0, 0.0) | {"structural": True}}},
        "seeds": entries,
    }


def make_comparison(task, verdict, difference=0.05):
    return {
        "first": "lora",
        "second": "layers",
        "task": task,
        "metric": "bleu",
        "difference": difference,
        "interval": make_interval(difference - 0.03, difference + 0.03),
        "verdict": verdict,
        "seeds": 1,
    }


def make_tree(seeds=(0,)):
    """What ``judge_founding`` reads of a run of the preset."""
    return {
        "settings": to_tree(build_settings({**build_preset("founding"), "seeds": list(seeds)})),
        "headline_metric": "bleu",
        "base": {"name": "Salesforce/codet5-small"},
        "tasks": [
            {"name": task, "language": task, "examples": {"train": 15000, "test": 50}} for task in TASKS
        ],
        "controls": [{"name": "echo", "cells": [make_cell(0, task, 0.37, "control") for task in TASKS]}],
        "methods": [
            make_method("lora", 60.0, 1_671_168, seeds),
            make_method("layers", 55.0, 3_146_752, seeds),
        ],
        "comparisons": [make_comparison("python", "cannot tell"), make_comparison("javascript", "first")],
        "noise_floor": {
            "reason": None,
            "entries": [
                {"task": task, "split": "test", "differences": {METRIC: -0.015, "bleu": 0.012}}
                for task in TASKS
            ],
        },
    }


def find_claim(tree, name):
    return next(claim for claim in judge_founding(tree)["claims"] if claim["name"] == name)


def judge(tree, name):
    return find_claim(tree, name)["verdict"]


def test_only_runs_of_the_preset_are_judged():
    tree = make_tree()
    assert judge_founding(tree) is not None
    tree["settings"]["preset"] = "founding-sound"
    assert judge_founding(tree) is None


def test_the_published_numbers():
    assert [PUBLISHED[method]["python_bleu"] for method in ("lora", "layers")] == [0.2150, 0.2046]
    assert [PUBLISHED[method]["javascript_bleu"] for method in ("lora", "layers")] == [0.2489, 0.2147]


def test_every_finding_has_a_claim():
    names = [claim["name"] for claim in judge_founding(make_tree())["claims"]]
    assert names == [
        "lora_python_bleu",
        "lora_javascript_bleu",
        "layers_python_bleu",
        "layers_javascript_bleu",
        "lora_beats_layers_python",
        "lora_beats_layers_javascript",
        "lora_python_forgetting",
        "layers_python_forgetting",
        "training_time",
        "memory",
        "lora_parameters",
    ]


def test_every_measured_number_is_the_one_at_its_pointer():
    tree = make_tree()
    checked = 0
    for claim in judge_founding(tree)["claims"]:
        assert claim["measured"]
        for evidence in claim["measured"]:
            if evidence["pointer"] is None or evidence["pointer"].endswith("/seeds"):
                continue
            found = read_pointer(tree, evidence["pointer"])
            number = found.get("value", found.get("difference")) if isinstance(found, dict) else found
            assert evidence["value"] == number
            checked += 1
    assert checked > 20


def test_it_is_plain_data():
    found = judge_founding(make_tree())
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.30, 0.40, "does not survive"),
        (0.2150, 0.40, "does not survive"),
        (0.20, 0.40, "cannot tell"),
        (0.10, 0.20, "survives"),
    ],
)
def test_a_bleu_at_or_under_the_echo_control_is_no_evidence(low, high, verdict):
    tree = make_tree()
    tree["controls"][0]["cells"][0]["scores"][METRIC]["interval"] = make_interval(low, high)
    claim = find_claim(tree, "lora_python_bleu")
    assert claim["verdict"] == verdict
    assert f"[{low:.4f}, {high:.4f}]" in claim["reason"]
    assert "0.345" in claim["reason"]
    assert claim["measured"][0]["pointer"] == f"/controls/0/cells/0/scores/{METRIC}"


def test_without_an_echo_control_nothing_is_told():
    tree = make_tree()
    tree["controls"] = []
    claim = find_claim(tree, "lora_python_bleu")
    assert (claim["verdict"], claim["measured"][0]["value"]) == ("cannot tell", None)
    assert claim["measured"][0]["reason"] == "this run has no such control or task"
    tree = make_tree()
    tree["controls"][0]["cells"][0]["scores"][METRIC] = {
        "value": None,
        "interval": None,
        "reason": "no predictions",
    }
    claim = find_claim(tree, "lora_python_bleu")
    assert claim["verdict"] == "cannot tell"
    assert "no predictions" in claim["reason"]


def test_an_echo_without_an_interval_tells_nothing():
    tree = make_tree()
    tree["controls"][0]["cells"][0]["scores"][METRIC]["interval"] = None
    assert judge(tree, "lora_python_bleu") == "cannot tell"


@pytest.mark.parametrize(
    ("given", "verdict"),
    [("first", "survives"), ("second", "does not survive"), ("cannot tell", "cannot tell")],
)
def test_lora_is_better_only_by_this_runs_verdict(given, verdict):
    tree = make_tree()
    tree["comparisons"][0] = make_comparison("python", given, -0.05 if given == "second" else 0.05)
    claim = find_claim(tree, "lora_beats_layers_python")
    assert claim["verdict"] == verdict
    assert "for this seed only" in claim["reason"]
    assert "0.0104" in claim["reason"]
    assert "1.3 times" in claim["reason"]
    assert "neither published number is above echoing" in claim["reason"]


def test_the_order_of_the_methods_does_not_matter():
    tree = make_tree()
    tree["comparisons"][0] |= {"first": "layers", "second": "lora", "verdict": "second", "difference": -0.05}
    claim = find_claim(tree, "lora_beats_layers_python")
    assert claim["verdict"] == "survives"
    assert claim["measured"][0]["about"] == "bleu of layers less that of lora on python"


def test_a_difference_within_the_noise_floor_tells_nothing():
    tree = make_tree()
    tree["noise_floor"]["entries"][1]["differences"]["bleu"] = -0.06
    claim = find_claim(tree, "lora_beats_layers_javascript")
    assert claim["verdict"] == "cannot tell"
    assert "within its noise floor of 0.0600" in claim["reason"]


def test_fewer_records_than_were_published_refute_nothing():
    tree = make_tree()
    tree["controls"][0]["cells"][0]["scores"][METRIC]["n"] = 49
    claim = find_claim(tree, "lora_python_bleu")
    assert claim["verdict"] == "cannot tell"
    assert "49 records are too few" in claim["reason"]
    assert "neither published number" not in find_claim(tree, "lora_beats_layers_python")["reason"]


def test_random_weights_say_nothing_about_methods():
    tree = make_tree()
    tree["settings"]["base"]["weights"] = "random"
    claim = find_claim(tree, "lora_beats_layers_javascript")
    assert claim["verdict"] == "cannot tell"
    assert "random weights" in claim["reason"]
    assert "the base has random weights" in judge_founding(tree)["conditions"]
    assert judge(tree, "lora_python_bleu") == "does not survive"  # the echo needs no weights


def test_a_pair_that_was_not_compared_tells_nothing():
    tree = make_tree()
    tree["comparisons"][0] = {
        "first": "lora",
        "second": "layers",
        "task": "python",
        "metric": "bleu",
        "verdict": None,
        "reason": "not the same examples",
    }
    claim = find_claim(tree, "lora_beats_layers_python")
    assert claim["verdict"] == "cannot tell"
    assert "not the same examples" in claim["reason"]


@pytest.mark.parametrize("method", ["lora", "layers"])
def test_forgetting_of_isolated_components_is_noise(method):
    claim = find_claim(make_tree(), f"{method}_python_forgetting")
    assert claim["verdict"] == "does not survive"
    assert "1 of 1 cells that were decoded again gave the same" in claim["reason"]
    size = {"lora": "0.0017 in BLEU, no more than the 0.0150", "layers": "0.0127 in BLEU, no more than"}[
        method
    ]
    assert size in claim["reason"]


def test_forgetting_above_the_noise_floor_says_so():
    tree = make_tree()
    for entry in tree["noise_floor"]["entries"]:
        entry["differences"][METRIC] = 0.001
    assert "more than the 0.0010" in find_claim(tree, "lora_python_forgetting")["reason"]
    tree["noise_floor"] = {"reason": "nothing was evaluated twice", "entries": []}
    assert "nothing was evaluated twice" in find_claim(tree, "lora_python_forgetting")["reason"]


def test_isolation_that_is_not_shown_proves_nothing():
    tree = make_tree()
    cells = tree["methods"][0]["seeds"][0]["cells"]
    cells[1]["identical_predictions"] = False
    claim = find_claim(tree, "lora_python_forgetting")
    assert claim["verdict"] == "cannot tell"
    assert "0.0% of 1 cells" in claim["reason"]
    del cells[1]
    assert judge(tree, "lora_python_forgetting") == "cannot tell"
    tree["methods"][0]["schedule"] = "sequential"
    assert judge(tree, "lora_python_forgetting") == "cannot tell"


def test_bytes_alone_show_isolation_where_nothing_was_decoded_again():
    tree = make_tree()
    tree["methods"][0]["seeds"][0]["cells"][1] |= {"origin": "taken-over", "identical_predictions": None}
    claim = find_claim(tree, "lora_python_forgetting")
    assert claim["verdict"] == "does not survive"
    assert "in all 1 later cells base and component kept their bytes" in claim["reason"]
    assert [entry["value"] for entry in claim["measured"]][1:3] == [None, 1.0]


def test_canaries_that_differ_show_no_isolation():
    tree = make_tree()
    cell = tree["methods"][0]["seeds"][0]["cells"][1]
    cell |= {"origin": "canary", "identical_predictions": True}
    assert judge(tree, "lora_python_forgetting") == "does not survive"
    cell["identical_predictions"] = False
    assert judge(tree, "lora_python_forgetting") == "cannot tell"


def test_two_pairs_of_trainings_cannot_tell_which_is_faster():
    claim = find_claim(make_tree(), "training_time")
    assert claim["verdict"] == "cannot tell"
    assert "faster in 2 of 2 pairs" in claim["reason"]
    assert len(claim["measured"]) == 4


def test_six_pairs_can():
    tree = make_tree(seeds=(0, 1, 2))
    assert judge(tree, "training_time") == "survives"
    for entry in tree["methods"][1]["seeds"]:
        for training in entry["trainings"]:
            training["seconds"] = 70.0
    assert judge(tree, "training_time") == "does not survive"
    tree["methods"][1]["seeds"][0]["trainings"][0]["seconds"] = 50.0
    assert judge(tree, "training_time") == "cannot tell"


def test_signs_are_counted_exactly():
    assert compute_sign_p(6, 6) == compute_sign_p(0, 6) == 2 / 64
    assert compute_sign_p(5, 6) == 2 * 7 / 64
    assert compute_sign_p(1, 2) == compute_sign_p(0, 0) == 1.0


def test_memory_is_less_than_training_must_hold():
    claim = find_claim(make_tree(), "memory")
    assert claim["verdict"] == "does not survive"
    assert "3146752 trained numbers, 0.050 GB" in claim["reason"]
    tree = make_tree()
    tree["methods"][1]["seeds"][0]["trainings"][0]["parameters"] = 1000
    assert judge(tree, "memory") == "cannot tell"


def test_parameters_are_counted():
    claim = find_claim(make_tree(), "lora_parameters")
    assert claim["verdict"] == "does not survive"
    assert "0.0269" in claim["reason"]
    tree = make_tree()
    tree["methods"][0]["seeds"][0]["trainings"][0]["parameter_share"] = 0.0011
    assert judge(tree, "lora_parameters") == "survives"


def test_a_run_without_the_methods_or_tasks_tells_nothing_and_says_why():
    tree = make_tree() | {"methods": [], "comparisons": [], "controls": [], "tasks": []}
    for claim in judge_founding(tree)["claims"]:
        assert claim["verdict"] == "cannot tell"
        assert all(evidence["reason"] or evidence["value"] is not None for evidence in claim["measured"])


def test_conditions_that_differ_are_told():
    assert judge_founding(make_tree())["conditions"] == []
    tree = make_tree(seeds=(0, 1))
    tree["base"]["name"] = "pocket"
    tree["tasks"][0]["examples"]["test"] = 300
    tree["settings"]["training"]["steps"] = 10
    tree["settings"]["decoding"]["temperature"] = None
    tree["settings"]["tasks"][1]["evaluation_objective"] = "generate"
    assert judge_founding(tree)["conditions"] == [
        "the base is pocket, not codet5-small",
        "python has 300 test examples, not 50",
        "2 seeds, not 1",
        "training.steps is 10, not None",
        "decoding.temperature is None, not 0.7",
        "javascript has evaluation_objective generate, not continue",
    ]


def test_the_nearest_metric_is_the_mean_of_sentences():
    found = judge_founding(make_tree())
    assert found["metric"] == METRIC
    assert "a mean of sentence BLEU" in found["metric_reason"]
    assert "comparisons are in bleu" in found["metric_reason"]


def test_the_tree_of_settings_has_what_is_read():
    tree = to_tree(build_settings({"tasks": [{"name": "python"}]}))
    assert tree["base"]["weights"] == "trained"
    assert "preset" in tree
    assert "seeds" in tree


@pytest.mark.skipif(not RECORDS.is_dir(), reason=f"real records are not here: {RECORDS}")
@pytest.mark.parametrize(
    ("language", "bleu", "codexglue"), [("python", 0.3619, 0.3814), ("javascript", 0.3748, 0.3725)]
)
def test_echoing_real_records_scores_above_every_published_number(language, bleu, codexglue):
    functions, _ = load_functions(language, RECORDS / language)
    found = [build_example("continue", function) for function in functions]
    examples = [example for example in found if not isinstance(example, str)]
    assert len(examples) == 300
    echo = next(control for control in CONTROLS if control.name == "echo")
    predictions = predict_control(echo, (), examples)
    assert score_bleu(predictions).value == pytest.approx(bleu, abs=1e-4)
    sentences = score_bleu_codexglue(predictions)
    assert sentences.value == pytest.approx(codexglue, abs=1e-4)
    published = max(PUBLISHED[method][f"{language}_bleu"] for method in PUBLISHED)
    assert bleu > published
    assert bootstrap_interval(np.array(sentences.per_example)).low > published
