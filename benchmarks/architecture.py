"""codet5-small's architecture with random weights, and the floating point operations its training needs.

What this does not do: load trained weights.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from codestrata.data.batches import EncodedExample

PAD, END = 0, 2
SMALL = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
TINY = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}

Kind = Literal["lora", "encoder-top", "decoder-top", "both"]
Role = Literal["skipped", "frozen", "passed", "trained"]
"""Of a part in a step: not computed; forward only; gradients pass through; its weights take gradients too."""

LINEAR_PASSES: dict[Role, int] = {"skipped": 0, "frozen": 1, "passed": 2, "trained": 3}
ATTENTION_PASSES: dict[Role, int] = {"skipped": 0, "frozen": 1, "passed": 3, "trained": 3}
ROLES: dict[Kind, dict[str, Role]] = {
    "lora": {"encoder": "passed", "decoder": "passed"},
    "encoder-top": {"encoder": "frozen", "new encoder": "trained", "decoder": "passed"},
    "decoder-top": {"encoder": "frozen", "decoder": "frozen", "new decoder": "trained"},
    "both": {"encoder": "frozen", "new encoder": "trained", "decoder": "passed", "new decoder": "trained"},
}


def build_model(sizes: dict[str, int], *, vocabulary: int = 32_100, seed: int = 0) -> Any:
    """A T5 with random weights in evaluation mode: ReLU, dropout 0.1, tied embeddings, as codet5-small."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=vocabulary,
        **sizes,
        dropout_rate=0.1,
        feed_forward_proj="relu",
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return T5ForConditionalGeneration(config).eval()


def count_training_flops(
    config: Any, rows: Sequence[EncodedExample], kind: Kind, *, rank: int = 0, cached: bool = False
) -> float:
    """Floating point operations that one pass over the rows needs, a multiply and an add counting as two.

    Counted are matrix products on real tokens, not padding: once forward; once more for the gradient of what
    comes in, above the first trained module; once more for the gradient of trained weights. The two products
    of attention (all pairs, though half of a decoder's are masked) have four on the way back. Norms,
    activations, the optimizer and embedding look-ups are left out. ``cached`` leaves the frozen prefix out.
    """
    return 2.0 * sum(
        count_products(config, len(row.prompt_ids), len(row.target_ids), kind, rank, cached) for row in rows
    )


def count_products(config: Any, read: int, said: int, kind: Kind, rank: int, cached: bool) -> int:
    """Multiplications of one example with ``read`` prompt and ``said`` target tokens; see above."""
    width, inner, hidden = config.d_model, config.num_heads * config.d_kv, config.d_ff
    blocks = {"encoder": config.num_layers, "decoder": config.num_decoder_layers}
    blocks |= {"new encoder": 1, "new decoder": 1}
    linear = {
        "encoder": read * (4 * width * inner + 2 * width * hidden),
        "decoder": said * (6 * width * inner + 2 * width * hidden) + read * 2 * width * inner,
    }
    attention = {"encoder": 2 * read * read * inner, "decoder": 2 * said * (said + read) * inner}
    total = LINEAR_PASSES["passed"] * said * width * config.vocab_size
    for part, role in ROLES[kind].items():
        stack = part.removeprefix("new ")
        played: Role = "skipped" if cached and role == "frozen" else role
        products = LINEAR_PASSES[played] * linear[stack] + ATTENTION_PASSES[played] * attention[stack]
        total += blocks[part] * products
    if kind == "lora":
        sides = {"encoder": 4 * (width + inner) + 2 * (width + hidden)}
        sides["decoder"] = sides["encoder"] + 4 * (width + inner)
        updates = blocks["encoder"] * read * sides["encoder"] + blocks["decoder"] * said * sides["decoder"]
        total += LINEAR_PASSES["trained"] * rank * updates
    return int(total)
