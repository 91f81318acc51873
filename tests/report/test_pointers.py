"""JSON pointers as RFC 6901 has them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.errors import DataError
from codestrata.report.pointers import build_pointer, read_pointer

# The document and the answers of RFC 6901, section 5.
DOCUMENT = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}
ANSWERS = {
    "": DOCUMENT,
    "/foo": ["bar", "baz"],
    "/foo/0": "bar",
    "/": 0,
    "/a~1b": 1,
    "/c%d": 2,
    "/e^f": 3,
    "/g|h": 4,
    "/i\\j": 5,
    '/k"l': 6,
    "/ ": 7,
    "/m~0n": 8,
}


@pytest.mark.parametrize(("pointer", "answer"), ANSWERS.items())
def test_the_examples_of_the_standard(pointer, answer):
    assert read_pointer(DOCUMENT, pointer) == answer


def test_parts_are_escaped():
    assert build_pointer("metrics", "a/b~c", 3) == "/metrics/a~1b~0c/3"
    assert build_pointer() == ""
    assert build_pointer("methods", 1, "final", "test", "python", "pass@1").endswith("/python/pass@1")


@given(st.lists(st.text(max_size=4), max_size=4))
@settings(max_examples=50, deadline=None)
def test_what_is_built_is_found_again(keys):
    tree = value = object()
    for key in reversed(keys):
        tree = {key: [tree]}
    parts = [part for key in keys for part in (key, 0)]
    assert read_pointer(tree, build_pointer(*parts)) is value


@pytest.mark.parametrize("pointer", ["/bar", "/foo/2", "/foo/-1", "/foo/x", "/foo/0/0", "/a~1b/c"])
def test_a_pointer_that_leads_nowhere_is_refused(pointer):
    with pytest.raises(DataError, match="leads nowhere"):
        read_pointer(DOCUMENT, pointer)


def test_other_text_is_refused():
    with pytest.raises(DataError, match="no JSON pointer"):
        read_pointer(DOCUMENT, "foo/0")
