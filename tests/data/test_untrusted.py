"""Files from strangers: whatever is in them, readers give records or a DataError that names the file."""

import errno
import gzip
import json
import os
import re
import signal
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata import files
from codestrata.data import rows as row_files
from codestrata.data.codesearchnet import HUB_FIELDS, ORIGINAL_FIELDS, load_functions
from codestrata.data.matrices import read_matrix
from codestrata.data.sniffing import sniff
from codestrata.data.tables import load_examples
from codestrata.data.tasks import load_task
from codestrata.errors import DataError, SettingsError
from codestrata.settings.tasks import TaskSettings

FEW = settings(deadline=None, max_examples=60)
MANY = settings(deadline=None, max_examples=10_000)
LONGEST_MESSAGE = 2000

EXAMPLE = {"prompt": "add", "target": "a + b", "tests": "assert True", "id": 1, "group": "sums"}
FUNCTION = {
    "code": 'def f():\n    """Answer."""\n    return 1',
    "docstring": "Answer.",
    "func_name": "f",
    "language": "python",
    "repo": "owner/name",
    "path": "f.py",
    "url": "https://example.org",
    "partition": "train",
    "code_tokens": ["def", "f"],
}
MATRIX = {"R": [[0.1, 0.2], [0.5, 0.2], [0.4, 0.6]], "tasks": ["a", "b"]}
TABLE = "after,a,b\nbase,0.1,0.2\na,0.5,0.2\nb,0.4,0.6\n"
RESULTS = {
    "headline_metric": "bleu",
    "tasks": [{"name": "a"}, {"name": "b"}],
    "methods": [
        {
            "name": "lora",
            "seeds": [
                {
                    "seed": 0,
                    "R": {"test": {"bleu": MATRIX["R"]}},
                    "continual": {"bleu": {"forgetting": {"structural": True}}},
                }
            ],
        }
    ],
}


def check_texts(*texts):
    """Every text can be stored as UTF-8."""
    for text in texts:
        if text is not None:
            text.encode("utf-8")


def check_message(error, path=None):
    """The error is short, can be printed, and begins with the file's name."""
    check_texts(str(error))
    assert len(str(error)) < LONGEST_MESSAGE
    if path is not None:
        assert re.match(re.escape(str(path)) + r"(:\d+)?: ", str(error))
        assert str(error.path) == str(path)


def read_examples(path):
    examples = load_examples(path)
    assert len({example.identifier for example in examples}) == len(examples) > 0
    for example in examples:
        assert example.prompt.strip()
        assert example.target.strip()
        check_texts(example.prompt, example.target, example.identifier, example.group, example.tests)


def read_functions(path):
    functions, _ = load_functions("python", path)
    assert len({function.identifier for function in functions}) == len(functions) > 0
    for function in functions:
        check_texts(function.code, function.docstring, function.name, function.repository)
        assert function.partition in (None, "train", "validation", "test")


def read_own_task(path):
    task = load_task(TaskSettings(name="own", source="file", path=str(path)))
    assert task.train
    assert task.test
    assert not {example.prompt for example in task.train} & {example.prompt for example in task.test}


def read_function_task(path):
    task = load_task(
        TaskSettings(name="python", source="codesearchnet", path=str(path), objective="complete")
    )
    assert task.train
    assert task.test


def read_scores(path):
    try:
        matrix = read_matrix(path)
    except SettingsError as error:  # results of several methods, and none was chosen
        check_message(error)
        return
    assert matrix.scores.shape == (len(matrix.tasks) + 1, len(matrix.tasks))


def pack(content):
    return gzip.compress(content, mtime=0)


