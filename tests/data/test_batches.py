import itertools
import json
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, RobertaTokenizer

from codestrata.data.batches import (
    IGNORED,
    POOL_BATCHES,
    EncodedExample,
    JoinedExamples,
    collate,
    cut_in_two,
    cut_step,
    encode_examples,
    join_examples,
    measure_extents,
    measure_rows,
    pad_rows,
    plan_epoch,
    shuffle,
)
from codestrata.data.tasks import load_task
from codestrata.data.tokens import tokenize
from codestrata.models.pocket import find_pocket
from codestrata.records import Example
from codestrata.settings.tasks import TaskSettings

LENGTHS = st.tuples(st.integers(1, 30), st.integers(1, 30))

OVERHEAD = 256


class WordTokenizer:
    """One id per word, its length, then the end token 1."""

    def __call__(self, texts, *, verbose):
        assert verbose is False
        return {"input_ids": [[*map(len, text.split()), 1] for text in texts]}


def build_row(name, prompt, target):
    return EncodedExample(identifier=name, prompt_ids=tuple(prompt), target_ids=tuple(target))


def pair(lengths):
    """Lengths of rows whose targets are all of two tokens."""
    return np.array([(length, 2) for length in lengths], np.int64).reshape(-1, 2)


def draw_lengths(count, seed=0):
    """Prompts and targets of 1 to 100 tokens that have nothing to do with each other."""
    draws = Random(seed)
    return np.array([[int(draws.random() * 100) + 1 for _ in range(2)] for _ in range(count)])


def count_cells(lengths, batches):
    return sum(int(len(batch) * lengths[batch].max(axis=0).sum()) for batch in batches)


def measure_padding(lengths, batches):
    return 1 - lengths.sum() / count_cells(lengths, batches)


def encode(pairs, prompt_limit=10, target_limit=10, tokenizer=None, folder=None):
    examples = [Example(identifier=f"e{n}", prompt=p, target=t) for n, (p, t) in enumerate(pairs)]
    return encode_examples(
        examples,
        tokenizer or WordTokenizer(),
        max_prompt_tokens=prompt_limit,
        max_target_tokens=target_limit,
        folder=folder,
    )


def list_ids(rows):
    return [(row.identifier, list(row.prompt_ids), list(row.target_ids)) for row in rows]


def test_examples_keep_their_order_and_their_end_tokens():
    encoded = encode([("aaa bb", "cccc"), ("dd", "eee ff")])
    assert list_ids(encoded) == [("e0", [3, 2, 1], [4, 1]), ("e1", [2, 1], [3, 2, 1])]
    assert (encoded.truncated_prompts, encoded.truncated_targets) == (0, 0)


def test_truncation_cuts_and_is_counted_on_each_side():
    pairs = [("a b c", "dd"), ("aa bb", "c d e f"), ("a b c d", "ee ff"), ("aa", "b c d")]
    encoded = encode(pairs, prompt_limit=3, target_limit=4)
    assert [list(row.prompt_ids) for row in encoded] == [[1, 1, 1], [2, 2, 1], [1, 1, 1], [2, 1]]
    assert [list(row.target_ids) for row in encoded] == [[2, 1], [1, 1, 1, 1], [2, 2, 1], [1, 1, 1, 1]]
    assert encoded.truncated_prompts == 2  # "aa bb" has exactly 3 tokens with its end
    assert encoded.truncated_targets == 1
    assert encoded.lengths.tolist() == [[3, 2], [3, 4], [3, 3], [2, 4]]
    assert encoded.lengths.dtype == np.int64


def test_no_examples():
    encoded = encode([])
    assert (list(encoded), encoded.truncated_prompts, encoded.truncated_targets) == ([], 0, 0)
    assert encoded.lengths.shape == measure_rows([]).shape == (0, 2)
    assert plan_epoch(encoded.lengths, 4, seed=0, epoch=0) == []
    assert cut_step(encoded.lengths, 100, overhead=256) == []


def test_rows_are_views_of_the_tables_and_come_as_from_any_sequence():
    encoded = encode([("a bb ccc", "d"), ("e", "ff g"), ("h", "i")], prompt_limit=2)
    assert np.shares_memory(encoded[0].prompt_ids, encoded.prompts.ids)
    assert np.shares_memory(encoded[1].target_ids, encoded.targets.ids)
    assert list_ids([encoded[-1]]) == list_ids(encoded[2:]) == [("e2", [1, 1], [1, 1])]
    assert (len(encoded), list_ids(encoded)) == (3, list_ids([encoded[number] for number in range(3)]))
    with pytest.raises(IndexError):
        encoded[3]


