"""What one file gives."""

import json
from dataclasses import replace

import pytest

from codestrata.data.mining import filters, harvest, sources, texts
from codestrata.data.mining.definitions import BROKEN, MOST_FRAMED_CHARACTERS, extract
from codestrata.data.mining.harvest import Harvest, harvest_file, write_record
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.repositories import Provenance
from codestrata.data.mining.seen import Seen
from codestrata.data.mining.sources import SourceFile
from codestrata.errors import SlowParseError

AREA = '''def area(width, height):
    """The area of a rectangle.

    Both are in metres.
    """
    return width * height
'''
KEY = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7xY9zA2cD4fG6"
SECRET = f'''def connect(client):
    """Connect the client to its host."""
    client.token = "{KEY}"
    return client
'''
SHORT = '''

def perimeter(a, b):
    """Sum."""
    c = a + b
    return 2 * c


def plain(a):
    return a
'''


@pytest.fixture
def reap(tmp_path):
    """A function that harvests one file with this content."""

    def run(content, *, name="shapes.py", language="python", mined=None, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        file = SourceFile(str(path), str(tmp_path), path.stat().st_size)
        return harvest_file(file, language, MiningOptions(**options), Seen() if mined is None else mined)

    return run


def read(found):
    return [json.loads(line) for _, line in found.records]


def test_a_record_has_codesearchnets_fields_and_ours(reap, tmp_path):
    (record,) = read(reap("# Shapes\n\n" + AREA))
    assert list(record) == [
        *("repo", "path", "func_name", "original_string", "language", "code", "code_tokens", "docstring"),
        *("docstring_tokens", "sha", "url", "partition", "summary", "start_line", "end_line", "license"),
        *("license_file", "commit_date"),
    ]
    assert record["repo"] == tmp_path.name
    assert record["path"] == "shapes.py"
    assert record["func_name"] == "area"
    assert record["code"] == record["original_string"] == AREA.rstrip("\n")
    assert record["language"] == "python"
    assert record["docstring_tokens"] == ["The", "area", "of", "a", "rectangle", "."]
    assert record["summary"] == "The area of a rectangle."
    assert (record["start_line"], record["end_line"]) == (3, 8)
    nulls = ("sha", "url", "partition", "license", "license_file", "commit_date")
    assert {key: record[key] for key in nulls} == dict.fromkeys(nulls)


def test_what_is_left_out_is_counted(reap):
    found = reap(AREA + SHORT)
    assert found.functions == 3
    assert [record["func_name"] for record in read(found)] == ["area"]
    assert found.dropped == {filters.SHORT_DOCUMENTATION: 1, filters.UNDOCUMENTED: 1}


def test_functions_with_secrets_are_left_out_unless_asked_for(reap):
    found = reap(SECRET + "\n\n" + AREA)
    assert [record["func_name"] for record in read(found)] == ["area"]
    assert found.dropped == {harvest.SECRET: 1}
    assert len(read(reap(SECRET, keep_secrets=True))) == 1


def test_a_secret_in_the_documentation_counts_too(reap):
    source = f"// Connect uses {KEY} as the token\nfunc Connect(a int) int {{\n\ta++\n\treturn a\n}}\n"
    assert reap("package main\n\n" + source, name="a.go", language="go").dropped == {harvest.SECRET: 1}


def test_the_filter_of_licences_looks_at_the_file(reap):
    licensed = "# SPDX-License-Identifier: MIT\n" + AREA
    assert read(reap(licensed, licenses=("MIT",)))[0]["license"] == "MIT"
    assert reap(licensed, licenses=("Apache-2.0",)).skipped == harvest.LICENSE_OTHER
    assert reap(AREA, licenses=("MIT",)).skipped == harvest.LICENSE_UNKNOWN


def test_syntax_errors_are_not_fatal(reap):
    found = reap("def broken(:\n\n\n" + AREA)
    assert found.has_errors
    assert found.skipped is None
    assert [record["func_name"] for record in read(found)] == ["area"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x\0y", texts.BINARY),
        (b" \n", sources.EMPTY),
        (b"# @generated\n" + AREA.encode(), sources.GENERATED),
        (b"x = '" + b"a" * 9999 + b"'\n", sources.MINIFIED),
        (b"# " + b"\xd0" * 9 + b"\n", texts.UNKNOWN_ENCODING),
    ],
)
def test_files_that_are_skipped_have_a_reason(reap, content, reason):
    found = reap(content)
    assert (found.skipped, found.records) == (reason, [])


def test_a_file_that_is_gone(tmp_path):
    gone = SourceFile(str(tmp_path / "gone.py"), str(tmp_path), 7)
    assert harvest_file(gone, "python", MiningOptions(), Seen()) == Harvest(7, skipped=sources.GONE)


