"""What repeats training text is noted with every answer, against the training of whoever answered."""

from dataclasses import replace

import pytest

from codestrata.errors import DataError
from codestrata.experiment import cells
from codestrata.experiment.extending import extend_run, extend_settings
from codestrata.experiment.rescoring import rescore_run
from codestrata.experiment.walk import run_experiment
from codestrata.files import read_jsonl, write_jsonl
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory

METHODS = ["lora", "finetune", "joint", "merged", "routed"]
NAMES = ("early", "late", "last")


def write_words(name, first, count):
    return " ".join(f"{name}{number}" for number in range(first, first + count))


@pytest.fixture(scope="module")
def planted_tree(quick_tree, tmp_path_factory):
    """Makes the tree of a run over tasks whose targets of 60 words have no word in common."""
    folder = tmp_path_factory.mktemp("planted")
    for name in NAMES:
        rows = [{"prompt": f"say {name} {n}", "target": write_words(f"{name}{n}n", 0, 60)} for n in range(40)]
        write_jsonl(folder / f"{name}.jsonl", rows)

    def build(count=2, **sections):
        task = quick_tree()["tasks"][0] | {"train_examples": 4, "test_examples": 3}
        tasks = [task | {"name": name, "path": str(folder / f"{name}.jsonl")} for name in NAMES[:count]]
        measurement = {"transfer": True, "agreement": False, "repetition_tokens": 50}
        return quick_tree(**{"methods": METHODS, "tasks": tasks, "measurement": measurement} | sections)

    return build


@pytest.fixture(scope="module")
def memoriser():
    """Has models say 50 words of the first task's training, 50 of the second's, and 49 of the first's."""
    real, learned = cells.predict, []

    def predict(base, examples, settings, **rest):
        found = real(base, examples, replace(settings, max_new_tokens=1), **rest)
        first, second = (text.split()[5:55] for text in learned)
        said = (first, second, first[:-1])
        return tuple(
            replace(entry, completion=" ".join(said[place % 3])) for place, entry in enumerate(found)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "predict", predict)
        yield learned


@pytest.fixture(scope="module")
def planted_run(planted_tree, memoriser, tmp_path_factory):
    """A finished run whose models say what they trained on; do not change it."""
    from codestrata.data.tasks import load_task

    settings = build_settings(planted_tree())
    memoriser[:] = [load_task(section).train[2].target for section in settings.tasks]
    return run_experiment(settings, root=tmp_path_factory.mktemp("runs"), name="planted")


def find_entries(run, method, split="test"):
    entries = run.read_results()["repetition"]["entries"]
    return {entry["task"]: entry for entry in entries if (entry["method"], entry["split"]) == (method, split)}


def list_flags(run, folder, task="early"):
    rows = [row for _, row in read_jsonl(run.path / folder / "predictions.jsonl")]
    return [(row["repeats"], row["target_repeats"]) for row in rows if row["task"] == task]


def test_a_planted_memoriser_is_found_where_its_component_was_trained_on_the_text(planted_run):
    found = {
        method: {
            task: entry["outputs"]["repeating"] for task, entry in find_entries(planted_run, method).items()
        }
        for method in ("lora", "finetune", "joint", "merged")
    }
    assert found == {
        "lora": {"early": 1, "late": 1},  # neither component saw the other's text
        "finetune": {"early": 2, "late": 2},
        "joint": {"early": 2, "late": 2},
        "merged": {"early": 2, "late": 2},
    }
    entry = find_entries(planted_run, "lora")["late"]
    assert entry["outputs"]["share"]["value"] == pytest.approx(1 / 3)
    assert [entry["outputs"][key] for key in ("n", "untrained", "long")] == [3, 0, 2]
    interval = entry["outputs"]["share"]["interval"]
    assert [round(interval[key], 3) for key in ("low", "high")] == [0.061, 0.792]  # Wilson's of 1 in 3


@pytest.mark.parametrize(
    ("folder", "task", "wanted"),
    [
        ("lora/seed-0/early", "early", [True, False, False]),
        ("lora/seed-0/late", "late", [False, True, False]),
        ("finetune/seed-0/early", "early", [True, False, False]),
        ("finetune/seed-0/early", "late", [True, False, False]),
        ("finetune/seed-0/late", "early", [True, True, False]),  # it has seen the second task's text by then
    ],
)
def test_an_answer_repeats_what_its_component_was_trained_on_by_then(planted_run, folder, task, wanted):
    assert [repeats for repeats, _ in list_flags(planted_run, f"methods/{folder}", task)] == wanted