def test_a_text_that_is_prompt_and_target_is_tokenized_once():
    copied = encode([("a bb", "a bb"), ("c", "c")], target_limit=2)
    assert copied.prompts is copied.targets
    assert list_ids(copied) == [("e0", [1, 2, 1], [1, 2]), ("e1", [1, 1], [1, 1])]


def test_ids_are_kept_whatever_the_limits_and_notes_say_where_they_were_not(tmp_path):
    pocket = AutoTokenizer.from_pretrained(find_pocket())
    pairs = [("sum of xs", "return sum(xs)"), ("largest of xs", "return max(xs)")]
    wide = encode(pairs, tokenizer=pocket, folder=tmp_path)
    narrow = encode(pairs, 2, 3, tokenizer=pocket, folder=tmp_path)
    assert (wide.prompts.kept, wide.targets.kept) == (narrow.prompts.kept, narrow.targets.kept)
    assert list_ids(wide) == list_ids(encode(pairs, tokenizer=pocket))
    assert narrow.lengths.tolist() == [[2, 3], [2, 3]]
    assert wide.notes == encode(pairs).notes == ()
    (note,) = encode(pairs, folder=tmp_path).notes
    assert note.startswith("Token ids were not kept: WordTokenizer")


def test_the_fingerprint_is_of_the_ids_as_cut(tmp_path):
    pocket = AutoTokenizer.from_pretrained(find_pocket())
    pairs = [("sum of xs", "return sum(xs)"), ("largest of xs", "return max(xs)")]
    encoded = encode(pairs, 50, 50, tokenizer=pocket)
    assert len(encoded.fingerprint) == 64
    same = [encode(pairs, 60, 70, tokenizer=pocket), encode(pairs, 50, 50, tokenizer=pocket, folder=tmp_path)]
    assert {other.fingerprint for other in same} == {encoded.fingerprint}
    other = [encode(pairs, 2, 50), encode(pairs, 50, 2), encode(pairs[::-1]), encode(pairs[:1])]
    assert len({encoded.fingerprint, *(rows.fingerprint for rows in other)}) == 5
    # The same ids in a row, with the border between prompt and target, or between rows, elsewhere.
    parts = [[("a b", "c")], [("a", "b c")], [("a", "")], [("", "a")]]
    assert len({encode(pairs).fingerprint for pairs in parts}) == 4
    words = [[("a", "b")], [("a", "bb")], [("aa", "b")]]
    assert len({encode(pairs).fingerprint for pairs in words}) == 3


def test_rows_of_any_sequence_are_measured():
    encoded = encode([("a b c d", "e"), ("f", "g h")], prompt_limit=3)
    assert measure_rows(encoded) is encoded.lengths
    plain = [build_row("a", [1, 2, 3], [4]), build_row("b", [], [5, 6])]
    assert measure_rows(plain).tolist() == [[3, 1], [0, 2]]
    assert measure_rows(list(encoded)).tolist() == encoded.lengths.tolist()


