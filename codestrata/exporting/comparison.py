"""Two models asked the same prompts: how far their logits are apart, and whether they answer the same.

What this does not do: judge what is too far (``exports`` does).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two models made of the same prompts.

    ``largest_difference`` is that of two logits in the same place, over all prompts, all tokens of the first
    model's answers and the whole vocabulary; ``largest_logit`` is the first model's, without its sign.
    ``same_answers`` counts the prompts that both answered with the same tokens.
    """

    prompts: int
    tokens: int
    largest_difference: float
    largest_logit: float
    same_answers: int


def compare_models(
    first: Any, second: Any, rows: Sequence[Sequence[int]], *, max_new_tokens: int
) -> Comparison:
    """Ask both models the prompts ``rows`` (token ids), greedily and one by one, with ``generate``."""
    differences, sizes, tokens, same = [], [], 0, 0
    with torch.inference_mode():
        for row in rows:
            answer = answer_greedily(first, row, max_new_tokens)
            same += torch.equal(answer, answer_greedily(second, row, max_new_tokens))
            wanted, found = (read_logits(model, row, answer) for model in (first, second))
            differences.append((wanted - found).abs().max())
            sizes.append(wanted.abs().max())
            tokens += count_new_tokens(first, row, answer)
    return Comparison(
        prompts=len(rows),
        tokens=tokens,
        largest_difference=float(torch.stack(differences).max()),  # NaN stays NaN
        largest_logit=float(torch.stack(sizes).max()),
        same_answers=same,
    )


def answer_greedily(model: Any, row: Sequence[int], max_new_tokens: int) -> torch.Tensor:
    """The ids of the likeliest tokens after a prompt, shape (1, length).

    First comes the start token, or from a model without encoder the prompt itself.
    """
    input_ids = torch.tensor([row])
    answer: torch.Tensor = model.generate(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=max_new_tokens,
        num_beams=1,
        do_sample=False,
    )
    return answer


def count_new_tokens(model: Any, row: Sequence[int], answer: torch.Tensor) -> int:
    """How many tokens of an answer are the model's own."""
    return int(answer.shape[1]) - (1 if model.config.is_encoder_decoder else len(row))


def read_logits(model: Any, row: Sequence[int], answer: torch.Tensor) -> torch.Tensor:
    """What the model finds of every next token along an answer, in float32."""
    if model.config.is_encoder_decoder:
        inputs = {"input_ids": torch.tensor([row]), "decoder_input_ids": answer}
    else:
        inputs = {"input_ids": answer}
    logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits.float()
