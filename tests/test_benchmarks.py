"""The benchmarks run, say what they must, and count right; how long anything takes is asserted nowhere."""

import importlib
import json
import os
import re
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from codestrata.data.batches import EncodedExample, collate

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
SHARED_DATA = ROOT / ".." / "shared" / "data"
SCRIPTS = ("training", "decoding", "swapping", "scaling")

QUICK = ["--repeats", "1", "--threads", "1", "--peak-size", "16", "--peak-seconds", "0"]
RUNS = {
    "training": [
        *["--tiny", "--examples", "4", "--founding-examples", "2", "--batch-size", "2", "--max-tokens", "16"],
        *["--kinds", "lora,decoder-top"],
    ],
    "losses": [
        *["--losses", "--tiny", "--examples", "4", "--batch-size", "2", "--max-tokens", "16"],
        *["--kinds", "decoder-top", "--repeats", "3"],
    ],
    "decoding": [
        *["--tiny", "--prompts", "4", "--one-by-one", "2", "--batch-size", "3", "--max-new-tokens", "8"],
        *["--max-prompt-tokens", "16", "--training-steps", "1", "--bf16", "yes", "--repeats", "2"],
    ],
    "swapping": ["--tiny", "--residents", "1,3", "--swaps", "5"],
    "scaling": [
        *["--tasks", "1,2", "--factors", "1,2", "--train-examples", "8", "--test-examples", "2"],
        *["--max-new-tokens", "4", "--methods", "base,lora"],
    ],
}

# One process for all: they set the C library's allocator, which other tests should not inherit.
DRIVER = """
import importlib, json, sys
for name, arguments in json.loads(sys.argv[1]):
    assert importlib.import_module(name).main(arguments) == 0
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What every script wrote, by its name, and what they printed together."""
    folder = tmp_path_factory.mktemp("benchmarks")
    # Without data files the functions come out of a small folder of Python code: quick, and always the same.
    write_functions(folder / "packages")
    jobs = []
    for name, arguments in RUNS.items():
        out = ["--out", str(folder / f"{name}.json")]
        data = ["--data-folder", str(folder)] if name in ("training", "losses", "decoding") else []
        jobs.append(("training" if name == "losses" else name, [*QUICK, *arguments, *data, *out]))
    source = (
        "import corpus, pathlib\nread = corpus.read_packages\n"
        f"corpus.read_packages = lambda _, seed: read(pathlib.Path({str(folder / 'packages')!r}), seed)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source + DRIVER, json.dumps(jobs)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{FOLDER}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in RUNS}
    return found | {"printed": done.stdout}


def write_functions(folder):
    folder.mkdir()
    lines = [
        f"def add_{n}(left, right):\n    total = left + right * {n}\n    return total\n" for n in range(40)
    ]
    (folder / "module.py").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def part(monkeypatch):
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_make_and_docs_name_every_script():
    scripts = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text("utf-8"))
    assert scripts == sorted(SCRIPTS)
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    for name in scripts:
        assert f"$(BIN)/python benchmarks/{name}.py" in recipe
        assert f"benchmarks/{name}.py" in page


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_results_carry_machine_options_and_every_repeat(reports, name):
    report = reports[name]
    machine = report["machine"]
    assert set(machine["matmul_gflops"]) == {"fp32", "bf16"}
    assert machine["threads"] == 1
    assert {"cpu_flags", "allocator", "packages", "cpu_count"} <= machine.keys()
    repeats = report["options"]["repeats"]
    for table in report["repeats"].values():
        assert {len(rows) for rows in table.values()} == {repeats}
    if repeats < 3:
        assert {target["reached"] for target in report["targets"]} == {None}
    else:
        assert all(isinstance(target["reached"], bool) for target in report["targets"])
    for target in report["targets"]:
        assert target["name"] in re.sub(r"\s+", " ", reports["printed"])


@pytest.mark.slow
def test_training_measures_every_contender_by_epoch(reports):
    medians = reports["training"]["medians"]
    assert set(medians["lora"]) == {"founding", "trainer", "ours"}
    assert set(medians["decoder-top"]) == {"trainer", "ours"}  # its founding rival comes with encoder-top
    for table in medians.values():
        for name, figures in table.items():
            assert figures["examples_per_second_1"] > 0
            assert (figures["examples_per_second_2"] is None) == (name == "founding")
            assert 0 < figures["final_loss"] < 20
    wanted = {target["name"]: target["wanted"] for target in reports["training"]["targets"]}
    assert wanted["lora, both epochs: ours over founding"] == 20
    assert wanted["decoder-top, epoch 2: ours over trainer"] == 2.5
    found = {target["name"]: target["found"] for target in reports["training"]["targets"]}
    assert found.pop("decoder-top, both epochs: ours over founding") is None
    assert all(ratio > 0 for ratio in found.values())


