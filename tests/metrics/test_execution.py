from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.languages.confinement import Isolation
from codestrata.languages.isolation import choose_isolation
from codestrata.languages.sandbox import Outcome, Program
from codestrata.metrics import execution
from codestrata.metrics.execution import (
    build_program,
    describe_pass_rate,
    estimate_pass_rate,
    score_pass_rate,
)
from codestrata.records import Example, Prediction
from codestrata.settings.sections import ExecutionSettings

LIMITS = ExecutionSettings(timeout_seconds=2.0, memory_mib=256, allow_unconfined=True)
TESTS = {
    "python": "assert f([1, 2]) == 3\nassert f([]) == 0",
    "javascript": 'if (JSON.stringify(f([1, 2])) !== "3") throw new Error("f([1, 2])");',
    "lua": "if f({1, 2}) ~= 3 then error('f({1, 2})') end",
}
RIGHT = {
    "python": "def f(xs):\n    return sum(xs)",
    "javascript": "function f(xs) { return xs.reduce((a, x) => a + x, 0); } // the sum",
    "lua": "function f(xs) local s = 0 for _, x in ipairs(xs) do s = s + x end return s end -- the sum",
}
WRONG = {
    "python": "def f(xs):\n    return 0",
    "javascript": "function f(xs) { return 0; }",
    "lua": "function f(xs) return 0 end",
}


def answer(completion, tests, identifier="p", sample=0):
    return Prediction(
        identifier=identifier, prompt="", target="", completion=completion, tests=tests, sample=sample
    )


def answer_all(completions, tests):
    """A prediction for each completion, each to an example of its own."""
    return [answer(text, tests, identifier=str(number)) for number, text in enumerate(completions)]


@pytest.mark.parametrize("language", ["javascript", "lua", "python"])
def test_pass_at_1_of_one_sample_is_the_share_that_passes(language):
    completions = [RIGHT[language], WRONG[language], "", RIGHT[language]]
    (score,) = score_pass_rate(answer_all(completions, TESTS[language]), language, LIMITS)
    assert score.metric == "pass@1"
    assert score.per_example == (1, 0, 0, 1)
    assert (score.value, score.n, score.reason) == (0.5, 4, None)
    isolation = choose_isolation(language, allow_unconfined=True)
    assert score.variant == f"{isolation.runtime}, 2 s, 256 MiB"
    assert score.isolation == isolation.rung is not None
    assert (score.statistics, score.aggregate) == (None, "rate")  # values are 0 or 1


@pytest.mark.parametrize(
    ("language", "trick"),
    [
        ("python", "import sys\nsys.exit(0)"),
        ("python", "import os\nos._exit(0)"),
        ("python", "def f(xs):\n    raise SystemExit"),
        ("python", "def f(xs):\n    import os\n    os._exit(0)"),
        ("python", "import builtins\ndef f(xs):\n    builtins.AssertionError = SystemExit\n    return 0"),
        ("javascript", "process.exit(0)"),
        ("javascript", "/*"),
        ("javascript", "JSON.stringify = () => '3'; function f() { JSON.stringify = () => '3'; }"),
        ("lua", "do return end"),
        ("lua", "--[["),
        ("lua", "error = print function f() error = print end"),
    ],
)
def test_tricks_are_no_pass(language, trick):
    (score,) = score_pass_rate([answer(trick, TESTS[language])], language, LIMITS)
    assert score.value == 0


def test_examples_without_tests_are_left_out_and_told():
    right, tests = RIGHT["python"], TESTS["python"]
    predictions = [
        answer(right, None, "a"),
        answer(right, tests, "b"),
        answer(right, " \n", "c"),
        answer("", tests, "d"),
    ]
    (score,) = score_pass_rate(predictions, "python", LIMITS)
    assert score.per_example == (1, 0)
    assert (score.value, score.n) == (0.5, 2)
    assert score.reason == "2 of 4 examples have no tests and are left out"


def test_what_cannot_be_measured_is_none_with_a_reason():
    assert [score.reason for score in score_pass_rate([], "python", LIMITS, (1, 5))] == ["no predictions"] * 2
    (untested,) = score_pass_rate([answer("x", None)], "python", LIMITS)
    assert (untested.value, untested.n, untested.reason) == (None, 0, "none of 1 examples has tests")
    (unknown,) = score_pass_rate([answer("x", "y")], "cobol", LIMITS)
    assert (unknown.value, unknown.n, unknown.per_example) == (None, 1, None)
    assert unknown.reason == "Unknown language 'cobol'. Known: javascript, lua, python."
    deno = ExecutionSettings(isolation="deno")
    (refused,) = score_pass_rate([answer("x", "y")], "python", deno)
    assert (refused.value, refused.isolation) == (None, None)
    assert refused.reason == (
        "nothing that was asked for confines python here (deno: deno runs JavaScript only)"
    )


@pytest.fixture
def judge(monkeypatch):
    """Programs pass whose source is ``right``; nothing runs. Gives the batches that were asked for."""
    batches = []

    def run(language, programs, **limits):
        batches.append(programs)
        return [Outcome("passed" if program.source == "right" else "failed", "") for program in programs]

    found = Isolation(language="python", rung="landlock", runtime="Python 3", refused={})
    monkeypatch.setattr(execution, "run_programs", run)
    monkeypatch.setattr(execution, "choose_isolation", lambda *asked: found)
    return batches


