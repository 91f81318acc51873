"""The tokens of code and of its documentation, as CodeSearchNet's records have them.

The records were made in 2019. Their tokens are the leaves of the syntax trees of that time, a string being
one leaf. Since then the grammars have named, split or joined some leaves, and what a grammar of that time
read without giving it a node is in no token at all. ``RULES`` maps today's trees back, by the types of their
nodes.

Whether two functions have the same code is told by their leaves as they stand, not by these tokens, which
lack the text of templates, for example.

What this does not do: parse, choose which part of a documentation is tokenized (``documentation`` does), or
repair code that only the grammars of that time could read.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from tree_sitter import Node

WORD = re.compile(r"""[^\s,'"`.():\[\]=*;>{}+\-/\\]+""")
GROUPS = re.compile(r"\(\)|\{\}|\[\]|(?P<mark>[\\.():\[\]{}=*;>+\-/])(?P=mark)*")
DOCSTRING_TOKEN = re.compile(f"{WORD.pattern}|{GROUPS.pattern}")
DIGEST_BYTES = 8
NEWLINES = re.compile(rb"[^\n]*?(\n+)")


class Leaf(NamedTuple):
    """One leaf: its node's type, the types of its parent and the two above that, and its bytes' place."""

    type: str
    parents: tuple[str, str, str]
    start: int
    end: int


class Code(NamedTuple):
    """The tokens of a function, and a number that functions share whose code is the same.

    The number is of the leaves as they stand, without comments and what was left out.
    """

    tokens: tuple[str, ...]
    digest: int


Mend = Callable[[list[Leaf], bytes, set[int]], list[Leaf]]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeafRules:
    """How the leaves of one of today's grammars become the tokens of the records.

    ``whole`` are types of nodes that are one token with all that is in them. ``silent`` are leaves that are
    code but no token, as (type of the parent, type), or the type alone where the parent does not matter;
    ``layout`` are those that are neither, as white space is. In nodes of the types ``lists``, the newline
    after each child may be a token. ``mend`` does what no table can say, given the leaves, the source and
    where the children of those lists end.
    """

    whole: frozenset[str] = frozenset({"string"})
    silent: frozenset[str | tuple[str, str]] = frozenset()
    layout: frozenset[str | tuple[str, str]] = frozenset()
    lists: frozenset[str] = frozenset()
    mend: Mend | None = None


def mend_python(leaves: list[Leaf], source: bytes, ends: set[int]) -> list[Leaf]:
    """``**`` before keyword arguments as two stars: the grammar of 2019 had no such mark."""
    mended = []
    for leaf in leaves:
        if leaf.type == "**" and leaf.parents[0] in ("dictionary_splat", "dictionary_splat_pattern"):
            mended += [leaf._replace(end=leaf.start + 1), leaf._replace(start=leaf.start + 1)]
        else:
            mended.append(leaf)
    return mended


def mend_java(leaves: list[Leaf], source: bytes, ends: set[int]) -> list[Leaf]:
    """``<>`` as one token, characters as their two quotes, and no method's name in one kind of loop.

    The grammar of 2019 read ``'a'`` without a node for what is between the quotes, and lost the method's name
    where ``x.name()`` is the whole body of a ``for (... : ...)`` without braces.
    """
    mended: list[Leaf] = []
    for leaf in leaves:
        before = mended[-1] if mended else None
        if leaf.type == "character_literal":
            mended += [leaf._replace(end=leaf.start + 1), leaf._replace(start=leaf.end - 1)]
        elif leaf.type == ">" and before and before.type == "<" and leaf.parents == before.parents:
            mended[-1] = before._replace(end=leaf.end)
        elif not (leaf.type == "identifier" and is_sole_call(leaf, mended)):
            mended.append(leaf)
    return mended


def is_sole_call(leaf: Leaf, before: list[Leaf]) -> bool:
    """Whether a leaf is the ``name`` of a ``x.name()`` that is all that a ``for (... : ...)`` repeats."""
    loop = ("method_invocation", "expression_statement", "enhanced_for_statement")
    return (
        leaf.parents == loop
        and [other.type for other in before[-2:]] == ["identifier", "."]
        and all(other.parents == loop for other in before[-2:])
    )


def mend_go(leaves: list[Leaf], source: bytes, ends: set[int]) -> list[Leaf]:
    """With the newlines that end statements, fields and specifications, each run of them as one token."""
    mended = []
    due = False
    for leaf, following in zip(leaves, [*leaves[1:], None], strict=True):
        mended.append(leaf)
        due = due or leaf.end in ends
        if not due or following is None:
            continue
        newlines = NEWLINES.match(source, leaf.end, following.start)
        if newlines:
            mended.append(Leaf("\n", leaf.parents, *newlines.span(1)))
        due = newlines is None and following.type == "comment"  # it stands before the newline
    return mended


def mend_php(leaves: list[Leaf], source: bytes, ends: set[int]) -> list[Leaf]:
    """Heredocs with the white space before them, which the scanner of 2019 took with their beginning."""
    mended: list[Leaf] = []
    for leaf in leaves:
        if leaf.type in ("heredoc", "nowdoc") and mended:
            leaf = leaf._replace(start=mended[-1].end)
        mended.append(leaf)
    return mended


def mend_ruby(leaves: list[Leaf], source: bytes, ends: set[int]) -> list[Leaf]:
    """Without a ``*`` or ``&`` that touches what follows a name: it was read as one that begins arguments.

    After a bare name, ``a *b`` and ``a*b`` may be a call with arguments, whose marks had no node in 2019.
    """
    mended: list[Leaf] = []
    for leaf in leaves:
        is_mark = leaf.type in ("*", "&") and leaf.parents[0] == "binary"
        follows_name = bool(mended) and mended[-1].type in ("identifier", "constant")
        if not (is_mark and follows_name and not source[leaf.end : leaf.end + 1].isspace()):
            mended.append(leaf)
    return mended


RULES = {
    "go": LeafRules(
        whole=frozenset({"raw_string_literal"}),
        silent=frozenset({("interpreted_string_literal", "interpreted_string_literal_content")}),
        lists=frozenset(
            {
                "statement_list",
                "field_declaration_list",
                "interface_type",
                "const_declaration",
                "type_declaration",
                "var_declaration",
                "var_spec_list",
                "import_spec_list",
            }
        ),
        mend=mend_go,
    ),
    "java": LeafRules(whole=frozenset({"string_literal"}), mend=mend_java),
    "javascript": LeafRules(silent=frozenset({("template_string", "string_fragment")})),
    "php": LeafRules(
        whole=frozenset({"string", "encapsed_string", "heredoc", "nowdoc", "text_interpolation"}),
        mend=mend_php,
    ),
    "python": LeafRules(
        layout=frozenset({"line_continuation", ("block", ";"), ("module", ";")}), mend=mend_python
    ),
    "ruby": LeafRules(
        silent=frozenset(
            {
                ("regex", "string_content"),
                ("subshell", "string_content"),
                ("delimited_symbol", "string_content"),
                ("block_argument", "&"),
                ("splat_argument", "*"),
            }
        ),
        mend=mend_ruby,
    ),
    "typescript": LeafRules(silent=frozenset({("template_string", "string_fragment")})),
}
"""The languages whose code is tokenized, and how."""


def read_code(language: str, node: Node, source: bytes, left_out: tuple[int, int] | None = None) -> Code:
    """The tokens of a function, without the part from one byte to another that is ``left_out``.

    Args:
        language: one of ``RULES``.
        node: the function in a tree of ``source``.
        source: the text that was parsed, as UTF-8.
        left_out: the place of a docstring or of decorators; ``None`` leaves nothing out.
    """
    rules = RULES[language]
    leaves, ends = list_leaves(node, rules)
    if left_out is not None:
        leaves = [leaf for leaf in leaves if not left_out[0] <= leaf.start < left_out[1]]
    digest = digest_leaves(leaves, source)
    if rules.silent:
        leaves = [leaf for leaf in leaves if not is_among(rules.silent, leaf)]
    if rules.mend is not None:
        leaves = rules.mend(leaves, source, ends)
    texts = (source[leaf.start : leaf.end].decode("utf-8", "replace") for leaf in leaves)
    return Code(tuple(text for text in texts if text), digest)


def digest_leaves(leaves: Sequence[Leaf], source: bytes) -> int:
    """A number that lists of leaves share whose texts, but for comments, are the same."""
    texts = (source[leaf.start : leaf.end] for leaf in leaves if not leaf.type.endswith("comment"))
    return int.from_bytes(blake2b(b"\0".join(texts), digest_size=DIGEST_BYTES).digest())


def is_among(types: frozenset[str | tuple[str, str]], leaf: Leaf) -> bool:
    """Whether a leaf is of one of some types."""
    return leaf.type in types or (leaf.parents[0], leaf.type) in types


def list_leaves(node: Node, rules: LeafRules) -> tuple[list[Leaf], set[int]]:
    """The leaves under a node but for layout, in order, and the bytes where children of lists end."""
    leaves: list[Leaf] = []
    ends: set[int] = set()
    types = ["", "", ""]
    cursor = node.walk()
    while True:
        found = cursor.node
        assert found is not None  # a cursor that came from a node stands on one
        kind = found.type
        if types[-1] in rules.lists and found.is_named and kind != "comment":
            ends.add(found.end_byte)
        if kind not in rules.whole and cursor.goto_first_child():
            types.append(kind)
            continue
        if kind not in rules.layout and (types[-1], kind) not in rules.layout:
            leaves.append(Leaf(kind, (types[-1], types[-2], types[-3]), found.start_byte, found.end_byte))
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return leaves, ends
            types.pop()


def tokenize_docstring(text: str) -> tuple[str, ...]:
    """The words of a documentation and the runs of its punctuation; commas, quotes and backticks are none."""
    return tuple(match.group() for match in DOCSTRING_TOKEN.finditer(text))
