import pytest

from codestrata.languages import sandbox
from codestrata.metrics import execution
from codestrata.metrics.execution import score_pass_rate
from codestrata.records import Prediction
from codestrata.settings import ExecutionSettings

LIMITS = ExecutionSettings(timeout_seconds=2.0, memory_mib=256)
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


def answer(completion, tests):
    return Prediction(identifier="p", prompt="", target="", completion=completion, tests=tests)


@pytest.mark.parametrize("language", ["javascript", "lua", "python"])
def test_pass_rate_is_the_share_that_passes(language):
    completions = [RIGHT[language], WRONG[language], "", RIGHT[language]]
    score = score_pass_rate([answer(text, TESTS[language]) for text in completions], language, LIMITS)
    assert score.metric == "pass@1"
    assert score.per_example == (1, 0, 0, 1)
    assert (score.value, score.n, score.reason) == (0.5, 4, None)
    assert score.variant == f"{sandbox.describe_runner(language)}, 2 s, 256 MiB"


@pytest.mark.parametrize(
    ("language", "trick"),
    [
        ("python", "import sys\nsys.exit(0)"),
        ("python", "import os\nos._exit(0)"),
        ("python", "def f(xs):\n    raise SystemExit"),
        ("javascript", "process.exit(0)"),
        ("javascript", "/*"),
        ("lua", "do return end"),
        ("lua", "--[["),
    ],
)
def test_leaving_before_the_tests_is_no_pass(language, trick):
    assert score_pass_rate([answer(trick, TESTS[language])], language, LIMITS).value == 0


def test_predictions_without_tests_are_left_out_and_told():
    right, tests = RIGHT["python"], TESTS["python"]
    predictions = [answer(right, None), answer(right, tests), answer(right, " \n"), answer("", tests)]
    score = score_pass_rate(predictions, "python", LIMITS)
    assert score.per_example == (1, 0)
    assert (score.value, score.n) == (0.5, 2)
    assert score.reason == "2 of 4 predictions have no tests and are left out"


def test_what_cannot_be_measured_is_none_with_a_reason():
    assert score_pass_rate([], "python", LIMITS).reason == "no predictions"
    untested = score_pass_rate([answer("x", None)], "python", LIMITS)
    assert (untested.value, untested.n, untested.reason) == (None, 0, "none of 1 predictions has tests")
    unknown = score_pass_rate([answer("x", "y")], "cobol", LIMITS)
    assert (unknown.value, unknown.n, unknown.per_example) == (None, 1, None)
    assert unknown.reason == "Unknown language 'cobol'. Known: javascript, lua, python."


def test_equal_programs_run_once(monkeypatch):
    batches = []

    def record(language, programs, **limits):
        batches.append(programs)
        return sandbox.run_programs(language, programs, **limits)

    monkeypatch.setattr(execution, "run_programs", record)
    right, tests = RIGHT["python"], TESTS["python"]
    predictions = [
        answer(right, tests),
        answer("", tests),
        answer(right, tests),
        answer(right, "assert True"),
    ]
    assert score_pass_rate(predictions, "python", LIMITS).per_example == (1, 0, 1, 1)
    assert [len(programs) for programs in batches] == [3]
