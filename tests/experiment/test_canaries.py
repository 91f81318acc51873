"""Canaries: chosen evenly, decoded twice in the same company, and heard when they differ."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.experiment import cells
from codestrata.experiment.canaries import choose_canaries, keep_canaries
from codestrata.experiment.rescoring import rescore_run
from codestrata.experiment.walk import run_experiment
from codestrata.files import read_jsonl, write_jsonl
from codestrata.records import Prediction
from codestrata.settings.tree import build_settings


@settings(max_examples=50)
@given(count=st.integers(1, 500), wanted=st.integers(1, 60))
def test_canaries_are_spread_evenly_over_the_split(count, wanted):
    places = choose_canaries(count, wanted)
    assert len(places) == min(count, wanted)
    assert places[0] == 0
    gaps = {second - first for first, second in zip(places, (*places[1:], count), strict=True)}
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


def test_every_sample_of_a_canary_is_kept():
    predictions = [
        Prediction(identifier=str(number), prompt="", target="", completion="", sample=sample)
        for number in range(4)
        for sample in range(2)
    ]
    kept = keep_canaries(predictions, 2, 2)
    assert [(found.identifier, found.sample) for found in kept] == [("0", 0), ("0", 1), ("2", 0), ("2", 1)]
    assert keep_canaries(predictions, 9, 2) == tuple(predictions)


def test_canaries_are_decoded_twice_in_the_same_company(long_runs):
    run = long_runs["canary"]
    # Row after row of lora, the canaries of a task come first and the rest after them.
    assert [len(call) for call in run.calls[5 : 5 + 10]] == [2, 2] * 5
    # After the last training the same calls come once more, of all tasks but the last.
    assert run.calls[15:19] == [run.calls[5 + 2 * index] for index in range(4)]


def test_the_noise_floor_of_greedy_decoding_is_what_the_canaries_show(long_runs):
    noise = long_runs["canary"].results["noise_floor"]
    assert [(entry["method"], entry["task"], entry["n"]) for entry in noise["entries"]] == [
        *(("lora", task, 2) for task in ("one", "two", "three", "four")),
        ("base", "five", 4),  # no canary looks at the last task
    ]
    assert noise["largest"] == 0.0
    assert all(entry["identical"] == entry["n"] for entry in noise["entries"])
    off = long_runs["off"].results["noise_floor"]
    assert [(entry["method"], entry["task"]) for entry in off["entries"]] == [("base", "five")]


def test_answers_of_canaries_lie_in_a_folder_of_their_own(long_runs):
    run = long_runs["canary"].run
    cell = long_runs["canary"].results["methods"][0]["seeds"][0]["cells"][-5]
    assert (cell["task"], cell["origin"], cell["decoded_again"]) == ("one", "canary", 2)
    own = [row for _, row in read_jsonl(run.path / cell["folder"] / "predictions.jsonl")]
    again = [row for _, row in read_jsonl(run.path / "canaries/lora/seed-0/one/predictions.jsonl")]
    assert again == [own[0], own[2]]


@pytest.fixture
def small(long_tree):
    return build_settings(long_tree(2, recheck="canary", methods=["lora"]))


def test_a_canary_that_answers_otherwise_is_shouted(small, tmp_path, monkeypatch):
    def predict(base, examples, *rest, **others):
        found = real(base, examples, *rest, **others)
        calls.append([example.identifier for example in examples])
        again = calls.count(calls[-1]) == 2 and len(examples) == 2
        return (replace(found[0], completion="drifted"), *found[1:]) if again else found

    real, calls = cells.predict, []
    monkeypatch.setattr(cells, "predict", predict)
    run = run_experiment(small, root=tmp_path)
    results = run.read_results()
    (cell,) = [c for c in results["methods"][0]["seeds"][0]["cells"] if c["origin"] == "canary"]
    assert (cell["decoded_again"], cell["identical_predictions"]) == (2, False)
    assert results["isolation"]["identical_canary_cells"] == 0
    assert results["noise_floor"]["entries"][0]["identical"] == 1
    assert "(canary, DIFFERENT)" in (run.path / "results_analysis.md").read_text(encoding="utf-8")
    assert rescore_run(run).changes == ()


def test_second_answers_that_were_edited_are_found(small, tmp_path):
    run = run_experiment(small, root=tmp_path)
    path = run.path / "canaries/lora/seed-0/one/predictions.jsonl"
    write_jsonl(path, [row | {"completion": "x"} for _, row in read_jsonl(path)])
    pointers = {change.pointer for change in rescore_run(run).changes}
    assert "/methods/0/seeds/0/cells/4/identical_predictions" in pointers
    assert "/isolation/identical_canary_cells" in pointers
    assert "/noise_floor/entries/0/identical" in pointers


def test_canaries_are_looked_at_where_decoding_samples_too(long_tree, tmp_path):
    decoding = {"temperature": 1.0, "samples": 2, "max_new_tokens": 4}
    tree = long_tree(2, recheck="canary", methods=["lora"], decoding=decoding)
    run = run_experiment(build_settings(tree), root=tmp_path)
    results = run.read_results()
    assert (results["isolation"]["canary_predictions"], results["isolation"]["identical_canary_cells"]) == (
        4,
        1,
    )
    entries = results["noise_floor"]["entries"]
    assert [(entry["task"], entry["n"]) for entry in entries] == [("one", 8), ("two", 8)]
    assert rescore_run(run).changes == ()


def test_a_split_of_fewer_examples_is_all_canaries(long_tree, listen, tmp_path, monkeypatch):
    tree = long_tree(2, recheck="canary", methods=["lora"])
    tree["measurement"]["canary_examples"] = 32
    calls = []
    monkeypatch.setattr(cells, "predict", listen(calls))
    results = run_experiment(build_settings(tree), root=tmp_path).read_results()
    assert results["isolation"]["canary_predictions"] == 4
    assert [len(call) for call in calls] == [4] * 6
