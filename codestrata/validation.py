"""The loss of a model on examples that nothing is learned from: what settings and weights may be chosen by.

What this does not do: choose anything, or touch a test example. ``training.fit`` measures the same between
its steps.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from codestrata.data.batches import EncodedExample, measure_rows
from codestrata.engine.attention import shared_masks
from codestrata.engine.bench import Bench
from codestrata.engine.losses import bare_head
from codestrata.engine.passes import choose_budget, measure_entropy
from codestrata.engine.precision import choose_precision, lowered_weights, refuse_fp16
from codestrata.errors import TrainingError
from codestrata.settings.sections import TrainingSettings


def measure_loss(
    model: Any,
    rows: Sequence[EncodedExample],
    settings: TrainingSettings,
    *,
    pad_id: int,
    device: torch.device,
) -> float:
    """Mean cross entropy per target token (nats) of the model, with whatever is active on it.

        loss = sum over all target tokens of all rows of -log p(token) / number of these tokens

    No dropout, no gradient, no random draw; products in the training's precision, and at most its token
    budget computed together.

    Args:
        model: a base with a component active on it, such as ``component.model``, or a bare one.
        rows: the examples; a token of a long one weighs as much as one of a short one.
        settings: number format and token budget.
        pad_id: what batches are filled with.
        device: where the model is.

    Raises: TrainingError: no examples, a base in fp16, or an example that does not fit into memory alone.
    """
    if not rows:
        raise TrainingError("There are no validation examples: set tasks.validation_examples above 0.")
    refuse_fp16(model)
    precision = choose_precision(settings.precision, device)
    with ExitStack() as during:
        during.enter_context(shared_masks(model))
        during.enter_context(lowered_weights(model, precision))
        bench = Bench(
            model=model,
            head=during.enter_context(bare_head(model)),
            rows=rows,
            lengths=measure_rows(rows),
            parameters={},
            retention=None,
            states=None,
            refused=None,
            precision=precision,
            pad_id=pad_id,
            device=device,
        )
        return measure_entropy(bench, rows, choose_budget(settings, device))[0]


def without_validation(settings: TrainingSettings) -> TrainingSettings:
    """The same training, all of whose steps are taken and whose last weights are kept: for short trials."""
    return replace(settings, validation_steps=None, patience=None, keep="last")
