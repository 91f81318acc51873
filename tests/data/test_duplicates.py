import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.data import duplicates
from codestrata.data.duplicates import (
    PERMUTATIONS,
    DuplicateIndex,
    Trace,
    choose_bands,
    compare_texts,
    find_recall,
    hash_shingles,
    measure_jaccard,
)

WORDS = [f"word{number}" for number in range(400)]


def make_trace(name, text, kind="function", **changes):
    plain = {
        "identifier": name,
        "kind": kind,
        "equal": ("code", text),
        "shared": ("code", text),
        "text": text,
    }
    return Trace(**(plain | changes))


def fill(threshold, texts, place="train"):
    index = DuplicateIndex(threshold)
    for number, text in enumerate(texts):
        index.add(make_trace(str(number), text), place)
    return index


def draw_text(rng, length):
    return " ".join(rng.choice(WORDS) for _ in range(length))


def edit(text, changes, rng):
    words = text.split()
    for _ in range(changes):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


def brute_force(one, other):
    """The Jaccard similarity of sets of tuples of words, with none of the code that is tested."""
    sets = [
        {tuple(words[n : n + 5]) for n in range(max(len(words) - 4, 1))}
        for words in (one.split(), other.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_shingles_are_five_words_or_marks_in_a_row():
    assert len(hash_shingles("a b c d e f")) == 2
    assert len(hash_shingles("f(x) = 1")) == 2, "f ( x ) = and ( x ) = 1"
    assert np.array_equal(hash_shingles("f(x)=1"), hash_shingles("f ( x )\n\t= 1")), "layout is nothing"
    assert not set(hash_shingles("a b c d e")) & set(hash_shingles("b a c d e")), "order counts"
    assert len(hash_shingles("x x x x x x x x")) == 1, "a set"
    assert len(hash_shingles(" \n ")) == 0


def test_a_short_text_is_one_shingle():
    assert len(hash_shingles("a")) == len(hash_shingles("a b c d")) == 1
    assert compare_texts("a b", "a  b") == 1
    assert compare_texts("a b", "a b c") == 0
    assert compare_texts("", " ") is None
    assert compare_texts("", "a") == 0


def test_jaccard_by_hand():
    one, other = hash_shingles("a b c d e f g"), hash_shingles("a b c d e f x")
    assert measure_jaccard(one, other) == 2 / 4
    assert measure_jaccard(one, one) == 1


def test_a_hash_is_the_same_in_every_process():
    program = "from codestrata.data.duplicates import *; print(hash_shingles('a b c d e f')[0])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout) == hash_shingles("a b c d e f")[0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=30), st.integers(0, 30), st.integers(0, 99))
def test_the_similarity_is_that_of_the_sets_themselves(words, changes, seed):
    one = " ".join(words)
    rng = random.Random(seed)
    other = " ".join(rng.choice("abcdefg") if rng.random() < changes / 30 else word for word in words)
    assert compare_texts(one, other) == pytest.approx(brute_force(one, other))


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_what_is_found_is_what_brute_force_finds(threshold):
    """No false positives; at .05 above the threshold at least 95 % are found."""
    rng = random.Random(1)
    originals = [draw_text(rng, 250) for _ in range(110)]
    index = fill(threshold, originals)
    clear, found = 0, 0
    for number, original in enumerate(originals):
        for changes in (1, 2, 4, 8, 16):
            copy = edit(original, changes, rng)
            similarity = brute_force(original, copy)
            match = index.find_near(make_trace("copy", copy), ("train",))
            if match is not None:
                assert match.entry.trace.identifier == str(number)
                assert match.jaccard == pytest.approx(similarity)
                assert match.jaccard >= threshold
            if similarity >= threshold + 0.05:
                clear += 1
                found += match is not None
    assert clear >= 100
    assert found >= 0.95 * clear


def test_equal_ones_are_always_found():
    rng = random.Random(2)
    texts = [draw_text(rng, length) for length in range(2, 60)]
    index = fill(0.95, texts)
    for number, text in enumerate(texts):
        found = index.find(make_trace("again", text), "train", ("train",))
        assert (found.entry.trace.identifier, found.same, found.jaccard) == (str(number), "code", 1)
        spaced = index.find(make_trace("again", text.replace(" ", "\n\t")), "train", ("train",))
        assert (spaced.entry.trace.identifier, spaced.is_exact, spaced.jaccard) == (str(number), False, 1)


def test_a_threshold_of_one_finds_equal_ones_only():
    text = draw_text(random.Random(3), 50)
    index = fill(1.0, [text])
    assert not index.looks_near
    assert index.find(make_trace("again", text), "train", ("train",)).is_exact
    assert index.find(make_trace("spaced", text + " "), "train", ("train",)) is None


def test_only_the_places_asked_for_are_looked_at():
    text = draw_text(random.Random(4), 50)
    index = fill(0.8, [text], place="test")
    near = make_trace("near", text + " more")
    assert index.find(near, "train", ("train", "validation")) is None
    assert index.find(near, "train", ("train", "test")).entry.place == "test"
    equal = make_trace("equal", text)
    assert index.find(equal, "train", ("train",)) is None
    index.add(make_trace("own", text), "train")
    assert index.find(equal, "train", ("test", "train")).entry.place == "test", "the first place first"
    assert index.find(equal, "train", ("train", "test")).entry.place == "train"


def test_the_most_similar_of_several_is_named():
    rng = random.Random(5)
    text = draw_text(rng, 100)
    index = fill(0.3, [edit(text, 6, rng), edit(text, 1, rng), edit(text, 4, rng)])
    assert index.find_near(make_trace("x", text), ("train",)).entry.trace.identifier == "1"


def test_within_a_split_and_across_splits_other_things_count():
    def make(name, prompt, target):
        return make_trace(
            name,
            f"{prompt}\n{target}",
            kind="example",
            equal=("prompt and target", f"{prompt}\n{target}"),
            shared=("prompt", prompt),
        )

    index = DuplicateIndex(1.0)
    index.add(make("1", "add two", "a + b"), "test")
    other_answer = make("2", "add two", "b + a")
    assert index.find(other_answer, "test", ("test",)) is None
    found = index.find(other_answer, "train", ("test", "train"))
    assert (found.same, found.entry.trace.identifier) == ("prompt", "1")
    assert found.jaccard == compare_texts("add two\na + b", "add two\nb + a") < 1


def test_records_of_two_kinds_are_compared_by_their_code():
    code = draw_text(random.Random(6), 60)
    index = DuplicateIndex(0.8)
    example = make_trace(
        "example", f"{'words ' * 40}\n{code}", kind="example", foreign=(code,), foreign_texts=(code,)
    )
    index.add(example, "excluded:set")
    places = ("excluded:set",)
    near = index.find(make_trace("function", code + " end"), "train", places)
    assert (near.same, near.entry.trace.identifier) == ("tokens", "example")
    equal = make_trace("function", "anything else", foreign=(code,))
    assert index.find(equal, "train", places).same == "code"
    same_kind = make_trace("other", "another prompt", kind="example", foreign=(code,), foreign_texts=(code,))
    assert index.find(same_kind, "train", places) is None, "two examples may have one target"


def test_bands_fit_the_permutations_and_the_recall():
    for threshold in np.linspace(0.05, 0.99, 40):
        bands, rows = choose_bands(threshold)
        assert bands * rows <= PERMUTATIONS
        assert find_recall(threshold, bands, rows) >= 0.97
        assert find_recall(min(threshold + 0.05, 1), bands, rows) >= 0.97
    assert choose_bands(0.8) == (18, 7)
    assert find_recall(0.8, 18, 7) == pytest.approx(1 - (1 - 0.8**7) ** 18)


def test_a_text_without_tokens_is_near_nothing():
    index = fill(0.5, ["", " "])
    assert index.find_near(make_trace("x", "\n"), ("train",)) is None


def test_a_very_long_text_takes_little_memory_at_once():
    """A hundred thousand words at 128 hash functions would be 50 MB in one piece."""
    rng = random.Random(7)
    text = " ".join(str(rng.randrange(10**9)) for _ in range(20_000))
    index = fill(0.8, [text])
    assert index.find_near(make_trace("x", text + " end"), ("train",)) is not None


def test_of_many_candidates_the_likeliest_are_compared(monkeypatch):
    """A long part in common makes all of them candidates: the searches do not become as long as all texts."""
    rng = random.Random(3)
    shared = " ".join(rng.choices(WORDS, k=120))
    texts = [f"{shared} {draw_text(rng, 25)}" for _ in range(300)]
    index = fill(0.8, texts)
    compared = []
    monkeypatch.setattr(duplicates, "MOST_CONFIRMED", 8)
    measure = duplicates.measure_jaccard
    monkeypatch.setattr(duplicates, "measure_jaccard", lambda *sets: compared.append(1) or measure(*sets))
    for number in range(0, 300, 30):
        match = index.find_near(make_trace("new", texts[number] + " more"), ["train"])
        assert match.entry.trace.identifier == str(number)
    assert len(compared) == 10 * 8
