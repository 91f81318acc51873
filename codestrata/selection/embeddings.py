"""Prompts as vectors: the mean of the frozen base's last hidden states over the prompt's tokens.

    x = 1 / n * sum over the prompt's n tokens of h_token

h are the encoder's outputs, final norm included; of a model without encoder the last block's over the prompt,
final norm included. Padding does not count.

What this does not do: take a component off the base (the caller's), or choose a task.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from codestrata.data.batches import pad_rows
from codestrata.engine.generation import read_prompts
from codestrata.models.families import find_family

TOKENS_AT_ONCE = 8192
"""Tokens of a batch, padding included."""


def embed_prompts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_prompt_tokens: int,
    device: torch.device,
    tokens_at_once: int = TOKENS_AT_ONCE,
    report: Callable[[int], None] | None = None,
) -> np.ndarray:
    """The vectors (prompts, D) in double precision; an empty prompt without any token is 0.

    Args:
        model: the bare base, in the place where components come and go.
        tokenizer: its tokenizer.
        prompts: the texts.
        max_prompt_tokens: longer prompts are cut, as for training and decoding.
        device: where the model is.
        tokens_at_once: the most tokens of a batch; changes last bits alone.
        report: is told how many prompts are done.
    """
    rows = read_prompts(model, tokenizer, prompts, max_prompt_tokens)
    vectors = np.zeros((len(rows), model.get_input_embeddings().weight.shape[1]))
    model.eval()
    done = 0
    with torch.inference_mode():
        for batch in cut_batches([len(row) for row in rows], tokens_at_once):
            vectors[batch] = embed_batch(model, [rows[number] for number in batch], device)
            done += len(batch)
            if report is not None:
                report(done)
    return vectors


def cut_batches(lengths: Sequence[int], tokens_at_once: int) -> list[list[int]]:
    """The rows that have tokens, by length, in batches of at most so many cells; a longer row goes alone.

    >>> cut_batches([5, 0, 2, 3], 6)
    [[2, 3], [0]]
    """
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if not lengths[number]:
            continue
        if not batches or (len(batches[-1]) + 1) * lengths[number] > tokens_at_once:
            batches.append([])
        batches[-1].append(number)
    return batches


def embed_batch(model: Any, rows: Sequence[Sequence[int]], device: torch.device) -> np.ndarray:
    """The vectors of a batch of rows of token ids, none of them empty."""
    input_ids = pad_rows(rows, 0).to(device)
    mask = (torch.arange(input_ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]).to(device)
    reader = model.base_model if find_family(model).is_causal else model.get_encoder()
    # Whatever the filler is, the mask keeps it out.
    states = reader(input_ids=input_ids, attention_mask=mask.long()).last_hidden_state.double()
    means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    vectors: np.ndarray = means.cpu().numpy()
    return vectors
