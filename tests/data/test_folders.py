"""A folder of tasks as a sequence."""

import json
import re

import pytest

from codestrata.data.folders import inherit, list_folder_tasks
from codestrata.errors import DataError, SettingsError
from codestrata.presets import build_preset
from codestrata.settings.tasks import ColumnSettings, TaskSettings
from codestrata.settings.tree import build_settings

ROW = {"prompt": "p", "target": "t", "language": "python"}
FUNCTION = {"code": "x", "docstring": "d", "func_name": "f", "language": "go", "partition": None}


@pytest.fixture
def folder(tmp_path):
    """A function that puts files of one record each into a folder, which it returns."""

    def fill(**files):
        for name, row in files.items():
            place = tmp_path / "tasks" / name.replace("__", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(row if isinstance(row, str) else json.dumps(row) + "\n")
        return tmp_path / "tasks"

    return fill


def list_names(found):
    return [section["name"] for section in found.sections]


def test_files_in_natural_order_without_their_numbers(folder):
    names = ["10-last.jsonl", "2-Mid.jsonl", "01-first one.jsonl", "2019.jsonl", "9 étés.csv"]
    place = folder(**{name: ROW for name in names[:-1]}, **{names[-1]: "prompt,target,language\na,b,lua\n"})
    found = list_folder_tasks(place)
    assert list_names(found) == ["first-one", "Mid", "9-etes", "last", "2019"]
    assert found.sections[0]["path"] == str(place / "01-first one.jsonl")
    assert {section["source"] for section in found.sections} == {"file"}
    assert [section["language"] for section in found.sections] == [
        "python",
        "python",
        "lua",
        "python",
        "python",
    ]
    build_settings({"tasks": list(found.sections)})


def test_numbers_stay_where_names_would_clash(folder):
    found = list_folder_tasks(folder(**{"01-api.jsonl": ROW, "02-API.jsonl": ROW, "03-web.jsonl": ROW}))
    assert list_names(found) == ["01-api", "02-API", "web"]


def test_two_files_of_one_name_are_refused(folder):
    place = folder(**{"a b.jsonl": ROW, "a-b.jsonl": ROW})
    with pytest.raises(
        SettingsError, match=r"a b\.jsonl' and '.*a-b\.jsonl' are both task 'a-b': rename one"
    ):
        list_folder_tasks(place)
    for path in place.iterdir():
        path.unlink()
    place = folder(**{"x.jsonl": ROW, "x.csv": "prompt,target,language\na,b,go\n"})
    with pytest.raises(SettingsError, match="are both task 'x'"):
        list_folder_tasks(place)


def test_what_is_no_task_is_named(folder):
    place = folder(
        **{
            "a.jsonl": ROW,
            ".hidden.jsonl": ROW,
            "a.jsonl~": ROW,
            "b.jsonl.bak": ROW,
            "README.md": "words",
            "report.json": '{\n"counts": 1\n}',
            "empty__notes.txt": "words",
        }
    )
    found = list_folder_tasks(place)
    assert list_names(found) == ["a"]
    assert {path.name: reason for path, reason in found.ignored} == {
        ".hidden.jsonl": "hidden",
        "a.jsonl~": "a backup",
        "b.jsonl.bak": "a backup",
        "README.md": "no file of records",
        "report.json": "JSON without records",
        "empty": "a folder without files of records",
    }


def test_a_broken_file_of_records_is_not_passed_over(folder):
    place = folder(**{"a.jsonl": ROW, "b.jsonl": "{"})
    with pytest.raises(DataError, match=r"b\.jsonl:1: not JSON"):
        list_folder_tasks(place)
    (place / "b.jsonl").write_text('{"question": "x"}')
    with pytest.raises(DataError, match=r"b\.jsonl:1: no known kind of record; its fields are: question"):
        list_folder_tasks(place)


@pytest.mark.parametrize(
    ("name", "row", "asked", "language"),
    [
        ("a.jsonl", ROW | {"language": "JS"}, None, "javascript"),
        ("a.jsonl", ROW, "lua", "python"),
        ("a.jsonl", {"prompt": "p", "target": "t"}, "lua", "lua"),
        ("01-ruby.jsonl", {"prompt": "p", "target": "t"}, None, "ruby"),
        ("ruby.jsonl", {"prompt": "p", "target": "t"}, "lua", "lua"),
        ("a.jsonl", {"nl": "n", "code": "c"}, None, None),
        ("a.jsonl", FUNCTION, None, "go"),
    ],
)
def test_the_language(folder, name, row, asked, language):
    [section] = list_folder_tasks(folder(**{name: row}), language=asked).sections
    assert section.get("language") == language


def test_a_language_that_nothing_tells_is_asked_for(folder):
    place = folder(**{"a.jsonl": {"prompt": "p", "target": "t"}})
    with pytest.raises(SettingsError, match=r"name no language: say which with --language"):
        list_folder_tasks(place)
    (place / "a.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | {"language": "go"}))
    with pytest.raises(SettingsError, match=r"hold several languages \('python', 'go'\)"):
        list_folder_tasks(place)
    assert list_folder_tasks(place, language="go").sections[0]["language"] == "go"


def test_a_subfolder_is_one_task(folder):
    place = folder(
        **{
            "02-billing__train.jsonl": ROW,
            "02-billing__test.csv": "prompt,target,language\na,b,python\n",
            "1-go__x.jsonl": FUNCTION,
            "3-halves__train.jsonl": FUNCTION,
            "3-halves__test.jsonl": FUNCTION,
            "4-own__train.jsonl": FUNCTION | {"partition": "train"},
            "4-own__test.jsonl": FUNCTION | {"partition": "test"},
        }
    )
    sections = list_folder_tasks(place).sections
    assert [section["name"] for section in sections] == ["go", "billing", "halves", "own"]
    assert [section["source"] for section in sections] == ["codesearchnet", "file", *["codesearchnet"] * 2]
    assert sections[1]["path"] == str(place / "02-billing")
    assert sections[2]["path"] == str(place / "3-halves" / "train.jsonl")
    assert sections[2]["test_path"] == str(place / "3-halves" / "test.jsonl")
    assert sections[2]["test_source"] == "codesearchnet"
    assert sections[3]["path"] == str(place / "4-own")
    build_settings({"tasks": list(sections)})


def test_a_folder_of_train_and_test_files_is_one_task_itself(folder):
    found = list_folder_tasks(folder(**{"train.jsonl": ROW, "test.jsonl": ROW}))
    assert list_names(found) == ["tasks"]
    assert found.sections[0]["path"].endswith("tasks")


def test_a_file_alone_is_one_task(folder):
    place = folder(**{"01-own.jsonl": ROW})
    assert list_folder_tasks(place / "01-own.jsonl") == list_folder_tasks(place)


def test_kinds_are_not_mixed_in_a_subfolder(folder):
    place = folder(**{"a__x.jsonl": FUNCTION, "a__y.jsonl": ROW})
    with pytest.raises(
        DataError, match=r"y\.jsonl: holds records of file, but x\.jsonl beside it of codesearch"
    ):
        list_folder_tasks(place)


def test_what_the_first_task_of_the_preset_gives(folder):
    place = folder(**{"a.jsonl": ROW, "b.jsonl": FUNCTION})
    first = build_preset("pocket")["tasks"][0]
    own, functions = list_folder_tasks(place, first=first).sections
    assert own["train_examples"] == functions["train_examples"] == first["train_examples"]
    assert not {"unseen_examples", "objective"} & (own.keys() | functions.keys())
    own, functions = list_folder_tasks(place, first=build_preset("founding")["tasks"][0]).sections
    assert (functions["objective"], functions["evaluation_objective"]) == ("copy", "continue")
    assert "objective" not in own


def test_folders_that_are_none(folder, tmp_path):
    with pytest.raises(SettingsError, match="is not there"):
        list_folder_tasks(tmp_path / "absent")
    place = folder(**{"README.md": "words"})
    with pytest.raises(DataError, match=r"README\.md: unknown kind of file: expected \.jsonl"):
        list_folder_tasks(place / "README.md")
    with pytest.raises(DataError, match=re.escape(f"{place}: the folder holds no tasks")):
        list_folder_tasks(place)


@pytest.mark.parametrize("name", ["codesearchnet", "cosqa", "mbxp", "codetask"])
def test_real_folders(shared_data, name):
    found = list_folder_tasks(shared_data / name)
    assert build_settings({"tasks": list(found.sections)}).tasks


def test_files_with_columns_of_other_names(folder):
    row = {"question": "p", "answer": "t", "language": "python"}
    place = folder(
        **{"01-qa.jsonl": row, "other.jsonl": ROW, "sub__train.jsonl": row, "sub__test.jsonl": row}
    )
    columns = ColumnSettings(prompt="question", target="answer")
    with pytest.raises(DataError, match="no known kind of record"):
        list_folder_tasks(place)
    found = list_folder_tasks(place, columns={"qa": columns, "sub": columns})
    assert list_names(found) == ["qa", "other", "sub"]
    assert list_names(list_folder_tasks(place / "01-qa.jsonl", columns={"*": columns})) == ["qa"]


@pytest.mark.parametrize(
    "names", [["train", "valid"], ["train-00000-of-00002", "train-00001-of-00002"], ["train_a", "test_a"]]
)
def test_parts_of_one_task_are_one_task(folder, names):
    found = list_folder_tasks(folder(**{f"{name}.jsonl": ROW for name in names}))
    assert list_names(found) == ["tasks"]


def test_one_file_called_train_is_a_task_among_others(folder):
    found = list_folder_tasks(folder(**{"train.jsonl": ROW, "billing.jsonl": ROW}))
    assert list_names(found) == ["billing", "train"]


def test_functions_in_several_files_of_one_part_are_refused(folder):
    names = ["train-00000-of-00002", "train-00001-of-00002", "test"]
    with pytest.raises(DataError, match="holds several files of functions for one part of the data"):
        list_folder_tasks(folder(**{f"{name}.jsonl": FUNCTION for name in names}))


def test_what_one_task_gives_the_next():
    first = vars(TaskSettings(name="a", source="mined", split="date", licenses=("MIT",), seed=3))
    assert inherit("mined", first).items() >= {"split": "date", "licenses": ("MIT",), "seed": 3}.items()
    assert "split" not in inherit("humaneval", first)
    assert inherit("kata", first).keys() == {"train_examples", "validation_examples", "test_examples", "seed"}
