"""Exact and near duplicates among records, found as they come: an index to ask before a record is taken.

Equal are records with equal keys. Near duplicates are records whose sets of five tokens in a row have at
least a given Jaccard similarity: MinHash with locality-sensitive hashing names the candidates, and the sets
themselves decide. A token is a word or a mark of the text, in whichever language; spaces and line ends are
none. Sets are kept as hashes of 64 bits, of which two different ones being equal need not be expected.

What this does not do: say what of a record is compared (``traces`` does), or which records are left out
(``sieve`` does).

Source: Broder 1997, "On the resemblance and containment of documents" (MinHash, shingles); Lee et al. 2022,
    arXiv:2107.06499 (near duplicates of training text with MinHash and LSH, candidates confirmed).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOKENS_PER_SHINGLE = 5
PERMUTATIONS = 128
MINHASH_SEED = 7
WANTED_RECALL = 0.97
"""Least expected share of the pairs at the threshold that become candidates; more similar ones more often."""
MOST_CONFIRMED = 32
"""So many candidates of a text are compared with it."""
SHINGLES_AT_ONCE = 4096
TOKEN = re.compile(r"\w+|[^\w\s]")
WEIGHTS = np.array([int.from_bytes(blake2b(bytes([n]), digest_size=8).digest()) | 1 for n in range(5)], "u8")
"""An odd number per place in a shingle, so that the order of its tokens counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What of a record is compared with others.

    ``equal`` is what it must not have in common with another of its own split, ``shared`` with one of
    another split or of an excluded set; each is (what it is, its content). Near duplicates are looked for
    by ``text``. ``kind`` is what sort of record it is; with records of another kind it has in common what
    ``foreign`` and ``foreign_texts`` say (the code itself, where one is a function and one an example).
    """

    identifier: str
    kind: str
    equal: tuple[str, str]
    shared: tuple[str, str]
    text: str
    foreign: tuple[str, ...] = ()
    foreign_texts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A record of the index, and where it was put."""

    trace: Trace
    place: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """An earlier record that a record repeats; ``same`` says in what, for a near duplicate ``tokens``.

    ``jaccard`` is the similarity of their sets of tokens; ``None`` for two texts without any token.
    """

    entry: Entry
    same: str
    jaccard: float | None

    @property
    def is_exact(self) -> bool:
        """Whether it is equal, and not only similar."""
        return self.same != "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A text's set of shingles, and the MinHash of it."""

    shingles: NDArray[np.uint64]
    minhash: Any


class DuplicateIndex:
    """Records that were taken, to be asked whether another is one of them or nearly one.

    Below a ``threshold`` of 1 the tokens are looked at, too. The same records in the same order give the same
    answers in every process.
    """

    def __init__(self, threshold: float) -> None:
        """An empty index; ``threshold`` in (0, 1]."""
        self.threshold = threshold
        self.bands, self.rows = choose_bands(threshold)
        self._exact: dict[tuple[str, str, str, str], Entry] = {}
        self._near: list[tuple[Entry, Signed, bool]] = []
        self._lsh: Any = build_lsh(self.bands, self.rows) if self.looks_near else None
        self._minhash: Any = build_minhash() if self.looks_near else None
        self._sign = lru_cache(maxsize=8)(self._sign_anew)

    @property
    def looks_near(self) -> bool:
        """Whether near duplicates are looked for, and not equal records alone."""
        return self.threshold < 1

    def find(self, trace: Trace, place: str, places: Sequence[str]) -> Match | None:
        """What a record for ``place`` repeats among those at ``places``; ``None`` where it repeats none.

        An equal record goes before near duplicates, and of these the most similar.
        """
        return self.find_equal(trace, place, places) or self.find_near(trace, places)

    def find_equal(self, trace: Trace, place: str, places: Sequence[str]) -> Match | None:
        """The first record that is equal, of the first of ``places`` that has one."""
        for other in places:
            same, content = trace.equal if other == place else trace.shared
            entry = self._exact.get((other, trace.kind, same, content))
            if entry is not None:
                return Match(entry=entry, same=same, jaccard=compare_texts(trace.text, entry.trace.text))
            for code in trace.foreign:
                entry = self._exact.get((other, "", "code", code))
                if entry is not None and entry.trace.kind != trace.kind:
                    return Match(entry=entry, same="code", jaccard=1.0)
        return None

    def find_near(self, trace: Trace, places: Sequence[str]) -> Match | None:
        """The most similar record at ``places`` that is at least as similar as the threshold.

        Of more than ``MOST_CONFIRMED`` candidates (texts with a long part in common) the likeliest are
        compared, so that many of them do not make every search as long as all texts.
        """
        best: Match | None = None
        for text in (trace.text, *trace.foreign_texts) if self.looks_near else ():
            signed = self._sign(text)
            found = sorted(self._lsh.query(signed.minhash)) if len(signed.shingles) else []
            numbers = [number for number in found if self._may_match(number, text, trace, places)]
            for number in self._choose_likely(numbers, signed):
                entry, other, _ = self._near[number]
                jaccard = measure_jaccard(signed.shingles, other.shingles)
                if jaccard >= self.threshold and (best is None or jaccard > (best.jaccard or 0)):
                    best = Match(entry=entry, same="tokens", jaccard=jaccard)
        return best

    def _may_match(self, number: int, text: str, trace: Trace, places: Sequence[str]) -> bool:
        """Whether a candidate is at one of the places, and its text one to compare ``text`` with."""
        entry, _, is_foreign = self._near[number]
        one_kind = entry.trace.kind == trace.kind
        return entry.place in places and not (one_kind and (is_foreign or text is not trace.text))

    def _choose_likely(self, numbers: Sequence[int], signed: Signed) -> Sequence[int]:
        """Of many candidates the likeliest, by how much of their MinHash is the same, in their old order."""
        if len(numbers) <= MOST_CONFIRMED:
            return numbers
        hashes = np.stack([self._near[number][1].minhash.hashvalues for number in numbers])
        same = (hashes == signed.minhash.hashvalues).sum(axis=1)
        order = np.argsort(-same, kind="stable")[:MOST_CONFIRMED]
        return [numbers[place] for place in sorted(order)]

    def add(self, trace: Trace, place: str) -> None:
        """Put a record into the index."""
        entry = Entry(trace=trace, place=place)
        for same, content in (trace.equal, trace.shared):
            self._exact.setdefault((place, trace.kind, same, content), entry)
        for code in trace.foreign:
            self._exact.setdefault((place, "", "code", code), entry)
        for text in (trace.text, *trace.foreign_texts) if self.looks_near else ():
            signed = self._sign(text)
            if len(signed.shingles):
                self._lsh.insert(len(self._near), signed.minhash)
                self._near.append((entry, signed, text is not trace.text))

    def _sign_anew(self, text: str) -> Signed:
        """The text's set of shingles, and the MinHash of it."""
        shingles = hash_shingles(text)
        minhash = self._minhash.copy()
        halves = (shingles >> np.uint64(32)).astype(np.uint32)
        for start in range(0, len(halves), SHINGLES_AT_ONCE):
            minhash.update_batch(halves[start : start + SHINGLES_AT_ONCE].tolist())
        return Signed(shingles=shingles, minhash=minhash)


