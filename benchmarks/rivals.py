"""What others would train with: a loop like the founding experiment's, and transformers' ``Seq2SeqTrainer``.

What this does not do: use codestrata's training loop.
"""

import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from architecture import Kind
from torch import nn
from transformers import PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

from codestrata.components.layers import LayersConfig, register_layers
from codestrata.components.lora import build_lora_config
from codestrata.data.batches import EncodedExample, collate, pad_rows
from codestrata.settings.components import LoraSettings
from codestrata.settings.sections import TrainingSettings
from codestrata.training import count_steps, scale_learning_rate

FOUNDING_BATCH = 8
FOUNDING_TARGETS = ["q", "k", "v", "o", "wo"]
FOUNDING_SCALE = 0.01


def build_founding_model(model: Any, kind: Kind, *, seed: int) -> Any:
    """The model with plain PEFT's LoRA, or with one new encoder block at the end; nothing else is trained."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.models.t5.modeling_t5 import T5Block

    model.requires_grad_(False)
    torch.manual_seed(seed)
    if kind == "lora":
        config = LoraConfig(
            task_type=TaskType.SEQ_2_SEQ_LM,
            r=16,
            lora_alpha=32,
            lora_dropout=0.1,
            target_modules=FOUNDING_TARGETS,
        )
        return get_peft_model(model, config)
    block = T5Block(model.encoder.config, has_relative_attention_bias=False)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.mul_(FOUNDING_SCALE)
    model.encoder.block.append(block)
    return model


def fit_founding(model: Any, rows: Sequence[EncodedExample], *, learning_rate: float, pad_id: int) -> float:
    """One pass in file order, as the founding experiment trained; the seconds it took.

    fp32, 8 examples a step, padded to the longest, padding in the loss too, all dropout on, gradients
    clipped at 1, AdamW with weight decay 0.01 at a constant rate.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    model.train()
    started = time.perf_counter()
    for first in range(0, len(rows), FOUNDING_BATCH):
        batch = rows[first : first + FOUNDING_BATCH]
        input_ids = pad_rows([row.prompt_ids for row in batch], pad_id)
        mask = (input_ids != pad_id).long()
        labels = pad_rows([row.target_ids for row in batch], pad_id)
        loss = model(input_ids=input_ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        loss.item()
    seconds = time.perf_counter() - started
    model.eval()
    return seconds


def build_peft_model(model: Any, kind: Kind, lora: LoraSettings, *, seed: int) -> Any:
    """The model with the component that codestrata would train, through plain PEFT; base dropout is off."""
    from peft import get_peft_model

    model.requires_grad_(False)
    theirs = list(model.modules())
    torch.manual_seed(seed)
    if kind == "lora":
        config: Any = build_lora_config(lora, model)
    else:
        register_layers()
        config = LayersConfig(task_type="SEQ_2_SEQ_LM", placement=kind)
    adapted = get_peft_model(model, config)
    silence_dropout(theirs)
    return adapted


def silence_dropout(modules: Iterable[nn.Module]) -> None:
    """Turn dropout off in these modules for good, in training mode too; new blocks keep theirs."""
    for module in modules:
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0


def fit_trainer(
    model: Any,
    rows: Sequence[EncodedExample],
    settings: TrainingSettings,
    *,
    learning_rate: float,
    seed: int,
    pad_id: int,
    bf16: bool,
) -> list[float]:
    """Train with ``Seq2SeqTrainer`` at its best settings; the seconds of every epoch.

    Batches grouped by length, bf16 where it pays, fused AdamW, batches made in this process, no logging, no
    checkpoints. Batch size, steps, rates, decay and clipping are those of ``settings``, as in our own loop.
    """
    total = count_steps(len(rows), settings)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: scale_learning_rate(step, total, settings)
    )
    clock = make_clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Seq2SeqTrainer(
            model=model,
            args=Seq2SeqTrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=settings.batch_size,
                num_train_epochs=settings.epochs,
                max_grad_norm=settings.clip_norm or 0.0,
                train_sampling_strategy="group_by_length",
                bf16=bf16,
                use_cpu=True,
                seed=seed,
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
                dataloader_num_workers=0,
                dataloader_pin_memory=False,
            ),
            train_dataset=[{"input_ids": list(row.prompt_ids), "row": row} for row in rows],
            data_collator=lambda features: collate([feature["row"] for feature in features], pad_id),
            optimizers=(optimizer, schedule),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)  # it prints on stdout
        trainer.train()
    model.eval()
    return [later - earlier for earlier, later in zip(clock.moments, clock.moments[1:], strict=False)]


def make_clock() -> Any:
    """A callback of the Trainer that keeps when the first epoch began and each one ended."""

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.moments: list[float] = []

        def on_epoch_begin(self, *arguments: Any, **keywords: Any) -> None:
            if not self.moments:
                self.moments.append(time.perf_counter())

        def on_epoch_end(self, *arguments: Any, **keywords: Any) -> None:
            self.moments.append(time.perf_counter())

    return Clock()
