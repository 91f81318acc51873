import ast
import random
import re
import subprocess
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.data.codesearchnet import HUB_LANGUAGES, Function, load_functions
from codestrata.data.objectives import (
    PIECE,
    build_example,
    clean_documentation,
    corrupt_spans,
    cut_docstring,
    find_docstring,
    split_half,
    summarize_documentation,
)
from codestrata.errors import DataError
from codestrata.records import Example
from codestrata.settings.tasks import OBJECTIVES

CODE = '''def mean(xs):
    """Arithmetic mean.

    Fails on no numbers.
    """

    total = sum(xs)
    return total / len(xs)
'''
MIDDLE = CODE.index('    """\n\n')
CUT_CODE = "def mean(xs):\n    total = sum(xs)\n    return total / len(xs)\n"


def make_function(
    code=CODE, docstring="Arithmetic mean.\n\n    Fails on no numbers.\n    ", language="python"
):
    return Function(
        identifier="owner/repository:mean:1",
        repository="owner/repository",
        name="mean",
        language=language,
        code=code,
        docstring=docstring,
        partition=None,
    )


def restore(source, target):
    """The text that was corrupted: every sentinel of the source replaced by its span of the target."""
    parts = re.split(r"<extra_id_(\d+)>", target)
    assert parts[0] == "", "a target starts with a sentinel"
    spans = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(spans) == [str(number) for number in range(len(spans))]
    assert re.findall(r"<extra_id_(\d+)>", source) == list(spans)
    return re.sub(r"<extra_id_(\d+)>", lambda match: spans[match[1]], source)


@pytest.mark.parametrize(
    ("objective", "prompt", "target"),
    [
        ("generate", "Arithmetic mean.\n\nFails on no numbers.", CUT_CODE),
        ("summarize", CUT_CODE, "Arithmetic mean."),
        ("complete", CODE[:MIDDLE], CODE[MIDDLE:]),
        ("continue", CODE[:MIDDLE], CODE),
        ("copy", CODE, CODE),
    ],
)
def test_every_objective_on_one_function(objective, prompt, target):
    example = build_example(objective, make_function())
    assert example == Example(
        identifier="owner/repository:mean:1", prompt=prompt, target=target, group="owner/repository"
    )


def test_denoise_masks_and_keeps_everything():
    example = build_example("denoise", make_function())
    assert "<extra_id_0>" in example.prompt
    assert restore(example.prompt, example.target) == CODE


@pytest.mark.parametrize(
    ("objective", "changes", "reason"),
    [
        ("generate", {"docstring": " \n"}, "no docstring"),
        ("summarize", {"docstring": ""}, "no docstring"),
        ("generate", {"docstring": "//\n// "}, "no docstring"),
        ("summarize", {"docstring": "@param xs numbers"}, "no summary"),
        ("generate", {"code": "  \n"}, "no code"),
        ("copy", {"code": ""}, "no code"),
        (
            "generate",
            {"code": "class ( Arithmetic mean. Fails\non no numbers."},
            "docstring cannot be cut from the code",
        ),
        ("complete", {"code": "x"}, "too short to halve"),
        ("continue", {"code": "x  "}, "too short to halve"),
        ("denoise", {"code": " word "}, "too short to mask"),
        ("denoise", {"code": "print('<extra_id_0>')"}, "code contains a sentinel"),
    ],
)
def test_what_cannot_serve_says_why(objective, changes, reason):
    assert build_example(objective, make_function(**changes)) == reason


