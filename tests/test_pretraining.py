import json
import re
from dataclasses import asdict
from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from codestrata import pretraining
from codestrata.data.kata.phrases import phrase_program
from codestrata.data.kata.printers import DIALECTS, print_program
from codestrata.data.kata.problems import LANGUAGES, choose_problems, draw_problems
from codestrata.engine.generation import Completion
from codestrata.files import hash_json
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import count_parameters, load_base
from codestrata.models.pocket import find_pocket
from codestrata.pretraining import (
    DIALECT_TAGS,
    LOG_FILE,
    PretrainingSettings,
    build_corpus,
    list_texts,
    measure_quality,
    pretrain_pocket,
    split_sentinels,
    thin,
)
from codestrata.settings.sections import BaseSettings

SMALL = PretrainingSettings(problems=400, statements=900, denoising=900)
TINY = PretrainingSettings(problems=40, statements=48, denoising=16, batch_size=16)
SENTINEL = re.compile(r"<extra_id_\d+>")


@pytest.fixture(scope="module")
def corpus():
    return build_corpus(SMALL)


@pytest.fixture(scope="module")
def held_out():
    """Validation, test and unseen problems of the corpus's own walk and of two runs' walks."""
    problems = [problem for seed in (SMALL.seed, 0, 2) for problem in islice(draw_problems(seed), 700)]
    return [problem for problem in problems if problem.split in ("validation", "test", "unseen")]


def split_corpus(corpus):
    statements = [example for example in corpus if example.identifier.startswith("statement-")]
    denoising = [example for example in corpus if example.identifier.startswith("denoising-")]
    assert len(statements) + len(denoising) == len(corpus)
    return statements, denoising


def restore(example):
    """The program that was masked: each sentinel of the source filled with what the target has for it."""
    fillings = dict(
        re.findall(r"(<extra_id_\d+>)(.*?)(?=<extra_id_\d+>|\Z)", example.target, flags=re.DOTALL)
    )
    assert sorted(fillings) == sorted(SENTINEL.findall(example.prompt))
    return SENTINEL.sub(lambda found: fillings[found[0]], example.prompt)


def find_leaks(corpus, problems):
    """The programs of ``problems``, in any language, that the corpus holds."""
    statements, denoising = split_corpus(corpus)
    shown = {example.target for example in statements} | {restore(example) for example in denoising}
    return shown & {print_program(problem.program, language) for problem in problems for language in DIALECTS}


def test_the_corpus_holds_no_program_of_a_held_out_problem(corpus, held_out):
    assert {problem.split for problem in held_out} == {"validation", "test", "unseen"}
    assert len(held_out) > 400
    assert find_leaks(corpus, held_out) == set()


def test_the_corpus_holds_no_statement_of_a_held_out_problem(corpus, held_out):
    from random import Random

    said = {example.prompt.partition(": ")[2] for example in split_corpus(corpus)[0]}
    for problem in held_out:
        assert not said & {phrase_program(problem.program, Random(draw)) for draw in range(4)}


def test_the_corpus_is_made_of_training_problems_and_nothing_else(corpus):
    problems = choose_problems(SMALL.seed, {"train": SMALL.problems})["train"]
    statements, denoising = split_corpus(corpus)
    pivots = {print_program(problem.program, "pivot") for problem in problems}
    texts = {print_program(problem.program, language) for problem in problems for language in LANGUAGES}
    assert {example.target for example in statements} <= pivots
    assert {restore(example) for example in denoising} <= texts
    assert len(find_leaks(corpus, problems)) > 900  # this also shows that a leak would be found


def test_a_corpus_of_test_problems_would_be_found_out(held_out, monkeypatch):
    leaking = {"train": [problem for problem in held_out if problem.split == "test"][:50]}
    monkeypatch.setattr(pretraining, "choose_problems", lambda seed, counts: leaking)
    corpus = build_corpus(PretrainingSettings(problems=50, statements=60, denoising=60))
    statements, denoising = split_corpus(corpus)
    assert find_leaks(statements, held_out)
    assert find_leaks(denoising, held_out)


def test_statements_speak_of_no_target_language(corpus):
    statements, denoising = split_corpus(corpus)
    assert (len(statements), len(denoising)) == (900, 900)
    tags = {example.prompt.partition(": ")[0] for example in statements}
    assert tags == set(DIALECT_TAGS)
    assert not tags & set(LANGUAGES)
    assert all(example.target.startswith("given ") for example in statements)
    # A statement of a real language's program never occurs: denoising has no English in it.
    assert not any(tag + ":" in example.prompt for example in denoising for tag in (*tags, *LANGUAGES))


def test_denoising_masks_whole_lines(corpus):
    _, denoising = split_corpus(corpus)
    for example in denoising:
        lines = restore(example).split("\n")
        kept = [line for line in SENTINEL.sub("\n", example.prompt).split("\n") if line]
        assert kept
        assert set(kept) <= set(lines)
        assert example.target.startswith("<extra_id_0>")


def test_problems_are_said_in_several_ways(corpus):
    said = {}
    for example in split_corpus(corpus)[0]:
        said.setdefault(example.target, set()).add(example.prompt.partition(": ")[2])
    assert sum(len(statements) > 1 for statements in said.values()) > 150


