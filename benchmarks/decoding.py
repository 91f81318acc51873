"""How fast prompts are answered: ``generate`` one by one and batched, CTranslate2, and ours.

    python benchmarks/decoding.py [--prompts 128] [--batch-size 64] [--max-new-tokens 96]

Greedy everywhere. Two tables: codet5-small's architecture with random weights on real functions, and the
shipped pocket base with a LoRA component on kata prompts. CTranslate2, which knows no components, runs the
model with the component merged into it.

What this does not do: score the answers, or assert a time.
"""

import argparse
import copy
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from architecture import SMALL, TINY, build_model
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
from corpus import DATA_FOLDER, Source, load_corpus
from machine import describe_machine, prepare_process, set_imports_aside, start_fresh
from unending import end_halfway, untie

from codestrata.components.lora import build_lora
from codestrata.data.batches import encode_examples, pad_rows
from codestrata.data.tasks import load_task
from codestrata.data.tokens import encode_texts
from codestrata.engine.generation import generate
from codestrata.engine.host import keep_buffers
from codestrata.engine.precision import choose_precision
from codestrata.models.loading import load_base
from codestrata.settings.components import LoraSettings
from codestrata.settings.sections import BaseSettings, DecodingSettings, TrainingSettings
from codestrata.settings.tasks import TaskSettings
from codestrata.training import fit

CPU = torch.device("cpu")
CONTENDERS = ("one by one", "batched", "ctranslate2", "ours", "ours, bf16")
KATA_BATCH, KATA_RATE = 24, 7e-3
COLUMNS = {
    "tokens_per_second": "tokens/s",
    "prompts_per_second": "prompts/s",
    "seconds": "seconds",
    "prompts": "prompts",
    "mean_tokens": "mean tokens",
    "unfinished": "cut at the limit",
    "identical": "same as batched, rows",
    "same_tokens": "tokens",
}

Answers = list[list[int]]


@dataclass(kw_only=True)
class Bout:
    """A model with its prompts, and how they are to be decoded; ``answers`` are those of the first repeat."""

    title: str
    model: Any
    merged: Any
    tokenizer: Any
    prompts: list[str]
    rows: list[list[int]]
    settings: DecodingSettings
    max_prompt_tokens: int
    notes: list[str]
    answers: dict[str, Answers] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 whatever was found."""
    options = read_options(arguments)
    prepare_process(options.threads)
    set_imports_aside()
    machine = describe_machine(peak_size=options.peak_size, peak_seconds=options.peak_seconds)
    tables: dict[str, dict[str, list[Figures]]] = {}
    notes = ["seconds of ours hold tokenizing and detokenizing, those of the others do not"]
    for prepare in (prepare_random, prepare_pocket):
        bout = prepare(options)
        with tempfile.TemporaryDirectory() as folder:
            tables[bout.title] = hold(list_contenders(bout, options, Path(folder)), options.repeats)
        for name, found in tables[bout.title].items():
            comparison = compare_answers(bout, name)
            tables[bout.title][name] = [row | comparison for row in found]
        notes += [f"{bout.title}: {note}" for note in bout.notes]
    medians = {
        title: {name: take_medians(found) for name, found in table.items()} for title, table in tables.items()
    }
    for title, table in medians.items():
        show_table(f"Decoding: {title}", COLUMNS, table)
    targets = list_targets(medians)
    show_targets(targets, options.repeats)
    for note in notes:
        print(f"- {note}")
    write_results(
        options,
        "decoding",
        machine=machine,
        notes=notes,
        tables=tables,
        medians=medians,
        targets=targets,
    )
    return 0


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the options' defaults take about five minutes on two cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_options(parser, "decoding")
    parser.add_argument("--prompts", type=read_count, default=128, help="to decode")
    parser.add_argument("--one-by-one", type=read_count, default=12, help="prompts of that contender")
    parser.add_argument("--batch-size", type=read_count, default=64, help="prompts decoded together, at most")
    parser.add_argument("--max-prompt-tokens", type=read_count, default=128, help="prompts are cut at")
    parser.add_argument("--max-new-tokens", type=read_count, default=96, help="answers are cut at")
    parser.add_argument("--training-steps", type=read_count, default=60, help="of pocket's LoRA component")
    parser.add_argument(
        "--bf16",
        choices=("auto", "yes", "no"),
        default="auto",
        help="measure ours in bf16 too; auto: if fast",
    )
    parser.add_argument("--data", choices=get_args(Source), default="auto", help="where functions are from")
    parser.add_argument("--data-folder", type=Path, default=DATA_FOLDER, help="of the data files")
    parser.add_argument("--seed", type=int, default=0, help="of the order of functions")
    parser.add_argument("--tiny", action="store_true", help="a toy model, to try the script")
    return parser.parse_args(arguments)


def prepare_random(options: argparse.Namespace) -> Bout:
    """codet5-small's architecture with random weights that end their answers at different times."""
    corpus = load_corpus(options.data, options.data_folder, seed=options.seed)
    model = untie(build_model(TINY if options.tiny else SMALL), seed=1)
    prompts = list(corpus.functions[: options.prompts])
    rows = [ids[: options.max_prompt_tokens] for ids in encode_texts(prompts, corpus.tokenizer)]
    scale = end_halfway(model, rows, limit=options.max_new_tokens)
    return Bout(
        title="toy, random" if options.tiny else "codet5-small, random",
        model=model,
        merged=model,
        tokenizer=corpus.tokenizer,
        prompts=prompts,
        rows=rows,
        settings=build_settings(options),
        max_prompt_tokens=options.max_prompt_tokens,
        notes=[
            corpus.source,
            "random weights with an output layer of their own; sharper attention in the decoder, so that "
            f"answers do not repeat one token; the end-of-sequence row is scaled by {scale:.3g}, so that "
            "answers end at different times, half of the limit on average",
        ],
    )


