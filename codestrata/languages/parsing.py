"""Syntax trees of Python, JavaScript and Lua, by tree-sitter.

What this does not do: replace the compiler. tree-sitter reads more than the languages allow: Python 2's
``print x``, a Python ``def`` without a body, a JavaScript ``return`` outside a function and two ``let`` of
one name all count as valid.
"""

import importlib
from functools import lru_cache
from importlib.metadata import version

from tree_sitter import Language, Parser, Tree

from codestrata.errors import SettingsError, describe_unknown

GRAMMARS = {
    "javascript": "tree_sitter_javascript",
    "lua": "tree_sitter_lua",
    "python": "tree_sitter_python",
}


def list_languages() -> list[str]:
    """The languages that have a parser, sorted."""
    return sorted(GRAMMARS)


def parse(language: str, code: str) -> Tree:
    """The syntax tree of ``code``; every text has one, with error nodes where it is not valid.

    Node positions count bytes of the UTF-8 text.

    Raises: SettingsError: there is no parser for the language.
    """
    # A lone surrogate has no UTF-8 form and is legal in none of the three languages' files.
    return Parser(load_grammar(language)).parse(code.encode("utf-8", "replace"))


def is_valid(language: str, code: str) -> bool:
    """Whether ``code`` is not blank and its tree has neither errors nor missing nodes.

    JavaScript may also be bare methods (``name(a) { ... }``), as CodeSearchNet cuts them out of classes.

    Raises: SettingsError: there is no parser for the language.
    """
    tree = parse(language, code)
    if not code.strip():
        return False
    if not tree.root_node.has_error:
        return True
    return language == "javascript" and is_method_list(code)


def is_method_list(code: str) -> bool:
    """Whether JavaScript ``code`` is what may stand between a class's braces, methods only."""
    root = parse("javascript", f"class Methods {{\n{code}\n}}").root_node
    # Exactly one class: `} class Other {` would close ours and open another.
    if root.has_error or [child.type for child in root.named_children] != ["class_declaration"]:
        return False
    body = root.named_children[0].child_by_field_name("body")
    assert body is not None  # the grammar gives every class declaration a body
    kinds = {child.type for child in body.named_children}
    return "method_definition" in kinds and kinds <= {"method_definition", "comment"}


def describe_parser(language: str) -> str:
    """The grammar and its version, such as ``tree-sitter-python 0.25.0``.

    Raises: SettingsError: there is no parser for the language.
    """
    package = find_grammar(language).replace("_", "-")
    return f"{package} {version(package)}"


@lru_cache
def load_grammar(language: str) -> Language:
    """The grammar of a language, loaded once.

    Raises: SettingsError: there is no parser for the language.
    """
    return Language(importlib.import_module(find_grammar(language)).language())


def find_grammar(language: str) -> str:
    """The name of the Python module that holds a language's grammar.

    Raises: SettingsError: there is no parser for the language.
    """
    if language not in GRAMMARS:
        raise SettingsError(describe_unknown("language", language, GRAMMARS))
    return GRAMMARS[language]
