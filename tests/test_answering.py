"""A run's components answer as they did in the run."""

import copy
import json
import os
import re
import shutil

import pytest

from codestrata.answering import Choice, answer, choose_component
from codestrata.errors import ComponentError, RunError, SettingsError
from codestrata.experiment.walk import run_experiment
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory


def read_predictions(run, method, task, through):
    path = run.task_folder(method, 0, through) / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["task"] == task]


@pytest.fixture
def pretend(tiny_run, tmp_path):
    """A function that makes a run directory with changed results."""

    def make(change):
        results = copy.deepcopy(tiny_run.read_results())
        change(results)
        run = RunDirectory(tmp_path)
        run.finish(results, "")
        return run

    return make


def set_final(results, method, task, value, seed=0):
    entry = next(entry for entry in results["methods"] if entry["name"] == method)["seeds"][seed]
    entry["R"]["test"][results["headline_metric"]][-1][task] = value


@pytest.mark.parametrize("method", ["lora", "layers", "finetune"])
def test_answers_are_those_of_the_run(tiny_run, method):
    through = "javascript" if method == "finetune" else "python"
    rows = read_predictions(tiny_run, method, "python", through)
    texts = [row["prompt"].removeprefix("python: ") for row in rows]
    choice = Choice(method=method, seed=0, task="python")
    assert answer(tiny_run, choice, texts, device="cpu") == [row["completion"] for row in rows]


def test_the_best_method_on_the_task_answers(pretend):
    def change(results):
        set_final(results, "lora", 0, 0.5)
        set_final(results, "layers", 0, 0.75)
        set_final(results, "layers", 1, 0.1)
        set_final(results, "finetune", 1, 0.2)

    run = pretend(change)
    assert choose_component(run, "python", None) == Choice(method="layers", seed=0, task="python")
    assert choose_component(run, "javascript", None) == Choice(method="finetune", seed=0, task="javascript")
    assert choose_component(run, "python", "lora") == Choice(method="lora", seed=0, task="python")


def test_the_best_seed_answers_and_what_was_not_measured_is_worst(pretend):
    def change(results):
        lora = next(entry for entry in results["methods"] if entry["name"] == "lora")
        lora["seeds"].append(copy.deepcopy(lora["seeds"][0]))
        lora["seeds"][1]["seed"] = 7
        set_final(results, "lora", 0, None)
        set_final(results, "lora", 0, 0.0, seed=1)

    assert choose_component(pretend(change), "python", "lora").seed == 7


def test_of_a_method_the_seed_asked_for_answers(pretend):
    def change(results):
        lora = next(entry for entry in results["methods"] if entry["name"] == "lora")
        lora["seeds"].append(copy.deepcopy(lora["seeds"][0]))
        lora["seeds"][1]["seed"] = 7
        set_final(results, "lora", 0, 0.9)
        set_final(results, "lora", 0, 0.1, seed=1)

    run = pretend(change)
    assert choose_component(run, "python", "lora").seed == 0
    assert choose_component(run, "python", "lora", seed=7).seed == 7
    assert choose_component(run, "python", None, seed=7) == Choice(method="lora", seed=7, task="python")
    with pytest.raises(SettingsError, match=r"Unknown seed '1'\. Known: 0, 7\."):
        choose_component(run, "python", "lora", seed=1)


@pytest.mark.parametrize("orders", ["latin", [["late", "early"], ["early", "late"]]], ids=str)
def test_of_several_orders_the_first_one_s_components_answer(orders, quick_tree, tmp_path):
    tree = quick_tree(
        methods=["lora-seq"],
        orders=orders,
        seeds=[0, 3],
        training={"steps": 1},
        decoding={"max_new_tokens": 2},
        measurement={"agreement": False, "transfer": False},
    )
    done = run_experiment(build_settings(tree), root=tmp_path)
    results = done.read_results()
    finals = {(0, 0): (0.2, 0.8), (0, 3): (0.6, 0.4), (1, 0): (0.9, 0.1), (1, 3): (0.1, 0.9)}
    for walk in results["methods"][0]["seeds"]:
        scores = dict(zip(("early", "late"), finals[walk["order"], walk["seed"]], strict=True))
        row = [scores[task] for task in results["orders"][walk["order"]]]
        walk["R"]["test"][results["headline_metric"]][-1] = row
    run = RunDirectory(tmp_path / "pretended")
    run.finish(results, "")
    assert choose_component(run, "early", None) == Choice(method="lora-seq", seed=3, task="early")
    assert choose_component(run, "late", None) == Choice(method="lora-seq", seed=0, task="late")


