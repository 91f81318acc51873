"""``codestrata run``: from an experiment file to a report, and what is refused on the way."""

import json
import os
import subprocess
import sys
import tomllib

import pytest
import tomli_w

from codestrata.cli.comparing import resolve_settings
from codestrata.errors import SettingsError
from codestrata.experiment import trainings
from codestrata.settings.tree import build_settings
from codestrata.store import open_run

MAIN = "import sys; from codestrata.cli.main import main; sys.exit(main(sys.argv[1:]))"


def list_tree(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_run_from_an_experiment_file_ends_with_its_report(call, quick_file, tmp_path):
    runs = tmp_path / "runs"
    code, out, err = call("run", quick_file, "--runs", runs)
    assert code == 0
    assert out.endswith(f"Report: {runs / 'pocket-1' / 'results_analysis.md'}\n")
    assert (runs / "pocket-1" / "results_analysis.md").is_file()
    assert "bleu at the end of the sequence" in out
    assert "lora: train early" in err


def test_quiet_shows_no_progress_but_the_tables(call, quick_file, tmp_path):
    code, out, err = call("run", quick_file, "--runs", tmp_path / "runs", "-q", "--set", 'methods=["base"]')
    assert (code, err) == (0, "")
    assert "at the end of the sequence" in out
    assert out.splitlines()[-1].startswith("Report: ")


def test_loading_is_said_before_anything_heavy(call, quick_file, tmp_path):
    _, _, err = call("run", quick_file, "--runs", tmp_path / "runs", "--methods", "base")
    assert err.splitlines()[0].endswith("s  loading libraries")
    assert open_run(tmp_path / "runs", "pocket-1").read_settings().methods == ("base",)


def test_json_is_alone_on_stdout(call, quick_file, tmp_path):
    code, out, _ = call("run", quick_file, "--runs", tmp_path, "--name", "mine", "--json")
    assert code == 0
    assert json.loads(out) == open_run(tmp_path, "mine").read_results()


def test_a_run_can_be_repeated_from_its_own_settings(call, quick_file, tmp_path):
    call("run", quick_file, "--runs", tmp_path, "--name", "first", "-q")
    code, _, _ = call(
        "run", tmp_path / "first" / "settings.toml", "--runs", tmp_path, "--name", "second", "-q"
    )
    assert code == 0
    paths = [tmp_path / name / "methods/lora/seed-0/late/predictions.jsonl" for name in ("first", "second")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    first, second = (open_run(tmp_path, name).read_results() for name in ("first", "second"))
    assert first["settings_fingerprint"] == second["settings_fingerprint"]


def test_ones_own_task_with_tests_works_from_a_toml(call, tiny_base_folder, tmp_path):
    rows = [
        {"prompt": f"answer {n}", "target": f"x = {n}", "tests": "assert isinstance(1, int)"}
        for n in range(10)
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "own.toml").write_text(
        f"""
        methods = ["base", "lora"]
        [[tasks]]
        name = "mine"
        source = "file"
        path = "{tmp_path / "own.jsonl"}"
        language = "python"
        train_examples = 5
        [base]
        name = "{tiny_base_folder}"
        [training]
        steps = 1
        batch_size = 2
        [decoding]
        max_new_tokens = 3
        """,
        encoding="utf-8",
    )
    code, out, _ = call(
        "run", tmp_path / "own.toml", "--runs", tmp_path / "runs", "--json", "--device", "cpu"
    )
    assert code == 0
    results = json.loads(out)
    assert [task["name"] for task in results["tasks"]] == ["mine"]
    assert results["tasks"][0]["examples"]["train"] == 5
    assert results["headline_metric"] == "pass@1"
    assert (tmp_path / "runs/pocket-1/lora_mine/adapter_model.safetensors").is_file()


def test_an_existing_name_is_2_and_touches_nothing(call, quick_file, tmp_path):
    runs = tmp_path / "runs"
    call("run", quick_file, "--runs", runs, "--name", "mine", "-q", "--set", 'methods=["base"]')
    before = list_tree(runs)
    code, out, err = call("run", quick_file, "--runs", runs, "--name", "mine", "-q")
    assert (code, out) == (2, "")
    assert "Run 'mine' exists" in err
    assert "--name" in err
    assert list_tree(runs) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "fonding"], "Unknown preset 'fonding'. Did you mean 'founding'?"),
        (["--set", 'methods=["lroa"]'], "Unknown method 'lroa'. Did you mean 'lora'?"),
        (["--set", "training.stpes=1"], "Did you mean 'training.steps'?"),
        (["--set", "trainng.steps=1"], "Unknown setting 'trainng'. Did you mean 'training'?"),
        (["--set", "training.batch_size=0"], "training.batch_size is 0"),
        (["--set", "training.batch_size=many"], "expected int"),
        (["--set", "tasks.erly.seed=1"], "Unknown task 'erly'. Did you mean 'early'?"),
        (["--set", "steps"], "expected key=value"),
        (["--set", "preset=founding"], "choose a preset with --preset"),
        (["--set", 'lora.targets=["qq"]'], "qq"),
        (["--device", "tpu"], "device.name is 'tpu'"),
        (["--name", "../mine"], "../mine"),
        (["--name", "a b"], "run's name"),
    ],
)
def test_misuse_is_2_says_what_to_do_and_leaves_nothing(call, quick_file, tmp_path, arguments, message):
    code, out, err = call("run", quick_file, "--runs", tmp_path / "runs", "-q", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quick.toml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("[training\nsteps = 1", "not TOML"),
        ("[training]\nsteps = x", "line 2"),
        ('preset = "poket"', "Did you mean 'pocket'?"),
        ("[trainin]\nsteps = 1", "Did you mean 'training'?"),
        ("[[tasks]]\nsource = 'kata'", "name is missing"),
    ],
)
def test_a_bad_experiment_file_is_2(call, tmp_path, content, message):
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    code, out, err = call("run", path, "--runs", tmp_path / "runs")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "runs").exists()