def write_rows(row, count):
    """JSONL of some rows that differ in what must differ."""
    rows = [
        {
            key: f"{value} {number}" if key in ("prompt", "group", "repo", "code") else value
            for key, value in {**row, "id": number}.items()
        }
        for number in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_table(row, count, separator):
    """As ``write_rows``, as a table in text; every field is in quotes."""
    rows = [json.loads(line) for line in write_rows(row, count).splitlines()]
    texts = [[str(value).replace('"', '""') for value in row.values()] for row in rows]
    return "".join(
        separator.join(f'"{text}"' for text in line) + "\n" for line in [list(rows[0]), *texts]
    ).encode()


KINDS = {
    "examples": ("own.jsonl", read_examples, write_rows(EXAMPLE, 3)),
    "task": ("own.jsonl", read_own_task, write_rows(EXAMPLE, 4)),
    "functions": ("a.jsonl", read_functions, write_rows(FUNCTION, 3)),
    "functions of the hub": (
        "a.jsonl",
        read_functions,
        write_rows(
            {HUB_FIELDS[key]: FUNCTION[name] for key, name in ORIGINAL_FIELDS.items() if name in FUNCTION}, 2
        ),
    ),
    "function task": ("a.jsonl", read_function_task, write_rows(FUNCTION | {"partition": None}, 4)),
    "packed functions": ("a.jsonl.gz", read_functions, pack(write_rows(FUNCTION, 3))),
    "packed examples": ("own.jsonl.gz", read_examples, pack(write_rows(EXAMPLE, 3))),
    "table of examples": ("own.csv", read_examples, write_table(EXAMPLE, 3, ",")),
    "tabbed task": ("own.tsv", read_own_task, write_table(EXAMPLE, 5, "\t")),
    "matrix": ("r.json", read_scores, json.dumps(MATRIX).encode()),
    "results": ("r.json", read_scores, json.dumps(RESULTS).encode()),
    "table": ("r.csv", read_scores, TABLE.encode()),
}

junk = st.sampled_from(
    [
        *(
            b"\0",
            b"\xff",
            b"\xc3",
            b"\xef\xbb\xbf",
            b"\\ud800",
            b"\\u0000",
            b"NaN",
            b"-Infinity",
            b"1e999",
            b'"',
        ),
        *(
            b"9" * 5000,
            b"[" * 3000,
            b'{"a":' * 200,
            b"]",
            b"}",
            b"\n",
            b"\r",
            b",",
            b"null",
            b"true",
            b"{}\n",
        ),
        *(
            b'"prompt": "x", ',
            b'"id": 1, ',
            b'"partition": "test", ',
            b'"tests": [1], ',
            b"0",
            b"-",
            b";",
            b"\t",
        ),
    ]
) | st.binary(max_size=3)
shares = st.floats(0, 1, exclude_max=True)
changes = st.lists(st.tuples(shares, st.integers(0, 3), junk), max_size=3)
slight = st.tuples(shares, st.integers(0, 1), st.sampled_from([b"a", b" ", b"1", b"\xc3\xa9"]))
changes = changes | st.lists(slight, max_size=2)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["train", "test", "python", "x" * 500, 10**350])
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*EXAMPLE, *FUNCTION, *RESULTS, *MATRIX]), inner, max_size=4)
    ),
    max_leaves=8,
)


def change(content, chosen):
    """The content with pieces of junk in place of some of its bytes."""
    for share, length, piece in chosen:
        place = int(share * len(content))
        content = content[:place] + piece + content[place + length :]
    return content


@st.composite
def replaced_values(draw, content):
    """JSON lines, or a document, with some values replaced by others of any kind."""
    rows = [json.loads(line) for line in content.decode().splitlines()]
    for row in rows[: draw(st.integers(1, 2))]:
        section = row
        while isinstance(section, dict | list) and section:
            keys = sorted(section) if isinstance(section, dict) else range(len(section))
            key = draw(st.sampled_from(keys))
            if not isinstance(section[key], dict | list) or draw(st.booleans()):
                section[key] = draw(documents)
                break
            section = section[key]
    ascii_only = draw(st.booleans())
    texts = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    return "".join(f"{text}\n" for text in texts).encode("utf-8", "surrogatepass")


def shuffled_cells(content):
    """A table in text whose cells are in any order and number, some with signs of the format in them."""
    cells = st.sampled_from(
        [*content.decode().replace("\t", ",").replace("\n", ",").split(","), '"', "", "x;y"]
    )
    lines = st.lists(st.lists(cells, max_size=6).map(",".join), max_size=5)
    return lines.map(lambda found: (content.decode().splitlines()[0] + "\n" + "\n".join(found)).encode())


