"""Scores that look at completions as code without running them: syntax pass.

What this does not do: run anything (see ``metrics.execution``).
"""

from collections.abc import Sequence

from codestrata.languages.parsing import describe_parser, is_valid, list_languages
from codestrata.records import Prediction, Score


def score_syntax_pass(predictions: Sequence[Prediction], language: str) -> Score:
    """Share of completions that tree-sitter parses without an error; blank ones do not count as code.

    tree-sitter is more lenient than the compilers: ``languages.parsing`` says where. The value is ``None``
    where there is no parser for the language.
    """
    n = len(predictions)
    if language not in list_languages():
        return Score(metric="syntax_pass", value=None, n=n, reason=f"no parser for {language}")
    if n == 0:
        return Score(metric="syntax_pass", value=None, n=0, reason="no predictions")
    passes = tuple(float(is_valid(language, prediction.completion)) for prediction in predictions)
    return Score(
        metric="syntax_pass",
        value=sum(passes) / n,
        n=n,
        per_example=passes,
        variant=describe_parser(language),
    )
