"""How fast components train: a loop like the founding experiment's, transformers' Trainer, and ours.

    python benchmarks/training.py [--examples 32] [--kinds lora,encoder-top,decoder-top,both] [--losses]

What this does not do: use trained weights, or assert a time. ``--losses`` compares final losses instead, over
three seeds, with a smaller model.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from architecture import PAD, SMALL, TINY, Kind, build_model, count_training_flops
from contest import (
    Contender,
    Figures,
    Target,
    add_options,
    divide,
    hold,
    read_count,
    show_table,
    show_targets,
    take_medians,
    tell,
    write_results,
)
from corpus import DATA_FOLDER, Source, describe_lengths, encode_copies, load_corpus
from machine import describe_machine, prepare_process, set_imports_aside, start_fresh
from rivals import build_founding_model, build_peft_model, fit_founding, fit_trainer

from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.contracts import Component
from codestrata.data.batches import EncodedExample, collate
from codestrata.engine.host import keep_buffers
from codestrata.engine.memory import MemoryGauge
from codestrata.engine.precision import choose_precision
from codestrata.engine.states import StateStore
from codestrata.progress import Silence
from codestrata.settings.components import LayersSettings, LoraSettings
from codestrata.settings.sections import CacheSettings, TrainingSettings
from codestrata.training import fit

CPU = torch.device("cpu")
KINDS = get_args(Kind)
CONTENDERS = ("founding", "trainer", "trainer-kept", "ours")
EPOCHS = 2
PHASE = "train"
FOUNDING_RANK = 16
LORA = LoraSettings(rank=16, alpha=32.0)
LOSS_SIZES = {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 3, "num_heads": 4}
LOSS_BATCH = 4
COLUMNS = {
    "examples_per_second_1": "examples/s, epoch 1",
    "examples_per_second_2": "epoch 2",
    "tokens_per_second_1": "tokens/s, epoch 1",
    "tokens_per_second_2": "epoch 2",
    "peak_share_1": "of the matmul peak, epoch 1",
    "peak_share_2": "epoch 2",
    "peak_memory_mib": "peak MiB",
    "final_loss": "final loss",
    "precision": "precision",
    "examples": "examples",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 whatever was found."""
    options = read_options(arguments)
    prepare_process(options.threads)
    set_imports_aside()
    corpus = load_corpus(options.data, options.data_folder, seed=options.seed)
    machine = describe_machine(peak_size=options.peak_size, peak_seconds=options.peak_seconds)
    notes = [describe_lengths(corpus, limit=options.max_tokens)]
    needed = max(options.examples, options.founding_examples * options.repeats)
    rows = encode_copies(corpus, needed, limit=options.max_tokens)
    machine["precision"] = choose_precision(options.precision, CPU)
    if options.losses:
        compare_losses(options, rows[: options.examples], machine, notes)
    else:
        compare_speeds(options, rows, machine, notes)
    return 0


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the options' defaults take about half an hour on two cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    losses = "--losses" in (sys.argv if arguments is None else arguments)
    add_options(parser, "training-losses" if losses else "training")
    parser.add_argument("--examples", type=read_count, default=96 if losses else 32, help="of an epoch")
    parser.add_argument("--founding-examples", type=read_count, default=8, help="of the founding loop")
    parser.add_argument("--batch-size", type=read_count, default=8, help="examples of an optimizer step")
    parser.add_argument("--max-tokens", type=read_count, default=512, help="functions are cut at")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="AdamW's peak")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="ours, Trainer")
    parser.add_argument(
        "--kinds", type=partial(read_names, known=KINDS), default=KINDS, help=", ".join(KINDS)
    )
    parser.add_argument(
        "--contenders",
        type=partial(read_names, known=CONTENDERS),
        default=("founding", "trainer", "ours"),
        help="trainer-kept: the Trainer while glibc keeps its buffers as for ours",
    )
    parser.add_argument("--data", choices=get_args(Source), default="auto", help="where functions are from")
    parser.add_argument("--data-folder", type=Path, default=DATA_FOLDER, help="of the data files")
    parser.add_argument("--seed", type=int, default=0, help="of the order; repeat k trains with seed k")
    parser.add_argument("--tiny", action="store_true", help="a toy model, to try the script")
    parser.add_argument("--losses", action="store_true", help="compare final losses, not speed")
    return parser.parse_args(arguments)


