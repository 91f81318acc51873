"""Sealed folders: every change in them is found and named, and nothing outside them is looked at."""

import errno
import json
import os
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata import manifests
from codestrata.errors import DataError, StorageError
from codestrata.files import write_bytes
from codestrata.manifests import (
    CHECKSUMS_FILE,
    DONE_FILE,
    check_folder,
    is_unsealed,
    measure_folder,
    read_contents,
    seal_folder,
)

CONTENTS = {
    "settings.toml": b'preset = "pocket"\n',
    "empty.txt": b"",
    "base/scores.jsonl": b'{"metric": "bleu", "value": 0.5}\n' * 20,
    "methods/lora/seed-0/python/adapter_model.safetensors": Random(0).randbytes(3000),
    "names/ä ü.json": b"{}\n",
}


@pytest.fixture
def folder(tmp_path):
    """A sealed folder."""
    folder = tmp_path / "sealed"
    for path, content in CONTENTS.items():
        write_bytes(folder / path, content)
    seal_folder(folder, measure_folder(folder))
    return folder


def check(folder):
    """What ``check_folder`` finds, the two files of the seal left out of the listing."""
    return check_folder(folder, (CHECKSUMS_FILE, DONE_FILE))


def list_kinds(folder):
    return [(fault.path, fault.kind) for fault in check(folder)]


def test_what_was_sealed_is_whole(folder):
    assert check(folder) == []
    assert not is_unsealed(folder)
    assert {path: content.bytes for path, content in read_contents(folder).items()} == {
        path: len(content) for path, content in CONTENTS.items()
    }
    assert list(json.loads((folder / DONE_FILE).read_text())) == ["finished", "checksums", "seal"]


@pytest.mark.parametrize("path", [*sorted(CONTENTS.keys() - {"empty.txt"}), CHECKSUMS_FILE, DONE_FILE])
def test_a_flipped_bit_anywhere_is_found_and_named(folder, path):
    rng, whole = Random(path), (folder / path).read_bytes()
    for _ in range(30):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (folder / path).write_bytes(content)
        assert list_kinds(folder) == [(path, "changed")]
    (folder / path).write_bytes(whole)
    assert check(folder) == []


@pytest.mark.parametrize("path", [*sorted(CONTENTS.keys() - {"empty.txt"}), CHECKSUMS_FILE, DONE_FILE])
def test_what_is_cut_off_or_added_is_found(folder, path):
    rng, whole = Random(path), (folder / path).read_bytes()
    for content in (whole[: rng.randrange(len(whole))], b"", whole[:-1], whole + b"\n", whole + whole):
        (folder / path).write_bytes(content)
        assert list_kinds(folder) == [(path, "changed")]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_other_mark_is_taken_for_the_real_one(tmp_path_factory, data):
    """Whatever bytes of ``done.json`` are exchanged, spaces for line breaks too."""
    folder = tmp_path_factory.mktemp("sealed")
    write_bytes(folder / "a", b"text")
    seal_folder(folder, measure_folder(folder))
    content = bytearray((folder / DONE_FILE).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.sampled_from(sorted({*b' \n\t"0a', *range(256)} - {content[place]})))
    (folder / DONE_FILE).write_bytes(content)
    assert list_kinds(folder) == [(DONE_FILE, "changed")]


def test_missing_and_extra_files_are_named(folder):
    (folder / "base" / "scores.jsonl").unlink()
    (folder / "base" / "notes.txt").write_text("mine")
    (folder / "lock").write_text("{}")  # is only left out at the top where it is asked for
    assert list_kinds(folder) == [
        ("base/notes.txt", "extra"),
        ("base/scores.jsonl", "missing"),
        ("lock", "extra"),
    ]
    (missing,) = [fault for fault in check(folder) if fault.kind == "missing"]
    assert missing.wanted.startswith("660 bytes, SHA-256 ")
    assert missing.found is None


@pytest.mark.parametrize("name", [CHECKSUMS_FILE, DONE_FILE])
def test_a_seal_that_is_gone_is_named(folder, name):
    (folder / name).unlink()
    assert list_kinds(folder) == [(name, "missing")]


def test_temporaries_and_what_stands_apart_do_not_count(folder):
    write_bytes(folder / "journal" / "a.json", b"{}")
    (folder / "base" / ".scores.jsonl.abcdefgh.part").write_bytes(b"half")
    assert check_folder(folder, (CHECKSUMS_FILE, DONE_FILE, "journal")) == []
    assert "journal/a.json" in measure_folder(folder)
    assert not {path for path in measure_folder(folder) if path.endswith(".part")}


