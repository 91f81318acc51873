"""The frozen prefix: the part of a model below the first module that trains, run apart from the rest.

While new blocks train on top of a stack, everything below gives the same states for the same example, epoch
after epoch. ``compute_states`` gives those states; inside ``shortened`` the model starts from them.

What this does not do: keep states (``states``).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from codestrata.models.families import Family, find_attention_kinds, find_family, list_running_blocks
from codestrata.models.virtual import count_virtual_tokens


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """How many running blocks, from the bottom, never change: of the encoder, and of the decoder.

    ``decoder`` is ``None`` where the encoder changes somewhere, so that the decoder sees new states in every
    step. Where it is a number, the encoder is frozen as a whole, its final norm included; of a decoder-only
    model it always is, and ``encoder`` is 0. ``blocks`` are the modules counted, by stack.
    """

    encoder: int
    decoder: int | None
    blocks: Mapping[str, tuple[nn.Module, ...]] = field(repr=False, compare=False)


class States(NamedTuple):
    """What a prefix makes of a batch: encoder states (B, S, D); decoder states (B, T, D) or ``None``.

    Of a decoder-only model S is 0.
    """

    encoder: torch.Tensor
    decoder: torch.Tensor | None


def find_prefix(model: Any) -> Prefix | None:
    """What lies below the first parameter that takes gradients; ``None`` where there is no block below it."""
    family = find_family(model)
    if model.get_input_embeddings().weight.requires_grad:
        return None
    if count_virtual_tokens(model):  # below everything, and not frozen
        return None
    if family.is_causal:
        blocks = list_running_blocks(model, "decoder")
        depth = count_frozen(blocks)
        below = {"decoder": tuple(blocks[:depth])}
        return Prefix(encoder=0, decoder=depth, blocks=below) if depth else None
    running = {stack: list_running_blocks(model, stack) for stack in ("encoder", "decoder")}
    frozen = {stack: tuple(blocks[: count_frozen(blocks)]) for stack, blocks in running.items()}
    encoder, decoder = len(frozen["encoder"]), len(frozen["decoder"])
    if encoder < len(running["encoder"]) or not is_frozen(find_norm(family, model, "encoder")):
        return Prefix(encoder=encoder, decoder=None, blocks=frozen) if encoder else None
    return Prefix(encoder=encoder, decoder=decoder, blocks=frozen)


def has_mixed_attention(model: Any) -> bool:
    """Whether blocks differ in what they look at, so that each must stay at its own place in the list."""
    return len(find_attention_kinds(model)) > 1


def count_frozen(blocks: Sequence[nn.Module]) -> int:
    """Blocks before the first that trains."""
    return next((place for place, block in enumerate(blocks) if not is_frozen(block)), len(blocks))


def is_frozen(module: nn.Module) -> bool:
    """Whether no parameter in the module takes gradients."""
    return not any(parameter.requires_grad for parameter in module.parameters())


@torch.no_grad()
def compute_states(model: Any, prefix: Prefix, batch: Mapping[str, torch.Tensor]) -> States:
    """Run the prefix alone on a batch as ``data.batches.collate`` makes it, inside ``shortened`` too."""
    family = find_family(model)
    if family.is_causal:
        with cut_above(family, model, "decoder", prefix.blocks["decoder"]):
            stack = find_owner(family, model, "decoder")
            decoder = stack(input_ids=batch["input_ids"], use_cache=False).last_hidden_state
        return States(encoder=decoder[:, :0], decoder=decoder)
    mask = batch["attention_mask"]
    with ExitStack() as cuts:
        if prefix.decoder is None:
            cuts.enter_context(cut_above(family, model, "encoder", prefix.blocks["encoder"]))
        encoder = model.encoder(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
    if prefix.decoder is None:
        return States(encoder=encoder, decoder=None)
    with cut_above(family, model, "decoder", prefix.blocks["decoder"]):
        decoder = model.decoder(
            input_ids=model.prepare_decoder_input_ids_from_labels(batch["labels"]),
            encoder_hidden_states=encoder,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
    return States(encoder=encoder, decoder=decoder)


def build_inputs(model: Any, batch: Mapping[str, torch.Tensor], states: States | None) -> dict[str, Any]:
    """The keywords of the model's call for a batch, from its tokens or, inside ``shortened``, its states."""
    from transformers.modeling_outputs import BaseModelOutput

    if find_family(model).is_causal:
        # No mask: padding is on the right, where no token before it looks.
        given = {"input_ids": batch["input_ids"]} if states is None else {"inputs_embeds": states.decoder}
        return {**given, "use_cache": False}
    inputs: dict[str, Any] = {"attention_mask": batch["attention_mask"], "use_cache": False}
    if states is None or states.decoder is None:
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    else:
        inputs["decoder_inputs_embeds"] = states.decoder
    if states is None:
        inputs["input_ids"] = batch["input_ids"]
    elif states.decoder is None:
        inputs["inputs_embeds"] = states.encoder
    else:
        inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=states.encoder)
    return inputs


