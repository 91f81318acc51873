"""Whole runs whose methods were made comparable: what was solved is what was trained, and is said."""

import json
from dataclasses import replace

import pytest

from codestrata.answering import Choice, answer
from codestrata.errors import SettingsError
from codestrata.experiment import fairness, rates, walk
from codestrata.experiment.fairness import check_fair, describe_solution, give_own_settings, make_fair
from codestrata.experiment.timing import Pace
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.files import read_json
from codestrata.lab import open_lab
from codestrata.methods import METHODS, resolve_methods
from codestrata.planning import plan_run
from codestrata.progress import Silence
from codestrata.settings.tree import build_settings, fingerprint
from codestrata.store import RunDirectory

PLAIN = {
    "decoding": {"max_new_tokens": 2},
    "measurement": {"transfer": False, "agreement": False, "recheck": "off"},
}


@pytest.fixture(scope="module")
def build(quick_tree, tmp_path_factory):
    """Makes the settings of a run with a section ``fair``; its cache is this module's."""
    cache = {"folder": str(tmp_path_factory.mktemp("cache"))}

    def make(*methods, tasks=2, **sections):
        tree = quick_tree(**{"methods": methods, "cache": cache, **PLAIN, **sections})
        tree["tasks"] = [{**task, "test_examples": 2} for task in tree["tasks"][:tasks]]
        return build_settings(tree)

    return make


@pytest.fixture(scope="module")
def matched_run(build, tmp_path_factory):
    """A run matched on parameters whose rates were searched for; do not change it."""
    settings = build(
        "base", "hybrid", "lora", "own-layers", "ia3", fair={"match": "parameters", "rates": [0.001, 0.05]}
    )
    return run_experiment(settings, root=tmp_path_factory.mktemp("matched"), name="r")


def list_trainings(results, method):
    (entry,) = (entry for entry in results["methods"] if entry["name"] == method)
    return [training for seed in entry["seeds"] for training in seed["trainings"]]


def test_what_was_solved_is_what_was_trained(matched_run):
    results = matched_run.read_results()
    fair = results["fair"]
    assert (fair["match"], fair["reference"], fair["target"]) == ("parameters", "hybrid", 12336)
    assert list(fair["methods"]) == ["hybrid", "lora", "own-layers", "ia3"]
    assert fair["methods"]["hybrid"]["values"] == {
        "hybrid.learning_rate": fair["methods"]["hybrid"]["learning_rate"]
    }
    lora = fair["methods"]["lora"]
    assert (lora["values"]["lora.rank"], lora["values"]["lora.alpha"], lora["reached"]) == (11, 44.0, 12672)
    assert lora["deviation"] == pytest.approx(336 / 12336)
    for name, own in fair["methods"].items():
        for training in list_trainings(results, name):
            assert training["parameters"] == own["reached"]
            assert training["learning_rate"] == own["learning_rate"] == own["search"]["chosen"]


def test_a_method_that_cannot_be_matched_says_why(matched_run):
    methods = matched_run.read_results()["fair"]["methods"]
    assert methods["ia3"]["reason"] == "nothing sets the size of component ia3"
    assert methods["ia3"]["within_tolerance"] is False
    assert methods["own-layers"]["reason"] == (
        "own_layers.blocks 2 comes nearest of all whole numbers that it can have"
    )
    assert methods["lora"]["reason"] is None


def test_the_run_s_settings_stay_what_the_user_wrote(matched_run):
    settings = matched_run.read_settings()
    assert settings.lora.rank == 2
    about = read_json(matched_run.task_folder("lora", 0, "early") / "component.json")
    assert about["settings_fingerprint"] == fingerprint(settings)
    assert about["settings"]["rank"] == 11
    assert (
        about["settings"]["learning_rate"]
        == matched_run.read_results()["fair"]["methods"]["lora"]["learning_rate"]
    )