@pytest.mark.slow
def test_losses_compare_three_seeds(reports):
    (table,) = reports["losses"]["repeats"].values()
    assert set(table) == {"trainer", "ours"}
    (target,) = reports["losses"]["targets"]
    losses = {name: [row["final_loss"] for row in rows] for name, rows in table.items()}
    assert target["found"] == pytest.approx(abs(sum(losses["ours"]) - sum(losses["trainer"])) / 3)
    assert target["wanted"] == pytest.approx(max(max(found) - min(found) for found in losses.values()))


@pytest.mark.slow
def test_decoding_counts_equal_answers(reports):
    for title, table in reports["decoding"]["medians"].items():
        assert {"one by one", "batched", "ours", "ours, bf16"} <= set(table)
        assert table["ours"]["identical"] == "4 of 4", title
        assert table["one by one"]["identical"] == "2 of 2", title
        assert table["ours"]["tokens"] == table["batched"]["tokens"]
    rows = [
        row for table in reports["decoding"]["repeats"].values() for found in table.values() for row in found
    ]
    assert all(row["repeats_itself"] for row in rows)


@pytest.mark.slow
def test_swapping_measures_latency_and_bytes(reports):
    report = reports["swapping"]
    for kind in ("lora", "layers"):
        assert report["medians"][kind]["1 resident"]["swaps"] == 5
        assert {"component from disk", "base and component from disk"} <= set(report["medians"][kind])
        size = report["bytes"][kind]
        assert size["theoretical_bytes"] == 4 * size["parameters"]
        assert size["theoretical_bytes"] < size["file_bytes"] < size["folder_bytes"]
        assert size["excess"] == pytest.approx(size["folder_bytes"] / size["theoretical_bytes"] - 1)


@pytest.mark.slow
def test_scaling_runs_whole_runs(reports):
    report = reports["scaling"]
    assert list(report["medians"]["tasks"]) == ["1 tasks", "2 tasks"]
    for figures in (row for table in report["medians"].values() for row in table.values()):
        parts = [figures[part] for part in ("loading", "training", "decoding", "scoring", "other")]
        assert figures["total"] == pytest.approx(sum(parts))
        assert all(seconds > 0 for seconds in parts)
    answers = report["medians"]["examples"]["examples x1"]["answers"]
    assert report["medians"]["examples"]["examples x2"]["answers"] == 2 * answers
    assert report["exponents"]["tasks"]["total"]["plain"] is not None


def test_contenders_take_turns_after_all_warm_ups(part):
    contest = part("contest")
    calls = []

    def build(name):
        def run(repeat):
            calls.append((name, repeat))
            return {"value": {0: 5.0, 1: 1.0, 2: 3.0}[repeat], "word": name, "missing": None}

        return contest.Contender(name=name, run=run, warm_up=lambda: calls.append((name, "warm")))

    found = contest.hold([build("a"), build("b")], 3)
    assert calls[:2] == [("a", "warm"), ("b", "warm")]
    assert calls[2:] == [(name, repeat) for repeat in range(3) for name in "ab"]
    assert contest.take_medians(found["a"]) == {"value": 3.0, "word": "a", "missing": None}
    assert contest.divide({"value": 3.0}, {"value": 2.0}, "value") == 1.5
    assert contest.divide({"value": 3.0}, None, "value") is None


def test_target_knows_both_senses(part):
    target = part("contest").Target
    assert target(name="", found=1.5, wanted=1.5).reached is True
    assert target(name="", found=1.4, wanted=1.5).reached is False
    assert target(name="", found=1.4, wanted=1.5, sense="at most").reached is True
    assert target(name="", found=None, wanted=1.5).reached is None


@pytest.mark.parametrize("kind", ["lora", "encoder-top", "decoder-top", "both"])
def test_flops_of_training_are_those_that_torch_counts(part, kind):
    architecture, training = part("architecture"), part("training")
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 6, "num_heads": 4}
    model = architecture.build_model(sizes, vocabulary=64)
    model.set_attn_implementation("eager")
    component = training.build_component(model, kind)
    component.attach("a", seed=0)
    component.activate("a")
    row = EncodedExample(identifier="a", prompt_ids=tuple(range(3, 33)), target_ids=tuple(range(3, 23)))
    with FlopCounterMode(display=False) as counter:
        model(**collate([row], 0), use_cache=False).loss.backward()
    counted = architecture.count_training_flops(model.config, [row], kind, rank=16)
    # A first block's projections need no gradient of their input, and an update's own narrow products differ.
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.06)


def test_cached_prefix_is_not_counted(part):
    architecture = part("architecture")
    config = architecture.build_model(architecture.TINY, vocabulary=64).config
    row = EncodedExample(identifier="a", prompt_ids=(5,) * 9, target_ids=(5,) * 7)

    def count(kind, **values):
        return architecture.count_training_flops(config, [row], kind, **values)

    assert count("decoder-top", cached=True) < count("decoder-top") / 2
    assert count("lora", rank=4, cached=True) == count("lora", rank=4)
    saved = count("encoder-top") - count("encoder-top", cached=True)
    assert saved == 2 * 2 * (9 * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 9 * 9 * 32)


