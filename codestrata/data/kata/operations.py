"""The vocabulary of kata: one row per operation, with its meaning, its four spellings and its phrases.

A row's spellings name the element (``x`` a number, ``c`` a character, ``w`` a word), the result ``r`` and the
operation's constant ``{k}``. Phrases name the elements acted on as ``{those}`` and the constant as ``{k}``.

What this does not do: combine rows (``programs``), lay out functions (``printers``), compose sentences
(``phrases``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

ElementKind = Literal["number", "character", "word"]
ResultKind = Literal["number", "text", "list", "flag", "element"]

VOWELS = "aeiou"


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """One operation in each of the four languages."""

    python: str
    javascript: str
    lua: str
    pivot: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A test, change, arrangement or finish: what it does and how it is written and said."""

    name: str
    run: Callable[[Any, Any], Any]
    spelling: Spelling
    phrases: tuple[str, ...]
    nouns: tuple[str, ...] = ()
    """For changes: how the changed elements are called in a nested phrase, such as ``squares of {those}``."""
    constants: tuple[int | str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a loop's elements become one value.

    ``start`` is the first value of ``r``; ``body`` runs for every element that gets through, ``fold`` is its
    meaning: (value, element, memory) -> value. ``leaves`` marks an early exit: the loop returns at once.
    ``needs`` is a dictionary the loop keeps beside ``r``.
    """

    name: str
    gives: ResultKind
    start: Any
    fold: Callable[[Any, Any, dict[Any, int]], Any]
    body: Spelling
    phrases: tuple[str, ...]
    nouns: tuple[str, ...]
    elements: tuple[ElementKind, ...] = ("number", "character", "word")
    leaves: bool = False
    needs: str | None = None


def spell(python: str, javascript: str | None = None, lua: str | None = None, *, pivot: str) -> Spelling:
    """A spelling whose JavaScript and Lua are Python's where they do not differ."""
    return Spelling(python=python, javascript=javascript or python, lua=lua or python, pivot=pivot)


SMALL = tuple(range(2, 13))
LENGTHS = (2, 3, 4, 5)
LETTERS = ("a", "e", "o", "t", "n", "s")

TESTS: dict[ElementKind, tuple[Operation, ...]] = {
    "number": (
        Operation(
            name="even",
            run=lambda x, k: x % 2 == 0,
            spelling=spell("x % 2 == 0", "x % 2 === 0", pivot="x :even"),
            phrases=("that are even",),
        ),
        Operation(
            name="odd",
            run=lambda x, k: x % 2 != 0,
            spelling=spell("x % 2 != 0", "x % 2 !== 0", "x % 2 ~= 0", pivot="x :odd"),
            phrases=("that are odd",),
        ),
        Operation(
            name="positive",
            run=lambda x, k: x > 0,
            spelling=spell("x > 0", pivot="x :pos"),
            phrases=("that are positive", "above zero"),
        ),
        Operation(
            name="negative",
            run=lambda x, k: x < 0,
            spelling=spell("x < 0", pivot="x :neg"),
            phrases=("that are negative", "below zero"),
        ),
        Operation(
            name="above",
            run=lambda x, k: x > k,
            spelling=spell("x > {k}", pivot="x :over {k}"),
            phrases=("above {k}", "greater than {k}"),
            constants=SMALL,
        ),
        Operation(
            name="below",
            run=lambda x, k: x < k,
            spelling=spell("x < {k}", pivot="x :under {k}"),
            phrases=("below {k}", "less than {k}"),
            constants=SMALL,
        ),
        Operation(
            name="divisible",
            run=lambda x, k: x % k == 0,
            spelling=spell("x % {k} == 0", "x % {k} === 0", pivot="x :div {k}"),
            phrases=("divisible by {k}", "that are multiples of {k}"),
            constants=tuple(range(3, 10)),
        ),
        Operation(
            name="differs",
            run=lambda x, k: x != k,
            spelling=spell("x != {k}", "x !== {k}", "x ~= {k}", pivot="x :not {k}"),
            phrases=("other than {k}", "different from {k}"),
            constants=SMALL,
        ),
    ),
    "character": (
        Operation(
            name="vowel",
            run=lambda c, k: c in VOWELS,
            spelling=spell(
                'c in "aeiou"', '"aeiou".includes(c)', '("aeiou"):find(c, 1, true)', pivot="c :vowel"
            ),
            phrases=("that are vowels",),
        ),
        Operation(
            name="digit",
            run=lambda c, k: c.isdigit(),
            spelling=spell("c.isdigit()", "/[0-9]/.test(c)", 'c:match("%d")', pivot="c :digit"),
            phrases=("that are digits",),
        ),
        Operation(
            name="upper",
            run=lambda c, k: c.isupper(),
            spelling=spell("c.isupper()", "/[A-Z]/.test(c)", 'c:match("%u")', pivot="c :upper"),
            phrases=("that are uppercase", "in uppercase"),
        ),
        Operation(
            name="lower",
            run=lambda c, k: c.islower(),
            spelling=spell("c.islower()", "/[a-z]/.test(c)", 'c:match("%l")', pivot="c :lower"),
            phrases=("that are lowercase", "in lowercase"),
        ),
        Operation(
            name="not_space",
            run=lambda c, k: c != " ",
            spelling=spell('c != " "', 'c !== " "', 'c ~= " "', pivot="c :solid"),
            phrases=("that are not spaces",),
        ),
        Operation(
            name="is",
            run=lambda c, k: c == k,
            spelling=spell('c == "{k}"', 'c === "{k}"', pivot="c :is '{k}'"),
            phrases=("equal to {k}",),
            constants=LETTERS,
        ),
        Operation(
            name="is_not",
            run=lambda c, k: c != k,
            spelling=spell('c != "{k}"', 'c !== "{k}"', 'c ~= "{k}"', pivot="c :not '{k}'"),
            phrases=("other than {k}", "different from {k}"),
            constants=LETTERS,
        ),
    ),
    "word": (
        Operation(
            name="longer",
            run=lambda w, k: len(w) > k,
            spelling=spell("len(w) > {k}", "w.length > {k}", "#w > {k}", pivot="w :long {k}"),
            phrases=("longer than {k}", "with more than {k} characters"),
            constants=LENGTHS,
        ),
        Operation(
            name="shorter",
            run=lambda w, k: len(w) < k,
            spelling=spell("len(w) < {k}", "w.length < {k}", "#w < {k}", pivot="w :short {k}"),
            phrases=("shorter than {k}", "with fewer than {k} characters"),
            constants=LENGTHS,
        ),
        Operation(
            name="starts",
            run=lambda w, k: w.startswith(k),
            spelling=spell(
                'w.startswith("{k}")', 'w.startsWith("{k}")', 'w:sub(1, 1) == "{k}"', pivot="w :starts '{k}'"
            ),
            phrases=("starting with {k}", "that begin with {k}"),
            constants=LETTERS,
        ),
        Operation(
            name="contains",
            run=lambda w, k: k in w,
            spelling=spell('"{k}" in w', 'w.includes("{k}")', 'w:find("{k}", 1, true)', pivot="w :has '{k}'"),
            phrases=("containing {k}", "that contain {k}"),
            constants=LETTERS,
        ),
    ),
}

CHANGES: dict[ElementKind, tuple[Operation, ...]] = {
    "number": (
        Operation(
            name="square",
            run=lambda x, k: x * x,
            spelling=spell("x * x", pivot="sq x"),
            phrases=("square {those}",),
            nouns=("squares of {those}",),
        ),
        Operation(
            name="negate",
            run=lambda x, k: -x,
            spelling=spell("-x", pivot="neg x"),
            phrases=("negate {those}", "flip the sign of {those}"),
            nouns=("negatives of {those}",),
        ),
        Operation(
            name="absolute",
            run=lambda x, k: abs(x),
            spelling=spell("abs(x)", "Math.abs(x)", "math.abs(x)", pivot="mag x"),
            phrases=("take the absolute value of {those}",),
            nouns=("absolute values of {those}",),
        ),
        Operation(
            name="add",
            run=lambda x, k: x + k,
            spelling=spell("x + {k}", pivot="x plus {k}"),
            phrases=("add {k} to {those}", "increase {those} by {k}"),
            constants=SMALL,
        ),
        Operation(
            name="subtract",
            run=lambda x, k: x - k,
            spelling=spell("x - {k}", pivot="x less {k}"),
            phrases=("subtract {k} from {those}", "decrease {those} by {k}"),
            constants=SMALL,
        ),
        Operation(
            name="multiply",
            run=lambda x, k: x * k,
            spelling=spell("x * {k}", pivot="x times {k}"),
            phrases=("multiply {those} by {k}",),
            nouns=("{k} times {those}",),
            constants=SMALL,
        ),
        Operation(
            name="remainder",
            run=lambda x, k: x % k,
            spelling=spell("x % {k}", "((x % {k}) + {k}) % {k}", pivot="x rem {k}"),
            phrases=("take {those} modulo {k}",),
            nouns=("remainders modulo {k} of {those}",),
            constants=SMALL,
        ),
        Operation(
            name="cap",
            run=lambda x, k: min(x, k),
            spelling=spell("min(x, {k})", "Math.min(x, {k})", "math.min(x, {k})", pivot="x cap {k}"),
            phrases=("cap {those} at {k}", "limit {those} to at most {k}"),
            constants=SMALL,
        ),
        Operation(
            name="halve",
            run=lambda x, k: x // 2,
            spelling=spell("x // 2", "Math.floor(x / 2)", pivot="half x"),
            phrases=("halve {those} rounding down",),
        ),
    ),
    "character": (
        Operation(
            name="to_upper",
            run=lambda c, k: c.upper(),
            spelling=spell("c.upper()", "c.toUpperCase()", "c:upper()", pivot="up c"),
            phrases=("uppercase {those}",),
        ),
        Operation(
            name="to_lower",
            run=lambda c, k: c.lower(),
            spelling=spell("c.lower()", "c.toLowerCase()", "c:lower()", pivot="down c"),
            phrases=("lowercase {those}",),
        ),
        Operation(
            name="double",
            run=lambda c, k: c + c,
            spelling=spell("c + c", lua="c .. c", pivot="twice c"),
            phrases=("double {those}",),
        ),
        Operation(
            name="become",
            run=lambda c, k: k,
            spelling=spell('"{k}"', pivot="'{k}'"),
            phrases=("replace {those} with {k}",),
            constants=LETTERS,
        ),
    ),
    "word": (
        Operation(
            name="to_upper",
            run=lambda w, k: w.upper(),
            spelling=spell("w.upper()", "w.toUpperCase()", "w:upper()", pivot="up w"),
            phrases=("uppercase {those}",),
        ),
        Operation(
            name="reverse",
            run=lambda w, k: w[::-1],
            spelling=spell("w[::-1]", '[...w].reverse().join("")', "w:reverse()", pivot="flip w"),
            phrases=("reverse {those}", "spell {those} backwards"),
        ),
        Operation(
            name="suffix",
            run=lambda w, k: w + k,
            spelling=spell('w + "{k}"', lua='w .. "{k}"', pivot="w then '{k}'"),
            phrases=("append {k} to {those}",),
            constants=LETTERS,
        ),
    ),
}

ARRANGEMENTS: dict[ElementKind, tuple[Operation, ...]] = {
    "number": (
        Operation(
            name="sort",
            run=lambda xs, k: sorted(xs),
            spelling=spell(
                "xs = sorted(xs)", "xs = [...xs].sort((a, b) => a - b);", "table.sort(xs)", pivot="sort xs up"
            ),
            phrases=("sort xs", "sort xs in ascending order"),
        ),
        Operation(
            name="descend",
            run=lambda xs, k: sorted(xs, reverse=True),
            spelling=spell(
                "xs = sorted(xs, reverse=True)",
                "xs = [...xs].sort((a, b) => b - a);",
                "table.sort(xs, function(a, b) return a > b end)",
                pivot="sort xs down",
            ),
            phrases=("sort xs in descending order",),
        ),
        Operation(
            name="take",
            run=lambda xs, k: xs[:k],
            spelling=spell(
                "xs = xs[:{k}]",
                "xs = xs.slice(0, {k});",
                "xs = {{table.unpack(xs, 1, {k})}}",
                pivot="head xs {k}",
            ),
            phrases=("take the first {k} numbers",),
            constants=LENGTHS,
        ),
        Operation(
            name="skip",
            run=lambda xs, k: xs[k:],
            spelling=spell(
                "xs = xs[{k}:]",
                "xs = xs.slice({k});",
                "xs = {{table.unpack(xs, {k} + 1)}}",
                pivot="tail xs {k}",
            ),
            phrases=("skip the first {k} numbers",),
            constants=LENGTHS,
        ),
    ),
    "character": (
        Operation(
            name="backwards",
            run=lambda s, k: s[::-1],
            spelling=spell(
                "s = s[::-1]", 's = [...s].reverse().join("");', "s = s:reverse()", pivot="flip s"
            ),
            phrases=("reverse s", "read s backwards"),
        ),
    ),
    "word": (),
}


def remember(value: Any, element: Any, memory: dict[Any, int]) -> bool:
    """Whether the element is new; it is not new the next time."""
    memory[element] = memory.get(element, 0) + 1
    return memory[element] == 1


RESULTS: tuple[Result, ...] = (
    Result(
        name="sum",
        gives="number",
        start=0,
        fold=lambda r, x, memory: r + x,
        body=spell("r += x", "r += x;", "r = r + x", pivot="r gains x"),
        phrases=("return the sum", "add them up"),
        nouns=("sum", "total"),
        elements=("number",),
    ),
    Result(
        name="count",
        gives="number",
        start=0,
        fold=lambda r, x, memory: r + 1,
        body=spell("r += 1", "r += 1;", "r = r + 1", pivot="r ticks"),
        phrases=("count them", "return how many there are"),
        nouns=("count", "number"),
    ),
    Result(
        name="largest",
        gives="number",
        start=0,
        fold=lambda r, x, memory: max(r, x),
        body=spell("r = max(r, x)", "r = Math.max(r, x);", "r = math.max(r, x)", pivot="r tops x"),
        phrases=("return the largest or 0", "find the maximum or 0"),
        nouns=("largest", "maximum"),
        elements=("number",),
    ),
    Result(
        name="smallest",
        gives="number",
        start=0,
        fold=lambda r, x, memory: min(r, x),
        body=spell("r = min(r, x)", "r = Math.min(r, x);", "r = math.min(r, x)", pivot="r sinks x"),
        phrases=("return the smallest or 0", "find the minimum or 0"),
        nouns=("smallest", "minimum"),
        elements=("number",),
    ),
    Result(
        name="spread",
        gives="number",
        start=0,
        fold=lambda r, x, memory: x - r,
        body=spell("r = x - r", "r = x - r;", pivot="r swings x"),
        phrases=("return the alternating sum", "subtract the running result from each in turn"),
        nouns=("alternating sum",),
        elements=("number",),
    ),
    Result(
        name="last",
        gives="element",
        start=None,
        fold=lambda r, x, memory: x,
        body=spell("r = {e}", "r = {e};", pivot="r is {e}"),
        phrases=("return the last one", "give the last"),
        nouns=("last",),
    ),
    Result(
        name="first",
        gives="element",
        start=None,
        fold=lambda r, x, memory: x,
        body=spell("return {e}", "return {e};", pivot="exit {e}"),
        phrases=("return the first one", "give the first"),
        nouns=("first",),
        leaves=True,
    ),
    Result(
        name="exists",
        gives="flag",
        start=False,
        fold=lambda r, x, memory: True,
        body=spell("return True", "return true;", "return true", pivot="exit yes"),
        phrases=("tell whether there is any", "check if any exist"),
        nouns=("existence",),
        leaves=True,
    ),
    Result(
        name="gather",
        gives="list",
        start=[],
        fold=lambda r, x, memory: [*r, x],
        body=spell("r.append({e})", "r.push({e});", "r[#r + 1] = {e}", pivot="r keeps {e}"),
        phrases=("return them as a list", "collect them"),
        nouns=("list",),
        elements=("number", "word"),
    ),
    Result(
        name="distinct",
        gives="list",
        start=[],
        fold=lambda r, x, memory: [*r, x] if remember(r, x, memory) else r,
        body=spell(
            "if {e} not in d:\n    d[{e}] = 1\n    r.append({e})",
            "if (!({e} in d)) {{\n  d[{e}] = 1;\n  r.push({e});\n}}",
            "if not d[{e}] then\n  d[{e}] = 1\n  r[#r + 1] = {e}\nend",
            pivot="r keeps {e} once",
        ),
        phrases=("return them without duplicates", "collect the distinct ones"),
        nouns=("distinct list",),
        elements=("number", "word"),
        needs="d",
    ),
    Result(
        name="variety",
        gives="number",
        start=0,
        fold=lambda r, x, memory: r + 1 if remember(r, x, memory) else r,
        body=spell(
            "if {e} not in d:\n    d[{e}] = 1\n    r += 1",
            "if (!({e} in d)) {{\n  d[{e}] = 1;\n  r += 1;\n}}",
            "if not d[{e}] then\n  d[{e}] = 1\n  r = r + 1\nend",
            pivot="r ticks {e} once",
        ),
        phrases=("count the distinct ones", "return how many different ones there are"),
        nouns=("number of distinct values",),
        needs="d",
    ),
    Result(
        name="frequency",
        gives="number",
        start=0,
        fold=lambda r, x, memory: (remember(r, x, memory), max(r, memory[x]))[1],
        body=spell(
            "d[{e}] = d.get({e}, 0) + 1\nr = max(r, d[{e}])",
            "d[{e}] = (d[{e}] || 0) + 1;\nr = Math.max(r, d[{e}]);",
            "d[{e}] = (d[{e}] or 0) + 1\nr = math.max(r, d[{e}])",
            pivot="r tallies {e}",
        ),
        phrases=("return how often the most common one occurs", "find the highest frequency"),
        nouns=("highest frequency",),
        needs="d",
    ),
    Result(
        name="text",
        gives="text",
        start="",
        fold=lambda r, c, memory: r + c,
        body=spell("r += c", "r += c;", "r = r .. c", pivot="r gains c"),
        phrases=("join them", "return them as a string"),
        nouns=("string",),
        elements=("character",),
    ),
    Result(
        name="mirror",
        gives="text",
        start="",
        fold=lambda r, c, memory: c + r,
        body=spell("r = c + r", "r = c + r;", "r = c .. r", pivot="r leads c"),
        phrases=("join them in reverse", "return them as a reversed string"),
        nouns=("reversed string",),
        elements=("character",),
    ),
    Result(
        name="longest",
        gives="element",
        start="",
        fold=lambda r, w, memory: w if len(w) > len(r) else r,
        body=spell(
            "if len(w) > len(r):\n    r = w",
            "if (w.length > r.length) {{\n  r = w;\n}}",
            "if #w > #r then\n  r = w\nend",
            pivot="r longs w",
        ),
        phrases=("return the longest one", "find the longest"),
        nouns=("longest",),
        elements=("word",),
    ),
)

FINISHES: tuple[Operation, ...] = (
    Operation(
        name="plus",
        run=lambda r, k: r + k,
        spelling=spell("return r + {k}", "return r + {k};", pivot="give r plus {k}"),
        phrases=("then add {k}", "plus {k}"),
        constants=SMALL,
    ),
    Operation(
        name="times",
        run=lambda r, k: r * k,
        spelling=spell("return r * {k}", "return r * {k};", pivot="give r times {k}"),
        phrases=("then multiply by {k}", "times {k}"),
        constants=SMALL,
    ),
    Operation(
        name="judge",
        run=lambda r, k: "yes" if r > k else "no",
        spelling=spell(
            'return "yes" if r > {k} else "no"',
            'return r > {k} ? "yes" : "no";',
            'return r > {k} and "yes" or "no"',
            pivot="give r :over {k} ? yes | no",
        ),
        phrases=("say yes if it exceeds {k} else no", "answer yes if above {k} otherwise no"),
        constants=SMALL,
    ),
    Operation(
        name="parity",
        run=lambda r, k: "even" if r % 2 == 0 else "odd",
        spelling=spell(
            'return "even" if r % 2 == 0 else "odd"',
            'return r % 2 === 0 ? "even" : "odd";',
            'return r % 2 == 0 and "even" or "odd"',
            pivot="give r :even ? even | odd",
        ),
        phrases=("say whether it is even or odd", "answer even or odd"),
    ),
)