@st.composite
def contents(draw, kind):
    """Bytes that are nearly a file of a kind, or any at all."""
    name, _, content = KINDS[kind]
    packed = name.endswith(".gz")
    inner = gzip.decompress(content) if packed else content
    lines = st.lists(documents, max_size=3).map(
        lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode()
    )
    forms = [st.just(content), changes.map(lambda chosen: change(content, chosen)), st.binary(max_size=40)]
    if packed:
        forms += [changes.map(lambda chosen: pack(change(inner, chosen))), lines.map(pack)]
    elif kind == "table of examples" or kind == "tabbed task":
        forms += [shuffled_cells(inner)]
    elif kind != "table":
        forms += [replaced_values(inner), lines]
    return draw(st.one_of(forms[1:]))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder that hypothesis may use again and again."""
    return tmp_path_factory.mktemp("scratch")


def check_file(kind, scratch, content):
    """The reader of the kind gives sound records, or a DataError that begins with the file's name.

    Returns what happened.
    """
    name, read, _ = KINDS[kind]
    path = scratch / name
    path.write_bytes(content)
    try:
        read(path)
    except DataError as error:
        check_message(error, path)
        return "refused"
    return "read"


def try_files(kind, scratch, strategy, effort):
    """Check many contents of a kind, and print how many were read and how many refused."""
    counts = Counter()

    @effort
    @given(strategy)
    def check(content):
        counts[check_file(kind, scratch, content)] += 1

    check()
    print(kind, dict(counts))
    assert min(counts["read"], counts["refused"]) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sound_is_read(kind, tmp_path):
    name, read, content = KINDS[kind]
    (tmp_path / name).write_bytes(content)
    read(tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_is_read_or_refused(kind, scratch):
    try_files(kind, scratch, contents(kind), FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_any_of_many_files_is_read_or_refused(kind, scratch):
    try_files(kind, scratch, contents(kind), MANY)


@pytest.mark.slow
def test_any_parquet_file_is_read_or_refused(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([FUNCTION | {"repo": str(n)} for n in range(20)]), path)
    content = path.read_bytes()
    monkeypatch.setitem(KINDS, "parquet", ("b.parquet", read_functions, content))
    try_files("parquet", tmp_path, changes.map(lambda chosen: change(content, chosen)), MANY)
    parquet.write_table(pyarrow.Table.from_pylist([EXAMPLE | {"id": n} for n in range(20)]), path)
    own = path.read_bytes()
    monkeypatch.setitem(KINDS, "parquet", ("b.parquet", read_examples, own))
    try_files("parquet", tmp_path, changes.map(lambda chosen: change(own, chosen)), MANY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'\xef\xbb\xbf{"a": 1}\n', ":1: starts with a byte order mark: save it as UTF-8 without one"),
        (b'{"a": 1}\n{"a": "\0"}\n', ":2: holds a NUL byte: damaged, or no text"),
        (b"\0" * 99, ":1: holds a NUL byte: damaged, or no text"),
        (b'{"a": NaN}', ":1: not usable JSON: NaN is no number in JSON; null says not measured"),
        (b'{"a": -Infinity}', ":1: not usable JSON: -Infinity is no number in JSON"),
        (b'{"a": 1e999}', ":1: not usable JSON: the number '1e999' is too large"),
        (b'\n{"a": ' + b"9" * 5000 + b"}", ":2: not usable JSON: a whole number of 5000 digits is too large"),
        (b'{"a": 1, "b": 2, "a": 3}', ":1: not usable JSON: the key 'a' occurs twice in one object"),
        (b'{"a": {"b": 2, "b": 3}}', ":1: not usable JSON: the key 'b' occurs twice in one object"),
        (b'{"a": ["x", "\\ud83d"]}', ":1: field 'a' holds half a surrogate pair at character 0"),
        (b'{"a\\uDE00": 1}', ":1: a key holds half a surrogate pair at character 1"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", ":1: not usable JSON: nested too deeply"),
        (b"[" * 3000, ":1: not usable JSON: nested too deeply"),
        (b'{"a": "b', ":1: not JSON: Unterminated string starting at (column 7)"),
        (b'{"a":\n', ":1: not JSON: Expecting value (column 7)"),
        (b'{"a": 1} {"a": 2}', ":1: not JSON: Extra data (column 10)"),
        (b"{'a': 1}", ":1: not JSON: Expecting property name enclosed in double quotes (column 2)"),
        ('{"a": 1}'.encode("utf-16"), ":1: not UTF-8: invalid start byte at byte 0"),
    ],
)
def test_a_line_is_refused_with_its_place(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{path}{message}")):
        list(files.read_jsonl(path))


def test_what_is_nearly_refused_is_read(tmp_path):
    path = tmp_path / "a.json"
    whole = int("9" * 300)
    value = {"a": [1e308, whole, -0.0], "pair": "\U0001f600", "deep": json.loads("[" * 90 + "]" * 90)}
    path.write_text(json.dumps(value))
    assert "\\ud83d" in path.read_text()
    assert files.read_json(path) == value
    float(whole)


def test_a_document_names_the_line_and_has_a_limit(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{\n"a": "\0"}')
    with pytest.raises(DataError, match=r"a\.json:2: holds a NUL byte"):
        files.read_json(path)
    path.write_text('{"a": NaN}')
    with pytest.raises(DataError, match="NaN is no number"):
        files.read_json(path)
    assert str(files.read_json(path, allow_nan=True)) == "{'a': nan}"
    path.write_text('{"a": Infinity}')
    with pytest.raises(DataError, match="Infinity is no number"):
        files.read_json(path, allow_nan=True)
    with pytest.raises(DataError, match=r"larger than 9\.53674e-06 MiB"):
        files.read_json(path, largest=10)
    assert len(files.read_document(path, largest=15)) == 15


def measure_peak(act):
    """The most memory that Python had asked for during ``act``, in MiB."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_line_of_50_mb_is_refused_without_reading_it_whole(tmp_path, name):
    path = tmp_path / name
    content = (json.dumps(FUNCTION) + '\n{"code": "').encode() + b"x" * 50_000_000 + b'"}\n'
    path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)

    def read():
        with pytest.raises(DataError, match=re.escape(f"{path}:2: the line is longer than 16 MiB")):
            load_functions("python", path)

    assert measure_peak(read) < 3 * 16


