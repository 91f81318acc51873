import errno
import json
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata import files
from codestrata.errors import DataError, StorageError

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


DISK_CALLS = (
    "chmod",
    "close",
    "fsync",
    "lseek",
    "lstat",
    "mkdir",
    "open",
    "read",
    "replace",
    "rmdir",
    "scandir",
)
DISK_CALLS += ("stat", "unlink", "write")
REASONS = [errno.ENOSPC, errno.EIO, errno.EACCES]


class Disk:
    """Notes the calls that reach the disk, and lets one of them fail."""

    def __init__(self, patch, calls, *, fails, reason):
        self.calls, self.fails, self.reason = [], fails, reason
        for name in calls:
            patch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, real):
        def call(*arguments, **options):
            self.calls.append(name)
            if len(self.calls) - 1 != self.fails:
                return real(*arguments, **options)
            if name == "close":  # one that fails has closed all the same
                real(*arguments, **options)
            raise OSError(self.reason, os.strerror(self.reason))

        return call

    @property
    def has_failed(self):
        return len(self.calls) > self.fails


def try_every_failure(tmp_path, prepare, act, reason, monkeypatch, calls=DISK_CALLS):
    """Lets each call of ``act(folder)`` fail in turn; gives (folder, calls before it, error) of each."""
    for fails in range(200):
        folder = tmp_path / f"try-{fails}"
        folder.mkdir()
        prepare(folder)
        error = None
        with monkeypatch.context() as patch:
            disk = Disk(patch, calls, fails=fails, reason=reason)
            try:
                act(folder)
            except StorageError as caught:
                error = caught
        if not disk.has_failed:
            assert fails > 0
            return
        yield folder, disk.calls[:fails], error
    pytest.fail("there is no end to it")


def list_temporaries(folder):
    return [path for path in folder.rglob("*") if files.is_temporary(path.name)]


def check_message(error, reason, folder):
    assert error.errno == reason
    assert error.path.is_relative_to(folder)
    assert str(error).startswith(f"{error.path} cannot be ")
    assert os.strerror(reason) in str(error)
    assert str(error).endswith(files.ADVICE[reason])


@pytest.mark.parametrize("reason", REASONS, ids=errno.errorcode.get)
@pytest.mark.parametrize("old", [None, b"old"])
def test_whatever_fails_in_a_write_the_old_content_stays(tmp_path, monkeypatch, reason, old):
    def prepare(folder):
        if old is not None:
            (folder / "a").mkdir()
            (folder / "a" / "scores.json").write_bytes(old)

    def act(folder):
        files.write_bytes(folder / "a" / "scores.json", b"new")

    reached = set()
    for folder, before, error in try_every_failure(tmp_path, prepare, act, reason, monkeypatch):
        check_message(error, reason, folder)
        path = folder / "a" / "scores.json"
        assert (path.read_bytes() if path.exists() else None) == (b"new" if "replace" in before else old)
        assert list_temporaries(folder) == []
        reached |= set(before)
    assert reached >= {"open", "write", "fsync", "close", "chmod", "replace"}


@pytest.mark.parametrize("reason", REASONS, ids=errno.errorcode.get)
@pytest.mark.parametrize("old", [b"", b'{"a": 1}\n', b'{"a": 1}\n{"b'])
def test_whatever_fails_in_an_append_nothing_is_added(tmp_path, monkeypatch, reason, old):
    def prepare(folder):
        (folder / "events.jsonl").write_bytes(old)

    def act(folder):
        files.append_line(folder / "events.jsonl", "{}")

    for folder, before, error in try_every_failure(tmp_path, prepare, act, reason, monkeypatch):
        check_message(error, reason, folder)
        found = (folder / "events.jsonl").read_bytes()
        is_durable = before.count("fsync") >= 1
        assert found == old or (is_durable and found.endswith(b"\n{}\n" if old else b"{}\n"))


