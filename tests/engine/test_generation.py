import copy
import random
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig

from codestrata.data.kata.problems import build_example as build_kata_example
from codestrata.data.kata.problems import choose_problems
from codestrata.data.tokens import encode_prompts, encode_texts
from codestrata.engine import generation
from codestrata.engine.decoding import can_decode
from codestrata.engine.generation import (
    Completion,
    build_completion,
    cut_batches,
    generate,
    rank_completions,
)
from codestrata.engine.precision import has_bf16
from codestrata.models.loading import load_base
from codestrata.models.pocket import build_tokenizer
from codestrata.settings.sections import BaseSettings, DecodingSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def texts():
    problems = choose_problems(0, {"train": 60})["train"]
    examples = [build_kata_example(problem, "python") for problem in problems]
    return [text for example in examples for text in (example.prompt, example.target)]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return build_tokenizer(texts)


@pytest.fixture(scope="module")
def model(build_tiny_t5, tokenizer):
    """A random T5 that talks: larger weights than at birth, so that its answers differ between prompts."""
    model = build_tiny_t5(vocab_size=len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(3)
        model.shared.weight[tokenizer.eos_token_id] *= 1.5  # so that some answers end
    return model


@pytest.fixture(scope="module")
def prompts(texts):
    return texts[:24:2]


@pytest.fixture
def ask(model, tokenizer):
    def ask(prompts, *, report=None, max_prompt_tokens=512, model=model, **values):
        settings = DecodingSettings(**{"max_new_tokens": 12, "batch_size": 5, **values})
        return generate(
            model,
            tokenizer,
            prompts,
            settings,
            max_prompt_tokens=max_prompt_tokens,
            device=CPU,
            report=report,
        )

    return ask


def decode_by_hand(model, tokenizer, prompt, limit):
    """Greedy decoding without cache, batches or transformers' ``generate``."""
    (ids,) = encode_texts([prompt], tokenizer)
    answer = [model.config.decoder_start_token_id]
    with torch.inference_mode():
        while len(answer) <= limit:
            logits = model(
                input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([answer]), use_cache=False
            ).logits
            answer.append(int(logits[0, -1].argmax()))
            if answer[-1] == model.config.eos_token_id:
                break
    return answer[1:]


def test_greedy_completions_are_those_decoded_by_hand_in_the_prompts_order(ask, model, tokenizer, prompts):
    completions = ask(prompts)
    by_hand = [decode_by_hand(model, tokenizer, prompt, 12) for prompt in prompts]
    assert [len(completion.ids) for completion in completions] == [len(ids) for ids in by_hand]
    assert [completion.text for completion in completions] == [
        tokenizer.decode([token for token in ids if token > 1], skip_special_tokens=False) for ids in by_hand
    ]
    assert [completion.finished for completion in completions] == [ids[-1] == 1 for ids in by_hand]
    assert len({completion.text for completion in completions}) > len(prompts) // 2
    assert {completion.finished for completion in completions} == {True, False}


def test_repetition_gives_equal_completions(ask, prompts):
    assert ask(prompts) == ask(prompts)


def test_order_follows_the_prompts(ask, prompts):
    forwards, backwards = ask(prompts), ask(prompts[::-1])
    assert forwards == backwards[::-1]
    assert ask([prompts[3], prompts[0], prompts[3]]) == [forwards[3], forwards[0], forwards[3]]


@pytest.mark.parametrize(
    "values", [{}, {"temperature": 1.0}, {"beams": 2}], ids=["greedy", "sampling", "beams"]
)
def test_random_states_are_neither_used_nor_changed(values, ask, prompts):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), random.getstate()
        found.append(ask(prompts, **values))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
    assert found[0] == found[1]


def test_sampling_follows_its_seed(ask, prompts):
    greedy = ask(prompts)
    first = ask(prompts, temperature=1.0, seed=0)
    assert first == ask(prompts, temperature=1.0, seed=0)
    assert first != ask(prompts, temperature=1.0, seed=1)
    assert first != greedy
    assert ask(prompts, seed=1) == greedy


