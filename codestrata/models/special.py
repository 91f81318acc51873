"""The token ids with which a model's rows end and are filled, whatever its configuration leaves open.

What this does not do: change a configuration or a tokenizer.
"""

from typing import Any


def list_ends(model: Any, tokenizer: Any = None) -> frozenset[int]:
    """The tokens that end an answer: the configuration's, the generation settings' and the tokenizer's.

    Each of the first two may state one or several. A component is trained to end with the tokenizer's, which
    need not be among them; a base may end with those that its generation settings alone have.
    """
    owners = (model.config, getattr(model, "generation_config", None), tokenizer)
    return frozenset[int]().union(*(read_ends(owner) for owner in owners))


def read_ends(owner: Any) -> set[int]:
    """The end tokens that one configuration or tokenizer states; none for ``None``."""
    stated = getattr(owner, "eos_token_id", None)
    return {stated} if isinstance(stated, int) else set(stated or ())


def choose_filler(model: Any) -> int:
    """What rows are filled with: the configuration's padding token, else one that is masked anyway."""
    filler: int | None = model.config.pad_token_id
    return min(list_ends(model), default=0) if filler is None else filler
