import re

import pytest

from codestrata.data.tables import load_examples
from codestrata.errors import DataError
from codestrata.records import Example


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
