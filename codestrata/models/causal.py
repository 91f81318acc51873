"""A decoder-only model one token at a time, for many rows at once, each at a place of its own in its text.

A row's keys and values lie in the columns of a common clock, its prompt's just before those of its answer,
and end where all rows end: new prompts can be put beside rows that are half done. What a row does not own a
mask closes, so that padding is always on the left; positions count from a row's own first token.

Shapes: B rows, N blocks, H key and value heads, K width of a head, L columns.

What this does not do: compute blocks by itself (transformers' modules do, with whatever is attached to them),
or choose tokens (``engine.decoding``).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from codestrata.models.families import attends_nearby, find_family, list_running_blocks
from codestrata.models.special import choose_filler
from codestrata.models.t5 import COLUMNS_AT_ONCE, take_rows
from codestrata.models.virtual import count_virtual_tokens


class Columns:
    """Keys and values of every block, written where the clock stands; what transformers takes for its cache.

    ``layers`` is there to be counted: there is room for every block that runs, new ones included.
    """

    def __init__(self, memory: list[torch.Tensor]) -> None:
        self.memory_B2HLK = memory
        self.first, self.column = 0, 0

    @property
    def layers(self) -> list[torch.Tensor]:
        """One entry per block."""
        return self.memory_B2HLK

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token's keys and values (B, H, 1, K); gives all that some row may look at."""
        own = self.memory_B2HLK[layer_idx]
        own[:, 0, :, self.column] = keys[:, :, 0]
        own[:, 1, :, self.column] = values[:, :, 0]
        used = own[:, :, :, self.first : self.column + 1]
        return used[:, 0], used[:, 1]


class CausalSteps:
    """A decoder-only model that takes one token per row and gives the logits of the next, row by row.

    Rows are places: ``admit`` puts new prompts into some, ``keep`` drops some. A row that nobody reads any
    more costs time and does no harm.
    """

    def __init__(
        self, model: Any, *, rows: int, prompt_tokens: int, dtype: torch.dtype = torch.float32
    ) -> None:
        """Places for ``rows`` prompts, the first of up to ``prompt_tokens``; ``dtype`` is the memory's."""
        self.model, self.device, self.dtype = model, model.device, dtype
        self.filler = choose_filler(model)
        blocks: list[Any] = list_running_blocks(model, "decoder")
        config = model.config
        shape = (rows, 2, config.num_key_value_heads, prompt_tokens + COLUMNS_AT_ONCE, find_width(config))
        # Zeros, not whatever was there: what a mask closes still has to be finite.
        self.columns = Columns([torch.zeros(shape, dtype=dtype, device=self.device) for _ in blocks])
        self.starts = [0] * rows
        self._refresh()

    def admit(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Put new prompts into places, all but their last tokens, which the next step takes.

        No prompt may be longer than one that is being answered.
        """
        lengths = [len(prompt) - 1 for prompt in prompts]
        longest = max(lengths)
        if longest > self.columns.column:  # nobody is in the middle of an answer
            self._make_room(longest)
            self.columns.column = longest
        if longest:
            self._write(rows, self._read([prompt[:-1] for prompt in prompts], lengths), longest)
        for row, length in zip(rows, lengths, strict=True):
            self.starts[row] = self.columns.column - length
        self._refresh()

    def keep(self, rows: Sequence[int], *, spare: int = 0) -> None:
        """Keep these rows, in this order, and have ``spare`` places after them."""
        self.starts = [self.starts[row] for row in rows] + [self.columns.column] * spare
        self._move(torch.tensor(rows, dtype=torch.long, device=self.device), spare, COLUMNS_AT_ONCE)

    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        """Logits (B, vocabulary) of what follows each row's token."""
        columns = self.columns
        if columns.column == columns.memory_B2HLK[0].shape[3]:
            self._make_room(COLUMNS_AT_ONCE)
        columns.first = min(self.starts)
        mask = self.open_B11L[..., columns.first : columns.column + 1]
        logits: torch.Tensor = self.model(
            input_ids=tokens_B[:, None],
            # CUDA's kernels want masks to begin at a multiple of 16 bytes, which a slice need not.
            attention_mask=mask if self.device.type == "cpu" else mask.clone(),
            position_ids=columns.column - self.starts_B1,
            past_key_values=columns,
            use_cache=True,
        ).logits
        columns.column += 1
        return logits[:, -1]

    def _read(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[torch.Tensor]:
        """Keys and values (B, 2, H, longest, K) of every block, each row's at the right end."""
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache()
        ids = [torch.tensor(prompt, dtype=torch.long) for prompt in prompts]
        self.model(  # filled on the right, where no token before looks: no mask is needed
            input_ids=pad_sequence(ids, batch_first=True, padding_value=self.filler).to(self.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        longest = max(lengths)
        places = torch.arange(longest) - longest + torch.tensor(lengths)[:, None]
        places_B1L1 = places.clamp(min=0)[:, None, :, None].to(self.device)
        found = []
        layers: list[Any] = cache.layers
        for layer in layers:
            both = torch.stack([layer.keys, layer.values], dim=1)
            found.append(both.gather(3, places_B1L1[:, None].expand(-1, *both.shape[1:3], -1, both.shape[4])))
        return found

    def _write(self, rows: Sequence[int], found: Sequence[torch.Tensor], longest: int) -> None:
        places = torch.tensor(rows, device=self.device)
        column = self.columns.column
        for own, new in zip(self.columns.memory_B2HLK, found, strict=True):
            own[places, :, :, column - longest : column] = new.to(self.dtype)

    def _make_room(self, columns: int) -> None:
        """Forget the columns that nobody looks at, and have so many new ones."""
        places = torch.arange(len(self.starts), device=self.device)
        self._move(places, 0, max(columns, COLUMNS_AT_ONCE))

    def _move(self, places: torch.Tensor, spare: int, room: int) -> None:
        """Some rows in their order, spare ones after them, and columns counted from the first still used."""
        columns = self.columns
        first = min([columns.column, *self.starts])
        for number, own in enumerate(columns.memory_B2HLK):  # the old memory goes as the new comes
            used = take_rows(own[:, :, :, first : columns.column], places, spare)
            columns.memory_B2HLK[number] = functional.pad(used, (0, 0, 0, room))
        self.starts = [start - first for start in self.starts]
        columns.column -= first
        columns.first = 0
        self._refresh()

    def _refresh(self) -> None:
        """Mask and first positions, after the rows or their columns have changed."""
        self.starts_B1 = torch.tensor(self.starts, device=self.device)[:, None]
        columns = torch.arange(self.columns.memory_B2HLK[0].shape[3], device=self.device)
        self.open_B11L = (columns >= self.starts_B1)[:, None, None]


def find_width(config: Any) -> int:
    """Numbers of one head."""
    stated: int | None = getattr(config, "head_dim", None)
    return int(config.hidden_size // config.num_attention_heads) if stated is None else stated


def can_step(model: Any) -> bool:
    """Whether ``CausalSteps`` gives what ``generate`` gives: one kind of attention, by SDPA, real tokens."""
    return (
        find_family(model).is_causal
        and not attends_nearby(model)
        and model.config._attn_implementation == "sdpa"
        and not count_virtual_tokens(model)
    )