def test_dropout_is_off_whatever_mode_the_model_was_in(ask, model, prompts):
    expected = ask(prompts)
    model.train()
    assert ask(prompts) == expected
    assert not model.training


@pytest.fixture
def formats():
    """The number format of every batch that transformers decodes."""
    return []


@pytest.fixture
def batches(model, monkeypatch, formats):
    """The input ids and masks of every batch that transformers decodes."""
    seen = []
    decode = model.generate

    def spy(**arguments):
        seen.append((arguments["input_ids"], arguments["attention_mask"]))
        autocast = torch.is_autocast_enabled("cpu")
        formats.append(torch.get_autocast_dtype("cpu") if autocast else torch.float32)
        return decode(**arguments)

    monkeypatch.setattr(model, "generate", spy)
    return seen


def test_batches_are_cut_from_prompts_sorted_by_length(ask, batches, tokenizer, prompts):
    reports = []
    ask(prompts, beams=2, report=reports.append)
    lengths = [int(length) for _, mask in batches for length in mask.sum(1)]
    assert lengths == sorted(map(len, encode_texts(prompts, tokenizer)))
    assert [len(ids) for ids, _ in batches] == [5, 5, 2]
    assert reports == [5, 10, 12]
    for ids, mask in batches:
        assert ids.shape[1] == int(mask.sum(1).max())
        assert torch.equal(ids == tokenizer.pad_token_id, mask == 0)


def test_batch_composition_depends_on_prompts_and_settings_alone(ask, batches, prompts):
    for seed in (1, 2):
        torch.manual_seed(seed)
        ask(prompts, beams=2)
    first, second = batches[:3], batches[3:]
    assert all(torch.equal(one[0], other[0]) for one, other in zip(first, second, strict=True))


def test_padding_does_not_change_greedy_answers(ask, prompts):
    assert ask(prompts, batch_size=1) == ask(prompts, batch_size=64)


def test_long_prompts_are_cut(ask, batches, prompts, tokenizer):
    ask(prompts, max_prompt_tokens=6, beams=2)
    shown = [row[mask == 1].tolist() for ids, masks in batches for row, mask in zip(ids, masks, strict=True)]
    assert sorted(shown) == sorted(ids[:6] for ids in encode_texts(prompts, tokenizer))


def test_long_prompts_are_cut_before_greedy_decoding(ask, prompts, model, tokenizer, monkeypatch):
    shown = []

    def answer(model, rows, **values):
        shown.extend(rows)
        return [[1] for _ in rows]

    monkeypatch.setattr(generation, "decode_greedily", answer)
    ask(prompts, max_prompt_tokens=6)
    assert shown == [ids[:6] for ids in encode_texts(prompts, tokenizer)]


@pytest.mark.parametrize(
    ("values", "by_transformers"),
    [({}, False), ({"temperature": 1.0}, True), ({"beams": 2}, True), ({"no_repeat_ngram": 2}, True)],
)
def test_only_plain_greedy_answers_are_decoded_here(values, by_transformers, ask, prompts, batches):
    ask(prompts, **values)
    assert bool(batches) == by_transformers


@pytest.mark.parametrize(
    "rule", [{"repetition_penalty": 5.0}, {"suppress_tokens": [7]}, {"min_new_tokens": 9}]
)
def test_a_model_with_rules_of_its_own_is_left_to_transformers(
    rule, ask, model, prompts, batches, monkeypatch
):
    expected = ask(prompts)
    for name, value in rule.items():
        monkeypatch.setattr(model.generation_config, name, value)
    assert not batches
    ask(prompts)
    assert batches
    monkeypatch.undo()
    assert ask(prompts) == expected


def test_a_model_in_another_format_than_fp32_is_left_to_transformers(model, prompts, ask):
    lowered = copy.deepcopy(model).to(torch.bfloat16)
    assert can_decode(model)
    assert not can_decode(lowered)
    assert len(ask(prompts, model=lowered)) == len(prompts)


def test_watchers_hear_of_greedy_answers_as_they_end(ask, prompts):
    reports = []
    ask(prompts, report=reports.append)
    assert reports == sorted(set(reports))
    assert reports[-1] == len(prompts)
    assert len(reports) > 2