@pytest.mark.parametrize(
    ("task", "method", "message"),
    [
        ("pyton", None, r"Unknown task 'pyton'. Did you mean 'python'\? Known: javascript, python"),
        ("python", "lroa", r"Unknown trained method 'lroa'. Did you mean 'lora'\?"),
        ("python", "base", "Known: finetune, layers, lora"),
    ],
)
def test_unknown_names_come_with_the_choices(tiny_run, task, method, message):
    with pytest.raises(SettingsError, match=message):
        choose_component(tiny_run, task, method)


def test_a_run_that_trained_nothing_cannot_answer(pretend):
    run = pretend(lambda results: results.update(methods=results["methods"][:1]))
    with pytest.raises(RunError, match="trained no component"):
        choose_component(run, "python", None)


def test_an_unfinished_run_cannot_answer(tmp_path):
    with pytest.raises(RunError, match="did not come to its end"):
        choose_component(RunDirectory(tmp_path), "python", None)


def test_another_base_under_the_same_name_is_refused(tiny_run, tiny_base_folder, build_tiny_t5, tmp_path):
    other = tmp_path / "base"
    shutil.copytree(tiny_base_folder, other)
    build_tiny_t5(
        seed=1, vocab_size=json.loads((other / "config.json").read_text())["vocab_size"]
    ).save_pretrained(other)
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(tiny_run.path, run.path)
    settings = run.path / "settings.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace(str(tiny_base_folder), str(other)), encoding="utf-8")
    with pytest.raises(ComponentError, match="base_fingerprint"):
        answer(run, Choice(method="lora", seed=0, task="python"), ["sum"], device="cpu")


def test_another_base_is_named_with_both_fingerprints(tiny_run, copied, tiny_base_folder):
    path = copied.task_folder("lora", 0, "python") / "component.json"
    found = json.loads(path.read_text(encoding="utf-8"))["base_fingerprint"]
    edit(path, base_fingerprint="0" * 64)
    with pytest.raises(ComponentError, match=f"base_fingerprint is '{'0' * 64}', but '{found}' is needed"):
        answer(copied, Choice(method="lora", seed=0, task="python"), ["sum"], device="cpu")


@pytest.fixture
def copied(tiny_run, tmp_path):
    """A run of one's own, to be changed."""
    run = RunDirectory(tmp_path / "runs" / "copy")
    shutil.copytree(tiny_run.path, run.path)
    return run


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


LORA = Choice(method="lora", seed=0, task="python")


def set_seed(value):
    def change(results):
        for method in results["methods"]:
            for entry in method["seeds"]:
                entry["seed"] = value

    return change


def rename_methods(results):
    for method in results["methods"]:
        method["name"] = f"../../../{method['name']}"


def score_with_text(results):
    set_final(results, "lora", 0, "0.5")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (set_seed("../../../../lora/seed-0"), RunError, r"no run writes \(ValueError: .*a seed is"),
        (set_seed(None), RunError, "a seed is None"),
        (set_seed(True), RunError, "a seed is True"),
        (rename_methods, SettingsError, r"Unknown trained method '\.\./\.\./\.\./"),
        (score_with_text, RunError, "a score is '0.5'"),
        (lambda results: results.update(methods=7), RunError, "no run writes"),
        (lambda results: results.update(tasks=[["name"]]), RunError, "no run writes"),
        (lambda results: results.update(headline_metric=["x"]), RunError, "no run writes"),
        (lambda results: results.pop("tasks"), RunError, "no run writes"),
        (lambda results: results["methods"][1].update(name=["lora"]), RunError, "no run writes"),
        (lambda results: results["methods"][1]["seeds"][0]["R"].update(test=[]), RunError, "no run writes"),
    ],
    ids=[
        "seed that is a path",
        "no seed",
        "seed that is a truth",
        "methods that are paths",
        "score that is text",
        "methods that are a number",
        "tasks that are lists",
        "metric that is a list",
        "no tasks",
        "method that is a list",
        "no matrix",
    ],
)
def test_results_of_a_stranger_lead_nowhere(change, error, message, pretend):
    with pytest.raises(error, match=message):
        choose_component(pretend(change), "python", None)