@contextmanager
def shortened(model: Any, prefix: Prefix | None) -> Iterator[None]:
    """Inside, the model lacks its prefix and takes the states it would make; ``None`` changes nothing."""
    if prefix is None:
        yield
        return
    family = find_family(model)
    if prefix.decoder is None:
        with cut_below(family, model, "encoder", prefix.encoder):
            yield
    else:
        with cut_below(family, model, "decoder", prefix.decoder):
            yield


@contextmanager
def cut_above(family: Family, model: Any, stack: str, blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, the stack ends after these, its first blocks, without its final norm."""
    with replaced_blocks(family, model, stack, blocks):
        owner = find_owner(family, model, stack)
        norm = find_norm(family, model, stack)
        setattr(owner, family.final_norm, nn.Identity())
        try:
            yield
        finally:
            setattr(owner, family.final_norm, norm)


@contextmanager
def cut_below(family: Family, model: Any, stack: str, left_out: int) -> Iterator[None]:
    """Inside, the stack begins after its first ``left_out`` running blocks; positions count as before."""
    blocks = list_running_blocks(model, stack)
    rest = blocks[left_out:]
    with replaced_blocks(family, model, stack, rest):
        if not left_out or not rest:
            yield
            return
        with lent_position_bias(family, blocks[0], rest[0]):
            yield


@contextmanager
def replaced_blocks(family: Family, model: Any, stack: str, blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, these blocks are the stack's."""
    owner, name = find_owner(family, model, stack), family.stacks[stack].rpartition(".")[2]
    before = getattr(owner, name)
    # A decoder-only model runs no more entries of its list than its configuration says: here it has one.
    setattr(owner, name, nn.ModuleList([Chain(family, blocks)] if family.is_causal and blocks else blocks))
    try:
        yield
    finally:
        setattr(owner, name, before)


class Chain(nn.Module):
    """Blocks that stand in a list as one and run one after another."""

    def __init__(self, family: Family, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.family = family
        self.blocks = nn.ModuleList(blocks)

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """What the last block returns."""
        outputs: Any = arguments[0]
        for number, block in enumerate(self.blocks):
            arguments = self.family.carry(arguments, outputs) if number else arguments
            outputs = block(*arguments, **keywords)
        return outputs


@contextmanager
def lent_position_bias(family: Family, first: nn.Module, block: nn.Module) -> Iterator[None]:
    """Inside, ``block`` can stand first in its stack: it has the position bias that ``first`` owns."""
    name, flag = family.position_bias, family.position_bias_flag
    borrowers: list[Any] = []
    if name is not None and flag is not None:
        for path, owner in first.named_modules():
            if hasattr(owner, name):
                borrower = block.get_submodule(path)
                setattr(borrower, name, getattr(owner, name))
                setattr(borrower, flag, True)
                borrowers.append(borrower)
    try:
        yield
    finally:
        for borrower in borrowers:
            delattr(borrower, str(name))
            setattr(borrower, str(flag), False)


def find_owner(family: Family, model: Any, stack: str) -> Any:
    """The module that runs a stack's blocks."""
    return model.get_submodule(family.stacks[stack].rpartition(".")[0])


def find_norm(family: Family, model: Any, stack: str) -> nn.Module:
    """The norm after a stack's last block."""
    norm = getattr(find_owner(family, model, stack), family.final_norm)
    assert isinstance(norm, nn.Module)
    return norm
