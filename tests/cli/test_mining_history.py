"""``codestrata mine --by-year``."""

import json
import os
from importlib.resources import files

import jsonschema
import pytest

FUNCTION = 'def {0}(a):\n    """The {0} of it all."""\n    b = a\n    return b\n'


@pytest.fixture
def repository(checkout, monkeypatch):
    """Two years, of which the second brings two functions, and a third with one."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    made = checkout()
    made.commit("2019-01-01", {"a.py": FUNCTION.format("area"), "empty.py": ""})
    made.commit("2020-01-01", {"b.py": FUNCTION.format("bound") + "\n\n" + FUNCTION.format("cosine")})
    made.commit("2021-01-01", {"c.py": FUNCTION.format("depth")})
    return made.path


def test_a_history_becomes_a_folder_of_tasks(call, repository, tmp_path):
    out = tmp_path / "tasks"
    code, shown, told = call(
        "mine", "--by-year", repository, "--language", "python", "--out", out, "--least", 2
    )
    assert code == 0
    assert [path.name for path in out.iterdir()] == ["2020.jsonl"]
    years = [
        json.loads(line)["year"] for line in (out / "2020.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert years == [2019, 2020, 2020]
    for text in ("2019, 2020", "empty", "with too few functions", "2021", f"Tasks: {out}"):
        assert text in shown
    assert "mine python by year" in told


def test_json_is_as_published(call, repository, tmp_path):
    arguments = ("-l", "python", "--least", 1, "--json", "--quiet")
    code, shown, told = call("mine", "--by-year", repository, "-o", tmp_path / "tasks", *arguments)
    assert (code, told) == (0, "")
    report = json.loads(shown)
    path = files("codestrata") / "schemas" / "mining_history.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(report, schema)
    assert list(report) == schema["required"] == list(schema["properties"])
    assert [year["functions"] for year in report["years"]] == [1, 2, 1]
    for broken in ({**report, "years": []}, {**report, "more": 1}, {**report, "left_out": {"2020": 0}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by-year", "."], "2 paths were given"),
        (["--least", "3"], "--least goes with --by-year"),
        (["--by-year", "--least", "0"], "least"),
        (["--by-year", "--license", "MTI"], "Did you mean 'MIT'"),
        (["--by-year", "--jobs", "2"], "--jobs does not go with --by-year"),
    ],
)
def test_misuse_is_told(call, repository, tmp_path, arguments, message):
    code, _, told = call("mine", repository, "-l", "python", "-o", tmp_path / "tasks", *arguments)
    assert code == 2
    assert message in told
    assert not (tmp_path / "tasks").exists()


def test_what_is_no_repository_is_misuse(call, tmp_path):
    (tmp_path / "plain").mkdir()
    code, _, told = call("mine", "--by-year", tmp_path / "plain", "-l", "python", "-o", tmp_path / "tasks")
    assert code == 2
    assert "is no git repository" in told


def test_the_name_of_a_file_is_misuse(call, repository, tmp_path):
    code, _, told = call("mine", "--by-year", repository, "-l", "python", "-o", tmp_path / "y.jsonl")
    assert code == 2
    assert "is called as a file: name a folder" in told
    assert not (tmp_path / "y.jsonl").exists()


def test_too_few_functions_are_a_failure(call, repository, tmp_path):
    code, _, told = call("mine", "--by-year", repository, "-l", "python", "-o", tmp_path / "tasks")
    assert code == 1
    assert "4 documented python functions in all years, but a file takes 30" in told