def test_a_task_that_would_lead_out_is_refused(pretend):
    def change(results):
        results["tasks"][0]["name"] = results["orders"][0][0] = "../../x"

    with pytest.raises(SettingsError, match=r"The task's name is '\.\./\.\./x'"):
        choose_component(pretend(change), "../../x", "lora")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "../lora"}, r"Unknown trained method '\.\./lora'"),
        ({"method": "base"}, "Unknown trained method 'base'"),
        ({"seed": "0/../../../.."}, r"The seed is '0/\.\./"),
        ({"task": "../../x"}, "The task's name is"),
        ({"task": ".."}, "The task's name is"),
    ],
    ids=str,
)
def test_a_choice_that_would_lead_out_is_refused_before_anything_is_loaded(
    values, message, tiny_run, monkeypatch
):
    monkeypatch.setattr("codestrata.answering.load_base", None)
    with pytest.raises(SettingsError, match=message):
        answer(tiny_run, Choice(**{"method": "lora", "seed": 0, "task": "python", **values}), ["sum"])


@pytest.mark.parametrize(
    "depth", ["methods", "methods/lora", "methods/lora/seed-0", "methods/lora/seed-0/python"]
)
def test_a_folder_that_leads_out_of_the_run_is_not_followed(depth, copied, tmp_path, monkeypatch):
    monkeypatch.setattr("codestrata.answering.load_base", None)
    shutil.move(copied.path / depth, tmp_path / "outside")
    (copied.path / depth).symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="leads out of"):
        answer(copied, LORA, ["sum"])


@pytest.mark.parametrize("file", ["component.json", "adapter_config.json", "adapter_model.safetensors"])
def test_a_file_that_leads_out_of_the_component_is_not_followed(file, copied, tmp_path):
    path = copied.task_folder("lora", 0, "python") / file
    shutil.move(path, tmp_path / file)
    path.symlink_to(tmp_path / file)
    with pytest.raises(ComponentError, match=f"{file}: a symlink that leads out of its folder"):
        answer(copied, LORA, ["sum"], device="cpu")


@pytest.mark.parametrize("file", ["component.json", "adapter_config.json", "adapter_model.safetensors"])
def test_a_fifo_in_the_component_is_not_waited_for(file, copied):
    path = copied.task_folder("lora", 0, "python") / file
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ComponentError, match=f"{file}: a FIFO"):
        answer(copied, LORA, ["sum"], device="cpu")


def test_a_run_that_is_a_link_itself_answers(copied, tiny_run, tmp_path):
    (tmp_path / "link").symlink_to(copied.path)
    assert answer(RunDirectory(tmp_path / "link"), LORA, ["sum"], device="cpu") == answer(
        tiny_run, LORA, ["sum"], device="cpu"
    )


@pytest.mark.parametrize("template", [None, 7, ["{}"], "no place for the text"], ids=str)
def test_a_template_that_is_none_is_refused_before_anything_is_loaded(template, copied, monkeypatch):
    monkeypatch.setattr("codestrata.answering.load_base", None)
    edit(copied.task_folder("lora", 0, "python") / "component.json", prompt_template=template)
    with pytest.raises(ComponentError, match=r"prompt_template is .*, but a text with \{\} in it is needed"):
        answer(copied, LORA, ["sum"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, "but those that the component was built with are needed"),
        (["rank"], "but those that the component was built with are needed"),
        ({"rank": 0}, "no settings of lora: lora.rank is 0: it must be at least 1"),
        ({"rank": "large"}, "no settings of lora: lora.rank is 'large': expected int"),
        ({"ranks": 2}, "no settings of lora: Unknown setting 'lora.ranks'"),
    ],
    ids=str,
)
def test_settings_that_no_component_has_are_refused(settings, said, copied):
    edit(copied.task_folder("lora", 0, "python") / "component.json", settings=settings)
    with pytest.raises(ComponentError, match=re.escape(said)):
        answer(copied, LORA, ["sum"], device="cpu")
