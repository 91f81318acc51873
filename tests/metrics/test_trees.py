import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.data.kata.problems import load_kata
from codestrata.languages.parsing import list_languages
from codestrata.metrics import trees
from codestrata.metrics.trees import METRICS, read_tree, score_ast_nodes_jaccard, score_ast_similarity
from codestrata.records import Prediction
from codestrata.settings.tasks import TaskSettings

SHARED_DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
SCORES = [score_ast_similarity, score_ast_nodes_jaccard]
MESS = st.text(alphabet="ab1 ={}();:&|\n'\"$<?é😀\0\ud800", max_size=40)


def pair(completion, target):
    return Prediction(identifier="p", prompt="", target=target, completion=completion)


def test_tree_holds_named_nodes_by_type():
    tree = read_tree("python", "x = f(1)  # one")
    assert tree.labels == (
        *("module", "expression_statement", "assignment", "identifier", "call", "identifier"),
        *("argument_list", "integer", "comment"),
    )
    assert tree.sizes == (9, 7, 6, 1, 4, 1, 2, 1, 1)


# Trees of Python: "x" is module(expression_statement(identifier)), "x = 1" has 5 nodes, "" only the module.
SIMILAR = [
    ("x", "x", 1),
    ("x", "y", 1),  # names do not count
    ("x + y", "x * y", 1),  # operators neither
    ("1", "x", 1 - 1 / 3),
    ("", "x", 1 - 2 / 3),
    ("", "", 1),
    ("x", "x = 1", 1 - 2 / 5),  # assignment and integer are new
    ("x = 1", "x = y", 1 - 1 / 5),
    ("x\nx", "x", 1 - 2 / 5),
    ("f(x)", "x", 1 - 3 / 6),  # call, argument_list and one identifier less
    ("f(x, 1)", "f(1, x)", 1 - 2 / 7),
    ("f(g(x))", "f(x)", 1 - 3 / 9),
    ("pass\n" * 4, "x\n" * 4, 1 - 8 / 9),  # four statements for four pairs of nodes
]


@pytest.mark.parametrize(("completion", "target", "value"), SIMILAR)
def test_similarity_by_hand(completion, target, value):
    score = score_ast_similarity([pair(completion, target)], "python")
    assert score.value == pytest.approx(value)
    assert score_ast_similarity([pair(target, completion)], "python").value == score.value


def test_a_chain_and_a_star_are_not_negative():
    # The distance exceeds the larger tree: hardly anything but the root can be kept.
    score = score_ast_similarity([pair("-" * 12 + "1", "1\n2\n3\n4\n5\n6")], "python")
    assert 0 <= score.value < 0.2


OVERLAPS = [
    ("x", "x", 1),
    ("x\ny\nz", "x", 1),  # how often does not count
    ("x", "x = 1", 3 / 5),
    ("x = 1", "x = y", 4 / 5),
    ("f(x)", "x", 3 / 5),
    ("", "x", 1 / 3),
    ("", "", 1),
    ("1", "x", 2 / 4),
    ("pass", "x", 1 / 4),
    ("f(g(1))", "f(1)", 1),
    ("x = 1  # one", "x = 1", 5 / 6),
]


@pytest.mark.parametrize(("completion", "target", "value"), OVERLAPS)
def test_overlap_by_hand(completion, target, value):
    assert score_ast_nodes_jaccard([pair(completion, target)], "python").value == pytest.approx(value)


@pytest.mark.parametrize("score", SCORES)
def test_value_is_the_mean_of_the_examples(score):
    predictions = [pair("x", "x = 1"), pair("x", "x"), pair("x", "x = 1")]
    found = score(predictions, "python")
    assert found.n == 3
    assert found.per_example[0] == found.per_example[2] < found.per_example[1] == 1
    assert found.value == pytest.approx(sum(found.per_example) / 3)
    assert found.aggregate == "mean"
    assert found.reason is None
    assert found.variant.startswith("tree-sitter-python ")


@pytest.mark.parametrize("score", SCORES)
def test_no_number_without_a_language_or_predictions(score):
    assert (score([pair("x", "x")], "cobol").value, score([pair("x", "x")], "cobol").reason) == (
        None,
        "no parser for cobol",
    )
    assert (score([], "python").value, score([], "python").reason) == (None, "no predictions")