@pytest.mark.parametrize(
    ("code", "cut"),
    [
        ('def f():\n    """doc"""\n    return 1', "def f():\n    return 1"),
        ('def f():\n    """doc"""\n\n  \n    return 1\n', "def f():\n    return 1\n"),
        (
            'def f(self):\n        """a\n        b\n        """\n        return 1',
            "def f(self):\n        return 1",
        ),
        ("def f():\r\n    'doc'\r\n    return 1\r\n", "def f():\r\n    return 1\r\n"),
        ('def f():\n    """doc"""', "def f():\n    pass"),
        ("def f(): 'doc'\n", "def f(): pass\n"),
        ("def f():\n    'doc'\n    # only a remark\n", "def f():\n    pass\n    # only a remark\n"),
        ("def f(): 'doc'; return 1", "def f(): return 1"),
        ("def f():\n    'doc' ; x = 1\n    return x", "def f():\n    x = 1\n    return x"),
        ("def f():\n    'doc';\n    return 1", "def f():\n    return 1"),
        ("def f():\n    # why\n    'doc'\n    return 1", "def f():\n    # why\n    return 1"),
        ("def f():\n    'doc'  # noqa\n    return 1", "def f():\n      # noqa\n    return 1"),
        ("def f():\n    'a' \"b\"\n    return 1", "def f():\n    return 1"),
        ("def f():\n    Ur'a'\n    return 1", "def f():\n    return 1"),
        ("def f():\n    'doc'\n    'and more'\n    return 1", "def f():\n    return 1"),
        (
            "@decorated('x')\nasync def f():\n    'doc'\n    await g()",
            "@decorated('x')\nasync def f():\n    await g()",
        ),
        ("class A:\n    'doc'\n    x = 1", "class A:\n    x = 1"),
        ("def f():\n    'größer'\n    return 'ß'", "def f():\n    return 'ß'"),
        ("def f(a, (b, c)):\n    'doc'\n    print a, `b`", "def f(a, (b, c)):\n    print a, `b`"),
        (
            "def f():\n    'doc'\n    try: pass\n    except A, e: raise B, e",
            "def f():\n    try: pass\n    except A, e: raise B, e",
        ),
    ],
)
def test_the_docstring_is_cut(code, cut):
    assert cut_docstring(code) == cut
    assert cut_docstring(cut) == cut


@pytest.mark.parametrize(
    "code",
    [
        "",
        "x = 1",
        "'doc of a module'",
        "def f():\n    b'bytes'",
        "def f(x):\n    f'{x}'",
        "def f(x):\n    'a' f'{x}'",
        "def f():\n    return 'doc'",
        "def f():\n    'doc'.strip()",
        "def f():\n    x = 'doc'",
        "def f():\n    def g():\n        'inner'\n    return g",
        "def f(",
    ],
)
def test_what_is_no_docstring_stays(code):
    assert cut_docstring(code) == code


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        ("One line.", "One line."),
        ("Two\n   lines.\n\nAnd more.", "Two lines."),
        ("Text\n@param x number", "Text"),
        ("Text\n    :param int x: number", "Text"),
        ("// Set sets the\n// value.\n//\n// More.", "Set sets the value."),
        ("  See http://example.org // here.", "See http://example.org // here."),
    ],
)
def test_a_summary_is_the_first_paragraph_in_one_line(docstring, summary):
    assert summarize_documentation(clean_documentation(docstring)) == summary


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("a\nb\n", ("a\n", "b\n")),
        ("aa\nb\nc\n", ("aa\n", "b\nc\n")),
        ("a\nbbbbbbbbbbbb\nc", ("a\n", "bbbbbbbbbbbb\nc")),
        ("abcd", ("ab", "cd")),
        ("abcde\n", ("abc", "de\n")),
        ("\n\nab", None),
        ("", None),
    ],
)
def test_a_half_ends_at_the_line_nearest_to_the_middle(text, halves):
    assert split_half(text) == halves


def test_a_function_of_hundreds_of_strings_keeps_them():
    strings = "    'one after the other'\n"
    assert cut_docstring("def f():\n" + 50 * strings + "    return 1") == "def f():\n    return 1"
    code = "def f():\n" + 300 * strings + "    return 1"
    assert cut_docstring(code) == code


def test_a_definition_inside_much_that_cannot_be_read_is_found():
    code = "(" * 3000 + "\ndef f():\n    'doc'\n    return 1"
    assert cut_docstring(code) in (code, code.replace("    'doc'\n", ""))


def test_halves_of_very_many_lines_are_found_at_once():
    text = "\n" * 200_000 + "a\nb\n" + " \n" * 100_000
    halves = split_half(text)
    assert halves is not None
    assert halves == ("\n" * 200_000 + "a\n", "b\n" + " \n" * 100_000)
    long = "a\n" * 200_000
    assert split_half(long) == ("a\n" * 100_000, "a\n" * 100_000)


@given(st.text(alphabet="ab \n\té", max_size=60))
def test_halves_are_the_text_again(text):
    halves = split_half(text)
    if halves is not None:
        assert "".join(halves) == text
        assert all(half.strip() for half in halves)