def test_targets_say_what_perfect_answers_would_repeat(planted_run):
    for task, entry in find_entries(planted_run, "lora").items():
        targets = entry["targets"]
        assert [targets[key] for key in ("n", "long", "repeating")] == [3, 3, 0], task
        assert targets["share"]["value"] == 0.0


def test_test_targets_that_are_training_targets_are_counted(planted_tree, memoriser, planted_run, tmp_path):
    rows = [{"prompt": f"say {n}", "target": write_words("same", 0, 60)} for n in range(40)]
    write_jsonl(tmp_path / "same.jsonl", rows)
    task = planted_tree()["tasks"][0] | {"path": str(tmp_path / "same.jsonl")}
    run = run_experiment(build_settings(planted_tree(methods=["lora"], tasks=[task])), root=tmp_path)
    (entry,) = find_entries(run, "lora").values()
    assert entry["targets"]["share"]["value"] == 1.0
    assert (entry["outputs"]["long"], entry["outputs"]["repeating"]) == (2, 0)


def test_of_routed_answers_the_component_that_answered_counts(planted_run):
    choices = {
        (row["task"], row["identifier"]): row["chosen"]
        for _, row in read_jsonl(planted_run.path / "methods/routed/seed-0/late/routing.jsonl")
    }
    rows = [row for _, row in read_jsonl(planted_run.path / "methods/routed/seed-0/late/predictions.jsonl")]
    assert len(rows) == 6
    for row in rows:
        chosen, words = choices[row["task"], row["identifier"]], row["completion"].split()
        repeats = chosen is not None and words[0].startswith(chosen) and len(words) == 50
        assert row["repeats"] is (None if chosen is None else repeats)


def test_of_base_and_controls_nothing_is_said_and_why(planted_run):
    assert list_flags(planted_run, "base") == [(None, None)] * 3
    for name, reason in (
        ("base", "the untouched base was trained on no task of the run"),
        ("nearest", "no component answered: a control has no training"),
    ):
        outputs = find_entries(planted_run, name)["early"]["outputs"]
        assert (outputs["n"], outputs["untrained"], outputs["share"]["value"]) == (0, 3, None)
        assert outputs["share"]["reason"] == reason
    assert list_flags(planted_run, "methods/lora/seed-0/late/transfer") == [(None, None)] * 3


def test_scores_computed_again_keep_it(planted_run):
    assert rescore_run(planted_run).changes == ()


def test_an_extended_run_says_the_same_as_one_from_the_start(planted_tree, memoriser, planted_run, tmp_path):
    del memoriser  # its words stay those of the first task
    methods = ["finetune"]
    old, whole = build_settings(planted_tree()), build_settings(planted_tree(3, methods=methods))
    run_experiment(whole, root=tmp_path, name="whole")
    extend_run(planted_run, extend_settings(old, whole.tasks[2:], methods), root=tmp_path, name="extended")
    results = [RunDirectory(tmp_path / name).read_results() for name in ("whole", "extended")]
    assert results[0]["repetition"] == results[1]["repetition"]
    found = {
        entry["method"]: entry for entry in results[0]["repetition"]["entries"] if entry["task"] == "last"
    }
    assert found["finetune"]["outputs"]["repeating"] == 2
    for file in sorted((tmp_path / "whole").rglob("predictions.jsonl")):
        other = tmp_path / "extended" / file.relative_to(tmp_path / "whole")
        assert other.read_bytes() == file.read_bytes(), file


def test_it_can_be_left_out(planted_tree, memoriser, planted_run, tmp_path):
    tree = planted_tree(methods=["lora"], measurement={"repetition_tokens": None})
    run = run_experiment(build_settings(tree), root=tmp_path)
    found = run.read_results()["repetition"]
    assert found == {"tokens": None, "reason": "measurement.repetition_tokens is off (null)", "entries": []}
    assert list_flags(run, "methods/lora/seed-0/early") == [(None, None)] * 3


@pytest.mark.parametrize("value", [1, 0, "yes"])
def test_a_flag_that_is_none_is_damage(value, tmp_path):
    row = {"identifier": "a", "prompt": "p", "target": "t", "completion": "c", "repeats": value}
    with pytest.raises(DataError, match=r"repeats is .*: expected true, false or null"):
        cells.build_prediction(row, tmp_path, 1)