def test_links_are_never_followed(folder, tmp_path):
    outside = tmp_path / "outside"
    write_bytes(outside / "a", CONTENTS["settings.toml"])
    (folder / "settings.toml").unlink()
    (folder / "settings.toml").symlink_to(outside / "a")  # the same content is not the same file
    (folder / "link").symlink_to(outside)
    (folder / "broken").symlink_to(tmp_path / "absent")
    assert list_kinds(folder) == [("broken", "extra"), ("link", "extra"), ("settings.toml", "changed")]
    assert {fault.found for fault in check(folder)} == {"a symbolic link"}
    assert not {"link", "link/a", "broken", "settings.toml"} & set(measure_folder(folder))


@pytest.mark.parametrize("name", [CHECKSUMS_FILE, DONE_FILE])
def test_a_seal_elsewhere_is_none(folder, tmp_path, name):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert list_kinds(folder) == [(name, "changed")]


def test_pipes_are_named_and_not_waited_for(folder):
    (folder / "empty.txt").unlink()
    os.mkfifo(folder / "empty.txt")
    os.mkfifo(folder / "pipe")
    assert list_kinds(folder) == [("empty.txt", "changed"), ("pipe", "extra")]
    assert "pipe" not in measure_folder(folder)


def test_names_that_are_no_text_are_left_out_and_named(folder):
    (folder / os.fsdecode(b"\xff.txt")).write_text("mine")
    assert list_kinds(folder) == [("\\udcff.txt", "extra")]
    seal_folder(folder, measure_folder(folder, (CHECKSUMS_FILE, DONE_FILE)))
    assert list_kinds(folder) == [("\\udcff.txt", "extra")]


def test_a_file_that_cannot_be_read_is_named(folder, monkeypatch):
    real = os.open

    def open_file(path, *rest, **options):
        if str(path).endswith("scores.jsonl"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", open_file)
    assert [(fault.path, fault.kind, fault.found) for fault in check(folder)] == [
        ("base/scores.jsonl", "unreadable", "Input/output error")
    ]
    with pytest.raises(StorageError, match=r"scores\.jsonl cannot be read: Input/output error"):
        measure_folder(folder)


def test_a_folder_that_cannot_be_read_is_named_once(folder, monkeypatch):
    real = os.scandir

    def scan(path):
        if str(path).endswith("base"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert list_kinds(folder) == [("base", "unreadable")]
    with pytest.raises(StorageError, match="base cannot be read: Permission denied"):
        measure_folder(folder)


@pytest.mark.parametrize(
    "tree",
    [
        [],
        {"format": 2, "files": {}},
        {"format": 1, "files": []},
        {"format": 1, "files": {"a": {"bytes": "1", "sha256": "0"}}},
        {"format": 1, "files": {"a": {"bytes": 1}}},
        {"format": 1, "files": {"a": {"bytes": 1, "sha256": "0", "mode": 7}}},
        {"format": 1, "files": {"a": None}},
    ],
)
def test_a_list_of_another_shape_is_refused_even_if_its_hash_fits(tmp_path, monkeypatch, tree):
    monkeypatch.setattr(
        manifests,
        "render",
        lambda document, real=manifests.render: real(tree if "files" in document else document),
    )
    seal_folder(tmp_path, {})
    with pytest.raises(DataError, match=r"checksums\.json"):
        read_contents(tmp_path)
    assert list_kinds(tmp_path) == [(CHECKSUMS_FILE, "changed")]


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "a/../../outside", "", ".", "a\x00b"])
def test_nothing_outside_is_opened_whatever_the_list_names(tmp_path, path):
    write_bytes(tmp_path / "outside", b"secret")
    (tmp_path / "sealed").mkdir()
    seal_folder(tmp_path / "sealed", {path: manifests.measure_file(tmp_path / "outside")})
    assert list_kinds(tmp_path / "sealed") == [(path, "missing")]


def test_a_folder_from_before_there_were_checksums_says_so(tmp_path):
    write_bytes(tmp_path / DONE_FILE, b'{\n  "finished": "2026-01-01T00:00:00+00:00"\n}\n')
    assert is_unsealed(tmp_path)
    (fault,) = check(tmp_path)
    assert (fault.kind, fault.path) == ("missing", CHECKSUMS_FILE)
    assert "runs of that age" in fault.wanted
