"""Where the answer to a begun function ends, on answers as models give them."""

import pytest

from codestrata.languages.endings import MOST_ENDS, cut_continuation, cut_program, join_continuation

HEAD = 'import math\n\ndef area(r):\n    """Area of a circle.\n\n    >>> area(0)\n    0.0\n    """\n'
BODY = "    return math.pi * r ** 2\n"
ARROW = "/* Area. */\nconst area = (r) => {\n"


@pytest.mark.parametrize(
    "tail",
    [
        "\nprint(area(1))\n",
        "\nif __name__ == '__main__':\n    area(",
        "\ndef area(r):\n    return 0\n",
        "\ndef other(r):\n    return (",
        "\n# next\narea = None\n",
        "```\n\nThis function",
    ],
)
def test_what_a_python_body_is_followed_by_is_cut(tail):
    cut = cut_continuation("python", HEAD, BODY + tail)
    assert cut.startswith(BODY)
    namespace = {}
    exec(HEAD + cut, namespace)
    assert namespace["area"](1) == pytest.approx(3.14159, abs=1e-4)


def test_functions_and_imports_below_a_body_stay():
    body = "    return square(r) * math.pi\n"
    helper = "\ndef square(r):\n    return power(r, 2)\n\nfrom operator import pow as power\n"
    assert cut_continuation("python", HEAD, f"{body}{helper}") == f"{body}{helper}"
    assert cut_continuation("python", HEAD, f"{body}{helper}print(1)\n") == f"{body}{helper}"


@pytest.mark.parametrize(
    "body",
    [
        "    x = '''\nnot the end\n'''\n    return x\n",
        "    return [\nr,\nr,\n]\n",
        "    # a comment\n# in the first column\n    return r\n",
        "    if r:\n        return 1\n\n\n    return 0",
        "    return r",
        "\n    return r\n",
    ],
)
def test_a_python_body_alone_stays_whole(body):
    assert cut_continuation("python", HEAD, body) == body
    assert cut_continuation("python", HEAD, f"{body}\nprint(1)").rstrip() == body.rstrip()


@pytest.mark.parametrize(
    "text", ["", "\n", "def area(r):\n    return 1\n\nprint(2)", "    return (\n", "x = 1\n"]
)
def test_python_that_continues_nothing_or_never_ends_stays_as_it_is(text):
    assert cut_continuation("python", HEAD, text) == text


@pytest.mark.parametrize("body", [BODY, "    r = r ** 2\n    return math.pi * r\n"])
def test_blanks_that_a_tokenizer_dropped_are_put_back(body):
    whole = join_continuation("python", HEAD, f"{body}\nprint(")
    assert join_continuation("python", HEAD, f"{body}\nprint(".lstrip()) == whole
    namespace = {}
    exec(whole, namespace)
    assert namespace["area"](1) == pytest.approx(3.14159, abs=1e-4)


@pytest.mark.parametrize(
    ("beginning", "text"),
    [
        (HEAD, "def other(r):\n    return 1\n"),
        (HEAD, "import cmath\n"),
        (HEAD, "from cmath import (\n    pi,\n)\n"),
        (HEAD, "\n"),
        ("def double(x):\n    return 2 * x\n\n", "area = lambda r: r\n"),
        ("import math\n", "area = math.sqrt\n"),
        ("def area(r):", " return r\n"),
    ],
)
def test_what_begins_anew_keeps_its_column(beginning, text):
    assert join_continuation("python", beginning, text) == beginning + text


def test_a_body_on_the_line_of_its_head_ends_with_that_line():
    assert cut_continuation("python", "def f(x):", " return x\nprint(f(1))\n") == " return x\n"


@pytest.mark.parametrize(
    "beginning", [ARROW, "function area(r) {\n", "class A {}\nasync function area(r) {\n"]
)
@pytest.mark.parametrize("tail", [";\nconsole.log(area(1", "\n\nconsole.log(area(1));", "\n}\n", "\n/* then"])
def test_what_a_javascript_body_is_followed_by_is_cut(beginning, tail):
    body = "  const brace = '}', t = `${r}}`;\n  if (r) { return { r }; }\n  return /}/.test(t);\n}"
    assert cut_continuation("javascript", beginning, body + tail) == body


def test_functions_below_a_javascript_body_stay():
    text = "  return square(r);\n}\nfunction square(r) { return r * r; }"
    assert cut_continuation("javascript", ARROW, f"{text}\nsquare(") == f"{text}\n"
    again = "  return 1;\n}\nfunction area(r) { return 2; }"
    assert cut_continuation("javascript", "function area(r) {\n", again) == "  return 1;\n}"


