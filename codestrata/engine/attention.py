"""Attention that makes each mask once: transformers' SDPA, with what its layers could share shared.

T5 adds one relative position bias to the scores of every layer of a stack. transformers joins it with the
padding mask anew in every layer, and keeps the results (batch x heads x length x length) for backward.

What this does not do: change what is computed; outputs are bit for bit those of transformers' own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

NAME = "codestrata_shared"
JOINED = "codestrata_joined"
"""Attribute of a position bias that holds (mask, the two joined), for as long as the bias lives."""


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    position_bias: torch.Tensor | None = None,
    **keywords: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers' SDPA attention gives; signature as transformers calls it."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if position_bias is not None:
        attention_mask = join(module, position_bias, attention_mask, query, key)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **keywords)


def join(
    module: Any,
    bias: torch.Tensor,
    mask: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
) -> torch.Tensor:
    """Bias where the mask lets pass, else the least number; in the queries' number format.

    The first layer that asks makes it; the others get the same.
    """
    from transformers.integrations.sdpa_attention import create_position_bias_mask

    known = getattr(bias, JOINED, None)
    if known is not None and known[0] is mask and known[1].dtype == query.dtype:
        known_mask: torch.Tensor = known[1]
        return known_mask
    causal = query.shape[2] > 1 and mask is None and module.is_causal
    joined: torch.Tensor = create_position_bias_mask(bias, mask, causal, query, key).to(query.dtype)
    if joined is not bias:  # or it would own itself, and live until garbage is collected
        setattr(bias, JOINED, (mask, joined))
    return joined


def register_attention() -> None:
    """Make transformers know the attention of this module; calling it again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def shared_masks(model: Any) -> Iterator[None]:
    """Inside, a model that attends by SDPA makes its masks once; other implementations stay as they are."""
    before = model.config._attn_implementation
    if before != "sdpa":
        yield
        return
    register_attention()
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