def test_pairs_over_the_cap_are_upper_bounds_and_counted():
    predictions = [pair("f(x, 1)", "f(1, x)"), pair("f(g(x))", "f(x)"), pair("x", "y")]
    exact = score_ast_similarity(predictions, "python")
    capped = score_ast_similarity(predictions, "python", tree_nodes=4)
    assert capped.reason == "2 of 3 pairs are upper bounds: over 4 nodes or too many steps"
    assert capped.variant.endswith("; tree_nodes=4; 2 of 3 pairs bounded")
    assert exact.variant.endswith("; tree_nodes=400; 0 of 3 pairs bounded")
    assert all(high >= value for high, value in zip(capped.per_example, exact.per_example, strict=True))


def test_equal_trees_need_no_bound():
    score = score_ast_similarity([pair("x = 1\n" * 500, "y = 2\n" * 500)], "python")
    assert (score.value, score.reason) == (1, None)


def test_too_many_steps_are_bounded_too(monkeypatch):
    monkeypatch.setattr(trees, "MOST_STEPS", 3)
    score = score_ast_similarity([pair("f(x, 1)", "f(1, x)")], "python")
    assert score.reason == "1 of 1 pairs are upper bounds: over 400 nodes or too many steps"


@pytest.mark.parametrize("language", list_languages())
@settings(max_examples=15, deadline=None)
@given(MESS, MESS)
def test_bounds_identity_and_symmetry_for_any_text(language, completion, target):
    for score in SCORES:
        there = score([pair(completion, target)], language).value
        assert 0 <= there <= 1
        assert there == pytest.approx(score([pair(target, completion)], language).value)
        assert score([pair(completion, completion)], language).value == 1


DEEP = "(" * 5_000 + "1" + ")" * 5_000


@pytest.mark.parametrize("language", list_languages())
def test_deep_code(language):
    for score in SCORES:
        assert 0 <= score([pair(DEEP, "x = 1")], language).value <= 1


@pytest.mark.parametrize(
    "code", ["(" * 100_000, pytest.param("1+" * 50_000, marks=pytest.mark.slow), "\0" * 100_000]
)
def test_large_code(code):
    for score in SCORES:
        assert 0 <= score([pair(code, DEEP)], "python").value <= 1


def test_the_worst_trees_under_the_cap_take_little_time():
    # Long sums grow to the left, nested calls to the right; "f(1, f(1, ...), 2)" grows to neither side.
    sums = ["+".join("x" * 150), "-".join("1" * 149)]
    calls = ["f(" * 70 + ")" * 70, "g(1, " * 60 + ")" * 60]
    middle = ["f(1, " * 60 + "2" + ", 3)" * 60, "f(x, " * 55 + "2" + ", y)" * 55]
    texts = [*sums, *calls, *middle]
    start = time.process_time()
    score = score_ast_similarity([pair(texts[0], other) for other in texts], "python")
    score_ast_similarity([pair(*texts[2:4]), pair(*texts[4:6])], "python")
    assert time.process_time() - start < 10
    assert score.value > 0


def test_kata_programs_are_quick():
    task = load_kata(TaskSettings(name="python", train_examples=60, validation_examples=0, test_examples=1))
    targets = [example.target for example in task.train]
    start = time.process_time()
    score = score_ast_similarity([pair(*texts) for texts in pairwise(targets)], "python")
    assert time.process_time() - start < 3  # some 0.3 s alone on the machine
    assert 0.2 < score.value < 1


def test_real_functions():
    path = SHARED_DATA / "codesearchnet" / "java" / "test.jsonl"
    if not path.is_file():
        pytest.skip(f"real functions are not here: {path} is absent")
    codes = [json.loads(line)["code"] for line in path.read_text(encoding="utf-8").splitlines()[:60]]
    predictions = [pair(*texts) for texts in pairwise(codes)]
    similar, overlap = (score(predictions, "java").value for score in SCORES)
    # Two unrelated functions of a language share half of their node types: the overlap tells little.
    assert 0.1 < similar < 0.5 < overlap < 0.8


def test_metrics_are_described():
    assert [(metric.name, metric.kind) for metric in METRICS] == [
        ("ast_similarity", "score"),
        ("ast_nodes_jaccard", "score"),
    ]
