import pytest

from codestrata.data.exclusions import find_set, load_excluded
from codestrata.errors import DataError, SettingsError
from codestrata.settings.tasks import ColumnSettings, TaskSettings

ROW = {"code": "def f(): pass", "docstring": "d", "func_name": "f", "language": "python"}


def make_settings(**changes):
    return TaskSettings(**({"name": "python", "source": "codesearchnet"} | changes))


def test_a_name_is_a_source_a_file_of_one_or_a_file(write_lines):
    settings = make_settings()
    assert find_set(settings, "humaneval") == ("humaneval", None)
    problems = write_lines("b.jsonl", {})
    assert find_set(settings, f"humaneval:{problems}") == ("humaneval", problems)
    assert find_set(settings, f"humaneval-x:{problems}") == ("humaneval-x", problems)
    with pytest.raises(SettingsError, match=r"exclude names 'a/b\.jsonl', which is not there"):
        find_set(settings, "humaneval:a/b.jsonl")
    examples = write_lines("mine.jsonl", {"prompt": "p", "target": "t"})
    assert find_set(settings, str(examples)) == ("file", examples)
    assert find_set(settings, f"file:{examples}") == ("file", examples)
    functions = write_lines("functions.jsonl", ROW)
    assert find_set(settings, str(functions)) == ("codesearchnet", functions)


@pytest.mark.parametrize("name", ["humanevel", "no/such.jsonl", "file:no/such.jsonl", "kata"])
def test_an_unknown_name_is_refused_with_the_choices(name):
    with pytest.raises(SettingsError, match=r"Unknown tasks\.python\.exclude .*humaneval, .*<source>:<file>"):
        find_set(make_settings(), name)


def test_the_nearest_name_is_named():
    with pytest.raises(SettingsError, match="Did you mean 'humaneval'"):
        find_set(make_settings(), "humanevel")


def test_a_file_of_another_schema_than_said_is_refused(write_lines):
    path = write_lines("mine.jsonl", {"prompt": "p", "target": "t"})
    with pytest.raises(DataError, match=r"mine\.jsonl:1: "):
        load_excluded(make_settings(), f"codesearchnet:{path}")


def test_all_records_of_a_file_are_taken(write_lines):
    rows = [ROW | {"partition": partition} for partition in ("train", "test")]
    path = write_lines("a.jsonl", *rows)
    assert {record.partition for record in load_excluded(make_settings(), str(path))} == {"train", "test"}


def test_columns_are_those_of_the_task(write_lines):
    path = write_lines("mine.jsonl", {"question": "p", "answer": "t"})
    with pytest.raises(DataError, match="no known kind of record"):
        load_excluded(make_settings(), str(path))
    columns = ColumnSettings(prompt="question", target="answer")
    (record,) = load_excluded(make_settings(source="file", path="x.jsonl", columns=columns), str(path))
    assert (record.example.prompt, record.example.target) == ("p", "t")


def test_an_objective_that_the_set_does_not_know_is_no_hindrance(write_lines):
    path = write_lines("mine.jsonl", {"prompt": "p", "target": "t"})
    (record,) = load_excluded(make_settings(objective="summarize"), str(path))
    assert record.example.prompt == "p"


def test_a_set_may_have_kept_the_usual_columns_or_share_the_renamed_ones(write_lines):
    columns = ColumnSettings(prompt="question", target="answer", tests="checks")
    settings = make_settings(source="file", path="own.jsonl", columns=columns)
    for number, row in enumerate(({"prompt": "p", "target": "t"}, {"question": "p", "answer": "t"})):
        path = write_lines(f"{number}.jsonl", row)
        for name in (str(path), f"file:{path}"):
            assert [record.example.prompt for record in load_excluded(settings, name)] == ["p"]
    with pytest.raises(DataError, match="no known kind of record"):
        load_excluded(settings, str(write_lines("c.jsonl", {"question": "p", "target": "t"})))
