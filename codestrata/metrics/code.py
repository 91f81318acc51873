"""Scores that look at completions as code without running them: syntax pass and complexity.

What this does not do: compare completions with targets (see ``metrics.codebleu`` and ``metrics.trees``), or
run anything (``metrics.execution``).
"""

from collections.abc import Sequence

from codestrata.languages.decisions import DECISIONS, SHORT_CIRCUITS, Decisions
from codestrata.languages.nodes import Nodes, read_nodes
from codestrata.languages.parsing import describe_parser, is_valid, list_languages
from codestrata.records import Metric, Prediction, Score

METRICS = (
    Metric(
        name="syntax_pass",
        kind="rate",
        formula="share of completions that are not blank and parse without an error",
        source="the founding experiment's pass rate, by a parser for every language",
        implementation="tree-sitter; bare methods are put into a class first",
    ),
    Metric(
        name="complexity",
        kind="description",
        formula="mean over completions that are not blank of 1 + decision points",
        source="McCabe 1976, doi:10.1109/TSE.1976.233837",
        implementation="codestrata, tree-sitter nodes as in languages/decisions.py",
    ),
)


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
        aggregate="rate",
        variant=describe_parser(language),
    )


def score_complexity(predictions: Sequence[Prediction], language: str) -> Score:
    """Mean cyclomatic complexity of the completions, each as a whole: 1 + its decision points.

    ``languages.decisions`` says what a decision is. Blank completions have none and are left out; ``reason``
    counts them. Code with errors is counted as far as it was read.

    Source: McCabe 1976. He counts per function and we per completion: several functions in one completion
    have one common 1.
    """
    n = len(predictions)
    if language not in DECISIONS:
        return Score(metric="complexity", value=None, n=n, reason=f"no decision table for {language}")
    if n == 0:
        return Score(metric="complexity", value=None, n=0, reason="no predictions")
    values = tuple(
        1.0 + count_decisions(read_nodes(language, prediction.completion), DECISIONS[language])
        if prediction.completion.strip()
        else None
        for prediction in predictions
    )
    counted = [value for value in values if value is not None]
    blank = n - len(counted)
    return Score(
        metric="complexity",
        value=sum(counted) / len(counted) if counted else None,
        n=len(counted),
        reason=f"{blank} of {n} completions are blank and left out" if blank else None,
        per_example=values,
        statistics=tuple((0.0, 0.0) if value is None else (value, 1.0) for value in values)
        if blank
        else None,
        variant=describe_parser(language),
    )


def count_decisions(nodes: Nodes, decisions: Decisions) -> int:
    """How many nodes of a syntax tree are decision points."""
    count = 0
    for node, kind in enumerate(nodes.types):
        if kind in decisions.operations:
            count += sum(nodes.types[child] in SHORT_CIRCUITS for child in nodes.children[node])
        elif nodes.named[node]:
            count += kind in decisions.nodes or (kind in decisions.labels and not is_default(nodes, node))
    return count


def is_default(nodes: Nodes, label: int) -> bool:
    """Whether a label stands for all cases that are left: ``default``, or a bare ``_``."""
    children = nodes.children[label]
    named = [child for child in children if nodes.named[child]]
    return any(nodes.types[child] == "default" for child in children) or (
        bool(named) and nodes.read_text(named[0]) == "_"
    )
