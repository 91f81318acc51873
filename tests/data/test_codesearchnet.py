import gzip
import json
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

from codestrata.data import codesearchnet
from codestrata.data.codesearchnet import HUB_FIELDS, HUB_LANGUAGES, ORIGINAL_FIELDS, load_functions
from codestrata.errors import DataError, HubError, SettingsError

SCHEMAS = pytest.mark.parametrize("fields", [HUB_FIELDS, ORIGINAL_FIELDS], ids=["hub", "original"])


def make_row(number=0, fields=ORIGINAL_FIELDS, **changes):
    record = {
        "code": f"def f{number}(): return {number}",
        "docstring": f"Answer {number}.",
        "name": f"f{number}",
        "language": "python",
        "repository": "owner/repository",
        "path": "file.py",
        "url": f"https://example.org/file.py#L{number}",
        "partition": "train",
    }
    row = {fields[key]: value for key, value in (record | changes).items()}
    return row | {"code_tokens": ["def"], "docstring_tokens": ["Answer"]}


def write_parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@SCHEMAS
def test_every_schema_and_format_gives_the_same_functions(tmp_path, write_lines, fields):
    rows = [make_row(number, fields) for number in range(3)]
    plain = write_lines("a.jsonl", *rows)
    zipped = tmp_path / "a.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    table = write_parquet(tmp_path / "a.parquet", rows)
    functions, dropped = load_functions("Python", plain)
    assert dropped == {}
    assert [function.name for function in functions] == ["f0", "f1", "f2"]
    assert functions[1].code == "def f1(): return 1"
    assert functions[1].docstring == "Answer 1."
    assert functions[1].repository == "owner/repository"
    assert functions[1].partition == "train"
    assert load_functions("python", zipped) == load_functions("python", table) == (functions, dropped)


def test_identifiers_depend_on_the_record_alone(write_lines):
    first, _ = load_functions("python", write_lines("a.jsonl", *map(make_row, range(3))))
    again, _ = load_functions("python", write_lines("b.jsonl", make_row(2), make_row(1, HUB_FIELDS)))
    assert [function.identifier for function in again] == [first[2].identifier, first[1].identifier]
    assert first[0].identifier == "owner/repository:f0:" + first[0].identifier[-16:]
    assert len({function.identifier for function in first}) == 3


def test_a_folder_is_read_in_the_order_of_names_at_any_depth(write_lines, tmp_path):
    write_lines("data/b/2.jsonl", make_row(2))
    write_lines("data/a.jsonl", make_row(1, HUB_FIELDS))
    write_lines("data/README.md", "not a record file")
    write_parquet(tmp_path / "data" / "c.parquet", [make_row(3)])
    functions, _ = load_functions("python", tmp_path / "data")
    assert [function.name for function in functions] == ["f1", "f2", "f3"]


def test_other_languages_and_repetitions_are_left_out_and_counted(write_lines):
    rows = [make_row(0), make_row(1, language="Ruby"), make_row(2, language="ruby"), make_row(0)]
    functions, dropped = load_functions("python", write_lines("a.jsonl", *rows))
    assert [function.name for function in functions] == ["f0"]
    assert dropped == {"language is ruby": 2, "repeated record": 1}


