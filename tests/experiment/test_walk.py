"""A whole run on a tiny base: what it leaves, what it proves, and when it refuses to go on."""

import json
import tomllib
from collections import Counter

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import codestrata
from codestrata.components.lora import build_lora
from codestrata.components.weights import WeightsComponent
from codestrata.errors import DataError, IsolationError, ModelError, RunError, SettingsError, TrainingError
from codestrata.experiment import trainings, walk
from codestrata.experiment.walk import measure_swaps, run_experiment
from codestrata.files import read_json, read_jsonl
from codestrata.lab import open_lab
from codestrata.methods import METHODS, build_component, choose_learning_rate
from codestrata.models.fingerprints import fingerprint_model
from codestrata.progress import Silence
from codestrata.settings.tree import build_settings, fingerprint
from codestrata.store import list_runs
from codestrata.training import fit

TASKS = ("python", "javascript")
SCORES = {"predictions.jsonl", "scores.jsonl"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors", "component.json"}
CHECKPOINT = {"config.json", "generation_config.json", "model.safetensors", "component.json"}
TRAINED = ("lora", "layers", "finetune")


def list_files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read_rows(path):
    return [row for _, row in read_jsonl(path)]


def find_method(results, name):
    return next(entry for entry in results["methods"] if entry["name"] == name)


@pytest.fixture(scope="module")
def results(tiny_run):
    return tiny_run.read_results()


@pytest.fixture
def lab(tiny_settings):
    return open_lab(tiny_settings, Silence())


def fit_again(component, name, lab, method, task):
    """Train as the run did, outside of any run."""
    fit(
        component,
        name,
        lab.encoded[task],
        lab.settings.training,
        learning_rate=choose_learning_rate(METHODS[method], lab.settings),
        seed=0,
        pad_id=lab.base.tokenizer.pad_token_id,
        device=lab.base.device,
    )
    component.deactivate()


def test_a_run_leaves_the_documented_files_and_no_others(tiny_run):
    wanted = {"settings.toml", "environment.json", "events.jsonl", "checksums.json", "done.json"}
    wanted |= {"experimental_results.json", "results_analysis.md"}
    wanted |= {
        f"{folder}/{name}" for folder in ("base", "controls/echo", "controls/nearest") for name in SCORES
    }
    for task in TASKS:
        for method in ("lora", "layers"):
            wanted |= {f"methods/{method}/seed-0/{task}/{name}" for name in ADAPTER | SCORES}
            wanted |= {f"methods/{method}/seed-0/{task}/transfer/{name}" for name in SCORES}
        wanted |= {f"methods/finetune/seed-0/{task}/{name}" for name in CHECKPOINT | SCORES}
        wanted |= {f"{prefix}_{task}/{name}" for prefix in ("lora", "full") for name in ADAPTER}
    wanted |= {f"noise/base/javascript/{name}" for name in SCORES}
    assert list_files(tiny_run.path) == wanted
    assert not any(path.is_symlink() for path in tiny_run.path.rglob("*"))


def test_the_founding_directories_hold_the_first_seeds_components(tiny_run):
    for method, prefix in (("lora", "lora"), ("layers", "full")):
        for task in TASKS:
            for name in ADAPTER:
                own = tiny_run.task_folder(method, 0, task) / name
                assert (tiny_run.path / f"{prefix}_{task}" / name).read_bytes() == own.read_bytes()


def test_settings_read_back_are_equal_and_so_is_their_fingerprint(tiny_run, tiny_settings, results):
    text = (tiny_run.path / "settings.toml").read_text(encoding="utf-8")
    again = build_settings(tomllib.loads(text))
    assert again == tiny_settings
    assert fingerprint(again) == fingerprint(tiny_settings) == results["settings_fingerprint"]
    assert build_settings(results["settings"]) == tiny_settings


def test_events_tell_the_run_from_start_to_end(tiny_run, results):
    events = read_rows(tiny_run.path / "events.jsonl")
    assert [event["event"] for event in events] == ["started", *["trained"] * 6, "done"]
    walked = [(event["method"], event["task"]) for event in events[1:-1]]
    assert walked == [(method, task) for method in TRAINED for task in TASKS]
    assert all(len(event["losses"]) == 2 for event in events[1:-1])
    assert read_json(tiny_run.path / "environment.json") == results["environment"]


def test_results_are_strict_json(tiny_run):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    for name in ("experimental_results.json", "environment.json", "done.json"):
        json.loads((tiny_run.path / name).read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize(("folder", "method"), [("lora_python", "lora"), ("full_python", "layers")])
def test_a_component_answers_the_same_under_plain_peft(tiny_run, tiny_base_folder, folder, method):
    if method == "layers":
        codestrata.register_with_peft()
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_base_folder, dtype=torch.float32).eval()

    def answer(prompt):
        batch = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**batch, max_new_tokens=6, do_sample=False)[0]
        return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    rows = read_rows(tiny_run.task_folder(method, 0, "python") / "predictions.jsonl")
    base_answers = [answer(row["prompt"]) for row in rows]
    model = PeftModel.from_pretrained(model, tiny_run.path / folder).eval()
    answers = [answer(row["prompt"]) for row in rows]
    assert answers == [row["completion"] for row in rows]
    assert answers != base_answers