def test_exponents_with_and_without_start_up(part):
    scaling = part("scaling")
    sizes = [2, 4, 8, 16]
    assert scaling.fit_exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert scaling.fit_exponent(sizes, [1.0, 0.0, 1.0, 1.0]) is None
    rows = [dict.fromkeys(scaling.COLUMNS, 40.0 + 2 * size) for size in sizes]
    found = scaling.fit_exponents(sizes, rows)["total"]
    assert found["plain"] < 0.5
    assert found["growth"] == pytest.approx(1)


def test_answers_end_halfway_at_different_times(part):
    architecture, decoding, unending = part("architecture"), part("decoding"), part("unending")
    model = unending.untie(architecture.build_model(architecture.TINY, vocabulary=400), seed=1)
    rows = [[7 + row, 30 + 3 * row, 100 + row, 2] for row in range(unending.SAMPLE)]
    unending.end_halfway(model, rows, limit=24)
    settings = decoding.DecodingSettings(batch_size=5, max_new_tokens=24)
    bout = decoding.Bout(
        **dict.fromkeys(("title", "merged", "tokenizer", "prompts", "notes")),
        model=model,
        rows=rows,
        settings=settings,
        max_prompt_tokens=9,
    )
    answers = decoding.decode_in_batches(bout, 5, range(len(rows)))
    lengths = [len(ids) for ids in answers]
    assert sum(lengths) / len(lengths) == pytest.approx(12, abs=1.5)
    assert len(set(lengths)) > 3
    assert decoding.decode_in_batches(bout, 1, [3, 0]) == [answers[3], answers[0]]


def test_rival_trains_without_dropout_in_the_base(part):
    architecture, rivals, training = part("architecture"), part("rivals"), part("training")
    batch = {"input_ids": torch.tensor([[5, 6, 7, 2]]), "labels": torch.tensor([[8, 9, 2]])}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
        adapted = [
            rivals.build_peft_model(
                architecture.build_model(architecture.TINY, vocabulary=64), kind, training.LORA, seed=0
            )
            for kind in ("lora", "encoder-top")
        ]
    for model in adapted:
        model.train()
        losses = {float(model(**batch).loss.detach()) for _ in range(4)}
        assert len(losses) == 1  # newborn blocks are the identity, whatever their own dropout does
    rates = {module.p for module in adapted[1].modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.0, 0.1}


def test_founding_model_trains_one_block_or_lora(part):
    architecture, rivals = part("architecture"), part("rivals")
    model = architecture.build_model(architecture.SMALL | {"num_layers": 1}, vocabulary=64)
    block = rivals.build_founding_model(model, "encoder-top", seed=0)
    trained = [parameter for parameter in block.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == 3_146_752
    assert len(block.encoder.block) == 2


def test_functions_are_read_from_packages(part, tmp_path):
    corpus = part("corpus")
    text = "class A:\n    def long(self):\n        x = 1\n        return x\n\n    def short(self): pass\n"
    (tmp_path / "good.py").write_text(text, encoding="utf-8")
    (tmp_path / "bad.py").write_text("def (:\n", encoding="utf-8")
    assert corpus.read_packages(tmp_path, 0) == ["def long(self):\n    x = 1\n    return x"]


def test_learned_tokenizer_is_of_the_same_kind(part, tmp_path):
    functions = ["def add(left, right):\n    return left + right\n"] * 3
    tokenizer, maker = part("corpus").load_tokenizer(tmp_path / "absent", functions)
    ids = tokenizer(functions[0])["input_ids"]
    assert (tokenizer.pad_token_id, ids[0], ids[-1]) == (0, 1, 2)
    assert tokenizer.decode(ids, skip_special_tokens=True) == functions[0]
    assert "learned" in maker


def test_real_functions_have_the_lengths_of_the_issue(part):
    if not (SHARED_DATA / "codesearchnet").is_dir():
        pytest.skip("no ../shared/data/codesearchnet beside the project")
    corpus = part("corpus")
    found = corpus.load_corpus("auto", SHARED_DATA)
    rows = corpus.encode_copies(found, 300, limit=512)
    lengths = sorted(len(row.prompt_ids) for row in rows)
    assert 180 < sum(lengths) / 300 < 250
    assert 0.08 < sum(length == 512 for length in lengths) / 300 < 0.15
    assert all(max(row.prompt_ids) < 32_000 and row.prompt_ids == row.target_ids for row in rows)
    assert corpus.load_corpus("auto", SHARED_DATA).functions == found.functions
    assert "mean" in corpus.describe_lengths(found, limit=512)


def test_options_refuse_nonsense(part, capsys):
    training, scaling, swapping = part("training"), part("scaling"), part("swapping")
    for read, arguments in (
        (training.read_options, ["--kinds", "lroa"]),
        (training.read_options, ["--repeats", "0"]),
        (scaling.read_options, ["--tasks", "4"]),
        (swapping.read_options, ["--residents", "0,4"]),
    ):
        with pytest.raises(SystemExit):
            read(arguments)
    assert "choose from lora, encoder-top, decoder-top, both" in capsys.readouterr().err
    sizes = scaling.read_sizes("8,2,4")
    assert all(first < second for first, second in pairwise(sizes))
