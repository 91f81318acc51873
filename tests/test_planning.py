"""The plan of a run against the run itself."""

import pytest

from codestrata.errors import SettingsError
from codestrata.methods import METHODS
from codestrata.planning import Plan, count_decodes, plan_run
from codestrata.settings.tree import build_settings


@pytest.fixture(scope="module")
def plan(tiny_settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nothing")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = plan_run(tiny_settings)
    assert list(folder.iterdir()) == []
    return made


def test_a_plan_counts_what_the_run_then_trains(plan, tiny_run):
    results = tiny_run.read_results()
    assert [method.name for method in plan.methods] == [method["name"] for method in results["methods"]]
    for planned, method in zip(plan.methods, results["methods"], strict=True):
        trainings = [training for entry in method["seeds"] for training in entry["trainings"]]
        assert planned.trainings == len(trainings)
        assert list(planned.steps_per_task) == [training["steps"] for training in trainings]
        assert {training["parameters"] for training in trainings} <= {planned.parameters}


def test_a_plan_counts_what_the_run_then_decodes(plan, tiny_run):
    folders = [
        path.parent for path in tiny_run.path.rglob("predictions.jsonl") if "controls" not in path.parts
    ]
    lines = [
        line
        for folder in folders
        for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert plan.decoded_prompts == len(lines)


def test_a_plan_knows_the_tasks(plan):
    assert plan.examples == {name: {"train": 6, "test": 4, "unseen": 2} for name in ("python", "javascript")}


def test_an_estimate_is_made_of_training_and_decoding(plan):
    assert plan.decoding_seconds > 0
    assert plan.methods[0].training_seconds == 0
    assert all(method.training_seconds > 0 for method in plan.methods[1:])
    trained = sum(method.training_seconds for method in plan.methods)
    assert plan.total_seconds == pytest.approx(plan.decoding_seconds + trained)


def test_more_seeds_and_epochs_multiply_the_work(quick_tree):
    def plan(**changes):
        return plan_run(build_settings(quick_tree(methods=["lora"], **changes)))

    one = plan()
    three = plan(seeds=[0, 1, 2], training={"steps": None, "epochs": 2.0})
    assert isinstance(one, Plan)
    assert (one.methods[0].trainings, three.methods[0].trainings) == (2, 6)
    assert (one.methods[0].steps_per_task, three.methods[0].steps_per_task) == ((2, 2), (4, 4))
    # The base answers once whatever the seeds, and twice on the last task, which no recheck covers.
    base = sum(sizes["test"] for sizes in one.examples.values()) + one.examples["late"]["test"]
    assert three.decoded_prompts - base == 3 * (one.decoded_prompts - base)


@pytest.mark.parametrize(
    ("name", "recheck", "counts"),
    [
        ("base", "full", [0, 0, 0]),
        ("lora", "full", [3, 2, 1]),
        ("lora", "canary", [1, 1, 1]),
        ("lora", "off", [1, 1, 1]),
        ("finetune", "canary", [3, 3, 3]),
        ("joint", "full", [3, 3, 3]),
        # A task is decoded before its turn too, by the components that its own will begin as.
        ("warm", "full", [3, 3, 3]),
        ("warm", "canary", [1, 2, 3]),
    ],
)
def test_how_often_a_task_is_decoded_follows_from_schedule_and_recheck(name, recheck, counts):
    assert [count_decodes(METHODS[name], position, 3, recheck) for position in (1, 2, 3)] == counts


def test_a_plan_refuses_what_the_run_would_refuse(quick_tree):
    with pytest.raises(SettingsError, match="Unknown method 'lroa'"):
        plan_run(build_settings(quick_tree(methods=["lroa"])))


@pytest.mark.parametrize(
    ("methods", "trained"),
    [
        (["routed", "lora", "merged"], {"lora": 2, "routed": 0, "merged": 0}),
        (["merged", "routed"], {"merged": 2, "routed": 0}),
    ],
)
def test_components_that_another_method_trains_are_not_trained_again(quick_tree, methods, trained):
    plan = plan_run(build_settings(quick_tree(methods=methods, measurement={"recheck": "off"})))
    assert {method.name: method.trainings for method in plan.methods} == trained
    assert [method.training_seconds > 0 for method in plan.methods] == [
        method.trainings > 0 for method in plan.methods
    ]
    cells = {method.name: method.decoded_cells for method in plan.methods}
    assert cells["merged"] == 4
    assert cells["routed"] == (0 if "lora" in methods else 2)  # whom it sends elsewhere is not foreseen