def test_a_bad_line_of_data_is_1_with_its_place(call, tiny_base_folder, tmp_path):
    data = tmp_path / "own.jsonl"
    data.write_text('{"prompt": "a", "target": "b"}\n{"prompt": "a"}\n', encoding="utf-8")
    tasks = [{"name": "mine", "source": "file", "path": str(data)}]
    tree = {"tasks": tasks, "base": {"name": str(tiny_base_folder)}}
    file = tmp_path / "own.toml"
    file.write_text(tomli_w.dumps(tree), encoding="utf-8")
    code, _, err = call("run", file, "--runs", tmp_path / "runs", "-q")
    assert code == 1
    assert "own.jsonl:2: field 'target' is missing" in err


def test_a_dry_run_prints_settings_parameters_and_an_estimate_and_leaves_nothing(
    call, quick_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = list_tree(tmp_path)
    code, out, _ = call("run", quick_file, "--dry", "--set", "training.steps=5")
    assert code == 0
    assert list_tree(tmp_path) == before
    toml = out[: out.index("Plan")]
    assert tomllib.loads(toml)["training"]["steps"] == 5
    assert "2,304" in out
    assert "5, 5" in out
    assert "Task early: " in out
    assert "Together about" in out
    assert "minutes" in out


def test_a_dry_run_says_what_was_solved(call, quick_file):
    match = ["--set", "fair.match=parameters", "--set", "fair.target=3500"]
    code, out, _ = call("run", quick_file, "--dry", *match)
    assert code == 0
    assert "fair, lora: lora.rank 3; lora.alpha 12; 3,456 trained parameters, -1.3 % from the target" in out


def test_a_dry_run_as_json(call, quick_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = list_tree(tmp_path)
    code, out, _ = call("run", quick_file, "--dry", "--json")
    assert code == 0
    tree = json.loads(out)
    assert build_settings(tree["settings"]) == resolve_settings(quick_file, None, [], None)
    assert [method["name"] for method in tree["plan"]["methods"]] == ["base", "lora"]
    assert tree["plan"]["methods"][1]["parameters"] == 2304
    assert tree["plan"]["total_seconds"] > 0
    assert list_tree(tmp_path) == before


def test_an_interrupted_run_is_130_and_stays_unfinished(call, quick_file, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainings, "fit", interrupt)
    runs = tmp_path / "runs"
    code, out, err = call("run", quick_file, "--runs", runs, "--name", "mine")
    assert (code, out) == (130, "")
    assert err.splitlines()[-2:] == [
        "interrupted (SIGINT)",
        f"go on with: codestrata resume mine --runs {runs}",
    ]
    assert "Traceback" not in err
    assert not (runs / "mine" / "done.json").exists()
    assert call("show", "mine", "--runs", runs)[0] == 2
    code, _, err = call("run", quick_file, "--runs", runs, "--name", "mine", "-q")
    assert code == 2
    assert f"codestrata resume mine --runs {runs}" in err


def test_what_comes_later_on_the_line_wins(quick_file):
    settings = resolve_settings(
        quick_file, "founding", ["device.name=mps", "lora.rank=4", "lora.rank=8"], "cpu"
    )
    assert settings.preset == "founding"
    assert settings.decoding.beams == 3  # of the preset
    assert settings.training.steps == 2  # of the file
    assert settings.training.epochs is None
    assert settings.lora.rank == 8
    assert settings.device.name == "cpu"


def test_a_file_may_name_its_preset(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('preset = "founding-sound"\nseeds = [7]', encoding="utf-8")
    settings = resolve_settings(path, None, [], None)
    assert (settings.preset, settings.seeds) == ("founding-sound", (7,))
    assert settings.tasks[0].test_examples == 1000
    assert resolve_settings(None, None, [], None).preset == "pocket"


def test_a_preset_is_not_renamed_by_a_setting():
    with pytest.raises(SettingsError, match="--preset"):
        resolve_settings(None, None, ["preset=founding"], None)


def call_offline(*arguments, **environment):
    """The command line in its own process, without a hub."""
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_founding_without_a_hub_names_the_setting_for_a_local_base(tmp_path):
    arguments = ["run", "--preset", "founding", "--runs", tmp_path / "runs", "-q"]
    done = call_offline(*arguments, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert "'Salesforce/codet5-small'" in lines[0]
    assert "--set base.name=FOLDER" in lines[0]
    assert not (tmp_path / "runs").exists()


def test_tasks_without_a_hub_name_the_setting_for_local_records(tmp_path, tiny_base_folder):
    unreachable = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    local = f"base.name={tiny_base_folder}"
    arguments = ["run", "--preset", "founding", "--runs", tmp_path / "runs", "-q", "--set", local]
    done = call_offline(*arguments, HF_HOME=str(tmp_path / "cache"), **unreachable)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert "--set tasks.python.path=FILE" in lines[0]
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_tasks_is_recognised_with_the_columns_asked_for(tmp_path):
    path = tmp_path / "qa.jsonl"
    path.write_text('{"question": "a", "answer": "b", "language": "lua"}\n')
    columns = ["tasks.*.columns.prompt=question", "tasks.*.columns.target=answer"]
    for asked in (columns, [text.replace("*", "qa") for text in columns]):
        [task] = resolve_settings(None, None, asked, None, tmp_path).tasks
        assert (task.name, task.language, task.columns.prompt) == ("qa", "lua", "question")
    with pytest.raises(SettingsError, match=r"Did you mean 'tasks\.any\.columns\.prompt'"):
        resolve_settings(None, None, ["tasks.*.columns.promt=question"], None, tmp_path)
