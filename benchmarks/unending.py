"""Random weights whose answers end: untouched ones repeat one token and hardly ever say end of sequence.

What this does not do: make the answers mean anything.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from codestrata.data.batches import pad_rows

SHARPENING = 4.0
"""Of the decoder's queries: with it the answers go on changing for about as long as the limit."""
SAMPLE = 16
HALVINGS = 30
LARGEST_SCALE = 64.0
SMALLEST_STEP = 1e-5


def untie(model: Any, *, seed: int) -> Any:
    """The model with an output layer of its own and sharper attention in the decoder, in place."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    with torch.no_grad():
        weight = torch.randn(config.vocab_size, config.d_model, generator=generator)
        model.lm_head.weight = nn.Parameter(weight, requires_grad=False)
        for block in model.decoder.block:
            block.layer[0].SelfAttention.q.weight.mul_(SHARPENING)
            block.layer[1].EncDecAttention.q.weight.mul_(SHARPENING)
    config.tie_word_embeddings = False
    config.scale_decoder_outputs = False
    return model


def end_halfway(model: Any, rows: Sequence[Sequence[int]], *, limit: int) -> float:
    """Scale the end-of-sequence row of the output layer so that answers are half of the limit on average.

    Up to its end an answer does not depend on the row. So some prompts are decoded once with a row that never
    wins; from the logits follows where each answer would end at any scale. Returns the scale.
    """
    config, end = model.config, model.config.eos_token_id
    chosen = rows[:SAMPLE]
    input_ids = pad_rows(chosen, config.pad_token_id)
    mask = (torch.arange(input_ids.shape[1]) < torch.tensor([len(row) for row in chosen])[:, None]).long()
    row = model.lm_head.weight[end].clone()
    with torch.inference_mode():
        model.lm_head.weight[end] = 0
        said = torch.full((len(chosen), 1), config.decoder_start_token_id)
        states = model.encoder(input_ids=input_ids, attention_mask=mask)
        cache, best, own = None, [], []
        for _ in range(limit):
            out = model.decoder(
                input_ids=said,
                encoder_hidden_states=states.last_hidden_state,
                encoder_attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            )
            cache, last = out.past_key_values, out.last_hidden_state[:, -1]
            logits = model.lm_head(last)
            best.append(logits.max(-1).values)
            own.append(last @ row)
            said = logits.argmax(-1, keepdim=True)
        scale = find_scale(torch.stack(best, 1), torch.stack(own, 1))
        model.lm_head.weight[end] = scale * row
    return scale


def find_scale(best: torch.Tensor, own: torch.Tensor) -> float:
    """The scale at which rows of logits (rows, steps) end half-way on average, by halving an interval.

    It lies between two scales at which some answer's end moves, never on one: there two tokens would be
    equally likely, and the last bits would decide.
    """
    low, high, limit = 0.0, LARGEST_SCALE, best.shape[1]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        ends = middle * own > best
        lengths = torch.where(ends.any(1), ends.int().argmax(1) + 1, limit)
        low, high = (middle, high) if lengths.float().mean() > limit / 2 else (low, middle)
    turning = (best / own)[own > 0]
    later = turning[turning > high * (1 + SMALLEST_STEP)]
    return (high + float(later.min())) / 2 if later.numel() else high * 2
