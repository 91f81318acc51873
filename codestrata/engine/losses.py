"""The loss over the vocabulary without the vocabulary's logits: computed in chunks of target tokens.

A batch's logits (tokens x vocabulary) are by far the largest tensor of a small model's training, and the
usual cross entropy holds them several times. Here a chunk's logits become its loss and its gradient at once
and are forgotten; padding is never multiplied. Names: N target tokens, D width, V vocabulary.

What this does not do: label smoothing, or weights of classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from codestrata.data.batches import IGNORED

LOGITS_AT_ONCE = {"cpu": 2**23, "mps": 2**24, "cuda": 2**26}
"""Elements of a chunk of logits: 32 MiB of fp32 on a CPU stay near its caches."""


def measure_loss(
    hidden: torch.Tensor, head: nn.Module, labels: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """The cross entropy of all target tokens, summed (nats), as a scalar that can be differentiated.

        sum over tokens with a label of  log sum_v exp(h . w_v + b_v) - (h . w_label + b_label)

    Args:
        hidden: what goes into the output layer, (..., D).
        head: the output layer, a linear map from D to V.
        labels: token ids, (...); ``data.batches.IGNORED`` does not count.
        dtype: of the products with the output layer; softmax and sums are fp32.
    """
    counted = labels != IGNORED
    weight: Any = head.weight
    bias: Any = getattr(head, "bias", None)
    if not torch.is_grad_enabled():  # a function of its own is not told: it would make gradients of these two
        weight, bias = weight.detach(), None if bias is None else bias.detach()
    loss: torch.Tensor = VocabularyLoss.apply(  # type: ignore[no-untyped-call]
        hidden[counted], weight, bias, labels[counted], dtype
    )
    return loss


class VocabularyLoss(torch.autograd.Function):
    """Summed cross entropy of (N, D) states; the gradients are made in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(
        context: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        labels_N: torch.Tensor,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """The loss; what ``backward`` gives is ready too."""
        wanted = [context.needs_input_grad[index] for index in range(3)]
        lowered_VD = weight_VD.to(dtype)
        gradients = [
            torch.zeros_like(tensor, dtype=torch.float32) if tensor is not None and is_wanted else None
            for tensor, is_wanted in zip((hidden_ND, weight_VD, bias_V), wanted, strict=True)
        ]
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        size = max(1, LOGITS_AT_ONCE.get(hidden_ND.device.type, 2**24) // len(weight_VD))
        for start in range(0, len(labels_N), size):
            part = slice(start, start + size)
            states_CD, labels_C = hidden_ND[part].to(dtype), labels_N[part]
            logits_CV = states_CD @ lowered_VD.t()
            if bias_V is not None:
                logits_CV = logits_CV + bias_V
            logged_CV = torch.log_softmax(logits_CV, dim=-1, dtype=torch.float32)
            del logits_CV
            total -= logged_CV.gather(1, labels_C[:, None]).sum()
            if any(wanted):
                slope_CV = logged_CV.exp_()
                slope_CV[torch.arange(len(labels_C), device=labels_C.device), labels_C] -= 1
                add_gradients(gradients, part, slope_CV, states_CD, lowered_VD)
        tensors = (hidden_ND, weight_VD, bias_V)
        context.gradients = [
            None if gradient is None or tensor is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip(gradients, tensors, strict=True)
        ]
        return total

    @staticmethod
    def backward(context: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The stored gradients times the loss's own."""
        (slope,) = slopes
        scaled = [None if gradient is None else gradient * slope for gradient in context.gradients]
        context.gradients = []
        return (*scaled, None, None)


def add_gradients(
    gradients: list[torch.Tensor | None],
    part: slice,
    slope_CV: torch.Tensor,
    states_CD: torch.Tensor,
    weight_VD: torch.Tensor,
) -> None:
    """Add what a chunk contributes to the gradients of states, weight and bias that are wanted."""
    of_hidden, of_weight, of_bias = gradients
    lowered_CV = slope_CV.to(weight_VD.dtype)
    if of_hidden is not None:
        of_hidden[part] = lowered_CV @ weight_VD
    if of_weight is not None:
        of_weight += lowered_CV.t() @ states_CD
    if of_bias is not None:
        of_bias += slope_CV.sum(0)


@contextmanager
def bare_head(model: Any) -> Iterator[nn.Module]:
    """The model's output layer; inside, the model gives what goes into it in the place of logits."""
    head: nn.Module = model.get_output_embeddings()
    model.set_output_embeddings(nn.Identity())
    try:
        yield head
    finally:
        model.set_output_embeddings(head)
