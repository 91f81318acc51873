"""What a completion does to JavaScript does not reach its tests; `assert` and `console.assert` judge."""

import subprocess

from codestrata.languages.runtimes import find_deno
from codestrata.languages.sandbox import Outcome

PASSED = Outcome("passed", "")
RESULT = "function f(x) { return x; }"

PATCHES = {
    "JSON.stringify": ("JSON.stringify = () => 'same';", "if (JSON.stringify(f(1)) !== '2') throw 1"),
    "JSON.stringify, when it is called": (
        "f = (x) => { JSON.stringify = () => '2'; return x; };",
        "if (JSON.stringify(f(1)) !== '2') throw 1",
    ),
    "JSON": ("globalThis.JSON = { stringify: () => '2' };", "if (JSON.stringify(f(1)) !== '2') throw 1"),
    "console.assert": ("console.assert = () => {};", "console.assert(f(1) === 2)"),
    "console": ("console = { assert() {} };", "console.assert(f(1) === 2)"),
    "Error": (
        "Error = function () {};",
        "try { throw new Error('a') } catch (e) { if (e.message === 'a') throw e }",
    ),
    "an array's method": (
        "Array.prototype.every = () => true;",
        "if (![f(1)].every((x) => x === 2)) throw 1",
    ),
    "an array's method, when it is called": (
        "f = (x) => { Array.prototype.every = () => true; return x; };",
        "const xs = [f(1)]; if (!xs.every((x) => x === 2)) throw 1",
    ),
    "an array's method, by definition": (
        "f = (x) => { Object.defineProperty(Array.prototype, 'every', { value: () => true }); return x; };",
        "const xs = [f(1)]; if (!xs.every((x) => x === 2)) throw 1",
    ),
    "an array's iterator": (
        "Array.prototype[Symbol.iterator] = function* () {};",
        "for (const x of [f(1)]) if (x !== 2) throw 1",
    ),
    "toJSON": ("Object.prototype.toJSON = () => 2;", "if (JSON.stringify({ a: f(1) }) !== '2') throw 1"),
    "toJSON, when it is called": (
        "f = (x) => { Object.prototype.toJSON = () => 2; return x; };",
        "const found = f(1); if (JSON.stringify({ a: found }) !== '2') throw 1",
    ),
    "a prototype": (
        "Object.setPrototypeOf(Set.prototype, { has: () => true }); delete Set.prototype.has;",
        "if (!new Set([1]).has(f(2))) throw 1",
    ),
    "require": ("require = () => ({ deepEqual() {} });", "require('assert').deepEqual(f([1]), [2])"),
    "assert": ("require('assert').deepEqual = () => {};", "require('assert').deepEqual(f([1]), [2])"),
    "assert, when it is called": (
        "f = (x) => { require('assert').deepEqual = () => {}; return x; };",
        "const found = f([1]); require('assert').deepEqual(found, [2])",
    ),
    "what assert uses": (
        "Object.keys = () => []; Object.is = () => true; Array.isArray = () => false;",
        "require('assert').deepStrictEqual(f([1]), [2])",
    ),
    "promises": (
        "Promise.prototype.then = function (done) { done(); return this; };\n"
        "Object.defineProperty(Promise.prototype, 'constructor', { get: () => 1 });",
        "if (await f(1) !== 2) throw 1",
    ),
    "promises, never settled": ("f = () => new Promise(() => {});", "if (await f(1) !== 2) throw 1"),
    "isFinite": ("isFinite = () => true; Number.isFinite = isFinite;", "if (!isFinite(f(NaN))) throw 1"),
    "an error's name": (
        "Error.prototype.name = 'Wrong';",
        "try { throw new Error(f('a')) } catch (e) { if (e.name === 'Error') throw e }",
    ),
    "a getter": (
        "Object.defineProperty(Map.prototype, 'size', { get: () => 2 });",
        "if (new Map().size !== 2) throw 1",
    ),
}