def read_names(text: str, *, known: Sequence[str]) -> tuple[str, ...]:
    """Names separated by commas."""
    names = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: choose from {', '.join(known)}")
    return names


def build_settings(options: argparse.Namespace, precision: str) -> TrainingSettings:
    """How the Trainer and ours train: two epochs, equal steps, equal rates."""
    return TrainingSettings(
        epochs=float(EPOCHS),
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        max_prompt_tokens=options.max_tokens,
        max_target_tokens=options.max_tokens,
        precision=precision,
    )


def build_component(model: Any, kind: Kind) -> Component:
    """Our component of a kind on a model."""
    if kind == "lora":
        return build_lora(model, LORA, fingerprint="random")
    return build_layers(model, LayersSettings(placement=kind), fingerprint="random")


def compare_speeds(
    options: argparse.Namespace, rows: Sequence[EncodedExample], machine: Figures, notes: list[str]
) -> None:
    """Every kind of component with every contender."""
    sizes = TINY if options.tiny else SMALL
    notes += [
        f"random weights of {'a toy model' if options.tiny else 'codet5-small'}; input = target; tokens are "
        "real ones of both sides; an epoch of the founding loop is of other, fewer examples "
        f"({options.founding_examples}), so ratios are of tokens per second",
        "share of the matmul peak: multiplications and additions that the step needs by formula "
        "(architecture.count_training_flops) over those of square products in the same precision",
        "the founding loop trains padding too and has no second epoch here: its loss is another one",
    ]
    tables: dict[str, dict[str, list[Figures]]] = {}
    for kind in options.kinds:
        tell(f"training: {kind}")
        contenders = [
            Contender(
                name=name,
                run=partial(measure_speed, name, kind, sizes, rows, options, machine),
                warm_up=partial(warm_up, name, kind, sizes, rows, options, machine),
            )
            for name in options.contenders
            if name != "founding" or kind in ("lora", "encoder-top")
        ]
        tables[kind] = hold(contenders, options.repeats)
    medians = {
        kind: {name: take_medians(found) for name, found in table.items()} for kind, table in tables.items()
    }
    for kind, table in medians.items():
        show_table(f"Training: {kind}", COLUMNS, table)
    targets = list_targets(medians)
    show_targets(targets, options.repeats)
    for note in notes:
        print(f"- {note}")
    write_results(
        options,
        "training",
        machine=machine,
        notes=notes,
        tables=tables,
        medians=medians,
        targets=targets,
        extra={"ratios": list_ratios(medians)},
    )


def warm_up(
    name: str,
    kind: Kind,
    sizes: dict[str, int],
    rows: Sequence[EncodedExample],
    options: argparse.Namespace,
    machine: Figures,
) -> None:
    """Two short examples through a contender."""
    shortest = sorted(rows, key=lambda row: len(row.prompt_ids))[:2]
    measure(name, kind, sizes, shortest, options, machine, seed=0)


def measure_speed(
    name: str,
    kind: Kind,
    sizes: dict[str, int],
    rows: Sequence[EncodedExample],
    options: argparse.Namespace,
    machine: Figures,
    repeat: int,
) -> Figures:
    """One repeat of one contender on its examples: the founding loop takes other ones in every repeat."""
    chosen = rows[: options.examples]
    if name == "founding":
        first = repeat * options.founding_examples
        chosen = rows[first : first + options.founding_examples]
    return measure(name, kind, sizes, chosen, options, machine, seed=repeat)


