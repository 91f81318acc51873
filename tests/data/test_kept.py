"""A task written into a run and read again."""

import json

import pytest

from codestrata.data.kept import read_task, write_task
from codestrata.data.tasks import fingerprint_task
from codestrata.errors import DataError
from codestrata.records import Example, Task


def make_task(**changes):
    values = {
        "name": "python",
        "language": "python",
        "objective": "generate",
        "evaluation_objective": "complete",
        "train": (Example(identifier="a", prompt="p\r\n\t", target="t", group="repo"),),
        "validation": (),
        "test": (
            Example(identifier="b", prompt="é漢\u2028", target="x", tests="assert True", prelude="def f():"),
            Example(identifier="c", prompt="q", target="y"),
        ),
        "unseen": (),
        "dropped": {"no docstring": 3},
        "notes": ("mined 3 functions",),
        "duplicates": {"threshold": 0.8, "counts": [{"near": 1}]},
        "prompt_template": "py: {}",
    }
    return Task(**(values | changes))


def test_a_task_comes_back_whole(tmp_path):
    task = make_task()
    write_task(tmp_path / "data" / "python.jsonl", task)
    found = read_task(tmp_path / "data" / "python.jsonl")
    assert found == task
    assert fingerprint_task(found) == fingerprint_task(task)


def test_the_file_has_a_line_for_the_task_and_one_for_every_example(tmp_path):
    write_task(tmp_path / "t.jsonl", make_task())
    about, *rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_bytes().split(b"\n") if line]
    assert about["name"] == "python"
    assert [(row["split"], row["identifier"]) for row in rows] == [
        ("train", "a"),
        ("test", "b"),
        ("test", "c"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no task"),
        (["{}"], ":1: is no task"),
        ([None, '{"identifier": "a"}'], ":2: split is None: expected train, validation"),
        ([None, '{"split": "train", "identifier": "a"}'], ":2: is no example"),
        ([None, '{"split": ["train"]}'], r":2: split is \['train'\]"),
        ([None, '{"split": "test", "identifier": "a", "prompt": 1, "target": "b"}'], ":2: is no example"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path, lines, message):
    write_task(tmp_path / "t.jsonl", make_task(train=(), test=()))
    about = (tmp_path / "t.jsonl").read_text(encoding="utf-8").strip()
    text = "".join((about if line is None else line) + "\n" for line in lines)
    (tmp_path / "t.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_task(tmp_path / "t.jsonl")