def test_cells_of_the_results_are_those_of_the_score_files(tiny_run, results):
    for method in TRAINED:
        cells = find_method(results, method)["seeds"][0]["cells"]
        for row, task in enumerate(TASKS, start=1):
            lines = read_rows(tiny_run.task_folder(method, 0, task) / "scores.jsonl")
            stored = {(line["task"], line["split"], line["metric"]): line["value"] for line in lines}
            found = {
                (cell["task"], cell["split"], metric): entry["value"]
                for cell in cells
                if cell["row"] == row and cell["origin"] != "structural"
                for metric, entry in cell["scores"].items()
            }
            assert found == stored


def test_row_0_is_the_base(results):
    base = results["base"]["cells"]
    assert [(cell["task"], cell["split"]) for cell in base] == [
        (task, split) for task in TASKS for split in ("test", "unseen")
    ]
    assert {cell["row"] for cell in base} == {0}
    for method in results["methods"]:
        entry = method["seeds"][0]
        assert [cell for cell in entry["cells"] if cell["row"] == 0] == base
        for split, matrices in entry["R"].items():
            for metric, matrix in matrices.items():
                assert len(matrix) == 3
                assert matrix[0] == [
                    cell["scores"][metric]["value"] for cell in base if cell["split"] == split
                ]


def list_origins(results, method):
    cells = find_method(results, method)["seeds"][0]["cells"]
    return [cell["origin"] for cell in cells if cell["split"] == "test"]


def test_every_cell_says_where_it_comes_from(results):
    isolated = ["decoded", "decoded", "decoded", "structural", "rechecked", "decoded"]
    assert list_origins(results, "lora") == isolated
    assert list_origins(results, "layers") == isolated
    assert list_origins(results, "finetune") == ["decoded"] * 6
    assert list_origins(results, "base") == ["decoded"] * 2 + ["structural"] * 4


@pytest.mark.parametrize("name", ["lora", "layers"])
def test_an_isolated_method_forgets_exactly_nothing_and_it_was_looked(tiny_run, results, name):
    entry = find_method(results, name)["seeds"][0]
    rechecked = [cell for cell in entry["cells"] if cell["origin"] == "rechecked"]
    assert [(cell["row"], cell["task"], cell["split"]) for cell in rechecked] == [
        (2, "python", "test"),
        (2, "python", "unseen"),
    ]
    assert all(cell["identical_predictions"] is True for cell in rechecked)
    measured = {
        metric: summary
        for metric, summary in entry["continual"].items()
        if summary["average_accuracy"]["value"] is not None
    }
    assert {"pass@1", "bleu", "codebleu", "ast_similarity"} <= set(measured)
    for summary in measured.values():
        for metric in ("forgetting", "backward_transfer", "forward_transfer"):
            assert (summary[metric]["value"], summary[metric]["structural"]) == (0.0, True)
    first, second = (
        [
            row
            for row in read_rows(tiny_run.task_folder(name, 0, task) / "predictions.jsonl")
            if row["task"] == "python"
        ]
        for task in TASKS
    )
    assert first == second


def test_sharing_one_component_is_not_structural(results):
    entry = find_method(results, "finetune")["seeds"][0]
    assert entry["swap"] is None
    assert all(cell["identical_predictions"] is None for cell in entry["cells"])
    for summary in entry["continual"].values():
        assert not any(found["structural"] for found in summary.values())


def test_finetuning_changes_the_answers_to_the_older_task(tiny_run):
    first, second = (
        [
            row
            for row in read_rows(tiny_run.task_folder("finetune", 0, task) / "predictions.jsonl")
            if row["task"] == "python"
        ]
        for task in TASKS
    )
    assert [row["identifier"] for row in first] == [row["identifier"] for row in second]
    assert [row["completion"] for row in first] != [row["completion"] for row in second]


def test_every_training_proves_that_the_base_is_unchanged(results, tiny_base_folder):
    wanted = fingerprint_model(AutoModelForSeq2SeqLM.from_pretrained(tiny_base_folder, dtype=torch.float32))
    trainings = [t for m in results["methods"] for entry in m["seeds"] for t in entry["trainings"]]
    assert len(trainings) == 6
    assert results["base"]["fingerprint"] == wanted
    for training in trainings:
        assert training["base_fingerprint_before"] == training["base_fingerprint_after"] == wanted


