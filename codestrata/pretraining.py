"""How the shipped pocket base was made: ``codestrata pretrain pocket``.

It learns, from kata problems of the training split alone, statement -> pivot program, and span denoising of
Python, JavaScript and Lua text. So it knows the problems and the alphabets, and cannot answer in a language.

What this does not do: run for a user; the result is shipped, and a run only loads it.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from codestrata.components.weights import WeightsComponent
from codestrata.data.batches import encode_examples
from codestrata.data.kata.phrases import phrase_program
from codestrata.data.kata.printers import print_program
from codestrata.data.kata.problems import LANGUAGES, Problem, build_example, choose_problems
from codestrata.data.kata.programs import pick
from codestrata.data.objectives import LINES, corrupt_spans
from codestrata.engine.generation import generate
from codestrata.files import hash_json, write_json
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.pocket import build_model, build_tokenizer
from codestrata.progress import Progress
from codestrata.records import Example
from codestrata.settings.sections import DecodingSettings, TrainingSettings
from codestrata.training import fit

LOG_FILE = "pretraining.json"
DIALECT_TAGS = ("pivot", "pivot", "zeta", "quill", "amber", "notes")
"""Words in the place where tasks name their language: several, so that the base does not depend on one."""


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings:
    """Everything that decides the pocket base."""

    seed: int = 1
    problems: int = 20000
    """Kata problems of the training split."""
    statements: int = 140000
    """Examples statement -> pivot program."""
    denoising: int = 30000
    """Examples of span denoising."""
    batch_size: int = 32
    learning_rates: tuple[float, ...] = (2.5e-3, 1.5e-3)
    """Peak of each pass over the examples; every pass falls to 0 and has an order of its own."""


def build_corpus(settings: PretrainingSettings) -> list[Example]:
    """The training examples, drawn from problems of the training split only."""
    problems = choose_problems(settings.seed, {"train": settings.problems})["train"]
    rng = Random(f"pretraining {settings.seed}")
    statements = [build_statement(pick(rng, problems), rng, index) for index in range(settings.statements)]
    denoising = [build_denoising(pick(rng, problems), rng, index) for index in range(settings.denoising)]
    return statements + denoising


def build_statement(problem: Problem, rng: Random, index: int) -> Example:
    """A fresh phrasing of the problem -> its pivot program."""
    return Example(
        identifier=f"statement-{index}",
        prompt=f"{pick(rng, DIALECT_TAGS)}: {phrase_program(problem.program, rng)}",
        target=print_program(problem.program, "pivot"),
    )


def build_denoising(problem: Problem, rng: Random, index: int) -> Example:
    """The problem's program in a real language with whole lines masked -> the masked lines."""
    text = print_program(problem.program, pick(rng, LANGUAGES))
    rate, mean_length = 0.15 + 0.45 * rng.random(), 1 + 3 * rng.random()
    source, target = corrupt_spans(text, rng, rate=rate, mean_length=mean_length, pieces=LINES)
    return Example(identifier=f"denoising-{index}", prompt=source, target=target)


def pretrain_pocket(
    folder: Path, settings: PretrainingSettings, progress: Progress | None = None
) -> dict[str, Any]:
    """Train the base on the CPU and write model, tokenizer and log to ``folder``; gives the log."""
    corpus = build_corpus(settings)
    tokenizer = build_tokenizer(list_texts(corpus))
    torch.manual_seed(settings.seed)
    model = build_model(len(tokenizer))
    rows = encode_examples(corpus, tokenizer, max_prompt_tokens=512, max_target_tokens=512)
    component = WeightsComponent(model)
    component.attach("pocket", seed=settings.seed)
    training = TrainingSettings(epochs=1, batch_size=settings.batch_size, decay="cosine", weight_decay=0.01)
    logs = [
        fit(
            component,
            "pocket",
            rows,
            training,
            learning_rate=learning_rate,
            seed=settings.seed + number,
            pad_id=tokenizer.pad_token_id,
            device=torch.device("cpu"),
            progress=progress,
            label=f"pretrain pocket, pass {number + 1}",
        )
        for number, learning_rate in enumerate(settings.learning_rates)
    ]
    model.generation_config.max_length = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {
        "command": f"codestrata pretrain pocket --out FOLDER --threads {torch.get_num_threads()}",
        "settings": asdict(settings),
        "data_fingerprint": hash_json([[example.prompt, example.target] for example in corpus]),
        "base_fingerprint": fingerprint_model(model),
        "quality": measure_quality(model, tokenizer),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": sum(log.steps for log in logs),
        "seconds": round(sum(log.seconds for log in logs), 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "losses": thin([loss for log in logs for loss in log.losses], every=50),
    }
    write_json(folder / LOG_FILE, record)
    return json.loads(json.dumps(record))  # type: ignore[no-any-return]


def measure_quality(model: Any, tokenizer: Any, *, problems: int = 300) -> dict[str, float]:
    """Share of held-out problems whose pivot program the base writes exactly, by split; greedy decoding."""
    chosen = choose_problems(0, {"test": problems, "unseen": problems // 3})
    quality = {}
    for split, held_out in chosen.items():
        examples = [build_example(problem, "pivot") for problem in held_out]
        completions = generate(
            model,
            tokenizer,
            [example.prompt for example in examples],
            DecodingSettings(max_new_tokens=128),
            max_prompt_tokens=512,
            device=torch.device("cpu"),
        )
        exact = sum(done.text == example.target for done, example in zip(completions, examples, strict=True))
        quality[f"pivot_exact_match_{split}"] = exact / len(examples)
    return quality


def list_texts(corpus: Sequence[Example]) -> list[str]:
    """What the tokenizer learns from: every text of the corpus, sentinels taken out."""
    texts = [text for example in corpus for text in (example.prompt, example.target)]
    return [text for text in texts if "<extra_id_" not in text] + [
        part for text in texts if "<extra_id_" in text for part in split_sentinels(text)
    ]


def split_sentinels(text: str) -> list[str]:
    """The stretches of text between sentinels."""
    import re

    return [part for part in re.split(r"<extra_id_\d+>", text) if part]


def thin(losses: Sequence[float], *, every: int) -> list[float]:
    """Mean losses of consecutive stretches of ``every`` steps, to four places."""
    return [
        round(sum(losses[start : start + every]) / len(losses[start : start + every]), 4)
        for start in range(0, len(losses), every)
    ]
