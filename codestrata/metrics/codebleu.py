"""CodeBLEU: how alike completions and targets are in their words, keywords, syntax trees and data flow.

What this does not do: judge whether code is right (see ``metrics.execution``). A renamed variable costs
n-grams, an equivalent loop costs everything.
"""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from codestrata.analysis.aggregates import find_aggregate
from codestrata.errors import DataError, SettingsError, describe_unknown
from codestrata.languages.comments import strip_comments
from codestrata.languages.flows import RULES
from codestrata.languages.keywords import KEYWORDS
from codestrata.languages.nodes import Nodes, read_nodes
from codestrata.languages.parsing import describe_parser
from codestrata.metrics.dataflow import Edge, list_edges
from codestrata.records import Metric, Prediction, Score

ORDERS = range(1, 5)
OTHER_WORD_WEIGHT = 0.2
"""Weight of a word that is no keyword, whose weight is 1."""

WEIGHTED_TARGET_WORDS = 2.0
"""Length of every target in the weighted part, whatever it is: the published metric counts the pair of words
and weights, not the words, so that only completions of a single word are penalised as short."""

SOURCE = "Ren et al. 2020, arXiv:2009.10297"
IMPLEMENTATION = "codestrata, equal to PyPI codebleu 0.7.0 but for the defects named in docs/metrics.md"

METRICS = (
    Metric(
        name="codebleu",
        kind="score",
        formula="mean of codebleu_ngram, codebleu_weighted_ngram, codebleu_syntax and codebleu_dataflow",
        source=SOURCE,
        implementation=IMPLEMENTATION,
    ),
    Metric(
        name="codebleu_ngram",
        kind="score",
        formula="corpus BLEU-4 of words between white space, 0.1 matches where an order has none",
        source=SOURCE,
        implementation=IMPLEMENTATION,
    ),
    Metric(
        name="codebleu_weighted_ngram",
        kind="score",
        formula="the same with recall for precision; single words weigh 1 if keywords, 0.2 if not",
        source=SOURCE,
        implementation=IMPLEMENTATION,
    ),
    Metric(
        name="codebleu_syntax",
        kind="score",
        formula="subtrees of the targets' syntax trees found in the completions' / all of the targets'",
        source=SOURCE,
        implementation=IMPLEMENTATION,
    ),
    Metric(
        name="codebleu_dataflow",
        kind="score",
        formula="data-flow edges of the targets found in the completions' / all of the targets'",
        source=SOURCE,
        implementation=IMPLEMENTATION,
    ),
)