@pytest.mark.parametrize("method", ["own-layers", "lora", "hybrid"])
def test_a_component_of_another_size_answers_as_in_the_run(matched_run, method):
    settings = matched_run.read_settings()
    lab = open_lab(settings, Silence())
    example = lab.tasks[0].test[0]
    folder = matched_run.task_folder(method, 0, "early")
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    stored = next(row for row in rows if row["identifier"] == example.identifier and row["task"] == "early")
    (found,) = answer(
        matched_run, Choice(method=method, seed=0, task="early"), [example.prompt], device="cpu"
    )
    assert found == stored["completion"]


def test_a_matched_run_can_be_verified(matched_run):
    from codestrata.verification.runs import verify_run

    assert verify_run(matched_run).holds


def test_the_dry_plan_solves_and_does_not_search(matched_run, monkeypatch):
    monkeypatch.setattr(fairness, "search_rate", None)
    plan = plan_run(matched_run.read_settings())
    results = matched_run.read_results()
    sizes = {name: own["reached"] for name, own in results["fair"]["methods"].items()}
    assert {entry.name: entry.parameters for entry in plan.methods} == {"base": 0, **sizes}
    assert plan.fair[1] == (
        "fair, lora: lora.rank 11; lora.alpha 44; 12,672 trained parameters, +2.7 % from the target"
    )
    assert all(entry.search_seconds > 0 for entry in plan.methods if entry.name != "base")
    assert plan.total_seconds > sum(entry.search_seconds for entry in plan.methods)


def test_methods_matched_on_tokens_train_on_as_many(build, tmp_path):
    settings = build("finetune", "replay", "joint", training={"steps": 6}, fair={"match": "tokens"})
    results = run_experiment(settings, root=tmp_path, name="r").read_results()
    own = [training["tokens"] for training in list_trainings(results, "finetune")]
    replay = list_trainings(results, "replay")
    joint = list_trainings(results, "joint")
    assert [training["steps"] for training in replay] == [6, 3]
    assert [training["tokens"] for training in replay] == pytest.approx(own, rel=0.15)
    assert joint[1]["tokens"] == pytest.approx(sum(own), rel=0.1)
    for name in ("finetune", "replay", "joint"):
        found = results["fair"]["methods"][name]
        assert found["reached"] == sum(training["tokens"] for training in list_trainings(results, name))
        assert found["steps"] == {
            training["task"]: training["steps"] for training in list_trainings(results, name)
        }


def test_time_is_measured_once_and_a_run_that_goes_on_keeps_it(build, tmp_path, monkeypatch):
    paces = iter([0.5, 0.125])
    monkeypatch.setattr(fairness, "time_method", lambda lab, method: next(paces))
    settings = build("lora", "warm", "finetune", tasks=1, fair={"match": "time"})
    real = walk.measure

    def crash(*arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "measure", crash)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(settings, root=tmp_path, name="r")
    assert walk.measure is real
    results = resume_experiment(RunDirectory(tmp_path / "r")).read_results()
    assert results["fair"]["machine_dependent"] is True
    steps = {name: list_trainings(results, name)[0]["steps"] for name in ("lora", "warm", "finetune")}
    assert steps == {"lora": 2, "warm": 2, "finetune": 8}


@pytest.mark.slow
def test_a_run_that_is_cut_off_in_its_search_ends_as_if_it_never_had_been(build, tmp_path):
    settings = build("lora", tasks=1, fair={"rates": [0.001, 0.05, 0.2], "reuse": False})
    whole = run_experiment(settings, root=tmp_path, name="whole").read_results()
    seen, real = [], rates.measure_loss

    def crash(*arguments, **keywords):
        seen.append(keywords)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "measure_loss", crash)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(settings, root=tmp_path, name="cut")
    found = resume_experiment(RunDirectory(tmp_path / "cut")).read_results()
    assert found["fair"] == whole["fair"]
    assert found["seconds"]["search"] > 0
    first, second = (list_trainings(results, "lora")[0] for results in (whole, found))
    assert first["component_fingerprint"] == second["component_fingerprint"]


def test_nothing_is_said_where_nothing_was_asked_for(quick_run):
    assert quick_run.read_results()["fair"] is None


