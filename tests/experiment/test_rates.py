"""The search for learning rates: what is chosen, what is never trained twice, what a crash leaves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from codestrata.errors import DivergenceError, SettingsError
from codestrata.experiment import rates
from codestrata.experiment.rates import Trial, choose_trial_rate, find_edge, search_rate
from codestrata.journal import Journal
from codestrata.lab import open_lab
from codestrata.methods import METHODS
from codestrata.models.fingerprints import fingerprint_model
from codestrata.progress import Silence
from codestrata.settings.tree import build_settings

GRID = [0.001, 0.02, 0.3]


@pytest.fixture
def build(quick_tree, tmp_path):
    """Makes a lab that searches the grid, with a cache of its own."""

    def make(journal=None, **fair):
        tree = quick_tree(fair={"rates": GRID, **fair}, cache={"folder": str(tmp_path / "cache")})
        return open_lab(build_settings(tree), Silence(), journal=journal)

    return make


@pytest.fixture
def watch(monkeypatch):
    """The rates of all trainings in their order; a listed rate diverges."""

    class Watch(list):
        diverging = ()

    seen, real = Watch(), rates.fit

    def fit(*arguments, learning_rate, **keywords):
        seen.append(learning_rate)
        if learning_rate in seen.diverging:
            raise DivergenceError("The loss is nan.")
        return real(*arguments, learning_rate=learning_rate, **keywords)

    monkeypatch.setattr(rates, "fit", fit)
    return seen


def list_kept(lab) -> list[Path]:
    return sorted((Path(lab.settings.cache.folder) / rates.CACHE).glob("*.json"))


def test_the_rate_with_the_lowest_validation_loss_is_chosen(build, watch):
    lab = build()
    search = search_rate(lab, METHODS["lora"])
    assert watch == GRID
    assert [trial.rate for trial in search.trials] == GRID
    best = min(search.trials, key=lambda trial: trial.loss)
    assert search.chosen == best.rate
    assert (search.task, search.steps, search.seed) == ("early", 2, 0)
    assert fingerprint_model(lab.base.model) == lab.base.fingerprint


def test_the_loss_is_that_of_validation_examples_after_such_a_training(build, monkeypatch):
    asked = []
    monkeypatch.setattr(rates, "measure_loss", lambda model, rows, *rest, **more: asked.append(rows) or 1.0)
    lab = build()
    search = search_rate(lab, METHODS["finetune"])
    assert {id(rows) for rows in asked} == {id(lab.validation["early"])}
    # Equal losses: the lowest rate, whatever the order of the grid.
    assert (search.chosen, search.edge) == (0.001, "lowest")


def test_every_method_gets_as_many_steps_as_it_takes_or_as_are_set(build):
    assert search_rate(build(), METHODS["joint"]).steps == 2
    assert search_rate(build(search_steps=1), METHODS["lora"]).steps == 1
    assert search_rate(replace(build(), steps={"early": 3}), METHODS["lora"]).steps == 3


def test_a_trial_is_not_trained_twice(build, watch):
    first = search_rate(build(), METHODS["lora"])
    watch.clear()
    assert search_rate(build(), METHODS["lora"]) == first
    assert watch == []


def test_methods_that_begin_alike_share_their_trials_and_others_do_not(build, watch):
    lab = build()
    search_rate(lab, METHODS["finetune"])
    watch.clear()
    for name in ("replay", "ewc", "distill", "joint", "single"):
        search_rate(lab, METHODS[name])
    assert watch == []
    search_rate(lab, METHODS["lora"])
    search_rate(lab, METHODS["olora"])
    assert watch == GRID * 2


@pytest.mark.parametrize(
    "change",
    [
        {"fair": {"rates": GRID, "search_steps": 1}},
        {"fair": {"rates": GRID, "search_seed": 1}},
        {"fair": {"rates": GRID, "reuse": False}},
        {"lora": {"rank": 3}},
        {"training": {"batch_size": 2}},
    ],
)
def test_another_trial_is_trained(build, watch, quick_tree, tmp_path, change):
    search_rate(build(), METHODS["lora"])
    watch.clear()
    tree = quick_tree(**{"fair": {"rates": GRID}, "cache": {"folder": str(tmp_path / "cache")}} | change)
    search_rate(open_lab(build_settings(tree), Silence()), METHODS["lora"])
    assert watch == GRID


def test_the_rates_that_are_set_have_no_say_in_a_trial(build, watch, quick_tree, tmp_path):
    search_rate(build(), METHODS["lora"])
    watch.clear()
    tree = quick_tree(fair={"rates": GRID}, cache={"folder": str(tmp_path / "cache")})
    tree["lora"]["learning_rate"], tree["training"]["learning_rate"] = 0.5, 0.6
    search_rate(open_lab(build_settings(tree), Silence()), METHODS["lora"])
    assert watch == []


@pytest.mark.parametrize("states", [{"states_dtype": "fp32"}, {"states_mib": None}])
def test_states_that_are_kept_otherwise_are_another_trial(build, watch, quick_tree, tmp_path, states):
    search_rate(build(), METHODS["layers"])
    watch.clear()
    tree = quick_tree(fair={"rates": GRID}, cache={"folder": str(tmp_path / "cache"), **states})
    search_rate(open_lab(build_settings(tree), Silence()), METHODS["layers"])
    assert watch == GRID
    watch.clear()
    tree["cache"]["states_dtype"] = "bf16" if "states_mib" in states else "fp32"
    search_rate(open_lab(build_settings(tree), Silence()), METHODS["layers"])
    assert watch == []  # the number format of what is not kept has no say


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"loss": ', '"loss": 1'),
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "trial": {"rate": "x"}}),
    ],
)
def test_a_damaged_trial_is_trained_again(build, watch, harm):
    first = search_rate(build(), METHODS["lora"])
    for path in list_kept(build()):
        path.write_text(harm(path.read_text(encoding="utf-8")), encoding="utf-8")
    watch.clear()
    assert search_rate(build(), METHODS["lora"]) == first
    assert watch == GRID


def test_a_search_that_was_cut_off_goes_on_with_the_same(build, watch, tmp_path):
    whole = search_rate(build(reuse=False), METHODS["lora"])
    journal = Journal()
    journal.follow(tmp_path / "journal", print)
    watch.clear()
    real = rates.measure_loss

    def crash(*arguments, **keywords):
        if len(watch) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "measure_loss", crash)
        with pytest.raises(KeyboardInterrupt):
            search_rate(build(journal, reuse=False), METHODS["lora"])
    watch.clear()
    again = Journal()
    again.follow(tmp_path / "journal", print)
    assert search_rate(build(again, reuse=False), METHODS["lora"]) == whole
    assert watch == GRID[1:]


def test_a_rate_that_diverges_is_the_worst_and_no_failure(build, watch):
    watch.diverging = (0.3,)
    search = search_rate(build(), METHODS["lora"])
    assert search.trials[-1] == Trial(rate=0.3, loss=None, reason="the training diverged")
    assert search.chosen in GRID[:2]
    watch.clear()
    assert search_rate(build(), METHODS["lora"]) == search  # kept as the others are
    assert watch == []


def test_a_loss_that_is_no_number_is_the_worst_too(build, monkeypatch):
    monkeypatch.setattr(rates, "measure_loss", lambda *rest, **more: float("nan"))
    with pytest.raises(SettingsError, match=r"Every learning rate .*0.001, 0.02, 0.3\) made 'lora'"):
        search_rate(build(), METHODS["lora"])


def test_the_edges_of_a_grid_are_named_in_whatever_order_it_is():
    assert [find_edge((0.3, 0.1, 0.2), rate) for rate in (0.3, 0.1, 0.2)] == ["highest", "lowest", None]
    trials = [Trial(rate=0.3, loss=None), Trial(rate=0.2, loss=1.0), Trial(rate=0.1, loss=1.0)]
    assert choose_trial_rate(trials) == 0.1
    assert choose_trial_rate(trials[:1]) is None


def test_a_task_that_holds_nothing_out_cannot_judge_rates(build, quick_tree):
    tree = quick_tree(fair={"rates": GRID})
    tree["tasks"][0]["validation_examples"] = 0
    settings = build_settings(tree)
    with pytest.raises(SettingsError, match=r"examples is 0 for the first task, 'early'"):
        rates.check_search(settings)
    with pytest.raises(SettingsError, match="has no validation examples to judge rates by"):
        search_rate(open_lab(settings, Silence()), METHODS["lora"])


def test_a_cache_that_cannot_be_written_costs_a_remark(build, tmp_path):
    said = []

    class Watcher(Silence):
        def say(self, text):
            said.append(text)

    lab = replace(build(), progress=Watcher())
    folder = tmp_path / "cache"
    (folder / rates.CACHE).mkdir(parents=True, exist_ok=True)
    for entry in (folder / rates.CACHE).iterdir():
        entry.unlink()
    (folder / rates.CACHE).rmdir()
    (folder / rates.CACHE).write_text("in the way")
    search_rate(lab, METHODS["lora"])
    assert [text for text in said if text.startswith("the trial is not kept for other runs")]
