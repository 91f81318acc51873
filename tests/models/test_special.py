from types import SimpleNamespace

import pytest

from codestrata.models.special import choose_filler, list_ends


def build(**values):
    return SimpleNamespace(config=SimpleNamespace(**{"eos_token_id": 1, "pad_token_id": None, **values}))


@pytest.mark.parametrize(
    ("stated", "own", "expected"),
    [
        (1, None, {1}),
        (1, 1, {1}),
        ([5, 1], 7, {1, 5, 7}),
        (None, 3, {3}),
        (None, None, set()),
        (0, 2, {0, 2}),
    ],
)
def test_answers_end_with_the_configurations_tokens_and_the_tokenizers(stated, own, expected):
    tokenizer = None if own is None else SimpleNamespace(eos_token_id=own)
    assert list_ends(build(eos_token_id=stated), tokenizer) == expected


@pytest.mark.parametrize(
    ("stated", "generation", "expected"),
    [(5, [5, 3], {3, 5}), (5, 4, {4, 5}), (None, 4, {4}), (5, None, {5})],
)
def test_answers_end_with_the_generation_settings_tokens_too(stated, generation, expected):
    model = build(eos_token_id=stated)
    model.generation_config = SimpleNamespace(eos_token_id=generation)
    assert list_ends(model) == expected
    assert list_ends(model, SimpleNamespace(eos_token_id=9)) == expected | {9}


@pytest.mark.parametrize(
    ("filler", "ends", "expected"), [(0, 1, 0), (9, 1, 9), (None, 4, 4), (None, [8, 6], 6), (None, None, 0)]
)
def test_rows_are_filled_with_the_padding_token_or_an_end(filler, ends, expected):
    assert choose_filler(build(pad_token_id=filler, eos_token_id=ends)) == expected
