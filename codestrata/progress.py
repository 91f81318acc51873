"""What the library tells whoever watches: one phase at a time, how far it is, and a remark.

What this does not do: draw anything (``cli.display`` does).
"""

from typing import Protocol


class Progress(Protocol):
    """A watcher of a run."""

    def start(self, label: str, total: int) -> None:
        """A phase of ``total`` units begins, and the one before it is over."""

    def advance(self, done: int, note: str = "") -> None:
        """``done`` units of the phase are over; ``note`` is a short remark such as the loss."""

    def say(self, text: str) -> None:
        """Something worth a line of its own."""


class Silence:
    """A watcher that looks away."""

    def start(self, label: str, total: int) -> None:
        """Nothing."""

    def advance(self, done: int, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
