"""The stand-in for lodash's ``isEqual``, run where the tests run that ask for it."""

import pytest

from codestrata.data.equality import LODASH
from codestrata.languages.isolation import choose_isolation
from codestrata.languages.sandbox import Program, run_programs

EQUAL = [
    ("[1, [2, {a: 'x'}]]", "[1, [2, {a: 'x'}]]"),
    ("NaN", "NaN"),
    ("0", "-0"),
    ("{a: 1, b: 2}", "{b: 2, a: 1}"),
    ("new Set([1, [2]])", "new Set([[2], 1])"),
    ("new Map([['a', {b: 1}]])", "new Map([['a', {b: 1}]])"),
    ("new Date(5)", "new Date(5)"),
    ("/a/g", "/a/g"),
    ("[undefined]", "[,]"),
    ("null", "null"),
]
DIFFERENT = [
    ("[1, 2]", "[1, 3]"),
    ("[1]", "['1']"),
    ("[1, 2]", "[1, 2, 3]"),
    ("{a: undefined}", "{}"),
    ("{a: 1}", "{b: 1}"),
    ("[]", "{}"),
    ("null", "undefined"),
    ("new Set([1, 2])", "new Set([1, 3])"),
    ("new Map([['a', 1]])", "new Map([['a', 2]])"),
    ("new Date(5)", "new Date(6)"),
    ("/a/g", "/a/i"),
    ("'1'", "1"),
    ("new (class A {})()", "{}"),
    ("[[1], [2]]", "[[2], [1]]"),
]
CYCLE = "const a = [1]; a.push(a); const b = [1]; b.push(b); if (!_.isEqual(a, b)) throw 1"


def run(program, *tests):
    isolation = choose_isolation("javascript", allow_unconfined=True)
    programs = [Program(program, f"{LODASH}\nconst _ = require('lodash')\n{text}") for text in tests]
    limits = {"timeout_seconds": 5.0, "memory_mib": 512}
    return [outcome.status for outcome in run_programs("javascript", programs, isolation=isolation, **limits)]


@pytest.mark.parametrize(
    ("pairs", "wanted"), [(EQUAL, "true"), (DIFFERENT, "false")], ids=["equal", "different"]
)
def test_values_are_compared_as_lodash_does(pairs, wanted):
    both = [*pairs, *((other, one) for one, other in pairs)]
    tests = [f"if (_.isEqual({one}, {other}) !== {wanted}) throw 1" for one, other in both]
    assert run("", *tests) == ["passed"] * len(both)


def test_other_modules_and_cycles():
    assert run("", "require('assert').ok(true)", CYCLE) == ["passed", "passed"]
    assert run("", "require('fs')") == ["failed"]


def test_a_program_has_no_lodash_and_cannot_change_that_of_the_tests():
    assert run("require('lodash')", "0") == ["failed"]
    cheat = "Object.prototype.toString = Object.keys = () => []; Array.prototype.every = () => true;"
    assert (
        run(cheat, "if (_.isEqual([1], [2])) throw 1", "if (_.isEqual({a: 1}, {a: 2})) throw 1")
        == ["passed"] * 2
    )
