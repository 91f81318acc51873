"""SIGINT and SIGTERM as an exception that can wait until the step under way is finished.

All files are written atomically, so an interrupt raised anywhere is as harmless as SIGKILL; to postpone it
only saves the work of the step.

What this does not do: save anything (whoever postpones does), or choose the exit code of a command.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to stop; ``signal`` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Interrupts:
    """Where signals arrive while ``catch_signals`` lasts; one made without it never has anything pending.

    ``pending`` is the signal that waits, if any.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        self._postponements = 0

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Inside, a first signal only waits, and a second one raises at once; the first raises on leaving.

        Where such blocks are nested, leaving the outermost raises. An error on its way out is then a note on
        the interrupt: who goes on later meets the error again, but a signal comes once.

        Raises: Interrupted: a signal came inside.
        """
        self._postponements += 1
        try:
            yield
        except Exception as error:
            if self._postponements == 1 and self.pending is not None:
                interrupt = Interrupted(self.pending)
                interrupt.add_note(str(error))
                self.pending = None
                raise interrupt from error
            raise
        finally:
            self._postponements -= 1
            if self._postponements == 0:
                self.check()

    def check(self) -> None:
        """Nothing where no signal waits. Raises: Interrupted: one did; it does not wait any longer."""
        waiting, self.pending = self.pending, None
        if waiting is not None:
            raise Interrupted(waiting)

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Take a signal, as a handler of the ``signal`` module does.

        Raises: Interrupted: nothing postpones it, or another one waits already.
        """
        if self._postponements and self.pending is None:
            self.pending = number
            return
        self.pending = None
        raise Interrupted(number)


@contextmanager
def catch_signals() -> Iterator[Interrupts]:
    """SIGINT and SIGTERM raise ``Interrupted`` inside, at once unless postponed; the old handlers come back.

    A signal that this process was started to ignore, as a shell's background jobs ignore SIGINT, stays
    ignored. Only the main thread can have handlers: in any other nothing is installed, and nothing arrives.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    with ExitStack() as old:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:
                # `None` is a handler that was not set from Python, and that Python cannot set again.
                old.callback(signal.signal, number, signal.SIG_DFL if handler is None else handler)
                signal.signal(number, interrupts.receive)
        yield interrupts


def ignore_signals() -> None:
    """From now on SIGINT and SIGTERM do nothing, until the ``catch_signals`` around this is left."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
