"""Rows of every type of file, with what is wrong with them and where."""

import csv
import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.data import rows
from codestrata.data.rows import RECORD_SUFFIXES, is_record_file, read_rows, scan_rows
from codestrata.errors import DataError


@pytest.fixture
def write(tmp_path):
    """A function that writes text to a file and returns its path."""

    def put(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "prompt,target\nadd,+\nhalve,/\n"),
        ("a.csv", "\ufeffprompt,target\r\nadd,+\r\nhalve,/\r\n"),
        ("a.csv", "\n\nprompt;target\nadd;+\n\n;;\n".replace(";;\n", "halve;/\n")),
        ("a.csv", "prompt\ttarget\nadd\t+\nhalve\t/"),
        ("a.tsv", "prompt\ttarget\nadd\t+\nhalve\t/\n"),
        ("A.TSV", 'prompt\t"target"\n"add"\t+\nhalve\t/\n'),
        ("a.csv", ",prompt, target\n0,add,+\n1,halve,/\n"),
    ],
)
def test_tables_in_text(write, name, content):
    assert [row for _, row in read_rows(write(name, content))] == [
        {"prompt": "add", "target": "+"},
        {"prompt": "halve", "target": "/"},
    ]


def test_lines_of_a_table_count_those_inside_quotes(write):
    path = write("a.csv", 'a,b\n"one\ntwo, ""three""",x\nlast,"y\r\nz"\n')
    assert list(read_rows(path)) == [
        (2, {"a": 'one\ntwo, "three"', "b": "x"}),
        (4, {"a": "last", "b": "y\r\nz"}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1\n", ":2: 1 fields where the first line names 2 columns: put a field with a comma"),
        ("a;b\n1;2;3\n", ":2: 3 fields where the first line names 2 columns: put a field with a semicolon"),
        ("a,b,a\n1,2,3\n", ":1: column 'a' occurs twice: rename one"),
        ('\n"a\n', ":2: a quote opens a field here that no quote closes"),
        ('a,b\n1,2\n"3,4\n5,6\n', ":3: a quote opens a field here that no quote closes"),
        ('a,b\n"1"x,2\n', ":2: text follows the closing quote of a field"),
        ("a,b\n1,2\r3,4\n", ":2: a line ends in CR alone"),
        (
            b"a,b\n1,\xe4z\n",
            ":2: not UTF-8: invalid continuation byte at byte 2: save the table as UTF-8 (spr",
        ),
        ("a,b\n1,\0\n", ":2: holds a NUL byte"),
        (",\n1,2\n", ":1: the first line names no columns"),
        ("a,b\n", ": the file holds no records"),
        ("", ": the file holds no records"),
    ],
)
def test_a_faulty_table_is_named_with_its_line(write, content, message):
    path = write("a.csv", content)
    with pytest.raises(DataError, match=re.escape(f"{path}{message}")):
        list(read_rows(path))


def test_a_field_may_be_long_but_not_endless(write, monkeypatch):
    long = "x" * 200_000  # more than Python's reader takes by itself
    before = csv.field_size_limit()
    assert next(read_rows(write("a.csv", f"a,b\n{long},1\n"))) == (2, {"a": long, "b": "1"})
    assert csv.field_size_limit() == before < 200_000  # it is one for the whole process
    monkeypatch.setattr("codestrata.files.LONGEST_LINE_BYTES", 1000)
    with pytest.raises(DataError, match=r"a\.csv:2: the line is longer than"):
        list(read_rows(write("a.csv", f"a,b\n{long},1\n")))


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5), st.sampled_from([",", ";", "\t"]))
def test_what_is_written_by_the_rules_is_read(tmp_path_factory, found, separator):
    def quote(cell):
        return '"' + cell.replace('"', '""') + '"'

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    text = "".join(separator.join(map(quote, row)) + "\n" for row in [("a", "b"), *found])
    path.write_text(text, encoding="utf-8", newline="")
    assert [(row["a"], row["b"]) for _, row in read_rows(path)] == found


def test_faults_are_given_in_their_place_and_the_rest_follows(write):
    lines = ['{"a": 1}', "{", "[1]", "", '{"a": 2}', '{"a": NaN}']
    content = ("\n".join(lines) + "\n").encode() + b'{"a": "\xff"}\n{"a": 3}\n'
    for path in (write("a.jsonl", content), write("a.jsonl.gz", gzip.compress(content))):
        found = list(scan_rows(path))
        assert [line for line, _ in found] == [1, 2, 3, 5, 6, 7, 8]
        assert [line for line, row in found if isinstance(row, DataError)] == [2, 3, 6, 7]
    found = list(scan_rows(write("a.csv", 'a,b\n1,2\n3\n"4"x,5\n6,7\n')))
    assert [(line, isinstance(row, DataError)) for line, row in found] == [
        (2, False),
        (3, True),
        (4, True),
        (5, False),
    ]


def test_what_ends_a_file_is_the_last_finding(write, tmp_path):
    packed = gzip.compress(b'{"a": 1}\n' * 1000)
    *rows_before, (_, last) = scan_rows(write("a.jsonl.gz", packed[:-9]))
    assert "cannot be unpacked" in str(last)
    assert all(row == {"a": 1} for _, row in rows_before)
    [(line, fault)] = scan_rows(tmp_path / "absent.csv")
    assert (line, "No such file" in str(fault)) == (1, True)


def test_parquet(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr(rows, "ROWS_PER_BATCH", 2)
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"a": ["x", "y", "z"], "n": [1, 2, 3]}), path)
    assert list(read_rows(path, {"a"})) == [(1, {"a": "x"}), (2, {"a": "y"}), (3, {"a": "z"})]
    assert [row["n"] for _, row in read_rows(path)] == [1, 2, 3]
    with pytest.raises(DataError, match="field 'n': expected text, found int64"):
        list(read_rows(path, {"a", "n"}, texts={"a", "n"}))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="cannot be read as Parquet after row 0"):
        list(read_rows(path))
    assert isinstance(next(scan_rows(path))[1], DataError)


def test_a_file_of_another_name_is_jsonl(write):
    assert list(read_rows(write("records", json.dumps({"a": 1})))) == [(1, {"a": 1})]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.xlsx", "a.txt", "a.jsonl.bz2"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(write, name):
    path = write(name, json.dumps({"a": 1}))
    with pytest.raises(DataError, match=r"unknown kind of file: expected \.jsonl, .*\.csv"):
        next(read_rows(path))
    [(_, fault)] = scan_rows(path)
    assert "unknown kind of file" in str(fault)


def test_a_json_file_is_a_list_or_lines(write):
    rows = [(1, {"a": 1}), (2, {"a": 2})]
    path = write("a.json", json.dumps([{"a": 1}, {"a": 2}], indent=1))
    assert list(read_rows(path)) == list(scan_rows(path)) == rows
    assert list(read_rows(write("b.json", '{"a": 1}\n{"a": 2}\n'))) == rows


def test_one_rule_says_which_files_of_a_folder_are_read():
    names = ["a.jsonl", "A.JSONL", "a.Parquet", ".a.jsonl", "a.json", "a.md"]
    assert [is_record_file(Path(name)) for name in names] == [True, True, True, False, False, False]
    assert is_record_file(Path("a.JSON"), RECORD_SUFFIXES)
