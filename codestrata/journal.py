"""What a run has finished, unit of work by unit of work, so that a run that goes on does nothing twice.

A unit is a file of two lines: the SHA-256 of the second line, and the unit's value with the wall time that it
took, as JSON. A value always comes back out of what was written, the first time too: so a run that was
interrupted works with the same values as one that was not.

What this does not do: know what the units are, or outlive the run (``store`` removes it once all is done).
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from codestrata.errors import DataError, RunError
from codestrata.files import hash_text, read_document, write_text

T = TypeVar("T")


@dataclass(frozen=True)
class Unit:
    """What a unit's file says."""

    value: Any
    seconds: dict[str, float]


class Journal:
    """The finished units of a run, and its wall time so far by phase.

    Until it follows a folder it keeps nothing, and every unit is worked on.

    Attributes:
        seconds: wall time by phase, that of recalled units included.
        recalled_seconds: what the recalled units had taken.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.recalled_seconds = 0.0
        self._folder: Path | None = None
        self._say: Callable[[str], None] = print
        self._given: frozenset[str] = frozenset()
        self._giver = ""

    def follow(self, folder: Path, say: Callable[[str], None]) -> None:
        """Find and keep units in this folder from now on; ``say`` is told of damaged ones."""
        self._folder, self._say = folder, say

    def accept(self, units: Iterable[str], giver: str) -> None:
        """Never work on these units, which the folder was given: without them there is an error.

        Args:
            units: their names.
            giver: where they came from and what to do where one cannot serve, as a sentence.
        """
        self._given, self._giver = frozenset(units), giver

    def is_given(self, unit: str) -> bool:
        """Whether the unit is one of those that ``accept`` was told of."""
        return unit in self._given

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Add the wall time inside to a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(phase, time.perf_counter() - started)

    def add(self, phase: str, seconds: float) -> None:
        """Add wall time to a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def recall(
        self,
        unit: str,
        kind: Any,
        work: Callable[[], T],
        *,
        serves: Callable[[T], bool] | None = None,
        vital: bool = False,
    ) -> T:
        """The value of a unit: as it was found, or worked out now and kept.

        Args:
            unit: its name, such as ``answers/base/python/test``; parts are separated by ``/``.
            kind: the value's type, such as ``tuple[Prediction, ...]``.
            work: works it out.
            serves: whether a value that was found can be used here; else the work is done again.
            vital: whether nothing may be built on the other units without this one.

        Raises: RunError: a vital unit is damaged, or gone though there are others; one that was given is
            damaged, gone or does not serve.
        """
        if self._folder is None:
            return work()
        path = self._folder / f"{unit}.json"
        found = self._find(path, kind)
        if found is None and vital and (path.exists() or self._has_others()):
            raise RunError(
                f"{path} is damaged or gone: nothing else says what the run began with. Begin a new run."
            )
        if found is not None and (serves is None or serves(found[0])):
            value, seconds = found
            for phase, spent in seconds.items():
                self.add(phase, spent)
                self.recalled_seconds += spent
            return value  # type: ignore[no-any-return]  # kind says what it is
        if unit in self._given:
            raise RunError(f"{unit} cannot serve here, or is damaged or gone. {self._giver}")
        before = dict(self.seconds)
        value = work()
        took = {
            phase: total - before.get(phase, 0.0)
            for phase, total in self.seconds.items()
            if total != before.get(phase)
        }
        text = encode(value, took)
        write_text(path, f"{hash_text(text)}\n{text}\n")
        return decode(text, kind)[0]  # type: ignore[no-any-return]

    def _find(self, path: Path, kind: Any) -> tuple[Any, Mapping[str, float]] | None:
        """The value in a file and what it took; ``None`` where there is none, or it is damaged."""
        if not os.path.lexists(path):
            return None
        with suppress(DataError, msgspec.DecodeError):  # not text, no JSON, or not of this kind
            digest, _, text = read_document(path).partition("\n")
            text = text.removesuffix("\n")
            if hash_text(text) == digest:
                return decode(text, kind)
        self._say(f"{path} is damaged: its work is done again")
        return None

    def _has_others(self) -> bool:
        """Whether there are units of work: what a run begins with lies beside their folders."""
        assert self._folder is not None
        return self._folder.is_dir() and any(entry.is_dir() for entry in self._folder.iterdir())


def encode(value: Any, seconds: Mapping[str, float]) -> str:
    """A unit's value and wall time as one line of JSON."""
    return msgspec.json.encode(Unit(value, dict(seconds))).decode("utf-8")


def decode(text: str, kind: Any) -> tuple[Any, Mapping[str, float]]:
    """What ``encode`` was given; the value is of ``kind``."""
    found = msgspec.json.decode(text, type=Unit)
    return msgspec.convert(found.value, kind), found.seconds
