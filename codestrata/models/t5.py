"""T5's decoder one token at a time, for many rows at once, with as few operations as it takes.

Computes what transformers' modules compute with a cache, from the same weights. What it saves: keys and
values are written into memory that is there already, q, k and v come from one product, LoRA is added to the
weights once, the position bias is looked up once, and hardly anything passes through a module's call. Rows
may begin at different steps: a row's keys lie in the columns of a common clock since it began, so that one
slice of position biases serves all rows; a mask closes the columns from before.

Shapes: B rows, N blocks, H heads, K width of a head, D width of the model, L columns, S prompt tokens.

What this does not do: encode, choose tokens (``engine.decoding``), dropout, or call hooks on modules.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from codestrata.models.families import find_weight, list_running_blocks

Map = Callable[[torch.Tensor], torch.Tensor]

COLUMNS_AT_ONCE = 64
"""Memory for keys and values grows by this many tokens."""


@dataclass(frozen=True)
class StepBlock:
    """One decoder block as functions of (B, D): norms are part of the maps that follow them."""

    own: Map
    own_out: Map
    query: Map
    keys_values: Map
    cross_out: Map
    feed: Map
    feed_out: Map


class T5Steps:
    """The decoder of a T5 that takes one token per row and gives the logits of the next, row by row.

    Rows are places: ``admit`` puts new prompts into some, ``keep`` drops some. A row that nobody reads any
    more costs time and does no harm. The weights are those at construction.
    """

    def __init__(
        self,
        model: Any,
        *,
        rows: int,
        prompt_tokens: int,
        limit: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Places for ``rows`` prompts of up to ``prompt_tokens``, answered with up to ``limit`` tokens.

        ``dtype`` is that of the matrix products and of the memory; sums and norms stay as the model is.
        """
        config, blocks = model.config, list_running_blocks(model, "decoder")
        first: Any = blocks[0]
        attention = first.layer[0].SelfAttention
        self.heads, self.width, self.limit, self.dtype = config.num_heads, config.d_kv, limit, dtype
        self.blocks = [read_block(block, dtype) for block in blocks]
        self.embed: Map = model.decoder.embed_tokens
        scale = model.model_dim**-0.5 if config.scale_decoder_outputs else None
        self.head = build_map(model.decoder.final_layer_norm, [model.lm_head], dtype, scale=scale)
        # Biases towards the keys of distance limit-1, ..., 1, 0: a step takes the last of them.
        self.biases_1H1L: torch.Tensor = attention.compute_bias(1, limit, past_seen_tokens=limit - 1).to(
            dtype
        )
        self.device = self.biases_1H1L.device
        self.starts, self.lengths = [0] * rows, [1] * rows
        self.column, self.first = 0, 0
        self.own_B2HLK = self._make_memory(rows, min(limit, COLUMNS_AT_ONCE))
        self.cross_B2HSK = self._make_memory(rows, prompt_tokens)
        self._refresh()

    def admit(self, rows: Sequence[int], states_BSD: torch.Tensor, lengths: Sequence[int]) -> None:
        """Put new prompts into places: their encoder states, padded, of which ``lengths`` count."""
        places = torch.tensor(rows, device=self.device)
        tokens = states_BSD.shape[1]
        for block, memory in zip(self.blocks, self.cross_B2HSK, strict=True):
            found = block.keys_values(states_BSD).view(len(rows), tokens, 2, self.heads, self.width)
            memory[places, :, :, :tokens] = found.permute(0, 2, 3, 1, 4).to(self.dtype)
        for row, length in zip(rows, lengths, strict=True):
            self.starts[row], self.lengths[row] = self.column, length
        self._refresh()

    def keep(self, rows: Sequence[int], *, spare: int = 0, prompt_tokens: int = 1) -> None:
        """Keep these rows, in this order, and have ``spare`` places after them for prompts of that length."""
        self.starts = [self.starts[row] for row in rows] + [self.column] * spare
        self.lengths = [self.lengths[row] for row in rows] + [1] * spare
        self.first = self._find_first()
        tokens = max([prompt_tokens, *self.lengths])
        places = torch.tensor(rows, dtype=torch.long, device=self.device)
        # One block after the other: the old memory goes as the new comes.
        for number in range(len(self.blocks)):
            self.own_B2HLK[number] = self._move(self.own_B2HLK[number], places, spare)
            self.cross_B2HSK[number] = take_rows(self.cross_B2HSK[number][:, :, :, :tokens], places, spare)
        self._shift()
        self._refresh()

    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        """Logits (B, vocabulary) of what follows each row's token."""
        if self.column == self.own_B2HLK[0].shape[3]:
            self._make_room()
        hidden_BD = self.embed(tokens_B)
        bias = self._find_bias()
        columns = self.column + 1 - self.first
        projected = (len(tokens_B), 3, self.heads, 1, self.width)
        for block, own, (keys, values), (cross_keys, cross_values) in zip(
            self.blocks, self.own_B2HLK, self.own_views, self.cross_views, strict=True
        ):
            query_key_value = block.own(hidden_BD).contiguous().view(projected)
            own.narrow(3, self.column, 1).copy_(query_key_value[:, 1:])
            attended = attend(
                query_key_value[:, 0],
                keys.narrow(2, self.first, columns),
                values.narrow(2, self.first, columns),
                bias,
            )
            hidden_BD = hidden_BD + block.own_out(attended)
            query = block.query(hidden_BD).contiguous().view(-1, self.heads, 1, self.width)
            attended = attend(query, cross_keys, cross_values, self.padding_B11S)
            hidden_BD = hidden_BD + block.cross_out(attended)
            hidden_BD = hidden_BD + block.feed_out(block.feed(hidden_BD))
        self.column += 1
        return self.head(hidden_BD)

    def _make_memory(self, rows: int, length: int) -> list[torch.Tensor]:
        # Zeros, not whatever was there: what a mask closes still has to be finite.
        shape = (rows, 2, self.heads, length, self.width)
        return [torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in self.blocks]

    def _find_first(self) -> int:
        """The first column that a row in use can look at."""
        return max(0, min(self.starts, default=self.column), self.column + 1 - self.limit)

    def _move(self, own: torch.Tensor, places: torch.Tensor, spare: int) -> torch.Tensor:
        """The columns still in use of some rows, and room for more."""
        used = take_rows(own[:, :, :, self.first : self.column], places, spare)
        return functional.pad(used, (0, 0, 0, COLUMNS_AT_ONCE))

    def _make_room(self) -> None:
        """Forget the columns that nobody looks at, and make new ones."""
        places = torch.arange(len(self.starts), device=self.device)
        self.first = self._find_first()
        for number, own in enumerate(self.own_B2HLK):
            self.own_B2HLK[number] = self._move(own, places, 0)
        self._shift()
        self._refresh()

    def _shift(self) -> None:
        """Count columns from the first that is still there."""
        self.starts = [max(0, start - self.first) for start in self.starts]
        self.column, self.first = self.column - self.first, 0

    def _refresh(self) -> None:
        """Masks and views, after the rows or their columns have changed."""
        lowest = torch.finfo(self.dtype).min
        starts = torch.tensor(self.starts, device=self.device)[:, None]
        lengths = torch.tensor(self.lengths, device=self.device)[:, None]
        columns = torch.arange(self.own_B2HLK[0].shape[3], device=self.device)
        positions = torch.arange(max(self.lengths, default=1), device=self.device)
        self.closed_B11L = close(columns < starts, lowest, self.dtype)
        self.padding_B11S = close(positions >= lengths, lowest, self.dtype)
        self.own_views = [(memory[:, 0], memory[:, 1]) for memory in self.own_B2HLK]
        used = len(positions)
        self.cross_views = [(memory[:, 0, :, :used], memory[:, 1, :, :used]) for memory in self.cross_B2HSK]

    def _find_bias(self) -> torch.Tensor:
        """What this step adds to its scores: position biases, and the mask where it closes something."""
        self.first = self._find_first()
        columns = self.column + 1 - self.first
        bias = self.biases_1H1L.narrow(3, self.limit - columns, columns)
        if max(self.starts) <= self.first:
            # CUDA's kernels want masks to begin at a multiple of 16 bytes, which a slice need not.
            return bias if self.device.type == "cpu" else bias.clone()
        return bias + self.closed_B11L.narrow(3, self.first, columns)


