"""``codestrata extend``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from codestrata.cli.extending import read_task, resolve_extension
from codestrata.errors import SettingsError
from codestrata.experiment.walk import run_experiment
from codestrata.files import write_jsonl
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory

MAIN = "import sys; from codestrata.cli.main import main; sys.exit(main(sys.argv[1:]))"
LAST = TaskSettings(name="old", train_examples=6, validation_examples=5, test_examples=4, unseen_examples=3)


@pytest.fixture(scope="module")
def finished(quick_tree, tmp_path_factory):
    tree = quick_tree(
        checkpoints={"seconds": 0},
        measurement={"transfer": False, "agreement": False},
        decoding={"max_new_tokens": 2},
    )
    return run_experiment(build_settings(tree), root=tmp_path_factory.mktemp("runs"), name="mine")


@pytest.fixture
def run(finished, tmp_path):
    """A finished run of one's own, in a folder of runs."""
    return RunDirectory(shutil.copytree(finished.path, tmp_path / "runs" / "mine"))


@pytest.fixture
def examples(tmp_path):
    """A file of examples of a new task."""
    path = tmp_path / "third.jsonl"
    write_jsonl(path, [{"prompt": f"take {n} from xs", "target": f"return [x - {n}]"} for n in range(12)])
    return path


@pytest.fixture
def extend(call, run):
    return lambda *arguments: call("extend", "mine", "--runs", run.path.parent, "-q", *arguments)


def test_a_task_is_added_and_what_was_taken_over_is_said(extend, run, examples):
    code, out, err = extend("--task", f"third={examples}", "--set", "tasks.third.language=python")
    assert (code, err) == (0, "")
    new = RunDirectory(run.path.parent / "mine-third")
    settings = new.read_settings()
    assert [task.name for task in settings.tasks] == ["early", "late", "third"]
    third = settings.tasks[-1]
    assert (third.language, third.train_examples, third.test_examples) == ("python", 6, 300)
    assert "Extended from mine: 2 trainings and" in out
    assert "files of its components are the same, byte for byte.\n" in out
    assert out.index("Report:") < out.index("Extended")
    code, out, _ = extend("--task", f"third={examples}")
    assert code == 2
    analysis = (new.path / "results_analysis.md").read_text(encoding="utf-8")
    assert "The run extends run `mine`" in analysis


@pytest.mark.slow
def test_json_is_the_results(extend, examples, run):
    options = ["--methods", "lora", "--name", "other", "--device", "cpu", "--json"]
    code, out, _ = extend("--task", f"third={examples}", "--set", "tasks.third.language=python", *options)
    tree = json.loads(out)
    assert (code, tree["run"], tree["extended_from"]["run"]) == (0, "other", "mine")
    assert [method["name"] for method in tree["methods"]] == ["lora"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "third"], "--task 'third': expected NAME=SOURCE"),
        (["--task", "=x.jsonl"], "expected NAME=SOURCE"),
        (["--task", "third="], "expected NAME=SOURCE"),
        (["--task", "a/b=x.jsonl"], "tasks.name is 'a/b'"),
        (["--task", "late=x.jsonl"], "Task 'late' is in the run already, which has early, late"),
        (["--task", "a=x.jsonl", "--task", "a=y.jsonl"], "tasks holds a duplicate"),
        (["--task", "a=x.jsonl", "--methods", "lroa"], "Did you mean 'lora'?"),
        (["--task", "a=x.jsonl", "--methods", ""], "Unknown method of the run ''"),
        (["--task", "a=x.jsonl", "--set", "training.steps=9"], "training.steps was 2 in the run, and is 9"),
        (["--task", "a=x.jsonl", "--set", "tasks.early.seed=9"], "its own stay as they are: early, late"),
        (["--task", "a=x.jsonl", "--set", "tasks.b.seed=9"], "Unknown task 'b'"),
        (["--task", "a=x.jsonl", "--name", "mine"], "Run 'mine' exists"),
        ([], "Missing option '--task'"),
    ],
)
def test_what_makes_no_sense_is_refused(extend, run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text('{"prompt": "p", "target": "t"}\n')
    code, out, err = extend(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert [path.name for path in run.path.parent.iterdir()] == ["mine"]


def test_data_that_are_not_there_are_named_and_nothing_is_written(extend, run):
    for source, known in {
        "nowhere.jsonl": "Known: ",
        "mbpp:no.jsonl": "Known",
        "codesearchnte": "'codesearchnet'",
    }.items():
        code, _, err = extend("--task", f"third={source}")
        assert code == 2
        assert source.removeprefix("mbpp:") in err
        assert known in err
    assert [path.name for path in run.path.parent.iterdir()] == ["mine"]


def test_no_such_run(extend, call, run):
    code, _, err = call("extend", "main", "--task", "a=x.jsonl", "--runs", run.path.parent)
    assert code == 2
    assert "Unknown run 'main'. Did you mean 'mine'?" in err


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("own.jsonl", {"source": "file", "path": "own.jsonl"}),
        ("a=b.jsonl", {"source": "file", "path": "a=b.jsonl"}),
        ("./kata", {"source": "file", "path": "./kata"}),
        ("kata", {"source": "kata", "unseen_examples": 3}),
        ("codesearchnet", {"source": "codesearchnet", "path": None}),
        ("codesearchnet:some/folder", {"source": "codesearchnet", "path": "some/folder"}),
        ("codesearchnet.jsonl", {"source": "file", "path": "codesearchnet.jsonl"}),
    ],
)
def test_sources(source, wanted):
    sizes = {"name": "new", "train_examples": 6, "validation_examples": 5, "test_examples": 4}
    found = read_task(f"new={source}", LAST)
    assert found.items() >= (sizes | wanted).items()
    assert ("unseen_examples" in found) == ("unseen_examples" in wanted)