def test_a_record_in_two_partitions_is_refused_with_both_places(write_lines, fake_hub):
    write_lines("data/a.jsonl", make_row(0), make_row(1), make_row(1))
    write_lines("data/b.jsonl", make_row(2), make_row(1, partition="test"))
    folder = write_lines("data/c.jsonl", make_row(3)).parent
    first, second = folder / "a.jsonl", folder / "b.jsonl"
    message = (
        f"{second}:2: the record of {first}:2 again, there for train, here for test: give it one partition, "
        "or accept it with tasks.mine.allow_overlap=true"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        load_functions("python", folder, task="mine")
    functions, dropped = load_functions("python", folder, allow_overlap=True)
    assert [(function.name, function.partition) for function in functions] == [
        ("f0", "train"),
        ("f1", "train"),
        ("f2", "train"),
        ("f1", "test"),
        ("f3", "train"),
    ]
    assert dropped == {"repeated record": 1}
    rows = {name: FakeSplit([make_row(0, HUB_FIELDS, partition=name)]) for name in ("train", "test")}
    fake_hub.load = lambda: rows  # nobody here can mend the hub's data
    assert load_functions("python", None)[1] == {"repeated record": 1}


def test_a_repeated_record_without_partition_is_no_fault(write_lines):
    path = write_lines("a.jsonl", make_row(0, partition="test"), make_row(0, partition=None))
    assert load_functions("python", path)[1] == {"repeated record": 1}


def test_what_a_record_may_lack(write_lines):
    row = {"idx": 0, "func_name": "f", "code": "def f(): pass", "docstring": None, "language": "python"}
    [function], _ = load_functions("python", write_lines("a.jsonl", row))
    assert (function.repository, function.partition, function.docstring) == (None, None, "")
    assert function.identifier.startswith("python:f:")


@pytest.mark.parametrize(
    ("written", "read"), [("valid", "validation"), ("dev", "validation"), ("test", "test"), ("", None)]
)
def test_partitions_have_one_spelling(write_lines, written, read):
    [function], _ = load_functions("python", write_lines("a.jsonl", make_row(partition=written)))
    assert function.partition == read


@SCHEMAS
@pytest.mark.parametrize("key", ["code", "docstring", "name", "language"])
def test_a_missing_field_is_named_with_file_and_line(write_lines, fields, key):
    row = make_row(1, fields)
    del row[fields[key]]
    path = write_lines("a.jsonl", make_row(0, fields), row)
    missing = (
        "code" if key == "code" else fields[key]
    )  # without its code, no record shows which schema it has
    with pytest.raises(DataError, match=re.escape(f"{path}:2: field {missing!r} is missing; found: ")):
        load_functions("python", path)


@pytest.mark.parametrize("key", sorted(ORIGINAL_FIELDS))
def test_a_field_of_a_wrong_type_is_named_with_file_and_line(write_lines, key):
    path = write_lines("a.jsonl", make_row(0), make_row(1, **{key: 3}))
    wanted = "a day such as 2024-05-31, found 3" if key == "date" else "text, found int"
    message = f"{path}:2: field {ORIGINAL_FIELDS[key]!r}: expected {wanted}"
    with pytest.raises(DataError, match=re.escape(message)):
        load_functions("python", path, dated=True, licensed=True)


def test_parquet_faults_carry_the_row(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [make_row(0), make_row(1, code=None)])
    with pytest.raises(DataError, match=re.escape(f"{path}:2: field 'code' is null: expected text")):
        load_functions("python", path)
    path = write_parquet(tmp_path / "b.parquet", [{"code": 1, "unknown": 2}])
    with pytest.raises(DataError, match=re.escape(f"{path}:1: field 'code': expected text, found int")):
        load_functions("python", path)


def test_an_unknown_partition_is_refused(write_lines):
    path = write_lines("a.jsonl", make_row(partition="tset"))
    with pytest.raises(
        DataError, match=re.escape(f"{path}:1: Unknown partition 'tset'. Did you mean 'test'?")
    ):
        load_functions("python", path)


def test_a_broken_line_is_named(tmp_path, write_lines):
    path = write_lines("a.jsonl", make_row(0), '{"code": "def')
    with pytest.raises(DataError, match=re.escape(f"{path}:2: not JSON")):
        load_functions("python", path)
    zipped = tmp_path / "a.jsonl.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=re.escape(f"{zipped}:2: not JSON")):
        load_functions("python", zipped)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "the file holds no records"),
        ("a.jsonl", b"\n \n", "the file holds no records"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "the file holds no records"),
        ("a.jsonl.gz", b"plain text", "cannot be unpacked: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b"x" * 1000, mtime=0)[:-9], "cannot be unpacked: Compressed file ended"),
        ("a.parquet", b"", "cannot be read as Parquet after row 0"),
        ("a.parquet", b"PAR1 but not really PAR1", "cannot be read as Parquet after row 0"),
        ("a.csv", b"code,docstring\n", "unknown kind of file: expected .jsonl, .jsonl.gz, .parquet"),
    ],
)
def test_a_damaged_empty_or_foreign_file_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{path}: {message}")):
        load_functions("python", path)


