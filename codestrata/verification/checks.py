"""What a check of a run found, in words: all the same, differences, or what could not be looked at.

What this does not do: check anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Literal

from codestrata.errors import shorten
from codestrata.records import Prediction

Verdict = Literal["same", "differs", "not checked"]
BEFORE_DIFFERENCE, SHOWN_CHARACTERS = 20, 60
COMPARED_FIELDS = (
    "completion",
    "finished",
    "tokens",
    "agreed",
    "shifted",
    "repeats",
    "target_repeats",
    "prompt",
    "target",
    "tests",
    "group",
    "prelude",
)
"""Of predictions, the most telling first."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part of a run that was computed again and compared.

    ``about`` says what was compared with what, ``count`` how often. ``differences`` and ``unchecked`` (what
    could not be compared, and why) are sentences; ``notes`` are what else to know. A check that could not be
    made, even in part, has not passed.
    """

    subject: str
    about: str
    count: int
    differences: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What came out; a difference outweighs what could not be looked at."""
        if self.differences:
            return "differs"
        return "not checked" if self.unchecked else "same"

    @property
    def first(self) -> str | None:
        """The first difference, or else the first thing that could not be looked at."""
        return next(iter((*self.differences, *self.unchecked)), None)


def join_checks(checks: Sequence[Check]) -> Check:
    """The same check of several orders of the tasks as one; ``about`` is the first's."""
    first = checks[0]
    return replace(
        first,
        count=sum(check.count for check in checks),
        differences=tuple(line for check in checks for line in check.differences),
        unchecked=tuple(dict.fromkeys(line for check in checks for line in check.unchecked)),
        notes=tuple(dict.fromkeys(line for check in checks for line in check.notes)),
    )


def describe_check(check: Check) -> dict[str, Any]:
    """A check as plain values."""
    return {
        "subject": check.subject,
        "about": check.about,
        "count": check.count,
        "verdict": check.verdict,
        "differences": list(check.differences),
        "unchecked": list(check.unchecked),
        "notes": list(check.notes),
    }


def find_different_answer(
    first: Sequence[Prediction], second: Sequence[Prediction], names: tuple[str, str]
) -> str | None:
    """The first prediction that is not the same in both, in words; ``None`` where all are.

    ``names`` say what the two are, such as ``("stored", "decoded now")``.
    """
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if (one.identifier, one.sample) != (other.identifier, other.sample):
            was, found = (f"{entry.identifier} (sample {entry.sample})" for entry in (one, other))
            return f"prediction {number + 1}: {names[0]} for {was}, {names[1]} for {found}"
        if one != other:
            place = f"example {one.identifier}" + (f" (sample {one.sample})" if one.sample else "")
            return f"{place}: {describe_fields(one, other, names)}"
    if len(first) != len(second):
        return f"{len(first)} predictions {names[0]}, {len(second)} {names[1]}"
    return None


def describe_fields(one: Prediction, other: Prediction, names: tuple[str, str]) -> str:
    """The first field in which two predictions for one example differ, with both values."""
    field = next(name for name in COMPARED_FIELDS if getattr(one, name) != getattr(other, name))
    values = cut_around_difference(getattr(one, field), getattr(other, field))
    return f"{field} {names[0]} {values[0]}, {names[1]} {values[1]}"


def cut_around_difference(one: Any, other: Any) -> tuple[str, str]:
    """Two values as in source code; of long texts what stands around their first difference."""
    if not isinstance(one, str) or not isinstance(other, str):
        return shorten(one), shorten(other)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    start = max(0, shared - BEFORE_DIFFERENCE)
    cut = [text[start : start + SHOWN_CHARACTERS] for text in (one, other)]
    ends = ["" if start + SHOWN_CHARACTERS >= len(text) else "..." for text in (one, other)]
    begin = "..." if start else ""
    return f"{begin}{cut[0]!r}{ends[0]}", f"{begin}{cut[1]!r}{ends[1]}"


def list_differing_keys(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """A sentence for every key of ``wanted`` whose value is another one in ``stored``."""
    return [
        f"{key} is {shorten(stored.get(key))}, but {shorten(value)} is right"
        for key, value in wanted.items()
        if stored.get(key) != value
    ]
