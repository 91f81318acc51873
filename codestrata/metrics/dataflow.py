"""Which value flows into which variable: the data-flow edges that CodeBLEU compares.

One edge per variable that is read or set: its name, how (``comesFrom`` an earlier place, ``computedFrom`` an
expression) and the names it depends on. Branches are walked from the same state and joined; loops are walked
twice, so that what a turn sets reaches the next.

What this does not do: resolve scopes, calls or attributes (``a.b`` is ``a`` and ``b``), or know a language
(see ``languages.flows``).
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from codestrata.errors import DataError
from codestrata.languages.flows import Part, Rules
from codestrata.languages.nodes import Nodes

MOST_STEPS = 1_000_000
"""Nodes visited and names listed after which a program counts as too large: a loop in a loop doubles them."""

WHOLE_TOKENS = frozenset({"string", "string_literal", "character_literal"})
"""Nodes that are one token although the grammar splits them."""

Edge = tuple[str, str, tuple[str, ...]]
"""(name, ``comesFrom`` or ``computedFrom``, names it depends on); names are ``var_0`` and so on."""

Join = Callable[[Sequence[list[str]]], list[str]]
"""Two lists of names or more to one without repetition."""

Walk = Generator[int, None, None]
"""A walk over a node that yields the nodes to walk on the way, so that nesting has no limit."""


@dataclass(slots=True)
class Flow:
    """An edge as it is found: of which token (its number) from which others."""

    name: str
    token: int
    relation: str
    names: list[str]
    sources: list[int]


def list_edges(nodes: Nodes, rules: Rules, join: Join) -> list[Edge]:
    """The data flow of a program: edges in the order of their tokens, names numbered by first appearance.

    A token without a source that is no other's source has no edge.

    Raises: DataError: a statement lacks what it flows through, or the program is too large.
    Source: Ren et al. 2020, arXiv:2009.10297, section 3.3; what they leave open is as in PyPI's codebleu
    0.7.0, observed.
    """
    tracer = Tracer(nodes, rules, join)
    tracer.trace()
    flows = sorted(tracer.flows, key=lambda flow: flow.token)
    linked = {token for flow in flows if flow.sources for token in (flow.token, *flow.sources)}
    return rename(merge([flow for flow in flows if flow.token in linked], join, by_relation=False))


def rename(flows: Iterable[Flow]) -> list[Edge]:
    """The edges with ``var_0`` for the name that appears first, sources before what depends on them."""
    names: dict[str, str] = {}
    edges = []
    for flow in flows:
        sources = tuple(names.setdefault(name, f"var_{len(names)}") for name in flow.names)
        edges.append((names.setdefault(flow.name, f"var_{len(names)}"), flow.relation, sources))
    return edges


def merge(flows: Iterable[Flow], join: Join, *, by_relation: bool) -> list[Flow]:
    """One flow per token (and relation), in order of first appearance, with the sources of all."""
    groups: dict[tuple[int, str], list[Flow]] = {}
    for flow in flows:
        groups.setdefault((flow.token, flow.relation if by_relation else ""), []).append(flow)
    for group in groups.values():
        if len(group) > 1:
            group[0].names = join([flow.names for flow in group])
            group[0].sources = list(dict.fromkeys(token for flow in group for token in flow.sources))
    return [group[0] for group in groups.values()]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The leaves of a tree, comments left out and whole strings as one, one column per property.

    ``numbers`` name them in flows, ``is_variable`` is False for keywords and signs. ``inside`` holds, for
    each node of the tree, the range of tokens in it; ``is_token`` whether it is one itself.
    """

    texts: list[str]
    numbers: list[int]
    is_variable: list[bool]
    inside: list[tuple[int, int]]
    is_token: list[bool]


def number_tokens(nodes: Nodes) -> Tokens:
    """The tokens of a syntax tree."""
    texts: list[str] = []
    is_variable: list[bool] = []
    spans: list[tuple[int, int]] = []
    starts: list[int] = []
    is_token: list[bool] = []
    hidden: set[int] = set()  # parts of whole strings
    for node, kind in enumerate(nodes.types):
        starts.append(len(texts))
        whole = not nodes.children[node] or kind in WHOLE_TOKENS
        is_token.append(whole and kind != "comment" and node not in hidden)
        if whole or node in hidden:
            hidden.update(nodes.children[node])
        if is_token[node]:
            texts.append(nodes.read_text(node).replace("\n", ""))  # as published: lines without their ends
            is_variable.append(kind != texts[-1])
            spans.append(nodes.spans[node])
    ends = list(starts)
    for node in reversed(range(len(nodes))):
        children = nodes.children[node]
        ends[node] = ends[children[-1]] if children else starts[node] + is_token[node]
    # What the parser put in has no width: where two such tokens meet, they count as the later one.
    last = {span: number for number, span in enumerate(spans)}
    return Tokens(
        texts, [last[span] for span in spans], is_variable, list(zip(starts, ends, strict=True)), is_token
    )