def measure(
    name: str,
    kind: Kind,
    sizes: dict[str, int],
    rows: Sequence[EncodedExample],
    options: argparse.Namespace,
    machine: Figures,
    *,
    seed: int,
) -> Figures:
    """Train with one contender from a fresh start; speed by epoch, memory, and the loss on the examples."""
    model = build_model(sizes)
    allocator = start_fresh()
    if name in ("trainer-kept", "ours"):
        allocator = keep_buffers()
    precision = "fp32" if name == "founding" else machine["precision"]
    gauge = MemoryGauge(CPU)
    trained, seconds, cached = train(name, kind, model, rows, options, precision, seed)
    figures: Figures = {
        "examples": len(rows),
        "precision": precision,
        "allocator": allocator,
        "peak_memory_mib": gauge.read_peak(),
        "seconds": seconds,
    }
    tokens = sum(len(row.prompt_ids) + len(row.target_ids) for row in rows)
    peak = machine["matmul_gflops"][precision]
    for epoch in range(1, EPOCHS + 1):
        spent = seconds[epoch - 1] if epoch <= len(seconds) else None
        needed = count_training_flops(
            model.config, rows, kind, rank=FOUNDING_RANK, cached=cached and epoch > 1
        )
        figures[f"examples_per_second_{epoch}"] = None if spent is None else len(rows) / spent
        figures[f"tokens_per_second_{epoch}"] = None if spent is None else tokens / spent
        figures[f"peak_share_{epoch}"] = (
            None if spent is None or peak is None else needed / spent / (peak * 1e9)
        )
    figures["tokens_per_second"] = tokens * len(seconds) / sum(seconds)
    figures["final_loss"] = measure_loss(trained, rows)
    return figures


