"""Passes of a model over some examples: the loss that is trained on, and the loss of examples held out.

What this does not do: differentiate, or cut a training's steps into passes (``training`` does).
"""

import gc
from collections.abc import Mapping, Sequence

import torch

from codestrata.data.batches import IGNORED, EncodedExample, collate, cut_step, measure_extents, measure_rows
from codestrata.engine.bench import Bench, without_dropout
from codestrata.engine.losses import measure_loss
from codestrata.engine.precision import DTYPES, compute_in
from codestrata.engine.prefixes import Prefix, States, build_inputs, compute_states
from codestrata.errors import TrainingError
from codestrata.settings.sections import TrainingSettings

BATCH_TOKENS = {"cpu": 8192}
"""Token budget where the settings leave it open; other devices take more."""
ACCELERATOR_BATCH_TOKENS = 65536


def choose_budget(settings: TrainingSettings, device: torch.device) -> int:
    """The most tokens to compute together: as set, or what suits the device."""
    return settings.batch_tokens or BATCH_TOKENS.get(device.type, ACCELERATOR_BATCH_TOKENS)


def run_part(bench: Bench, numbers: Sequence[int], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The summed cross entropy of some examples' target tokens, with what a retention adds to it."""
    states = None if bench.states is None else bench.states.read(numbers)
    batch = {key: tensor.to(bench.device) for key, tensor in batch.items()}
    hidden, labels = run_model(bench, batch, states), batch["labels"]
    loss = sum_entropy(bench, hidden, labels)
    if bench.retention is None:
        return loss

    def run_again() -> torch.Tensor:
        with without_dropout(bench.model):
            return run_model(bench, batch, states)

    added = bench.retention.compare(run_again, hidden, bench.head, labels != IGNORED)
    return loss if added is None else loss + added


def run_model(bench: Bench, batch: Mapping[str, torch.Tensor], states: States | None) -> torch.Tensor:
    """What goes into the output layer for a batch on the bench's device."""
    # Autocast keeps converted weights until its end: each run has its own, for the weights may differ.
    with compute_in(bench.precision, bench.device):
        hidden: torch.Tensor = bench.model(**build_inputs(bench.model, batch, states)).logits
    return hidden  # for lack of an output layer


def sum_entropy(bench: Bench, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The cross entropy of all target tokens, summed (nats)."""
    with compute_in(bench.precision, bench.device):
        return measure_loss(hidden, bench.head, labels, DTYPES[bench.precision])


def measure_entropy(bench: Bench, rows: Sequence[EncodedExample], budget: int) -> tuple[float, int]:
    """The mean cross entropy per target token of examples that nothing is learned from, and the budget left.

        loss = sum over all target tokens of all rows of -log p(token) / number of these tokens   (nats)

    No dropout, no gradient, no random draw; a retention adds nothing. Of a frozen prefix whose states are
    kept on disk, these examples' states are computed every time. CUDA out of memory halves the budget.

    Raises: TrainingError: one example alone does not fit.
    """
    lengths = measure_rows(rows)
    extents = measure_extents(lengths, causal=bench.is_causal)
    prefix = None if bench.states is None else bench.states.prefix
    while True:
        parts = cut_step(extents, budget, overhead=bench.overhead)
        try:
            with torch.no_grad(), without_dropout(bench.model):
                total = sum(measure_part(bench, prefix, [rows[number] for number in part]) for part in parts)
            return total / int(lengths[:, 1].sum()), budget
        except torch.OutOfMemoryError as error:
            largest = max(len(part) * int(extents[part].max(0).sum()) for part in parts)
            if budget == 1 or all(len(part) == 1 for part in parts):
                raise TrainingError(
                    f"A validation example of {int(lengths.sum(1).max())} tokens does not fit into the "
                    f"memory of {bench.device} alone: lower training.max_prompt_tokens and "
                    "training.max_target_tokens."
                ) from error
        free_memory(bench.device)
        budget = min(budget, largest) // 2


def measure_part(bench: Bench, prefix: Prefix | None, rows: Sequence[EncodedExample]) -> float:
    """The summed cross entropy of some rows; inside a model without its prefix, that is run first."""
    found = collate(rows, bench.pad_id, causal=bench.is_causal)
    batch = {key: tensor.to(bench.device) for key, tensor in found.items()}
    states = None
    if prefix is not None:
        with compute_in(bench.precision, bench.device):
            states = compute_states(bench.model, prefix, batch)
    return sum_entropy(bench, run_model(bench, batch, states), batch["labels"]).item()


def free_memory(device: torch.device) -> None:
    """Give back what a failed pass still holds."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
