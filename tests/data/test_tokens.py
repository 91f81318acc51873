import errno
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AutoTokenizer, ByT5Tokenizer

from codestrata.data import tokens
from codestrata.data.tokens import (
    TokenTable,
    count_leading,
    cut_prompt,
    describe_tokenizer,
    encode_prompts,
    encode_texts,
    hash_texts,
    tokenize,
)
from codestrata.errors import ModelError
from codestrata.models.pocket import find_pocket

TEXTS = [
    "def add(xs):\n    return sum(xs)",
    "",
    "x",
    "naïve 漢字 </s> <pad>",
    "x",
    "for i in range(10):\n" * 9,
]


class PlainTokenizer:
    """One id per character; it has nothing to be described by."""

    def __call__(self, texts, *, verbose):
        assert verbose is False
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


class SavedTokenizer(PlainTokenizer):
    """As above, with a file to save, or an error in its place."""

    def __init__(self, content="v1", error=None, shift=0):
        self.content, self.error, self.shift = content, error, shift

    def __call__(self, texts, *, verbose):
        rows = super().__call__(texts, verbose=verbose)["input_ids"]
        return {"input_ids": [[number + self.shift for number in row] for row in rows]}

    def save_pretrained(self, folder):
        if self.error is not None:
            raise self.error
        with open(os.path.join(folder, "vocabulary.txt"), "w", encoding="utf-8") as file:
            file.write(self.content)


def load_pocket():
    return AutoTokenizer.from_pretrained(find_pocket())


@pytest.fixture(scope="module")
def pocket():
    return load_pocket()


def list_rows(table):
    return [row.tolist() for row in table]


def list_entries(folder):
    return sorted(path.name for path in (folder / "tokens").iterdir())