def build_lsh(bands: int, rows: int) -> Any:
    """An empty index of datasketch's."""
    from datasketch import MinHashLSH  # type: ignore[import-untyped]

    return MinHashLSH(num_perm=PERMUTATIONS, params=(bands, rows))


def build_minhash() -> Any:
    """The MinHash of nothing, of which those of texts are made."""
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=MINHASH_SEED, hashfunc=keep_hash, scheme="affine32")


def keep_hash(value: int) -> int:
    """The value itself: shingles are hashed already."""
    return value


def choose_bands(threshold: float) -> tuple[int, int]:
    """(bands, rows of each) for a threshold: as many rows as leave the wanted recall there, but at least one.

    Two sets of similarity s agree in all r rows of one of b bands with probability 1 - (1 - s^r)^b.
    """
    for rows in count(2):
        bands = PERMUTATIONS // rows
        if not bands or find_recall(threshold, bands, rows) < WANTED_RECALL:
            return PERMUTATIONS // (rows - 1), rows - 1
    raise AssertionError("the loop ends where there are more rows than permutations")


def find_recall(similarity: float, bands: int, rows: int) -> float:
    """The expected share of pairs of a similarity that become candidates."""
    return float(1 - (1 - similarity**rows) ** bands)


def hash_shingles(text: str) -> NDArray[np.uint64]:
    """The text's set of five tokens in a row, as sorted hashes; of a shorter text, the whole as one."""
    tokens = [hash_token(token) for token in TOKEN.findall(text)]
    if not tokens:
        return np.empty(0, np.uint64)
    tokens += [0] * (TOKENS_PER_SHINGLE - len(tokens))
    hashes = np.array(tokens, np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(hashes, TOKENS_PER_SHINGLE)
    return np.unique(windows @ WEIGHTS)


@lru_cache(maxsize=2**16)
def hash_token(token: str) -> int:
    """A hash of 64 bits, the same in every process."""
    return int.from_bytes(blake2b(token.encode(), digest_size=8).digest())


def measure_jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """The Jaccard similarity of two sets, given as sorted hashes without repetition: of two empty ones, 0."""
    union = len(one) + len(other)
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (union - both) if union else 0.0


def compare_texts(one: str, other: str) -> float | None:
    """The Jaccard similarity of two texts' sets of tokens; ``None`` where neither has any."""
    sets = hash_shingles(one), hash_shingles(other)
    return measure_jaccard(*sets) if len(sets[0]) or len(sets[1]) else None


def collect_shingles(traces: Sequence[Trace]) -> NDArray[np.uint64]:
    """All shingles of a set's texts, sorted, each once."""
    sets = [hash_shingles(text) for trace in traces for text in (trace.text, *trace.foreign_texts)]
    return np.unique(np.concatenate(sets)) if sets else np.empty(0, np.uint64)


def may_be_near(trace: Trace, known: NDArray[np.uint64], threshold: float) -> bool:
    """Whether a record can be a near duplicate of any of a set, by the shingles of all of it.

    Two sets of Jaccard similarity s share at least s of the shingles of each, so that a record with fewer
    known ones is none: few records have to be looked at more closely.
    """
    for text in (trace.text, *trace.foreign_texts):
        shingles = hash_shingles(text)
        places = np.minimum(np.searchsorted(known, shingles), len(known) - 1)
        if len(shingles) and len(known) and np.mean(known[places] == shingles) >= threshold:
            return True
    return False
