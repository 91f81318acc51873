"""A finished run with one more task at its end: as a run over all of them, with nothing old done again."""

import json
import os
import shutil
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest

from codestrata import journal as journals
from codestrata.errors import DataError, IsolationError, RunError, SettingsError
from codestrata.experiment import extending, inheritance, trainings
from codestrata.experiment import finished as finished_runs
from codestrata.experiment.extending import check_extendable, extend_run, extend_settings
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.files import read_json, write_json
from codestrata.manifests import measure_folder, seal_folder
from codestrata.settings.tree import build_settings
from codestrata.store import APART, RunDirectory
from codestrata.verification.runs import verify_run

METHODS = ["base", "lora", "layers", "finetune", "ewc", "replay"]
FEW = ["lora", "ewc"]
OTHERS = ["hybrid", "distill", "warm", "single", "joint", "prompt", "shared-layers", "shared-layers-seq"]
UNLABELLED = ["routed", "merged"]
SLOW = pytest.mark.slow
OWN_TO_A_SESSION = {
    "events.jsonl",
    "experimental_results.json",
    "results_analysis.md",
    "checksums.json",
    "done.json",
}
TIMES = {
    "seconds",
    "swap",
    "peak_memory_mib",
    "sessions",
    "examples_per_second",
    "tokens_per_second",
    "states",
}


class Crash(BaseException):
    """What no handler may stop."""


@pytest.fixture(scope="module")
def build(quick_tree):
    """Makes the settings of a run over one to four tasks."""

    def make(methods=METHODS, tasks=3, **sections):
        tree = quick_tree(
            **{
                "methods": list(methods),
                "checkpoints": {"seconds": 0},
                "training": {"steps": 3},
                "retention": {"replay": {"size": 4}, "ewc": {"examples": 3}},
                "decoding": {"max_new_tokens": 2},
                "measurement": {"transfer": False, "agreement": False},
                **sections,
            }
        )
        (early, late) = ({**task, "validation_examples": 0} for task in tree["tasks"])
        four = [early, late, {**late, "name": "last", "seed": 2}, {**late, "name": "more", "seed": 3}]
        tree["tasks"] = four[:tasks]
        return build_settings(tree)

    return make


@pytest.fixture(scope="module")
def short(build, tmp_path_factory):
    """A finished run over two tasks; do not change it."""
    return run_experiment(build(tasks=2), root=tmp_path_factory.mktemp("short"), name="r")


@pytest.fixture(scope="module")
def whole(build, tmp_path_factory):
    """The run over three tasks from the start; do not change it."""
    return run_experiment(build(), root=tmp_path_factory.mktemp("whole"), name="r")


@pytest.fixture(scope="module")
def log():
    """What ``extended`` did."""
    return {"fitted": [], "kept": []}


@pytest.fixture(scope="module")
def extended(build, short, log, tmp_path_factory):
    """The first run with the third task; do not change it."""

    def fit(component, name, examples, *rest, real=trainings.fit, **options):
        log["fitted"].append(options["label"])
        return real(component, name, examples, *rest, **options)

    def write(path, text, real=journals.write_text):
        log["kept"].append(path.as_posix().partition("/journal/")[2])
        real(path, text)

    log["before"] = look_at(short)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "fit", fit)
        patch.setattr(journals, "write_text", write)
        found = extend(short, build(), tmp_path_factory.mktemp("extended"))
    log["after"] = look_at(short)
    return found


@pytest.fixture(scope="module")
def few(build):
    """As ``build``, of two methods."""

    def make(methods=FEW, tasks=3, **sections):
        return build(methods, tasks, **sections)

    return make


@pytest.fixture(scope="module")
def few_extended(few, short, tmp_path_factory):
    """Two methods of the first run with the third task; do not change it."""
    return extend(short, few(), tmp_path_factory.mktemp("few"))


@pytest.fixture
def copied(short, tmp_path):
    """A finished run to be harmed."""
    return RunDirectory(shutil.copytree(short.path, tmp_path / "copied" / "r"))


