"""Every fault of a file, and its records."""

import json

from codestrata.data.faults import MOST_NAMED, recognize_file, survey_path
from codestrata.progress import Silence
from codestrata.settings.tasks import ColumnSettings, TaskSettings

SETTINGS = TaskSettings(name="own", source="file", path="own.jsonl")
FUNCTION = {"code": "def f(): return 1", "docstring": "One.", "func_name": "f", "language": "python"}


def test_tables_are_read_to_the_end(write_lines):
    rows = [{"prompt": str(n), "target": "t", "group": "" if n % 2 else "g"} for n in range(20)]
    path = write_lines("own.jsonl", *[part for row in rows for part in (row, "{")])
    found = survey_path(path, "file", SETTINGS, Silence())
    assert (len(found.found), found.broken, len(found.first_broken)) == (20, 20, MOST_NAMED)
    assert [entry.line for entry in found.found] == list(range(1, 40, 2))
    assert [error.line for error in found.first_broken] == list(range(2, 22, 2))
    assert dict(found.empty) == {"group": 10}
    assert list(found.fields) == ["prompt", "target", "group"]


def test_functions_are_read_to_the_end(write_lines):
    path = write_lines("a.jsonl", FUNCTION, FUNCTION | {"code": 3}, "x", FUNCTION | {"docstring": None})
    found = survey_path(path, "codesearchnet", SETTINGS, Silence())
    assert [error.line for error in found.first_broken] == [2, 3]
    assert [entry.line for entry in found.found] == [1, 4]
    assert (dict(found.empty), sum(found.dropped.values())) == ({"docstring": 1}, 1)


def test_of_a_source_that_is_read_whole_the_first_fault_counts(write_lines):
    settings = TaskSettings(name="java", source="concode")
    path = write_lines("dev.json", {"nl": "n", "code": "c"}, {"nl": "n", "code": 3}, {"nl": 3, "code": "c"})
    found = survey_path(path, "concode", settings, Silence())
    assert (found.broken, found.first_broken[0].line) == (1, 2)


def test_what_a_file_is_though_it_begins_broken(write_lines, tmp_path):
    path = write_lines("a.jsonl", "{", "x", {"question": "a", "answer": "b"})
    source, fault = recognize_file(path, SETTINGS)
    assert (source, fault.line) == (None, 3)
    columns = ColumnSettings(prompt="question", target="answer")
    settings = TaskSettings(name="own", source="file", path="a", columns=columns)
    assert recognize_file(path, settings) == ("file", None)
    source, fault = recognize_file(write_lines("b.jsonl", "{"), SETTINGS)
    assert (source, fault.line) == (None, 1)
    listed = tmp_path / "c.json"
    listed.write_text(json.dumps([1]))
    assert "expected a JSON object, found int" in str(recognize_file(listed, SETTINGS)[1])
    assert "cannot be read" in str(recognize_file(tmp_path / "absent.jsonl", SETTINGS)[1])
