"""Kata programs as source code: Python, JavaScript, Lua, and the pivot that only the base model learns.

Every printer lays out the same function ``f``: the operations' spellings come from ``operations``, the layout
(headers, nesting, ends of blocks) from one ``Dialect`` per language.

What this does not do: decide what a program means (``programs.interpret`` does; a test runs the two against
each other).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codestrata.data.kata.operations import ElementKind, Spelling
from codestrata.data.kata.programs import Call, Program, Step

VARIABLES: Mapping[ElementKind, str] = {"number": "x", "character": "c", "word": "w"}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The layout of one language; ``{}`` stands for what is filled in."""

    language: str
    head: str
    tail: str | None
    indent: str
    loops: Mapping[ElementKind, str]
    keep: str
    stop: str
    assign: str
    measure: str
    start: str
    memory: str
    give: str
    close: str | None
    literals: Mapping[Any, str]
    empty_list: str = "[]"


DIALECTS: Mapping[str, Dialect] = {
    "python": Dialect(
        language="python",
        head="def f({}):",
        tail=None,
        indent="    ",
        loops={"number": "for x in xs:", "character": "for c in s:", "word": "for w in s.split():"},
        keep="if {}:",
        stop="if {}:\n    break",
        assign="{} = {}",
        measure="x = len(w)",
        start="r = {}",
        memory="d = {}",
        give="return {}",
        close=None,
        literals={None: "None", True: "True", False: "False"},
    ),
    "javascript": Dialect(
        language="javascript",
        head="function f({}) {{",
        tail="}",
        indent="  ",
        loops={
            "number": "for (let x of xs) {",
            "character": "for (let c of s) {",
            "word": "for (let w of s.match(/\\S+/g) || []) {",
        },
        keep="if ({}) {{",
        stop="if ({}) {{\n  break;\n}}",
        assign="{} = {};",
        measure="let x = w.length;",
        start="let r = {};",
        memory="let d = {};",
        give="return {};",
        close="}",
        literals={None: "null", True: "true", False: "false"},
    ),
    "lua": Dialect(
        language="lua",
        head="function f({})",
        tail="end",
        indent="  ",
        loops={
            "number": "for _, x in ipairs(xs) do",
            "character": 'for c in s:gmatch(".") do',
            "word": 'for w in s:gmatch("%S+") do',
        },
        keep="if {} then",
        stop="if {} then\n  break\nend",
        assign="{} = {}",
        measure="local x = #w",
        start="local r = {}",
        memory="local d = {}",
        give="return {}",
        close="end",
        literals={None: "nil", True: "true", False: "false"},
        empty_list="{}",
    ),
    "pivot": Dialect(
        language="pivot",
        head="given {}",
        tail="done",
        indent=" ",
        loops={"number": "each x of xs", "character": "each c of s", "word": "each w of s words"},
        keep="when {}",
        stop="until {}",
        assign="{} becomes {}",
        measure="x size w",
        start="r starts {}",
        memory="d starts empty",
        give="give {}",
        close="next",
        literals={None: "nothing", True: "yes", False: "no"},
        empty_list="empty",
    ),
}


def print_program(program: Program, language: str) -> str:
    """The program as ``python``, ``javascript``, ``lua`` or ``pivot`` source, without a final newline."""
    dialect = DIALECTS[language]
    lines = [dialect.head.format(program.source)]
    inside = dialect.indent
    if program.arrangement is not None:
        lines += indent(spell_call(program.arrangement, dialect), inside)
    if not program.result.leaves:
        lines.append(inside + dialect.start.format(write_literal(program.result.start, dialect)))
    if program.result.needs is not None:
        lines.append(inside + dialect.memory)
    lines.append(inside + dialect.loops[program.element])
    lines += print_loop(program, dialect)
    if dialect.close is not None:
        lines.append(inside + dialect.close)
    lines.append(inside + print_return(program, dialect))
    if dialect.tail is not None:
        lines.append(dialect.tail)
    return "\n".join(lines)


def print_loop(program: Program, dialect: Dialect) -> list[str]:
    """The loop's body: steps nest as they keep, the result's update stands innermost."""
    depth, variable = 2, VARIABLES[program.element]
    lines: list[str] = []
    for step in program.steps:
        pad = dialect.indent * depth
        if step.verb == "measure":
            lines.append(pad + dialect.measure)
            variable = "x"
        elif step.verb == "keep":
            lines.append(pad + dialect.keep.format(spell_test(step, dialect)))
            depth += 1
        elif step.verb == "stop":
            lines += indent(dialect.stop.format(spell_test(step, dialect)), pad)
        else:
            lines += print_change(step, variable, dialect, depth)
    spelling = spell(program.result.body, dialect)
    lines += indent(spelling.format(e=variable), dialect.indent * depth)
    return lines + close_blocks(dialect, depth, until=2)