def look_at(run):
    """When every file of a run was last changed, and what it holds."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.path.rglob("*") if path.is_file()
    }


def extend(run, settings, root, **options):
    old = run.read_settings()
    methods = [name for name in settings.methods if name in old.methods]
    wanted = extend_settings(old, settings.tasks[len(old.tasks) :], methods)
    return extend_run(run, wanted, root=root, **{"name": "r", **options})


def read_files(run):
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.relative_to(run.path).as_posix() not in OWN_TO_A_SESSION
    }


def forget(value, apart=frozenset({*TIMES, "extended_from"})):
    """Results without what measures the machine and what was there before."""
    if isinstance(value, dict):
        return {key: forget(entry) for key, entry in value.items() if key not in apart}
    return [forget(entry) for entry in value] if isinstance(value, list) else value


def assert_same_run(found, whole):
    first, second = read_files(found), read_files(whole)
    assert sorted(first) == sorted(second)
    assert [path for path in first if first[path] != second[path]] == []
    assert forget(found.read_results()) == forget(whole.read_results())
    assert {path.name for path in found.path.iterdir()} == {path.name for path in whole.path.iterdir()}


def test_an_extended_run_is_as_one_over_all_tasks_from_the_start(extended, whole):
    assert_same_run(extended, whole)


def test_the_results_say_what_was_taken_over(extended, short, whole):
    found = extended.read_results()
    said, before = found["extended_from"], short.read_results()
    assert (said["run"], said["tasks"]) == ("r", ["early", "late"])
    assert said["results_sha256"] == inheritance.hash_file(short.path / "experimental_results.json")
    assert said["trainings"] == 2 * 5
    assert said["predictions"] > 30
    assert said["seconds"] == before["seconds"]["total"]
    assert said["environment_changed"] == []
    assert before["extended_from"] is whole.read_results()["extended_from"] is None
    trained = {"training": found["seconds"]["training"], "before": before["seconds"]["training"]}
    assert 0 < trained["training"] < trained["before"] * 5
    schema = json.loads((files("codestrata") / "schemas/experimental_results.schema.json").read_text())
    jsonschema.validate(found, schema)


def test_old_components_are_the_same_files(extended, short):
    shared = [path for path in short.path.glob("methods/*/seed-0/*/*.safetensors")]
    assert len(shared) == 2 * 5
    for path in shared:
        assert os.path.samefile(path, extended.path / path.relative_to(short.path))
    hashes = [read_json(path)["sha256"] for path in short.path.glob("methods/*/seed-0/*/component.json")]
    assert (
        extended.read_results()["extended_from"]["files"] == sum(map(len, hashes)) == 2 * (2 + 2 + 1 + 1 + 1)
    )


def test_an_extended_run_verifies(extended):
    verification = verify_run(extended)
    assert [check.differences for check in verification.checks if check.verdict != "same"] == []
    assert verification.holds


def test_the_log_tells_of_all_trainings(extended):
    events = [json.loads(line) for line in (extended.path / "events.jsonl").read_text().splitlines()]
    trained = [(event["method"], event["task"]) for event in events if event["event"] == "trained"]
    assert len(trained) == len(set(trained)) == 3 * 5
    assert [event["event"] for event in events].count("started") == 2


def test_nothing_old_is_done_again(extended, log):
    assert len(log["fitted"]) == 5
    assert all(label.endswith("train last") for label in log["fitted"])
    new = log["kept"][log["kept"].index("inheritance.json") + 1 :]
    worked = [unit for unit in new if unit.startswith(("answers/", "scores/", "trainings/"))]
    assert worked
    assert [unit for unit in worked if "/last" not in unit] == []


def test_the_old_run_stays_as_it_was(extended, log):
    assert log["after"] == log["before"]


@pytest.mark.slow
def test_a_run_can_be_extended_again_and_by_several_tasks_at_once(few, short, tmp_path):
    # With four tasks a run would show isolation by canaries; extended ones go on as they began.
    four = few(["ewc"], 4)
    assert four.measurement.recheck is None
    step = extend(short, few(["ewc"]), tmp_path / "3")
    step = extend(step, four, tmp_path / "4")
    assert step.read_settings().measurement.recheck == "full"
    assert step.read_results()["extended_from"]["tasks"] == ["early", "late", "last"]
    jump = extend(short, four, tmp_path / "jump")
    assert jump.read_results()["extended_from"]["tasks"] == ["early", "late"]
    assert_same_run(jump, step)


@SLOW
def test_a_fourth_task_is_as_in_a_run_over_four(few, short, tmp_path):
    extended = extend(short, few(tasks=4), tmp_path / "x")
    assert_same_run(extended, run_experiment(extended.read_settings(), root=tmp_path / "w", name="r"))


@SLOW
@pytest.mark.parametrize("method", OTHERS)
def test_so_it_is_with_other_methods(few, tmp_path, method):
    extended = extend(run_experiment(few([method], 2), root=tmp_path / "s"), few([method]), tmp_path / "x")
    assert_same_run(extended, run_experiment(few([method]), root=tmp_path / "w", name="r"))


@pytest.mark.slow
def test_canaries_are_taken_over_as_they_were_decoded(long_tree, tmp_path):
    two, three = (build_settings(long_tree(count, recheck="canary")) for count in (2, 3))
    extended = extend(run_experiment(two, root=tmp_path / "s"), three, tmp_path / "x")
    assert_same_run(extended, run_experiment(three, root=tmp_path / "w", name="r"))
    assert extended.read_results()["isolation"]["canary_cells"] == 2


@SLOW
@pytest.mark.parametrize("method", UNLABELLED)
def test_so_it_is_without_a_label(few, tmp_path, method):
    names = ["lora", method]
    extended = extend(run_experiment(few(names, 2), root=tmp_path / "s"), few(names), tmp_path / "x")
    assert_same_run(extended, run_experiment(few(names), root=tmp_path / "w", name="r"))
    assert verify_run(extended).holds


@SLOW
@pytest.mark.parametrize(
    "sections",
    [
        {"decoding": {"temperature": 0.9, "samples": 2}},
        {"seeds": [0, 3]},
        {"measurement": {"recheck": "off"}},
        {"measurement": {"transfer": True, "agreement": True}},
        {"measurement": {"data_fractions": [0.5]}},
        {"fair": {"match": "parameters"}},
    ],
    ids=["samples", "seeds", "no recheck", "transfer", "portions", "parameters"],
)
def test_so_it_is_with_other_settings(few, tmp_path, sections):
    methods = ["lora"] if "recheck" in sections.get("measurement", {}) else ["lora", "finetune"]
    old = run_experiment(few(methods, 2, **sections), root=tmp_path / "s")
    extended = extend(old, few(methods, **sections), tmp_path / "x")
    assert_same_run(extended, run_experiment(few(methods, **sections), root=tmp_path / "w", name="r"))


def test_some_methods_of_a_run_with_notes_can_be_extended_with_other_checkpoints(few, copied, tmp_path):
    (copied.path / "notes.txt").write_text("mine")
    settings = few(["lora"], checkpoints={"seconds": None})
    extended = extend_run(copied, settings, root=tmp_path)
    assert extended.name == "r-last"
    assert [method["name"] for method in extended.read_results()["methods"]] == ["lora"]
    assert not (extended.path / "methods/ewc").exists()
    assert not (extended.path / "notes.txt").exists()
    assert verify_run(extended).holds


def break_off(monkeypatch, run, settings, root, unit):
    """An extension that dies right after the journal's first unit whose name begins so."""

    def write(path, text, real=journals.write_text):
        real(path, text)
        if path.as_posix().partition("/journal/")[2].startswith(unit):
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(journals, "write_text", write)
        with pytest.raises(Crash):
            extend(run, settings, root)
    return RunDirectory(root / "r")


