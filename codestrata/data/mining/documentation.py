"""A function's documentation as CodeSearchNet records it: docstrings, cleaned comments, first paragraphs.

Go keeps its comments as they stand. Elsewhere a comment loses its marks and what frames its lines; the
records have lost all white space that begins lines too (but for Ruby's), here what indents a line among the
others is kept. ``//`` and ``#`` in lines directly one below the other are one comment, joined by newlines
(the records join JavaScript's by spaces).

What this does not do: find the comments of a function (``comments`` does), or read tags such as ``@param``.
"""

import re
from collections.abc import Sequence

LITERAL = re.compile(r"""(?P<prefix>[A-Za-z]*)(?P<quote>\"{3}|'{3}|"|')(?P<text>.*)(?P=quote)\Z""", re.DOTALL)
NO_DOCSTRING_PREFIXES = frozenset("bft")
EMPTY_LINE = "\n\n"
RUBY_BLOCK = re.compile(r"\A=begin\b[^\n]*|^=end\b[^\n]*", re.MULTILINE)

BLOCK_LISTS = r"""
    /\*\s*(globals?|exported)\s+[\w$]+(\s*:\s*\w+)?(\s*,\s*[\w$]+(\s*:\s*\w+)?)*\s*\*/
"""
ECMASCRIPT = rf"""
    {BLOCK_LISTS} | //[/\s]*<(reference|amd-)\s | //[#@]\s*source(Mapping)?URL= | /[/*]+\s*(
    [@#]__\w+__ | [cv]8\s+ignore | eslint(-|\s|:|\*|$) | istanbul\s+ignore | js(cs|hint|lint)\b[\s:] | tslint:
    | (prettier|biome|oxlint|deno)-(ignore|disable|lint|fmt) | webpack\w+: | @vite-ignore | \$Flow\w+
    | @ts-(ignore|expect-error|nocheck|check)\b | @(no)?flow\b | @jsx(\w+)?\s+\w+\s*(\*/)?$ | @format\s*\*/
    )
"""
ANYWHERE = r"[/*\#\s]*((-\*-.*-\*-|vim?:\s.*:)\s*$ | \#(end)?region\b)"
DIRECTIVES = {
    language: re.compile(rf"({pattern}) | {ANYWHERE}", re.VERBOSE)
    for language, pattern in {
        "go": r"//(go:\w|\s*nolint\b|\s*\+build\s|export\s+\w+\s*$|\s*lint:\w|line\s+\S*:\d+\s*$)",
        "java": r"/[/*]+\s*(NOSONAR|NOPMD|noinspection\s|CHECKSTYLE[:.\s]|@formatter:|spotless:|\$NON-NLS"
        r"|</?editor-fold)",
        "javascript": ECMASCRIPT,
        "php": r"(/[/*]+|\#)\s*(@?codingStandards\w+|@?phpcs:|@?phpstan-ignore|@?psalm-suppress"
        r"|@codeCoverageIgnore|@?noinspection\s|NOSONAR|@formatter:)",
        "ruby": r"\#\s*(rubocop:|frozen_string_literal:|(en)?coding[:=]\s*[\w-]+\s*$|typed:\s*\w+\s*$|!/"
        r"|warn_indent:|:(nodoc|nocov|startdoc|stopdoc|enddoc):|steep:ignore|standard:(dis|en)able|reek:)",
        "typescript": ECMASCRIPT,
    }.items()
}
"""How a comment of a language begins that speaks to a tool, its marks included."""

SEPARATOR = re.compile(r"[\s/*#=~_+.<>|-]*")
LEGAL = re.compile(
    r"copyright\s*(\(c\)|©|&copy;|\d{4}|:|by\b)|\(c\)\s*\d{4}|SPDX-License-Identifier|licensed\s+(under|to)\b"
    r"|all\s+rights\s+reserved|permission\s+is\s+hereby\s+granted|redistribution\s+and\s+use"
    r"|released\s+under\s+the|@license\b|@copyright\b",
    re.IGNORECASE,
)
OF_A_FILE = re.compile(r"@(file|fileoverview|fileOverview|overview|packageDocumentation)\b")
OF_A_FUNCTION = re.compile(r"@(params?|returns?|throws?)\b")


