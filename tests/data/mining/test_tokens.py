"""Tokens as CodeSearchNet's records have them: hand-worked, from what the records show."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.data.mining.definitions import extract
from codestrata.data.mining.tokens import tokenize_docstring

CODE = {
    "strings of python are one": (
        "python",
        "def f(x): return 'a b', f'{x} c', '''d\ne'''",
        ["return", "'a b'", ",", "f'{x} c'", ",", "'''d\ne'''"],
    ),
    "two stars of python are two": (
        "python",
        "def f(x): return g(**x), 2 ** 3",
        ["return", "g", "(", "*", "*", "x", ")", ",", "2", "**", "3"],
    ),
    "joined lines and semicolons of python are none": (
        "python",
        "def f(x):\n    a = 1; b = \\\n        2",
        ["a", "=", "1", "b", "=", "2"],
    ),
    "templates of javascript lose their text": (
        "javascript",
        "function f(x) { return `a ${x} b\\n` + 'c'; }",
        ["{", "return", "`", "${", "x", "}", "\\n", "`", "+", "'c'", ";", "}"],
    ),
    "strings and diamonds of java are one": (
        "java",
        'void f() { x = new A<>("a b\\n"); }',
        ["{", "x", "=", "new", "A", "<>", "(", '"a b\\n"', ")", ";", "}"],
    ),
    "arguments of types of java are not": (
        "java",
        "A<B> f() { return null; }",
        ["A", "<", "B", ">", "f", "(", ")", "{", "return", "null", ";", "}"],
    ),
    "characters of java lose their text": (
        "java",
        "char f() { return 'a'; }",
        ["return", "'", "'", ";", "}"],
    ),
    "the sole call of a loop of java loses its name": (
        "java",
        "void f() { for (A a : b) c.add(a); }",
        ["for", "(", "A", "a", ":", "b", ")", "c", ".", "(", "a", ")", ";", "}"],
    ),
    "a call in a loop's block of java does not": (
        "java",
        "void f() { for (A a : b) { c.add(a); } }",
        [":", "b", ")", "{", "c", ".", "add", "(", "a", ")", ";", "}", "}"],
    ),
    "lines of go end in newlines": (
        "go",
        "func f() {\n\ta := 1 // b\n\n\tif a {\n\t\tc()\n\t}\n\td()\n}",
        [":=", "1", "// b", "\n\n", "if", "a", "{", "c", "(", ")", "\n", "}", "\n", "d", "(", ")", "\n", "}"],
    ),
    "lines of go that end in a semicolon or a brace do not": (
        "go",
        "func f() { a(); b() }",
        ["{", "a", "(", ")", ";", "b", "(", ")", "}"],
    ),
    "fields of go end in newlines": (
        "go",
        "func f() {\n\tvar a struct {\n\t\tb int\n\t}\n}",
        ["var", "a", "struct", "{", "b", "int", "\n", "}", "\n", "}"],
    ),
    "strings of go lose their text but for escapes": (
        "go",
        'func f() { a("b\\n", `c`) }',
        ["a", "(", '"', "\\n", '"', ",", "`c`", ")", "}"],
    ),
    "strings of php are one": (
        "php",
        "function f() { return \"a {$b} c\" . 'd'; }",
        ["return", '"a {$b} c"', ".", "'d'", ";", "}"],
    ),
    "heredocs of php are one with the space before": (
        "php",
        "function f() { return <<<A\nb $c\nA;\n}",
        ["return", " <<<A\nb $c\nA", ";", "}"],
    ),
    "HTML in php is one": (
        "php",
        "function f() { a(); ?>\n<b><?php b(); }",
        ["a", "(", ")", ";", "?>\n<b><?php", "b", "(", ")", ";", "}"],
    ),
    "regular expressions of ruby lose their text": (
        "ruby",
        "def f(x)\n  x =~ /a\\d/ && `ls`\nend",
        ["x", "=~", "/", "\\d", "/", "&&", "`", "`", "end"],
    ),
    "marks before arguments of ruby are none": (
        "ruby",
        "def f(*a, &b)\n  g(*a, &b)\nend",
        ["(", "*", "a", ",", "&", "b", ")", "g", "(", "a", ",", "b", ")", "end"],
    ),
    "a product of ruby may look like one": (
        "ruby",
        "def f(a)\n  a * b + a*b + (a)*b + 2*b\nend",
        ["a", "*", "b", "+", "a", "b", "+", "(", "a", ")", "*", "b", "+", "2", "*", "b", "end"],
    ),
    "types of typescript are tokens": (
        "typescript",
        "function f(x: A<B>): C { return `d${x}`; }",
        ["A", "<", "B", ">", ")", ":", "C", "{", "return", "`", "${", "x", "}", "`", ";", "}"],
    ),
}


@pytest.mark.parametrize("name", sorted(CODE))
def test_code_is_tokenized_as_recorded(name):
    language, source, ending = CODE[name]
    extraction = extract(language, source)
    assert not extraction.has_errors
    assert list(extraction.functions[0].code_tokens[-len(ending) :]) == ending


DOCSTRINGS = {
    'It\'s a `word`, "quoted".': ["It", "s", "a", "word", "quoted", "."],
    "a-b_c/d\\e": ["a", "-", "b_c", "/", "d", "\\", "e"],
    "f() [] {} (x) [[y]]": ["f", "()", "[]", "{}", "(", "x", ")", "[[", "y", "]]"],
    "--- ... :: ==> ***;": ["---", "...", "::", "==", ">", "***", ";"],
    "a < b @c #d 100%": ["a", "<", "b", "@c", "#d", "100%"],
    "\n\t ,'\"`": [],
}


@pytest.mark.parametrize("text", sorted(DOCSTRINGS))
def test_documentation_is_tokenized_as_recorded(text):
    assert list(tokenize_docstring(text)) == DOCSTRINGS[text]


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_tokens_of_documentation_hold_all_but_space_and_quotes(text):
    kept = [letter for letter in text if not letter.isspace() and letter not in ",'\"`"]
    assert "".join(tokenize_docstring(text)) == "".join(kept)
