import ast
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.languages.parsing import list_languages
from codestrata.metrics.code import METRICS, score_complexity, score_syntax_pass
from codestrata.records import Prediction

SHARED_DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
MESS = st.text(alphabet="ab1 ={}();:&|\n'\"$<?é😀\0\ud800", max_size=60)


def answer(completion):
    return Prediction(identifier="p", prompt="", target="", completion=completion)


def complexity_of(language, code):
    return score_complexity([answer(code)], language).value


def compute_mccabe(tree):
    """1 + decision points of a Python syntax tree, by Python's own parser."""
    count = 1
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)):
            count += 1
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
        elif isinstance(node, ast.match_case):
            count += node.guard is not None
            count += ast.unparse(node.pattern) != "_"
    return count


@pytest.mark.parametrize(
    ("language", "completions"),
    [
        ("python", ["x = 1", "x =", "", "s = 'é'"]),
        ("javascript", ["name(a) { return a }", "name(a) {", " ", "f()"]),
        ("lua", ["local x = 1", "local x =", "\n", "f()"]),
        ("java", ["public int f() { return 1; }", "public int f() {", "\t", "int x = 1;"]),
        ("go", ["func f() {}", "func f( {", "", "x := 1"]),
        ("php", ["private function f() {}", "function f() {", " ", "<?php $x = 1;"]),
        ("ruby", ["def f\nend", "def f(", "\n\n", "x = 1"]),
        ("c-sharp", ["public int F() { return 1; }", "public int F() {", "", "var x = 1;"]),
        ("typescript", ["let x: number = 1", "let x: = 1", " ", "f()"]),
    ],
)
def test_syntax_pass_is_the_share_of_valid_completions(language, completions):
    name = language.replace("-", "_")
    score = score_syntax_pass([answer(completion) for completion in completions], name)
    assert score.per_example == (1, 0, 0, 1)
    assert (score.value, score.n, score.reason, score.aggregate) == (0.5, 4, None, "rate")
    assert score.variant.startswith(f"tree-sitter-{language} ")


@pytest.mark.parametrize("score", [score_syntax_pass, score_complexity])
def test_no_number_without_a_language_or_predictions(score):
    unknown = score([answer("x")], "cobol")
    assert (unknown.value, unknown.n) == (None, 1)
    assert unknown.reason.startswith("no ")
    assert unknown.reason.endswith(" for cobol")
    nothing = score([], "python")
    assert (nothing.value, nothing.n, nothing.reason) == (None, 0, "no predictions")


PYTHON = [
    ("x = 1", 1),
    ("def f(x):\n    return x", 1),
    ("if a:\n    b\nelse:\n    c", 2),
    ("if a:\n    b\nelif c:\n    d\nelif e:\n    f\nelse:\n    g", 4),
    ("x = a if b else c", 2),
    ("x = a and b or not c", 3),
    ("for a in b:\n    while c:\n        d\n    else:\n        e", 3),
    ("x = [a for b in c for d in e if f if g]", 5),
    ("try:\n    a\nexcept B:\n    c\nexcept (D, E) as f:\n    g\nfinally:\n    h", 3),
    ("match a:\n    case 1 | 2:\n        b\n    case c if d:\n        e\n    case _:\n        f", 4),
    ("match a:\n    case _ if b:\n        c\n    case (_, 1):\n        d", 3),
    ("lambda a: a or 1\nwith b:\n    assert c\nasync def f():\n    async for g in h:\n        await i", 3),
    ("# if a and b:\ns = 'if c or d'", 1),
]


@pytest.mark.parametrize(("code", "value"), PYTHON)
def test_python_complexity_by_hand(code, value):
    assert complexity_of("python", code) == compute_mccabe(ast.parse(code)) == value