def read_docstring(literals: Sequence[str]) -> str:
    """What Python string literals in a row document, as they stand: neither unescaped nor dedented.

    Bytes, f-strings and t-strings document nothing. The records keep the prefix and the opening quotes of
    ``r`` and ``u`` strings, and lose quotes at both ends of the text; here it is the other way round.
    """
    texts = []
    for literal in literals:
        match = LITERAL.match(literal)
        if match is None or NO_DOCSTRING_PREFIXES & set(match["prefix"].lower()):
            return ""
        texts.append(match["text"])
    return "".join(texts).strip()


def clean_comments(language: str, comments: Sequence[str]) -> str:
    """The text of comments that belong together, without their marks; Go's as they stand."""
    if language == "go":
        return "\n".join(comment.rstrip() for comment in comments).strip()
    if comments[0].startswith("/*"):
        return clean_block(comments[0])
    if comments[0].startswith("=begin"):
        return clean_ruby_block(comments[0])
    return clean_lines(comments)


def clean_block(comment: str) -> str:
    """The text of a ``/* ... */`` comment without what frames its lines.

    Where most lines after the first begin with a star, the stars do; elsewhere they are text, as in a list.
    The white space that all those lines have in common goes too.
    """
    inner = comment[2:].lstrip("*").removeprefix("!")
    inner = inner.removesuffix("/").rstrip("*") if inner.endswith("*/") else inner.removesuffix("/")
    first, *others = inner.split("\n")
    stars = [line.lstrip().startswith("*") for line in others if line.strip()]
    if 2 * sum(stars) > len(stars):
        others = [line.lstrip().removeprefix("*") for line in others]
    return "\n".join([first.strip(), *dedent(others)]).strip()


def clean_lines(comments: Sequence[str]) -> str:
    """The text of ``//`` and ``#`` comments; their marks go, and a space after them where all have one."""
    return "\n".join(dedent([line.lstrip(line[:1]) for line in comments], most=1)).strip()


def dedent(lines: Sequence[str], most: int | None = None) -> list[str]:
    """Lines without the white space they all begin with, up to a number of characters.

    Lines with text lose the white space at their end too; of empty ones, what is left of theirs stays.
    """
    texts = [line.rstrip() if line.strip() else line.rstrip("\r") for line in lines]
    indent = min((len(text) - len(text.lstrip()) for text in texts if text.strip()), default=0)
    return [text[indent if most is None else min(indent, most) :] for text in texts]


def clean_ruby_block(comment: str) -> str:
    """The text of a ``=begin ... =end`` comment."""
    return "\n".join(line.rstrip() for line in RUBY_BLOCK.sub("", comment).split("\n")).strip()


def is_directive(language: str, comment: str) -> bool:
    """Whether a comment, marks included, speaks to a tool, or is a line of marks to look at."""
    directive = DIRECTIVES.get(language)
    return bool(directive and directive.match(comment)) or SEPARATOR.fullmatch(comment) is not None


def is_header(text: str) -> bool:
    """Whether what begins a file is about the file: a licence, a copyright, or an overview by a tag."""
    return bool(OF_A_FILE.search(text)) or bool(LEGAL.search(text) and not OF_A_FUNCTION.search(text))


def cut_summary(docstring: str) -> str:
    """The first paragraph, up to an empty line; without an empty line, what comes before the first ``@``.

    Source: CodeSearchNet's published rule for ``docstring_tokens``.
    """
    first, empty_line, _ = docstring.partition(EMPTY_LINE)
    return first if empty_line else docstring.partition("@")[0]


def build_summary(language: str, docstring: str) -> str:
    """The first paragraph in one line without comment marks; a line of white space is an empty line here."""
    text = clean_go(docstring) if language == "go" else docstring
    return " ".join(cut_summary(re.sub(r"\n\s*\n", EMPTY_LINE, text)).split())


def clean_go(docstring: str) -> str:
    """The text of Go's comments as they stand: lines without ``//`` and blocks without ``/*`` and ``*/``."""
    if docstring.startswith("/*"):
        return clean_block(docstring)
    return clean_lines(docstring.split("\n"))
