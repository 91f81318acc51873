"""Scores that compare the syntax trees of completions with those of their targets.

A tree holds the named nodes of tree-sitter, labelled by their types: ``call``, ``identifier``, ``ERROR``.
What an identifier or a literal says does not count, and neither do operators and punctuation.

What this does not do: judge whether code is right, or whether it parses (see ``metrics.code``): every text
has a tree.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from codestrata.languages.nodes import read_nodes
from codestrata.languages.parsing import describe_parser, list_languages
from codestrata.metrics.distances import Tree, Workshop, bound_distance, build_tree, measure_distance
from codestrata.records import Metric, Prediction, Score

MOST_STEPS = 4_000_000
"""Table entries of one edit distance, a second or less, above which it is bounded instead."""

Pair = tuple[str, str]
"""A completion and its target."""

METRICS = (
    Metric(
        name="ast_similarity",
        kind="score",
        formula="mean of max(0, 1 - tree edit distance / nodes of the larger tree)",
        source="Song et al. 2024 (TSED), arXiv:2404.08817; Zhang & Shasha 1989, doi:10.1137/0218082",
        implementation="codestrata, Zhang-Shasha with unit costs on named tree-sitter nodes",
    ),
    Metric(
        name="ast_nodes_jaccard",
        kind="score",
        formula="mean of |A and B| / |A or B|, A and B the sets of node types of both trees",
        source="the founding experiment's AST similarity",
        implementation="codestrata, named tree-sitter nodes",
    ),
)


def score_ast_similarity(predictions: Sequence[Prediction], language: str, *, tree_nodes: int = 400) -> Score:
    """Mean similarity of the syntax trees of completions and targets; 1 for trees of one shape, symmetric.

        similarity = max(0, 1 - TED / max(nodes of both))

    TED is the least number of nodes to insert, delete or relabel. It can exceed the nodes of the larger tree,
    hence the maximum with 0. Where a tree has more than ``tree_nodes`` nodes, or the distance would take more
    than ``MOST_STEPS``, TED is replaced by a lower bound of it, so that the similarity is an upper bound;
    ``reason`` counts these pairs.

    Source: the normalisation is TSED's, Song et al. 2024, arXiv:2404.08817; the distance is Zhang & Shasha's.
    """
    workshop = Workshop()
    bounded: set[Pair] = set()

    def compare(pair: Pair, first: Tree, second: Tree) -> float:
        larger, distance = max(len(first), len(second)), None
        if larger <= tree_nodes or first == second:
            distance = measure_distance(first, second, workshop, most_steps=MOST_STEPS)
        if distance is None:
            bounded.add(pair)
            distance = bound_distance(first, second)
        return max(0.0, 1 - distance / larger)

    score = score_pairs("ast_similarity", predictions, language, compare)
    if score.value is None:
        return score
    count = sum((prediction.completion, prediction.target) in bounded for prediction in predictions)
    reason = (
        f"{count} of {len(predictions)} pairs are upper bounds: over {tree_nodes} nodes or too many steps"
    )
    return replace(
        score,
        reason=reason if count else None,
        variant=f"{score.variant}; tree_nodes={tree_nodes}; {count} of {len(predictions)} pairs bounded",
    )


def score_ast_nodes_jaccard(predictions: Sequence[Prediction], language: str) -> Score:
    """Mean overlap of the node types in the syntax trees of completions and targets, as sets of names.

        similarity = |A and B| / |A or B|

    It does not see how often a type occurs, nor where: it is high for any two programs of some length. Kept
    because it is what the founding experiment called AST similarity.
    """

    def compare(_: Pair, first: Tree, second: Tree) -> float:
        kinds, other_kinds = set(first.labels), set(second.labels)
        return len(kinds & other_kinds) / len(kinds | other_kinds)

    return score_pairs("ast_nodes_jaccard", predictions, language, compare)


def score_pairs(
    metric: str,
    predictions: Sequence[Prediction],
    language: str,
    compare: Callable[[Pair, Tree, Tree], float],
) -> Score:
    """The mean over predictions of what ``compare`` says of both trees; equal pairs are compared once."""
    n = len(predictions)
    if language not in list_languages():
        return Score(metric=metric, value=None, n=n, reason=f"no parser for {language}")
    if n == 0:
        return Score(metric=metric, value=None, n=0, reason="no predictions")
    pairs = [(prediction.completion, prediction.target) for prediction in predictions]
    trees = {
        text: read_tree(language, text) for text in dict.fromkeys(text for pair in pairs for text in pair)
    }
    known = {pair: compare(pair, trees[pair[0]], trees[pair[1]]) for pair in dict.fromkeys(pairs)}
    values = tuple(known[pair] for pair in pairs)
    return Score(
        metric=metric,
        value=sum(values) / n,
        n=n,
        per_example=values,
        variant=f"{describe_parser(language)}, named nodes by type",
    )


def read_tree(language: str, code: str) -> Tree:
    """The named nodes of a syntax tree; what is named inside an unnamed node belongs to that node's parent.

    Raises: SettingsError: there is no parser for the language.
    """
    nodes = read_nodes(language, code)
    named: list[list[int]] = [[] for _ in nodes.types]
    for node in reversed(range(len(nodes))):
        for child in nodes.children[node]:
            named[node].extend([child] if nodes.named[child] else named[child])
    return build_tree(nodes.types, named)
