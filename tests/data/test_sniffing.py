"""Which source a file is of."""

import json
import re

import pytest

from codestrata.data.sniffing import sniff
from codestrata.errors import DataError
from codestrata.settings.tasks import ColumnSettings

FUNCTION = {"code": "x", "docstring": "d", "func_name": "f", "language": "Python", "partition": "train"}
HUB_FUNCTION = {
    "func_code_string": "x",
    "func_documentation_string": "d",
    "func_name": "f",
    "language": "go",
    "split_name": None,
}
PROBLEM = {"task_id": "MBPP/1", "prompt": "p", "canonical_solution": "s", "test": "t", "entry_point": "e"}


@pytest.mark.parametrize(
    ("row", "source"),
    [
        ({"prompt": "p", "target": "t"}, "file"),
        ({"prompt": "p", "target": "t"} | PROBLEM, "file"),
        ({"prompt": None, "target": "t"}, "file"),
        (FUNCTION, "codesearchnet"),
        (HUB_FUNCTION, "codesearchnet"),
        (PROBLEM | {"language": "python"}, "mbxp"),
        (PROBLEM | {"task_id": "HumanEval/0"}, "humaneval"),
        (PROBLEM | {"task_id": "Python/0", "declaration": "d"}, "humaneval-x"),
        (PROBLEM | {"task_id": "Python/0", "declaration": "d", "buggy_solution": "b"}, "humanevalpack"),
        ({"task_id": 1, "text": "p", "code": "c", "test_list": []}, "mbpp"),
        ({"task_id": 1, "prompt": "p", "code": "c", "test_list": []}, "mbpp"),
        ({"nl": "n", "code": "c"}, "concode"),
    ],
)
def test_records_are_known_by_their_fields(write_lines, row, source):
    found = sniff(write_lines("a.jsonl", row))
    assert found.source == source
    assert found.fields == tuple(row)
    assert found.is_partitioned == ("partition" in row)


def test_languages_are_those_that_the_first_records_name(write_lines):
    rows = [FUNCTION | {"language": name} for name in ("Python", "go", "python ", "go")]
    assert sniff(write_lines("a.jsonl", *rows)).languages == ("python", "go")
    assert sniff(write_lines("b.jsonl", {"prompt": "a", "target": "b", "language": 3})).languages == ()


def test_columns_of_other_names(write_lines):
    path = write_lines("a.jsonl", {"question": "p", "answer": "t"})
    assert sniff(path, ColumnSettings(prompt="question", target="answer")).source == "file"
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: no known kind of record; its fields are: answer, question"
    ):
        sniff(path)


@pytest.mark.parametrize(
    ("name", "source"),
    [("train.java-cs.txt.cs", "translate"), ("valid.buggy-fixed.fixed", "refine")],
)
def test_sides_of_a_pair_are_known_by_their_names(tmp_path, name, source):
    (tmp_path / name).write_text("anything\n")
    assert sniff(tmp_path / name).source == sniff(tmp_path).source == source


def test_a_list_of_objects(tmp_path):
    path = tmp_path / "sanitized-mbpp.json"
    path.write_text(json.dumps([{"task_id": 1, "prompt": "p", "code": "c", "test_list": []}], indent=1))
    assert sniff(path).source == "mbpp"
    path.write_text("[1]")
    with pytest.raises(DataError, match="expected a JSON object, found int"):
        sniff(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="expected a list of objects"):
        sniff(path)


def test_a_vocabulary_is_no_table(tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({"prompt": 0, "target": 1, "nl": 2, "code": 3}))
    with pytest.raises(DataError, match="no known kind of record"):
        sniff(path)


def test_tables_in_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeffprompt;target;language\na;b;Lua\n", encoding="utf-8")
    assert (sniff(path).source, sniff(path).languages) == ("file", ("lua",))


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "the file holds no records"), ("{", "not JSON"), ("{}", "its fields are: none")],
)
def test_what_cannot_be_known(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        sniff(path)


def test_a_folder_without_records(tmp_path):
    (tmp_path / ".hidden.jsonl").write_text("{}")
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: the folder holds no file of records")):
        sniff(tmp_path)


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("codesearchnet/ruby/test.jsonl", "codesearchnet"),
        ("cosqa/python.jsonl", "codesearchnet"),
        ("mbxp/mbpp_release_v1.jsonl", "mbxp"),
        ("codetask/concode/dev.json", "concode"),
        ("codetask/translate", "translate"),
        ("codetask/refine", "refine"),
    ],
)
def test_real_files(shared_data, place, source):
    assert sniff(shared_data / place).source == source
