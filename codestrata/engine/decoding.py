"""Greedy decoding of our own: places for as many prompts as a batch has, filled again as answers end.

The longest prompts go first, so that later ones fit into the memory of those before. Which rows are decoded
beside which follows from the rows, their answers and the settings alone.

What this does not do: beams, sampling or bans (transformers' ``generate`` does), or text.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from codestrata.data.batches import pad_rows
from codestrata.engine.precision import DTYPES, Chosen, compute_in
from codestrata.models.causal import CausalSteps, can_step
from codestrata.models.special import choose_filler, list_ends
from codestrata.models.t5 import T5Steps
from codestrata.models.virtual import count_virtual_tokens

FREE_SHARE = 8
"""Places are filled again, or given up, once one in this many is free."""
PROMPT_TOKENS_AT_ONCE = 2**15
"""Places x tokens of the longest prompt: what is remembered of prompts stays within this."""
HARMLESS = frozenset(
    {
        "transformers_version",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "decoder_start_token_id",
        "max_length",
        "max_new_tokens",
        "num_beams",
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "no_repeat_ngram_size",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
    }
)
"""What a model's own generation settings may hold: overruled by ours, or without effect on greedy answers."""


def can_decode(model: Any) -> bool:
    """Whether the model's greedy answers can be had here: it is fp32, of a known kind, without own rules."""
    return (
        hasattr(model, "lm_head")
        and model.dtype == torch.float32
        and bool(list_ends(model))
        and not find_rules(model)
        and (model.config.model_type == "t5" or can_step(model))
    )


def find_rules(model: Any) -> set[str]:
    """What the model's own generation settings ask for beyond the likeliest token, such as penalties."""
    stated = model.generation_config.to_diff_dict()
    return {key for key in stated if not key.startswith("_")} - HARMLESS


def decode_greedily(
    model: Any,
    rows: Sequence[Sequence[int]],
    *,
    batch_size: int,
    max_new_tokens: int,
    precision: Chosen,
    device: torch.device,
    report: Callable[[int], None] | None = None,
    ends: Collection[int] | None = None,
) -> list[list[int]]:
    """The generated ids of each row, without the start token and up to the end token, if it came.

    Args:
        model: one that ``can_decode``, in evaluation mode.
        rows: the prompts' token ids.
        batch_size: rows that are decoded beside each other, at most.
        max_new_tokens: an answer's longest length.
        precision: number format of the matrix products.
        device: where the model is.
        report: is told how many answers are complete, whenever some more are.
        ends: the tokens that end an answer; ``None`` takes the configuration's.
    """
    if not rows:
        return []
    kind = Decoding if model.config.model_type == "t5" else CausalDecoding
    with torch.inference_mode(), compute_in(precision, device):
        decoding = kind(
            model,
            rows,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            dtype=DTYPES[precision],
            device=device,
            ends=ends,
        )
        while decoding.done < len(rows):
            decoding.arrange()
            if decoding.step() and report is not None:
                report(decoding.done)
    return decoding.said


