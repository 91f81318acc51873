"""Which records of a task are taken: no secrets, no duplicates, nothing that is tested or excluded.

What this does not do: choose the order in which records are looked at (``tasks`` does), or split them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

from codestrata.data.duplicates import (
    MINHASH_SEED,
    PERMUTATIONS,
    TOKENS_PER_SHINGLE,
    DuplicateIndex,
    Match,
    Trace,
    find_recall,
)
from codestrata.data.secrets import find_secrets, hide_secret
from codestrata.data.sourced import SourcedExample
from codestrata.data.sources import Record, build_record
from codestrata.data.traces import trace_record
from codestrata.records import Example
from codestrata.settings.tasks import Objective, TaskSettings

Place = Literal["test", "validation", "train"]

MOST_EXAMPLES = 10
QUOTE_CHARACTERS = 80
EXCLUDED = "excluded:"
WITHIN = {"test": "within test", "validation": "within validation", "train": "within train"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A record that repeats an earlier one, and whether it was left out for it."""

    pair: str
    trace: Trace
    match: Match
    removed: bool


class Sieve:
    """Decides record after record whether it is taken, and keeps count.

    Excluded sets are put in first; then records of test, of validation and of training: whoever comes first
    stays, so that tests stay and training goes.
    """

    def __init__(self, settings: TaskSettings, *, mixed: bool) -> None:
        """A sieve that has seen nothing; ``mixed`` as in ``trace_record``."""
        self.counts: Counter[str] = Counter()
        self.with_secrets = 0
        self._settings = settings
        self._mixed = mixed
        self._index = DuplicateIndex(settings.duplicate_threshold)
        self._apart = DuplicateIndex(settings.excluded_threshold)
        self._excluded: dict[str, int] = {}
        self._looked_at: Counter[str] = Counter()
        self._found: Counter[tuple[bool, str, bool]] = Counter()
        self._shown: dict[tuple[bool, str], list[Found]] = {}
        self._tests: list[Trace] = []

    def exclude(self, name: str, records: Sequence[Record]) -> None:
        """Let no record be trained on, nor validated on, that repeats one of these."""
        for record in records:
            self._apart.add(trace_record(record, mixed=self._mixed), EXCLUDED + name)
        self._excluded[EXCLUDED + name] = len(records)

    def take(self, record: Record, objective: Objective, place: Place) -> Example | None:
        """The record's example for an objective, or ``None`` where it is left out, which is counted."""
        self._looked_at[place] += 1
        verdict = self._judge(record, objective, place)
        if isinstance(verdict, str):
            self.counts[verdict] += 1
            return None
        return verdict

    def _judge(self, record: Record, objective: Objective, place: Place) -> Example | str:
        """The record's example, or the reason why it is left out."""
        has_secret = bool(find_secrets("\n".join(list_texts(record))))
        if has_secret and not self._settings.keep_secrets:
            return "contains a secret"
        example = build_record(objective, record)
        if isinstance(example, str):
            return example
        trace = trace_record(record, mixed=self._mixed)
        if place == "test" and isinstance(record, SourcedExample) and self._settings.near_duplicates is None:
            match = self._index.find_equal(trace, place, ("test",))  # a benchmark is one as a whole
        else:
            match = self._index.find(trace, place, self._list_places(place))
        if match is None and place != "test":
            match = self._apart.find(trace, place, tuple(self._excluded))
        if match is not None:
            pair = name_pair(place, match.entry.place)
            self._note(Found(pair=pair, trace=trace, match=match, removed=True))
            return explain_match(match, place)
        if self._settings.allow_overlap and place != "test":
            allowed = self._index.find(trace, place, ("test",))
            if allowed is not None:
                pair = name_pair(place, "test")
                self._note(Found(pair=pair, trace=trace, match=allowed, removed=False))
        if place == "test":
            self._tests.append(trace)
        self._index.add(trace, place)
        self.with_secrets += has_secret
        return example

    def _list_places(self, place: Place) -> tuple[str, ...]:
        """Where among the task's own a record of ``place`` must not be already."""
        if place == "test":
            return ("test",)
        held = () if self._settings.allow_overlap else ("test",)
        return (*held, "validation", *(("train",) if place == "train" else ()))

    def _note(self, found: Found) -> None:
        """Count a record that repeats another, and keep the first ones of every sort to be shown."""
        self._found[found.match.is_exact, found.pair, found.removed] += 1
        shown = self._shown.setdefault((found.match.is_exact, found.pair), [])
        if len(shown) < MOST_EXAMPLES:
            shown.append(found)

    def count_shared_tests(self) -> int:
        """How many test examples training has too: the same code, or prompt."""
        return sum(self._index.find_equal(trace, "test", ("train",)) is not None for trace in self._tests)

    def describe(self) -> dict[str, Any]:
        """The report on duplicates and leaks, as plain values (docs/results.md says what each is)."""
        looking = self._choose_looking()
        return {
            "threshold": self._index.threshold,
            "excluded_threshold": self._apart.threshold if self._excluded else None,
            "method": describe_method(looking) if looking else None,
            "near_reason": None if looking else "near_duplicates is 1: only equal records were looked for",
            "looked_at": {
                **{place: self._looked_at[place] for place in WITHIN},
                **self._excluded,
            },
            "removed": {kind: self._list_counts(kind, removed=True) for kind in ("exact", "near")},
            "kept": {kind: self._list_counts(kind, removed=False) for kind in ("exact", "near")},
            "examples": [self._describe_found(found) for found in self._choose_shown()],
        }

    def _choose_looking(self) -> DuplicateIndex | None:
        """What looks for near duplicates: the task's own records, or excluded sets alone; else ``None``."""
        if self._index.looks_near:
            return self._index
        return self._apart if self._excluded and self._apart.looks_near else None

    def _list_counts(self, kind: str, *, removed: bool) -> dict[str, int] | None:
        """Pair of places -> count; near ones where they were looked for, ``None`` where nowhere."""
        looking = self._choose_looking()
        if kind == "near" and looking is None:
            return None
        names = list_pairs(self._excluded) if removed else ["validation-test", "train-test"]
        if kind == "near" and looking is self._apart:
            names = [name for name in names if EXCLUDED in name]
        return {pair: self._found[kind == "exact", pair, removed] for pair in names}

    def _choose_shown(self) -> list[Found]:
        """Ten examples at most, of every sort in turn, leaks before repetitions within a split."""
        order = {pair: number for number, pair in enumerate(reversed(list_pairs(self._excluded)))}
        sorts = sorted(self._shown, key=lambda sort: (order[sort[1]], not sort[0]))
        turns = [
            self._shown[sort][turn]
            for turn in range(MOST_EXAMPLES)
            for sort in sorts
            if turn < len(self._shown[sort])
        ]
        return turns[:MOST_EXAMPLES]

    def _describe_found(self, found: Found) -> dict[str, Any]:
        """One example of a duplicate; without words of it where records with secrets are kept."""
        quote = " ".join(found.trace.text.split())[:QUOTE_CHARACTERS]
        return {
            "kind": "exact" if found.match.is_exact else "near",
            "pair": found.pair,
            "same": found.match.same,
            "jaccard": found.match.jaccard,
            "identifier": hide_secret(found.trace.identifier),
            "repeats": hide_secret(found.match.entry.trace.identifier),
            "quote": None if self._settings.keep_secrets else quote,
            "removed": found.removed,
        }