def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """One query per row and head on its keys, as (B, H K); T5 does not scale the scores."""
    found = functional.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=1.0)
    return found.reshape(len(query), -1)


def close(closed: torch.Tensor, lowest: float, dtype: torch.dtype) -> torch.Tensor:
    """A mask to add to scores (B, 1, 1, columns): the lowest number where closed, else 0."""
    mask = torch.zeros(closed.shape, dtype=dtype, device=closed.device).masked_fill_(closed, lowest)
    return mask[:, None, None]


def take_rows(memory: torch.Tensor, places: torch.Tensor, spare: int) -> torch.Tensor:
    """Copies of some rows, and ``spare`` rows of zeros after them."""
    taken = memory.index_select(0, places)
    return torch.cat([taken, taken.new_zeros(spare, *taken.shape[1:])]) if spare else taken


def read_block(block: Any, dtype: torch.dtype) -> StepBlock:
    """A T5 decoder block as functions; the products of one norm's output are one product."""
    own, cross, feed = block.layer
    attention, over_prompt, dense = own.SelfAttention, cross.EncDecAttention, feed.DenseReluDense
    if hasattr(dense, "wi_0"):
        gate = build_map(feed.layer_norm, [dense.wi_0, dense.wi_1], dtype)
        inner = partial(multiply_gated, gate, dense.act)
    else:
        # In place where possible: the product is ours alone, and a fresh buffer costs page faults.
        act = torch.relu_ if type(dense.act) is nn.ReLU else dense.act
        inner = partial(activate, build_map(feed.layer_norm, [dense.wi], dtype), act)
    return StepBlock(
        own=build_map(own.layer_norm, [attention.q, attention.k, attention.v], dtype),
        own_out=build_map(None, [attention.o], dtype),
        query=build_map(cross.layer_norm, [over_prompt.q], dtype),
        keys_values=build_map(None, [over_prompt.k, over_prompt.v], dtype),
        cross_out=build_map(None, [over_prompt.o], dtype),
        feed=inner,
        feed_out=build_map(None, [dense.wo], dtype),
    )


