"""CodeTask-CL's files: pairs in one file, pairs in two, and what is wrong with them."""

from collections import Counter

import pytest

from codestrata.data import codetask
from codestrata.data.codetask import load_codetask
from codestrata.data.tasks import load_task
from codestrata.errors import DataError, SettingsError
from codestrata.settings.tasks import TaskSettings


def load(path, source, **settings):
    asked = TaskSettings(name="work", source=source, **settings)
    return load_codetask(asked, path, "generate")


def list_pairs(loaded):
    return [(entry.example.prompt, entry.example.target, entry.partition) for entry in loaded.examples]


@pytest.fixture
def parallel(tmp_path):
    """Writes the two sides of parts of a set."""

    def write(ending, other, **parts):
        for part, pairs in parts.items():
            for side, suffix in enumerate((ending, other)):
                path = tmp_path / f"{part}.x-y.txt{suffix}"
                path.write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
        return tmp_path

    return write


def test_concode_has_both_sides_in_a_line(write_lines):
    rows = [{"nl": "adds concode_field_sep int a", "code": "int function ( ) { }"}, {"nl": "x", "code": ""}]
    folder = write_lines("set/train.json", rows[0]).parent
    write_lines("set/dev.json", *rows)
    write_lines("set/test.json", rows[1])
    write_lines("set/other.json", {"a": 1})
    loaded = load(folder, "concode")
    pair = ("adds concode_field_sep int a", "int function ( ) { }")
    assert list_pairs(loaded) == [(*pair, "validation"), (*pair, "train")]
    assert [entry.identifier for entry in loaded.examples] == ["concode/dev/1", "concode/train/1"]
    assert loaded.dropped == {"no code": 2}
    assert {entry.license for entry in loaded.examples} == {"C-UDA-1.0"}
    assert list_pairs(load(folder / "train.json", "concode")) == [(*pair, "train")]
    with pytest.raises(DataError, match=r"test.json: holds no concode examples \(left out: no code: 1\)"):
        load(folder / "test.json", "concode")


def test_translation_goes_both_ways(parallel):
    folder = parallel(".java", ".cs", train=[("int a", "Int a"), ("int b", "Int b")], valid=[("c", "C")])
    there = [("int a", "Int a", "train"), ("int b", "Int b", "train"), ("c", "C", "validation")]
    assert list_pairs(load(folder, "translate")) == there
    back = [(target, prompt, part) for prompt, target, part in there]
    assert list_pairs(load(folder, "translate", language="java")) == back
    for name in ("valid.x-y.txt.java", "valid.x-y.txt.cs"):
        assert list_pairs(load(folder / name, "translate")) == there[2:]
    with pytest.raises(SettingsError, match=r"Unknown language of translate 'ruby'\. Known: c_sharp, java"):
        load(folder, "translate", language="ruby")


def test_a_name_that_is_no_parts_is_of_no_part(parallel, tmp_path):
    parallel(".buggy", ".fixed", mine=[("a", "b")])
    assert list_pairs(load(tmp_path / "mine.x-y.txt.fixed", "refine")) == [("a", "b", None)]
    with pytest.raises(
        DataError, match=r"holds no file of this set, such as train.\*.buggy with train.\*.fixed"
    ):
        load(tmp_path, "refine")


def test_windows_line_ends_and_outer_spaces_do_not_count(tmp_path):
    (tmp_path / "test.buggy").write_bytes(b"\xef\xbb\xbfa \r\nb\r\n")
    (tmp_path / "test.fixed").write_bytes(b"A\n B")
    assert list_pairs(load(tmp_path, "refine")) == [("a", "A", "test"), ("b", "B", "test")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.buggy": "a\n"}, r"train.buggy: its partner train.fixed is missing"),
        ({"train.fixed": "a\n"}, r"train.fixed: its partner train.buggy is missing"),
        ({"train.buggy": "a\nb\n", "train.fixed": "a\n"}, r"train.fixed:2: ends before train.buggy"),
        ({"train.buggy": "a\n", "train.fixed": "a\nb\n"}, r"train.buggy:2: ends before train.fixed"),
        ({"train.buggy": "a\n\n", "train.fixed": "a\nb\n"}, r"train.buggy:2: the line is empty"),
        ({"train.buggy": "a\nb\n", "train.fixed": "a\n \n"}, r"train.fixed:2: the line is empty"),
        ({"train.buggy": "", "train.fixed": ""}, "holds no refine examples"),
        ({"train.buggy": "a\n", "train.fixed": "\xff\n"}, "train.fixed:1: not UTF-8: .*: save it as UTF-8$"),
        ({}, "the folder holds no file of this set"),
    ],
)
def test_what_is_wrong_with_a_pair_of_files_is_said_with_its_place(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        load(tmp_path, "refine")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"nl": "", "code": "x"}], "train.json:1: field 'nl' is empty"),
        ([{"nl": "a", "code": "x"}, {"nl": "a"}], "train.json:2: field 'code' is missing"),
        ([{"nl": "a", "code": 1}], "field 'code': expected text"),
        (["nonsense"], "train.json:1: "),
    ],
)
def test_what_is_wrong_with_a_record_is_said_with_its_place(write_lines, rows, message):
    with pytest.raises(DataError, match=message):
        load(write_lines("train.json", *rows), "concode")


def test_a_path_that_is_nothing_of_the_set(tmp_path):
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    with pytest.raises(DataError, match=r"unknown kind of file: expected one that ends in \.java or \.cs"):
        load(tmp_path / "a.txt", "translate")
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "b.java", "translate")


@pytest.mark.parametrize(
    ("source", "name", "config", "row"),
    [
        ("concode", "google/code_x_glue_tc_text_to_code", None, {"id": 0, "nl": "p", "code": "t"}),
        ("translate", "google/code_x_glue_cc_code_to_code_trans", None, {"id": 0, "java": "p", "cs": "t"}),
        ("refine", "google/code_x_glue_cc_code_refinement", "small", {"id": 0, "buggy": "p", "fixed": "t\n"}),
    ],
)
def test_the_hubs_splits_are_the_parts(monkeypatch, source, name, config, row):
    asked = []

    def load_hub_splits(*arguments, **options):
        asked.append((*arguments, options["task"]))
        return {"train": [row, row], "validation": [row], "test": [row]}

    monkeypatch.setattr(codetask, "load_hub_splits", load_hub_splits)
    loaded = load(None, source)
    assert asked == [(name, config, "work")]
    assert Counter(entry.partition for entry in loaded.examples) == {"train": 2, "validation": 1, "test": 1}
    assert {(entry.example.prompt, entry.example.target) for entry in loaded.examples} == {("p", "t")}


@pytest.mark.parametrize(
    ("source", "language", "count"),
    [
        ("concode", "java", 2000),
        ("translate", "c_sharp", 10794),
        ("translate", "java", 10794),
        ("refine", "java", 5835),
    ],
)
def test_the_real_files_make_tasks(shared_data, source, language, count):
    folder = shared_data / "codetask" / source
    assert len(load(folder, source, language=language).examples) == count
    settings = TaskSettings(
        name="work", source=source, path=str(folder), language=language, train_examples=50, test_examples=20
    )
    task = load_task(settings)
    assert (len(task.train), len(task.test), task.language) == (50, 20, language)
    assert task.notes  # that there was no test part, and what was held out instead
    assert not {example.identifier for example in task.train} & {example.identifier for example in task.test}
