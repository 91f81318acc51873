"""Virtual tokens: learned embeddings that a model reads before every prompt, through hooks that come and go.

They stand before the first stack's inputs: a T5's encoder, or the one stack of a decoder-only model. Masks
and positions are widened on the way, so that callers go on as if there were none. Of a decoder-only model
the states of the virtual tokens are left out of what it returns, and they are read once per key-value cache.

Shapes: B rows, P virtual tokens, S tokens, D width.

What this does not do: make, train or store virtual tokens (``components.prompt`` does).
"""

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from codestrata.models.families import find_family

PLACE = "virtual_tokens"
"""Attribute of the first stack that holds the module while it is hung in."""


class VirtualTokens(nn.Module):
    """Embeddings of virtual tokens (P, D); ``is_read`` says whether the last call of the stack read them."""

    is_added = True

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.is_read = False

    @property
    def count(self) -> int:
        """P."""
        return self.embedding.num_embeddings

    def embed(self, like_BSD: torch.Tensor) -> torch.Tensor:
        """The same for every row, (B, P, D), in the number format of the rows' own embeddings."""
        embeddings_PD = self.embedding.weight.to(like_BSD.dtype)
        return embeddings_PD.expand(len(like_BSD), -1, -1)


def find_first_stack(model: Any) -> Any:
    """The module that reads prompts: the owner of the encoder's blocks, or of the only stack's."""
    stacks = find_family(model).stacks
    return model.get_submodule(stacks.get("encoder", stacks["decoder"]).rpartition(".")[0])


def count_virtual_tokens(model: Any) -> int:
    """How many tokens the model reads before every prompt now."""
    tokens = getattr(find_first_stack(model), PLACE, None)
    return tokens.count if isinstance(tokens, VirtualTokens) else 0


def hang_in(model: Any, tokens: VirtualTokens) -> list[RemovableHandle]:
    """Let a bare model read these before every prompt; ``take_out`` undoes it."""
    stacks, first = find_family(model).stacks, find_first_stack(model)
    first.add_module(PLACE, tokens)
    handles = [first.register_forward_pre_hook(put_before, with_kwargs=True)]
    if "encoder" in stacks:
        decoder = model.get_submodule(stacks["decoder"].rpartition(".")[0])
        handles.append(decoder.register_forward_pre_hook(widen_prompt_mask, with_kwargs=True))
    else:
        handles.append(first.register_forward_hook(leave_out))
    return handles


def take_out(model: Any, handles: list[RemovableHandle]) -> None:
    """The model as it was before ``hang_in``."""
    for handle in handles:
        handle.remove()
    delattr(find_first_stack(model), PLACE)


# The hooks are functions of their arguments alone, so that a copy of the model computes the same.


def put_before(
    stack: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A stack's keywords with the virtual tokens before its inputs, unless its cache has them already."""
    tokens: VirtualTokens = getattr(stack, PLACE)
    cache, positions = keywords.get("past_key_values"), keywords.get("position_ids")
    tokens.is_read = cache is None or cache.get_seq_length() == 0
    widened = keywords | {"attention_mask": widen(keywords.get("attention_mask"), tokens.count)}
    if positions is not None:
        widened["position_ids"] = positions + tokens.count
    if tokens.is_read:
        embeddings_BSD = keywords.get("inputs_embeds")
        if embeddings_BSD is None:
            embeddings_BSD = stack.embed_tokens(keywords["input_ids"])
        widened["input_ids"] = None
        widened["inputs_embeds"] = torch.cat([tokens.embed(embeddings_BSD), embeddings_BSD], dim=1)
        if positions is not None:
            first = torch.arange(tokens.count, device=positions.device).expand(len(positions), -1)
            widened["position_ids"] = torch.cat([first, widened["position_ids"]], dim=1)
    return arguments, widened


def widen_prompt_mask(
    decoder: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A decoder's keywords with a mask as long as the encoder's states, those of virtual tokens too."""
    states, mask = keywords.get("encoder_hidden_states"), keywords.get("encoder_attention_mask")
    if states is None or mask is None:
        return arguments, keywords
    return arguments, keywords | {"encoder_attention_mask": widen(mask, states.shape[1] - mask.shape[1])}


def leave_out(stack: Any, arguments: tuple[Any, ...], outputs: Any) -> Any:
    """A stack's outputs without the states of virtual tokens."""
    tokens: VirtualTokens = getattr(stack, PLACE)
    if tokens.is_read:
        outputs.last_hidden_state = outputs.last_hidden_state[:, tokens.count :]
    return outputs


def widen(mask_BS: torch.Tensor | None, count: int) -> torch.Tensor | None:
    """A mask of tokens with ``count`` more before them, none of them closed; ``None`` closes nothing."""
    if mask_BS is None:
        return None
    return torch.cat([mask_BS.new_ones(len(mask_BS), count), mask_BS], dim=1)
