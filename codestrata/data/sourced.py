"""What a source of ready examples gives: each example with what splits, filters and reports ask of it.

What this does not do: read anything (a source's own module does), or split (``tasks`` does).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from codestrata.records import Example

Partition = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcedExample:
    """An example with where it comes from; ``partition`` is the data's own, ``date`` an ISO day.

    ``line`` is the line or row of the file, from 1; ``None`` where there is no single one. ``file`` is the
    file where it is one's own.
    """

    example: Example
    partition: Partition | None = None
    date: str | None = None
    license: str | None = None
    line: int | None = None
    file: Path | None = None

    @property
    def identifier(self) -> str:
        """The example's name among its like."""
        return self.example.identifier

    @property
    def repository(self) -> str | None:
        """The example's group, which is to ready examples what a repository is to functions."""
        return self.example.group

    @property
    def path(self) -> str | None:
        """``None``: a ready example says of no file of code that it is from."""
        return None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The examples of a source in their order, how many records were left out by reason, and notes."""

    examples: tuple[SourcedExample, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
