"""Mining agrees with real CodeSearchNet records, code and documentation, and says where it does not."""

import ast
import inspect
import json
from collections import Counter, defaultdict

import pytest

from codestrata.data.mining.agreement import compare_record, show_difference
from codestrata.data.mining.definitions import extract

LANGUAGES = ("go", "java", "javascript", "php", "python", "ruby")
LEAST_SHARE = 0.98
EVERY = 3  # of the records of which files are built: those tests stay short


def frame_lines(mark, text):
    """Each line of a text after a mark and a space."""
    return "\n".join(f"{mark} {line}" for line in text.split("\n"))


STYLES = {
    "block with stars": lambda text: f"/**\n{frame_lines(' *', text)}\n */",
    "block without stars": lambda text: f"/*\n{text}\n*/",
    "block beginning in its first line": lambda text: f"/** {text} */",
    "slashes": lambda text: frame_lines("//", text),
    "hashes": lambda text: frame_lines("#", text),
    "hashes alone": lambda text: "\n".join(f"#{line}" for line in text.split("\n")),
    "begin and end": lambda text: f"=begin\n{text}\n=end",
    "as it stands": lambda text: text,
}
BLOCKS = ("block with stars", "block without stars", "block beginning in its first line")
STYLES_OF = {
    "go": ("as it stands",),
    "java": (*BLOCKS, "slashes"),
    "javascript": (*BLOCKS, "slashes"),
    "php": (*BLOCKS, "slashes", "hashes"),
    "ruby": ("hashes", "hashes alone", "begin and end"),
}


def indent(text, by="    "):
    """A text with each of its lines further in."""
    return "\n".join(by + line for line in text.split("\n"))


FILES = {
    "go": lambda comment, code: f'package some\n\nimport "fmt"\n\n{comment}\n{code}\n\nfunc last() {{}}\n',
    "java": lambda comment, code: (
        f"package some;\n\npublic class Some {{\n    int x;\n\n{indent(comment)}\n    {code}\n}}\n"
    ),
    "javascript": lambda comment, code: (
        f"'use strict';\nvar first = 1; // not this\n\n{comment}\nexports.some = {code};\n"
        if code.startswith("function")
        else f"class Some {{\n{indent(comment)}\n    {code}\n}}\n"
    ),
    "php": lambda comment, code: (
        f"<?php\nnamespace Some;\n\nclass Some {{\n    var $x;\n\n{indent(comment)}\n    {code}\n}}\n"
    ),
    "ruby": lambda comment, code: f"module Some\n  class More < Most\n{comment}\n    {code}\n  end\nend\n",
}


@pytest.fixture(scope="module")
def read_records(shared_data):
    """A function that gives the real records of a language."""

    def read(language):
        with open(shared_data / "codesearchnet" / language / "test.jsonl", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    return read


def report_share(what, count, disagreements):
    """Print the disagreements, and refuse too many."""
    share = 1 - len(disagreements) / count
    print(f"{what}: {share:.2%} of {count}")
    for record, ours, theirs in disagreements:
        print(f"  {record['repo']} {record['path']} {record['func_name']}: {ours} where {theirs}")
    assert count > 50
    assert share >= LEAST_SHARE, f"{what}: {share:.2%}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_code_of_records_is_mined_as_recorded(read_records, language):
    compared, wrong = Counter(), defaultdict(list)
    for record in read_records(language):
        for what, ours, theirs in compare_record(record):
            compared[what] += 1
            if ours != theirs:
                wrong[what].append((record, *show_difference(ours, theirs)))
    expected = {"code", "code_tokens", "name"}
    assert set(compared) == (
        expected | {"docstring", "docstring_tokens"} if language == "python" else expected
    )
    for what, count in compared.items():
        report_share(f"{language} {what}", count, wrong[what])


@pytest.mark.parametrize(
    ("language", "style"), [(language, style) for language, styles in STYLES_OF.items() for style in styles]
)
def test_documentation_of_rebuilt_files_is_mined_as_recorded(read_records, language, style):
    number = STYLES_OF[language].index(style)
    records = [
        record
        for record in read_records(language)[number % EVERY :: EVERY]
        if "*/" not in record["docstring"] or not style.startswith("block")
    ]
    wrong = []
    for place, record in enumerate(records):
        comment = STYLES[style](record["docstring"])
        bare = place % 2 == 0
        source = f"{comment}\n{record['code']}" if bare else FILES[language](comment, record["code"])
        found = [
            function
            for function in extract(language, source, documented_only=True).functions
            if function.code == record["code"] and list(function.code_tokens) == record["code_tokens"]
        ]
        ours = found[0].docstring if found else "no such function"
        if ours != record["docstring"]:
            wrong.append((record, *show_difference(ours, record["docstring"])))
        elif list(found[0].docstring_tokens) != record["docstring_tokens"]:
            wrong.append((record, *show_difference(found[0].docstring_tokens, record["docstring_tokens"])))
    report_share(f"{language}, {style}", len(records), wrong)


@pytest.mark.parametrize("language", sorted(STYLES_OF))
def test_a_class_around_a_function_qualifies_its_name(read_records, language):
    expected = {"go": "", "java": "Some.", "javascript": "", "php": "Some.", "ruby": "Some.More."}
    for record in read_records(language)[:20]:
        source = FILES[language](STYLES[STYLES_OF[language][0]](record["docstring"]), record["code"])
        mined = next(function for function in extract(language, source).functions if function.docstring)
        assert mined.qualified_name == f"{expected[language]}{mined.name}"


def test_docstrings_of_cosqa_are_mined_as_python_reads_them(shared_data):
    """Its docstrings are dedented, and it has nearly no Python 2, so that Python says what they are."""
    with open(shared_data / "cosqa" / "python.jsonl", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines][::EVERY]
    compared, wrong = 0, []
    for record in records:
        mined = extract("python", record["code"]).functions[0]
        recorded, dedented = record["docstring"], inspect.cleandoc(mined.docstring)
        if " ".join(recorded.split()) != " ".join(mined.docstring.split()):
            wrong.append(({"repo": "cosqa", "path": record["idx"], **record}, dedented[:60], recorded[:60]))
        try:
            node = ast.parse(record["code"]).body[0]
        except SyntaxError:
            continue
        literal = ast.get_docstring(node, clean=False)
        if literal is not None and "\\" not in mined.docstring:
            assert mined.docstring == literal.strip()
            compared += 1
    assert compared > 1000
    report_share("cosqa docstrings", len(records), wrong)
