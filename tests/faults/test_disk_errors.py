"""Every call that changes the disk fails once: a clear error, no half files, and the run can go on."""

import errno
import random
import re
import shlex
import shutil
import signal
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from attempts import SMALL_DISK_BYTES, Order, Trouble
from chains import NAME, finish
from sameness import list_differences, list_half_files, list_temporaries, read_files

ERRORS = {
    errno.ENOSPC: "No space left on device",
    errno.EIO: "Input/output error",
    errno.EACCES: "Permission denied",
}
HINT = "go on with: "


@pytest.fixture
def fail(nursery, small, place, write_command):
    """A function that has the ``number``-th call of a run fail, looks at what is left, and resumes.

    Gives what became of the failure: ``raised``, or ``borne`` with the call, where nothing had to be said.
    """

    def carry_on(number, code):
        folder = Path(tempfile.mkdtemp(dir=place))
        path = folder / "runs" / NAME
        command = [
            str(folder / "runs") if word == str(place / "runs") else word
            for word in write_command(small.tree)
        ]
        order = Order(
            run=str(path),
            cache=str(folder / "cache"),
            command=tuple(command),
            trouble=Trouble(number=number, errno=code),
        )
        outcome = nursery.attempt(order)
        assert outcome.met, f"the run changes the disk fewer than {number} times"
        if outcome.code == 0:
            # The last call removes the lock, which nobody holds by then: its file is in nobody's way.
            left = ["lock is left over"] if outcome.met.endswith("/lock") else []
            assert list_differences(small.path, path) in ([], left), outcome.met
            shutil.rmtree(folder)
            return "borne: " + re.sub(r" /.*/", " ", outcome.met)
        check_refusal(outcome, ERRORS[code], path)
        assert list_temporaries(folder / "runs") == [], outcome.met
        assert list_half_files(small.path, path) == [], outcome.met
        resume_as_told(nursery, outcome, order, path)
        assert list_differences(small.path, path) == [], outcome.met
        shutil.rmtree(folder)
        return "raised"

    return carry_on


def check_refusal(outcome, reason, path):
    """The command ended with 1, said what could not be done, and how to go on if there is something to."""
    lines = outcome.err.splitlines()
    assert outcome.code == 1, (outcome.met, outcome.err)
    assert outcome.out == ""
    assert re.fullmatch(rf"error: /.+ cannot be (written|made|removed|read): {reason}\..*", lines[0]), (
        outcome.met,
        outcome.err,
    )
    hint = [f"{HINT}codestrata resume {NAME} --runs {shlex.quote(str(path.parent))}"]
    assert lines[1:] == (hint if (path / "settings.toml").is_file() else []), (outcome.met, outcome.err)


def resume_as_told(nursery, outcome, order, path):
    """Do what the last line says; a run that never began is removed and begun again."""
    last = outcome.err.splitlines()[-1]
    if last.startswith(HINT):
        command = tuple(shlex.split(last.removeprefix(HINT))[1:])
    else:
        shutil.rmtree(path, ignore_errors=True)
        command = order.command
    again = nursery.attempt(replace(order, command=command, trouble=None))
    assert again.code == 0, (outcome.met, again.err)


def test_whatever_call_fails_the_run_says_so_and_goes_on(fail, small):
    rng = random.Random(3)
    fates = Counter(fail(rng.randint(1, small.outcome.calls), code) for code in [*ERRORS, errno.ENOSPC])
    assert fates["raised"] >= 3


@pytest.mark.slow
@pytest.mark.parametrize("code", ERRORS, ids=ERRORS.get)
def test_every_call_that_changes_the_disk_fails_once(fail, small, code):
    fates, wrong = Counter(), []
    for number in range(1, small.outcome.calls + 1):
        try:
            fates[fail(number, code)] += 1
        except AssertionError as error:
            wrong.append(f"{number}: {error}")
    print(ERRORS[code], dict(fates))
    assert not wrong, "\n".join(wrong)
    assert set(fates) <= {"raised", "borne: before unlink lock"}


def check_full_disk(nursery, disk, small, place, free_bytes):
    """Have a run meet the end of a real disk, make room, and resume it; begin it if it never began."""
    runs = disk / str(free_bytes)
    order = Order(run=str(runs / NAME), cache=str(place / "cache"), tree=small.tree)
    filler = disk / "filler"
    nursery.call("bash", "-c", f"head -c {SMALL_DISK_BYTES - free_bytes} /dev/zero > {filler}")
    outcome = nursery.attempt(order)
    assert (outcome.code, outcome.error) == (1, "StorageError"), outcome.trace
    assert "cannot be" in outcome.text
    assert "No space left on device. Make room there, then try again." in outcome.text
    nursery.call("rm", filler)
    nursery.call("cp", "-r", runs, place / "broken")
    assert list_temporaries(place / "broken") == []
    assert list_half_files(small.path, place / "broken" / NAME) == []
    if (place / "broken" / NAME / "settings.toml").exists():
        order = replace(order, tree=None)
    else:
        nursery.call("rm", "-r", runs)
    again = nursery.attempt(order)
    assert again.is_done, again.trace
    nursery.call("cp", "-r", runs, place / "ended")
    assert list_differences(small.path, place / "ended" / NAME) == []
    nursery.call("rm", "-r", runs)
    for name in ("broken", "ended"):
        shutil.rmtree(place / name)


def check_read_only(within, still, nursery, small, place):
    """Have a run resumed where nothing can be written, and where it can."""
    run = still / "runs" / NAME
    begin = Order(run=str(run), cache=str(place / "cache"), tree=small.tree)
    killed = nursery.attempt(
        replace(begin, trouble=Trouble(number=1, where="results", signal=signal.SIGKILL))
    )
    assert killed.code == -signal.SIGKILL
    before = read_files(run)
    outcome = within.attempt(replace(begin, tree=None))
    assert (outcome.code, outcome.error) == (1, "StorageError"), outcome.trace
    assert "Read-only file system" in outcome.text
    assert read_files(run) == before
    assert finish(nursery, small, still)[1] == []


def test_a_real_disk_is_full_or_read_only(confined, small_disk, still_folder, nursery, small, place):
    check_full_disk(confined, small_disk, small, place, measure(small.path) // 2)
    check_read_only(confined, still_folder, nursery, small, place)


@pytest.mark.slow
def test_a_real_disk_is_full_at_any_size(confined, small_disk, small, place):
    for part in range(1, 20):
        check_full_disk(confined, small_disk, small, place, measure(small.path) * part // 20)


def measure(folder):
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