def test_no_completion_patches_what_judges_it(run):
    programs = [(f"var f = {RESULT}\n{source}", tests) for source, tests in PATCHES.values()]
    *outcomes, last = run("javascript", *programs, (RESULT, "if (f(1) !== 1) throw 1"))
    fooled = {what for what, outcome in zip(PATCHES, outcomes, strict=True) if outcome.status != "failed"}
    assert fooled == set()
    assert last.status == "passed"


HONEST = {
    "a constant": ("const f = (x) => x;", "if (f(1) !== 1) throw 1"),
    "a class of errors": (
        "class Wrong extends Error { constructor() { super('w'); this.name = 'Wrong'; } }\n"
        "function f() { throw new Wrong(); }",
        "const assert = require('assert'); assert.throws(f, { name: 'Wrong', message: 'w' })",
    ),
    "a class of the old kind": (
        "'use strict'; function A() {} A.prototype = Object.create(Error.prototype);\n"
        "A.prototype.constructor = A; A.prototype.toString = () => 'A';\n"
        "function f() { const a = new A(); a.toString = () => 'own'; a.valueOf = () => 1; return a; }",
        "if (`${f()}` !== 'own' || f().valueOf() !== 1 || f().constructor !== A) throw new Error(`${f()}`)",
    ),
    "a method with a new name": (
        "Array.prototype.last = function () { return this.at(-1); }; function f(xs) { return xs.last(); }",
        "if (f([1, 2]) !== 2) throw 1",
    ),
    "an own toJSON": (
        "function f() { return { toJSON() { return 1; } }; }",
        "if (JSON.stringify(f()) !== '1') throw 1",
    ),
    "assert on both sides": (
        "const assert = require('assert'); function f(x) { assert(x); return x; }",
        "const assert = require('node:assert'); assert.equal(f(1), 1)",
    ),
    "tests that await": ("async function f(x) { await null; return x; }", "if (await f(1) !== 1) throw 1"),
    "tests in an async function": (
        "async function f(x) { return x; }",
        "(async () => { if (await f(1) !== 1) throw 1 })()",
    ),
    "generators": ("function* f() { yield 1; }", "if ([...f()].join() !== '1') throw 1"),
}


def test_honest_completions_pass(run):
    outcomes = run("javascript", *HONEST.values())
    found = {
        what: outcome.detail for what, outcome in zip(HONEST, outcomes, strict=True) if outcome != PASSED
    }
    assert found == {}


def test_other_modules_are_refused_by_name(run):
    (outcome,) = run("javascript", "require('lodash')")
    assert outcome.status == "failed"
    assert outcome.detail == "Error: Cannot find module 'lodash': only assert is here"


def test_a_promise_that_is_never_settled_is_told(run):
    (outcome,) = run("javascript", ("", "await new Promise(() => {})"))
    assert (outcome.status, outcome.detail) == ("failed", "waits for a promise that is never settled")


def test_no_completion_swallows_its_tests(run):
    sources = ["/*", "`", "{", "throw 1", "function f() {", "return", "<!--\nthrow 1"]
    outcomes = run("javascript", *((source, "0") for source in sources))
    assert {outcome.status for outcome in outcomes} == {"failed"}


VALUES = """
1, "1", 0, -0, NaN, null, undefined, "", true, false, [], [1], [1, 2], ["1"], [[1], 2], {}, {a: 1}, {a: "1"},
{a: undefined}, {b: 1}, {a: {b: [1]}}, {a: {b: [2]}}, new Set([1, 2]), new Set([2, 1]), new Set(["1"]),
new Set(), new Set([[1]]), new Map([[1, 2]]), new Map([[1, 3]]), new Map([["1", 2]]), new Date(0),
new Date(1), /a/, /b/, /a/g,
new Error("a"), new Error("b"), new TypeError("a"), new Number(1), new Number(2), new String("a"),
Object.create(null), Object.assign(Object.create(null), {a: 1}), [undefined], Symbol.iterator, 1n, 2n,
new (class A { x = 1 })(), new (class B { x = 1 })(), new Uint8Array([1]), new Uint8Array([2]), (() => 1)
"""
COMPARE = """
const values = [VALUES];
let text = "";
for (const name of ["equal", "notEqual", "strictEqual", "deepEqual", "deepStrictEqual", "notDeepEqual"]) {
  for (const a of values) for (const b of values) {
    let verdict = "1";
    try { assert[name](a, b); } catch (e) { verdict = e instanceof assert.AssertionError ? "0" : "x"; }
    text += verdict;
  }
}
""".replace("VALUES", VALUES)