def print_change(step: Step, variable: str, dialect: Dialect, depth: int) -> list[str]:
    """An assignment to the element, inside a condition where the step has a test."""
    assert step.change is not None
    assignment = dialect.assign.format(variable, spell_call(step.change, dialect))
    if step.test is None:
        return [dialect.indent * depth + assignment]
    condition = dialect.indent * depth + dialect.keep.format(spell_test(step, dialect))
    return [
        condition,
        dialect.indent * (depth + 1) + assignment,
        *close_blocks(dialect, depth + 1, until=depth),
    ]


def print_return(program: Program, dialect: Dialect) -> str:
    """The last statement: the result finished, or what an early exit leaves when it never came."""
    if program.finish is not None:
        return spell_call(program.finish, dialect)
    if program.result.leaves:
        return dialect.give.format(write_literal(program.result.start, dialect))
    return dialect.give.format("r")


def close_blocks(dialect: Dialect, depth: int, *, until: int) -> list[str]:
    """The ends of the blocks opened between two depths, innermost first; none where indentation says it."""
    if dialect.close is None:
        return []
    return [dialect.indent * level + dialect.close for level in range(depth - 1, until - 1, -1)]


def spell(spelling: Spelling, dialect: Dialect) -> str:
    """The spelling in the dialect's language."""
    return str(getattr(spelling, dialect.language))


def spell_call(call: Call, dialect: Dialect) -> str:
    """An operation with its constant filled in."""
    return spell(call.operation.spelling, dialect).format(k=call.constant)


def spell_test(step: Step, dialect: Dialect) -> str:
    """The condition of a step."""
    assert step.test is not None
    return spell_call(step.test, dialect)


def indent(text: str, pad: str) -> list[str]:
    """The lines of a text, each moved right."""
    return [pad + line for line in text.split("\n")]


def write_literal(value: Any, dialect: Dialect) -> str:
    """A value that the program starts from."""
    if value is None or isinstance(value, bool):
        return dialect.literals[value]
    if isinstance(value, list):
        return dialect.empty_list
    return json.dumps(value)


def print_value(value: Any, language: str) -> str:
    """A test's argument or expected value as a literal of Python, JavaScript or Lua."""
    if value is None or isinstance(value, bool):
        return DIALECTS[language].literals[value]
    if isinstance(value, list):
        opening, closing = ("{", "}") if language == "lua" else ("[", "]")
        return opening + ", ".join(print_value(item, language) for item in value) + closing
    return json.dumps(value)


def print_tests(cases: Sequence[tuple[Any, Any]], language: str) -> str:
    """Source code that raises unless ``f`` maps every argument to its expected value."""
    if language == "python":
        return "\n".join(f"assert f({argument!r}) {ask_python(expected)}" for argument, expected in cases)
    return TEST_HELPERS[language] + "\n".join(
        f"check(f({print_value(argument, language)}), {print_value(expected, language)})"
        for argument, expected in cases
    )


def ask_python(expected: Any) -> str:
    """How Python compares with the value: ``is`` for ``None`` and flags, because 1 equals ``True``."""
    return f"{'is' if expected is None or isinstance(expected, bool) else '=='} {expected!r}"


TEST_HELPERS: Mapping[str, str] = {
    "javascript": (
        "function show(value) {\n"  # JSON alone would write NaN and Infinity as null
        '  return JSON.stringify(value, (_, x) => typeof x === "number" && !isFinite(x) ? `${x}` : x);\n'
        "}\n"
        "function check(found, expected) {\n"
        "  if (found === undefined || show(found) !== show(expected)) {\n"
        '    throw new Error(show(found) + " is not " + show(expected));\n'
        "  }\n"
        "}\n"
    ),
    "lua": (
        "local function check(found, expected)\n"
        '  if type(found) == "table" and type(expected) == "table" then\n'
        '    if #found ~= #expected then error("wrong length") end\n'
        "    for i = 1, #expected do check(found[i], expected[i]) end\n"
        "  elseif found ~= expected then\n"
        '    error(tostring(found) .. " is not " .. tostring(expected))\n'
        "  end\n"
        "end\n"
    ),
}
