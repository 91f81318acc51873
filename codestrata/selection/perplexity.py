"""How surprising a prompt is to the model as it stands, base or component: the prompt's perplexity.

    energy = - sum over the prompt's tokens of log p(token | tokens before it)

of which the mean per token is the logarithm of the perplexity: for one prompt all components count the same
tokens, so the lowest perplexity is the lowest energy. A model without encoder reads the prompt; its first
token has nothing before it and does not count. An encoder-decoder model says the prompt, end-of-sequence
token included, while its encoder reads nothing but that token.

Components are trained on answers, prompts masked: where an encoder reads the prompts, next to nothing that a
component learns says how likely one is. On the pocket base this router is no better than chance (0.28 of 180
prompts in three tasks); it is meant for models without encoder. That the distance of Mahalanobis has all of
them right says little: each of these prompts begins with the name of its task's language.

What this does not do: activate components, or choose one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from codestrata.data.batches import IGNORED, pad_rows
from codestrata.engine.generation import read_prompts
from codestrata.engine.losses import LOGITS_AT_ONCE
from codestrata.models.families import find_family
from codestrata.selection.embeddings import cut_batches


def measure_surprise(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_prompt_tokens: int,
    device: torch.device,
    report: Callable[[int], None] | None = None,
) -> np.ndarray:
    """The energy of every prompt (prompts,) in nats; 0 where no token counts.

    Args:
        model: the base with what is active on it.
        tokenizer: its tokenizer.
        prompts: the texts.
        max_prompt_tokens: longer prompts are cut.
        device: where the model is.
        report: is told how many prompts are done.
    """
    rows = read_prompts(model, tokenizer, prompts, max_prompt_tokens)
    found = np.zeros(len(rows))
    model.eval()
    done = 0
    tokens_at_once = max(1, LOGITS_AT_ONCE["cpu"] // model.config.vocab_size)
    with torch.inference_mode():
        for batch in cut_batches([len(row) for row in rows], tokens_at_once):
            found[batch] = measure_batch(model, [rows[number] for number in batch], device)
            done += len(batch)
            if report is not None:
                report(done)
    return found


def measure_batch(model: Any, rows: Sequence[Sequence[int]], device: torch.device) -> np.ndarray:
    """The energies of a batch of rows of token ids, none of them empty."""
    said = pad_rows(rows, IGNORED).to(device)
    counted = said != IGNORED
    if find_family(model).is_causal:
        read = said.masked_fill(~counted, 0)
        logits = model(input_ids=read, attention_mask=counted.long(), use_cache=False).logits[:, :-1]
        said, counted = said[:, 1:], counted[:, 1:]
    else:
        nothing = torch.full((len(rows), 1), model.config.eos_token_id, device=device)
        logits = model(
            input_ids=nothing,
            attention_mask=torch.ones_like(nothing),
            decoder_input_ids=model.prepare_decoder_input_ids_from_labels(said),
            use_cache=False,
        ).logits
    logged = torch.log_softmax(logits.float(), dim=-1)
    found = logged.gather(-1, said.masked_fill(~counted, 0)[..., None])[..., 0]
    energies: np.ndarray = -(found.double() * counted).sum(1).cpu().numpy()
    return energies