@pytest.mark.parametrize(
    "unit",
    [
        "answers/methods/lora",
        "trainings/ewc/seed-0/last",
        pytest.param("trainings/lora/seed-0/early", marks=SLOW),
        pytest.param("inheritance", marks=SLOW),
        pytest.param("answers/methods/ewc/seed-0/late/last", marks=SLOW),
    ],
)
def test_an_extension_that_was_broken_off_goes_on(monkeypatch, few, short, few_extended, tmp_path, unit):
    broken = break_off(monkeypatch, short, few(), tmp_path, unit)
    assert not broken.is_done
    found = resume_experiment(broken)
    assert_same_run(found, few_extended)
    assert found.read_results()["extended_from"]["trainings"] == 4


def test_one_that_never_wrote_its_settings_never_began(monkeypatch, few, short, tmp_path):
    broken = break_off(monkeypatch, short, few(), tmp_path, "extension")
    with pytest.raises(RunError, match="never wrote its settings"):
        resume_experiment(broken)


@SLOW
def test_once_all_is_taken_over_the_old_run_may_go(monkeypatch, few, copied, few_extended, tmp_path):
    def stop(*_):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("codestrata.experiment.walk.measure", stop)
        with pytest.raises(Crash):
            extend(copied, few(), tmp_path)
    shutil.rmtree(copied.path)
    assert_same_run(resume_experiment(RunDirectory(tmp_path / "r")), few_extended)


def test_before_that_it_may_not(monkeypatch, few, copied, tmp_path):
    broken = break_off(monkeypatch, copied, few(), tmp_path, "trainings/lora/seed-0/early")
    copied.path.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"extends 'r', which is not in .*had not been copied whole"):
        resume_experiment(broken)