def train(
    name: str,
    kind: Kind,
    model: Any,
    rows: Sequence[EncodedExample],
    options: argparse.Namespace,
    precision: str,
    seed: int,
) -> tuple[Any, list[float], bool]:
    """The trained model, the seconds of every epoch, and whether later epochs reuse the frozen prefix."""
    settings = build_settings(options, precision)
    rate = options.learning_rate
    if name == "founding":
        adapted = build_founding_model(model, kind, seed=seed)
        return adapted, [fit_founding(adapted, rows, learning_rate=rate, pad_id=PAD)], False
    if name != "ours":
        adapted = build_peft_model(model, kind, LORA, seed=seed)
        bf16 = precision == "bf16"
        seconds = fit_trainer(adapted, rows, settings, learning_rate=rate, seed=seed, pad_id=PAD, bf16=bf16)
        return adapted, seconds, False
    component = build_component(model, kind)
    component.attach("trained", seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        store = StateStore(folder=Path(folder), settings=CacheSettings(), base_fingerprint="random")
        seconds, cached = fit_ours(component, rows, settings, rate, seed, store)
    return component.model, seconds, cached


class EpochClock(Silence):
    """A watcher that keeps the moments at which epochs end."""

    def __init__(self) -> None:
        self.moments = [time.perf_counter()]
        self._label, self._total = "", 0

    def start(self, label: str, total: int) -> None:
        """Remember which phase it is."""
        self._label, self._total = label, total

    def advance(self, done: int, note: str = "") -> None:
        """Note the moment after the last step of an epoch."""
        if self._label == PHASE and done * EPOCHS % self._total == 0:
            self.moments.append(time.perf_counter())


def fit_ours(
    component: Component,
    rows: Sequence[EncodedExample],
    settings: TrainingSettings,
    learning_rate: float,
    seed: int,
    store: StateStore,
) -> tuple[list[float], bool]:
    """Train with ``codestrata.training.fit``: seconds of every epoch, and whether states were kept.

    The first epoch has everything that comes before its first step, the frozen part's states among it, and
    the last one everything that comes after.
    """
    clock = EpochClock()
    log = fit(
        component,
        "trained",
        rows,
        settings,
        learning_rate=learning_rate,
        seed=seed,
        pad_id=PAD,
        device=CPU,
        store=store,
        progress=clock,
        label=PHASE,
    )
    clock.moments[-1] = time.perf_counter()
    seconds = [later - earlier for earlier, later in zip(clock.moments, clock.moments[1:], strict=False)]
    return seconds, log.states is not None and log.states.kept > 0


def measure_loss(model: Any, rows: Sequence[EncodedExample]) -> float:
    """Mean cross entropy per target token in fp32 without dropout: the same yardstick for every contender."""
    ordered = sorted(rows, key=lambda row: len(row.prompt_ids))
    total, tokens = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for first in range(0, len(ordered), LOSS_BATCH):
            batch = collate(ordered[first : first + LOSS_BATCH], PAD)
            count = int((batch["labels"] >= 0).sum())
            total += float(model(**batch, use_cache=False).loss) * count
            tokens += count
    return total / tokens


def list_ratios(medians: dict[str, dict[str, Figures]]) -> list[Figures]:
    """Ours over every other contender, for each kind and epoch, in tokens per second.

    The founding layer was an encoder block: every placement is set against that.
    """
    founding_layer = medians.get("encoder-top", {}).get("founding")
    ratios: list[Figures] = []
    for kind, table in medians.items():
        rivals = {name: figures for name, figures in table.items() if name != "ours"}
        if kind != "lora" and founding_layer is not None:
            rivals["founding"] = founding_layer
        for name, rival in rivals.items():
            for epoch in ("",) if name == "founding" else ("", "_1", "_2"):
                ratio = divide(table.get("ours"), rival, f"tokens_per_second{epoch}")
                ratios.append({"kind": kind, "over": name, "epoch": epoch, "ratio": ratio})
    return ratios


def list_targets(medians: dict[str, dict[str, Figures]]) -> list[Target]:
    """What is asked for, beside what was found."""
    ratios = {(row["kind"], row["over"], row["epoch"]): row["ratio"] for row in list_ratios(medians)}
    wanted = [
        ("lora", "founding", "", 20.0),
        ("encoder-top", "founding", "", 15.0),
        ("decoder-top", "founding", "", 15.0),
        ("both", "founding", "", 15.0),
        ("lora", "trainer", "", 1.5),
        ("decoder-top", "trainer", "_2", 2.5),
        ("encoder-top", "trainer", "_2", 1.5),
    ]
    words = {"": "both epochs", "_1": "epoch 1", "_2": "epoch 2"}
    targets = [
        Target(name=f"{kind}, {words[epoch]}: ours over {rival}", found=ratio, wanted=least)
        for kind, rival, epoch, least in wanted
        if kind in medians
        for ratio in [ratios.get((kind, rival, epoch))]
    ]
    shares = [
        table["ours"][f"peak_share_{epoch}"]
        for table in medians.values()
        if "ours" in table
        for epoch in range(1, EPOCHS + 1)
    ]
    best = max(shares) if shares else None
    return [*targets, Target(name="largest share of the matmul peak, ours", found=best, wanted=0.35)]


def compare_losses(
    options: argparse.Namespace, rows: Sequence[EncodedExample], machine: Figures, notes: list[str]
) -> None:
    """Final losses of the Trainer and ours at equal examples, steps and rates; every repeat is a seed."""
    sizes = TINY if options.tiny else LOSS_SIZES
    notes.append(f"a smaller model, {sizes}, so that more steps fit; {len(rows)} examples, {EPOCHS} epochs")
    tables: dict[str, dict[str, list[Figures]]] = {}
    for kind in options.kinds:
        tell(f"losses: {kind}")
        contenders = [
            Contender(name=name, run=partial(measure_speed, name, kind, sizes, rows, options, machine))
            for name in ("trainer", "ours")
        ]
        tables[kind] = hold(contenders, options.repeats)
    medians = {
        kind: {name: take_medians(found) for name, found in table.items()} for kind, table in tables.items()
    }
    targets = [judge_losses(kind, table) for kind, table in tables.items()]
    for kind, table in tables.items():
        rows_shown = {
            name: {f"seed {seed}": row["final_loss"] for seed, row in enumerate(found)}
            for name, found in table.items()
        }
        columns = {f"seed {seed}": f"seed {seed}" for seed in range(options.repeats)}
        show_table(f"Final loss: {kind}", columns, rows_shown)
    show_targets(targets, options.repeats)
    for note in notes:
        print(f"- {note}")
    write_results(
        options,
        "training-losses",
        machine=machine,
        notes=notes,
        tables=tables,
        medians=medians,
        targets=targets,
    )


def judge_losses(kind: str, table: dict[str, list[Figures]]) -> Target:
    """How far the mean losses are apart; wanted is at most the larger spread over the seeds."""
    losses = {name: [row["final_loss"] for row in found] for name, found in table.items()}
    apart = abs(statistics.mean(losses["ours"]) - statistics.mean(losses["trainer"]))
    spread = max(max(values) - min(values) for values in losses.values())
    return Target(
        name=f"{kind}: difference of mean final losses, within the seeds' spread",
        found=apart,
        wanted=spread,
        sense="at most",
    )


if __name__ == "__main__":
    sys.exit(main())
