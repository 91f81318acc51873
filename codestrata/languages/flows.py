"""Which syntax nodes carry data flow, per language: the tables behind CodeBLEU's data-flow part.

What this does not do: follow the flow (``metrics.dataflow`` does), or improve on the published metric, whose
tables these are: JavaScript's ``x = 1`` and Go's ``x := 1`` carry no flow, and Ruby's ``while`` is no loop.
Mended is only what the authors' rules say and current grammars name otherwise: C#'s initial values and
``foreach``, and PHP's ``foreach`` over more than a plain variable.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Part = str | int
"""A child of a node: the field that it has, or its place among all children."""

SIDES: tuple[Part, Part] = ("left", "right")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The node types of a language that carry data flow, by what is done with them.

    ``assignments`` map a type to its target and its value, ``definitions`` to name and first value,
    ``named_loops`` to variable, sequence and body. ``increments`` depend on themselves. With ``pairwise``
    every name on the left depends on each name on the right by an edge of its own; the sides of types in
    ``split`` are taken part by part. Of the children of ``branches``, those in ``alternatives`` start from
    the state before the branch, and with ``alternatives_last`` all that follow the first of them too.
    ``counted_loops`` map a type to the type of the child after which the second turn begins, and to the field
    of that child that is walked first; ``loops`` are walked twice as they are. Children in ``first`` are
    walked before their siblings.
    """

    assignments: Mapping[str, tuple[Part, Part]]
    definitions: Mapping[str, tuple[Part, Part]]
    branches: frozenset[str]
    alternatives: frozenset[str]
    alternatives_last: bool = True
    increments: frozenset[str] = frozenset()
    named_loops: Mapping[str, tuple[Part, Part, Part]] = field(default_factory=dict)
    counted_loops: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    loops: frozenset[str] = frozenset()
    first: frozenset[str] = frozenset()
    pairwise: bool = True
    split: frozenset[str] = frozenset()


RULES = {
    "c_sharp": Rules(
        assignments={"assignment_expression": SIDES},
        definitions={"variable_declarator": (0, 2)},
        increments=frozenset({"postfix_unary_expression"}),
        branches=frozenset({"if_statement", "else"}),
        alternatives=frozenset({"if_statement", "else"}),
        named_loops={"foreach_statement": ("left", "right", "body")},
        counted_loops={"for_statement": ("variable_declaration", None)},
        loops=frozenset({"while_statement"}),
    ),
    "go": Rules(
        assignments={"assignment_statement": SIDES},
        definitions={"var_spec": ("name", "value")},
        increments=frozenset({"inc_statement"}),
        branches=frozenset({"if_statement", "else"}),
        alternatives=frozenset({"if_statement", "else"}),
        counted_loops={"for_statement": ("for_clause", "update")},
    ),
    "java": Rules(
        assignments={"assignment_expression": SIDES},
        definitions={"variable_declarator": ("name", "value")},
        increments=frozenset({"update_expression"}),
        branches=frozenset({"if_statement", "else"}),
        alternatives=frozenset({"if_statement", "else"}),
        named_loops={"enhanced_for_statement": ("name", "value", "body")},
        counted_loops={"for_statement": ("local_variable_declaration", None)},
        loops=frozenset({"while_statement"}),
    ),
    "javascript": Rules(
        assignments={"assignment_pattern": SIDES, "augmented_assignment_expression": SIDES},
        definitions={"variable_declarator": ("name", "value")},
        increments=frozenset({"update_expression"}),
        branches=frozenset({"if_statement", "else"}),
        alternatives=frozenset({"if_statement", "else"}),
        counted_loops={"for_statement": ("variable_declaration", None)},
        loops=frozenset({"while_statement"}),
    ),
    "php": Rules(
        assignments={"assignment_expression": SIDES, "augmented_assignment_expression": SIDES},
        definitions={"simple_parameter": ("name", "default_value")},
        increments=frozenset({"update_expression"}),
        branches=frozenset({"if_statement", "else_clause"}),
        alternatives=frozenset({"if_statement", "else_clause"}),
        named_loops={"foreach_statement": (4, 2, "body")},
        counted_loops={"for_statement": ("assignment_expression", None)},
        loops=frozenset({"while_statement"}),
    ),
    "python": Rules(
        assignments={"assignment": SIDES, "augmented_assignment": SIDES, "for_in_clause": ("left", -1)},
        definitions={"default_parameter": ("name", "value")},
        branches=frozenset({"if_statement"}),
        alternatives=frozenset({"elif_clause", "else_clause"}),
        alternatives_last=False,
        named_loops={"for_statement": ("left", "right", "body")},
        loops=frozenset({"while_statement"}),
        first=frozenset({"for_in_clause"}),
        pairwise=False,
        split=frozenset({"assignment", "augmented_assignment", "for_statement"}),
    ),
    "ruby": Rules(
        assignments={"assignment": SIDES, "operator_assignment": SIDES},
        definitions={"keyword_parameter": ("name", "value")},
        branches=frozenset({"if", "elsif", "else", "unless", "when"}),
        alternatives=frozenset({"if", "elsif", "else", "unless", "when"}),
        alternatives_last=False,
        named_loops={"for": ("pattern", "value", "body")},
        loops=frozenset({"while_modifier", "until"}),
        pairwise=False,
        split=frozenset({"assignment"}),
    ),
}
"""The languages whose data flow can be followed."""
