"""``codestrata data``, and tasks that are files and folders."""

import json
from importlib.resources import files

import jsonschema
import pytest

from codestrata.cli.data import read_columns
from codestrata.data.catalogue import CATALOGUE
from codestrata.errors import SettingsError
from codestrata.settings.tasks import ColumnSettings


def read_schema(name):
    text = (files("codestrata") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    return json.loads(text)


def write_rows(path, count=12, **changes):
    rows = [
        {"prompt": f"take {n} from xs", "target": f"return [x - {n} for x in xs]", **changes}
        for n in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["list", "show", "check", "agreement"])
def test_help(call, name):
    code, out, _ = call("data", name, "--help")
    assert code == 0
    assert "Usage" in out
    assert name in call("data", "--help")[1]


def test_every_source_is_listed(call):
    code, out, err = call("data", "list")
    assert (code, err) == (0, "")
    for row in CATALOGUE:
        assert row.name in out
    code, out, _ = call("data", "list", "--json")
    listed = json.loads(out)
    jsonschema.Draft202012Validator(read_schema("data_list")).validate(listed)
    assert [entry["name"] for entry in listed] == [row.name for row in CATALOGUE]


@pytest.mark.parametrize("name", [row.name for row in CATALOGUE])
def test_everything_about_a_source(call, name):
    code, out, err = call("data", "show", name)
    assert (code, err) == (0, "")
    assert name in out
    shown = json.loads(call("data", "show", name, "--json")[1])
    jsonschema.Draft202012Validator(read_schema("data_list")["items"]).validate(shown)


def test_a_source_by_a_wrong_name(call):
    code, _, err = call("data", "show", "humanevel")
    assert code == 2
    assert "Did you mean 'humaneval'?" in err


def test_tables_fit_80_columns(call, monkeypatch, tmp_path):
    path = write_rows(tmp_path / "a-file-with-quite-a-long-name-for-a-table.jsonl")
    path.write_text(path.read_text() + "{\n")
    monkeypatch.setenv("COLUMNS", "80")
    outs = [call(*words)[1] for words in (["data", "list"], ["data", "show", "mbxp"])]
    outs.append(call("data", "check", path, "-q", "--against", write_rows(tmp_path / "b.jsonl", 2))[1])
    for out in outs:
        table = [line for line in out.splitlines() if line[:1] in "┃│├┏└"]
        assert table
        assert max(map(len, table)) <= 80


def test_a_check_as_tables(call, tmp_path):
    path = write_rows(tmp_path / "own.jsonl", language="python")
    code, out, err = call("data", "check", path, "-q")
    assert (code, err) == (0, "")
    assert "12 usable, 0 broken" in out
    assert "own.jsonl can be a task" in out
    path.write_text(path.read_text() + '{"prompt": 1}\n')
    code, out, _ = call("data", "check", path, "--near-duplicates", "1")
    assert code == 1
    assert "own.jsonl:13" in out
    assert "cannot be a task as it is: 1 record is broken" in out


def test_a_set_of_tests_alone_is_no_task_of_its_own(call, tmp_path):
    row = {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n"}
    row |= {"entry_point": "f", "test": "def check(candidate):\n    assert candidate() == 1\n"}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row) + "\n")
    code, out, _ = call("data", "check", path, "-q")
    assert code == 0
    assert "tests of another source" in out
    assert "not possible" not in out
    assert "own.jsonl can be the tests of a task" in out


def test_checks_as_json(call, tmp_path):
    good = write_rows(tmp_path / "good.jsonl")
    bad = tmp_path / "bad.csv"
    bad.write_text("question,answer\na,b\n")
    code, out, err = call("data", "check", good, bad, "-q", "--json", "--against", good)
    found = json.loads(out)
    assert (code, err) == (1, "")
    jsonschema.Draft202012Validator(read_schema("data_check")).validate(found)
    assert [entry["usable"] for entry in found["checks"]] == [True, False]
    assert found["checks"][0]["leaks"][0]["exact"] == 12
    code, out, _ = call("data", "check", bad, "-q", "--json", "--columns", "prompt=question, target=answer")
    assert json.loads(out)["checks"][0]["records"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--columns", "promt=a"], "Did you mean 'columns.prompt'?"),
        (["--columns", "prompt"], "expected name=column, such as prompt=question"),
        (["--columns", "prompt=a,target=a"], "give every column a name of its own"),
        (["--objective", "generat"], "Did you mean 'generate'?"),
        (["--near-duplicates", "0"], "Invalid value for '--near-duplicates'"),
    ],
)
def test_misuse(call, tmp_path, options, message):
    code, _, err = call("data", "check", write_rows(tmp_path / "a.jsonl"), *options)
    assert code == 2
    assert message in err


def test_a_file_that_is_not_there(call, tmp_path):
    code, _, err = call("data", "check", tmp_path / "absent.jsonl")
    assert code == 2
    assert "is not there" in err


def test_a_set_that_is_not_there(call, tmp_path):
    code, _, err = call("data", "check", write_rows(tmp_path / "a.jsonl"), "--against", "mbpx")
    assert code == 2
    assert "Did you mean 'mbxp'" in err