@pytest.mark.parametrize("reason", REASONS, ids=errno.errorcode.get)
def test_whatever_fails_elsewhere_is_named(tmp_path, monkeypatch, reason):
    def prepare(folder):
        (folder / "tree" / "below").mkdir(parents=True)
        (folder / "tree" / "below" / "file").write_text("text")
        (folder / ".a.json.abcdefgh.part").write_text("half")
        (folder / "source").write_text("source")

    acts = {
        "make_folder": lambda folder: files.make_folder(folder / "x" / "y"),
        "move": lambda folder: files.move(folder / "source", folder / "z" / "target"),
        "remove": lambda folder: files.remove(folder / "tree"),
        "sweep": files.sweep,
        "hash_file": lambda folder: files.hash_file(folder / "source"),
    }
    for name, act in acts.items():
        (tmp_path / name).mkdir()
        tried = 0
        # A folder whose closing fails would be closed twice by the shutil of Python 3.11.
        calls = set(DISK_CALLS) - ({"close"} if name == "remove" else set())
        for folder, before, error in try_every_failure(
            tmp_path / name, prepare, act, reason, monkeypatch, sorted(calls)
        ):
            tried += 1
            if error is not None:
                check_message(error, reason, folder)
            assert error is not None or name in ("hash_file", "sweep"), before
            moved = folder / "z" / "target"
            assert name != "move" or (folder / "source").exists() != moved.exists()
        assert tried >= (1 if name == "hash_file" else 3), name


IN_BUBBLE = """
import errno, sys
from pathlib import Path
from codestrata import files
from codestrata.errors import StorageError

folder = Path(sys.argv[1])
"""
FULL = """
files.write_bytes(folder / "old", b"old" * 1000)
files.append_line(folder / "log", "first")


def fill(write):
    for number in range(10_000):
        try:
            write(number)
        except StorageError as error:
            assert error.errno == errno.ENOSPC, error
            assert "No space left on device. Make room there, then try again." in str(error), error
            return number
    raise AssertionError("the disk has no end")


assert 5 < fill(lambda number: files.write_bytes(folder / f"{number}.bin", bytes(50_000))) < 30
lines = fill(lambda number: files.append_line(folder / "log", "x" * 3000))
try:
    files.write_bytes(folder / "old", b"new" * 20_000)
    raise AssertionError("there was room")
except StorageError as error:
    assert error.path == folder / "old"
assert (folder / "old").read_bytes() == b"old" * 1000
assert (folder / "log").read_text().splitlines() == ["first", *["x" * 3000] * lines]
assert not [path for path in folder.rglob("*") if files.is_temporary(path.name)]
files.remove(folder / "0.bin")
files.remove(folder / "1.bin")
files.write_bytes(folder / "old", b"new" * 20_000)
print("survived")
"""
READ_ONLY = """
from codestrata.errors import CodestrataError
from codestrata.store import RunDirectory, create_run


def refuse(act, *words):
    try:
        act()
    except StorageError as error:
        assert error.errno == errno.EROFS and "Read-only file system" in str(error), error
    else:
        raise AssertionError("it was written")


run = RunDirectory(folder / "run")
refuse(lambda: files.write_text(folder / "new" / "a", "text"))
refuse(lambda: files.write_text(folder / "old", "text"))
refuse(lambda: files.append_line(folder / "old", "text"))
refuse(lambda: files.remove(folder / "old"))
refuse(lambda: run.hold().__enter__())
refuse(lambda: run.append_event("started"))
refuse(lambda: create_run(folder, "mine", "pocket"))
assert (folder / "old").read_text() == "old"
print("survived")
"""


