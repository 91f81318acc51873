"""Locks: who holds one, who is refused, and that nothing a process leaves behind locks anybody out."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codestrata import locks
from codestrata.errors import RunError, StorageError
from codestrata.locks import hold, is_locked, open_shared

PROGRAM = """
import faulthandler, os, subprocess, sys, time
from pathlib import Path
from codestrata import locks
from codestrata.errors import RunError

faulthandler.dump_traceback_later(60, exit=True)  # says where, rather than keep the tests waiting
mode, what, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
locks.PATIENCE_SECONDS = 0.0 if what == "race" else 10.0
if mode == "names":
    locks.fcntl = None


def say(text):
    print(text, flush=True)


def keep():
    with locks.hold(folder / "lock", "Run 'mine'"):
        if what == "child":  # one that outlives this process
            say(subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid)
        say("held")
        sys.stdin.read()


def race():
    for name in sys.stdin:
        try:
            with locks.hold(folder / name.strip(), "Run 'mine'"):
                say("held")
                sys.stdin.readline()
        except RunError:
            say("refused")
            sys.stdin.readline()


def take_turns():
    done = 0
    while done < 100:
        try:
            with locks.hold(folder / "lock", "Run 'mine'"):
                os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails if another is inside
                os.unlink(folder / "inside")
            done += 1
        except RunError:
            pass
    say("done")


{"keep": keep, "child": keep, "race": race, "turns": take_turns}[what]()
"""


@pytest.fixture(params=["kernel", "names"])
def mode(request, monkeypatch):
    """With the kernel's locks, and as where the file system has none."""
    if request.param == "names":
        monkeypatch.setattr(locks, "fcntl", None)
    return request.param


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.05)


@pytest.fixture
def start(tmp_path):
    """Starts a process that does something with locks in the test's folder."""
    running = []

    def begin(mode, what):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, mode, what, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=Path(locks.__file__).parents[1],
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def dead_pid():
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def write_lock(path, **values):
    owner = {"pid": os.getpid(), "host": platform.node(), "started": "2026-01-01T00:00:00+00:00", **values}
    path.write_text(json.dumps(owner))