def test_few_tests_are_said_last(call, tmp_path):
    rows = [
        {"prompt": f"p{n}", "target": f"return {n} + {n * n}", "group": f"g{n > 1}", "language": "python"}
        for n in range(60)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = call("data", "check", path, "-q")
    assert code == 0
    assert out.splitlines()[-1] == (
        "few records are held out for tests: 2 of 60 (3%); other values of tasks.split: record (60 records)"
    )


def test_names_of_columns():
    assert read_columns(None) == ColumnSettings()
    assert read_columns("prompt=q, tests = checks") == ColumnSettings(prompt="q", tests="checks")
    with pytest.raises(SettingsError):
        read_columns("prompt=")


@pytest.fixture
def sequence(tmp_path):
    """A folder of two tasks, and something else."""
    write_rows(tmp_path / "mine" / "2-billing.jsonl", language="python")
    write_rows(tmp_path / "mine" / "10-web.jsonl")
    (tmp_path / "mine" / "README.md").write_text("words")
    return tmp_path / "mine"


def test_a_folder_of_tasks_is_a_sequence(call, quick_file, sequence):
    options = ["--dry", "-q", "--json", "--set", "base.weights=random"]
    code, out, err = call("run", "--tasks", sequence, "--language", "javascript", *options)
    assert code == 0, err
    assert "not a task: " in err
    assert "README.md (no file of records)" in err
    tasks = json.loads(out)["settings"]["tasks"]
    assert [task["name"] for task in tasks] == ["billing", "web"]
    assert [task["language"] for task in tasks] == ["python", "javascript"]
    assert tasks[0]["path"] == str(sequence / "2-billing.jsonl")
    assert tasks[0]["train_examples"] == 4000  # as the preset's first task has it


def test_an_experiment_file_may_name_the_folder(call, tmp_path, sequence):
    file = tmp_path / "own.toml"
    file.write_text(f"tasks = '{sequence}'\n")
    code, _, err = call("run", file, "--dry")
    assert code == 2
    assert "10-web.jsonl' name no language: say which with --language" in err
    options = ["--language", "go", "--dry", "-q", "--json", "--set", "tasks.web.columns.group=prompt2"]
    code, _, err = call("run", file, *options)
    assert code == 1
    assert "10-web.jsonl: no row has the column 'prompt2', which tasks.web.columns names" in err
    code, _, err = call("run", "--language", "go", "--dry")
    assert code == 2
    assert "--language goes with a folder of tasks" in err
    code, _, err = call("run", "--tasks", tmp_path / "absent", "--dry")
    assert code == 2


def test_a_run_of_a_folder_is_whole_and_resumes(call, quick_file, sequence, tmp_path):
    """What the run keeps names its tasks, not the folder: it goes on when others come into the folder."""
    for path in sequence.glob("*.jsonl"):
        write_rows(path, 12, language="python")
    runs = tmp_path / "runs"
    options = ["--name", "own", "--runs", runs, "-q", "--set", "methods=lora"]
    code, _, err = call("run", quick_file, "--tasks", sequence, *options)
    assert code == 0, err
    saved = (runs / "own" / "settings.toml").read_text()
    assert 'name = "billing"' in saved
    assert 'name = "web"' in saved
    write_rows(sequence / "1-new.jsonl", language="python")
    (runs / "own" / "done.json").unlink()
    code, _, err = call("resume", "own", "--runs", runs, "-q")
    assert code == 0, err
    code, _, err = call("extend", "own", "--task", f"new={sequence / '1-new.jsonl'}", "--runs", runs, "-q")
    assert code == 0, err
    assert 'language = "python"' in (runs / "own-new" / "settings.toml").read_text().split('"new"')[1]


def write_record(path, **changes):
    code = 'def add(x, y):\n    """Sum of both numbers."""\n    return x + y'
    record = {
        "func_name": "Some.add",
        "language": "python",
        "original_string": code,
        "code": code,
        "code_tokens": ["def", "add", "(", "x", ",", "y", ")", ":", "return", "x", "+", "y"],
        "docstring": "Sum of both numbers.",
        "docstring_tokens": ["Sum", "of", "both", "numbers", "."],
    }
    path.write_text(json.dumps({**record, **changes}) + "\n", encoding="utf-8")
    return path


def test_agreement_lists_what_is_mined_differently(call, tmp_path):
    path = write_record(tmp_path / "records.jsonl", docstring="Sum of all numbers.")
    code, out, _ = call("data", "agreement", str(path))
    assert code == 0
    place = f"{path}:1 Some.add: docstring"
    assert f"{place}\n  mined    'of both numbers.'\n  recorded 'of all numbers.'" in out
    code, out, _ = call("data", "agreement", str(path), "--json")
    report = json.loads(out)
    jsonschema.validate(report, read_schema("data_agreement"))
    assert {entry["what"]: entry["same"] for entry in report["agreements"]} == {
        **{"code": 1, "code_tokens": 1, "name": 1},
        **{"docstring": 0, "docstring_tokens": 1},
    }
    assert [found["what"] for found in report["differences"]] == ["docstring"]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"language": "cobol"}, 2, "Unknown language to mine 'cobol'"),
        ({"code_tokens": None}, 1, "records.jsonl:1: field 'code_tokens': expected a list of texts"),
        ({"original_string": None}, 1, "field 'original_string' is null"),
    ],
)
def test_records_that_cannot_be_mined_again_are_refused(call, tmp_path, changes, code, said):
    path = write_record(tmp_path / "records.jsonl", **changes)
    found, out, err = call("data", "agreement", str(path))
    assert (found, out) == (code, "")
    assert said in err


def test_agreement_with_a_missing_file_says_so(call, tmp_path):
    code, _, err = call("data", "agreement", str(tmp_path / "none.jsonl"))
    assert code == 1
    assert "none.jsonl" in err