Compatibility = Literal["codexglue", "pypi-0.7.0"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One text as CodeBLEU sees it: words, subtrees by number (with repetition), data-flow edges."""

    words: list[str]
    subtrees: Counter[int]
    edges: Counter[Edge]


def score_codebleu(
    predictions: Sequence[Prediction], language: str, *, compat: Compatibility = "codexglue"
) -> tuple[Score, ...]:
    """CodeBLEU and its four parts, in the order of ``METRICS``, over a corpus with pooled counts.

        CodeBLEU = (n-gram + weighted n-gram + syntax + data flow) / 4

    A corpus without data flow in any target has no data-flow part, and then no sum either; the other parts
    stand. The same holds for languages without rules of data flow. Every example keeps a row of counts: the
    value of any part of the corpus is the aggregate of its rows' sum.

    Args:
        predictions: completions and targets; both are stripped of white space at their ends.
        language: for keywords, grammar and data-flow rules.
        compat: ``pypi-0.7.0`` computes the sum as that package does: a data-flow part of 0, or none, counts
            as 1, and where two walks over one token are joined, names come in the order of a Python set,
            which differs from process to process. ``codexglue`` counts 0 as 0 and keeps the order of
            appearance.

    Raises: SettingsError: unknown ``compat``.
    Source: Ren et al. 2020, arXiv:2009.10297; docs/metrics.md names the metric's own defects.
    """
    if compat not in ("codexglue", "pypi-0.7.0"):
        raise SettingsError(describe_unknown("compat", compat, ("codexglue", "pypi-0.7.0")))
    n = len(predictions)
    if language not in KEYWORDS or n == 0:
        reason = f"no keywords for {language}" if n else "no predictions"
        return tuple(Score(metric=metric.name, value=None, n=n, reason=reason) for metric in METRICS)
    reader = Reader(language, compat)
    grams, weighted, subtrees, edges = (
        np.array(rows, dtype=float)
        for rows in zip(*(reader.count_pair(prediction) for prediction in predictions), strict=True)
    )
    variant = describe_variant(language, compat)
    flowless = explain_flowless(language, edges)
    whole = "codebleu" if compat == "codexglue" else "codebleu_pypi"
    every = np.concatenate([grams, weighted, subtrees, edges], axis=1)
    return (
        build_score("codebleu", every, whole, variant, flowless),
        build_score("codebleu_ngram", grams, "codebleu_ngram", variant),
        build_score("codebleu_weighted_ngram", weighted, "codebleu_ngram", variant),
        build_score("codebleu_syntax", subtrees, "ratio", variant),
        build_score("codebleu_dataflow", edges, "ratio", variant, flowless),
    )


def build_score(
    metric: str, rows: np.ndarray, aggregate: str, variant: str, flowless: str | None = None
) -> Score:
    """A score from rows of counts, one per example; ``flowless`` says what there is no data flow in."""
    compute = find_aggregate(aggregate)
    value = float(compute(rows.sum(axis=0)))
    return Score(
        metric=metric,
        value=None if np.isnan(value) else value,
        n=len(rows),
        reason=flowless,
        per_example=tuple(None if np.isnan(alone) else float(alone) for alone in compute(rows)),
        statistics=tuple(tuple(float(count) for count in row) for row in rows),
        aggregate=aggregate,
        variant=variant,
    )


def explain_flowless(language: str, edges: np.ndarray) -> str | None:
    """What there is no data flow in: the language, all targets or some; ``None`` where all have some."""
    if language not in RULES:
        return f"no data-flow rules for {language}"
    flowless = int((edges[:, 1] == 0).sum())
    if flowless == len(edges):
        return "no data flow in any target"
    return f"no data flow in {flowless} of {len(edges)} targets" if flowless else None


def describe_variant(language: str, compat: Compatibility) -> str:
    """What else the numbers depend on: for Python, also which texts its tokenizer takes."""
    variant = f"{compat}; {describe_parser(language)}"
    if language == "python":
        variant += f"; comments by tokenize of Python {'.'.join(platform.python_version_tuple()[:2])}"
    return variant


class Reader:
    """Reads texts of one language, each distinct text once, and counts what two of them share."""

    def __init__(self, language: str, compat: Compatibility) -> None:
        self.language = language
        self.join = join_in_order if compat == "codexglue" else join_as_set
        self.numbers: dict[tuple[object, ...], int] = {}
        self.readings: dict[str, Reading] = {}

    def count_pair(self, prediction: Prediction) -> tuple[list[float], list[float], list[float], list[float]]:
        """Rows of counts: n-grams, weighted n-grams, subtrees and edges."""
        completion, target = self.read(prediction.completion), self.read(prediction.target)
        words = float(len(completion.words))
        keywords = KEYWORDS[self.language]
        found_subtrees = sum(
            count for subtree, count in target.subtrees.items() if subtree in completion.subtrees
        )
        return (
            [*count_grams(completion.words, target.words), words, float(len(target.words))],
            [*count_weighted_grams(completion.words, target.words, keywords), words, WEIGHTED_TARGET_WORDS],
            [float(found_subtrees), float(target.subtrees.total())],
            [float((target.edges & completion.edges).total()), float(target.edges.total())],
        )

    def read(self, text: str) -> Reading:
        """One text, from memory if it was read before."""
        if text not in self.readings:
            # A lone surrogate would stop Python's tokenizer, and no grammar knows it.
            code = text.strip().encode("utf-8", "replace").decode()
            nodes = read_nodes(self.language, strip_comments(self.language, code))
            self.readings[text] = Reading(
                text.split(), Counter(number_subtrees(nodes, self.numbers)), Counter(self.follow(nodes))
            )
        return self.readings[text]

    def follow(self, nodes: Nodes) -> list[Edge]:
        """The data flow; none where the language has no rules, or the code is incomplete or too large."""
        if self.language not in RULES:
            return []
        try:
            return list_edges(nodes, RULES[self.language], self.join)
        except DataError:
            return []


def join_in_order(lists: Sequence[list[str]]) -> list[str]:
    """The names of all lists in order of appearance."""
    return list(dict.fromkeys(chain.from_iterable(lists)))


def join_as_set(lists: Sequence[list[str]]) -> list[str]:
    """The names of all lists in the order that a set has in this process, after each list anew."""
    joined, *others = lists
    for names in others:
        joined = list(set(joined + names))
    return joined


def list_grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of ``order`` words occurs."""
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def count_grams(completion: Sequence[str], target: Sequence[str]) -> list[float]:
    """Found n-grams of orders 1 to 4, then the completion's n-grams of these orders, at least 1 of each."""
    found, total = [], []
    for order in ORDERS:
        grams = list_grams(completion, order)
        found.append(float((grams & list_grams(target, order)).total()))
        total.append(float(max(1, grams.total())))
    return found + total


def count_weighted_grams(
    completion: Sequence[str], target: Sequence[str], keywords: frozenset[str]
) -> list[float]:
    """As ``count_grams``, of the target's n-grams, with single words by weight."""
    found, total = [], []
    for order in ORDERS:
        grams = list_grams(target, order)
        both = grams & list_grams(completion, order)
        found.append(weigh(both, keywords) if order == 1 else float(both.total()))
        total.append(max(1.0, weigh(grams, keywords) if order == 1 else float(grams.total())))
    return found + total


def weigh(words: Counter[tuple[str, ...]], keywords: frozenset[str]) -> float:
    """The sum of the words' weights."""
    return sum(count * (1.0 if word in keywords else OTHER_WORD_WEIGHT) for (word,), count in words.items())


def number_subtrees(nodes: Nodes, numbers: dict[tuple[object, ...], int]) -> list[int]:
    """A number for the root and for each node with children; equal subtrees have equal numbers.

    Two subtrees are equal if they have the same named nodes in the same roles; what a name or a number is
    called, and which operator stands between, does not count. ``numbers`` is the memory, and grows.
    """
    shapes = [0] * len(nodes)
    parts: list[tuple[object, ...]] = [()] * len(nodes)
    for node in reversed(range(len(nodes))):
        seen: list[object] = []
        for child in nodes.children[node]:
            if nodes.named[child] or nodes.missing[child]:
                seen.append((nodes.fields[child], shapes[child]))
            else:
                seen.extend(parts[child])
        parts[node] = tuple(seen)
        shape = (
            nodes.types[node],
            nodes.named[node],
            nodes.missing[node],
            nodes.unread.get(node),
            parts[node],
        )
        shapes[node] = numbers.setdefault(shape, len(numbers))
    return [shape for node, shape in enumerate(shapes) if node == 0 or nodes.children[node]]
