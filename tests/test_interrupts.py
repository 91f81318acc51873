"""Signals as exceptions: at once, postponed, nested, twice, in other threads, and the handlers of before."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from codestrata.errors import StorageError
from codestrata.interrupts import SIGNALS, Interrupted, Interrupts, catch_signals, ignore_signals

EVERY_SIGNAL = pytest.mark.parametrize("number", SIGNALS)


def send(number):
    """A real signal to this process; its handler has run when this returns."""
    signal.raise_signal(number)


def work_within(block, *steps):
    """How many steps inside a block came to their end, and the interrupt that ended it, if one did."""
    done = 0
    try:
        with block:
            for step in steps:
                step()
                done += 1
    except Interrupted as interrupt:
        return done, interrupt
    return done, None


@pytest.fixture(autouse=True)
def own_handlers():
    """Python's own handlers at the start, whatever started the tests; none of ours is left at the end."""
    before = [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    left = [signal.getsignal(number) for number in SIGNALS]
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)
    assert left == [signal.default_int_handler, signal.SIG_DFL]


@EVERY_SIGNAL
def test_a_signal_is_an_exception_at_once(number):
    done, interrupt = work_within(catch_signals(), partial(send, number))
    assert done == 0
    assert interrupt.signal == number
    assert str(interrupt) == signal.Signals(number).name
    assert isinstance(interrupt, KeyboardInterrupt)


@EVERY_SIGNAL
def test_a_postponed_signal_waits_for_the_end_of_the_block(number):
    pending = []
    with catch_signals() as interrupts:
        done, interrupt = work_within(
            interrupts.postponed(), partial(send, number), lambda: pending.append(interrupts.pending)
        )
        assert (done, interrupt.signal) == (2, number)
        assert pending == [number]
        assert interrupts.pending is None


def test_without_a_signal_a_block_only_ends():
    with catch_signals() as interrupts:
        with interrupts.postponed():
            interrupts.check()
        interrupts.check()


@EVERY_SIGNAL
def test_a_pending_signal_can_be_raised_before_the_end_of_the_block_and_only_once(number):
    reached = []
    with catch_signals() as interrupts, interrupts.postponed():
        send(number)
        with pytest.raises(Interrupted) as caught:
            interrupts.check()
        assert caught.value.signal == number
        interrupts.check()
        reached.append(number)
    assert reached == [number]


@pytest.mark.parametrize("depth", [2, 3])
def test_only_the_outermost_block_lets_the_signal_out(depth):
    reached = []

    def enter(interrupts, left):
        with interrupts.postponed():
            if left > 1:
                enter(interrupts, left - 1)
            else:
                send(signal.SIGTERM)
            reached.append(left)

    with catch_signals() as interrupts:
        with pytest.raises(Interrupted):
            enter(interrupts, depth)
        assert reached == list(range(1, depth + 1))
        with pytest.raises(Interrupted):  # nothing is postponed any more
            send(signal.SIGTERM)


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_does_not_wait(first, second):
    with catch_signals() as interrupts:
        with interrupts.postponed():
            done, interrupt = work_within(interrupts.postponed(), partial(send, first), partial(send, second))
            assert (done, interrupt.signal) == (1, second)
        # Neither is left over: the outer block, and any after it, only ends.
        assert work_within(interrupts.postponed()) == (0, None)


def test_an_error_does_not_lose_the_signal():
    error = StorageError("a.json", "written", OSError(28, "No space left on device"))

    def fail():
        raise error

    with catch_signals() as interrupts:
        done, interrupt = work_within(interrupts.postponed(), partial(send, signal.SIGINT), fail)
    assert done == 1
    assert interrupt.__context__ is error


def test_an_error_without_a_signal_stays_what_it_is():
    with catch_signals() as interrupts:
        with pytest.raises(ZeroDivisionError), interrupts.postponed():
            raise ZeroDivisionError
        with pytest.raises(Interrupted):  # the block is over: nothing is postponed any more
            send(signal.SIGINT)