def test_costs_are_counted(tiny_run, results):
    parameters = results["base"]["parameters"]
    for name in TRAINED:
        entry = find_method(results, name)["seeds"][0]
        for training, task in zip(entry["trainings"], TASKS, strict=True):
            assert training["task"] == task
            assert training["folder"] == f"methods/{name}/seed-0/{task}"
            files = list((tiny_run.path / training["folder"]).glob("*.safetensors"))
            assert training["component_bytes"] == sum(file.stat().st_size for file in files) > 0
            assert (training["steps"], training["examples"]) == (2, 6)
            own = 0 if name == "finetune" else parameters
            assert training["total_parameters"] == own + training["parameters"]
            assert training["peak_memory_mib"] > 0
            assert training["examples_per_second"] == pytest.approx(6 / training["seconds"])
    assert find_method(results, "finetune")["seeds"][0]["trainings"][0]["parameters"] == parameters
    assert set(results["seconds"]) == {"loading", "training", "decoding", "scoring", "total"}
    assert sum(results["seconds"].values()) - results["seconds"]["total"] <= results["seconds"]["total"]


def test_swaps_are_measured_where_several_components_are_resident(results):
    for name in ("lora", "layers"):
        swap = find_method(results, name)["seeds"][0]["swap"]
        assert swap["n"] == 50
        assert 0 < swap["median_milliseconds"] <= swap["largest_milliseconds"]


def test_every_component_says_what_it_is(tiny_run, results):
    for method, kind in (("lora", "lora"), ("layers", "layers"), ("finetune", "weights")):
        about = read_json(tiny_run.task_folder(method, 0, "python") / "component.json")
        assert about["kind"] == kind
        assert about["base_fingerprint"] == results["base"]["fingerprint"]
        assert (about["task"], about["language"], about["method"], about["seed"]) == (
            "python",
            "python",
            method,
            0,
        )
        assert about["prompt_template"] == "python: {}"
        assert about["data_fingerprint"] == results["tasks"][0]["fingerprint"]
        assert about["settings_fingerprint"] == results["settings_fingerprint"]
        assert about["settings"] == results["settings"][kind]
        cell = find_method(results, method)["seeds"][0]["cells"][4]
        assert (cell["row"], cell["task"], cell["split"]) == (1, "python", "test")
        values = {metric: entry["value"] for metric, entry in cell["scores"].items()}
        assert about["scores"][0] == {"split": "test", **values}


def test_a_run_repeats_itself_to_the_byte(quick_run, quick_settings, tmp_path):
    again = run_experiment(quick_settings, root=tmp_path)
    names = [
        name for name in list_files(quick_run.path) if name.endswith(("predictions.jsonl", "scores.jsonl"))
    ]
    assert len(names) == 28
    for name in [
        *names,
        "lora_early/adapter_model.safetensors",
        "full_late/adapter_model.safetensors",
    ]:
        assert (again.path / name).read_bytes() == (quick_run.path / name).read_bytes(), name
    pairs = zip(quick_run.read_results()["methods"], again.read_results()["methods"], strict=True)
    for first, second in pairs:
        assert first["seeds"][0]["R"] == second["seeds"][0]["R"]
        assert first["seeds"][0]["continual"] == second["seeds"][0]["continual"]
        assert first["seeds"][0]["cells"] == second["seeds"][0]["cells"]


def test_finetuning_goes_on_from_the_task_before(lab, tiny_run, tmp_path):
    stored = tiny_run.task_folder("finetune", 0, "javascript") / "model.safetensors"
    component = WeightsComponent(lab.base.model, fingerprint=lab.base.fingerprint)
    component.load("sequel", tiny_run.task_folder("finetune", 0, "python"))
    component.attach("fresh", seed=0)
    for name in ("sequel", "fresh"):
        fit_again(component, name, lab, "finetune", "javascript")
        component.write(name, tmp_path / name, {})
    assert (tmp_path / "sequel" / stored.name).read_bytes() == stored.read_bytes()
    assert (tmp_path / "fresh" / stored.name).read_bytes() != stored.read_bytes()


def test_an_isolated_component_owes_nothing_to_the_task_before(lab, tiny_run, tmp_path):
    stored = tiny_run.task_folder("lora", 0, "javascript") / "adapter_model.safetensors"
    component = build_lora(lab.base.model, lab.settings.lora, fingerprint=lab.base.fingerprint)
    component.attach("alone", seed=0)
    fit_again(component, "alone", lab, "lora", "javascript")
    component.write("alone", tmp_path, {})
    assert (tmp_path / stored.name).read_bytes() == stored.read_bytes()


class LeakyWeights(WeightsComponent):
    """A broken component: its tensors stay in the base's place when it leaves."""

    def _remove(self, resident):
        pass


