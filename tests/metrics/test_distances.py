from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.metrics import distances
from codestrata.metrics.distances import (
    Tree,
    Workshop,
    bound_distance,
    build_tree,
    measure_distance,
    turn_around,
)


def read_tree(text):
    """A tree written as ``a(b c(d))``; every label is one letter."""
    labels, children, parents = [], [], []
    for sign in text.replace(" ", ""):
        if sign == "(":
            parents.append(len(labels) - 1)
        elif sign == ")":
            parents.pop()
        else:
            if parents:
                children[parents[-1]].append(len(labels))
            labels.append(sign)
            children.append([])
    return build_tree(labels, children)


def nest(tree):
    """The tree as (label, children), nested."""

    def take(node):
        children, place, end = [], node + 1, node + tree.sizes[node]
        while place < end:
            children.append(take(place))
            place += tree.sizes[place]
        return (tree.labels[node], tuple(children))

    return take(0)


@cache
def compute_distance(first, second):
    """The edit distance of two forests, from its recursive definition on their last trees."""
    if not first and not second:
        return 0
    if not first:
        label, children = second[-1]
        return compute_distance(first, second[:-1] + children) + 1
    if not second:
        label, children = first[-1]
        return compute_distance(first[:-1] + children, second) + 1
    (label, children), (other, other_children) = first[-1], second[-1]
    return min(
        compute_distance(first[:-1] + children, second) + 1,
        compute_distance(first, second[:-1] + other_children) + 1,
        compute_distance(first[:-1], second[:-1])
        + compute_distance(children, other_children)
        + (label != other),
    )


@st.composite
def trees(draw, most=9):
    """Trees of up to ``most`` nodes over three labels."""
    size = draw(st.integers(1, most))
    parents = [None, *(draw(st.integers(0, node - 1)) for node in range(1, size))]
    children = [[child for child in range(size) if parents[child] == node] for node in range(size)]
    return build_tree([draw(st.sampled_from("abc")) for _ in range(size)], children)


GOLDEN = [
    ("a", "a", 0),
    ("a", "b", 1),
    ("a", "a(b)", 1),
    ("a(b)", "b", 1),  # the root goes, its child moves up
    ("a(b c)", "a(c b)", 2),
    ("a(b(c))", "a(c)", 1),
    ("a(b(c d) e)", "a(c d e)", 1),  # b goes, its children take its place
    ("a(b c d)", "a(b e(c d))", 1),
    ("a(b(c(d)))", "a(b c d)", 4),  # a chain and a star share the root and one more node
    ("a(b c d)", "x(y z w)", 4),
    ("f(d(a c(b)) e)", "f(c(d(a b)) e)", 2),  # the example of Zhang and Shasha 1989
    ("a(a a a)", "a(a(a(a)))", 4),
    ("a(b b b b)", "a(b b)", 2),
    ("x(a(b c))", "a(b c)", 1),
]


@pytest.mark.parametrize(("first", "second", "distance"), GOLDEN)
def test_hand_worked_distances(first, second, distance):
    one, other = read_tree(first), read_tree(second)
    assert measure_distance(one, other) == measure_distance(other, one) == distance
    assert compute_distance((nest(one),), (nest(other),)) == distance


@settings(max_examples=150, deadline=None)
@given(trees(), trees())
def test_distance_is_the_recursive_definition(first, second):
    assert measure_distance(first, second) == compute_distance((nest(first),), (nest(second),))


@settings(max_examples=60, deadline=None)
@given(trees(20), trees(20), trees(20))
def test_distance_is_a_metric(first, second, third):
    workshop = Workshop()
    there = measure_distance(first, second, workshop)
    assert there == measure_distance(second, first, workshop)
    assert (there == 0) == (first == second)
    assert there <= measure_distance(first, third, workshop) + measure_distance(third, second, workshop)
    assert abs(len(first) - len(second)) <= there < len(first) + len(second)


@settings(max_examples=60, deadline=None)
@given(st.lists(trees(12), min_size=2, max_size=5))
def test_what_a_workshop_remembers_changes_nothing(forest):
    workshop = Workshop()
    for first in forest:
        for second in forest:
            assert measure_distance(first, second, workshop) == measure_distance(first, second)


@settings(max_examples=60, deadline=None)
@given(trees(15), trees(15))
def test_bound_is_below_the_distance_and_mirrors_keep_it(first, second):
    distance = measure_distance(first, second)
    assert bound_distance(first, second) <= distance
    assert measure_distance(turn_around(first), turn_around(second)) == distance
    assert turn_around(turn_around(first)) == first
    assert bound_distance(first, first) == 0


def test_bound_by_hand():
    # In preorder "abcd" and "abcd", in postorder "bcda" and "dcba"; the distance is 4.
    assert bound_distance(read_tree("a(b c d)"), read_tree("a(b(c(d)))")) == 2
    # In preorder "abcd" and "adcb", in postorder "bcda" and "dcba".
    assert bound_distance(read_tree("a(b c d)"), read_tree("a(d c b)")) == 2
    assert bound_distance(read_tree("a(b c)"), read_tree("x(y)")) == 3


def test_preorder_and_sizes():
    assert read_tree("a(b(c d) e)") == Tree(tuple("abcde"), (5, 3, 1, 1, 1))
    assert turn_around(read_tree("a(b(c d) e)")) == Tree(tuple("aebdc"), (5, 1, 3, 1, 1))


def build_comb(size, *, left, label="a"):
    """A chain whose every node has a leaf on its right (the chain goes on to the left) or on its left."""
    children = [[] for _ in range(2 * size + 1)]
    for node in range(0, 2 * size, 2):
        children[node] = [node + 2, node + 1] if left else [node + 1, node + 2]
    return build_tree([label] * (2 * size + 1), children)


@pytest.mark.parametrize("left", [True, False])
def test_combs_take_few_steps_in_either_direction(left):
    # 150 levels: with the wrong edge 500 million steps.
    first, second = build_comb(150, left=left), build_comb(148, left=left, label="b")
    assert measure_distance(first, second, most_steps=1_000_000) == 301


def test_more_steps_than_allowed_are_refused():
    first, second = read_tree("a(b c(d e))"), read_tree("a(b c(e))")
    assert measure_distance(first, second, most_steps=1) is None
    assert measure_distance(first, first, most_steps=1) == 0
    assert measure_distance(first, second, most_steps=1000) == 1


def test_a_full_workshop_starts_afresh(monkeypatch):
    monkeypatch.setattr(distances, "MOST_REMEMBERED", 3)
    workshop = Workshop()
    one, other = read_tree("a(b c(d e))"), read_tree("a(b c(e))")
    assert measure_distance(one, other, workshop) == 1
    learned = workshop.remembered
    assert learned > 3
    assert measure_distance(other, one, workshop) == 1
    assert workshop.remembered <= learned


def test_deep_and_long_trees():
    chain = build_tree(["a"] * 5000, [[node + 1] for node in range(4999)] + [[]])
    star = build_tree(["a"] * 5000, [list(range(1, 5000)), *([] for _ in range(4999))])
    assert bound_distance(chain, star) == 0  # one label only: nothing to tell them apart in a line
    assert measure_distance(chain, chain) == 0