def test_precision_reaches_both_ways_of_decoding(ask, prompts, batches, formats, monkeypatch):
    ask(prompts[:2], beams=2)
    ask(prompts[:2], beams=2, precision="bf16")
    assert formats == [torch.float32, torch.bfloat16]
    chosen = []
    own = generation.decode_greedily

    def spy(*arguments, **values):
        chosen.append(values["precision"])
        return own(*arguments, **values)

    monkeypatch.setattr(generation, "decode_greedily", spy)
    answers = {name: ask(prompts[:2], precision=name) for name in ("fp32", "bf16", "auto")}
    assert chosen == ["fp32", "bf16", "bf16" if has_bf16(CPU) else "fp32"]
    assert answers["auto"] == answers[chosen[-1]]


def test_the_length_limit_counts_answers_without_the_start_token(ask, prompts):
    for completion in ask(prompts, max_new_tokens=3):
        assert len(completion.ids) == 3 or (completion.finished and len(completion.ids) < 3)


def test_banned_repetitions_do_not_occur(ask, prompts, tokenizer):
    def repeats(completions):
        rows = [tokenizer(completion.text)["input_ids"] for completion in completions]
        return [len(row) - len(set(row)) for row in rows]

    assert max(repeats(ask(prompts))) > 0
    assert max(repeats(ask(prompts, no_repeat_ngram=1))) < max(repeats(ask(prompts)))


def test_no_prompts(ask):
    assert ask([]) == []


ENDING = SimpleNamespace(config=SimpleNamespace(eos_token_id=1))


@pytest.mark.parametrize(
    ("tail", "finished", "tokens"),
    [([], False, 0), ([1], True, 1), ([1, 0, 0], True, 1), ([1, 40, 41], True, 1), ([0], False, 1)],
)
def test_finished_means_that_the_end_token_came(tail, finished, tokens, tokenizer):
    (ids,) = encode_texts(["sum of xs"], tokenizer)
    ids = ids[:-1]
    completion = build_completion(ids + tail, ENDING, tokenizer)
    assert completion == Completion("sum of xs", finished, (*ids, *tail[:tokens]))


def rank(model, tokenizer, prompts, completions, max_prompt_tokens=512):
    return rank_completions(
        model, tokenizer, prompts, completions, max_prompt_tokens=max_prompt_tokens, device=CPU
    )


def rank_by_hand(model, tokenizer, prompt, said):
    """One token after the other: how many tokens the model finds likelier than the one that was said."""
    (ids,) = encode_texts([prompt], tokenizer)
    ranks, answer = [], [model.config.decoder_start_token_id]
    with torch.inference_mode():
        for token in said:
            logits = model(
                input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([answer]), use_cache=False
            ).logits[0, -1]
            ranks.append(int((logits > logits[token]).sum()))
            answer.append(token)
    return tuple(ranks)


def test_a_model_ranks_its_own_greedy_tokens_first(ask, model, tokenizer, prompts):
    completions = ask(prompts)
    assert any(completion.finished for completion in completions)  # the end token is ranked too
    for completion, ranks in zip(completions, rank(model, tokenizer, prompts, completions), strict=True):
        assert ranks == (0,) * len(completion.ids)


