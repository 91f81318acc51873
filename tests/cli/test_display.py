"""What a command shows while it works."""

import io
import re

import pytest
from rich.console import Console

from codestrata.cli import display
from codestrata.cli.display import LiveProgress, console, render
from codestrata.report.tables import Table


def make_console(*, terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def work(progress):
    progress.start("lora: train python", 2)
    progress.advance(1, "loss 2.000")
    progress.advance(2, "loss 1.000")
    progress.start("lora: decode python", 1)
    progress.advance(1)
    progress.say("a line of its own")


def test_without_a_terminal_every_finished_phase_is_a_line():
    target = make_console()
    with LiveProgress(target) as progress:
        work(progress)
    lines = target.file.getvalue().splitlines()
    assert [line.split(" s  ", 1)[1].split("  ")[0] for line in lines] == [
        "lora: train python",
        "a line of its own",
        "lora: decode python",
    ]
    assert "loss 1.000" in lines[0]
    assert "loss" not in lines[2]


def test_on_a_terminal_the_phases_stay_behind():
    target = make_console(terminal=True)
    with LiveProgress(target) as progress:
        work(progress)
    text = target.file.getvalue()
    assert "lora: train python" in text
    assert "a line of its own" in text


def test_quiet_is_silent():
    for terminal in (True, False):
        target = make_console(terminal=terminal)
        with LiveProgress(target, quiet=True) as progress:
            work(progress)
        assert target.file.getvalue() == ""


def test_a_long_phase_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(display, "SECONDS_BETWEEN_LINES", 0.0)
    target = make_console()
    with LiveProgress(target) as progress:
        progress.start("train", 10)
        progress.advance(4, "loss 1.5")
    assert "train: 4 done loss 1.5" in target.file.getvalue()


def fail(target):
    with LiveProgress(target) as progress:
        progress.start("train", 10)
        raise ValueError("broken")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_phase_that_failed_is_not_said_to_be_over(terminal):
    target = make_console(terminal=terminal)
    with pytest.raises(ValueError, match="broken"):
        fail(target)
    assert " s  train" not in target.file.getvalue()


def test_brackets_in_what_is_said_are_text():
    for terminal in (True, False):
        target = make_console(terminal=terminal)
        with LiveProgress(target) as progress:
            progress.start("train [a]", 2)
            progress.advance(1, "[/b] [Errno 28]")
            if terminal:
                progress._bars.refresh()
            progress.say("see runs/[c]")
        for text in ("train [a]", "[/b] [Errno 28]", "see runs/[c]"):
            assert text in target.file.getvalue()


HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def interrupt(*_, **__):
    raise KeyboardInterrupt


def list_cursor_changes(target):
    return re.findall(r"\x1b\[\?25[lh]", target.file.getvalue())


@pytest.mark.parametrize("method", ["start", "stop", "remove_task"])
def test_an_interrupt_anywhere_leaves_the_cursor_visible(monkeypatch, method):
    target = make_console(terminal=True)
    progress = LiveProgress(target)
    real = getattr(progress._bars, method)
    monkeypatch.setattr(progress._bars, method, lambda *given: (method == "start" and real(), interrupt()))
    with pytest.raises(KeyboardInterrupt), progress:
        work(progress)
    changes = list_cursor_changes(target)
    assert changes[0] == HIDE
    assert changes[-1] == SHOW


def test_an_interrupt_while_rich_prints_leaves_the_cursor_visible(monkeypatch):
    target = make_console(terminal=True)
    enter = target._enter_buffer

    def interrupt_within():
        enter()  # from here on rich keeps back what this console prints
        interrupt()

    def say_half_a_line():
        with LiveProgress(target) as progress, monkeypatch.context() as patch:
            patch.setattr(target, "_enter_buffer", interrupt_within)
            progress.say("half a line")

    with pytest.raises(KeyboardInterrupt):
        say_half_a_line()
    assert list_cursor_changes(target)[-1] == SHOW


def test_a_table_for_the_terminal_holds_everything():
    target = make_console()
    target.print(render(Table("Title", ("method", "score"), (("lora", "0.5"), ("layers", "[0.1, 0.2]")))))
    text = target.file.getvalue()
    for part in ("Title", "method", "score", "lora", "layers", "0.5", "[0.1, 0.2]"):
        assert part in text


def test_progress_goes_to_stderr():
    assert console().stderr