@pytest.mark.parametrize(
    ("language", "body", "helper"),
    [
        ("python", "    return square(r)\n\n", "@cache\ndef square(r):\n    return r * r"),
        ("python", "    return square(r)\n\n", "square = lambda r: r * r"),
        ("python", "    return Square(r).area\n\n", "class Square:\n    pass"),
        ("javascript", "  return square(r);\n}", ";\n\nconst square = (r) => {\n  return r * r;\n}"),
        ("javascript", "  return square(r);\n}", "\nconst square = r => r * r;"),
        ("javascript", "  return [...square(r)];\n}", ";\nfunction* square(r) { yield r; }"),
        ("javascript", "  return new Square(r);\n}", "\nclass Square {}"),
    ],
)
def test_every_kind_of_helper_below_a_body_stays(language, body, helper):
    beginning = HEAD if language == "python" else ARROW
    text = f"{body}{helper}\n"
    assert cut_continuation(language, beginning, text) == text
    assert cut_continuation(language, beginning, f"{text}\nprint(area(") == text


@pytest.mark.parametrize(
    ("language", "body", "tail"),
    [
        ("python", BODY, "\nimport pytest\n\ndef test_area():\n    pass\n"),
        ("python", BODY, "\nclass TestArea(unittest.TestCase):\n    pass\n"),
        ("python", BODY, "\nfrom solution import area\n"),
        ("javascript", "  return r;\n}", "\nimport assert from 'assert';\n"),
        ("javascript", "  return assert(r);\n}", "\nimport assert from 'assert';\n"),
        ("javascript", "  return r;\n}", "\nclass A extends B {\n}\n"),
        ("javascript", "  return r;\n}", "\nconst test = () => { throw 1; };\n"),
    ],
)
def test_what_a_right_body_does_not_use_goes(language, body, tail):
    beginning = HEAD if language == "python" else ARROW
    assert cut_continuation(language, beginning, body + tail).strip("\n") == body.strip("\n")


def test_a_helper_keeps_what_it_uses_itself_and_no_more():
    tail = "\ndef one(r):\n    return two(r)\n\ndef two(r):\n    return r\n\ndef three(r):\n    pass\n"
    cut = cut_continuation("python", HEAD, "    return one(r)\n\nimport pytest\n" + tail)
    assert "def one" in cut
    assert "def two" in cut
    assert "three" not in cut
    assert "pytest" not in cut


@pytest.mark.parametrize("tail", ["", "\nThis is the area.\n", "\nprint(area("])
@pytest.mark.parametrize(
    ("language", "beginning", "before", "again"),
    [
        ("python", HEAD, "import math\n\n", "def area(r):\n    return 1\n"),
        ("python", HEAD, "import math\n\n", "@cache\ndef area(r):\n    return 1\n"),
        ("python", HEAD, "import math\n\n", "from math import pi\n\ndef area(r):\n    return pi\n"),
        ("javascript", ARROW, "/* Area. */\n", "const area = (r) => {\n  return 1;\n}\n"),
        ("javascript", ARROW, "/* Area. */\n", "function area(r) {\n  return 1;\n}\n"),
    ],
)
def test_the_function_from_its_head_on_stands_in_its_place(language, beginning, before, again, tail):
    assert join_continuation(language, beginning, again + tail) == before + again


def test_an_import_that_lost_its_blanks_gets_them_back():
    body = "    import cmath\n\n    return abs(cmath.pi * r * r)\n"
    assert join_continuation("python", HEAD, body.lstrip()) == HEAD + body


@pytest.mark.parametrize(
    ("language", "answer", "kept"),
    [
        (
            "python",
            "PI = 3\n\ndef area(r):\n    return PI\n\narea(1",
            "PI = 3\n\ndef area(r):\n    return PI\n",
        ),
        ("python", "def area(r):\n    return 1", "def area(r):\n    return 1"),
        (
            "javascript",
            "const pi = 3;\nconst area = r => pi;\nArea of",
            "const pi = 3;\nconst area = r => pi;\n",
        ),
        ("python", "print(1)\ndef area(r):\n    return 1\n", None),
        ("python", "def other(r):\n    return 1\n", None),
        ("python", "def area(r):\n    return (", None),
        ("python", "", None),
        ("javascript", "if (true) { }\nfunction area() {}", None),
    ],
)
def test_a_whole_answer_ends_after_its_function(language, answer, kept):
    assert cut_program(language, answer, "area") == kept


def test_javascript_after_a_whole_beginning_stays_as_it_is():
    text = "function f() { return pi; }\nf("
    assert cut_continuation("javascript", "const pi = 3;\n", text) == text


def test_other_languages_stay_as_they_are():
    assert cut_continuation("ruby", "def f\n", "  1\nend\nputs 1\n") == "  1\nend\nputs 1\n"


def test_an_answer_of_nothing_but_ends_is_not_looked_at_for_ever(monkeypatch):
    calls = []
    from codestrata.languages import endings

    parse = endings.parse_whole
    monkeypatch.setattr(endings, "parse_whole", lambda *texts: calls.append(1) or parse(*texts))
    text = "  ((\n" + "}\n" * 5000
    assert cut_continuation("javascript", ARROW, text) == text
    assert len(calls) <= MOST_ENDS + 2