def test_ranks_are_those_of_one_token_after_the_other_whatever_the_batches(
    model, tokenizer, prompts, monkeypatch
):
    rng = random.Random(0)
    sizes = [rng.randrange(0, 9) for _ in prompts]
    completions = [
        Completion("", True, tuple(rng.randrange(2, len(tokenizer)) for _ in range(size))) for size in sizes
    ]
    by_hand = [
        rank_by_hand(model, tokenizer, prompt, completion.ids)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    assert len({rank for ranks in by_hand for rank in ranks}) > 10
    assert rank(model, tokenizer, prompts, completions) == by_hand
    monkeypatch.setattr(generation, "LOGITS_AT_ONCE", 1)  # every completion in a batch of its own
    assert rank(model, tokenizer, prompts, completions) == by_hand


def test_nothing_said_has_no_ranks(model, tokenizer):
    assert rank(model, tokenizer, [], []) == []
    assert rank(model, tokenizer, ["sum of xs"], [Completion("", False, ())]) == [()]


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def decoder(request, tiny_decoder_folders):
    """A decoder-only base as it is loaded: Llama's tokenizer puts a token first, Qwen's none."""
    settings = BaseSettings(name=str(tiny_decoder_folders[request.param]))
    return load_base(settings, CPU)


def answer_alone(base, prompt, **values):
    """One prompt by transformers, without padding: the ids of its answer."""
    (row,) = encode_prompts([prompt], base.tokenizer, causal=True)
    return answer_row(base, row, **values)


def answer_row(base, row, **values):
    """The same for a prompt's ids."""
    ids = torch.tensor([row])
    found = base.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=GenerationConfig(
            **{"max_new_tokens": 12, "do_sample": False, "pad_token_id": 1, "eos_token_id": 1, **values}
        ),
    )
    answer = found[0, ids.shape[1] :].tolist()
    return answer[: answer.index(1) + 1] if 1 in answer else answer


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"beams": 3}, {"num_beams": 3}),
        ({"no_repeat_ngram": 1}, {"no_repeat_ngram_size": 1}),
    ],
    ids=["greedy", "beams", "bans"],
)
def test_a_decoder_answers_as_if_each_prompt_were_alone(ours, theirs, decoder, prompts):
    uneven = [prompts[0], prompts[1][:3], prompts[2] * 2, prompts[3], ""]
    settings = DecodingSettings(max_new_tokens=12, batch_size=3, **ours)
    found = generate(decoder.model, decoder.tokenizer, uneven, settings, max_prompt_tokens=512, device=CPU)
    alone = [answer_alone(decoder, prompt, **theirs) for prompt in uneven]
    assert [list(completion.ids) for completion in found] == alone
    assert len(set(map(tuple, alone))) > 3
    assert not any(prompt and prompt in done.text for prompt, done in zip(uneven, found, strict=True))


def test_a_decoders_batches_are_filled_on_the_left(decoder, prompts, monkeypatch):
    seen = []
    decode = decoder.model.generate
    monkeypatch.setattr(decoder.model, "generate", lambda **values: seen.append(values) or decode(**values))
    settings = DecodingSettings(max_new_tokens=3, batch_size=5, beams=2)
    generate(decoder.model, decoder.tokenizer, prompts, settings, max_prompt_tokens=99, device=CPU)
    shown = []
    for values in seen:
        for ids, mask in zip(values["input_ids"].tolist(), values["attention_mask"].tolist(), strict=True):
            assert mask == sorted(mask)
            shown.append([token for token, is_real in zip(ids, mask, strict=True) if is_real])
    rows = encode_prompts(prompts, decoder.tokenizer, causal=True)
    assert sorted(shown) == sorted(rows)


def test_a_decoders_long_prompts_lose_their_beginnings(decoder, prompts):
    """Its answer goes on from the prompt's end; Llama's begin token stays."""
    settings = DecodingSettings(max_new_tokens=6)
    found = generate(decoder.model, decoder.tokenizer, prompts, settings, max_prompt_tokens=3, device=CPU)
    begin = [] if decoder.tokenizer.bos_token_id is None else [decoder.tokenizer.bos_token_id]
    rows = encode_prompts(prompts, decoder.tokenizer, causal=True)
    cut = [row if len(row) <= 3 else [*begin, *row[len(row) - 3 + len(begin) :]] for row in rows]
    assert cut != rows
    assert generation.read_prompts(decoder.model, decoder.tokenizer, prompts, 3) == cut
    alone = [answer_row(decoder, row, max_new_tokens=6) for row in cut]
    assert [list(completion.ids) for completion in found] == alone


