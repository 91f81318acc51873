"""What a check says: the same, a difference, or what could not be looked at; and where two answers part."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from codestrata.records import Prediction
from codestrata.verification.checks import (
    COMPARED_FIELDS,
    Check,
    cut_around_difference,
    describe_check,
    find_different_answer,
    list_differing_keys,
)

NAMES = ("stored", "found")
ANSWER = Prediction(identifier="a", prompt="p", target="t", completion="c", tokens=1)
ANSWERS = some.lists(
    some.builds(
        Prediction,
        identifier=some.sampled_from("ab"),
        prompt=some.just("p"),
        target=some.just("t"),
        completion=some.sampled_from(["", "x", "y"]),
        tokens=some.sampled_from([None, 1]),
        sample=some.sampled_from([0, 1]),
        agreed=some.sampled_from([None, 0]),
    ),
    max_size=3,
)


def build(**values):
    return Check(subject="files", about="all", count=1, **values)


def test_a_difference_outweighs_what_could_not_be_looked_at_which_is_no_pass():
    assert (build().verdict, build().first) == ("same", None)
    assert (build(unchecked=("u",)).verdict, build(unchecked=("u",)).first) == ("not checked", "u")
    both = build(unchecked=("u",), differences=("d", "e"))
    assert (both.verdict, both.first) == ("differs", "d")


def test_a_check_as_plain_values_has_its_verdict():
    check = build(differences=("d",), notes=("n",))
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(check).items()}
    assert describe_check(check) == plain | {"verdict": "differs"}


@given(ANSWERS, ANSWERS)
def test_two_lists_of_answers_differ_exactly_where_something_is_said(first, second):
    assert (find_different_answer(first, second, NAMES) is None) == (first == second)


def test_every_field_of_an_answer_counts():
    others = {"tests": "t", "group": "g", "finished": False, "tokens": 2, "agreed": 1, "shifted": 1}
    others |= {"prompt": "q", "target": "u", "completion": "d", "prelude": "p"}
    others |= {"repeats": True, "target_repeats": False}
    assert others.keys() == set(COMPARED_FIELDS) == set(asdict(ANSWER)) - {"identifier", "sample"}
    for field, value in others.items():
        said = find_different_answer([ANSWER], [replace(ANSWER, **{field: value})], NAMES)
        assert said == f"example a: {field} stored {getattr(ANSWER, field)!r}, found {value!r}"


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([ANSWER, replace(ANSWER, identifier="b")], "1 predictions stored, 2 found"),
        ([replace(ANSWER, identifier="b")], "prediction 1: stored for a (sample 0), found for b (sample 0)"),
        ([replace(ANSWER, sample=1)], "prediction 1: stored for a (sample 0), found for a (sample 1)"),
    ],
)
def test_answers_to_other_examples_are_named(second, said):
    assert find_different_answer([ANSWER], second, NAMES) == said


def test_a_sample_beyond_the_first_is_named():
    first = replace(ANSWER, sample=2)
    said = find_different_answer([first], [replace(first, completion="d")], NAMES)
    assert said == "example a (sample 2): completion stored 'c', found 'd'"


def test_long_texts_are_cut_around_where_they_part():
    start, end = "a" * 100, "b" * 100
    cut = cut_around_difference(f"{start}x{end}", f"{start}y{end}")
    assert cut == tuple(f"...'{'a' * 20}{part}{'b' * 39}'..." for part in "xy")
    assert cut_around_difference("ab", "abc") == ("'ab'", "'abc'")
    assert cut_around_difference(start, start + "z") == (f"...'{'a' * 20}'", f"...'{'a' * 20}z'")


def test_keys_that_differ_or_lack_are_named():
    lines = list_differing_keys({"task": "late", "other": 1}, {"task": "early", "seed": 0})
    assert lines == ["task is 'late', but 'early' is right", "seed is None, but 0 is right"]
