import pytest

from codestrata.metrics.code import score_syntax_pass
from codestrata.records import Prediction


def answer(completion):
    return Prediction(identifier="p", prompt="", target="", completion=completion)


@pytest.mark.parametrize(
    ("language", "completions"),
    [
        ("python", ["x = 1", "x =", "", "s = 'é'"]),
        ("javascript", ["name(a) { return a }", "name(a) {", " ", "f()"]),
        ("lua", ["local x = 1", "local x =", "\n", "f()"]),
    ],
)
def test_syntax_pass_is_the_share_of_valid_completions(language, completions):
    score = score_syntax_pass([answer(completion) for completion in completions], language)
    assert score.per_example == (1, 0, 0, 1)
    assert (score.value, score.n, score.reason) == (0.5, 4, None)
    assert score.variant.startswith(f"tree-sitter-{language} ")


def test_a_language_without_a_parser_has_no_score():
    score = score_syntax_pass([answer("x")], "cobol")
    assert (score.value, score.n, score.reason) == (None, 1, "no parser for cobol")


def test_no_predictions_are_no_score():
    score = score_syntax_pass([], "python")
    assert (score.value, score.n, score.reason) == (None, 0, "no predictions")