def prepare_pocket(options: argparse.Namespace) -> Bout:
    """The pocket base with a LoRA component trained for a few steps on kata."""
    from peft import PeftModel

    base = load_base(BaseSettings(name="pocket"), CPU)
    examples = KATA_BATCH * options.training_steps
    task = load_task(
        TaskSettings(
            name="python", train_examples=examples, validation_examples=0, test_examples=options.prompts
        )
    )
    limits = {"max_prompt_tokens": options.max_prompt_tokens, "max_target_tokens": options.max_new_tokens}
    rows = encode_examples(task.train, base.tokenizer, **limits)
    component = build_lora(base.model, LoraSettings(rank=16), fingerprint=base.fingerprint)
    component.attach("python", seed=0)
    tell(f"training pocket's component for {options.training_steps} steps")
    settings = TrainingSettings(
        steps=options.training_steps, batch_size=KATA_BATCH, precision="fp32", decay="cosine"
    )
    fit(
        component,
        "python",
        rows,
        settings,
        learning_rate=KATA_RATE,
        seed=0,
        pad_id=base.tokenizer.pad_token_id,
        device=CPU,
    )
    component.deactivate()
    plain = copy.deepcopy(base.model)
    with tempfile.TemporaryDirectory() as folder:
        component.write("python", Path(folder), {})
        merged = PeftModel.from_pretrained(plain, folder).merge_and_unload().eval()
    component.activate("python")
    prompts = [example.prompt for example in task.test]
    return Bout(
        title="pocket with LoRA",
        model=base.model,
        merged=merged,
        tokenizer=base.tokenizer,
        prompts=prompts,
        rows=[ids[: options.max_prompt_tokens] for ids in encode_texts(prompts, base.tokenizer)],
        settings=build_settings(options),
        max_prompt_tokens=options.max_prompt_tokens,
        notes=[
            f"kata prompts; LoRA of rank 16 after {options.training_steps} steps, merged into the base for "
            "CTranslate2 only (merging rounds: its answers may differ)"
        ],
    )


def build_settings(options: argparse.Namespace) -> DecodingSettings:
    """Greedy, fp32."""
    return DecodingSettings(batch_size=options.batch_size, max_new_tokens=options.max_new_tokens)


