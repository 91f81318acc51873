"""What a command shows while it works, on stderr: live bars on a terminal, plain lines elsewhere.

What this does not do: print results; they go to stdout.
"""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as RichTable
from rich.text import Text

from codestrata.report.tables import Table

SECONDS_BETWEEN_LINES = 60.0


def console() -> Console:
    """The console on stderr; honours ``NO_COLOR`` and ``FORCE_COLOR``."""
    return Console(stderr=True)


def render(table: Table) -> RichTable:
    """A table for the terminal."""
    # As `Text`, because rich would take the brackets of an interval or of R[i, i] for markup.
    view = RichTable(title=Text(table.title), title_justify="left")
    for number, name in enumerate(table.header):
        view.add_column(Text(name), justify="left" if number == 0 else "right", overflow="fold")
    for row in table.rows:
        view.add_row(*map(Text, row))
    return view


class LiveProgress:
    """A ``progress.Progress``: finished phases scroll by as lines, the current one has a bar."""

    def __init__(self, target: Console, *, quiet: bool = False) -> None:
        self._console = target
        self._quiet = quiet
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=target,
            transient=True,
        )
        self._task: Any = None
        self._label = ""
        self._note = ""
        self._started = self._phase_started = self._line = time.perf_counter()

    def __enter__(self) -> "LiveProgress":
        try:
            if self._is_live:
                self._bars.start()
        except BaseException:  # an interrupt too must not leave the terminal without its cursor
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._close_phase()
        finally:
            self._stop()

    def _stop(self) -> None:
        """Take the bars away, and show the cursor again even where an interrupt comes meanwhile."""
        if not self._is_live:  # stopping bars that never started would print an empty line
            return
        try:
            self._bars.stop()
        finally:
            # A new one, because rich keeps back what a console prints that was interrupted while printing.
            Console(file=self._console.file, force_terminal=True).show_cursor(True)

    @property
    def _is_live(self) -> bool:
        return self._console.is_terminal and not self._quiet

    def start(self, label: str, total: int) -> None:
        """A phase begins."""
        self._close_phase()
        self._label, self._note, self._phase_started = label, "", time.perf_counter()
        self._line = self._phase_started
        if self._is_live:
            self._task = self._bars.add_task(label, total=total, note="")

    def advance(self, done: int, note: str = "") -> None:
        """The phase has come so far; without a terminal a line a minute says so."""
        self._note = note
        if self._is_live:
            self._bars.update(self._task, completed=done, note=note)
        elif time.perf_counter() - self._line > SECONDS_BETWEEN_LINES:
            self._line = time.perf_counter()
            self.say(f"{self._label}: {done} done {note}")

    def say(self, text: str) -> None:
        """A line of its own, with the time since the start."""
        self._print(escape(text))

    def _print(self, markup: str) -> None:
        if not self._quiet:
            elapsed = time.perf_counter() - self._started
            self._console.print(f"[dim]{elapsed:7.1f} s[/dim]  {markup}", highlight=False)

    def _close_phase(self) -> None:
        """Leave a line for the phase that ended."""
        if not self._label:
            return
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        seconds = time.perf_counter() - self._phase_started
        self._print(f"{escape(self._label)}  [dim]{seconds:.1f} s  {escape(self._note)}[/dim]")
        self._label = ""
