"""Real Python functions as token ids, from local data files or from the packages installed here.

What this does not do: download anything.
"""

import ast
import json
import statistics
import sysconfig
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from codestrata.data.batches import EncodedExample
from codestrata.data.tokens import encode_texts

Source = Literal["auto", "codesearchnet", "cosqa", "packages"]

DATA_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = {"codesearchnet": "codesearchnet/python/test.jsonl", "cosqa": "cosqa/python.jsonl"}
TOKENIZER_FOLDER = "codet5-tokenizer"
VOCABULARY = 32_000
FEWEST_LINES = 3
PACKAGE_FUNCTIONS = 6000
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")
"""As in codet5-small, whose padding is 0 and whose end of sequence is 2."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Functions in a shuffled order, the tokenizer they are read with, and where both come from."""

    functions: tuple[str, ...]
    tokenizer: Any
    source: str


def load_corpus(source: Source, folder: Path = DATA_FOLDER, *, seed: int = 0) -> Corpus:
    """Functions in an order that follows from ``seed``; ``auto`` takes CodeSearchNet's where they are."""
    chosen = source
    if source == "auto":
        chosen = "codesearchnet" if (folder / FILES["codesearchnet"]).is_file() else "packages"
    if chosen == "packages":
        functions = read_packages(Path(sysconfig.get_paths()["purelib"]), seed)
        place = f"functions of {FEWEST_LINES} lines or more in the installed packages"
    else:
        with (folder / FILES[chosen]).open(encoding="utf-8") as lines:
            functions = [json.loads(line)["code"] for line in lines]
        place = f"functions in {FILES[chosen]}"
    Random(seed).shuffle(functions)
    tokenizer, maker = load_tokenizer(folder / TOKENIZER_FOLDER, functions)
    return Corpus(functions=tuple(functions), tokenizer=tokenizer, source=f"{place}, {maker}")


def read_packages(folder: Path, seed: int) -> list[str]:
    """Up to 6,000 functions out of the Python files in a folder, taken in a shuffled order."""
    paths = sorted(folder.rglob("*.py"))
    Random(seed).shuffle(paths)
    functions: list[str] = []
    for path in paths:
        if len(functions) >= PACKAGE_FUNCTIONS:
            break
        functions += read_functions(path)
    return functions


def read_functions(path: Path) -> Iterator[str]:
    """The functions of three lines or more in a file; none where it cannot be parsed."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return
    lines = text.split("\n")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            body = lines[node.lineno - 1 : node.end_lineno]
            if len(body) >= FEWEST_LINES:
                yield textwrap.dedent("\n".join(body))


def load_tokenizer(folder: Path, functions: Sequence[str]) -> tuple[Any, str]:
    """The tokenizer of codet5-small where its files are, else one of its kind learned here; which it is."""
    from transformers import PreTrainedTokenizerFast

    if folder.is_dir():
        from transformers import RobertaTokenizerFast

        files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
        backend, maker = RobertaTokenizerFast(**files).backend_tokenizer, "codet5-small's tokenizer"
    else:
        backend, maker = learn_tokenizer(functions), "a byte-level BPE of 32,000 tokens learned from them"
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names), maker


def learn_tokenizer(texts: Sequence[str]) -> Any:
    """A byte-level BPE tokenizer with codet5-small's special tokens, learned from the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    frame = [(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=frame)
    return tokenizer


def encode_copies(corpus: Corpus, count: int, *, limit: int) -> list[EncodedExample]:
    """The first functions as examples whose target is the prompt itself, cut at the limit."""
    encoded = encode_texts(list(corpus.functions[:count]), corpus.tokenizer)
    return [
        EncodedExample(identifier=str(number), prompt_ids=tuple(ids[:limit]), target_ids=tuple(ids[:limit]))
        for number, ids in enumerate(encoded)
    ]


def describe_lengths(corpus: Corpus, *, limit: int) -> str:
    """Mean and median tokens of all functions as they are used, and how many were cut."""
    lengths = [len(ids) for ids in encode_texts(list(corpus.functions), corpus.tokenizer)]
    cut = [min(length, limit) for length in lengths]
    over = sum(length > limit for length in lengths) / len(lengths)
    return (
        f"{len(lengths)} {corpus.source}: mean {statistics.mean(cut):.0f} tokens after cutting at {limit}, "
        f"median {statistics.median(cut):.0f}, {over:.0%} were cut"
    )