def test_an_empty_parquet_file_and_folder_are_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [make_row()])
    from pyarrow import parquet

    parquet.write_table(parquet.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match="the file holds no records"):
        load_functions("python", path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder holds no"):
        load_functions("python", tmp_path / "empty")
    with pytest.raises(DataError, match="no such file or folder"):
        load_functions("python", tmp_path / "absent.jsonl")


def test_no_record_of_the_language_is_an_error_that_tells_what_there_is(write_lines):
    path = write_lines("a.jsonl", make_row())
    with pytest.raises(DataError, match=r"no perl records \(found: 1 whose language is python\)"):
        load_functions("perl", path, task="mine")


class FakeSplit:
    """As much of ``datasets.Dataset`` as the hub's reader uses."""

    def __init__(self, rows):
        self.rows = rows
        self.column_names = list(rows[0])

    def select_columns(self, names):
        return FakeSplit([{name: row[name] for name in names} for row in self.rows])

    def iter(self, batch_size):
        for start in range(0, len(self.rows), batch_size):
            batch = self.rows[start : start + batch_size]
            yield {name: [row[name] for row in batch] for name in self.column_names}


@pytest.fixture
def fake_hub(monkeypatch):
    """A hub whose behaviour the test sets: ``reach`` and ``load`` stand in for the real calls."""
    hub = SimpleNamespace(calls=[], reach=lambda: None, load=dict)

    def dataset_info(self, name, **options):
        hub.calls.append(("reach", name, options))
        hub.reach()

    def load_dataset(*arguments, **options):
        hub.calls.append(("load", *arguments, options))
        return hub.load()

    datasets = ModuleType("datasets")
    datasets.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return hub


def test_the_hubs_records_are_read_in_batches(fake_hub, monkeypatch):
    monkeypatch.setattr(codesearchnet, "ROWS_PER_BATCH", 2)
    partitions = {"train": 5, "valid": 1, "test": 1}
    rows = {
        name: [make_row(number, HUB_FIELDS, partition=name, docstring=name) for number in range(count)]
        for name, count in partitions.items()
    }
    fake_hub.load = lambda: {name: FakeSplit(rows[name]) for name in rows}
    functions, dropped = load_functions("python", None, revision="abc")
    assert [function.partition for function in functions] == ["train"] * 5 + ["validation", "test"]
    assert dropped == {}
    assert fake_hub.calls[-1] == ("load", "code-search-net/code_search_net", "python", {"revision": "abc"})
    rows["test"][0]["func_code_string"] = None
    with pytest.raises(DataError, match="code_search_net/test:1: field 'func_code_string' is null"):
        load_functions("python", None)


def fail_with(error):
    def fail():
        raise error

    return fail


def make_http_error():
    """An error of the hub client's HTTP library, which is no OSError."""
    from huggingface_hub.errors import HTTPError

    return HTTPError("no route to host\nmore lines")


@pytest.mark.parametrize("step", ["reach", "load"])
@pytest.mark.parametrize("make_error", [make_http_error, lambda: ConnectionError("no route to host\nmore")])
def test_an_unreachable_hub_is_one_line_with_the_remedy(fake_hub, step, make_error):
    setattr(fake_hub, step, fail_with(make_error()))
    with pytest.raises(HubError) as caught:
        load_functions("python", None, task="snakes")
    message = str(caught.value)
    assert "\n" not in message
    assert "could not be reached (no route to host)" in message
    assert "--set tasks.snakes.path=FILE" in message
    if step == "reach":
        assert not any(call[0] == "load" for call in fake_hub.calls), "load_dataset would retry for long"


def test_offline_mode_goes_to_the_cache_at_once(fake_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    fake_hub.load = lambda: {"train": FakeSplit([make_row(0, HUB_FIELDS)])}
    assert len(load_functions("python", None)[0]) == 1
    assert [call[0] for call in fake_hub.calls] == ["load"]


def test_a_language_the_hub_does_not_have_is_refused(fake_hub):
    with pytest.raises(
        SettingsError, match=r"Unknown CodeSearchNet language 'pyton'\. Did you mean 'python'"
    ):
        load_functions("pyton", None)
    assert fake_hub.calls == []


@pytest.mark.network
def test_the_real_hub_has_the_fields_we_read():
    from datasets import load_dataset

    row = next(iter(load_dataset("code-search-net/code_search_net", "ruby", split="test", streaming=True)))
    assert set(HUB_FIELDS.values()) <= set(row)


@pytest.mark.parametrize("language", HUB_LANGUAGES)
def test_real_records(shared_data, language):
    functions, dropped = load_functions(language, shared_data / "codesearchnet" / language)
    assert len(functions) == 300
    assert dropped == {}
    assert {function.partition for function in functions} == {"test"}
    assert all(function.repository and function.docstring for function in functions)


def test_real_records_without_repository(shared_data):
    functions, dropped = load_functions("python", shared_data / "cosqa" / "python.jsonl")
    assert len(functions) == 6230
    assert dropped == {}
    with (shared_data / "cosqa" / "python.jsonl").open(encoding="utf-8") as file:
        assert functions[0].code == json.loads(file.readline())["code"]


def test_records_of_mine_say_path_licence_and_day(write_lines):
    row = {"code": "def f(): pass", "docstring": "d", "func_name": "f", "language": "python", "repo": "r"}
    mined = row | {"path": "src/f.py", "license": "MIT", "commit_date": "2024-05-31"}
    timed = row | {"path": "g.py", "commit_date": "2024-05-31T10:00:00+02:00", "license": ""}
    functions, _ = load_functions("python", write_lines("a.jsonl", mined, timed, row))
    assert [(one.path, one.license, one.date) for one in functions] == [
        ("src/f.py", "MIT", "2024-05-31"),
        ("g.py", None, "2024-05-31"),
        (None, None, None),
    ]
    plain, _ = load_functions("python", write_lines("b.jsonl", row | {"path": "src/f.py"}))
    assert plain[0].identifier == functions[0].identifier, "licence and day are not who it is"


@pytest.mark.parametrize("day", ["yesterday", "2024-13-01", "31.05.2024"])
def test_a_day_that_is_none_is_refused_with_its_place(write_lines, day):
    row = {"code": "def f(): pass", "docstring": "d", "func_name": "f", "language": "python"}
    path = write_lines("a.jsonl", row, row | {"commit_date": day})
    with pytest.raises(DataError, match=r"a\.jsonl:2: field 'commit_date': expected a day such as"):
        load_functions("python", path, dated=True)
    assert [function.date for function in load_functions("python", path)[0]] == [None]


def test_licences_in_a_list_and_days_of_another_form_are_no_fault(write_lines, tmp_path):
    rows = [make_row(n, license=["MIT", "ISC"], date="31.05.2024") for n in range(2)]
    for path in (write_lines("a.jsonl", *rows), write_parquet(tmp_path / "a.parquet", rows)):
        functions, _ = load_functions("python", path, licensed=True)
        assert {(function.license, function.date) for function in functions} == {("MIT AND ISC", None)}


def test_hidden_files_are_left_out_and_upper_case_suffixes_are_not(write_lines, tmp_path):
    write_lines("data/A.JSONL", make_row(1))
    write_lines("data/.b.jsonl", make_row(2))
    write_lines("data/.ipynb_checkpoints/a-checkpoint.jsonl", make_row(3))
    assert [function.name for function in load_functions("python", tmp_path / "data")[0]] == ["f1"]
    assert len(load_functions("python", tmp_path / "data" / "A.JSONL")[0]) == 1