def describe_method(index: DuplicateIndex) -> dict[str, Any]:
    """How near duplicates were looked for."""
    return {
        "name": "MinHash with locality-sensitive hashing, candidates confirmed by their exact similarity",
        "library": f"datasketch {version('datasketch')}",
        "tokens_per_shingle": TOKENS_PER_SHINGLE,
        "permutations": PERMUTATIONS,
        "bands": index.bands,
        "rows": index.rows,
        "seed": MINHASH_SEED,
        "recall_at_threshold": find_recall(index.threshold, index.bands, index.rows),
    }


def name_pair(place: str, other: str) -> str:
    """What two places a record and the one it repeats are of."""
    return WITHIN[place] if place == other else f"{place}-{other}"


def list_pairs(excluded: Iterable[str]) -> list[str]:
    """Every pair of places that is looked at, leaks last."""
    crossed = ["train-validation", "validation-test", "train-test"]
    sets = [f"{place}-{other}" for place in ("validation", "train") for other in excluded]
    return [*WITHIN.values(), *crossed, *sets]


def explain_match(match: Match, place: Place) -> str:
    """Why a record is left out that repeats another."""
    verb = "repeats" if match.is_exact else "nearly repeats"
    other = match.entry.place
    if other.startswith(EXCLUDED):
        return f"{verb} a record of the excluded {other.removeprefix(EXCLUDED)}"
    return f"{verb} a record of {'its own split' if other == place else 'a held-out split'}"


def list_texts(record: Record) -> tuple[str, ...]:
    """All text of a record that a model, or a reader of the results, may come to see; its names last."""
    if isinstance(record, SourcedExample):
        example = record.example
        parts = (example.prompt, example.target, example.prelude, example.tests)
        return tuple(part for part in (*parts, example.identifier, example.group) if part)
    names = (record.name, record.repository, record.path)
    return tuple(part for part in (record.docstring, record.code, *names) if part)
