"""Orders of the tasks: which there are, which are refused, and how they are written down."""

from itertools import pairwise
from math import factorial

import pytest

from codestrata.errors import SettingsError
from codestrata.settings.orders import build_square, list_orders
from codestrata.settings.reading import apply_assignment
from codestrata.settings.tree import build_settings, fingerprint, to_tree

NAMES = ("a", "b", "c")


def make_tree(orders, names=NAMES):
    return {"tasks": [{"name": name} for name in names], "orders": orders}


def build(orders, names=NAMES):
    return build_settings(make_tree(orders, names)).orders


def test_the_given_order_is_the_default():
    settings = build_settings({"tasks": [{"name": "a"}]})
    assert settings.orders == "given"
    assert list_orders(settings.orders, NAMES) == (NAMES,)


@pytest.mark.parametrize("count", range(1, 5))
def test_all_orders_begin_with_the_given_one(count):
    names = tuple("abcd"[:count])
    orders = list_orders("all", names)
    assert orders[0] == names
    assert len(set(orders)) == factorial(count)


@pytest.mark.parametrize("tasks", range(1, 9))
def test_in_a_square_every_task_stands_once_in_each_place(tasks):
    square = build_square(tasks)
    assert square[0] == list(range(tasks))
    for line in (*square, *zip(*square, strict=True)):
        assert sorted(line) == list(range(tasks))


@pytest.mark.parametrize("tasks", [2, 4, 6, 8])
def test_an_even_square_is_balanced(tasks):
    neighbours = [pair for row in build_square(tasks) for pair in pairwise(row)]
    assert len(set(neighbours)) == len(neighbours) == tasks * (tasks - 1)


def test_a_square_of_three_by_hand():
    assert list_orders("latin", NAMES) == (("a", "b", "c"), ("b", "c", "a"), ("c", "a", "b"))


def test_listed_orders_are_kept_as_listed():
    listed = (("c", "b", "a"), ("a", "b", "c"))
    assert list_orders(build([list(order) for order in listed]), NAMES) == listed


@pytest.mark.parametrize("orders", ["given", "latin", "all", [["c", "b", "a"], ["a", "b", "c"]]])
def test_settings_with_orders_come_back_from_their_tree(orders):
    settings = build_settings(make_tree(orders))
    assert build_settings(to_tree(settings)) == settings
    assert (fingerprint(settings) == fingerprint(build_settings(make_tree("given")))) == (orders == "given")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latin", "latin"),
        ('[["b","a","c"],["a","b","c"]]', (("b", "a", "c"), ("a", "b", "c"))),
        ('["b,a,c", "a,b,c"]', (("b", "a", "c"), ("a", "b", "c"))),
    ],
)
def test_orders_are_set_on_the_command_line(text, expected):
    tree = make_tree("given")
    apply_assignment(tree, f"orders={text}")
    assert build_settings(tree).orders == expected


@pytest.mark.parametrize(
    ("orders", "said"),
    [
        ("latn", r"Unknown orders 'latn'\. Did you mean 'latin'\? Known: all, given, latin\."),
        ([["a", "b", "d"]], r"Unknown task in orders\.0 'd'.* Known: a, b, c"),
        ([["a", "b", "c"], ["a", "b"]], r"orders\.1 is \['a', 'b'\]: it leaves out task 'c'"),
        ([["a", "b", "b"]], r"orders\.0 is .* it holds task 'b' twice"),
        ([["a", "b", "c", "a"]], r"it holds task 'a' twice"),
        ([], r"orders is empty: use given, or list at least one"),
        ([["a", "b", "c"], ["a", "b", "c"]], r"orders\.1 is .* in the list already"),
        (["a", "b", "c"], r"orders\.0 is \['a'\]: it leaves out task 'b'"),
        ([[1, 2]], r"orders\.0\.0 is 1: expected str"),
        (7, r"Unknown orders '7'"),
        (None, r"Unknown orders 'None'"),
    ],
)
def test_what_is_no_order_is_refused(orders, said):
    with pytest.raises(SettingsError, match=said):
        build(orders)


def test_too_many_permutations_are_refused_with_their_number():
    with pytest.raises(
        SettingsError, match=r"5 tasks, which come in 120 orders.*at most 4.*latin \(5 orders\)"
    ):
        build("all", tuple("abcde"))
    assert build("latin", tuple("abcde")) == "latin"


@pytest.mark.parametrize(
    ("fractions", "said"),
    [
        ([0.5, 1.0], r"data_fractions holds 1: all of the training examples"),
        ([0.5, 0.5], r"data_fractions is \[0\.5, 0\.5\]: give different"),
        ([0.0], r"data_fractions is 0\.0: it must be above 0"),
        ([1.5], r"must be above 0 and at most 1"),
        (["half"], r"data_fractions\.0 is 'half': expected float"),
    ],
)
def test_what_is_no_part_of_the_data_is_refused(fractions, said):
    with pytest.raises(SettingsError, match=said):
        build_settings(make_tree("given") | {"measurement": {"data_fractions": fractions}})


def test_parts_of_the_data_are_set_on_the_command_line():
    for text in ("[0.25, 0.5]", "0.25,0.5"):
        tree = make_tree("given")
        apply_assignment(tree, f"measurement.data_fractions={text}")
        assert build_settings(tree).measurement.data_fractions == (0.25, 0.5)