def run_in_bubble(program, folder, *options):
    """Runs a program for which the disk is another one; gives what it printed."""
    bubble = shutil.which("bwrap")
    if bubble is None:
        pytest.skip("bubblewrap is not installed: no disk can be made for the test")
    command = [bubble, "--bind", "/", "/", "--dev", "/dev", *options]
    if subprocess.run([*command, "true"], capture_output=True, timeout=30).returncode:
        pytest.skip("bubblewrap may not make a disk here")
    command += [sys.executable, "-c", IN_BUBBLE + program, str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=Path(files.__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_leaves_nothing_half(tmp_path):
    options = ["--size", str(2**20), "--tmpfs", str(tmp_path)]
    assert run_in_bubble(FULL, tmp_path, *options) == "survived\n"


def test_a_disk_that_can_only_be_read_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "old").write_text("old")
    assert run_in_bubble(READ_ONLY, tmp_path, "--ro-bind", str(tmp_path), str(tmp_path)) == "survived\n"


WRITER = """
import faulthandler, os, signal, sys
from pathlib import Path
from codestrata import files

faulthandler.dump_traceback_later(60, exit=True)
path = Path(sys.argv[1])
if sys.argv[2] == "before the rename":
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
for number in range(1_000_000):
    files.write_bytes(path, (b"a" if number % 2 else b"b") * 200_000)
    if number == 0:
        print("writing", flush=True)
"""


def start_writer(path, when):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), when],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(files.__file__).parents[1],
    )


def test_a_kill_leaves_one_of_the_two_contents(tmp_path):
    path, rng = tmp_path / "scores.json", Random(0)
    for _ in range(8):
        with start_writer(path, "at any time") as writer:
            assert writer.stdout.readline() == "writing\n"
            time.sleep(rng.uniform(0.01, 0.1))
            writer.send_signal(signal.SIGKILL)
        assert path.read_bytes() in (b"a" * 200_000, b"b" * 200_000)
    left = list_temporaries(tmp_path)
    assert files.sweep(tmp_path) == sorted(left)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_leaves_is_swept_up(tmp_path):
    path = tmp_path / "base" / "scores.json"
    files.write_bytes(path, b"old")
    with start_writer(path, "before the rename") as writer:
        assert writer.wait(timeout=60) == -signal.SIGKILL
    (left,) = list_temporaries(tmp_path)
    assert files.sweep(tmp_path) == [left]
    assert [entry.name for entry in path.parent.iterdir()] == ["scores.json"]
    assert path.read_bytes() == b"old"


def test_only_temporaries_are_swept_up_and_links_are_not_followed(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    folder.mkdir()
    for name in ("a.part", ".a.part", ".a.json.ABCDEFGH.part", ".a.json.abcdefgh.part.old", "a.json"):
        (folder / name).write_text("kept")
    (outside / ".b.json.abcdefgh.part").write_text("kept")
    (folder / "link").symlink_to(outside)
    kept = sorted(tmp_path.rglob("*"))
    (folder / ".a.json.abc_12_z.part").write_text("swept")
    assert files.sweep(folder) == [folder / ".a.json.abc_12_z.part"]
    assert sorted(tmp_path.rglob("*")) == kept
    assert files.sweep(tmp_path / "missing") == []


def test_lines_are_appended_and_a_torn_one_is_closed(tmp_path):
    path = tmp_path / "new" / "events.jsonl"
    files.append_line(path, '{"a": "é"}')
    files.append_line(path, "{}")
    assert path.read_bytes() == '{"a": "é"}\n{}\n'.encode()
    path.write_bytes(b'{}\n{"half')
    files.append_line(path, '{"whole": 1}')
    assert path.read_bytes() == b'{}\n{"half\n{"whole": 1}\n'


def test_a_line_that_does_not_fit_is_taken_back(tmp_path, monkeypatch):
    path, real = tmp_path / "events.jsonl", os.write
    files.append_line(path, "first")

    def write(handle, content):
        if len(content) < 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, content[:10])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageError, match="No space left"):
        files.append_line(path, "a line of more than ten characters")
    assert path.read_bytes() == b"first\n"


