"""The shipped base: a small T5 that knows kata problems in a pseudo-language and no real language's answers.

``codestrata pretrain pocket`` made it (see ``pretraining``); this module holds its architecture, its
byte-level BPE tokenizer and the place of its files.

What this does not do: train it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

POCKET = "pocket"
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(32))
VOCABULARY = 1024
PIECES = r"\n *| *[0-9]+|[^\n0-9]+"
"""Merges may cross words but neither lines nor numbers: frequent stretches of a line become one token."""


def find_pocket() -> Path:
    """The folder of the shipped base, inside the package."""
    return Path(__file__).parent / "pocket_base"


def build_tokenizer(texts: Iterable[str]) -> Any:
    """A byte-level BPE tokenizer of 1,024 tokens learned from the texts; every string round-trips."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, UNKNOWN, *SENTINELS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        extra_special_tokens=list(SENTINELS),
        model_max_length=512,
    )


def build_model(vocabulary: int) -> Any:
    """A newborn T5 of 3 + 3 blocks and width 128, 1.5 million parameters; draws from torch's generator."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=vocabulary,
        d_model=128,
        d_kv=32,
        d_ff=512,
        num_layers=3,
        num_decoder_layers=3,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="relu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,  # type: ignore[call-arg]
    )
    return T5ForConditionalGeneration(config)
