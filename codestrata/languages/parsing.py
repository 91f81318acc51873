"""Syntax trees of nine languages, by tree-sitter.

What this does not do: replace the compiler. tree-sitter reads more than the languages allow: Python 2's
``print x``, a Python ``def`` without a body, a JavaScript ``return`` outside a function and two ``let`` of
one name all count as valid. Nor does it bound the time of a parse unless asked to, and then loosely: Lua's
grammar needs half a minute for 100 kB that are one long error, Java's 9 s for 40 kB of ``a<b<a<b<``.
"""

import importlib
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

from tree_sitter import Language, Parser, Tree

from codestrata.errors import SettingsError, SlowParseError, describe_unknown

PIECE_BYTES = 2**16
"""A parse with a time limit is given the text in pieces of this size."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """Where a grammar lies: a Python package and its function that gives it, and one for whole files.

    ``file_entry`` reads files that mix the language with other text; where it is ``None`` files and snippets
    are read alike.
    """

    module: str
    entry: str = "language"
    file_entry: str | None = None


GRAMMARS = {
    "c_sharp": Grammar("tree_sitter_c_sharp"),
    "go": Grammar("tree_sitter_go"),
    "java": Grammar("tree_sitter_java"),
    "javascript": Grammar("tree_sitter_javascript"),
    "lua": Grammar("tree_sitter_lua"),
    "php": Grammar("tree_sitter_php", "language_php_only", "language_php"),
    "python": Grammar("tree_sitter_python"),
    "ruby": Grammar("tree_sitter_ruby"),
    "typescript": Grammar("tree_sitter_typescript", "language_typescript"),
}

METHODS = {
    "c_sharp": {"method_declaration", "constructor_declaration", "operator_declaration"},
    "java": {"method_declaration", "constructor_declaration"},
    "javascript": {"method_definition"},
    "php": {"method_declaration"},
    "typescript": {"method_definition"},
}
"""Languages whose functions may be cut out of a class, and what the grammar calls them there."""

MAY_STAND_BY_METHODS = {"comment", "line_comment", "block_comment", "decorator"}


def list_languages() -> list[str]:
    """The languages that have a parser, sorted."""
    return sorted(GRAMMARS)


def parse(language: str, code: str, *, most_seconds: float | None = None) -> Tree:
    """The syntax tree of ``code``; every text has one, with error nodes where it is not valid.

    Node positions count bytes of the UTF-8 text. PHP that begins with ``<`` is read as a file with tags,
    other PHP as bare code.

    Raises:
        SettingsError: there is no parser for the language.
        SlowParseError: the parse takes longer than ``most_seconds``.
    """
    as_file = code.lstrip().startswith("<")
    parser = Parser(load_grammar(language, as_file=as_file))
    # A lone surrogate has no UTF-8 form and is legal in no language's files.
    content = code.encode("utf-8", "replace")
    return parser.parse(content) if most_seconds is None else parse_in_time(parser, content, most_seconds)


def parse_in_time(parser: Parser, content: bytes, most_seconds: float) -> Tree:
    """As ``Parser.parse``, but given up once the time is over, which is looked at many times a second.

    The time is the processor's, so that other work on the machine decides nothing.

    Raises: SlowParseError: it is over.
    """
    end = time.thread_time() + most_seconds

    def read(start: int, _point: object) -> bytes:
        return content[start : start + PIECE_BYTES]

    def is_over(_offset: int, _has_error: bool) -> bool:
        return time.thread_time() > end

    try:
        tree = parser.parse(read, encoding="utf8", progress_callback=is_over)
    except ValueError:  # what the binding makes of a parse that was given up
        tree = None
    if tree is None:
        raise SlowParseError(f"its syntax tree takes longer than {most_seconds:g} s")
    return tree


def is_valid(language: str, code: str) -> bool:
    """Whether ``code`` is not blank and its tree has neither errors nor missing nodes.

    Code of a language in ``METHODS`` may also be bare methods (``name(a) { ... }``), as CodeSearchNet cuts
    them out of classes.

    Raises: SettingsError: there is no parser for the language.
    """
    tree = parse(language, code)
    if not code.strip():
        return False
    if not tree.root_node.has_error:
        return True
    return language in METHODS and is_method_list(language, code)


def is_method_list(language: str, code: str) -> bool:
    """Whether ``code`` is what may stand between a class's braces, methods only."""
    root = parse(language, f"class Methods {{\n{code}\n}}").root_node
    # Exactly one class: `} class Other {` would close ours and open another.
    if root.has_error or [child.type for child in root.named_children] != ["class_declaration"]:
        return False
    body = root.named_children[0].child_by_field_name("body")
    assert body is not None  # the grammars give every class declaration a body
    kinds = {child.type for child in body.named_children}
    return bool(kinds & METHODS[language]) and kinds <= METHODS[language] | MAY_STAND_BY_METHODS


def describe_parser(language: str) -> str:
    """The grammar and its version, such as ``tree-sitter-python 0.25.0``.

    Raises: SettingsError: there is no parser for the language.
    """
    package = find_grammar(language).module.replace("_", "-")
    return f"{package} {version(package)}"


def load_grammar(language: str, *, as_file: bool = False) -> Language:
    """The grammar of a language, loaded once; with ``as_file`` the one for whole files.

    Raises: SettingsError: there is no parser for the language.
    """
    grammar = find_grammar(language)
    return load_entry(grammar.module, (grammar.file_entry if as_file else None) or grammar.entry)


@lru_cache
def load_entry(module: str, entry: str) -> Language:
    """The grammar that a package's function gives, loaded once."""
    return Language(getattr(importlib.import_module(module), entry)())


def find_grammar(language: str) -> Grammar:
    """Where a language's grammar lies.

    Raises: SettingsError: there is no parser for the language.
    """
    if language not in GRAMMARS:
        raise SettingsError(describe_unknown("language", language, GRAMMARS))
    return GRAMMARS[language]
