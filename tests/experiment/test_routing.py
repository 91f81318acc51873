"""Runs without a task label: who answers what under routing, what is merged, and what is taken over."""

import json
from importlib.resources import files

import jsonschema
import pytest

from codestrata import journal as journals
from codestrata import training
from codestrata.experiment import cells, trainings
from codestrata.experiment.rescoring import rescore_run
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.files import read_jsonl
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory
from codestrata.verification.runs import verify_run

SCHEMA = json.loads(
    (files("codestrata") / "schemas" / "experimental_results.schema.json").read_text(encoding="utf-8")
)
NAMES = ("one", "two", "three")
OWN_TO_A_SESSION = {"events.jsonl", "experimental_results.json", "results_analysis.md"}
OWN_TO_A_SESSION |= {"checksums.json", "done.json"}


class Crash(BaseException):
    """What no handler may stop."""


def read_answers(run, folder):
    """(task, identifier) -> the completion in a folder of a run."""
    rows = (row for _, row in read_jsonl(run.path / folder / "predictions.jsonl"))
    return {(row["task"], row["identifier"]): row["completion"] for row in rows}


def read_choices(run, folder):
    """(task, identifier) -> the task whose component was chosen, and the confidence."""
    rows = (row for _, row in read_jsonl(run.path / folder / "routing.jsonl"))
    return {(row["task"], row["identifier"]): (row["chosen"], row["confidence"]) for row in rows}


def find_method(run, name):
    return next(entry for entry in run.read_results()["methods"] if entry["name"] == name)


@pytest.fixture(scope="module")
def tree(long_tree):
    """Three tasks; X of ``lora`` says what every component answers to every task."""
    return lambda **sections: long_tree(
        3, **{"training": {"steps": 2}, "measurement": {"transfer": True}, **sections}
    )


@pytest.fixture(scope="module")
def trained():
    """How often the one training loop ran for ``run``."""
    return []