def test_a_long_line_takes_a_few_times_its_bytes(tmp_path):
    path = tmp_path / "a.jsonl"
    row = {"prompt": "p", "target": "x" * (15 * 2**20)}
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"prompt": "q"}) + "\n")
    assert measure_peak(lambda: [None for _ in files.read_jsonl(path)]) < 6 * 15


def test_a_packed_file_that_unpacks_to_far_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "PLAUSIBLE_UNPACKED_BYTES", 100_000)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * 1_000_000))
    with pytest.raises(DataError, match=r"a\.jsonl\.gz:\d+: unpacks to more than 200 times its size"):
        load_functions("python", path)
    rows = [FUNCTION | {"repo": f"owner/{number}"} for number in range(500)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert len(content) > 100_000
    path.write_bytes(gzip.compress(content))
    assert len(load_functions("python", path)[0]) == 500


@pytest.mark.parametrize("step", range(5))
def test_a_packed_file_cut_anywhere_is_refused(tmp_path, step):
    content = KINDS["packed functions"][2]
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content[: step * len(content) // 5])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: (cannot be unpacked|the file holds no records)"):
        load_functions("python", path)


@pytest.fixture
def no_waiting():
    """Fail after some seconds instead of waiting for a pipe without end."""

    def stop(*_):
        raise AssertionError("waited for a file that will never say anything")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


READERS = {
    "a.jsonl": [load_examples, lambda path: load_functions("python", path)],
    "a.jsonl.gz": [load_examples, lambda path: load_functions("python", path)],
    "a.parquet": [load_examples, lambda path: load_functions("python", path)],
    "a.tsv": [load_examples, sniff],
    "a.json": [read_matrix, files.read_json],
    "a.csv": [read_matrix],
}


def try_readers(path, message):
    for read in READERS[path.name]:
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_plain_file_is_refused_and_not_even_opened(tmp_path, name, monkeypatch):
    open_any = os.open

    def open_plain(path, *options):
        assert os.path.isfile(path) or not os.path.exists(path), "opening alone may do something to a device"
        return open_any(path, *options)

    monkeypatch.setattr(os, "open", open_plain)
    path = tmp_path / name
    os.mkfifo(path)
    try_readers(path, "It is a pipe, not a plain file")
    path.unlink()
    for device in ("/dev/zero", "/dev/null"):
        path.symlink_to(device)
        try_readers(path, "It is a device, not a plain file")
        path.unlink()
    path.symlink_to(path)
    try_readers(path, "Too many levels of symbolic links")
    path.unlink()
    path.symlink_to(tmp_path / "absent")
    try_readers(path, "No such file or directory")
    path.unlink()
    path.mkdir()
    for read in READERS[name]:
        with pytest.raises(DataError, match=r"It is a folder|the folder holds no"):
            read(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.usefixtures("no_waiting")
def test_a_pipe_that_takes_the_place_of_a_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    os.mkfifo(path)
    before = os.stat(__file__)
    monkeypatch.setattr(files.os, "stat", lambda *_, **__: before)
    with pytest.raises(DataError, match="It is a pipe, not a plain file"):
        load_examples(path)


@pytest.mark.parametrize("name", READERS)
def test_a_file_without_the_right_to_read_or_that_fails_is_refused(tmp_path, name, monkeypatch):
    path = tmp_path / name
    path.write_bytes(b"{}")

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)  # a mode would not do: the superuser may read everything
        try_readers(path, "Permission denied")


@pytest.mark.parametrize("name", ["a\0b.jsonl", "a" * 999 + ".jsonl"])
def test_a_path_that_cannot_be_is_refused(tmp_path, name):
    for read in READERS["a.jsonl"]:
        with pytest.raises(DataError, match=r"no path of a file|File name too long|no such file"):
            read(tmp_path / name)


@pytest.mark.usefixtures("no_waiting")
def test_a_folder_with_what_cannot_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text(json.dumps(FUNCTION))
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "absent")
    with pytest.raises(DataError, match=r"b\.jsonl: cannot be read: No such file"):
        load_functions("python", tmp_path)
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "inner").mkdir()
    scan = os.scandir

    def refuse(folder):
        if str(folder).endswith("inner"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"inner: cannot be read: Permission denied"):
        load_functions("python", tmp_path)