def test_the_corpus_follows_from_the_settings(corpus):
    fingerprint = hash_json([[example.prompt, example.target] for example in corpus])
    again = build_corpus(SMALL)
    assert fingerprint == hash_json([[example.prompt, example.target] for example in again])
    assert build_corpus(TINY) != build_corpus(
        PretrainingSettings(problems=40, statements=48, denoising=16, seed=2)
    )


def test_the_tokenizer_learns_from_texts_without_sentinels(corpus):
    texts = list_texts(corpus)
    assert not any("<extra_id_" in text for text in texts)
    assert sum(map(len, texts)) == sum(
        len(SENTINEL.sub("", text)) for example in corpus for text in (example.prompt, example.target)
    )
    assert split_sentinels("a<extra_id_0><extra_id_12>b\n<extra_id_1>") == ["a", "b\n"]


def test_thinned_losses_are_means():
    assert thin([1.0, 2.0, 4.0, 5.0, 0.33333], every=2) == [1.5, 4.5, 0.3333]
    assert thin([], every=2) == []


@pytest.fixture(scope="module")
def few_measured():
    """Quality is measured on a few problems only: 400 take ten seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "measure_quality", lambda *models: measure_quality(*models, problems=6))
        yield


@pytest.fixture(scope="module")
def pretrained(few_measured, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pocket") / "base"
    reports = []
    progress = SimpleNamespace(
        start=lambda label, total: None, advance=lambda done, note: reports.append((done, note)), say=print
    )
    log = pretrain_pocket(folder, TINY, progress)
    return folder, log, reports


def test_a_miniature_pretraining_writes_a_base_that_loads(pretrained):
    folder, log, _ = pretrained
    base = load_base(BaseSettings(name=str(folder)), torch.device("cpu"))
    assert base.fingerprint == log["base_fingerprint"] == fingerprint_model(base.model)
    assert count_parameters(base.model) == log["parameters"]
    assert len(base.tokenizer) == base.model.config.vocab_size
    assert base.model.generation_config.max_length is None
    assert not list(folder.glob("*.bin"))


def test_the_log_tells_how_the_base_was_made(pretrained):
    folder, log, reports = pretrained
    assert json.loads((folder / "pretraining.json").read_text(encoding="utf-8")) == log
    assert log["command"] == "codestrata pretrain pocket --out FOLDER --threads 1"
    assert log["settings"] == {
        "seed": 1,
        "problems": 40,
        "statements": 48,
        "denoising": 16,
        "batch_size": 16,
        "learning_rates": [2.5e-3, 1.5e-3],
    }
    assert log["steps"] == 8
    assert [done for done, _ in reports] == 2 * [1, 2, 3, 4]
    losses = [float(note.removeprefix("loss ")) for _, note in reports]
    assert log["losses"] == [pytest.approx(sum(losses) / 8, abs=1e-3)]
    assert log["data_fingerprint"] == hash_json(
        [[example.prompt, example.target] for example in build_corpus(TINY)]
    )
    # Four steps teach nothing; a miniature that answers was not measured on what it has not seen.
    assert log["quality"] == {"pivot_exact_match_test": 0.0, "pivot_exact_match_unseen": 0.0}
    assert (log["threads"], log["torch"]) == (torch.get_num_threads(), torch.__version__)


def test_equal_settings_give_an_equal_base(pretrained, tmp_path):
    folder, log, _ = pretrained
    torch.manual_seed(123)
    again = pretrain_pocket(tmp_path / "again", TINY)
    assert again["base_fingerprint"] == log["base_fingerprint"]
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_quality_is_the_share_of_exact_pivot_programs(monkeypatch):
    problems = choose_problems(0, {"test": 6, "unseen": 2})
    answers = [print_program(problem.program, "pivot") for found in problems.values() for problem in found]
    answers[0] += " "
    answers[-1] = ""
    prompts = []

    def answer(model, tokenizer, asked, settings, **limits):
        prompts.extend(asked)
        return [Completion(answers.pop(0), True, 1) for _ in asked]

    monkeypatch.setattr(pretraining, "generate", answer)
    quality = measure_quality(None, None, problems=6)
    assert quality == {"pivot_exact_match_test": 5 / 6, "pivot_exact_match_unseen": 1 / 2}
    assert all(prompt.startswith("pivot: ") for prompt in prompts)


def test_training_changed_the_newborn(pretrained):
    from codestrata.models.pocket import build_model

    _, log, _ = pretrained
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TINY.seed)
        newborn = build_model(1024)
    assert fingerprint_model(newborn) != log["base_fingerprint"]


def read_shipped_log():
    return json.loads((find_pocket() / LOG_FILE).read_text(encoding="utf-8"))


def test_the_shipped_base_was_made_by_the_default_settings():
    log = read_shipped_log()
    assert log["settings"] == json.loads(json.dumps(asdict(PretrainingSettings())))
    assert log["quality"]["pivot_exact_match_test"] > 0.8
    assert log["quality"]["pivot_exact_match_unseen"] > 0.8


@pytest.mark.slow
def test_the_command_makes_a_base_of_the_same_quality(tmp_path):
    """About half an hour on two cores; bits may differ between machines, data and quality may not."""
    shipped = read_shipped_log()
    made = pretrain_pocket(tmp_path / "pocket", PretrainingSettings())
    assert made["data_fingerprint"] == shipped["data_fingerprint"]
    for split, exact in shipped["quality"].items():
        assert made["quality"][split] == pytest.approx(exact, abs=0.05)