def test_an_interrupt_is_no_error_that_a_handler_of_exceptions_catches():
    assert not issubclass(Interrupted, Exception)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_handlers_of_before_come_back(error):
    def mine(number, frame):
        """A handler of somebody else."""

    signal.signal(signal.SIGTERM, mine)
    try:
        if error is None:
            with catch_signals():
                assert signal.getsignal(signal.SIGTERM) != mine
        else:
            with pytest.raises(error), catch_signals():
                raise error
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_an_inner_catcher_takes_the_signals_of_the_outer_one_and_gives_them_back():
    with catch_signals() as outer:
        with catch_signals() as inner, inner.postponed():
            send(signal.SIGINT)
            assert (inner.pending, outer.pending) == (signal.SIGINT, None)
            with pytest.raises(Interrupted):
                inner.check()
        with outer.postponed():
            send(signal.SIGINT)
            assert (inner.pending, outer.pending) == (None, signal.SIGINT)
            with pytest.raises(Interrupted):
                outer.check()


def test_a_signal_that_was_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with catch_signals():
            send(signal.SIGINT)
            with pytest.raises(Interrupted):
                send(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_signals_can_be_ignored_until_the_catcher_is_left():
    with catch_signals():
        ignore_signals()
        for number in SIGNALS:
            send(number)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # and more: see own_handlers


def test_another_thread_cannot_ignore_signals():
    thread = threading.Thread(target=ignore_signals)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_that_python_did_not_set_becomes_the_default(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    with catch_signals():
        pass
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_installs_nothing_and_goes_on():
    found = []

    def work():
        with catch_signals() as interrupts, interrupts.postponed():
            found.extend(signal.getsignal(number) for number in SIGNALS)
            interrupts.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler, signal.SIG_DFL]


def test_a_signal_that_another_thread_sends_reaches_the_main_thread():
    def send_soon():
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send_soon)
    with catch_signals():
        thread.start()
        with pytest.raises(Interrupted) as caught:
            time.sleep(30)
    thread.join()
    assert caught.value.signal == signal.SIGTERM


def test_without_a_catcher_nothing_is_ever_pending():
    interrupts = Interrupts()
    with interrupts.postponed():
        with pytest.raises(KeyboardInterrupt) as caught:
            send(signal.SIGINT)  # Python's own handler, at once
        assert not isinstance(caught.value, Interrupted)
        interrupts.check()
    assert interrupts.pending is None


PROGRAM = """
import sys, time
from codestrata.interrupts import Interrupted, catch_signals

def work(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass

with catch_signals() as interrupts:
    try:
        with interrupts.postponed():
            print("ready", flush=True)
            while interrupts.pending is None:
                time.sleep(0.01)
            print("pending", flush=True)
            work(float(sys.argv[1]))
            print("step finished", flush=True)
    except Interrupted as interrupt:
        print("interrupted", flush=True)
        sys.exit(128 + interrupt.signal)
"""


def start_program(seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds)], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout.readline() == "ready\n"
    return process


@EVERY_SIGNAL
def test_a_process_finishes_its_step_and_then_ends(number):
    with start_program(0.2) as process:
        process.send_signal(number)
        assert process.stdout.read() == "pending\nstep finished\ninterrupted\n"
    assert process.returncode == 128 + number


def test_a_process_that_is_told_twice_ends_within_its_step():
    with start_program(60) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "pending\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "interrupted\n"
    assert process.returncode == 143


def test_an_error_that_a_signal_overtakes_is_a_note_on_it():
    interrupts = Interrupts()

    def fail():
        with interrupts.postponed():
            interrupts.receive(signal.SIGTERM)
            raise OSError("No space left on device")

    with pytest.raises(Interrupted) as caught:
        fail()
    assert caught.value.signal == signal.SIGTERM
    assert caught.value.__notes__ == ["No space left on device"]
    assert isinstance(caught.value.__cause__, OSError)