@settings(deadline=None)
@given(
    text=st.text(max_size=400).filter(lambda text: "<extra_id_" not in text and len(PIECE.findall(text)) > 1),
    seed=st.integers(),
    rate=st.floats(0.01, 0.99),
    mean_length=st.floats(1, 10),
)
def test_corruption_loses_nothing(text, seed, rate, mean_length):
    source, target = corrupt_spans(text, random.Random(seed), rate, mean_length)
    assert restore(source, target) == text
    assert not re.search(r"<extra_id_\d+><extra_id_", source), "spans must not touch"
    assert not re.search(r"<extra_id_\d+>(<extra_id_|$)", target), "no span is empty"
    assert corrupt_spans(text, random.Random(seed), rate, mean_length) == (source, target)


@pytest.mark.parametrize(("rate", "mean_length"), [(0.15, 3.0), (0.5, 1.0), (0.9, 2.0), (0.999, 1.0)])
@pytest.mark.parametrize("pieces", [2, 3, 20, 5000])
def test_masked_share_and_number_of_spans(pieces, rate, mean_length):
    text = " ".join(f"w{number}" for number in range(pieces))
    source, target = corrupt_spans(text, random.Random(0), rate, mean_length)
    masked = len(re.findall(r"w\d+", target))
    assert masked == min(max(round(pieces * rate), 1), pieces - 1)
    spans = target.count("<extra_id_")
    assert spans == min(max(round(masked / mean_length), 1), masked, pieces - masked + 1, 100)
    assert restore(source, target) == text


def test_any_piece_may_be_masked():
    text, times = "a b c d e f g h i j", dict.fromkeys("abcdefghij", 0)
    for seed in range(2000):
        _, target = corrupt_spans(text, random.Random(seed), rate=0.3, mean_length=1.0)
        for word in re.sub(r"<extra_id_\d+>", "", target).split():
            times[word] += 1
    assert sum(times.values()) == 3 * 2000
    assert all(400 < count < 900 for count in times.values()), times


@pytest.mark.parametrize("text", ["", "word", "  \n", "a <extra_id_3> b"])
def test_text_that_cannot_be_masked_is_refused(text):
    with pytest.raises(DataError, match="cannot mask"):
        corrupt_spans(text, random.Random(0))


def test_denoise_is_the_same_in_another_process():
    script = (
        "from codestrata.data.codesearchnet import Function\n"
        "from codestrata.data.objectives import build_example\n"
        f"print(build_example('denoise', {make_function()!r}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert answer.stdout.strip() == repr(build_example("denoise", make_function()))


def parse_or_none(code):
    try:
        with warnings.catch_warnings(action="ignore"):  # "\d" and the like in strings
            return ast.parse(code)
    except SyntaxError:  # Python 2
        return None


def test_the_docstring_of_every_real_python_function_is_cut(shared_data):
    functions, _ = load_functions("python", shared_data / "codesearchnet" / "python")
    parsed = 0
    for function in functions:
        example = build_example("generate", function)
        assert isinstance(example, Example), (function.identifier, example)
        assert " ".join(function.docstring.split()) not in " ".join(example.target.split())
        assert find_docstring(example.target) is None
        tree = parse_or_none(function.code)
        if tree is not None:
            parsed += 1
            tree.body[0].body = tree.body[0].body[1:] or [ast.Pass()]
            assert ast.dump(parse_or_none(example.target)) == ast.dump(tree), function.identifier
    assert parsed == 296


@pytest.mark.parametrize("objective", OBJECTIVES["codesearchnet"])
@pytest.mark.parametrize("language", HUB_LANGUAGES)
def test_every_objective_serves_every_real_record(shared_data, language, objective):
    functions, _ = load_functions(language, shared_data / "codesearchnet" / language)
    for function in functions:
        example = build_example(objective, function)
        assert isinstance(example, Example), (function.identifier, example)
        assert example.prompt.strip()
        assert example.target.strip()
        if objective == "complete":
            assert example.prompt + example.target == function.code
        if objective == "denoise":
            assert restore(example.prompt, example.target) == function.code


@pytest.mark.parametrize("language", ["go", "java", "javascript", "php"])
def test_summaries_agree_with_codesearchnets_own(shared_data, language):
    """CodeSearchNet's ``docstring_tokens`` are of the first paragraph; ours holds the same words."""
    from codestrata.files import read_jsonl

    agreeing = []
    for _, row in read_jsonl(shared_data / "codesearchnet" / language / "test.jsonl"):
        summary = summarize_documentation(clean_documentation(row["docstring"]))
        agreeing.append(re.findall(r"\w", summary) == re.findall(r"\w", "".join(row["docstring_tokens"])))
    assert len(agreeing) == 300
    assert sum(agreeing) >= 285