def test_samples_of_an_example_belong_together(judge):
    rows = [("b", 0, "right"), ("a", 0, "wrong"), ("b", 1, "wrong"), ("a", 1, "wrong"), ("b", 2, "right")]
    rows.append(("a", 2, "right"))
    predictions = [answer(text, "tests", name, sample) for name, sample, text in rows]
    first, second, third = score_pass_rate(predictions, "python", LIMITS, (1, 2, 3))
    assert [score.metric for score in (first, second, third)] == ["pass@1", "pass@2", "pass@3"]
    assert first.per_example == (pytest.approx(2 / 3), pytest.approx(1 / 3))  # b comes first
    assert second.per_example == (1.0, pytest.approx(2 / 3))
    assert third.per_example == (1.0, 1.0)
    assert first.value == pytest.approx(0.5)
    assert {score.n for score in (first, second, third)} == {2}
    assert first.isolation == "landlock"
    assert [score.aggregate for score in (first, second, third)] == ["mean", "mean", "rate"]
    assert len(judge) == 1


def test_too_few_samples_for_k(judge):
    predictions = [answer("right", "tests", "a", 0), answer("right", "tests", "b", 0)]
    predictions.append(answer("right", "tests", "a", 1))
    one, two = score_pass_rate(predictions, "python", LIMITS, (1, 2))
    assert one.value == 1
    assert (two.value, two.n) == (None, 2)
    assert two.reason == "pass@2 needs 2 samples of every example, but one has 1"


def test_completion_and_tests_stay_two_texts(judge):
    score_pass_rate([answer("right", "tests")], "python", LIMITS)
    assert judge == [[Program("right", "tests")]]


COUNTS = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


@settings(max_examples=200, deadline=None)
@given(COUNTS)
def test_the_estimate_is_the_share_of_draws_with_a_pass(counts):
    samples, passes, k = counts
    draws = list(combinations([True] * passes + [False] * (samples - passes), k))
    share = Fraction(sum(map(any, draws)), len(draws))
    assert estimate_pass_rate(samples, passes, k) == float(share)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_the_estimate_is_exact_and_within_bounds_for_many_samples(counts):
    samples, passes, k = counts
    found = estimate_pass_rate(samples, passes, k)
    assert found == float(1 - Fraction(comb(samples - passes, k), comb(samples, k)))
    product = 1.0  # the form of the paper's own code
    for number in range(samples - passes + 1, samples + 1):
        product *= 1 - k / number
    assert found == pytest.approx(1 - product if samples - passes >= k else 1.0, abs=1e-9)
    assert 0 <= found <= 1
    if passes < samples:
        assert found <= estimate_pass_rate(samples, passes + 1, k)
    if k < samples:
        assert found <= estimate_pass_rate(samples, passes, k + 1)


@pytest.mark.parametrize(
    ("samples", "passes", "k", "right"),
    [
        *[(1, 1, 1, 1), (1, 0, 1, 0), (2, 1, 1, 0.5), (5, 2, 1, 0.4), (5, 2, 2, 0.7), (5, 3, 3, 1)],
        *[(5, 1, 5, 1), (10, 3, 5, 11 / 12), (200, 1, 100, 0.5), (200, 0, 100, 0), (4, 1, 2, 0.5)],
        (6, 2, 3, 0.8),
    ],
)
def test_estimates_worked_by_hand(samples, passes, k, right):
    assert estimate_pass_rate(samples, passes, k) == pytest.approx(right, abs=1e-15)


def test_the_metric_is_described():
    metric = describe_pass_rate(5)
    assert (metric.name, metric.kind) == ("pass@5", "rate")
    assert "1 - C(n - c, 5) / C(n, 5)" in metric.formula
    assert "2107.03374" in metric.source


BEGINNINGS = {
    "python": ('def f(xs):\n    """The sum."""\n', "    return sum(xs)\n", "\nprint(f([1"),
    "javascript": ("function f(xs) {\n", "  return xs.reduce((a, x) => a + x, 0);\n}", "\nconsole.log(f(["),
}


@pytest.mark.parametrize("language", BEGINNINGS)
def test_an_answer_is_run_after_its_prelude_and_up_to_its_end(language):
    prelude, body, tail = BEGINNINGS[language]
    texts = [body, body.lstrip() + tail, "", tail, body.replace("xs", "ys")]
    answers = [replace(answer, prelude=prelude) for answer in answer_all(texts, TESTS[language])]
    (score,) = score_pass_rate(answers, language, LIMITS)
    assert score.per_example == (1, 1, 0, 0, 0)


WHOLE = {
    "python": ("def f(xs):\n    return g(xs)\n\ndef g(xs):\n    return sum(xs)\n", "f([1, 2])\nprint("),
    "javascript": ("const f = (xs) => {\n  return xs[0];\n};\n", "This is f."),
}


@pytest.mark.parametrize("language", WHOLE)
def test_a_whole_function_ends_like_a_body_where_it_has_a_prelude(language):
    target, tail = WHOLE[language]
    given = {"identifier": "a", "prompt": "", "target": target, "tests": "check(f)"}
    answer = Prediction(**given, completion=target + tail, prelude="")
    assert build_program(answer, language).source.strip(";\n") == target.strip(";\n")
    begun = replace(answer, prelude="x = 1\n")
    assert build_program(begun, language).source == "x = 1\n" + build_program(answer, language).source
    assert build_program(replace(answer, prelude=None), language).source == target + tail
    other = replace(answer, completion="h = 1\n" + tail)
    assert build_program(other, language).source == other.completion


def test_the_target_of_an_example_is_run_as_an_answer_would_be():
    example = Example(
        identifier="a", prompt="", target="  return 1\nprint(", tests="f()", prelude="def f():\n"
    )
    assert build_program(example, "python") == Program("def f():\n  return 1\n", "f()")
    assert build_program(replace(example, prelude=None), "python").source == example.target
    assert build_program(replace(example, tests=" "), "python") is None