@pytest.mark.parametrize("beams", [1, 2])
def test_an_end_that_only_the_generation_settings_have_ends_answers(beams, decoder, prompts, monkeypatch):
    settings = DecodingSettings(max_new_tokens=12, batch_size=5, beams=beams)

    def ask():
        return generate(decoder.model, decoder.tokenizer, prompts, settings, max_prompt_tokens=99, device=CPU)

    before = ask()
    said = [token for completion in before for token in completion.ids[1:]]
    common = max(set(said) - {1}, key=said.count)
    monkeypatch.setattr(decoder.model.generation_config, "eos_token_id", [1, common])
    after = ask()
    assert any(completion.ids[-1] == common and completion.finished for completion in after)
    assert not any(common in completion.ids[:-1] for completion in after)
    if beams == 1:
        for one, other in zip(before, after, strict=True):
            assert one.ids[: len(other.ids)] == other.ids


def test_a_decoders_sampling_follows_its_seed(decoder, prompts):
    def ask(seed):
        settings = DecodingSettings(max_new_tokens=8, batch_size=5, temperature=1.0, seed=seed)
        return generate(decoder.model, decoder.tokenizer, prompts, settings, max_prompt_tokens=99, device=CPU)

    assert ask(0) == ask(0)
    assert ask(0) != ask(1)


def rank_a_row_by_hand(base, prompt, said):
    ranks, (ids,) = [], encode_prompts([prompt], base.tokenizer, causal=True)
    with torch.inference_mode():
        for token in said:
            logits = base.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            ranks.append(int((logits > logits[token]).sum()))
            ids = [*ids, token]
    return tuple(ranks)


def test_a_decoder_ranks_what_was_said_in_its_place(decoder, prompts, monkeypatch):
    rng = random.Random(0)
    asked = prompts[:5]
    size = decoder.model.config.vocab_size
    completions = [
        Completion("", True, tuple(rng.randrange(1, size) for _ in range(length)))
        for length in (3, 0, 5, 1, 2)
    ]
    by_hand = [
        rank_a_row_by_hand(decoder, prompt, done.ids) for prompt, done in zip(asked, completions, strict=True)
    ]
    assert len({rank for ranks in by_hand for rank in ranks}) > 7
    assert rank(decoder.model, decoder.tokenizer, asked, completions) == by_hand
    monkeypatch.setattr(generation, "LOGITS_AT_ONCE", 1)
    assert rank(decoder.model, decoder.tokenizer, asked, completions) == by_hand
    assert isinstance(decoder.model.lm_head, torch.nn.Linear)  # as it was


def test_a_decoder_ranks_its_own_greedy_tokens_first(decoder, prompts):
    settings = DecodingSettings(max_new_tokens=6)
    completions = generate(
        decoder.model, decoder.tokenizer, prompts[:5], settings, max_prompt_tokens=99, device=CPU
    )
    ranks = rank(decoder.model, decoder.tokenizer, prompts[:5], completions, max_prompt_tokens=99)
    assert ranks == [(0,) * len(completion.ids) for completion in completions]


def test_batches_hold_like_lengths_or_equal_ones():
    lengths = [3, 1, 3, 2, 3, 1]
    assert cut_batches(lengths, 2, even=False) == [[1, 5], [3, 0], [2, 4]]
    assert cut_batches(lengths, 2, even=True) == [[1, 5], [3], [0, 2], [4]]
    assert cut_batches([], 2, even=True) == []


def test_a_decoders_own_rules_do_not_see_padding(decoder, prompts, monkeypatch):
    uneven = [prompts[0], prompts[1][:3], prompts[2] * 2, "x"]
    monkeypatch.setattr(decoder.model.generation_config, "repetition_penalty", 3.0)
    alone = [answer_alone(decoder, prompt) for prompt in uneven]
    masks = []
    decode = decoder.model.generate
    monkeypatch.setattr(
        decoder.model, "generate", lambda **values: masks.append(values["attention_mask"]) or decode(**values)
    )
    settings = DecodingSettings(max_new_tokens=12, batch_size=4)
    found = generate(decoder.model, decoder.tokenizer, uneven, settings, max_prompt_tokens=99, device=CPU)
    assert [list(completion.ids) for completion in found] == alone
    assert masks
    assert all(bool(mask.all()) for mask in masks)
