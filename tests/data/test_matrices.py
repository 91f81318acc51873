"""Reading R from JSON, CSV and a run's results."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.data.matrices import MatrixChoice, read_matrix
from codestrata.errors import DataError, SettingsError

NAN = math.nan
BELOW = [[0.8, NAN, NAN], [0.85, 0.7, NAN], [0.9, 0.75, 0.6]]
WITHOUT_BASE = np.array([[NAN, NAN, NAN], *BELOW])
FULL = np.array([[0.1, 0.2, 0.05], [0.6, 0.3, 0.1], [0.7, 0.5, 0.25], [0.4, 0.35, 0.9]])


@pytest.fixture
def write(tmp_path):
    """A function that writes text, or what is to be JSON, into a file and gives its path."""

    def write_file(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write_file


def equal(first, second):
    return np.array_equal(np.asarray(first), np.asarray(second), equal_nan=True)


@pytest.mark.parametrize(
    ("content", "scores"),
    [
        (FULL.tolist(), FULL),
        ([[None, None, None], [0.8, None, None], [0.85, 0.7, None], [0.9, 0.75, 0.6]], WITHOUT_BASE),
        (BELOW, WITHOUT_BASE),
        ([[0.8], [0.85, 0.7], [0.9, 0.75, 0.6]], WITHOUT_BASE),
        ([[0.1, 0.2, 0.3], [0.8], [0.85, 0.7], [0.9, 0.75, 0.6]], [[0.1, 0.2, 0.3], *BELOW]),
        ({"R": FULL.tolist()}, FULL),
        ([[0.5]], [[NAN], [0.5]]),
        ([[0], [1]], [[0.0], [1.0]]),
    ],
    ids=["full", "null", "no base", "triangle", "base and triangle", "object", "one task", "whole numbers"],
)
def test_json_of_many_forms(write, content, scores):
    found = read_matrix(write("r.json", content))
    assert equal(found.scores, scores)
    assert found.tasks == tuple(f"task {number}" for number in range(1, len(found.tasks) + 1))
    assert (found.origin, found.structural) == (None, ())


def test_json_with_names_of_tasks(write):
    found = read_matrix(write("r.json", {"R": FULL.tolist(), "tasks": ["python", "lua", "go"]}))
    assert found.tasks == ("python", "lua", "go")


@pytest.mark.parametrize(
    "text",
    [
        "0.8,,\n0.85,0.7,\n0.9,0.75,0.6\n",
        "nan,nan,nan\n0.8,nan,nan\n0.85,0.7,NaN\n0.9,0.75,0.6",
        ".8\n.85,.7\n.9,.75,.6\n",
        "\n0.8, -, -\n\n0.85, 0.7, null\r\n0.9, 0.75, 6e-1\n\n",
        "0.8;NA;n/a\n0.85;0.7;None\n0.9;0.75;0.6\n",
        "0.8\t\t\n0.85\t0.7\t\n0.9\t0.75\t0.6\n",
        "\ufeff0.8,,\n0.85,0.7,\n0.9,0.75,0.6\n",
    ],
    ids=["empty", "base of nan", "triangle", "spaces", "semicolons", "tabs", "mark of byte order"],
)
def test_csv_of_many_forms(write, text):
    found = read_matrix(write("r.csv", text))
    assert equal(found.scores, WITHOUT_BASE)
    assert found.tasks == ("task 1", "task 2", "task 3")


@pytest.mark.parametrize(
    "text",
    [
        "python,lua,go\n0.8,,\n0.85,0.7,\n0.9,0.75,0.6\n",
        ",python,lua,go\nbase,,,\npython,0.8,,\nlua,0.85,0.7,\ngo,0.9,0.75,0.6\n",
        "after,python,lua,go\npython,0.8,,\nlua,0.85,0.7,\ngo,0.9,0.75,0.6\n",
        "python,lua,go\npython,0.8,,\nlua,0.85,0.7,\ngo,0.9,0.75,0.6\n",
        ",python,lua,go\n1,0.8,,\n2,0.85,0.7,\n3,0.9,0.75,0.6\n",
        "step,python,lua,go\n0,,,\n1,0.8,,\n2,0.85,0.7,\n3,0.9,0.75,0.6\n",
        '"","python","lua","go"\n"a, first",0.8\n"b",0.85,0.7\n"c",0.9,0.75,0.6\n',
    ],
    ids=["header", "corner empty", "corner named", "no corner", "counted", "counted from 0", "quoted"],
)
def test_csv_with_names_and_labels(write, text):
    found = read_matrix(write("r.csv", text))
    assert equal(found.scores, WITHOUT_BASE)
    assert found.tasks == ("python", "lua", "go")


def test_csv_of_one_task(write):
    assert equal(read_matrix(write("r.csv", "python\n0.1\n0.5\n")).scores, [[0.1], [0.5]])
    assert read_matrix(write("r.csv", "python\n0.1\n0.5\n")).tasks == ("python",)


def test_percentages_are_divided_where_they_are_called_so(write):
    path = write("r.csv", "80,\n85.5,70\n")
    assert equal(read_matrix(path, percent=True).scores, [[NAN, NAN], [0.8, NAN], [0.855, 0.7]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", "80,\n85.5,70\n", r"r.csv:1: row 1, entry 1 is 80: .*--percent divides them by 100"),
        ("r.csv", "x,y\n0.8,\n0.5,70\n", r"r.csv:3: row 2, entry 2 is 70: scores are in \[0, 1\]"),
        ("r.csv", "0.8,\n0.5,700\n", r"r.csv:2: row 2, entry 2 is 700: expected a number from 0 to 1"),
        ("r.csv", "0.8,\n-0.5,0.7\n", r"r.csv:2: row 2, entry 1 is -0.5: expected a number from 0 to 1"),
        ("r.csv", "0.8,\n0.5,inf\n", r"r.csv:2: row 2, entry 2 is inf"),
        ("r.csv", "0.8,\n0.5,0.7x\n", r"r.csv:2: '0.7x' is no number"),
        (
            "r.csv",
            "0.8,\n\n0.5,0.7,0.9\n0.1,0.2\n",
            r"r.csv:1: row 1 has 2 numbers, another 3: expected T rows",
        ),
        ("r.csv", "0.8,0.1\n0.5,0.7\n0.1,0.2\n0.3,0.4\n", r"r.csv: 4 rows of 2 numbers: expected T rows"),
        ("r.csv", "a,b,c\n0.8,0.1\n0.5,0.7\n", r"r.csv: 3 names of tasks for 2 columns: a, b, c"),
        ("r.csv", "\n\n", r"r.csv: no rows"),
        ("r.csv", "python,lua\n", r"r.csv: 0 rows of 0 numbers"),
        ("r.json", [[80, None], [85.5, 70]], r"r.json: row 1, entry 1 is 80: .*--percent"),
        ("r.json", [[0.8, "0.7"], [0.5, 0.7]], r"r.json: row 1, entry 2 is '0.7': expected a number or null"),
        ("r.json", [[0.8, True], [0.5, 0.7]], r"r.json: row 1, entry 2 is True"),
        ("r.json", [], r"r.json: no matrix"),
        ("r.json", [0.5, 0.6], r"r.json: no matrix"),
        ("r.json", 0.5, r"r.json: no matrix"),
        ("r.json", {"matrix": [[0.5]]}, r"r.json: no matrix"),
        (
            "r.json",
            {"R": [[0.5]], "tasks": "python"},
            r"r.json: tasks are 'python': expected a list of names",
        ),
        ("r.json", {"R": [[0.5]], "tasks": ["a", "b"]}, r"r.json: 2 names of tasks for 1 columns"),
        ("r.json", "[[0.5,\n 0.6", r"r.json:2: not JSON"),
        ("r.json", {"methods": [{"name": "lora"}]}, r"r.json: not the results of a run: KeyError\('seeds'\)"),
        ("r.json", {"methods": 3}, r"r.json: not the results of a run"),
        ("r.json", [[0.8, math.inf], [0.5, 0.7]], r"r.json: not usable JSON: Infinity is no number"),
        ("r.json", [[0.8, int("9" * 300)], [0.5, 0.7]], r"r.json: row 1, entry 2 is 1e\+300: expected"),
        (
            "r.json",
            [[0.8, int("9" * 400)], [0.5, 0.7]],
            r"r.json: not usable JSON: a whole number of 400 dig",
        ),
        ("r.json", [[0.8, ["x" * 10**6]], [0.5, 0.7]], r"r.json: row 1, entry 2 is \['xxx.*xxx'\]: expected"),
        ("r.csv", "0.8,\n0.5,\0\n", r"r.csv:2: holds a NUL byte"),
        ("r.csv", '0.8,\n0.5,"' + "7" * 200_000, r"r.csv: not CSV: field larger than field limit"),
    ],
)
def test_what_is_no_matrix_is_refused_with_its_place(write, name, content, message):
    with pytest.raises(DataError, match=message):
        read_matrix(write(name, content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.8,\n0.5,0.7\n", "the highest number is 0.8, so these are no percentages: leave --percent away"),
        ("80,\n50,170\n", "r.csv:2: row 2, entry 2 is 170: expected a number from 0 to 100"),
    ],
)
def test_percentages_that_are_none_are_refused(write, text, message):
    with pytest.raises(DataError, match=message):
        read_matrix(write("r.csv", text), percent=True)


def test_a_file_that_is_missing_or_not_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"r.csv: cannot be read"):
        read_matrix(tmp_path / "r.csv")
    with pytest.raises(DataError, match=r"r.json: cannot be read"):
        read_matrix(tmp_path / "r.json")
    (tmp_path / "r.csv").write_bytes(b"0.5,\xff\n")
    with pytest.raises(DataError, match=r"r.csv: not UTF-8"):
        read_matrix(tmp_path / "r.csv")


def test_a_choice_needs_the_results_of_a_run(write):
    for name, content in (("r.json", BELOW[2:]), ("r.csv", "0.5\n")):
        with pytest.raises(SettingsError, match="holds one matrix"):
            read_matrix(write(name, content), MatrixChoice(seed=0))


def make_results():
    def entry(seed, shift):
        matrix = [[0.1, 0.2], [0.5 + shift, 0.25], [0.4, 0.6]]
        unseen = [[0.0, 0.0], [0.1, 0.0], [0.1, 0.1]]
        marks = {"forgetting": {"structural": True}, "average_accuracy": {"structural": False}}
        return {
            "seed": seed,
            "R": {"test": {"bleu": matrix, "pass@1": unseen}, "unseen": {"bleu": unseen}},
            "continual": {"bleu": marks},
        }

    return {
        "headline_metric": "bleu",
        "tasks": [{"name": "python"}, {"name": "lua"}],
        "methods": [
            {"name": "lora", "seeds": [entry(0, 0.0), entry(1, 0.1)]},
            {"name": "layers", "seeds": [entry(0, 0.2)]},
        ],
    }


@pytest.mark.parametrize(
    ("choice", "first", "origin", "structural"),
    [
        (MatrixChoice(method="lora"), 0.5, "lora, seed 0, bleu, split test", ("forgetting",)),
        (MatrixChoice(method="lora", seed=1), 0.6, "lora, seed 1, bleu, split test", ("forgetting",)),
        (MatrixChoice(method="layers"), 0.7, "layers, seed 0, bleu, split test", ("forgetting",)),
        (MatrixChoice(method="lora", metric="pass@1"), 0.1, "lora, seed 0, pass@1, split test", ()),
        (MatrixChoice(method="lora", split="unseen"), 0.1, "lora, seed 0, bleu, split unseen", ()),
    ],
)
def test_a_matrix_of_a_run_is_chosen(write, choice, first, origin, structural):
    found = read_matrix(write("experimental_results.json", make_results()), choice)
    assert found.tasks == ("python", "lua")
    assert found.scores[1, 0] == pytest.approx(first)
    assert (found.origin, found.structural) == (origin, structural)


def test_the_only_method_needs_no_choice(write):
    results = make_results()
    del results["methods"][0]
    assert read_matrix(write("results.json", results)).origin == "layers, seed 0, bleu, split test"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (MatrixChoice(), r"Which method\? Choose one with --method: lora, layers"),
        (MatrixChoice(method="lroa"), r"Unknown method 'lroa'\. Did you mean 'lora'\?"),
        (MatrixChoice(method="lora", metric="blue"), r"Unknown metric 'blue'\. Did you mean 'bleu'\?"),
        (MatrixChoice(method="lora", seed=7), r"Unknown seed '7'\. Known: 0, 1"),
        (MatrixChoice(method="lora", split="train"), r"Unknown split 'train'\. Known: test, unseen"),
    ],
)
def test_a_choice_that_the_run_does_not_have_is_refused(write, choice, message):
    with pytest.raises(SettingsError, match=message):
        read_matrix(write("results.json", make_results()), choice)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(",;\t"))
def test_csv_and_json_say_the_same(tmp_path_factory, tasks, seed, named, separator):
    generator = np.random.default_rng(seed)
    scores = generator.random((tasks + 1, tasks))
    scores[generator.random(scores.shape) < 0.3] = NAN
    names = [f"name {number}" for number in range(tasks)]
    rows = [["" if math.isnan(entry) else repr(float(entry)) for entry in row] for row in scores]
    if tasks == 1:  # an empty line is no row
        rows = [[cell or "nan" for cell in row] for row in rows]
    lines = [separator.join(cells) for cells in ([names, *rows] if named else rows)]
    folder = tmp_path_factory.mktemp("r")
    (folder / "r.csv").write_text("\n".join(lines), encoding="utf-8")
    written = [[None if math.isnan(entry) else entry for entry in row] for row in scores.tolist()]
    (folder / "r.json").write_text(json.dumps({"R": written, "tasks": names}), encoding="utf-8")
    from_csv, from_json = read_matrix(folder / "r.csv"), read_matrix(folder / "r.json")
    assert equal(from_csv.scores, scores)
    assert equal(from_json.scores, scores)
    assert from_json.tasks == tuple(names)
    assert not named or from_csv.tasks == tuple(names)


def make_turned_run():
    """One method with one seed in two orders of two tasks."""
    first, second = [[0.1, 0.2], [0.8, 0.3], [0.5, 0.9]], [[0.2, 0.1], [0.6, 0.4], [0.7, 0.7]]
    walks = [
        {"seed": 0, "order": order, "R": {"test": {"bleu": rows}}, "continual": {}}
        for order, rows in enumerate((first, second))
    ]
    return {
        "headline_metric": "bleu",
        "tasks": [{"name": "a"}, {"name": "b"}],
        "orders": [["a", "b"], ["b", "a"]],
        "methods": [{"name": "lora", "seeds": walks}],
    }


@pytest.mark.parametrize(
    ("order", "tasks", "corner", "said"),
    [(None, ("a", "b"), 0.9, "order 0"), (0, ("a", "b"), 0.9, "order 0"), (1, ("b", "a"), 0.7, "order 1")],
)
def test_every_order_of_a_run_has_its_own_matrix(write, order, tasks, corner, said):
    found = read_matrix(write("run.json", make_turned_run()), MatrixChoice(order=order))
    assert (found.tasks, found.scores[2, 1]) == (tasks, corner)
    assert found.origin.endswith(said)


def test_an_order_that_a_run_has_not_is_refused(write):
    with pytest.raises(SettingsError, match=r"order '2'.*0, 1"):
        read_matrix(write("run.json", make_turned_run()), MatrixChoice(order=2))