def test_a_write_that_is_taken_in_pieces_is_whole(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: real(handle, content[:7]))
    files.write_bytes(tmp_path / "a", bytes(range(100)))
    assert (tmp_path / "a").read_bytes() == bytes(range(100))


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "outside").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError, match="Too many levels of symbolic links"):
        files.append_line(tmp_path / "link", "new")
    files.write_text(tmp_path / "link", "new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "outside").read_text() == "old"


def test_a_folder_is_removed_whole_and_a_link_alone(tmp_path):
    kept = tmp_path / "kept"
    files.write_text(kept / "a" / "b", "text")
    (tmp_path / "link").symlink_to(kept)
    files.write_text(tmp_path / "tree" / "below" / "c", "text")
    (tmp_path / "tree" / "link").symlink_to(kept)
    for path in (tmp_path / "link", tmp_path / "tree", tmp_path / "missing", kept / "a" / "b" / "c"):
        files.remove(path)
    assert list(tmp_path.iterdir()) == [kept]
    assert (kept / "a" / "b").read_text() == "text"


def test_a_folder_is_made_once_and_only_a_fresh_one_where_asked(tmp_path):
    folder = tmp_path / "a" / "b"
    files.make_folder(folder)
    files.make_folder(folder)
    with pytest.raises(StorageError, match=r"b cannot be made: File exists") as caught:
        files.make_folder(folder, fresh=True)
    assert (caught.value.path, caught.value.errno) == (folder, errno.EEXIST)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made") as caught:
        files.make_folder(tmp_path / "file" / "below", fresh=True)
    assert caught.value.path == tmp_path / "file"


def test_a_file_is_hashed_in_pieces_and_nothing_else_is(tmp_path):
    content = Random(0).randbytes(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert files.hash_file(tmp_path / "a") == files.hashlib.sha256(content).hexdigest()
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("pipe", "Not a regular file"), ("absent", "No such file"), (".", "directory")):
        with pytest.raises(StorageError, match=f"cannot be read: .*{reason}"):
            files.hash_file(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="Windows syncs no folders")
def test_a_disk_that_cannot_sync_folders_is_good_enough(tmp_path, monkeypatch):
    real = os.fsync

    def sync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    files.write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def test_a_shared_file_takes_no_room_of_its_own_and_is_never_changed_with_the_other(tmp_path):
    source, target = tmp_path / "a" / "m.safetensors", tmp_path / "b" / "m.safetensors"
    files.write_bytes(source, b"old")
    files.write_bytes(target, b"another")
    for _ in range(2):  # the second time both are one already
        files.share_file(source, target)
        assert target.read_bytes() == b"old"
        assert os.path.samefile(source, target)
        assert list_temporaries(tmp_path) == []
    files.write_bytes(target, b"new")
    assert source.read_bytes() == b"old"
    files.share_file(source, target)
    files.remove(source)
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("reason", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_a_file_that_cannot_be_shared_is_copied(tmp_path, monkeypatch, reason):
    def refuse(*_, **__):
        raise OSError(reason, os.strerror(reason))

    content = bytes(range(256)) * 10_000  # more than one piece
    files.write_bytes(tmp_path / "a", content)
    monkeypatch.setattr(os, "link", refuse)
    files.share_file(tmp_path / "a", tmp_path / "below" / "b")
    assert (tmp_path / "below" / "b").read_bytes() == content
    assert not os.path.samefile(tmp_path / "a", tmp_path / "below" / "b")


def test_a_file_that_is_not_there_is_not_shared(tmp_path):
    files.write_bytes(tmp_path / "b", b"old")
    with pytest.raises(StorageError, match="a cannot be read: No such file"):
        files.share_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"old"
    assert list_temporaries(tmp_path) == []


@pytest.mark.parametrize("reason", REASONS, ids=errno.errorcode.get)
def test_whatever_fails_in_sharing_the_old_content_stays(tmp_path, monkeypatch, reason):
    def prepare(folder):
        (folder / "a").write_bytes(b"shared")
        (folder / "b").write_bytes(b"old")

    for folder, _, error in try_every_failure(
        tmp_path, prepare, lambda folder: files.share_file(folder / "a", folder / "b"), reason, monkeypatch
    ):
        if error is not None:  # else a link could not be made, and a copy could
            check_message(error, reason, folder)
        assert (folder / "b").read_bytes() in (b"old", b"shared")
        assert list_temporaries(folder) == []
