"""Where the grammars of tree-sitter have functions, the classes around them and the names they are given.

What this does not do: read a tree (``definitions`` does), or know tokens and comments.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from tree_sitter import Language, Query

from codestrata.languages.parsing import load_entry, load_grammar

VALUES = "[(function_expression) (generator_function) (arrow_function)]"
"""JavaScript's functions that have their names, if any, from where they are put."""

WRAPPER = re.compile(
    rb"(?:(?:[A-Z_$][\w$]*|lodash)\s*\.\s*)?"
    rb"(?!set(?:Immediate|Interval|Timeout)\Z|request(?:AnimationFrame|IdleCallback)\Z)[\w$]+"
)
"""What gives a function for a function, ``memo`` or ``React.memo``; ``users.map`` gives something else."""

PUT = f"""[
    (function_expression) @value
    (generator_function) @value
    (arrow_function) @value
    (call_expression function: (_) @wrapper arguments: (arguments . {VALUES} @value))
    (call_expression function: (_) @wrapper arguments: (arguments .
        (call_expression function: (_) @wrapper arguments: (arguments . {VALUES} @value))))
]"""
"""One of these functions where it is put, alone or as the first argument of what may be a ``WRAPPER``."""

ECMASCRIPT = f"""
    (function_declaration) @function
    (generator_function_declaration) @function
    (method_definition) @function
    {VALUES} @function
    (variable_declarator name: (identifier) @name value: {PUT}) @holder
    (assignment_expression left: (_) @name right: {PUT}) @holder
    (assignment_expression right: (assignment_expression right: {VALUES} @value)) @holder
    (variable_declarator value: (assignment_expression right: {VALUES} @value)) @holder
    (pair key: (_) @name value: {PUT}) @holder
    (variable_declarator name: (identifier) @name value: (class) @value)
    (class_declaration) @class
    (class) @class
    (comment) @comment
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a language's trees are asked for, and what its node types mean.

    The query names ``function``, ``class`` (what qualifies the names in it), ``comment``, ``before`` (what
    may stand between a function and its comment: decorators, and signatures of the same name), and, together,
    ``value``, ``holder`` and ``name``: a function without a name of its own, what it is put into, and what
    that is called; ``wrapper`` is what is called with it there. ``frames`` are texts around a fragment that
    make of it what may stand in a file. ``constructors`` are names of methods, ``constructor_types`` types of
    nodes; what is directly in one of ``class_types`` is a method, and so are ``method_types`` wherever they
    are. ``prefix`` matches the words before a function that belong to it.
    """

    query: str
    frames: tuple[tuple[str, str], ...] = ()
    constructors: frozenset[str] = frozenset()
    constructor_types: frozenset[str] = frozenset()
    method_types: frozenset[str] = frozenset()
    class_types: frozenset[str] = frozenset()
    prefix: bytes | None = None


CLASS_FRAME = ("class Methods { ", "\n}")
VALUE_FRAME = ("( ", "\n)")

RULES = {
    "go": Rules(
        query="""
            (function_declaration body: (_)) @function
            (method_declaration body: (_)) @function
            (comment) @comment
        """,
        method_types=frozenset({"method_declaration"}),
    ),
    "java": Rules(
        query="""
            (method_declaration body: (_)) @function
            (constructor_declaration) @function
            (compact_constructor_declaration) @function
            (class_declaration) @class
            (interface_declaration) @class
            (enum_declaration) @class
            (record_declaration) @class
            (annotation_type_declaration) @class
            (line_comment) @comment
            (block_comment) @comment
        """,
        frames=(CLASS_FRAME,),
        constructor_types=frozenset({"constructor_declaration", "compact_constructor_declaration"}),
        method_types=frozenset({"method_declaration"}),
    ),
    "javascript": Rules(
        query=ECMASCRIPT
        + f"""
            (field_definition property: (_) @name value: {PUT}) @holder
        """,
        frames=(VALUE_FRAME, CLASS_FRAME),
        constructors=frozenset({"constructor"}),
        method_types=frozenset({"method_definition"}),
        class_types=frozenset({"class", "class_declaration", "abstract_class_declaration"}),
        prefix=rb"(?:export\s+)?(?:default\s+)?(?:(?:const|let|var)\s+)?",
    ),
    "php": Rules(
        query="""
            (function_definition) @function
            (method_declaration body: (_)) @function
            (class_declaration) @class
            (interface_declaration) @class
            (trait_declaration) @class
            (enum_declaration) @class
            (comment) @comment
        """,
        frames=(("<?php class Methods { ", "\n}"),),
        constructors=frozenset({"__construct"}),
        method_types=frozenset({"method_declaration"}),
    ),
    "python": Rules(
        query="""
            (function_definition) @function
            (class_definition) @class
        """,
        constructors=frozenset({"__init__", "__new__"}),
        class_types=frozenset({"class_definition"}),
    ),
    "ruby": Rules(
        query="""
            (method) @function
            (singleton_method) @function
            (class) @class
            (module) @class
            (comment) @comment
        """,
        constructors=frozenset({"initialize"}),
        method_types=frozenset({"singleton_method"}),
        class_types=frozenset({"class", "module"}),
        prefix=rb"(?:[a-z_]\w*[ \t]+)*",
    ),
    "typescript": Rules(
        query=ECMASCRIPT
        + f"""
            (public_field_definition name: (_) @name value: {PUT}) @holder
            (abstract_class_declaration) @class
            (internal_module) @class
            (decorator) @before
            (function_signature) @before
            (method_signature) @before
        """,
        frames=(VALUE_FRAME, CLASS_FRAME),
        constructors=frozenset({"constructor"}),
        method_types=frozenset({"method_definition"}),
        class_types=frozenset({"class", "class_declaration", "abstract_class_declaration"}),
        prefix=rb"(?:export\s+)?(?:default\s+)?(?:declare\s+)?(?:(?:const|let|var)\s+)?",
    ),
}
"""The languages that can be mined, and where their functions are."""


@lru_cache
def load_mining_grammar(language: str, *, with_markup: bool = False) -> Language:
    """The grammar for whole files of a language; with markup, for TypeScript with elements of JSX."""
    if with_markup:
        return load_entry("tree_sitter_typescript", "language_tsx")
    return load_grammar(language, as_file=True)


@lru_cache
def load_query(language: str, *, with_markup: bool = False) -> Query:
    """The query for the functions of a language, built once."""
    return Query(load_mining_grammar(language, with_markup=with_markup), RULES[language].query)