def test_a_second_process_is_refused_and_told_who_has_it(mode, start, tmp_path):
    other = start(mode, "keep")
    assert other.stdout.readline() == "held\n"
    path = tmp_path / "lock"
    assert is_locked(path)
    owner = rf"process {other.pid} on {platform.node()} since 20"
    told = rf"Run 'mine' is in use by {owner}.*: wait for it, or end it\."
    with pytest.raises(RunError, match=told), hold(path, "Run 'mine'"):
        pytest.fail("both have it")
    other.stdin.close()
    assert other.wait(timeout=60) == 0
    assert not path.exists()
    assert not is_locked(path)
    with hold(path, "Run 'mine'"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_this_process_is_refused_like_any_other(mode, tmp_path):
    with hold(tmp_path / "lock", "It"):
        with (
            pytest.raises(RunError, match=f"It is in use by process {os.getpid()} "),
            hold(tmp_path / "lock", "It"),
        ):
            pytest.fail("it is held twice")
        assert is_locked(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


def test_the_lock_goes_whatever_ends_the_context(mode, tmp_path):
    with pytest.raises(KeyboardInterrupt), hold(tmp_path / "lock", "It"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["keep", "child"])
def test_what_a_killed_process_held_is_free(mode, what, start, tmp_path):
    if what == "child" and mode == "names":
        pytest.skip("a child has no part in a lock by name")
    other = start(mode, what)
    child = int(other.stdout.readline()) if what == "child" else None
    assert other.stdout.readline() == "held\n"
    other.kill()
    other.wait(timeout=60)
    path = tmp_path / "lock"
    assert json.loads(path.read_text())["pid"] == other.pid
    assert not is_locked(path)
    with hold(path, "Run 'mine'"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    if child is not None:
        os.kill(child, signal.SIGKILL)


def test_of_two_that_race_for_a_dead_ones_lock_one_has_it(mode, start, tmp_path, dead_pid):
    racers = [start(mode, "race") for _ in range(2)]
    for number in range(20):
        write_lock(tmp_path / f"lock-{number}", pid=dead_pid)
        for racer in racers:
            racer.stdin.write(f"lock-{number}\n")
        assert sorted(racer.stdout.readline() for racer in racers) == ["held\n", "refused\n"]
        for racer in racers:
            racer.stdin.write("go on\n")
    for racer in racers:
        racer.stdin.close()
        assert racer.wait(timeout=60) == 0
    assert list(tmp_path.iterdir()) == []


def test_two_that_take_turns_are_never_both_inside(mode, start, tmp_path):
    for racer in [start(mode, "turns") for _ in range(2)]:
        assert racer.stdout.readline() == "done\n"
        assert racer.wait(timeout=60) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    """The owner before lets go between our opening of the file and our asking for it."""
    path, real, asked = tmp_path / "lock", locks.ask_kernel, []

    def ask(descriptor):
        asked.append(descriptor)
        if len(asked) == 1:
            path.unlink()
        return real(descriptor)

    monkeypatch.setattr(locks, "ask_kernel", ask)
    with hold(path, "It"):
        assert len(asked) == 2
        assert locks.read_owner(path).pid == os.getpid()
        assert is_locked(path)
    assert list(tmp_path.iterdir()) == []


def test_asking_refuses_nobody(start, tmp_path, monkeypatch):
    """To ask, the lock is held for an instant; whoever wants it then tries again."""
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 5.0)
    path = tmp_path / "lock"
    with open_shared(path):
        pass
    descriptor = os.open(path, os.O_RDWR)
    assert locks.ask_kernel(descriptor)
    real, pauses = time.sleep, []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            os.close(descriptor)
        real(seconds)

    monkeypatch.setattr(locks.time, "sleep", pause)
    with hold(path, "It"):
        assert len(pauses) >= 3


def test_a_file_is_shared_by_many_and_locked_while_one_has_it(tmp_path):
    path = tmp_path / "states.bin"
    assert not is_locked(path)
    with open_shared(path) as first:
        first.write(b"kept")
        with open_shared(path) as second:
            assert second.read() == b"kept"
            assert is_locked(path)
        assert is_locked(path)
    assert not is_locked(path)
    assert path.read_bytes() == b"kept"


def test_where_there_are_no_locks_files_are_shared_unseen(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with open_shared(tmp_path / "states.bin") as file:
        file.write(b"kept")
        assert not is_locked(tmp_path / "states.bin")


@pytest.mark.parametrize("reason", sorted(locks.UNSUPPORTED))
def test_a_file_system_without_locks_falls_back_to_names(tmp_path, monkeypatch, reason, dead_pid):
    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    path = tmp_path / "lock"
    write_lock(path, pid=dead_pid)
    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with hold(path, "It"):
        assert is_locked(path)
        with pytest.raises(RunError, match=rf"no such process any more, remove {path}"), hold(path, "It"):
            pytest.fail("it is held twice")
    assert list(tmp_path.iterdir()) == []
    with open_shared(path):
        assert not is_locked(path)


def test_another_host_counts_as_alive_where_only_names_count(tmp_path, monkeypatch, dead_pid):
    monkeypatch.setattr(locks, "fcntl", None)
    write_lock(tmp_path / "lock", pid=dead_pid, host="elsewhere")
    with pytest.raises(RunError, match=f"process {dead_pid} on elsewhere"), hold(tmp_path / "lock", "It"):
        pytest.fail("another host has it")
    assert is_locked(tmp_path / "lock")


def test_a_process_of_another_user_is_alive(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(locks.os, "kill", refuse)
    assert locks.is_alive(locks.Owner(pid=1, host=platform.node(), started=""))


def test_only_a_dead_ones_lock_is_cleared(tmp_path, dead_pid):
    path, draft = tmp_path / "lock", tmp_path / "draft"
    write_lock(draft)
    locks.clear_dead(draft, path, "It")  # there is none
    write_lock(path)
    locks.clear_dead(draft, path, "It")
    assert locks.read_owner(path).pid == os.getpid()
    write_lock(path, pid=dead_pid)
    locks.clear_dead(draft, path, "It")
    assert list(tmp_path.iterdir()) == [draft]


def test_the_lock_of_one_that_came_after_the_dead_is_not_cleared(tmp_path, monkeypatch, dead_pid):
    """The one before lets go and ends just when it is looked at, and another one comes."""
    path, draft = tmp_path / "lock", tmp_path / "draft"
    write_lock(draft)
    write_lock(path, pid=dead_pid)

    def exchange(owner, real=locks.is_alive):
        path.unlink()
        write_lock(path)
        return real(owner)

    monkeypatch.setattr(locks, "is_alive", exchange)
    locks.clear_dead(draft, path, "It")
    assert locks.read_owner(path).pid == os.getpid()


def test_while_one_clears_the_others_wait(tmp_path, monkeypatch, dead_pid):
    monkeypatch.setattr(locks, "fcntl", None)
    path, guard = tmp_path / "lock", tmp_path / "lock.takeover"
    write_lock(path, pid=dead_pid)
    write_lock(guard)
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            guard.unlink()

    monkeypatch.setattr(locks.time, "sleep", pause)
    with hold(path, "It"):
        assert len(pauses) == 3
    write_lock(path, pid=dead_pid)
    write_lock(guard, pid=dead_pid)
    with pytest.raises(RunError, match=rf"It was about to be taken over .* remove {guard}"), hold(path, "It"):
        pytest.fail("nobody may clear")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff",
        b"[" * 4000,
        b'{"pid": 1}',
        b'{"pid": "1", "host": "a", "started": "b"}',
        b'{"pid": true, "host": "a", "started": "b"}',
        b'{"pid": -1, "host": "a", "started": "b"}',
        b'{"pid": 99999999999999999999, "host": "a", "started": "b"}',
        b'{"pid": 1, "host": ["a"], "started": "b"}',
        b'{"pid": 1, "host": "a\\u001b[2J", "started": "b"}',
        b'{"pid": 1, "host": "' + b"a" * 300 + b'", "started": "b"}',
    ],
)
def test_a_file_that_names_nobody_locks_nobody_out(mode, tmp_path, content):
    path = tmp_path / "lock"
    path.write_bytes(content)
    assert locks.read_owner(path) is None
    assert not is_locked(path)
    with hold(path, "It"):
        assert locks.read_owner(path).pid == os.getpid()
    assert not path.exists()


def test_who_has_it_is_not_known_while_the_file_names_nobody(tmp_path):
    with open_shared(tmp_path / "lock"):
        with (
            pytest.raises(RunError, match="It is in use by another process: wait"),
            hold(tmp_path / "lock", "It"),
        ):
            pytest.fail("both have it")


def test_no_link_is_followed_and_no_pipe_waited_for(mode, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (tmp_path / "link").symlink_to(outside)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="cannot be written"), hold(tmp_path / "link", "It"):
        pytest.fail("a link was followed")
    assert outside.read_text() == "kept"
    assert locks.read_owner(tmp_path / "pipe") is None


def test_a_folder_that_is_not_there_is_named(mode, tmp_path):
    told = r"lock cannot be written: No such file or directory\. Run 'mine' is locked by this file"
    with pytest.raises(StorageError, match=told), hold(tmp_path / "absent" / "lock", "Run 'mine'"):
        pytest.fail("there is nothing to hold")


@pytest.mark.parametrize("step", ["ftruncate", "write"])
def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(StorageError, match="No space left"), hold(tmp_path / "lock", "It"):
            pytest.fail("it is held")
    assert list(tmp_path.iterdir()) == []
    with hold(tmp_path / "lock", "It"):
        pass


def test_a_lock_that_cannot_be_removed_locks_nobody_out(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        with hold(tmp_path / "lock", "It"):
            pass
    assert (tmp_path / "lock").exists()
    assert not is_locked(tmp_path / "lock")
    with hold(tmp_path / "lock", "It"):
        pass
