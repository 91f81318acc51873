import gzip
import re
from datetime import datetime
from pathlib import Path

import pytest

from codestrata.data.tables import load_examples, load_table
from codestrata.errors import DataError
from codestrata.records import Example
from codestrata.settings.tree import build_settings


def test_an_example_per_line_in_file_order(write_lines):
    path = write_lines(
        "mine.jsonl",
        {"prompt": "add", "target": "+", "tests": "assert True", "id": "first", "group": "sums"},
        "",
        {"prompt": "halve", "target": "/ 2", "comment": "other fields are ignored", "tests": None},
        {"prompt": "halve", "target": ">> 1", "id": 7},
    )
    assert load_examples(path) == [
        Example(identifier="first", prompt="add", target="+", tests="assert True", group="sums"),
        Example(identifier="mine.jsonl:3", prompt="halve", target="/ 2"),
        Example(identifier="7", prompt="halve", target=">> 1"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, "field 'target' is missing; found: prompt"),
        ({}, "field 'prompt' is missing; found: none"),
        ({"prompt": None, "target": "b"}, "field 'prompt' is null: expected text"),
        ({"prompt": ["a"], "target": "b"}, "field 'prompt': expected text, found list"),
        ({"prompt": "a", "target": 3}, "field 'target': expected text, found int"),
        ({"prompt": "a", "target": " \n"}, "field 'target' is empty"),
        ({"prompt": "a", "target": "b", "tests": ["assert 1"]}, "field 'tests': expected text, found list"),
        ({"prompt": "a", "target": "b", "group": 1}, "field 'group': expected text, found int"),
        ({"prompt": "a", "target": "b", "id": True}, "field 'id': expected text, found bool"),
        (
            {"prompt": "a", "target": "b", "id": "same"},
            "id 'same' was used in line 1 already: ids must differ",
        ),
        ({"prompt": "a\ud800", "target": "b"}, "field 'prompt' holds half a surrogate pair at character 1"),
        ('{"prompt": "a", "target": ', "not JSON"),
        ("[1, 2]", "expected a JSON object, found list"),
    ],
)
def test_a_faulty_line_is_named(write_lines, row, message):
    path = write_lines("mine.jsonl", {"prompt": "p", "target": "t", "id": "same"}, row)
    with pytest.raises(DataError, match=re.escape(f"{path}:2: {message}")) as caught:
        load_examples(path)
    assert caught.value.line == 2


