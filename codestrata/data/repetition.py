"""Which texts repeat a stretch of training text word for word, by the hashes of all stretches of that text.

A token is a word or a mark of a text (``TOKEN``; letters of any script, case counts); white space between
tokens does not count. A text repeats where so many tokens in a row stand, in the same order, in the prompt or
in the target of a training example; never across the border of two of these.

What this does not do: look into what a base was pretrained on, or find text that was changed a little.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from codestrata.records import Example, Task

TOKEN = re.compile(r"\w+|[^\w\s]")
FIRST_FACTOR, SECOND_FACTOR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
"""Odd numbers with irregular bits."""
SHIFT = np.uint64(32)


class TrainingStretches:
    """The stretches of tasks' training examples, each task's gathered when it is first asked for.

    Memory: 8 bytes for every token of training text, and twice that while a task's are gathered.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], np.ndarray] = {}

    def find_repeats(self, text: str, tasks: Sequence[Task], length: int) -> bool:
        """Whether ``length`` tokens in a row of a text stand in a training example of one of the tasks.

        Tasks are known by their names. A stretch is known by a hash of 64 bits: of Q stretches looked up
        among N, a wrong one is found with a chance of about Q N / 2^64, which for a million among ten million
        is under one in a million.
        """
        wanted = hash_stretches(text, length)
        return wanted.size > 0 and any(self._holds(task, wanted, length) for task in tasks)

    def _holds(self, task: Task, wanted: np.ndarray, length: int) -> bool:
        key = (task.name, length)
        if key not in self._known:
            self._known[key] = gather_stretches(task.train, length)
        known = self._known[key]
        places = np.searchsorted(known, wanted)
        inside = places < known.size
        return bool((known[places[inside]] == wanted[inside]).any())


def gather_stretches(examples: Iterable[Example], length: int) -> np.ndarray:
    """The hashes of all stretches of the examples' prompts and targets, sorted."""
    found = [hash_stretches(text, length) for entry in examples for text in (entry.prompt, entry.target)]
    hashes = np.concatenate([np.empty(0, dtype=np.uint64), *found])
    hashes.sort()
    return hashes


def hash_stretches(text: str, length: int) -> np.ndarray:
    """The hash of every ``length`` tokens in a row, one after another; none where the text has fewer.

    >>> hash_stretches("a b c", 2).size, hash_stretches("a b c", 4).size
    (2, 0)
    """
    tokens = TOKEN.findall(text)
    count = len(tokens) - length + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    # Stretches of 1, 2, 4, ... tokens, of which those of ``length`` are put together.
    block = np.fromiter(map(hash_token, tokens), dtype=np.uint64, count=len(tokens))
    size, done, found = 1, 0, np.zeros(count, dtype=np.uint64)
    while True:
        if length & size:
            found = mix_hashes(found, block[done : done + count])
            done += size
        if done == length:
            return found
        block = mix_hashes(block[:-size], block[size:])
        size *= 2


def mix_hashes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A hash of each pair, other than that of the pair turned round."""
    mixed: np.ndarray = first * FIRST_FACTOR + second
    mixed ^= mixed >> SHIFT
    mixed *= SECOND_FACTOR
    mixed ^= mixed >> SHIFT
    return mixed


@lru_cache(maxsize=1 << 16)
def hash_token(token: str) -> int:
    """64 bits of the token's BLAKE2b: the same on every machine."""
    return int.from_bytes(hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def count_tokens(text: str) -> int:
    """How many words and marks a text has."""
    return len(TOKEN.findall(text))