@pytest.mark.parametrize(
    ("language", "code", "value"),
    [
        ("javascript", "if (a && b || c) { d } else if (e) { f }", 5),
        ("javascript", "for (;;) { for (a in b) {} for (c of d) {} while (e) {} do {} while (f) }", 6),
        ("javascript", "switch (a) { case 1: case 2: b; break; default: c }", 3),
        ("javascript", "try { a } catch (e) { b ? c : d } finally { e ?? f; g?.h; i ||= j }", 3),
        ("javascript", "xs.filter(x => x > 1).map(function (y) { return y && 1 })", 2),
        ("typescript", "const f = (a?: number): string => a ? 'b' : 'c'", 2),
        (
            "java",
            "int f() { for (int a : b) { if (c || d) return 1; } do {} while (e); return g ? 1 : 2; }",
            6,
        ),
        ("java", "switch (a) { case 1: b(); case 2, 3: c(); default: d(); }", 3),
        ("java", "int x = switch (a) { case 1 -> 2; case 3 -> 4; default -> 5; };", 3),
        ("java", "try { a(); } catch (B | C e) { d(); } catch (E e) { }", 3),
        ("c_sharp", "foreach (var a in b) { if (c && !d) { } } for (;;) { } while (e) { }", 6),
        ("c_sharp", "switch (a) { case 1: case 2: b(); break; case 3 when c: break; default: break; }", 5),
        ("c_sharp", "var x = a switch { 1 => 2, > 3 and < 5 => 4, _ => 6 };", 3),
        ("c_sharp", "try { } catch (A e) when (b) { } catch { }", 3),
        ("go", "for i := 0; i < 3; i++ { if a && b { } }", 4),
        ("go", "switch a { case 1, 2: b(); case 3: c(); default: d() }", 3),
        ("go", "select { case <-a: b(); default: c() }; switch d.(type) { case int: }", 3),
        ("php", "foreach ($a as $b) { if ($c) {} elseif ($d and $e) {} else {} } $f = $g ? 1 : 2;", 6),
        ("php", "switch ($a) { case 1: break; default: } $b = match($c) { 1 => 2, default => 3 };", 3),
        ("php", "while ($a || $b) { do { } while ($c); } try { } catch (E $e) { }", 5),
        ("ruby", "if a\n b\nelsif c\n d\nelse\n e\nend\nf unless g\nh = i ? j : k", 5),
        ("ruby", "case a\nwhen 1, 2 then b\nwhen 3 then c\nelse d\nend", 3),
        ("ruby", "a while b\nuntil c && d\n e\nend\nfor f in g do\nend", 5),
        ("ruby", "begin\n a\nrescue E\n b\nend\nc rescue d\nxs.each { |x| p x }", 3),
        ("lua", "for i = 1, 2 do end for k, v in pairs(a) do end while b do end repeat until c or d", 6),
        ("lua", "if a and not b then c() elseif d then e() else f() end", 4),
    ],
)
def test_complexity_by_hand(language, code, value):
    code = f"func f() {{ {code} }}" if language == "go" else code
    assert score_syntax_pass([answer(code)], language).value == 1
    assert complexity_of(language, code) == value


def test_complexity_is_the_mean_over_what_is_not_blank():
    score = score_complexity([answer("if a:\n  b"), answer(" \n"), answer("x"), answer("if (")], "python")
    assert score.per_example[:3] == (2, None, 1)
    assert score.value == pytest.approx((3 + score.per_example[3]) / 3)
    assert score.reason == "1 of 4 completions are blank and left out"
    blank = score_complexity([answer("")], "python")
    assert (blank.value, blank.reason) == (None, "1 of 1 completions are blank and left out")


def test_complexity_of_real_python_is_that_of_pythons_parser():
    path = SHARED_DATA / "codesearchnet" / "python" / "test.jsonl"
    if not path.is_file():
        pytest.skip(f"real functions are not here: {path} is absent")
    compared = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        code = json.loads(line)["code"]
        try:
            tree = ast.parse(code)
        except SyntaxError:  # Python 2
            continue
        compared += 1
        assert complexity_of("python", code) == compute_mccabe(tree), code
    assert compared > 250


@pytest.mark.parametrize("language", list_languages())
@settings(max_examples=15, deadline=None)
@given(st.lists(MESS, max_size=4))
def test_bounds_for_any_text(language, codes):
    predictions = [answer(code) for code in codes]
    passes = score_syntax_pass(predictions, language)
    assert passes.value is None or 0 <= passes.value <= 1
    complexity = score_complexity(predictions, language)
    assert complexity.value is None or complexity.value >= 1
    blank = [not code.strip() for code in codes]
    assert [value is None for value in complexity.per_example or ()] == blank
    assert complexity.n == blank.count(False)


@pytest.mark.parametrize(
    "language",
    [
        language if language in ("python", "javascript") else pytest.param(language, marks=pytest.mark.slow)
        for language in list_languages()
    ],
)
def test_large_and_deep_code(language):
    # tree-sitter's Lua needs half a minute for 100 kB of this.
    broken = "if a && b {\n" * (800 if language == "lua" else 8_000)
    for code in ("(" * 5_000 + "1" + ")" * 5_000, broken, "\0" * 100_000):
        assert math.isfinite(complexity_of(language, code))


def test_metrics_are_described():
    assert [(metric.name, metric.kind) for metric in METRICS] == [
        ("syntax_pass", "rate"),
        ("complexity", "description"),
    ]