def test_a_file_without_examples_is_refused(write_lines, tmp_path):
    path = write_lines("empty.jsonl", "", "  ")
    with pytest.raises(DataError, match=re.escape(f"{path}: no examples")):
        load_examples(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_examples(tmp_path / "absent.jsonl")


def load(path, **settings):
    settings = {"name": "mine", "source": "file", "path": str(path), **settings}
    return load_table(build_settings({"tasks": [settings]}).tasks[0], Path(path), "generate")


TABLES = {
    "mine.csv": "question,answer,day,under\nadd,+,2024-05-31,MIT\nhalve,/ 2,2024-06-01 10:00,\n",
    "mine.tsv": "question\tanswer\tday\tunder\nadd\t+\t2024-05-31\tMIT\nhalve\t/ 2\t2024-06-01\t\n",
    "mine.jsonl": '{"question": "add", "answer": "+", "day": "2024-05-31", "under": "MIT"}\n'
    '{"question": "halve", "answer": "/ 2", "day": "2024-06-01T10:00:00", "under": null}\n',
}
MAPPED = {"prompt": "question", "target": "answer", "date": "day", "license": "under"}


@pytest.mark.parametrize("name", [*TABLES, "mine.jsonl.gz", "mine.parquet"])
def test_every_type_of_file_with_columns_of_other_names(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(TABLES["mine.jsonl"].encode()))
    elif name.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        days = [datetime(2024, 5, 31), datetime(2024, 6, 1, 10)]
        columns = {"question": ["add", "halve"], "answer": ["+", "/ 2"], "day": days, "under": ["MIT", None]}
        parquet.write_table(pyarrow.table({**columns, "other": [[1], [2]]}), path)
    else:
        path.write_text(TABLES[name])
    found = load(path, columns=MAPPED, split="date", licenses=["MIT"]).examples
    assert [(entry.example.prompt, entry.example.target) for entry in found] == [
        ("add", "+"),
        ("halve", "/ 2"),
    ]
    assert [entry.date for entry in found] == ["2024-05-31", "2024-06-01"]
    assert [entry.license for entry in found] == ["MIT", None]
    assert [entry.identifier for entry in found] == [f"{name}:{entry.line}" for entry in found]


@pytest.mark.parametrize("name", [*TABLES, "mine.parquet"])
def test_a_missing_column_is_named_with_those_there_are_and_the_setting(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        names = ("question", "answer", "day", "under")
        parquet.write_table(pyarrow.table({key: ["x"] for key in names}), path)
    else:
        path.write_text(TABLES[name])
    wanted = r"'target' is missing; found: answer, day, question, under \(tasks\.mine\.columns\.target says"
    with pytest.raises(DataError, match=wanted):
        load(path, columns={"prompt": "question"})


def test_a_column_that_settings_name_must_be_there(write_lines):
    path = write_lines("mine.jsonl", {"prompt": "a", "target": "b"})
    with pytest.raises(DataError, match=r"no row has the column 'checks', which tasks\.mine\.columns names"):
        load(path, columns={"tests": "checks"})


def test_days_and_licences_matter_only_where_they_are_asked_for(write_lines):
    row = {"prompt": "a", "target": "b", "date": "in May", "license": ["MIT"]}
    path = write_lines("mine.jsonl", row)
    [entry] = load(path).examples
    assert (entry.date, entry.license) == (None, "MIT")
    with pytest.raises(
        DataError, match=r":1: field 'date': expected a day such as 2024-05-31, found 'in May'"
    ):
        load(path, split="date")
    path = write_lines("mine.jsonl", row | {"date": 20240531, "license": 3})
    assert (load(path).examples[0].date, load(path).examples[0].license) == (None, None)
    with pytest.raises(DataError, match=r":1: field 'date': expected a day such as .*, found 20240531"):
        load(path, split="date")
    with pytest.raises(DataError, match=r":1: field 'license': expected text, found int"):
        load(path, licenses=["MIT"])


@pytest.mark.parametrize(
    ("licenses", "wanted"),
    [([], None), (["MIT"], "MIT"), (["MIT", "A OR B", "MIT"], "MIT AND (A OR B)")],
)
def test_of_a_list_of_licences_all_count(write_lines, licenses, wanted):
    path = write_lines("mine.jsonl", {"prompt": "a", "target": "b", "license": licenses})
    assert load(path, licenses=["MIT"]).examples[0].license == wanted


def test_empty_fields_of_a_table_are_none(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("prompt,target,tests,id,group\nadd,+,,,\nhalve,/,,,\n")
    assert [(e.example.tests, e.example.group, e.identifier) for e in load(path).examples] == [
        (None, None, "mine.csv:2"),
        (None, None, "mine.csv:3"),
    ]
    path.write_text("prompt,target\nadd,\n")
    with pytest.raises(DataError, match=r"mine\.csv:2: field 'target' is empty"):
        load(path)


def test_a_folder_of_train_and_test_files_has_these_partitions(write_lines, tmp_path):
    write_lines("own/train.jsonl", {"prompt": "a", "target": "1"}, {"prompt": "b", "target": "2"})
    write_lines("own/dev.jsonl", {"prompt": "c", "target": "3"})
    (tmp_path / "own" / "test.csv").write_text("prompt,target\nd,4\n")
    (tmp_path / "own" / "notes.txt").write_text("no records")
    found = {entry.example.prompt: entry.partition for entry in load(tmp_path / "own").examples}
    assert found == {"a": "train", "b": "train", "c": "validation", "d": "test"}
    (tmp_path / "own" / "more.csv").write_text("prompt,target\ne,5\n")
    with pytest.raises(DataError, match=r"holds files called test, train, validation, and more\.csv besides"):
        load(tmp_path / "own")


def test_a_folder_of_other_files_is_one_table(write_lines, tmp_path):
    write_lines("own/b.jsonl", {"prompt": "b", "target": "1", "id": "x"})
    write_lines("own/a.jsonl", {"prompt": "a", "target": "1"})
    found = load(tmp_path / "own").examples
    assert [(entry.example.prompt, entry.partition) for entry in found] == [("a", None), ("b", None)]
    write_lines("own/c.jsonl", {"prompt": "c", "target": "1", "id": "x"})
    names = [entry.identifier for entry in load(tmp_path / "own").examples]
    assert names == ["a.jsonl:1", "x", "c.jsonl:x"], "an id that clashes gets the name of its file"
    for path in (tmp_path / "own").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="the folder holds no"):
        load(tmp_path / "own")


def test_repeats_are_noted(write_lines):
    path = write_lines("mine.jsonl", *[{"prompt": "a", "target": "1"}] * 3)
    assert load(path).notes == (
        "2 of 3 examples in mine.jsonl repeat the prompt and target of an earlier one",
    )


def test_files_named_after_a_part_are_that_part_whatever_follows(write_lines, tmp_path):
    names = ["train-00000-of-00002", "train-00001-of-00002", "Validation_a", "test.hard"]
    for name in names:
        write_lines(f"own/{name}.jsonl", {"prompt": name, "target": "1"})
    found = {entry.example.prompt: entry.partition for entry in load(tmp_path / "own").examples}
    assert [found[name] for name in names] == ["train", "train", "validation", "test"]


def test_a_folder_that_names_some_of_its_files_only_is_refused(write_lines, tmp_path):
    write_lines("own/train.jsonl", {"prompt": "a", "target": "1"})
    write_lines("own/extra.jsonl", {"prompt": "b", "target": "1"})
    with pytest.raises(DataError, match=r"holds files called train, and extra\.jsonl besides"):
        load(tmp_path / "own")


def test_json_lists_are_read_alone_and_where_a_folder_holds_nothing_else(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.json").write_text('[{"prompt": "a", "target": "1"}]')
    for path in (tmp_path / "own", tmp_path / "own" / "a.json"):
        assert [entry.example.prompt for entry in load(path).examples] == ["a"]
    (tmp_path / "own" / "b.jsonl").write_text('{"prompt": "b", "target": "1"}')
    assert [entry.example.prompt for entry in load(tmp_path / "own").examples] == ["b"]


def test_an_id_that_is_a_secret_is_not_shown(write_lines):
    token = "ghp_" + "a8F3kZ9mQ2xW7vB4nL6tR1yP5sD0hJcEuGiV"  # of the right form, and nobody's
    path = write_lines("mine.jsonl", *[{"prompt": "a", "target": "1", "id": token}] * 2)
    with pytest.raises(DataError, match="id '<hidden: ") as caught:
        load(path)
    assert token not in str(caught.value)