@pytest.fixture(scope="module")
def run(tree, trained, tmp_path_factory):
    """A finished run in which components are picked by routers, by label, and merged; do not change it."""

    def fit(*given, **named):
        trained.append(named["label"])
        return training.fit(*given, **named)

    settings = build_settings(tree(methods=["routed", "base", "lora", "merged"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "fit", fit)
        return run_experiment(settings, root=tmp_path_factory.mktemp("unlabelled"), name="r")


@pytest.fixture(scope="module")
def answers(run):
    """(component or None for the base, task, identifier) -> what it answers alone."""
    found = {(None, *key): text for key, text in read_answers(run, "base").items()}
    for name in NAMES:
        for part in ("", "/transfer"):
            of_folder = read_answers(run, f"methods/lora/seed-0/{name}{part}")
            # A row holds older tasks too, which their own components answered.
            found |= {(name, *key): text for key, text in of_folder.items() if part or key[0] == name}
    return found


def test_the_results_keep_the_order_of_the_settings_and_the_published_shape(run):
    results = run.read_results()
    assert [entry["name"] for entry in results["methods"]] == ["routed", "base", "lora", "merged"]
    faults = jsonschema.Draft202012Validator(SCHEMA).iter_errors(results)
    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []


def test_nothing_is_trained_that_another_method_of_the_run_has_trained(run, trained):
    assert trained == [f"lora: train {name}" for name in NAMES]
    own = find_method(run, "lora")["seeds"][0]["trainings"]
    assert [entry["taken_over_from"] for entry in own] == [None] * 3
    for method in ("routed", "merged"):
        taken = find_method(run, method)["seeds"][0]["trainings"]
        for mine, theirs in zip(taken, own, strict=True):
            assert mine["taken_over_from"] == theirs["folder"]
            assert mine["folder"] == theirs["folder"].replace("lora", method)
            assert mine["component_fingerprint"] == theirs["component_fingerprint"]
            first, second = (
                (run.path / entry["folder"] / "adapter_model.safetensors").read_bytes()
                for entry in (mine, theirs)
            )
            assert first == second
    assert run.read_results()["isolation"]["trainings"] == 3


def test_every_routed_answer_is_that_of_the_component_that_was_picked(run, answers):
    foreign = 0
    for row, through in enumerate(NAMES, start=1):
        folder = f"methods/routed/seed-0/{through}"
        choices = read_choices(run, folder)
        found = read_answers(run, folder)
        assert choices.keys() == found.keys()
        assert len(found) == 12
        for key, text in found.items():
            chosen, confidence = choices[key]
            assert chosen in NAMES[:row]
            assert 1 / row - 1e-9 <= confidence <= 1
            foreign += chosen != key[0]
            assert text == answers[chosen, *key]
    assert foreign  # some prompts went to another task's component
    assert len({answers[name, "one", key] for name, task, key in answers if task == "one"}) > 1


def test_the_confusion_matrix_counts_the_choices_of_the_last_row(run):
    routing = find_method(run, "routed")["seeds"][0]["routing"]
    choices = read_choices(run, "methods/routed/seed-0/three")
    assert (routing["by"], routing["threshold"], routing["tasks"]) == ("mahalanobis", None, list(NAMES))
    assert set(routing["routers"]) == {"nearest-mean", "mahalanobis", "perplexity"}
    wanted = [
        [sum(key[0] == task and chosen == name for key, (chosen, _) in choices.items()) for name in NAMES]
        for task in NAMES
    ]
    found = routing["routers"]["mahalanobis"]
    assert found["confusion"] == [[*row, 0] for row in wanted]
    right = sum(row[place] for place, row in enumerate(wanted))
    assert found["accuracy"]["value"] == right / 12
    assert found["accuracy"]["interval"]["method"] == "wilson"
    for router in routing["routers"].values():
        assert [sum(row) for row in router["confusion"]] == [4, 4, 4]


def test_beside_it_stands_r_with_the_label(run):
    routed, labelled = (find_method(run, name)["seeds"][0] for name in ("routed", "lora"))
    oracle = routed["routing"]["oracle"]
    assert oracle["R"] == labelled["R"]
    assert {cell["origin"] for cell in routed["cells"][3:]} == {"routed"}
    assert {cell["component_fingerprint"] for cell in routed["cells"]} == {None}
    own = {cell["origin"] for cell in oracle["cells"]}
    assert own == {"decoded", "taken-over", "structural"}  # of the base; of lora; of the future


def test_no_value_under_routing_or_merging_is_called_structural(run):
    for name in ("routed", "merged"):
        entry = find_method(run, name)
        for found in entry["continual"].values():
            assert not any(value["structural"] for value in found.values())
        assert entry["seeds"][0]["transfer"]["X"] is None
    assert find_method(run, "lora")["continual"]["bleu"]["forgetting"]["structural"]


def test_the_run_can_be_verified_and_scored_again(run):
    verification = verify_run(run, decode=True)
    assert [(check.subject, check.differences, check.unchecked) for check in verification.checks] == [
        (check.subject, (), ()) for check in verification.checks
    ]
    assert verification.holds
    assert verification.certificate.unlabelled == ("routed", "merged")
    assert {proof.method for proof in verification.certificate.proofs} == {"lora"}
    assert rescore_run(run).changes == ()


def test_the_report_tells_who_was_picked_and_what_was_taken_over(run):
    text = (run.path / "results_analysis.md").read_text(encoding="utf-8")
    assert "## Without a task label" in text
    assert "| mahalanobis (fills R) |" in text
    assert "| prompts of | component one | component two | component three | base (abstained) |" in text
    assert "routed (with the task's label)" in text
    assert "The components of `merged` were not trained for it: they are those of `lora`" in text


@pytest.fixture(scope="module")
def small(long_tree):
    """Settings of a run of two tasks, which is to be broken off."""
    return lambda by: build_settings(
        long_tree(2, methods=["lora", "routed", "merged"], training={"steps": 2}, routing={"by": by})
    )


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """Such a run that never was; do not change it."""
    return run_experiment(small("mahalanobis"), root=tmp_path_factory.mktemp("whole"), name="r")


def break_off(monkeypatch, settings, root, unit, count):
    """A run that dies after so many units of its journal whose names hold ``unit``."""
    kept = []

    def write(path, text, real=journals.write_text):
        real(path, text)
        kept.extend([path] if unit in path.as_posix() else [])
        if len(kept) == count:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(journals, "write_text", write)
        with pytest.raises(Crash):
            run_experiment(settings, root=root, name="r")
    return RunDirectory(root / "r")


def assert_same_files(found, whole):
    for path in sorted(whole.path.rglob("*")):
        name = path.relative_to(whole.path).as_posix()
        if path.is_file() and name not in OWN_TO_A_SESSION:
            assert (found.path / name).read_bytes() == path.read_bytes(), name


@pytest.mark.parametrize(
    ("unit", "count"),
    [
        ("/routing/", 3),
        pytest.param("/trainings/routed/", 2, marks=pytest.mark.slow),
        pytest.param("/answers/methods/merged/", 1, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_broken_off_goes_on_to_the_same_bytes(small, whole, monkeypatch, tmp_path, unit, count):
    broken = break_off(monkeypatch, small("mahalanobis"), tmp_path, unit, count)
    found = resume_experiment(broken)
    assert_same_files(found, whole)
    assert rescore_run(found).changes == ()


@pytest.mark.slow
def test_so_does_one_that_routes_by_perplexity(small, monkeypatch, tmp_path):
    whole = run_experiment(small("perplexity"), root=tmp_path / "whole", name="r")
    broken = break_off(monkeypatch, small("perplexity"), tmp_path, "/routing/", 3)
    calls, real = [], cells.predict
    with monkeypatch.context() as patch:
        patch.setattr(cells, "predict", lambda *a, **k: calls.append(len(a[1])) or real(*a, **k))
        found = resume_experiment(broken)
    assert sum(calls) < 8 * 4
    assert_same_files(found, whole)


@pytest.mark.slow
def test_alone_the_components_are_trained_once_for_both(long_tree, tmp_path):
    tree = long_tree(2, methods=["merged", "routed"], seeds=[3], routing={"threshold": 1.0})
    run = run_experiment(build_settings(tree), root=tmp_path)
    merged, routed = (find_method(run, name)["seeds"][0] for name in ("merged", "routed"))
    assert [entry["taken_over_from"] for entry in merged["trainings"]] == [None, None]
    assert [entry["taken_over_from"] for entry in routed["trainings"]] == [
        "methods/merged/seed-3/one",
        "methods/merged/seed-3/two",
    ]
    # Nobody is as sure as 1 of one of two tasks; of a single task everybody is.
    assert {chosen for chosen, _ in read_choices(run, "methods/routed/seed-3/one").values()} == {"one"}
    assert {chosen for chosen, _ in read_choices(run, "methods/routed/seed-3/two").values()} == {None}
    found = read_answers(run, "methods/routed/seed-3/two")
    assert found == read_answers(run, "base")
    router = routed["routing"]["routers"]["mahalanobis"]
    assert (router["accuracy"]["value"], router["abstained"]) == (0.0, 8)
    assert [row[-1] for row in router["confusion"]] == [4, 4]
    assert verify_run(run, decode=True).holds


def test_one_task_alone_can_be_routed_and_merged(long_tree, tmp_path):
    tree = long_tree(1, methods=["routed", "merged"])
    run = run_experiment(build_settings(tree), root=tmp_path)
    routing = find_method(run, "routed")["seeds"][0]["routing"]
    assert routing["routers"]["mahalanobis"]["confusion"] == [[4, 0]]
    assert routing["routers"]["perplexity"]["accuracy"]["value"] == 1.0
    merging = find_method(run, "merged")["seeds"][0]["merging"]
    assert [entry["tasks"] for entry in merging["components"]] == [["one"]]


@pytest.mark.slow
def test_sampled_answers_are_routed_with_all_their_samples(quick_tree, tmp_path):
    decoding = {"temperature": 1.0, "samples": 2, "max_new_tokens": 3}
    tree = quick_tree(methods=["lora", "routed", "merged"], decoding=decoding)
    run = run_experiment(build_settings(tree), root=tmp_path)
    rows = [row for _, row in read_jsonl(run.path / "methods/routed/seed-0/late/predictions.jsonl")]
    assert [row["sample"] for row in rows] == [0, 1] * (len(rows) // 2)
    assert verify_run(run, decode=True).holds


@pytest.mark.slow
def test_a_base_without_encoder_is_routed_and_merged(quick_tree, tiny_qwen2_folder, tmp_path):
    tree = quick_tree(
        methods=["lora", "routed", "merged"],
        base={"name": str(tiny_qwen2_folder)},
        routing={"by": "perplexity", "threshold": 0.5},
    )
    run = run_experiment(build_settings(tree), root=tmp_path)
    routing = find_method(run, "routed")["seeds"][0]["routing"]
    assert all(
        sum(row) == routing["routers"][by]["accuracy"]["n"] / 2
        for by in ("nearest-mean", "mahalanobis", "perplexity")
        for row in routing["routers"][by]["confusion"]
    )
    assert verify_run(run, decode=True).holds


@pytest.mark.slow
def test_another_order_of_the_tasks_trains_nothing_again(long_tree, tmp_path):
    tree = long_tree(2, methods=["routed", "merged"], orders="all", training={"steps": 2})
    run = run_experiment(build_settings(tree), root=tmp_path)
    walks = find_method(run, "routed")["seeds"]
    assert [walk["routing"]["tasks"] for walk in walks] == [["one", "two"], ["two", "one"]]
    first, later = ([entry["taken_over_from"] for entry in walk["trainings"]] for walk in walks)
    assert first == [None, None]
    assert later == ["methods/routed/seed-0/two", "methods/routed/seed-0/one"]
    # After both tasks the router knows the same, whatever came first.
    last = [
        {key: choice for key, (choice, _) in read_choices(run, entry["trainings"][-1]["folder"]).items()}
        for entry in walks
    ]
    assert last[0] == last[1]
    assert verify_run(run).holds
    assert rescore_run(run).changes == ()