@pytest.mark.parametrize(
    "content",
    [
        AREA.replace("\n", "\r\n").encode(),
        AREA.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + AREA.encode(),
        AREA.encode("utf-16"),
    ],
)
def test_line_breaks_and_marks_change_nothing(reap, content):
    (record,) = read(reap(content))
    assert record["code"] == AREA.rstrip("\n")
    assert record["start_line"] == 1


def test_tabs_stay(reap):
    (record,) = read(reap(AREA.replace("    ", "\t")))
    assert record["code"] == AREA.rstrip("\n").replace("    ", "\t")


def test_characters_beyond_ascii_stay(reap):
    source = AREA.replace("rectangle", "Größe").replace("width", "breite_ä")
    (record,) = read(reap(source))
    assert record["code"] == source.rstrip("\n")
    (record,) = read(reap(source.encode("windows-1252")))
    assert record["code"] == source.rstrip("\n")


def test_a_lone_surrogate_is_written_as_a_question_mark(reap):
    (definition,) = extract("python", AREA).functions
    line = write_record(replace(definition, docstring="a\ud800"), "a.py", "python", Provenance(repo="a"))
    assert json.loads(line)["docstring"] == "a?"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SlowParseError("late"), harvest.SLOW),
        (MemoryError(), harvest.MEMORY),
        (RecursionError(), harvest.DEEP),
    ],
)
def test_a_file_that_asks_too_much_is_skipped(reap, monkeypatch, error, reason):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(harvest, "extract", fail)
    assert reap(AREA).skipped == reason


def test_a_copy_is_not_mined_again_but_what_was_skipped_is(reap):
    mined = Seen()
    licensed = "# SPDX-License-Identifier: MIT\n" + AREA
    assert reap(licensed, mined=mined, licenses=("ISC",)).skipped == harvest.LICENSE_OTHER
    first = reap(licensed, mined=mined)
    assert len(first.records) == 1
    again = reap(licensed, mined=mined, name="copy.py")
    assert again == Harvest(first.bytes, digest=first.digest)
    refused = reap(licensed, mined=mined, name="copy.py", licenses=("ISC",))
    assert refused.skipped == harvest.LICENSE_OTHER


TEMPLATES = {
    "a template of javascript": ("javascript", "function f() {\n  return html`<a>%s</a>`;\n}"),
    "a template of typescript": ("typescript", "function f(): T {\n  return `%s ${x}`;\n}"),
    "a regular expression of ruby": ("ruby", "def f\n  /%s/\nend"),
    "a command of ruby": ("ruby", "def f\n  `%s`\nend"),
    "a character of java": ("java", "char f() {\n  return '%s';\n}"),
    "a text of go": ("go", 'func f() string {\n\treturn "%s"\n}'),
    "a text of php": ("php", 'function f() {\n  return "%s";\n}'),
    "a text of python": ("python", "def f():\n    return '%s'\n"),
}


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_functions_whose_texts_differ_are_not_the_same(name):
    language, source = TEMPLATES[name]
    digests = [extract(language, source.replace("%s", text)).functions[0].digest for text in "aba"]
    assert digests[0] == digests[2] != digests[1]


def test_comments_docstrings_and_layout_make_no_other_code():
    bare = extract("python", "def f(x):\n    y = x + 1\n    return y\n").functions[0].digest
    other = 'def f(x):\n    """Doc."""\n    # Said.\n    y = x \\\n        + 1; return y\n'
    assert extract("python", other).functions[0].digest == bare


def test_functions_that_are_broken_are_counted(reap):
    found = reap(AREA + "\n\ndef bad(a):\n    x = = 1\n    return x\n")
    assert (found.functions, found.dropped) == (2, {BROKEN: 1})


def test_a_text_in_a_php_file_has_no_functions_and_no_errors(reap):
    found = reap("<div>It's plain (html) {\n</div>\n", name="a.php", language="php")
    assert (found.skipped, found.has_errors, found.functions) == (None, False, 0)


def test_a_large_file_of_typescript_with_jsx_is_read(reap):
    part = (
        "/** Shows the row number. */\nexport const R = (p: P) => {\n  return <b x={1}>Don't {p}</b>;\n};\n"
    )
    count = 2 * MOST_FRAMED_CHARACTERS // len(part)
    found = reap(part * count, name="a.tsx", language="typescript")
    assert (found.has_errors, found.functions, len(found.records)) == (False, count, count)


def test_equal_tokens_share_a_number(reap):
    first = reap(AREA).records[0][0]
    assert reap(AREA.replace(" * ", "  *  ") + "\n\nx = 1\n").records[0][0] == first
    assert reap(AREA.replace(" * ", " + ")).records[0][0] != first


def test_deep_nesting_is_no_harm(reap):
    found = reap(AREA + "\n\nx = " + "(\n" * 20000 + ")\n" * 20000)
    assert [record["func_name"] for record in read(found)] == ["area"]
