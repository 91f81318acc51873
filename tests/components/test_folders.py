"""Files of a stranger are opened without waiting, following or believing."""

import json
import os
import socket
import threading

import pytest

from codestrata.components.folders import LARGEST_JSON_BYTES, describe, open_file, parse_object, read_object
from codestrata.errors import ComponentError


@pytest.fixture
def folder(tmp_path):
    """A folder with one good file, and a file beside it."""
    (tmp_path / "secret").write_text('{"secret": 1}')
    folder = tmp_path / "component"
    folder.mkdir()
    (folder / "good.json").write_text('{"a": [1, 2.5, "ü", null, true]}')
    return folder


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(".", os.O_RDONLY)
        os.chdir(path.parent)  # names of sockets must be short
        try:
            server.bind(path.name)
        finally:
            os.fchdir(here)
            os.close(here)


def make_folder(path):
    path.mkdir()


def link_to_device(path):
    path.symlink_to("/dev/zero")


def link_outside(path):
    path.symlink_to("../secret")


def link_absolute(path):
    path.symlink_to(path.parent.parent / "secret")


def link_twice(path):
    (path.parent / "middle").symlink_to("..")
    path.symlink_to("middle/secret")


def link_in_a_circle(path):
    path.symlink_to(path.name)


def link_to_nothing(path):
    path.symlink_to("nothing")


def leave_out(path):
    pass


SPECIAL = {
    make_fifo: "a FIFO, where a regular file is needed",
    make_socket: "a socket, where a regular file is needed",
    make_folder: "a folder, where a regular file is needed",
    link_to_device: "leads out of its folder, to /dev/zero",
    link_outside: "leads out of its folder, to .*secret",
    link_absolute: "leads out of its folder, to .*secret",
    link_twice: "leads out of its folder, to .*secret",
    link_in_a_circle: "cannot be read",
    link_to_nothing: "cannot be read: No such file",
    leave_out: "cannot be read: No such file",
}


def call_in_time(act):
    """What ``act`` raised, or a failure if it has not come back after seconds."""
    caught = []

    def run():
        try:
            act()
        except ComponentError as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive(), "still waiting for a file that never answers"
    return caught


@pytest.mark.parametrize("make", SPECIAL, ids=lambda make: make.__name__)
def test_what_is_no_file_of_the_folder_is_refused_at_once(make, folder):
    make(folder / "bad.json")
    caught = call_in_time(lambda: read_object(folder, "bad.json"))
    assert len(caught) == 1
    with pytest.raises(ComponentError, match=rf"bad\.json: .*{SPECIAL[make]}"):
        raise caught[0]


def test_a_link_inside_the_folder_and_a_link_to_the_folder_are_followed(folder, tmp_path):
    (folder / "link.json").symlink_to("good.json")
    (tmp_path / "elsewhere").symlink_to(folder)
    assert read_object(tmp_path / "elsewhere", "link.json") == json.loads((folder / "good.json").read_text())


def test_a_folder_that_is_a_file_is_refused(folder):
    with pytest.raises(ComponentError, match="cannot be read: Not a directory"):
        read_object(folder / "good.json", "good.json")


def test_a_file_that_may_not_be_read_is_refused(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("codestrata.components.folders.os.open", refuse)
    with pytest.raises(ComponentError, match=r"good\.json: cannot be read: Permission denied"):
        read_object(folder, "good.json")


def test_a_failing_disk_is_a_component_error_too(folder):
    with (
        pytest.raises(ComponentError, match=r"good\.json: cannot be read: Input/output error"),
        open_file(folder, "good.json"),
    ):
        raise OSError(5, "Input/output error")


def test_giant_json_is_refused_before_it_is_parsed(folder):
    path = folder / "good.json"
    with path.open("wb") as file:
        file.write(b"{}")
        file.truncate(2**40)  # sparse: takes no room
    with pytest.raises(ComponentError, match=rf"larger than {LARGEST_JSON_BYTES} bytes"):
        read_object(folder, "good.json")


def test_a_file_with_another_hash_is_refused_with_both(folder):
    with pytest.raises(ComponentError, match=r"SHA-256 is [0-9a-f]{64}, component\.json says 00ff"):
        read_object(folder, "good.json", sha256="00ff")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "not JSON"),
        (b'{"a": 1,\n', "here:2: not JSON"),
        (b'{"a": 1} x', "not JSON: Extra data"),
        (b"[1]", "expected a JSON object, found list"),
        (b'"text"', "expected a JSON object, found str"),
        (b'{"a": "\xff"}', "not UTF-8: invalid start byte at byte 7"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' occurs twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1e999}', "'1e999' is too large"),
        (b'{"a": -1e999}', "'-1e999' is too large"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "9' is too large"),
        (b'{"a": 1000000000000000000}', "too large"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": ["\\ud800"]}', "surrogates not allowed"),
        (b'{"\\udfff": 1}', "surrogates not allowed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_plain_json(content, fault):
    with pytest.raises(ComponentError) as caught:
        parse_object(content, "here")
    message = str(caught.value)
    assert message.startswith("here")
    assert fault in message
    assert len(message) < 400


def test_plain_json_is_read():
    content = b' {"a": -999999999999999999, "b": {"a": [1e300, "\\ud83d\\ude00", "\\u0000"]}}\n'
    assert parse_object(content, "here") == json.loads(content)


@pytest.mark.parametrize(
    "value", ["x" * 10**6, [["y" * 10**6] * 99], {"k" * 10**6: 1}, 10**4000, b"z" * 10**6]
)
def test_descriptions_are_short(value):
    assert len(describe(value)) < 1000


def test_descriptions_cannot_steer_a_terminal():
    assert describe("\x1b[2J\n") == r"'\x1b[2J\n'"
