"""Components from a part of the training data: what they are trained on, what is kept, and in which order."""

import json
from importlib.resources import files

import jsonschema
import pytest

from codestrata.experiment import portions
from codestrata.experiment.portions import count_portion, name_portion
from codestrata.experiment.rescoring import rescore_run
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.files import read_jsonl
from codestrata.planning import plan_run
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory
from codestrata.verification.runs import verify_run

FRACTIONS = [0.5, 0.34]
SCHEMA = json.loads(
    (files("codestrata") / "schemas" / "experimental_results.schema.json").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def settings(quick_tree):
    """Two parts of six training examples, in a run with two orders."""
    tree = quick_tree(
        methods=["base", "warm", "lora-seq"],
        orders="all",
        training={"steps": None, "epochs": 2.0},
        measurement={"transfer": False, "agreement": False, "data_fractions": FRACTIONS},
    )
    return build_settings(tree)


@pytest.fixture(scope="module")
def asked():
    """The identifiers of the examples of every training on a part, in the order of the trainings."""
    return []


@pytest.fixture(scope="module")
def run(settings, asked, tmp_path_factory):
    """A finished run; do not change it."""
    real = portions.fit

    def fit(component, name, rows, training, **rest):
        asked.append(([row.identifier for row in rows], training, component.names))
        return real(component, name, rows, training, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "fit", fit)
        return run_experiment(settings, root=tmp_path_factory.mktemp("portions"), name="r")


@pytest.fixture(scope="module")
def results(run):
    return run.read_results()


def find_walks(results, name):
    return next(method for method in results["methods"] if method["name"] == name)["seeds"]


@pytest.mark.usefixtures("run")
def test_a_part_is_the_beginning_of_a_larger_one(asked):
    assert [len(rows) for rows, _, _ in asked] == [2, 3, 2, 3]
    assert asked[0][0] == asked[1][0][:2]
    assert asked[2][0] == asked[3][0][:2]
    assert asked[0][0] != asked[2][0]


def test_every_part_takes_as_many_steps_as_all_of_the_data(asked, results):
    """Six examples in batches of three, twice: four steps."""
    assert {(training.steps, training.epochs) for _, training, _ in asked} == {(4, None)}
    first, second = find_walks(results, "warm")
    assert {training["steps"] for training in first["trainings"]} == {4}
    assert {part["training"]["steps"] for part in first["sample_efficiency"]} == {4}
    assert [part["training"]["examples"] for part in first["sample_efficiency"]] == [2, 3, 2, 3]
    assert second["sample_efficiency"] == []


def test_a_component_of_a_part_is_forgotten(asked, run):
    assert all(sum(name.startswith("portion-") for name in names) == 1 for _, _, names in asked)
    folder = run.path / name_portion("warm", 0, "late", 0.34)
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.jsonl", "scores.jsonl"]
    rows = [row for _, row in read_jsonl(folder / "predictions.jsonl")]
    assert {(row["task"], row["split"]) for row in rows} == {("late", "test")}
    assert not (run.path / "checkpoints").exists()


def test_results_have_all_of_the_data_beside_the_parts(results):
    jsonschema.validate(results, SCHEMA)
    found = results["sample_efficiency"]
    assert found["fractions"] == [0.34, 0.5, 1.0]
    assert list(found["methods"]) == ["warm"]
    walk = find_walks(results, "warm")[0]
    for task, points in found["methods"]["warm"].items():
        assert [(point["fraction"], point["examples"]) for point in points] == [(0.34, 2), (0.5, 3), (1, 6)]
        own = next(
            cell
            for cell in walk["cells"]
            if (cell["trained_through"], cell["task"], cell["split"]) == (task, task, "test")
        )
        for metric, score in own["scores"].items():
            assert points[-1]["scores"][metric]["value"] == score["value"]


def test_what_was_not_measured_says_why(results):
    found = results["sample_efficiency"]["not_measured"]
    assert found["base"] == "nothing is trained"
    assert "share what is trained" in found["lora-seq"]


def test_everything_is_computed_again_from_the_files(run):
    assert rescore_run(run).changes == ()
    assert {check.verdict for check in verify_run(run).checks} == {"same"}


def test_a_plan_counts_the_parts(settings, results, run):
    plan = plan_run(settings)
    for planned, method in zip(plan.methods, results["methods"], strict=True):
        done = sum(len(walk["trainings"]) + len(walk["sample_efficiency"]) for walk in method["seeds"])
        assert planned.trainings == done, planned.name


def test_a_run_that_was_broken_off_trains_no_part_twice(quick_tree, tmp_path, monkeypatch):
    settings = build_settings(
        quick_tree(
            methods=["lora"],
            training={"steps": 1},
            measurement={"transfer": False, "agreement": False, "data_fractions": [0.5]},
        )
    )
    real, asked = portions.fit, []

    def fit(component, name, rows, training, **rest):
        asked.append(rest["label"])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(component, name, rows, training, **rest)

    monkeypatch.setattr(portions, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(settings, root=tmp_path, name="r")
    resumed = resume_experiment(RunDirectory(tmp_path / "r"))
    assert asked == ["lora: 0.5 of early", "lora: 0.5 of late", "lora: 0.5 of late"]
    (walk,) = find_walks(resumed.read_results(), "lora")
    assert [part["cell"]["task"] for part in walk["sample_efficiency"]] == ["early", "late"]


def test_a_part_holds_at_least_one_example():
    assert [count_portion(10, fraction) for fraction in (0.01, 0.25, 0.5, 0.99)] == [1, 2, 5, 10]


def test_parts_that_are_nearly_as_large_have_folders_of_their_own():
    near = (0.333333, 0.3333333, 1 / 3, 0.1 + 0.2, 0.3, 1e-5)
    assert len({name_portion("lora", 0, "a", fraction) for fraction in near}) == len(near)


def test_parts_of_later_orders_would_have_folders_of_their_own():
    assert name_portion("lora", 1, "a", 0.25) == "methods/lora/seed-1/a/fraction-0.25"
    assert name_portion("lora", 1, "a", 0.25, order=2) == "methods/lora/order-2/seed-1/a/fraction-0.25"
