"""Learning without forgetting: on the new task's inputs, the model keeps near to what it was before the task.

Letters: N target tokens, D width, V vocabulary.

What this does not do: keep anything from task to task (the model before is the component as it came).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from codestrata.contracts import Lesson
from codestrata.retention.memory import Memory
from codestrata.settings.retention import DistillSettings

LOGITS_AT_ONCE = 2**23
"""Elements of a chunk of logits: 32 MiB of fp32."""


class Outputs(NamedTuple):
    """What the logits of one model are made of: states, and the output layer's weight and bias."""

    states_ND: torch.Tensor
    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None

    def to(self, dtype: torch.dtype) -> "Outputs":
        """All of it in a number format."""
        bias_V = None if self.bias_V is None else self.bias_V.to(dtype)
        return Outputs(self.states_ND.to(dtype), self.weight_VD.to(dtype), bias_V)

    def cut(self, part: slice) -> "Outputs":
        """Some of the tokens."""
        return self._replace(states_ND=self.states_ND[part])

    def log_softmax(self, temperature: float) -> torch.Tensor:
        """Log probabilities of the logits divided by the temperature, fp32."""
        logits_NV = functional.linear(self.states_ND, self.weight_VD, self.bias_V)
        return torch.log_softmax(logits_NV.float() / temperature, dim=-1)


class Distillation(Memory):
    """Retention ``distill``: the distance to the previous model's answers is part of the loss.

        loss = cross entropy + strength * T^2 * sum over target tokens of  KL(p_before^T || p_now^T)
        p^T = softmax(logits / T),  T = temperature

    Both models see the same prompt and the same target up to a token. Nothing in the first task.

    Source: Li & Hoiem 2016, arXiv:1606.09282. Theirs has an output layer per task and the cross entropy with
    p_before, which differs from KL by a constant; ours has one output layer, so that both terms pull
    at the same numbers. T^2, as Hinton et al. 2015 (arXiv:1503.02531) advise, keeps the strength's meaning at
    every temperature; they have none.
    """

    kind: ClassVar[str] = "distill"

    def __init__(self, settings: DistillSettings, *, seed: int) -> None:
        super().__init__(settings, seed=seed)
        self.settings = settings
        self._pairs: list[tuple[nn.Parameter, torch.Tensor]] = []

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Keep the parameters as they are now, for this training."""
        self._pairs = [(entry, entry.detach().clone()) for entry in parameters.values() if self.lessons]

    def compare(
        self,
        run: Callable[[], torch.Tensor],
        hidden: torch.Tensor,
        head: nn.Module,
        counted: torch.Tensor,
    ) -> torch.Tensor | None:
        """The strength times T^2 * * KL, summed over target tokens (nats); nothing in the first task."""
        if not self._pairs:
            return None
        weight_VD, bias_V = head.get_parameter("weight"), getattr(head, "bias", None)
        now = Outputs(hidden[counted], weight_VD, bias_V)
        with torch.no_grad(), exchanged(self._pairs):
            # Detached views stay the previous model's once the exchange is undone.
            bias_before_V = None if bias_V is None else bias_V.detach()
            before = Outputs(run()[counted], weight_VD.detach(), bias_before_V)
        temperature = self.settings.temperature
        return self.settings.strength * temperature**2 * measure_divergence(before, now, temperature)

    def remember(self, lesson: Lesson) -> None:
        """Forget the previous model: the next one is the component as it is now."""
        self._pairs = []
        super().remember(lesson)


@contextmanager
def exchanged(pairs: list[tuple[nn.Parameter, torch.Tensor]]) -> Iterator[None]:
    """Inside, the parameters have the other tensors' numbers; afterwards their own. Nothing is copied."""
    own = [parameter.data for parameter, _ in pairs]
    try:
        for parameter, other in pairs:
            parameter.data = other
        yield
    finally:
        for (parameter, _), data in zip(pairs, own, strict=True):
            parameter.data = data


def measure_divergence(before: Outputs, now: Outputs, temperature: float) -> torch.Tensor:
    """KL(softmax(before / T) || softmax(now / T)), summed over tokens (nats); only ``now`` is differentiated.

    Products are in the number format of the states of ``now``.
    """
    before, now = before.to(now.states_ND.dtype), now.to(now.states_ND.dtype)
    size = max(1, LOGITS_AT_ONCE // len(now.weight_VD))
    total = now.states_ND.new_zeros((), dtype=torch.float32)
    for start in range(0, len(now.states_ND), size):
        part = slice(start, start + size)
        # Checkpointed: a chunk's logits are computed again for its gradient, so that none stay in memory.
        total = total + checkpoint(
            diverge,
            before.cut(part),
            now.cut(part),
            temperature,
            use_reentrant=False,
            preserve_rng_state=False,
        )
    return total


def diverge(before: Outputs, now: Outputs, temperature: float) -> torch.Tensor:
    """The divergence of one chunk of tokens."""
    logged_before_CV, logged_CV = before.log_softmax(temperature), now.log_softmax(temperature)
    return functional.kl_div(logged_CV, logged_before_CV, reduction="sum", log_target=True)