def test_a_component_that_changes_the_base_fails_the_run(quick_tree, tmp_path, monkeypatch):
    def build(method, base, settings):
        return LeakyWeights(base.model, fingerprint=base.fingerprint)

    monkeypatch.setattr(walk, "build_component", build)
    with pytest.raises(
        IsolationError, match=r"The frozen base changed: .* 'finetune' was trained on 'early'"
    ):
        run_experiment(build_settings(quick_tree(methods=["finetune"])), root=tmp_path, name="leaky")
    files = list_files(tmp_path / "leaky")
    assert not files & {"done.json", "experimental_results.json", "results_analysis.md"}
    assert [run.is_done for run in list_runs(tmp_path)] == [False]


def test_a_training_that_fails_leaves_an_unfinished_run(quick_tree, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(trainings, "fit", fail)
    with pytest.raises(TrainingError):
        run_experiment(build_settings(quick_tree()), root=tmp_path)
    assert "done.json" not in list_files(tmp_path / "pocket-1")
    assert "base/predictions.jsonl" in list_files(tmp_path / "pocket-1")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"methods": ["base", "lroa"]}, SettingsError),
        ({"lora": {"targets": ["wi_0"]}}, SettingsError),
        ({"tasks": [{"name": "cobol"}]}, SettingsError),
        ({"tasks": [{"name": "own", "source": "file", "path": "missing.jsonl"}]}, DataError),
        ({"device": {"name": "cuda:99"}}, ModelError),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(quick_tree, tmp_path, changes, error):
    with pytest.raises(error):
        run_experiment(build_settings(quick_tree(**changes)), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_taken_name_is_refused_and_the_old_run_is_untouched(quick_tree, tmp_path):
    settings = build_settings(quick_tree(methods=["base"]))
    run = run_experiment(settings, root=tmp_path, name="mine")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="mine"):
        run_experiment(settings, root=tmp_path, name="mine")
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_several_seeds_are_trained_apart_on_the_same_data(quick_tree, tmp_path):
    run = run_experiment(build_settings(quick_tree(methods=["lora"], seeds=[3, 1])), root=tmp_path)
    results = run.read_results()
    assert [entry["seed"] for entry in find_method(results, "lora")["seeds"]] == [3, 1]
    tensors = [
        (run.task_folder("lora", seed, "early") / "adapter_model.safetensors").read_bytes() for seed in (3, 1)
    ]
    assert tensors[0] != tensors[1]
    assert (run.path / "lora_early" / "adapter_model.safetensors").read_bytes() == tensors[0]
    identifiers = [
        [row["identifier"] for row in read_rows(run.task_folder("lora", seed, "late") / "predictions.jsonl")]
        for seed in (3, 1)
    ]
    assert identifiers[0] == identifiers[1]


def test_what_was_not_measured_is_null_with_its_reason(quick_tree, tmp_path):
    tree = quick_tree()
    run = run_experiment(build_settings({**tree, "tasks": tree["tasks"][:1]}), root=tmp_path)
    results = run.read_results()
    entry = find_method(results, "lora")["seeds"][0]
    assert entry["R"]["test"]["pass@1"] == [[None], [None]]
    assert None not in [value for row in entry["R"]["test"]["bleu"] for value in row]
    missing = results["base"]["cells"][0]["scores"]["pass@1"]
    assert missing["value"] is None
    assert "has tests" in missing["reason"]
    assert results["headline_metric"] == "bleu"
    assert entry["swap"] is None
    forgetting = entry["continual"]["bleu"]["forgetting"]
    assert forgetting["value"] is None
    assert "at least 2" in forgetting["reason"]


def test_whoever_watches_is_told_of_every_phase(quick_tree, tmp_path):
    class Watcher:
        def __init__(self):
            self.phases, self.done = [], Counter()

        def start(self, label, total):
            self.phases.append((label, total))

        def advance(self, done, note=""):
            label, total = self.phases[-1]
            assert self.done[label] <= done <= total
            self.done[label] = done

        def say(self, text):
            pass

    watcher = Watcher()
    tree = quick_tree()
    run_experiment(build_settings({**tree, "tasks": tree["tasks"][:1]}), root=tmp_path, progress=watcher)
    assert [label for label, _ in watcher.phases] == [
        "load base and tasks",
        "base: decode early",
        "controls",
        "lora: train early",
        "lora: decode early",
        "base, once more: decode early",
    ]
    assert all(watcher.done[label] == total for label, total in watcher.phases)


def test_measuring_swaps_ends_on_the_bare_base(lab):
    component = build_component(METHODS["layers"], lab.base, lab.settings)
    for name in TASKS:
        component.attach(name, seed=0)
    assert measure_swaps(component)["n"] == walk.SWAPS
    assert component.active is None
    assert fingerprint_model(lab.base.model) == lab.base.fingerprint