def test_assert_agrees_with_nodes_own(run, tmp_path):
    """Deno's node:assert is the reference: all pairs of many values, in six comparisons.

    Arrays with holes are left out: whether the reference finds them equal depends on their order.
    """
    script = tmp_path / "reference.mjs"
    script.write_text(f'import assert from "node:assert";\n{COMPARE}\nconsole.log(text);', encoding="utf-8")
    command = [find_deno(), "run", "--no-prompt", "--no-remote", "--no-config", "--no-lock", str(script)]
    right = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    assert len(right) > 6 * 50 * 50
    assert {"0", "1"} <= set(right)
    tests = f"for (let i = 0; i < {len(right)}; i++) if (text[i] !== {right!r}[i]) throw i"
    (outcome,) = run("javascript", (f'const assert = require("assert");\n{COMPARE}', tests), memory_mib=256)
    assert (outcome.status, outcome.detail) == ("passed", "")


ASSERTIONS = [
    ("throws(() => { throw new TypeError('a b') })", True),
    ("throws(() => { throw new TypeError('a b') }, TypeError)", True),
    ("throws(() => { throw new TypeError('a b') }, Error)", True),
    ("throws(() => { throw new TypeError('a b') }, RangeError)", False),
    ("throws(() => { throw new TypeError('a b') }, /b$/)", True),
    ("throws(() => { throw new TypeError('a b') }, /c$/)", False),
    ("throws(() => { throw new TypeError('a b') }, { message: 'a b' })", True),
    ("throws(() => { throw new TypeError('a b') }, { message: /^a/, name: 'TypeError' })", True),
    ("throws(() => { throw new TypeError('a b') }, { message: 'a' })", False),
    ("throws(() => { throw new TypeError('a b') }, (e) => e.message === 'a b')", True),
    ("throws(() => { throw new TypeError('a b') }, (e) => false)", False),
    ("throws(() => {})", False),
    ("doesNotThrow(() => {})", True),
    ("doesNotThrow(() => { throw 1 })", False),
    ("rejects(Promise.reject(new Error('a')), /a/)", True),
    ("rejects(async () => { throw 1 })", True),
    ("rejects(Promise.resolve(1))", False),
    ("doesNotReject(Promise.resolve(1))", True),
    ("doesNotReject(async () => { throw 1 })", False),
    ("match('abc', /b/)", True),
    ("match('abc', /d/)", False),
    ("doesNotMatch('abc', /d/)", True),
    ("doesNotMatch('abc', /b/)", False),
    ("ifError(null)", True),
    ("ifError(new Error('a'))", False),
    ("fail()", False),
    ("ok(1)", True),
    ("ok(0)", False),
    ("strict.equal(1, '1')", False),
    ("strict.deepEqual([1], ['1'])", False),
    ("strict.strict.equal(1, 1)", True),
    ("notStrictEqual(1, '1')", True),
    ("notDeepStrictEqual([1], [1])", False),
]


def test_every_kind_of_assertion(run):
    tests = [f"const assert = require('assert'); await assert.{call}" for call, _ in ASSERTIONS]
    outcomes = run("javascript", *(("", text) for text in tests))
    found = [
        (call, outcome.status == "passed") for (call, _), outcome in zip(ASSERTIONS, outcomes, strict=True)
    ]
    assert found == ASSERTIONS