def test_an_old_component_that_is_damaged_is_not_trained_again(monkeypatch, few, short, tmp_path):
    broken = break_off(monkeypatch, short, few(), tmp_path, "inheritance")
    path = broken.path / "methods/lora/seed-0/early/adapter_model.safetensors"
    content = path.read_bytes()
    path.unlink()  # it may be one with the old run's
    path.write_bytes(content[:-1] + b"?")
    with pytest.raises(RunError, match=r"trainings/lora/seed-0/early cannot serve.* from run 'r'"):
        resume_experiment(broken)


def test_an_old_component_that_changes_during_the_walk_is_found(monkeypatch, few, short, tmp_path):
    def confirm(run, taken, real=inheritance.confirm):
        path = run.path / "methods/lora/seed-0/early/adapter_config.json"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content + b" ")
        return real(run, taken)

    monkeypatch.setattr("codestrata.experiment.walk.confirm", confirm)
    with pytest.raises(IsolationError, match=r"adapter_config\.json was taken over from run 'r'"):
        extend(short, few(), tmp_path)


# What is refused, with nothing written.


def refuse(error, match, run, settings, root, **options):
    with pytest.raises(error, match=match):
        extend(run, settings, root, **options)
    assert not (root / "r").exists()


def test_an_unfinished_run_is_not_extended(few, copied, tmp_path):
    (copied.path / "done.json").unlink()
    refuse(RunError, "did not come to its end", copied, few(), tmp_path)


def test_a_run_in_use_is_not_extended(few, copied, tmp_path):
    with copied.hold():
        refuse(RunError, "is in use", copied, few(), tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "methods/ewc/seed-0/late/retention/tensors.safetensors",
        "methods/lora/seed-0/early/adapter_model.safetensors",
        "base/scores.jsonl",
        "settings.toml",
    ],
)
def test_a_damaged_run_is_not_extended(few, copied, tmp_path, path):
    content = (copied.path / path).read_bytes()
    (copied.path / path).write_bytes(content + b"\n")
    refuse(DataError, f"{path}: is changed since run 'r' was finished", copied, few(), tmp_path)
    (copied.path / path).unlink()
    if path != "settings.toml":
        refuse(DataError, f"{path}: is missing since", copied, few(), tmp_path)


def reseal(run, change):
    """Change the results of a finished run so that no file looks damaged."""
    tree = read_json(run.path / "experimental_results.json")
    change(tree)
    write_json(run.path / "experimental_results.json", tree)
    seal_folder(run.path, measure_folder(run.path, APART))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda tree: tree["environment"]["packages"].update(codestrata="0.0.1"),
            "version of codestrata was 0.0.1",
        ),
        (lambda tree: tree["base"].update(fingerprint="ab" * 32), "base model .* was abab"),
        (lambda tree: tree["tasks"][0].update(fingerprint="cd" * 32), "data of task early was cdcd"),
        (lambda tree: tree.update(methods=[{"name": "lora"}]), "results that no run writes"),
    ],
    ids=["version", "base", "data", "shape"],
)
def test_a_run_of_another_beginning_is_not_extended(few, copied, tmp_path, change, match):
    reseal(copied, change)
    refuse(RunError, match, copied, few(), tmp_path)


def test_results_cannot_name_places_outside(few, copied, tmp_path):
    def change(tree):
        for cell in tree["methods"][1]["seeds"][0]["cells"]:
            if cell["origin"] == "decoded" and cell["row"]:
                cell["component_fingerprint"] = "../../../../outside"

    reseal(copied, change)
    with pytest.raises(RunError, match="tell of what no run has there"):
        extend(copied, few(), tmp_path)
    assert not list(tmp_path.rglob("outside*"))


@pytest.mark.parametrize("name", ["early", "LATE"])
def test_a_name_that_is_taken_is_refused(few, short, tmp_path, name):
    task = replace(few().tasks[-1], name=name)
    with pytest.raises(SettingsError, match=f"Task '{name}' is in the run already, which has early, late"):
        extend_settings(short.read_settings(), [task])


