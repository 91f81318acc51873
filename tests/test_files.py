import json
import math
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata import files
from codestrata.errors import DataError

PROPERTY = settings(deadline=None, max_examples=25)

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
row_lists = st.lists(st.dictionaries(st.text(), documents, max_size=3), max_size=4)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder that hypothesis may use again and again."""
    return tmp_path_factory.mktemp("scratch")


def fail(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_interrupted_write_leaves_the_folder_as_it_was(tmp_path, monkeypatch, step, old):
    path = tmp_path / "scores.json"
    if old is not None:
        path.write_bytes(old)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(path, b"new")
    assert sorted(tmp_path.iterdir()) == before
    assert old is None or path.read_bytes() == old


def test_a_write_replaces_the_whole_file_and_makes_its_folders(tmp_path):
    path = tmp_path / "lora" / "seed-0" / "scores.txt"
    files.write_text(path, "a long first version")
    files.write_text(path, "é")
    assert path.read_bytes() == b"\xc3\xa9"
    assert [entry.name for entry in path.parent.iterdir()] == ["scores.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_files_can_be_read_by_others(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@PROPERTY
@given(documents)
def test_json_comes_back_as_it_was_written(scratch, document):
    path = scratch / "document.json"
    files.write_json(path, document)
    assert files.read_json(path) == document


@PROPERTY
@given(row_lists)
def test_jsonl_comes_back_with_line_numbers(scratch, rows):
    path = scratch / "rows.jsonl"
    files.write_jsonl(path, rows)
    assert list(files.read_jsonl(path)) == list(enumerate(rows, start=1))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("write", [files.write_json, files.write_jsonl])
def test_numbers_that_json_lacks_are_refused_and_the_old_file_stays(tmp_path, write, number):
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(path, [{"value": number}])
    assert path.read_text() == "old"


def test_json_is_indented_and_not_escaped(tmp_path):
    files.write_json(tmp_path / "a.json", {"name": "é"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "é"\n}\n'


def test_line_numbers_count_the_empty_lines_that_are_skipped(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"a": 1}\n  \n{"a": 2}')
    assert list(files.read_jsonl(path)) == [(2, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": }\n', r"rows\.jsonl:2: not JSON: Expecting value \(column 7\)$"),
        (b'{}\n\n"text"\n', r"rows\.jsonl:3: expected a JSON object, found str"),
        (b"{}\n[1]\n", r"rows\.jsonl:2: expected a JSON object, found list"),
        (b'{}\n{"a": "\xff"}\n', r"rows\.jsonl:2: not UTF-8: invalid start byte at byte 7"),
        (b"[" * 100_000, r"rows\.jsonl:1: not usable JSON: nested too deeply"),
    ],
)
def test_a_bad_line_is_named(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(files.read_jsonl(path))
    assert caught.value.path == path


def test_lines_before_a_bad_one_are_given(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\nbad\n')
    reader = files.read_jsonl(path)
    assert next(reader) == (1, {"a": 1})
    with pytest.raises(DataError):
        next(reader)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n  "a": }', r"a\.json:2: not JSON: Expecting value \(column 8\)$"),
        (b'"\xff"', r"a\.json: not UTF-8: invalid start byte at byte 1"),
        (b"[" * 100_000, r"a\.json: not usable JSON: nested too deeply"),
        (b"", r"a\.json:1: not JSON: Expecting value"),
    ],
)
def test_a_bad_document_is_named(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        files.read_json(path)


@pytest.mark.parametrize("read", [files.read_json, lambda path: list(files.read_jsonl(path))])
def test_a_missing_file_is_a_data_error(tmp_path, read):
    with pytest.raises(DataError, match=r"absent\.json: cannot be read: No such file"):
        read(tmp_path / "absent.json")


def test_hashes_are_those_of_sha256():
    assert files.hash_text("abc").startswith("ba7816bf8f01cfea414140de5dae2223")
    assert files.hash_json({"b": 1, "a": [None, "é"]}) == files.hash_text('{"a":[null,"\\u00e9"],"b":1}')


@PROPERTY
@given(st.dictionaries(st.text(), documents))
def test_the_hash_of_json_does_not_depend_on_the_order_of_keys(document):
    assert files.hash_json(dict(reversed(document.items()))) == files.hash_json(document)


@PROPERTY
@given(documents, documents)
def test_different_json_has_different_hashes(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (files.hash_json(first) == files.hash_json(second)) == same
