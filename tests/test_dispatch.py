"""New prompts go to the component that a run's router picks, and get what it answers alone."""

import copy
import shutil

import pytest

from codestrata.answering import Choice, answer
from codestrata.dispatch import Router, answer_routed, choose_router, frame_text
from codestrata.errors import DataError, RunError, SettingsError
from codestrata.files import read_jsonl
from codestrata.store import RunDirectory

ROUTER = Router(method="routed", seed=0, tasks=("early", "late"))


def read_rows(run, name):
    return [row for _, row in read_jsonl(run.path / "methods/routed/seed-0/late" / name)]


@pytest.fixture
def run(routed_run):
    """A finished run with a router; do not change it."""
    return routed_run


@pytest.fixture
def copied(run, tmp_path):
    """A copy of it, to be harmed."""
    return RunDirectory(shutil.copytree(run.path, tmp_path / "copy"))


@pytest.fixture
def pretend(run, tmp_path):
    """Makes a run directory with changed results."""

    def make(change):
        results = copy.deepcopy(run.read_results())
        change(results)
        made = RunDirectory(tmp_path / "pretended")
        made.finish(results, "")
        return made

    return make


def test_test_prompts_are_routed_and_answered_as_in_the_run(run):
    assert choose_router(run) == choose_router(run, "routed", seed=0) == ROUTER
    rows, chosen = read_rows(run, "predictions.jsonl"), read_rows(run, "routing.jsonl")
    found = answer_routed(run, ROUTER, [row["prompt"] for row in rows], device="cpu")
    assert [entry.text for entry in found] == [row["completion"] for row in rows]
    assert [entry.task for entry in found] == [row["chosen"] for row in chosen]
    # The file holds single precision.
    assert [entry.confidence for entry in found] == pytest.approx(
        [row["confidence"] for row in chosen], abs=1e-3
    )


def test_a_new_prompt_gets_what_the_component_that_is_picked_says(run):
    texts = ["add 100 to xs", "return xs"]
    for text, found in zip(texts, answer_routed(run, ROUTER, texts, device="cpu"), strict=True):
        assert 0.5 <= found.confidence <= 1
        choice = Choice(method="routed", seed=0, task=str(found.task))
        assert answer(run, choice, [text], device="cpu") == [found.text]


@pytest.mark.parametrize("by", ["perplexity", "nearest-mean"])
def test_other_routers_and_thresholds_are_those_of_the_settings(by, run, copied):
    text = copied.settings_file.read_text(encoding="utf-8")
    text = text.replace('by = "mahalanobis"', f'by = "{by}"').replace('threshold = "null"', "threshold = 1.0")
    assert "threshold = 1.0" in text
    copied.settings_file.write_text(text, encoding="utf-8")
    rows = [row for row in (row for _, row in read_jsonl(run.path / "base/predictions.jsonl"))]
    found = answer_routed(copied, ROUTER, [row["prompt"] for row in rows], device="cpu")
    assert {entry.task for entry in found} == {None}
    assert [entry.text for entry in found] == [row["completion"] for row in rows]


def test_a_run_without_a_router_says_what_to_do(pretend):
    run = pretend(lambda results: results["methods"][0].update(selection="oracle"))
    with pytest.raises(SettingsError, match="holds no router: name the --task, or run with a method"):
        choose_router(run)


def test_unknown_methods_and_seeds_are_refused_with_the_known_ones(run):
    with pytest.raises(SettingsError, match=r"Unknown method with selection routed 'lora'\. Known: routed"):
        choose_router(run, "lora")
    with pytest.raises(SettingsError, match=r"Unknown seed '7'\. Known: 0"):
        choose_router(run, seed=7)


def test_results_that_lead_elsewhere_are_refused(pretend):
    def change(results):
        results["methods"][0]["seeds"][0]["routing"]["tasks"] = ["early", "../../late"]

    with pytest.raises(RunError, match="results that no run writes"):
        choose_router(pretend(change))


@pytest.mark.parametrize("key", ["routing", "seed"])
def test_malformed_results_are_refused(pretend, key):
    with pytest.raises(RunError, match="results that no run writes"):
        choose_router(pretend(lambda results: results["methods"][0]["seeds"][0].pop(key)))


def test_a_damaged_router_is_refused(copied):
    (copied.path / "methods/routed/seed-0/late/router.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="is no router"):
        answer_routed(copied, ROUTER, ["add 1 to xs"], device="cpu")


def test_a_router_outside_the_run_is_not_read(copied, tmp_path):
    file = copied.path / "methods/routed/seed-0/late/router.safetensors"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="leads out of run"):
        answer_routed(copied, ROUTER, ["add 1 to xs"], device="cpu")


def test_a_text_gets_the_frame_of_its_task_once():
    assert frame_text("lua: {}", "add 1") == "lua: add 1"
    assert frame_text("lua: {}", "lua: add 1") == "lua: add 1"
    assert frame_text("{}", "add 1") == "add 1"
    assert frame_text("write {} now", "write it") == "write it"