def test_a_method_that_the_run_has_not_is_refused(few, short):
    with pytest.raises(SettingsError, match=r"Unknown method of the run 'lroa'\. Did you mean 'lora'"):
        extend_settings(short.read_settings(), few().tasks[2:], ["lroa"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"training": {"steps": 4}}, r"training\.steps was 3 in the run, and is 4"),
        ({"seeds": [0, 1]}, "seeds was"),
        ({"methods": ["lora", "single"]}, "with its own methods, or some of them: base, lora, layers"),
        ({"methods": ["ewc", "lora"]}, "with its own methods"),
        (
            {"measurement": {"recheck": "off", "transfer": False, "agreement": False}},
            r"measurement\.recheck was None",
        ),
    ],
)
def test_other_settings_are_refused(few, short, tmp_path, change, match):
    with pytest.raises(SettingsError, match=match):
        extend_run(short, few(**change), root=tmp_path, name="r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        ({"states_dtype": "fp32"}, r"cache\.states_dtype was 'bf16' in the run, and is 'fp32'"),
        ({"states_mib": None}, r"cache\.states_mib was 4096 in the run, and is None"),
        ({"folder": "elsewhere", "tokens": False, "states_mib": 7}, None),
    ],
)
def test_of_the_cache_only_what_changes_no_training_may_be_another(few, cache, said):
    old, new = few(tasks=2), few(cache=cache)
    if said is None:
        extending.check_extension(old, new)
        return
    for then, now in ((old, new), (few(tasks=2, cache=cache), few())):
        pattern = said if then is old else said.split(" was ")[0]
        with pytest.raises(SettingsError, match=pattern):
            extending.check_extension(then, now)


def test_tasks_come_at_the_end(few, short, tmp_path):
    settings = few()
    for tasks in (settings.tasks[:2], settings.tasks[1:], settings.tasks[::-1]):
        with pytest.raises(
            SettingsError, match="by tasks at its end, and its own stay as they are: early, late"
        ):
            extend_run(short, replace(settings, tasks=tasks), root=tmp_path, name="r")


def test_ranks_for_a_number_of_tasks_cannot_be_extended(few, tmp_path):
    old = run_experiment(few(["base", "olora"], 1), root=tmp_path / "s")
    refuse(
        SettingsError,
        r"'olora' has one component .*\(--methods base\)",
        old,
        few(["base", "olora"]),
        tmp_path,
    )


def test_several_orders_cannot_be_extended(few, tmp_path):
    old = run_experiment(replace(few(["base"], 2), orders="latin"), root=tmp_path / "s")
    refuse(SettingsError, "orders is latin in the run: .* before old ones", old, few(["base"]), tmp_path)


@pytest.mark.parametrize(
    ("orders", "tasks", "said"),
    [((("late", "early"), ("early", "late")), 2, "a list of 2"), ("all", 4, "all"), ("latin", 2, "latin")],
)
def test_orders_are_the_reason_where_more_tasks_would_not_fit_them(few, orders, tasks, said):
    old = replace(few(["base"], tasks), orders=orders)
    with pytest.raises(SettingsError, match=f"orders is {said} in the run: .* before old ones"):
        extend_settings(old, [replace(old.tasks[0], name="new")])


def test_what_was_solved_for_all_tasks_together_cannot_be_extended(few):
    settings = few(["base"], 2)
    for match in ("bytes", "tokens", "time"):
        fair = replace(settings, fair=replace(settings.fair, match=match))
        with pytest.raises(SettingsError, match=f"fair.match is {match} in the run: it was solved for its 2"):
            check_extendable(fair, fair.methods)


def test_the_method_that_others_were_matched_to_is_extended_too(few):
    old = few(FEW, 2, fair={"match": "parameters", "reference": "ewc"})
    new = few().tasks[2:]
    with pytest.raises(SettingsError, match=r"fair.reference is 'ewc' in the run.*--methods ewc,lora"):
        extend_settings(old, new, ["lora"])
    assert extend_settings(old, new, ["ewc"]).methods == ("ewc",)


def test_a_search_that_nothing_can_judge_is_refused_with_nothing_written(monkeypatch, few, short, tmp_path):
    def check(lab, methods):
        raise SettingsError("nothing to judge by")

    monkeypatch.setattr(extending, "check_solvable", check)
    refuse(SettingsError, "nothing to judge by", short, few(), tmp_path)


def test_a_name_of_a_run_that_is_taken_is_refused(few, short, tmp_path):
    (tmp_path / "r").mkdir()
    with pytest.raises(RunError, match="Run 'r' exists"):
        extend(short, few(), tmp_path)


def test_nothing_outside_the_run_is_taken(few, copied, tmp_path):
    with pytest.raises(RunError, match="leads out of run 'r'"):
        finished_runs.FinishedRun(copied).take("../outside")
    path = copied.path / "base/scores.jsonl"
    path.rename(tmp_path / "scores.jsonl")
    path.symlink_to(tmp_path / "scores.jsonl")
    with pytest.raises(DataError, match=r"scores\.jsonl: is changed since run 'r' was finished"):
        extend(copied, few(), tmp_path)