class Tracer:
    """One walk over a program: what was set where (``places``), and the flows found so far."""

    def __init__(self, nodes: Nodes, rules: Rules, join: Join) -> None:
        self.nodes, self.rules, self.join = nodes, rules, join
        self.tokens = number_tokens(nodes)
        self.places: dict[str, list[int]] = {}
        self.flows: list[Flow] = []
        self.steps = 0

    def trace(self) -> None:
        """Walk the whole program."""
        walks = [self.visit(0)]
        while walks:
            child = next(walks[-1], None)
            if child is None:
                walks.pop()
            elif self.tokens.is_token[child]:
                self.read(child)
            else:
                walks.append(self.visit(child))

    def count(self, steps: int) -> None:
        """Note work done. Raises DataError: it is too much."""
        self.steps += steps
        if self.steps > MOST_STEPS:
            raise DataError(f"The data flow takes more than {MOST_STEPS} steps: shorten the code.")

    def list_variables(self, node: int | None) -> list[int]:
        """The tokens in a node that are more than keywords and signs. Raises DataError: there is no node."""
        if node is None:
            raise DataError("A statement lacks a part that data flows through: complete the code.")
        start, end = self.tokens.inside[node]
        self.count(end - start)
        return [token for token in range(start, end) if self.tokens.is_variable[token]]

    def visit(self, node: int) -> Walk:
        """Walk one node as the rules of its type say."""
        self.count(1)
        kind, rules = self.nodes.types[node], self.rules
        if self.tokens.is_token[node]:
            self.read(node)
        elif kind in rules.definitions:
            yield from self.define(node)
        elif kind in rules.assignments:
            yield from self.assign(node)
        elif kind in rules.increments:
            variables = self.list_variables(node)
            self.connect(variables, variables, "computedFrom")
        elif kind in rules.branches:
            yield from self.branch(node)
        elif kind in rules.counted_loops or kind in rules.named_loops or kind in rules.loops:
            yield from self.loop(node)
        else:
            children = self.nodes.children[node]
            yield from (child for child in children if self.nodes.types[child] in rules.first)
            yield from (child for child in children if self.nodes.types[child] not in rules.first)

    def read(self, node: int) -> None:
        """A token by itself: it comes from where its name was set; an identifier that was not set is now."""
        token = self.tokens.inside[node][0]
        text, number = self.tokens.texts[token], self.tokens.numbers[token]
        self.count(1)
        if not self.tokens.is_variable[token]:
            return
        if text in self.places:
            self.count(len(self.places[text]))
            self.flows.append(Flow(text, number, "comesFrom", [text], self.places[text]))
            return
        if self.nodes.types[node] == "identifier":
            self.places[text] = [number]
        self.flows.append(Flow(text, number, "comesFrom", [], []))

    def set_place(self, token: int) -> None:
        """From here on a name is what was set at this token."""
        self.places[self.tokens.texts[token]] = [self.tokens.numbers[token]]

    def connect(self, targets: Sequence[int], sources: Sequence[int], relation: str) -> None:
        """Every target depends on every source, one flow per pair; without sources there is none."""
        self.count(len(targets) * len(sources))
        for target in targets:
            for source in sources:
                self.add_flow(target, relation, [source])
            self.set_place(target)

    def add_flow(self, target: int, relation: str, sources: Sequence[int]) -> None:
        """One target depends on several sources together."""
        names = [self.tokens.texts[source] for source in sources]
        numbers = [self.tokens.numbers[source] for source in sources]
        self.flows.append(
            Flow(self.tokens.texts[target], self.tokens.numbers[target], relation, names, numbers)
        )

    def find_part(self, node: int, part: Part) -> int | None:
        """The child in a role, or in a place among the children; ``None`` where there is none."""
        if isinstance(part, str):
            return self.nodes.find_child(node, part)
        children = self.nodes.children[node]
        return children[part] if -len(children) <= part < len(children) else None

    def define(self, node: int) -> Walk:
        """A name with its first value, which is ``comesFrom`` although computed; without one it is new."""
        name, value = (self.find_part(node, part) for part in self.rules.definitions[self.nodes.types[node]])
        targets = self.list_variables(name)
        if value is None:
            for target in targets:
                self.add_flow(target, "comesFrom", [])
                self.set_place(target)
            return
        sources = self.list_variables(value)
        yield value
        self.connect(targets, sources, "comesFrom")

    def assign(self, node: int) -> Walk:
        """An assignment; where the language may leave out the right side, nothing is walked then."""
        left, right = (self.find_part(node, part) for part in self.rules.assignments[self.nodes.types[node]])
        if right is not None or self.rules.pairwise:
            yield from self.compute(left, right, split=self.nodes.types[node] in self.rules.split)

    def compute(self, left: int | None, right: int | None, *, split: bool) -> Walk:
        """What is on the left is ``computedFrom`` what is on the right; split sides depend part by part."""
        if left is None or right is None:
            raise DataError("A statement lacks a side that data flows between: complete the code.")
        pairs = self.pair_parts(left, right) if split else [(left, right)]
        for _, source in pairs:
            yield source
        for target, source in pairs:
            targets, sources = self.list_variables(target), self.list_variables(source)
            if self.rules.pairwise:
                self.connect(targets, sources, "computedFrom")
                continue
            for token in targets:
                self.count(len(sources))
                self.add_flow(token, "computedFrom", sources)
                self.set_place(token)

    def pair_parts(self, left: int, right: int) -> list[tuple[int, int]]:
        """Left and right parts side by side where they are equally many, else both sides as they are."""
        lefts, rights = (
            [child for child in self.nodes.children[side] if self.nodes.types[child] != ","]
            for side in (left, right)
        )
        if (
            not lefts
            or len(lefts) != len(rights)
            or self.tokens.is_token[left]
            or self.tokens.is_token[right]
        ):
            return [(left, right)]
        return list(zip(lefts, rights, strict=True))

    def branch(self, node: int) -> Walk:
        """Alternatives walked from the same state; afterwards a name was set in any of them."""
        kinds = self.nodes.types
        before, joined, apart = dict(self.places), [], False
        closed = "else" in kinds[node]
        for child in self.nodes.children[node]:
            closed = closed or "else" in kinds[child]
            apart = kinds[child] in self.rules.alternatives or (apart and self.rules.alternatives_last)
            if not apart:
                yield child
                continue
            self.count(len(before))
            current, self.places = self.places, dict(before)
            yield child
            joined.append(self.places)
            self.places = current
        joined.append(self.places)
        if not closed:
            joined.append(before)
        self.places = self.join_places(joined)

    def join_places(self, alternatives: Sequence[dict[str, list[int]]]) -> dict[str, list[int]]:
        """Each name with all places where one of the alternatives has set it."""
        joined: dict[str, set[int]] = {}
        for places in alternatives:
            for name, tokens in places.items():
                self.count(len(tokens))
                joined.setdefault(name, set()).update(tokens)
        return {name: sorted(tokens) for name, tokens in joined.items()}

    def loop(self, node: int) -> Walk:
        """Two turns, with one flow per token and relation in the end."""
        kind, rules, start = self.nodes.types[node], self.rules, len(self.flows)
        children = self.nodes.children[node]
        if kind in rules.named_loops:
            yield from self.loop_over(node)
            yield from self.loop_over(node)
        elif kind in rules.counted_loops:
            yield from children
            yield from self.turn_again(node)
        else:
            yield from children
            yield from children
        self.count(len(self.flows) - start)
        self.flows[start:] = merge(self.flows[start:], self.join, by_relation=True)

    def loop_over(self, node: int) -> Walk:
        """One turn of a loop over a sequence. A Python loop with an else branch is not walked inside."""
        kind, children = self.nodes.types[node], self.nodes.children[node]
        variable, sequence, body = (self.find_part(node, part) for part in self.rules.named_loops[kind])
        yield from self.compute(variable, sequence, split=kind in self.rules.split)
        if body is not None and self.nodes.types[children[-1]] != "else_clause":
            yield body

    def turn_again(self, node: int) -> Walk:
        """The second turn of a loop that counts: what comes after its header."""
        header, update_field = self.rules.counted_loops[self.nodes.types[node]]
        children = self.nodes.children[node]
        for place, child in enumerate(children):
            if self.nodes.types[child] == header:
                update = self.nodes.find_child(child, update_field) if update_field else None
                if update is not None:
                    yield update
                yield from children[place + 1 :]
                return