def list_contenders(bout: Bout, options: argparse.Namespace, folder: Path) -> list[Contender]:
    """Who decodes; CTranslate2 only where it is installed, bf16 only where asked for or fast."""
    few = sorted(range(len(bout.rows)), key=lambda row: len(bout.rows[row]))
    few = few[:: max(1, len(few) // options.one_by_one)][: options.one_by_one]  # short and long ones
    everything = list(range(len(bout.rows)))
    decoders: dict[str, tuple[Callable[[Sequence[int]], Answers], list[int]]] = {
        "one by one": (partial(decode_in_batches, bout, 1), few),
        "batched": (partial(decode_in_batches, bout, bout.settings.batch_size), everything),
    }
    if importlib.util.find_spec("ctranslate2") is None:
        bout.notes.append("CTranslate2 is not installed (pip install 'codestrata[bench]'): left out")
    else:
        translator = convert(bout, folder, threads=torch.get_num_threads())
        decoders["ctranslate2"] = (partial(decode_with_ctranslate2, bout, translator), everything)
    decoders["ours"] = (partial(decode_ours, bout, "fp32"), everything)
    if options.bf16 == "yes" or (options.bf16 == "auto" and choose_precision("auto", CPU) == "bf16"):
        decoders["ours, bf16"] = (partial(decode_ours, bout, "bf16"), everything)
    return [
        Contender(
            name=name,
            run=partial(measure, bout, name, decode, chosen),
            warm_up=partial(decode, chosen[:2]),
        )
        for name, (decode, chosen) in decoders.items()
    ]


def measure(
    bout: Bout,
    name: str,
    decode: Callable[[Sequence[int]], Answers],
    chosen: Sequence[int],
    repeat: int,
) -> Figures:
    """Decode the chosen prompts once; the answers of the first repeat are kept."""
    start_fresh()
    if name.startswith("ours"):
        keep_buffers()
    started = time.perf_counter()
    answers = decode(chosen)
    seconds = time.perf_counter() - started
    found: Answers = [[] for _ in bout.rows]
    for row, ids in zip(chosen, answers, strict=True):
        found[row] = ids
    first = bout.answers.setdefault(name, found)
    lengths = [len(ids) for ids in answers]
    end = bout.model.config.eos_token_id
    return {
        "seconds": seconds,
        "prompts": len(chosen),
        "tokens": sum(lengths),
        "tokens_per_second": sum(lengths) / seconds,
        "prompts_per_second": len(chosen) / seconds,
        "mean_tokens": statistics.mean(lengths),
        "unfinished": sum(end not in ids for ids in answers),
        "repeats_itself": found == first,
    }


def decode_in_batches(bout: Bout, size: int, chosen: Sequence[int]) -> Answers:
    """Plain ``generate`` of transformers, in batches of prompts of like length."""
    from transformers import GenerationConfig

    config = bout.model.config
    settings = GenerationConfig(
        max_new_tokens=bout.settings.max_new_tokens,
        num_beams=1,
        do_sample=False,
        decoder_start_token_id=config.decoder_start_token_id,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
    )
    answers: dict[int, list[int]] = {}
    order = sorted(chosen, key=lambda row: (len(bout.rows[row]), row))
    with torch.inference_mode():
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            input_ids = pad_rows([bout.rows[row] for row in batch], config.pad_token_id)
            lengths = torch.tensor([len(bout.rows[row]) for row in batch])
            mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
            found = bout.model.generate(input_ids=input_ids, attention_mask=mask, generation_config=settings)[
                :, 1:
            ]
            for row, ids in zip(batch, found.tolist(), strict=True):
                answers[row] = cut(ids, config.eos_token_id)
    return [answers[row] for row in chosen]


def cut(ids: list[int], end: int) -> list[int]:
    """The ids up to and with the end-of-sequence token."""
    return ids[: ids.index(end) + 1] if end in ids else ids


def decode_ours(bout: Bout, precision: Any, chosen: Sequence[int]) -> Answers:
    """``codestrata.engine.generation.generate``."""
    settings = DecodingSettings(
        batch_size=bout.settings.batch_size,
        max_new_tokens=bout.settings.max_new_tokens,
        precision=precision,
    )
    completions = generate(
        bout.model,
        bout.tokenizer,
        [bout.prompts[row] for row in chosen],
        settings,
        max_prompt_tokens=bout.max_prompt_tokens,
        device=CPU,
    )
    return [list(completion.ids) for completion in completions]


def convert(bout: Bout, folder: Path, *, threads: int) -> Any:
    """CTranslate2's translator of the merged model."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    tell("converting to CTranslate2")
    bout.merged.save_pretrained(folder / "model")
    bout.tokenizer.save_pretrained(folder / "model")
    TransformersConverter(str(folder / "model")).convert(str(folder / "converted"))
    return ctranslate2.Translator(
        str(folder / "converted"),
        device="cpu",
        compute_type="float32",
        inter_threads=1,
        intra_threads=threads,
    )


def decode_with_ctranslate2(bout: Bout, translator: Any, chosen: Sequence[int]) -> Answers:
    """CTranslate2's greedy search at the same batch limit, which orders prompts by length itself."""
    tokenizer = bout.tokenizer
    results = translator.translate_batch(
        [tokenizer.convert_ids_to_tokens(bout.rows[row]) for row in chosen],
        max_batch_size=bout.settings.batch_size,
        beam_size=1,
        max_input_length=0,
        max_decoding_length=bout.settings.max_new_tokens,
        return_end_token=True,
    )
    return [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]


def compare_answers(bout: Bout, name: str) -> Figures:
    """How many answers are the same as batched ``generate``'s, and the share of its tokens said in place."""
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(bout.answers[name], bout.answers["batched"], strict=True)
        if ours
    ]
    equal = sum(ours == theirs for ours, theirs in pairs)
    same = sum(first == second for pair in pairs for first, second in zip(*pair, strict=False))
    return {
        "identical": f"{equal} of {len(pairs)}",
        "identical_share": equal / len(pairs),
        "same_tokens": f"{same / sum(len(theirs) for _, theirs in pairs):.2%}",
    }


def list_targets(medians: dict[str, dict[str, Figures]]) -> list[Target]:
    """What is asked for, beside what was found."""
    targets = []
    for title, table in medians.items():
        for rival, wanted in (("one by one", 10.0), ("batched", 1.5)):
            ratio = divide(table["ours"], table[rival], "tokens_per_second")
            targets.append(Target(name=f"{title}: ours over {rival}, tokens/s", found=ratio, wanted=wanted))
        share = table["ours"]["identical_share"]
        targets.append(Target(name=f"{title}: share of answers as batched", found=share, wanted=1.0))
    return targets


if __name__ == "__main__":
    sys.exit(main())
