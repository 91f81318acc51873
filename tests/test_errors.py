import pickle

import pytest

from codestrata import errors
from codestrata.errors import CodestrataError, DataError, describe_unknown


def list_kinds(root: type[CodestrataError]) -> list[type[CodestrataError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in list_kinds(child))]


@pytest.mark.parametrize("kind", list_kinds(CodestrataError))
def test_every_kind_is_drawn_in_the_tree(kind):
    assert f" {kind.__name__} " in errors.__doc__.replace("\n", " ")


def test_every_error_of_the_module_descends_from_the_root():
    kinds = [
        entry for entry in vars(errors).values() if isinstance(entry, type) and issubclass(entry, Exception)
    ]
    assert set(kinds) == set(list_kinds(CodestrataError))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "no target"),
        ({"path": "a.jsonl"}, "a.jsonl: no target"),
        ({"path": "a.jsonl", "line": 3}, "a.jsonl:3: no target"),
        ({"line": 3}, "no target"),
    ],
)
def test_data_errors_start_with_the_place_that_is_known(place, message):
    error = DataError("no target", **place)
    assert str(error) == message
    assert (error.path, error.line) == (place.get("path"), place.get("line"))


def test_data_errors_survive_the_way_between_processes():
    error = pickle.loads(pickle.dumps(DataError("no target", path="a.jsonl", line=3)))
    assert (str(error), error.path, error.line) == ("a.jsonl:3: no target", "a.jsonl", 3)


def test_an_unknown_name_is_described_with_the_nearest_and_all_choices():
    text = describe_unknown("method", "lroa", ["lora", "layers", "ewc"])
    assert text == "Unknown method 'lroa'. Did you mean 'lora'? Known: ewc, layers, lora."


def test_a_name_far_from_all_gets_no_hint():
    assert describe_unknown("method", "zzz", iter(["lora"])) == "Unknown method 'zzz'. Known: lora."


def test_no_choices_are_called_none():
    assert describe_unknown("task", "python", []) == "Unknown task 'python'. Known: none."