def test_very_many_languages_are_said_in_few_words(write_lines):
    rows = [FUNCTION | {"language": f"\x1b[31m {number}"} for number in range(3000)]
    with pytest.raises(DataError, match=r"no python records \(found: 1 whose language is '\\x1b") as caught:
        load_functions("python", write_lines("a.jsonl", *rows))
    check_message(caught.value)


@pytest.mark.parametrize("field", ["prompt", "target", "tests", "group", "id"])
def test_a_nul_in_an_examples_text_is_refused(write_lines, field):
    path = write_lines("a.jsonl", EXAMPLE, EXAMPLE | {"id": 2, field: "a\0"})
    with pytest.raises(DataError, match=re.escape(f"{path}:2: field '{field}' holds a NUL")):
        load_examples(path)


def test_what_a_stranger_wrote_is_said_in_few_words(write_lines):
    for row in (
        {"\x1b[31m" + "x" * 10**6: 1},
        {f"k{number}": 1 for number in range(9999)},
        EXAMPLE | {"tests": {"x" * 10**6: []}},
        {"code": "c", "docstring": "d", "func_name": "n", "language": "y" * 10**6},
        {"code": "c", "docstring": "d", "func_name": "n", "language": "python", "partition": "z" * 10**6},
    ):
        for read in READERS["a.jsonl"]:
            with pytest.raises(DataError) as caught:
                read(write_lines("a.jsonl", row))
            check_message(caught.value)
            assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"code": "int64"}, ":1: field 'code': expected text, found int64"),
        ({"code": "string", "docstring": "list"}, ":1: field 'docstring': expected text, found list"),
        ({"code": "timestamp"}, ":1: field 'code': expected text, found timestamp"),
    ],
)
def test_columns_that_hold_no_text_are_refused(tmp_path, schema, message):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    kinds = {
        "int64": pyarrow.int64(),
        "string": pyarrow.string(),
        "list": pyarrow.list_(pyarrow.string()),
        "timestamp": pyarrow.timestamp("us", tz="No/Where"),
    }
    columns = {name: pyarrow.array([None], kinds[kind]) for name, kind in schema.items()}
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match=re.escape(f"{path}{message}")):
        load_functions("python", path)
