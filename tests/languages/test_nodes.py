import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.languages.nodes import read_nodes
from codestrata.languages.parsing import list_languages, parse


def list_preorder(language, code):
    """The nodes of the tree as tree-sitter gives them, in preorder."""
    pending, found = [parse(language, code).root_node], []
    while pending:
        node = pending.pop()
        found.append(node)
        pending.extend(reversed(node.children))
    return found


def test_columns_by_hand():
    nodes = read_nodes("python", "x = é")
    assert nodes.types == ["module", "expression_statement", "assignment", "identifier", "=", "identifier"]
    assert nodes.named == [True, True, True, True, False, True]
    assert nodes.fields == [None, None, None, "left", None, "right"]
    assert nodes.children == [[1], [2], [3, 4, 5], [], [], []]
    assert nodes.spans[5] == (4, 6)
    assert nodes.read_text(5) == "é"
    assert (nodes.find_child(2, "right"), nodes.find_child(2, "operator")) == (5, None)
    assert len(nodes) == 6
    assert not any(nodes.missing)


def test_what_the_parser_put_in_is_missing():
    nodes = read_nodes("java", "int x = 1")
    assert [kind for kind, missing in zip(nodes.types, nodes.missing, strict=True) if missing] == [";"]


def test_unexpected_characters_are_noted():
    nodes = read_nodes("c_sharp", "int x = 1 § 2;")
    assert [written[:11] for written in nodes.unread.values()] == ["(UNEXPECTED"]
    assert read_nodes("c_sharp", "int x = 1;").unread == {}


@pytest.mark.parametrize("language", list_languages())
@settings(max_examples=15, deadline=None)
@given(st.text(alphabet="ab1 ={}();:\n'\"$<?é😀\0\ud800", max_size=40))
def test_columns_are_the_tree(language, code):
    nodes, expected = read_nodes(language, code), list_preorder(language, code)
    assert nodes.types == [node.type for node in expected]
    assert nodes.spans == [(node.start_byte, node.end_byte) for node in expected]
    assert nodes.missing == [node.is_missing for node in expected]
    assert [len(children) for children in nodes.children] == [node.child_count for node in expected]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "for x in y:\n    z = lambda a=1: a + b"),
        ("javascript", "for (let x of y) { z += a ? b : c }"),
        ("go", "package p\nfunc f(a int) { var x, y = 1, 2; for i := 0; i < 3; i++ { x, y = y, x } }"),
        ("php", "<?php function f($x = 1) { foreach ($x as $y => $z) { $a .= $y; } }"),
        ("ruby", "def f(a, b: 1)\n  a, b = b, a\n  for i in a do c += i end\nend"),
        ("c_sharp", "int F(int x) { foreach (var y in x) { z += y; } return x; }"),
        ("java", "class A { int f(int x) { return x + 1; } }"),
    ],
)
def test_fields_are_those_of_the_tree(language, code):
    nodes, expected = read_nodes(language, code), list_preorder(language, code)
    found = 0
    for index, node in enumerate(expected):
        for field in {name for name in nodes.fields if name}:
            child, place = node.child_by_field_name(field), nodes.find_child(index, field)
            assert (child is None) == (place is None)
            assert child is None or (child.start_byte, child.end_byte) == nodes.spans[place]
            found += child is not None
    assert found > 5


def test_depth_has_no_limit():
    nodes = read_nodes("python", "x = " + "(" * 5000 + "1" + ")" * 5000)
    assert nodes.types.count("parenthesized_expression") == 5000