def test_a_new_task_takes_over_how_the_last_was_cleaned():
    rules = {"licenses": ("MIT",), "near_duplicates": 0.9, "keep_secrets": True, "seed": 5, "split": "date"}
    last = TaskSettings(name="old", source="file", path="a.jsonl", exclude=("humaneval",), **rules)
    wanted = rules | {"exclude": ("humaneval",)}
    assert read_task("new=own.jsonl", last).items() >= wanted.items()
    assert "split" not in read_task("new=mbpp", last)
    assert not {"exclude", "licenses"} & read_task("new=kata", last).keys()


def test_functions_need_a_language(run, examples):
    old = run.read_settings()
    with pytest.raises(SettingsError, match=r"say which with --set tasks\.n\.language=python"):
        resolve_extension(old, ["n=mined:/src"], None, [], None)
    settings = resolve_extension(old, ["n=mined:/src"], None, ["tasks.n.language=go"], None)
    assert settings.tasks[-1].language == "go"
    assert resolve_extension(old, ["lua=mined:/src"], None, [], None).tasks[-1].code_language == "lua"


def test_a_file_with_columns_of_other_names_says_its_language(run, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("question,answer,language\na,b,Lua\n")
    columns = ["tasks.qa.columns.prompt=question", "tasks.qa.columns.target=answer"]
    settings = resolve_extension(run.read_settings(), [f"qa={path}"], None, columns, None)
    assert settings.tasks[-1].language == "lua"


def test_functions_after_functions_are_asked_the_same():
    last = TaskSettings(name="old", source="codesearchnet", objective="summarize")
    assert read_task("go=codesearchnet", last)["objective"] == "summarize"
    assert "objective" not in read_task("go=kata", last)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("mbpp:mbpp.jsonl", {"source": "mbpp", "path": "mbpp.jsonl"}),
        ("mined:src", {"source": "mined", "path": "src"}),
        ("humaneval", {"source": "humaneval", "path": None}),
        ("file:own.csv", {"source": "file", "path": "own.csv"}),
        ("codesearchnet:", {"source": "file", "path": "codesearchnet:"}),
    ],
)
def test_any_source_may_be_named(source, wanted):
    assert read_task(f"new={source}", LAST).items() >= wanted.items()


def test_files_and_folders_say_what_they_are(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("prompt,target,language\na,b,Lua\n")
    wanted = {"source": "file", "path": str(path), "language": "lua"}
    assert read_task(f"new={path}", LAST).items() >= wanted.items()
    function = {"code": "x", "docstring": "d", "func_name": "f", "language": "go"}
    for name in ("train", "test"):
        write_jsonl(tmp_path / "go" / f"{name}.jsonl", [function])
    last = TaskSettings(name="old", source="codesearchnet", objective="summarize")
    found = read_task(f"new={tmp_path / 'go'}", last)
    assert found["path"] == str(tmp_path / "go" / "train.jsonl")
    assert found["test_path"] == str(tmp_path / "go" / "test.jsonl")
    assert (found["objective"], found["language"]) == ("summarize", "go")
    path.write_text("question,answer\na,b\n")  # what is wrong with it is said where it is loaded
    assert read_task(f"new={path}", LAST)["source"] == "file"


def test_a_source_needs_both_sides():
    with pytest.raises(SettingsError, match=r"such as lua=lua\.jsonl"):
        read_task(" = ", LAST)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.slow
def test_an_extension_that_is_killed_goes_on(call, run, examples):
    """A real process, killed in the middle of the new training."""
    root = run.path.parent
    new = RunDirectory(root / "mine-third")
    arguments = ["extend", "mine", "--task", f"third={examples}", "--runs", str(root)]
    arguments += ["--set", "tasks.third.language=python"]
    with subprocess.Popen([sys.executable, "-c", MAIN, *arguments], stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 100
        checkpoints = new.checkpoints_folder("lora", 0, "third")
        while not list(checkpoints.glob("step-*/facts.json")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert not new.is_done
    before = run.check_files()
    code, _, _ = call("resume", "mine-third", "--runs", root, "-q")
    assert code == 0
    results = new.read_results()
    assert (results["sessions"], results["extended_from"]["run"]) == (2, "mine")
    assert not new.check_files()
    assert before == run.check_files() == []