@given(
    lengths=st.lists(LENGTHS, max_size=90),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_every_row_once(lengths, batch_size, seed, epoch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codestrata.data.batches.POOL_BATCHES", 3)
        batches = plan_epoch(np.array(lengths).reshape(-1, 2), batch_size, seed=seed, epoch=epoch)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert len(batches) == -(-len(lengths) // batch_size)


def test_the_order_is_a_pure_function_of_lengths_seed_and_epoch():
    lengths = pair([n % 7 + 1 for n in range(50)])
    plans = {
        (seed, epoch): plan_epoch(lengths, 4, seed=seed, epoch=epoch)
        for seed in range(3)
        for epoch in range(3)
    }
    torch.manual_seed(1)
    np.random.seed(1)
    for (seed, epoch), plan in reversed(plans.items()):
        assert plan_epoch(lengths.copy(), 4, seed=seed, epoch=epoch) == plan
    assert len({str(plan) for plan in plans.values()}) == 9
    # Pinned: another machine, Python or numpy must train on the same batches.
    assert plan_epoch(pair([3, 1, 2, 5, 4, 6, 1]), 3, seed=0, epoch=0) == [[5], [6, 1, 2], [0, 4, 3]]
    assert plan_epoch(draw_lengths(9), 2, seed=3, epoch=1) == [[7, 3], [0, 5], [6, 4], [1, 2], [8]]


def test_rows_of_equal_length_mix_anew_every_epoch():
    lengths = pair([5] * 12)
    partners = {
        tuple(sorted(next(batch for batch in plan_epoch(lengths, 2, seed=0, epoch=epoch) if 0 in batch)))
        for epoch in range(40)
    }
    assert len(partners) > 8


@pytest.mark.parametrize("batch_size", [8, 24])
def test_batches_are_of_rows_alike_on_both_sides(batch_size):
    """Against the order by the longer side alone, and against the shuffled one."""
    lengths = draw_lengths(batch_size * POOL_BATCHES)
    batches = plan_epoch(lengths, batch_size, seed=0, epoch=0)
    ranked = np.lexsort((lengths[:, 0], lengths.max(axis=1)))
    by_longer, by_chance = (
        [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
        for order in (ranked, np.arange(len(lengths)))
    )
    assert measure_padding(lengths, batches) < 0.8 * measure_padding(lengths, by_longer)
    assert measure_padding(lengths, batches) < 0.5 * measure_padding(lengths, by_chance)
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest != sorted(longest)


def test_a_pool_is_cut_where_the_parts_have_the_fewest_cells():
    for seed in range(30):
        lengths = draw_lengths(11, seed)
        first, second = cut_in_two(np.arange(11), lengths, 3)
        assert sorted([*first, *second]) == list(range(11))
        assert len(first) % 3 == 0
        least = min(
            count_cells(lengths, [order[:size], order[size:]])
            for side in (0, 1)
            for order in [np.lexsort((lengths[:, 1 - side], lengths[:, side]))]
            for size in (3, 6, 9)
        )
        assert count_cells(lengths, [first, second]) == least


@pytest.mark.parametrize("rows", [POOL_BATCHES * 2, POOL_BATCHES * 2 - 1, POOL_BATCHES * 5 + 3])
def test_batches_come_from_pools_of_about_the_set_size(rows, monkeypatch):
    sizes = []

    def spy(pool, lengths, batch_size):
        sizes.append(len(pool))
        return [[number] for number in pool.tolist()]

    monkeypatch.setattr("codestrata.data.batches.cut_pool", spy)
    plan_epoch(pair([1] * rows), 2, seed=0, epoch=0)
    assert sum(sizes) == rows
    assert all(POOL_BATCHES / 1.5 <= size / 2 <= POOL_BATCHES * 1.5 for size in sizes)
    assert max(sizes) - min(sizes) <= 3
    assert all(size % 2 == 0 for size in sizes[:-1])


@pytest.fixture(scope="module")
def kata_lengths():
    task = load_task(TaskSettings(name="python", train_examples=900, validation_examples=0, test_examples=1))
    tokenizer = AutoTokenizer.from_pretrained(find_pocket())
    return encode_examples(task.train, tokenizer, max_prompt_tokens=512, max_target_tokens=512).lengths


@pytest.fixture(scope="module")
def cosqa_lengths(shared_data):
    """Tokens of real functions' code and documentation, cut at 512."""
    lines = (shared_data / "cosqa" / "python.jsonl").read_text(encoding="utf-8").splitlines()[:3000]
    records = [json.loads(line) for line in lines]
    tokenizer = RobertaTokenizer.from_pretrained(shared_data / "codet5-tokenizer")
    sides = [tokenize([row[key] for row in records], tokenizer, folder=None) for key in ("code", "docstring")]
    return np.stack([side.lengths for side in sides], axis=1).clip(max=512)


def measure_computed(lengths, batch_size, overhead):
    """Padding in what a training computes: batches, cut where that saves more than a pass costs."""
    batches = plan_epoch(lengths, batch_size, seed=0, epoch=0)
    pieces = [
        [batch[place] for place in piece]
        for batch in batches
        for piece in cut_step(lengths[batch], 8192, overhead=overhead)
    ]
    return measure_padding(lengths, pieces)


@pytest.mark.parametrize("batch_size", [8, 16, 24])
def test_padding_wastes_under_a_tenth_of_the_shipped_tasks(batch_size, kata_lengths):
    """On the shipped base a pass costs as much as 355 tokens, so that hardly a step is cut."""
    assert measure_computed(kata_lengths, batch_size, 355) < 0.1


@pytest.mark.parametrize("batch_size", [8, 16, 24])
@pytest.mark.parametrize("sides", [(0, 0), (0, 1), (1, 0)])
def test_padding_wastes_under_a_tenth_of_real_functions(batch_size, sides, cosqa_lengths):
    """Copied, summarized, and written from their documentation, with a model of codet5-small's size."""
    assert measure_computed(cosqa_lengths[:, sides], batch_size, 8) < 0.1


def test_shuffling_reaches_every_order():
    orders = {tuple(shuffle("abc", Random(seed))) for seed in range(100)}
    assert len(orders) == 6
    assert shuffle([], Random(0)) == []


def cost(lengths, pieces):
    return count_cells(lengths, pieces) + OVERHEAD * len(pieces)


def fits(lengths, pieces, budget):
    return all(len(piece) == 1 or count_cells(lengths, [piece]) <= budget for piece in pieces)


@given(
    lengths=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=40),
    budget=st.integers(1, 9000),
)
@example(lengths=[(0, 0), (0, 0)], budget=1)
@settings(max_examples=80, deadline=None)
def test_a_step_is_cut_within_the_budget_and_for_no_more_than_is_needed(lengths, budget):
    array = np.array(lengths, np.int64).reshape(-1, 2)
    pieces = cut_step(array, budget, overhead=OVERHEAD)
    assert sorted(number for piece in pieces for number in piece) == list(range(len(lengths)))
    assert all(pieces)
    assert fits(array, pieces, budget)
    ranking = sorted(range(len(lengths)), key=lambda row: (max(lengths[row]), lengths[row][0], row))
    assert [number for piece in pieces for number in piece] == ranking
    assert cost(array, pieces) <= cost(array, [[number] for number in ranking])
    if lengths and count_cells(array, [ranking]) <= budget:
        assert cost(array, pieces) <= cost(array, [ranking])


@given(
    lengths=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=1, max_size=8),
    budget=st.integers(300, 6000),
)
@settings(max_examples=80, deadline=None)
def test_no_cut_of_the_ranked_rows_costs_less(lengths, budget):
    array = np.array(lengths, np.int64)
    ranking = np.lexsort((array[:, 0], array.max(axis=1))).tolist()
    least = min(
        cost(array, pieces)
        for marks in itertools.product([False, True], repeat=len(ranking) - 1)
        for pieces in [cut_at(ranking, marks)]
        if fits(array, pieces, budget)
    )
    assert cost(array, cut_step(array, budget, overhead=OVERHEAD)) == least


def cut_at(ranking, marks):
    pieces = [[ranking[0]]]
    for number, cut in zip(ranking[1:], marks, strict=True):
        if cut:
            pieces.append([])
        pieces[-1].append(number)
    return pieces


def test_a_step_by_hand():
    """Two long rows and two short ones: 4 x 200 cells as one, 400 + 40 as two; a cut is worth 256 cells."""
    lengths = np.array([[100, 100], [10, 10], [100, 100], [10, 10]])
    assert cut_step(lengths, 10_000, overhead=OVERHEAD) == [[1, 3], [0, 2]]
    assert cut_step(lengths // 4, 10_000, overhead=OVERHEAD) == [[1, 3, 0, 2]]
    assert cut_step(lengths, 399, overhead=OVERHEAD) == [[1, 3], [0], [2]]
    assert cut_step(lengths, 1, overhead=OVERHEAD) == [[1], [3], [0], [2]]


def test_a_batch_by_hand():
    batch = collate([build_row("a", [7, 8, 1], [9, 1]), build_row("b", [6, 1], [5, 4, 3, 1])], pad_id=0)
    assert batch["input_ids"].tolist() == [[7, 8, 1], [6, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[9, 1, IGNORED, IGNORED], [5, 4, 3, 1]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    assert IGNORED == -100


def test_the_mask_comes_from_lengths_and_not_from_ids():
    """A prompt may hold the pad token's id; only what was filled in is masked."""
    batch = collate([build_row("a", [7, 0, 1], [0, 1]), build_row("b", [1], [0])], pad_id=0)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[0, 1], [0, IGNORED]]


@pytest.mark.parametrize("pad_id", [0, 3])
def test_padding_takes_the_tokenizers_id(pad_id):
    batch = collate([build_row("a", [7, 1], [1]), build_row("b", [1], [1])], pad_id=pad_id)
    assert batch["input_ids"].tolist() == [[7, 1], [1, pad_id]]


def test_a_batch_of_views_is_that_of_lists(tmp_path):
    pocket = AutoTokenizer.from_pretrained(find_pocket())
    rows = encode([("sum of xs", "return"), ("x", "return max(xs)")], 5, tokenizer=pocket, folder=tmp_path)
    plain = [build_row(row.identifier, row.prompt_ids.tolist(), row.target_ids.tolist()) for row in rows]
    batch, expected = collate(rows, 0), collate(plain, 0)
    assert batch.keys() == expected.keys()
    for name, tensor in batch.items():
        assert torch.equal(tensor, expected[name])
        assert tensor.dtype == torch.int64
        tensor.fill_(7)  # a copy: what is kept cannot be changed
    assert list_ids(rows) == list_ids(plain)


def test_tasks_joined_are_their_rows_one_after_another():
    parts = [encode([("a", "b"), ("c d e", "f")], 5), encode([("g h", "i j")], 5)]
    joined = join_examples(parts)
    assert isinstance(joined, JoinedExamples)
    single = [row for part in parts for row in part]
    assert len(joined) == 3
    assert list_ids(joined) == list_ids(single)
    assert list_ids([joined[2], joined[-1], joined[-3]]) == list_ids([single[2], single[2], single[0]])
    assert list_ids(joined[1:]) == list_ids(single[1:])
    for outside in (3, -4):
        with pytest.raises(IndexError):
            joined[outside]
    assert np.array_equal(measure_rows(joined), measure_rows(single))


def test_joined_tasks_are_known_by_their_rows_and_order():
    first, second = encode([("a", "b")], 5), encode([("c d", "e")], 5)
    assert join_examples([first]) is first
    prints = [join_examples(parts).fingerprint for parts in ([first, second], [second, first], [first])]
    assert len(set(prints)) == 3
    assert join_examples([encode([("a", "b")], 5), second]).fingerprint == prints[0]


def test_rows_of_any_kind_are_padded():
    padded = pad_rows([[1, 2], (3,), np.array([4, 5, 6], np.int32), []], 9)
    assert padded.tolist() == [[1, 2, 9], [3, 9, 9], [4, 5, 6], [9, 9, 9]]
    assert padded.dtype == torch.int64


def test_a_causal_row_is_prompt_and_target_and_only_the_target_is_asked():
    rows = [build_row("a", [7, 8], [9, 4, 1]), build_row("b", [6], [1]), build_row("c", [5, 5, 5], [])]
    batch = collate(rows, pad_id=2, causal=True)
    assert batch["input_ids"].tolist() == [[7, 8, 9, 4, 1], [6, 1, 2, 2, 2], [5, 5, 5, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    x = IGNORED
    assert batch["labels"].tolist() == [[x, 9, 4, 1, x], [1, x, x, x, x], [x, x, x, x, x]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_causal_examples_end_once_and_are_cut_on_each_side():
    pocket = AutoTokenizer.from_pretrained(find_pocket())
    texts = [
        Example(identifier="a", prompt="sum of xs", target="return"),
        Example(identifier="b", prompt="", target=""),
    ]
    rows = encode_examples(texts, pocket, max_prompt_tokens=2, max_target_tokens=3, causal=True)
    whole = encode_examples(texts, pocket, max_prompt_tokens=99, max_target_tokens=99, causal=True)
    end = pocket.eos_token_id
    assert list(whole[0].prompt_ids) == pocket("sum of xs", add_special_tokens=False)["input_ids"]
    assert list(whole[0].target_ids) == [*pocket("return", add_special_tokens=False)["input_ids"], end]
    assert [list(whole[1].prompt_ids), list(whole[1].target_ids)] == [[end], [end]]
    assert list(rows[0].prompt_ids) == list(whole[0].prompt_ids)[-2:]  # where the target goes on
    assert list(rows[0].target_ids) == list(whole[0].target_ids)[:3]
    assert rows.lengths.max() <= 3
    assert rows.truncated_prompts == int(len(whole[0].prompt_ids) > 2)


def test_what_rows_take_of_a_batch():
    lengths = np.array([[3, 4], [1, 0]])
    assert measure_extents(lengths, causal=False).tolist() == [[3, 4], [1, 0]]
    assert measure_extents(lengths, causal=True).tolist() == [[7, 0], [1, 0]]