class Decoding:
    """Where every row of one call stands: waiting, in a place, or done.

    ``said`` are the answers so far, in the rows' order, and ``done`` how many are complete.
    """

    def __init__(
        self,
        model: Any,
        rows: Sequence[Sequence[int]],
        *,
        batch_size: int,
        max_new_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
        ends: Collection[int] | None = None,
    ) -> None:
        self.model, self.rows, self.device, self.dtype = model, rows, device, dtype
        self.batch_size, self.limit = batch_size, max_new_tokens
        self.ends = list_ends(model) if ends is None else ends
        self.virtual = count_virtual_tokens(model)
        self.waiting = deque(sorted(range(len(rows)), key=lambda row: (-len(rows[row]), row)))
        self.encoded: deque[torch.Tensor] = deque()  # states of the first waiting prompts
        self.said: list[list[int]] = [[] for _ in rows]
        self.done = 0
        self.places: list[int | None] = [None] * self._count_places([])
        self.tokens = self._start(len(self.places))
        self.steps: Any = self._build_steps()

    def arrange(self) -> None:
        """Fill places again, make more where shorter prompts allow it, or give free ones up."""
        live = [place for place, row in enumerate(self.places) if row is not None]
        if self.waiting:
            more = self._count_places(live) - len(self.places)
            if is_share(more, len(self.places)):
                self._move(live, spare=len(self.places) + more - len(live))
            if is_share(self.places.count(None), len(self.places)):
                self._fill()
        elif is_share(len(self.places) - len(live), len(self.places)):
            self._move(live, spare=0)

    def step(self) -> int:
        """One more token for every row in a place; says how many answers that completed."""
        self.tokens = self.steps.step(self.tokens).argmax(-1)
        before = self.done
        for place, (row, token) in enumerate(zip(self.places, self.tokens.tolist(), strict=True)):
            if row is None:
                continue
            self.said[row].append(token)
            if token in self.ends or len(self.said[row]) == self.limit:
                self.places[place] = None
                self.done += 1
        return self.done - before

    def _count_places(self, live: Sequence[int]) -> int:
        """How many places there may be, with prompts no longer than the live and the next waiting ones."""
        longest = max(self._measure(row) for row in [self.waiting[0], *self._list_rows(live)])
        return min(
            self.batch_size, len(live) + len(self.waiting), max(1, PROMPT_TOKENS_AT_ONCE // max(1, longest))
        )

    def _measure(self, row: int) -> int:
        """Tokens of a prompt as it is remembered, virtual ones included."""
        return self.virtual + len(self.rows[row])

    def _list_rows(self, places: Sequence[int]) -> list[int]:
        return [row for place in places if (row := self.places[place]) is not None]

    def _build_steps(self) -> Any:
        return T5Steps(
            self.model,
            rows=len(self.places),
            prompt_tokens=self._measure(self.waiting[0]),
            limit=self.limit,
            dtype=self.dtype,
        )

    def _start(self, count: int) -> torch.Tensor:
        """What rows begin with, and free places hold."""
        return torch.full((count,), self.model.config.decoder_start_token_id, device=self.device)

    def _move(self, live: Sequence[int], *, spare: int) -> None:
        """Keep the live places, and have ``spare`` free ones after them."""
        self._keep(live, spare)
        self.tokens = torch.cat([self.tokens[live], self._start(spare)])
        self.places = [*self._list_rows(live), *[None] * spare]

    def _keep(self, live: Sequence[int], spare: int) -> None:
        longest = self._measure(self.waiting[0]) if self.waiting else 1
        self.steps.keep(live, spare=spare, prompt_tokens=longest)

    def _fill(self) -> None:
        """Put the next waiting prompts into free places."""
        free = [place for place, row in enumerate(self.places) if row is None][: len(self.waiting)]
        if len(self.encoded) < len(free):
            self._encode(list(self.waiting)[len(self.encoded) :][: len(self.places)])
        states = [self.encoded.popleft() for _ in free]
        self.steps.admit(free, pad_sequence(states, batch_first=True), [len(state) for state in states])
        for place in free:
            self.places[place] = self.waiting.popleft()
        self.tokens[free] = self.model.config.decoder_start_token_id

    def _encode(self, rows: Sequence[int]) -> None:
        """Encode as many prompts as there are places, though fewer are free: small batches cost more."""
        lengths = [len(self.rows[row]) for row in rows]
        input_ids = pad_rows([self.rows[row] for row in rows], choose_filler(self.model))
        mask = torch.arange(input_ids.shape[1]) < torch.tensor(lengths)[:, None]
        states = self.model.encoder(
            input_ids=input_ids.to(self.device), attention_mask=mask.long().to(self.device)
        ).last_hidden_state
        self.encoded += [state[: self._measure(row)] for row, state in zip(rows, states, strict=True)]


class CausalDecoding(Decoding):
    """The same for a decoder-only model: a prompt's last token begins its answer."""

    def _build_steps(self) -> Any:
        return CausalSteps(
            self.model,
            rows=len(self.places),
            prompt_tokens=self._measure(self.waiting[0]),
            dtype=self.dtype,
        )

    def _start(self, count: int) -> torch.Tensor:
        return torch.full((count,), choose_filler(self.model), device=self.device)

    def _keep(self, live: Sequence[int], spare: int) -> None:
        self.steps.keep(live, spare=spare)

    def _fill(self) -> None:
        """Put the next waiting prompts into free places; they are read as they come."""
        free = [place for place, row in enumerate(self.places) if row is None][: len(self.waiting)]
        rows = [self.waiting.popleft() for _ in free]
        self.steps.admit(free, [self.rows[row] for row in rows])
        for place, row in zip(free, rows, strict=True):
            self.places[place] = row
        self.tokens[free] = torch.tensor([self.rows[row][-1] for row in rows], device=self.device)


def is_share(part: int, whole: int) -> bool:
    """Whether ``part`` is enough of ``whole`` to act on."""
    return part > 0 and part * FREE_SHARE >= whole
