"""A bit flipped or bytes cut off in any file: found in a finished run, no other result of a resumed one."""

import random
import shutil
import signal
import tempfile
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from attempts import Order, Trouble
from chains import place_order
from kinds import describe_place
from sameness import list_differences, list_files

from codestrata.store import RunDirectory


def flip_bit(path, rng):
    """Change one bit at a random place."""
    content = bytearray(path.read_bytes())
    offset, bit = rng.randrange(len(content)), rng.randrange(8)
    content[offset] ^= 1 << bit
    path.write_bytes(content)
    return f"{path.name}: bit {bit} of byte {offset} flipped"


def cut_off(path, rng):
    """Cut the file at a random place."""
    size = path.stat().st_size
    kept = rng.randrange(size)
    with path.open("r+b") as file:
        file.truncate(kept)
    return f"{path.name}: cut to {kept} of {size} bytes"


HARMS = (flip_bit, cut_off)


def count_found(run, rng, times):
    """How often harm to each file of a finished run was found and the right file named."""
    found = Counter()
    for name, path in list_files(run.path).items():
        content = path.read_bytes()
        for harm in HARMS * times:
            about = harm(path, rng)
            assert [fault.path for fault in run.check_files()] == [name], about
            found[describe_place(run.path, path)] += 1
            path.write_bytes(content)
    assert run.check_files() == []
    return found


def test_harm_to_any_file_of_a_finished_run_is_found(small, place):
    shutil.copytree(small.path, place / "mine")
    found = count_found(RunDirectory(place / "mine"), random.Random(5), 2)
    print(found.total(), dict(found))
    assert found.total() == 4 * len(list_files(small.path))


@pytest.mark.slow
def test_harm_to_any_file_of_a_large_finished_run_is_found(whole, place):
    shutil.copytree(whole.path, place / "mine")
    found = count_found(RunDirectory(place / "mine"), random.Random(6), 10)
    print(found.total(), dict(found))
    assert found.total() == 20 * len(list_files(whole.path))


@pytest.fixture
def break_off(nursery, place):
    """A function that kills a run while it stores a late checkpoint; gives its folder."""

    def start(whole):
        folder = Path(tempfile.mkdtemp(dir=place, prefix="broken-"))
        order = place_order(whole, folder)
        number = whole.outcome.moments["checkpoint"] * 9 // 10
        late = Trouble(number=number, where="checkpoint", signal=signal.SIGKILL)
        assert nursery.attempt(replace(order, trouble=late)).code == -signal.SIGKILL
        return folder

    return start


@pytest.fixture
def resume_harmed(nursery, place):
    """A function that harms a copy of an unfinished run, resumes it, and says what became of the harm.

    ``harmless``: nothing had to be said; ``done again``: it was said; ``refused``: an error named the file.
    """
    refusals = ("RunError", "SettingsError", "DataError", "StorageError")

    def try_out(whole, broken, name, harm, rng):
        folder = place / "harmed"
        shutil.copytree(broken, folder)
        run = folder / "runs" / "mine"
        about = f"{name}: {harm(run / name, rng)}"
        order = Order(run=str(run), cache=str(folder / "cache"))
        outcome = nursery.attempt(order)
        if outcome.is_done:
            wrong = list_differences(whole.path, run)
            if name == "events.jsonl":  # a log, which nothing is read from
                wrong = [line for line in wrong if not line.startswith(name)]
            assert not wrong, f"{about}: {wrong}"
            is_told = any(Path(name).name in line or "again" in line for line in outcome.said)
            fate = "done again" if is_told else "harmless"
        else:
            assert outcome.error in refusals, (about, outcome.trace)
            assert Path(name).name in outcome.text, (about, outcome.text)
            fate = "refused"
        shutil.rmtree(folder)
        return fate

    return try_out


def group_files(run):
    """The files of an unfinished run by kind."""
    kinds = defaultdict(list)
    for name, path in list_files(run).items():
        if path.is_file() and path.stat().st_size:
            kinds[describe_place(run, path)].append(name)
    return kinds


def count_fates(resume_harmed, whole, broken, rng, times):
    """Fates of harm by kind of file; all that is wrong is told together."""
    fates, wrong = defaultdict(Counter), []
    for kind, names in sorted(group_files(broken / "runs" / "mine").items()):
        for turn in range(times):
            try:
                fates[kind][resume_harmed(whole, broken, rng.choice(names), HARMS[turn % 2], rng)] += 1
            except AssertionError as error:
                wrong.append(f"{kind}: {error}")
                shutil.rmtree(broken.parent / "harmed", ignore_errors=True)
    for kind, counts in fates.items():
        print(f"{kind}: {dict(counts)}")
    assert not wrong, "\n".join(wrong)
    return fates


def test_harm_to_an_unfinished_run_never_leads_to_another_result(resume_harmed, small, break_off):
    broken = break_off(small)
    fates = count_fates(resume_harmed, small, broken, random.Random(7), 1)
    assert {"settings", "journal", "checkpoint", "predictions", "events"} <= set(fates)


@pytest.mark.slow
def test_harm_to_every_kind_of_file_of_an_unfinished_run(resume_harmed, carry_out, break_off):
    whole = carry_out(methods=["layers", "lora"])
    fates = count_fates(resume_harmed, whole, break_off(whole), random.Random(8), 20)
    assert len(fates) > 8
