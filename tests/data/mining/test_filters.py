"""CodeSearchNet's published filters."""

import json

import pytest

from codestrata.data.mining.definitions import Definition
from codestrata.data.mining.filters import (
    CONSTRUCTOR,
    SHORT_CODE,
    SHORT_DOCUMENTATION,
    STANDARD_METHOD,
    TEST,
    UNDOCUMENTED,
    find_reason,
    is_test_path,
)


def define(name="area", *, code="def area(a):\n    b = a\n    return b", summary="The area of it", **values):
    """A function that is kept unless something of it is changed."""
    values = {
        "qualified_name": name,
        "code_tokens": ("def",),
        "docstring": summary,
        "docstring_tokens": tuple(summary.split()),
        "start_line": 1,
        "end_line": 3,
        "kind": "function",
        "digest": 1,
        **values,
    }
    return Definition(name=name, code=code, summary=summary, **values)


def test_a_documented_function_is_kept():
    assert find_reason(define(), "python") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"summary": ""}, UNDOCUMENTED),
        ({"summary": " \n "}, UNDOCUMENTED),
        ({"summary": "Too short"}, SHORT_DOCUMENTATION),
        ({"summary": "Just long enough"}, None),
        ({"code": "def area(a):\n    return a"}, SHORT_CODE),
        ({"code": "\n\ndef area(a):\n    return a\n\n"}, SHORT_CODE),
        ({"name": "test_area"}, TEST),
        ({"name": "latest"}, TEST),  # as the paper has it: the substring decides
        ({"name": "run", "qualified_name": "AreaTest.run"}, TEST),
        ({"name": "DeleteStorage"}, None),  # in CodeSearchNet's data
        ({"name": "build", "kind": "constructor"}, CONSTRUCTOR),
    ],
)
def test_the_first_reason_is_given(change, reason):
    change = {"summary": "The area of it", **change}
    assert find_reason(define(**change), "python") == reason


def test_what_is_asked_first_is_counted():
    assert find_reason(define("test_area", summary="", code="x"), "python") == UNDOCUMENTED
    assert find_reason(define("test_area", summary="The area of", code="x"), "python") == SHORT_CODE


@pytest.mark.parametrize(
    ("language", "name", "reason"),
    [
        ("python", "__init__", CONSTRUCTOR),
        ("python", "__str__", STANDARD_METHOD),
        ("python", "__private", None),
        ("python", "toString", None),
        ("java", "toString", STANDARD_METHOD),
        ("java", "hashCode", STANDARD_METHOD),
        ("java", "__str__", None),
        ("javascript", "constructor", CONSTRUCTOR),
        ("javascript", "toString", STANDARD_METHOD),
        ("typescript", "valueOf", STANDARD_METHOD),
        ("php", "__construct", CONSTRUCTOR),
        ("php", "__toString", STANDARD_METHOD),
        ("php", "__TOSTRING", STANDARD_METHOD),
        ("php", "__", None),
        ("ruby", "initialize", CONSTRUCTOR),
        ("ruby", "to_s", STANDARD_METHOD),
        ("ruby", "<=>", STANDARD_METHOD),
        ("go", "String", None),
    ],
)
def test_constructors_and_standard_methods_are_left_out(language, name, reason):
    assert find_reason(define(name), language) == reason


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("tests/a.py", "python"),
        ("src/test/java/A.java", "java"),
        ("a_test.go", "go"),
        ("pkg/testing/a.py", "python"),
        ("AreaTest.java", "java"),
        ("test_a.py", "python"),
        ("conftest.py", "python"),
        ("__tests__/a.js", "javascript"),
        ("a.test.ts", "typescript"),
        ("spec/a_spec.rb", "ruby"),
        ("a.spec.ts", "typescript"),
    ],
)
def test_files_of_tests_are_known_by_their_path(path, language):
    assert is_test_path(path, language)


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("latest/a.py", "python"),
        ("contest.py", "python"),
        ("attestation/protest.go", "go"),
        ("spec/a.py", "python"),
        ("fastest.js", "javascript"),
        ("a.py", "python"),
    ],
)
def test_other_paths_are_no_tests(path, language):
    assert not is_test_path(path, language)


@pytest.mark.parametrize("language", ["go", "java", "javascript", "php", "python", "ruby"])
def test_no_record_of_codesearchnet_is_left_out(language, shared_data):
    lines = (shared_data / "codesearchnet" / language / "test.jsonl").read_text(encoding="utf-8").splitlines()
    for record in map(json.loads, lines):
        name = record["func_name"]
        definition = define(
            name.split(".")[-1],
            qualified_name=name,
            code=record["code"],
            docstring=record["docstring"],
            docstring_tokens=tuple(record["docstring_tokens"]),
        )
        assert find_reason(definition, language) is None, name
        assert not is_test_path(record["path"], language), record["path"]