def activate(inner: Map, act: Map, hidden: torch.Tensor) -> torch.Tensor:
    """The inner side of a feed-forward part."""
    return act(inner(hidden))


def multiply_gated(inner: Map, act: Map, hidden: torch.Tensor) -> torch.Tensor:
    """The inner side of a gated feed-forward part, from both its products beside each other."""
    gate, linear = inner(hidden).chunk(2, dim=-1)
    return act(gate) * linear


def build_map(
    norm: Any, linears: Sequence[nn.Module], dtype: torch.dtype, *, scale: float | None = None
) -> Map:
    """A function: norm, times ``scale``, through linear maps whose outputs come beside each other.

    Matrices are copied where there are several, where LoRA is added to them or ``dtype`` is not theirs. Maps
    whose matrix cannot be had are called as they are.
    """
    weights = [find_weight(linear) for linear in linears]
    known = [weight.to(dtype) for weight in weights if weight is not None]
    multiply: Map
    if len(known) < len(linears):
        multiply = partial(call_beside, linears)
    else:
        multiply = partial(apply_matrix, known[0] if len(known) == 1 else torch.cat(known))
    if norm is None:
        return multiply if dtype == torch.float32 else partial(convert, dtype, multiply)
    return partial(normalize, norm.weight, norm.variance_epsilon, scale, dtype, multiply)


def apply_matrix(weight: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The product of a linear map, whose result may lie transposed in memory.

    A CPU's libraries multiply few rows with a large matrix up to twice as fast where it stands on the left.
    """
    if hidden.dim() == 2 and hidden.device.type == "cpu":
        return (weight @ hidden.t()).t()
    return functional.linear(hidden, weight)


def call_beside(linears: Sequence[nn.Module], hidden: torch.Tensor) -> torch.Tensor:
    """The outputs of several maps beside each other."""
    return torch.cat([linear(hidden) for linear in linears], dim=-1)


def convert(dtype: torch.dtype, multiply: Map, hidden: torch.Tensor) -> torch.Tensor:
    """A map of what has to be converted first."""
    return multiply(hidden.to(dtype))


def normalize(
    weight: torch.Tensor,
    epsilon: float,
    scale: float | None,
    dtype: torch.dtype,
    multiply: Map,
    hidden: torch.Tensor,
) -> torch.Tensor:
    """T5's norm (no mean, no shift), perhaps scaled, and the map that follows."""
    normed = functional.rms_norm(hidden, weight.shape, weight, epsilon)
    if scale is not None:
        normed = normed * scale
    return multiply(normed.to(dtype))