def test_a_reference_trains_something(build):
    settings = build("base", "lora", fair={"match": "parameters", "reference": "base"})
    with pytest.raises(SettingsError, match="reference is 'base', which trains nothing"):
        check_fair(settings, resolve_methods(settings.methods))


@pytest.mark.parametrize(
    ("fair", "said"),
    [
        ({"match": "parameters", "target": 1e12}, "fair.target is 1000000000000 parameters: at most"),
        ({"match": "tokens", "target": 1e13}, "on task 'early' that comes to about"),
        ({"rates": [0.001, 0.05]}, "the first task, 'early', has no validation examples to judge rates by"),
    ],
)
def test_what_base_and_tasks_show_is_refused_with_nothing_written(build, tmp_path, monkeypatch, fair, said):
    def open_without(*arguments, **keywords):
        lab = open_lab(*arguments, **keywords)
        return replace(lab, validation={**lab.validation, "early": lab.validation["early"][:0]})

    if "rates" in fair:  # a file may hold fewer examples than are to be held out
        monkeypatch.setattr(walk, "open_lab", open_without)
    with pytest.raises(SettingsError, match=said):
        run_experiment(build("lora", fair=fair), root=tmp_path / "runs", name="r")
    assert not (tmp_path / "runs").exists()


def test_of_a_part_that_is_kept_a_later_training_is_timed(build, monkeypatch):
    asked = []

    def time_training(lab, method, *, later, **_):
        asked.append((method.name, later))
        return Pace(1, 0.5 if later else 1.0)

    monkeypatch.setattr(fairness, "time_training", time_training)
    settings = build("shared-layers-seq", "shared-layers", fair={"match": "time"})
    methods = resolve_methods(settings.methods)
    lab = make_fair(open_lab(settings, Silence()), methods)
    assert asked == [("shared-layers-seq", False), ("shared-layers", True)]
    assert lab.fair["methods"]["shared-layers"]["steps"] == {"early": 4, "late": 4}
    asked.clear()
    make_fair(open_lab(build("shared-layers", tasks=1, fair={"match": "time"}), Silence()), methods[1:])
    assert asked == [("shared-layers", False)]


def test_a_run_without_trained_methods_has_nothing_to_match(build):
    lab = open_lab(build("base", fair={"match": "parameters"}), Silence())
    assert make_fair(lab, [METHODS["base"]]) is lab


def test_a_target_stands_for_a_reference(build):
    lab = open_lab(build("lora", "layers", fair={"match": "bytes", "target": 2 * 4 * 1152 * 3}), Silence())
    lab = make_fair(lab, [METHODS["lora"], METHODS["layers"]])
    assert lab.fair["reference"] is None
    assert lab.fair["methods"]["lora"]["values"]["lora.rank"] == 3
    assert give_own_settings(lab, METHODS["lora"]).settings.lora.rank == 3
    assert give_own_settings(lab, METHODS["finetune"]) is lab  # none of the run's


def test_steps_follow_the_order_of_the_tasks(build):
    settings = build("finetune", "replay", training={"steps": 6}, fair={"match": "tokens"})
    lab = make_fair(open_lab(settings, Silence()), resolve_methods(settings.methods))
    given = give_own_settings(lab, METHODS["replay"])
    turned = give_own_settings(replace(lab, tasks=lab.tasks[::-1]), METHODS["replay"])
    assert (given.steps["early"], given.steps["late"]) == (6, 3)
    assert (turned.steps["late"], turned.steps["early"]) == (6, 3)  # the first has nothing to replay


def test_an_edge_of_the_grid_is_said(build):
    fair = {
        "unit": None,
        "methods": {
            "lora": {
                "values": {"lora.learning_rate": 0.1},
                "steps": None,
                "reached": None,
                "deviation": None,
                "search": {"edge": "highest"},
            }
        },
    }
    assert describe_solution(fair) == [
        "fair, lora: lora.learning_rate 0.1; the highest rate tried: widen fair.rates"
    ]
