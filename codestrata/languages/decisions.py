"""Which syntax nodes decide where a program goes on, per language: the table behind cyclomatic complexity.

Counted are branches (``if``, ``elif``, conditional expressions, modifiers such as Ruby's ``x if y``), loops,
labels of ``case`` but not ``default`` or a bare ``_``, their guards, handlers of exceptions, the operators
``&&``, ``||``, ``and`` and ``or``, and in Python each ``for`` and ``if`` of a comprehension. Not counted:
``else``, ``finally``, ``assert``, ``??``, ``?.``, jumps, and calls that take functions (Ruby's ``each``).

What this does not do: count (``metrics.code`` does).
"""

from dataclasses import dataclass

SHORT_CIRCUITS = frozenset({"&&", "||", "and", "or"})


@dataclass(frozen=True, slots=True)
class Decisions:
    """Node types of a language: ``nodes`` are one decision each, ``labels`` too unless they are a default.

    ``operations`` are the types whose short-circuit operators count.
    """

    nodes: frozenset[str]
    labels: frozenset[str]
    operations: frozenset[str]


def list_types(*names: str) -> frozenset[str]:
    """The names that stand between the spaces."""
    return frozenset(" ".join(names).split())


SCRIPT = Decisions(
    list_types(
        "if_statement ternary_expression for_statement for_in_statement while_statement do_statement",
        "catch_clause",
    ),
    list_types("switch_case"),
    list_types("binary_expression"),
)

DECISIONS: dict[str, Decisions] = {
    "c_sharp": Decisions(
        list_types(
            "if_statement conditional_expression for_statement foreach_statement while_statement",
            "do_statement catch_clause when_clause",
        ),
        list_types("switch_section switch_expression_arm"),
        list_types("binary_expression"),
    ),
    "go": Decisions(
        list_types("if_statement for_statement"),
        list_types("expression_case type_case communication_case"),
        list_types("binary_expression"),
    ),
    "java": Decisions(
        list_types(
            "if_statement ternary_expression for_statement enhanced_for_statement while_statement",
            "do_statement catch_clause guard",
        ),
        list_types("switch_label"),
        list_types("binary_expression"),
    ),
    "javascript": SCRIPT,
    "lua": Decisions(
        list_types("if_statement elseif_statement for_statement while_statement repeat_statement"),
        frozenset(),
        list_types("binary_expression"),
    ),
    "php": Decisions(
        list_types(
            "if_statement else_if_clause conditional_expression for_statement foreach_statement",
            "while_statement do_statement catch_clause",
        ),
        list_types("case_statement match_conditional_expression"),
        list_types("binary_expression"),
    ),
    "python": Decisions(
        list_types(
            "if_statement elif_clause conditional_expression for_statement while_statement except_clause",
            "for_in_clause if_clause",
        ),
        list_types("case_clause"),
        list_types("boolean_operator"),
    ),
    "ruby": Decisions(
        list_types(
            "if elsif unless if_modifier unless_modifier conditional while until while_modifier",
            "until_modifier for rescue rescue_modifier if_guard unless_guard",
        ),
        list_types("when in_clause"),
        list_types("binary"),
    ),
    "typescript": SCRIPT,
}
