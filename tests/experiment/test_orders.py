"""A run with several orders of its tasks: what is trained in which, what R holds, and how it is resumed."""

import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from codestrata.experiment import walk as walking
from codestrata.experiment.orders import depends_on_order, list_labs, reorder_walk
from codestrata.experiment.rescoring import rescore_run
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.files import read_json, read_jsonl, write_json
from codestrata.lab import open_lab
from codestrata.methods import METHODS
from codestrata.planning import plan_run
from codestrata.progress import Silence
from codestrata.records import Cell
from codestrata.results.measured import Walk
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory
from codestrata.verification.runs import verify_run

ORDERS = [["early", "late"], ["late", "early"]]
SCHEMA = json.loads(
    (files("codestrata") / "schemas" / "experimental_results.schema.json").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def settings(quick_tree):
    """Two orders of two tasks with two seeds."""
    tree = quick_tree(
        methods=["base", "lora", "lora-seq"],
        orders="all",
        seeds=[0, 3],
        training={"steps": 1},
        measurement={"transfer": False, "agreement": False},
    )
    return build_settings(tree)


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """A finished run; do not change it."""
    return run_experiment(settings, root=tmp_path_factory.mktemp("orders"), name="r")


@pytest.fixture(scope="module")
def results(run):
    return run.read_results()


def find_method(results, name):
    return next(method for method in results["methods"] if method["name"] == name)


def find_walk(results, name, seed, order):
    walks = find_method(results, name)["seeds"]
    return next(walk for walk in walks if (walk["seed"], walk["order"]) == (seed, order))


def list_origins(walk):
    return {(cell["row"], cell["task"]): cell["origin"] for cell in walk["cells"] if cell["row"]}


def test_results_have_the_published_shape(results):
    jsonschema.validate(results, SCHEMA)
    assert results["orders"] == ORDERS


def test_every_method_walks_every_order_with_every_seed(results):
    for method in results["methods"]:
        walks = [(walk["order"], walk["seed"]) for walk in method["seeds"]]
        assert walks == [(0, 0), (0, 3), (1, 0), (1, 3)], method["name"]


def test_what_depends_on_the_order_is_trained_in_each(results):
    for name, trained in (("base", 0), ("lora", 1), ("lora-seq", 2)):
        tasks = [
            [training["task"] for training in walk["trainings"]]
            for walk in find_method(results, name)["seeds"]
        ]
        own = ORDERS[0] if trained else []
        later = ORDERS[1] if trained == 2 else []
        assert tasks == [own, own, later, later], name


def test_only_those_methods_depend_on_the_order():
    independent = {name for name, method in METHODS.items() if not depends_on_order(method)}
    assert {"base", "lora", "layers", "single"} <= independent
    assert not independent & {"warm", "finetune", "joint", "replay", "olora"}


def test_later_orders_have_folders_of_their_own(run):
    first = run.path / "methods/lora-seq/seed-3/late/adapter_model.safetensors"
    second = run.path / "methods/lora-seq/order-1/seed-3/late/adapter_model.safetensors"
    assert first.is_file()
    assert second.is_file()
    assert first.read_bytes() != second.read_bytes()
    assert not (run.path / "methods/lora/order-1").exists()
    assert not run.journal_folder.exists()


def test_a_component_of_its_own_has_the_same_answers_in_every_order(results):
    """Order late, early: R[1, late] is the component's, R[1, early] the base's."""
    first, second = find_walk(results, "lora", 3, 0), find_walk(results, "lora", 3, 1)
    assert list_origins(second) == {
        (1, "late"): "taken-over",
        (1, "early"): "structural",
        (2, "late"): "taken-over",
        (2, "early"): "taken-over",
    }
    own = {cell["task"]: cell for cell in first["cells"] if cell["trained_through"] == cell["task"]}
    base = {cell["task"]: cell for cell in results["base"]["cells"]}
    for cell in second["cells"]:
        source = base if cell["origin"] in ("structural", "decoded") else own
        for key in ("scores", "folder", "component_fingerprint"):
            assert cell[key] == source[cell["task"]][key]
    assert [cell["trained_through"] for cell in second["cells"] if cell["row"] == 1] == ["late", "late"]


def test_the_columns_of_r_are_in_the_order_of_the_tasks(results):
    walk = find_walk(results, "lora-seq", 0, 1)
    for metric, matrix in walk["R"]["test"].items():
        for cell in walk["cells"]:
            value = cell["scores"][metric]["value"]
            assert matrix[cell["row"]][ORDERS[1].index(cell["task"])] == value


def test_means_are_over_orders_and_seeds(results):
    for name in ("lora", "lora-seq"):
        method = find_method(results, name)
        for metric, found in method["continual"].items():
            values = [walk["continual"][metric]["average_accuracy"]["value"] for walk in method["seeds"]]
            if None not in values:
                assert found["average_accuracy"]["value"] == pytest.approx(sum(values) / 4)
                assert found["average_accuracy"]["seeds"] == 2
        assert method["final"]["test"]["early"]["chrf"]["seeds"] == 2
        assert len(method["orders"]["by_order"]) == 2


def test_the_range_of_isolated_components_is_structural(results):
    found = find_method(results, "lora")["orders"]["range"]
    assert all(entry["structural"] and entry["value"] == 0 for entry in found.values())
    assert not find_method(results, "lora-seq")["orders"]["range"]["average_accuracy"]["structural"]


def test_comparisons_are_paired_by_order_too(results):
    assert {entry["seeds"] for entry in results["comparisons"]} == {2}


def test_isolation_is_counted_where_it_was_shown(results):
    """Per seed: one older cell of lora decoded again, in the first order; 2 + 4 trainings."""
    found = results["isolation"]
    assert (found["rechecked_cells"], found["identical_cells"], found["taken_over_cells"]) == (2, 2, 0)
    assert (found["trainings"], found["base_unchanged"]) == (12, 12)


def test_everything_is_computed_again_from_the_files(run):
    assert rescore_run(run).changes == ()
    checked = verify_run(run)
    assert {check.verdict for check in checked.checks} == {"same"}


def test_a_plan_counts_every_order(settings, results):
    plan = plan_run(settings)
    for planned, method in zip(plan.methods, results["methods"], strict=True):
        done = sum(len(walk["trainings"]) for walk in method["seeds"])
        assert planned.trainings == done, planned.name


@pytest.mark.slow
def test_a_run_that_was_broken_off_in_a_later_order_ends_the_same(settings, run, tmp_path, monkeypatch):
    real, asked = walking.train_task, []

    def stop(lab, run, method, component, task, seed, *rest):
        asked.append((method.name, lab.order, seed, task.name))
        if asked[-1] == ("lora-seq", 1, 3, "early"):
            raise KeyboardInterrupt
        return real(lab, run, method, component, task, seed, *rest)

    monkeypatch.setattr(walking, "train_task", stop)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(settings, root=tmp_path, name="r")
    monkeypatch.undo()
    resumed = resume_experiment(RunDirectory(tmp_path / "r"))
    before = sorted(path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file())
    after = sorted(path.relative_to(resumed.path) for path in resumed.path.rglob("*") if path.is_file())
    assert after == before
    for path in before:
        if path.name in ("predictions.jsonl", "scores.jsonl") or path.suffix == ".safetensors":
            assert (resumed.path / path).read_bytes() == (run.path / path).read_bytes(), path


def test_listed_orders_need_not_begin_with_the_given_one(quick_tree, tmp_path):
    tree = quick_tree(
        methods=["lora", "lora-seq"],
        orders=[["late", "early"]],
        training={"steps": 1},
        measurement={"transfer": False, "agreement": False},
    )
    run = run_experiment(build_settings(tree), root=tmp_path)
    results = run.read_results()
    assert results["orders"] == [["late", "early"]]
    assert [task["name"] for task in results["tasks"]] == ["early", "late"]
    for method in results["methods"]:
        (walk,) = method["seeds"]
        assert [training["task"] for training in walk["trainings"]] == ["late", "early"]
        assert method["orders"] is None
    assert rescore_run(run).changes == ()
    assert {check.verdict for check in verify_run(run).checks} == {"same"}


def test_labs_differ_in_their_tasks_alone(settings):
    lab = open_lab(settings, Silence())
    first, second = list_labs(lab)
    assert ([task.name for task in first.tasks], [task.name for task in second.tasks]) == tuple(ORDERS)
    assert (first.order, second.order) == (0, 1)
    assert replace(second, tasks=first.tasks, order=0) == first


def make_cell(row, through, task, folder, origin="decoded"):
    return Cell(
        row=row,
        trained_through=through,
        task=task,
        split="test",
        origin=origin,
        predictions=(),
        scores=(),
        folder=folder,
    )


def test_a_walk_of_the_base_alone_has_no_components_in_any_order(settings):
    lab = list_labs(open_lab(settings, Silence()))[1]
    cells = [make_cell(0, None, task, "base") for task in ORDERS[0]]
    cells += [
        make_cell(row, through, task, "base", "structural")
        for row, through in enumerate(ORDERS[0], start=1)
        for task in ORDERS[0]
    ]
    found = reorder_walk(lab, Walk(seed=5, trainings=(), cells=tuple(cells)))
    assert (found.seed, found.order) == (5, 1)
    assert [(cell.row, cell.trained_through, cell.origin) for cell in found.cells[2:]] == [
        (1, "late", "structural"),
        (1, "late", "structural"),
        (2, "early", "structural"),
        (2, "early", "structural"),
    ]


def test_settings_say_the_orders_to_whoever_resumes(run, settings):
    assert run.read_settings() == settings
    assert read_json(run.path / "experimental_results.json")["settings"]["orders"] == "all"


@pytest.fixture
def copied(run, tmp_path):
    """A copy of the finished run to damage."""
    return RunDirectory(Path(shutil.copytree(run.path, tmp_path / "r")))


def find_check(run, subject, **options):
    return next(check for check in verify_run(run, **options).checks if check.subject == subject)


def test_components_of_later_orders_are_verified(copied):
    """The component of the second order takes the first order's place, and says so of itself."""
    later = copied.path / "methods/lora-seq/order-1/seed-3/early"
    shutil.rmtree(later)
    shutil.copytree(copied.path / "methods/lora-seq/seed-3/early", later)
    check = find_check(copied, "components")
    assert check.verdict == "differs"
    assert any("order-1/seed-3/early have the fingerprint" in line for line in check.differences)


def test_walks_of_later_orders_are_held_against_the_plan(copied):
    path = copied.path / "experimental_results.json"
    results = read_json(path)
    walk = find_walk(results, "lora-seq", 0, 1)
    walk["cells"][2]["trained_through"] = "early"
    walk["trainings"].reverse()
    write_json(path, results)
    found = find_check(copied, "plan").differences
    assert any(line.startswith("lora-seq, seed 0, order 1: the results tell of trainings") for line in found)
    assert any("order 1: row 1" in line and "not late" in line for line in found)


@pytest.mark.slow
def test_answers_of_later_orders_are_decoded_again(copied):
    path = copied.path / "methods/lora-seq/order-1/seed-0/late/predictions.jsonl"
    text = path.read_text(encoding="utf-8")
    assert find_check(copied, "predictions", decode=True).verdict == "same"
    rows = [row for _, row in read_jsonl(path)]
    rows[0]["completion"] += " more"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    assert find_check(copied, "predictions", decode=True).verdict == "differs"