def forbid_building(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the texts were tokenized again")

    monkeypatch.setattr(tokens, "build_table", refuse)


@pytest.mark.parametrize("load", [load_pocket, ByT5Tokenizer])
@pytest.mark.parametrize("texts_per_batch", [1, 4, 4096])
def test_rows_are_what_the_tokenizer_says(load, texts_per_batch, monkeypatch, tmp_path):
    tokenizer = load()
    monkeypatch.setattr(tokens, "TEXTS_PER_BATCH", texts_per_batch)
    expected = tokenizer(TEXTS)["input_ids"]
    table = tokenize(TEXTS, tokenizer, folder=None)
    assert list_rows(table) == expected == encode_texts(TEXTS, tokenizer)
    assert (table.ids.dtype, table.starts.dtype, table.lengths.dtype) == (np.int32, np.int64, np.int64)
    assert table.lengths.tolist() == [len(row) for row in expected]
    kept = tokenize(TEXTS, tokenizer, folder=tmp_path)
    assert list_rows(kept) == expected
    assert (table.kept, table.note, kept.note) == (None, None, None)
    assert kept.kept is not None
    assert kept.kept.parent == tmp_path / "tokens"


@given(texts=st.lists(st.text(max_size=12), max_size=9), texts_per_batch=st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_any_texts_in_any_batches_give_a_row_each(texts, texts_per_batch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "TEXTS_PER_BATCH", texts_per_batch)
        table = tokenize(texts, PlainTokenizer(), folder=None)
    assert list_rows(table) == [[ord(letter) for letter in text] for text in texts]
    assert len(table) == len(texts)
    assert (table.starts[0], table.starts[-1]) == (0, len(table.ids))


def test_a_row_is_a_view_that_cannot_be_changed(tmp_path):
    for folder in (None, tmp_path):
        table = tokenize(["abc", "de", "", "f"], SavedTokenizer(), folder=folder)
        assert np.shares_memory(table[1], table.ids)
        assert [table[-1].tolist(), table[-3].tolist()] == [[102], [100, 101]]
        assert [row.tolist() for row in table[1:3]] == [[100, 101], []]
        with pytest.raises(IndexError):
            table[4]
        with pytest.raises(IndexError):
            table[-5]
        with pytest.raises(ValueError, match="read-only"):
            table[0][0] = 1


def test_no_texts(tmp_path):
    for folder in (None, tmp_path, tmp_path):
        table = tokenize([], SavedTokenizer(), folder=folder)
        assert (len(table), list(table), table.lengths.tolist()) == (0, [], [])
        assert (table.kept is None) == (folder is None)


def test_the_second_time_nothing_is_tokenized(pocket, monkeypatch, tmp_path):
    first = tokenize(TEXTS, pocket, folder=tmp_path)
    forbid_building(monkeypatch)
    again = tokenize(TEXTS, load_pocket(), folder=tmp_path)
    assert list_rows(again) == list_rows(first) == pocket(TEXTS)["input_ids"]
    assert again.kept == first.kept
    assert isinstance(again.ids.base, np.memmap)
    assert list_entries(tmp_path) == [first.kept.name]
    with pytest.raises(AssertionError, match="tokenized again"):
        tokenize([*TEXTS, ""], pocket, folder=tmp_path)


def test_progress_is_told_after_every_batch_and_at_once_for_a_kept_table(monkeypatch, tmp_path):
    monkeypatch.setattr(tokens, "TEXTS_PER_BATCH", 2)
    told = []
    for folder in (None, tmp_path, tmp_path):
        tokenize(list("abcde"), SavedTokenizer(), folder=folder, report=told.append)
    assert told == [2, 4, 5, 2, 4, 5, 5]


def test_lists_of_texts_do_not_collide():
    lists = [
        ["ab", "c"],
        ["a", "bc"],
        ["abc"],
        ["c", "ab"],
        ["ab", "c", ""],
        ["", "ab", "c"],
        [],
        [""],
        ["", ""],
    ]
    assert len({hash_texts("tokenizer", texts) for texts in lists}) == len(lists)
    assert hash_texts("a", ["bc"]) != hash_texts("ab", ["c"])
    assert hash_texts("tokenizer", ["\ud800"]) != hash_texts("tokenizer", ["\ud801"])  # not valid UTF-8


def test_a_tokenizer_is_described_by_all_that_decides_its_ids(pocket):
    """Nothing here but the first changes the vocabulary's words."""
    described = {"pocket": describe_tokenizer(pocket)}
    added = load_pocket()
    added.add_tokens(["return"])
    described["added token"] = describe_tokenizer(added)
    bare = load_pocket()
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    described["no end token"] = describe_tokenizer(bare)
    split = load_pocket()
    split.split_special_tokens = True
    described["special tokens are text"] = describe_tokenizer(split)
    assert len(set(described.values())) == len(described)


def test_padding_and_truncation_asked_of_a_tokenizer_before_do_not_matter(pocket):
    used = load_pocket()
    used(["a b c d e", "f"], padding=True, truncation=True, max_length=3)
    assert '"padding":null' not in used.backend_tokenizer.to_str()
    assert describe_tokenizer(used) == describe_tokenizer(pocket)
    assert list_rows(tokenize(TEXTS, used, folder=None)) == pocket(TEXTS)["input_ids"]


def test_a_slow_tokenizer_is_described_by_its_class_its_files_and_what_it_does():
    class OtherTokenizer(SavedTokenizer):
        pass

    different = [SavedTokenizer(), SavedTokenizer("v2"), SavedTokenizer(shift=1), OtherTokenizer()]
    described = {describe_tokenizer(tokenizer) for tokenizer in different}
    assert len(described) == 4
    assert describe_tokenizer(SavedTokenizer()) in described
    assert describe_tokenizer(ByT5Tokenizer()) == describe_tokenizer(ByT5Tokenizer())
    assert describe_tokenizer(ByT5Tokenizer()) != describe_tokenizer(ByT5Tokenizer(extra_ids=7))


@pytest.mark.parametrize("tokenizer", [PlainTokenizer(), SavedTokenizer(error=NotImplementedError())])
def test_a_tokenizer_that_cannot_be_described_is_used_without_keeping(tokenizer, tmp_path):
    table = tokenize(["ab"], tokenizer, folder=tmp_path)
    assert list_rows(table) == [[97, 98]]
    assert table.kept is None
    assert table.note == (
        f"Token ids were not kept: {type(tokenizer).__name__} cannot say what decides its ids."
    )
    assert list(tmp_path.iterdir()) == []


def rewrite(name, change):
    def damage(entry):
        array = np.load(entry / f"{name}.npy")
        np.save(entry / f"{name}.npy", change(array))

    return damage


def cut(name, size):
    return lambda entry: os.truncate(entry / f"{name}.npy", size)


def turn_into_a_file(entry):
    shutil.rmtree(entry)
    entry.write_text("not a folder", encoding="utf-8")


DAMAGES = {
    "ids cut": cut("ids", 130),
    "ids without header": cut("ids", 40),
    "ids empty": cut("ids", 0),
    "starts cut": cut("starts", 140),
    "no ids": lambda entry: (entry / "ids.npy").unlink(),
    "no starts": lambda entry: (entry / "starts.npy").unlink(),
    "header is nonsense": lambda entry: (entry / "ids.npy").write_bytes(
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '<i4'1"
    ),
    "not numpy's": lambda entry: (entry / "starts.npy").write_text("hello", encoding="utf-8"),
    "ids of another type": rewrite("ids", lambda ids: ids.astype(np.int64)),
    "ids of another shape": rewrite("ids", lambda ids: ids[:, None]),
    "fewer ids": rewrite("ids", lambda ids: ids[:-1]),
    "starts of another type": rewrite("starts", lambda starts: starts.astype(np.int32)),
    "fewer rows": rewrite("starts", lambda starts: np.delete(starts, 1)),
    "starts fall": rewrite("starts", lambda starts: starts[[0, 2, 1, 3, 4]]),
    "first start is not 0": rewrite("starts", lambda starts: np.maximum(starts, 1)),
    "a changed id": rewrite("ids", lambda ids: ids ^ 1),
    "starts that would still do": rewrite("starts", lambda starts: np.sort(starts + (starts == starts[1]))),
    "checksums empty": cut("checksums", 0),
    "no checksums": lambda entry: (entry / "checksums.npy").unlink(),
    "a file": turn_into_a_file,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_table_is_made_again(damage, tmp_path):
    texts, expected = ["ab", "c", "def", "g"], [[97, 98], [99], [100, 101, 102], [103]]
    entry = tokenize(texts, SavedTokenizer(), folder=tmp_path).kept
    damage(entry)
    assert tokens.read_table(entry, 4) is None
    table = tokenize(texts, SavedTokenizer(), folder=tmp_path)
    assert list_rows(table) == expected
    assert (table.kept, table.note) == (entry, None)
    assert list_rows(tokens.read_table(entry, 4)) == expected
    assert list_entries(tmp_path) == [entry.name]


def test_a_folder_that_cannot_be_written_is_said_and_does_no_harm(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way", encoding="utf-8")
    table = tokenize(["ab"], SavedTokenizer(), folder=file)
    assert list_rows(table) == [[97, 98]]
    assert table.kept is None
    assert table.note == f"Token ids were not kept in {file}: Not a directory."


def test_a_full_disk_is_said_and_leaves_nothing(monkeypatch, tmp_path):
    def fill(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fill)
    table = tokenize(["ab"], SavedTokenizer(), folder=tmp_path)
    assert list_rows(table) == [[97, 98]]
    assert table.note == f"Token ids were not kept in {tmp_path}: No space left on device."
    assert list_entries(tmp_path) == []


def test_an_end_in_the_middle_leaves_no_half_table(monkeypatch, tmp_path):
    save = np.save

    def stop_at_the_second(file, array):
        save(file, array[:1])
        if array.dtype == np.int32:
            raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", stop_at_the_second)
    # Nor is there time to clean up.
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        tokenize(["ab"], SavedTokenizer(), folder=tmp_path)
    (left,) = list_entries(tmp_path)
    assert left.startswith(".")
    monkeypatch.undo()
    table = tokenize(["ab"], SavedTokenizer(), folder=tmp_path)
    assert list_rows(table) == [[97, 98]]
    assert table.kept is not None


def test_a_process_that_is_first_wins(monkeypatch, tmp_path):
    rename = os.rename

    def lose(source, target):
        shutil.copytree(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", lose)
    table = tokenize(["ab"], SavedTokenizer(), folder=tmp_path)
    assert (list_rows(table), table.note) == ([[97, 98]], None)
    assert list_entries(tmp_path) == [table.kept.name]


def test_many_at_once_make_one_table(tmp_path):
    texts = [str(number) for number in range(500)]
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda _: tokenize(texts, SavedTokenizer(), folder=tmp_path), range(16)))
    assert all(isinstance(table, TokenTable) and table.note is None for table in tables)
    assert len({str(list_rows(table)) for table in tables}) == 1
    assert list_entries(tmp_path) == [tables[0].kept.name]


def test_texts_over_the_models_length_are_no_matter_for_a_warning():
    class Listener(logging.Handler):
        def __init__(self):
            super().__init__()
            self.said = []

        def emit(self, record):
            self.said.append(record.getMessage())

    listener, logger = Listener(), logging.getLogger("transformers")
    logger.addHandler(listener)
    try:
        for tokenizer in (load_pocket(), ByT5Tokenizer()):
            tokenizer.model_max_length = 4
            assert tokenize(["a = 1\n" * 9], tokenizer, folder=None).lengths[0] > 4
            assert listener.said == []
            tokenizer(["a = 1\n" * 9])
            assert "longer than the specified maximum" in listener.said.pop()
    finally:
        logger.removeHandler(listener)


class Framed:
    """Characters between two marks."""

    def __init__(self, first, last, *, begin=None, end=2):
        self.first, self.last = first, last
        self.bos_token_id, self.eos_token_id = begin, end

    def __call__(self, texts, *, add_special_tokens=True, verbose=True):
        if isinstance(texts, str):
            return {"input_ids": self.frame(texts, add_special_tokens)}
        return {"input_ids": [self.frame(text, add_special_tokens) for text in texts]}

    def frame(self, text, framed):
        ids = [ord(letter) for letter in text]
        return [*self.first, *ids, *self.last] if framed else ids


@pytest.mark.parametrize(
    ("tokenizer", "prompts"),
    [
        (Framed([], [2]), [[97, 98], [2]]),  # as T5's: what it puts last would end the row
        (Framed([1], [], begin=1), [[1, 97, 98], [1]]),  # as Llama's
        (Framed([], []), [[97, 98], [2]]),  # as Qwen's
        (Framed([2], [], begin=2), [[2, 97, 98], [2]]),  # as GPT-2's, where one token begins and ends
        (Framed([1], [2], begin=1), [[1, 97, 98], [1]]),
    ],
)
def test_parts_of_a_row(tokenizer, prompts):
    assert encode_texts(["ab", ""], tokenizer, part="prompt") == prompts
    assert encode_texts(["ab", ""], tokenizer, part="continuation") == [[97, 98, 2], [2]]
    assert encode_prompts(["ab", ""], tokenizer, causal=True) == prompts
    assert encode_prompts(["ab"], tokenizer, causal=False) == tokenizer(["ab"])["input_ids"]
    assert encode_texts([], tokenizer, part="prompt") == []


@pytest.mark.parametrize(
    ("tokenizer", "leading"),
    [
        (Framed([], [2]), 0),
        (Framed([1], [], begin=1), 1),
        (Framed([], []), 0),
        (Framed([2], [], begin=2), 1),
        (Framed([1, 3], [2], begin=1), 2),
    ],
)
def test_special_tokens_before_a_text_are_counted(tokenizer, leading):
    assert count_leading(tokenizer) == leading


@pytest.mark.parametrize(
    ("limit", "leading", "expected"),
    [
        (3, None, [1, 5, 6]),
        (3, 0, [6, 7, 8]),
        (3, 1, [1, 7, 8]),
        (2, 1, [1, 8]),
        (1, 1, [8]),
        (5, 1, [1, 5, 6, 7, 8]),
        (9, 0, [1, 5, 6, 7, 8]),
    ],
)
def test_prompts_are_cut_at_one_end(limit, leading, expected):
    ids = [1, 5, 6, 7, 8]
    assert cut_prompt(ids, limit, leading=leading) == expected
    found = cut_prompt(np.array(ids, np.int32), limit, leading=leading)
    assert (found.tolist(), found.dtype) == (expected, np.int32)


def test_an_end_that_is_text_stays():
    (ids,) = encode_texts(["a\x02"], Framed([1], []), part="prompt")
    assert ids == [1, 97, 2]


def test_parts_need_an_end_token():
    for part in ("prompt", "continuation"):
        with pytest.raises(ModelError, match=r"no end-of-sequence token.*base\.tokenizer=FOLDER"):
            encode_texts(["a"], Framed([], [], end=None), part=part)


def test_parts_are_kept_apart(tmp_path):
    pocket = load_pocket()
    tables = {
        part: list_rows(tokenize(["sum of xs"], pocket, folder=tmp_path, part=part))
        for part in ("whole", "prompt", "continuation")
    }
    assert tables["prompt"] == [ids[:-1] for ids in tables["whole"]]
    assert tables["continuation"] == tables["whole"]  # this tokenizer's own frame is one end token
    assert len(list_entries(tmp_path)) == 3
    assert tables == {
        part: list_rows(tokenize(["sum of xs"], pocket, folder=tmp_path, part=part)) for part in tables
    }
    assert len(list_entries(tmp_path)) == 3
