"""Component ``prompt``: learned embeddings of virtual tokens before every prompt, PEFT's prompt tuning.

A newborn is not the identity: whatever the virtual tokens are, the base attends to them. Without an active
component there are none, and the base is bit for bit what it was. PEFT draws and stores the embeddings; the
folders load with plain PEFT, which answers the same.

What this does not do: put virtual tokens before a decoder's inputs beside an encoder's (PEFT trains such
tokens unless told otherwise, and then generates without them), or work in a plain checkpoint.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft import PeftConfig, PromptEmbedding, PromptTuningConfig
from torch import nn
from torch.utils.hooks import RemovableHandle

from codestrata.components.adapters import Adapter, AdapterComponent, Form, choose_task_type
from codestrata.components.tensors import Outline
from codestrata.errors import SettingsError, describe_unknown
from codestrata.models.families import find_family
from codestrata.models.virtual import VirtualTokens, find_first_stack, hang_in, take_out
from codestrata.settings.components import PromptSettings

EMBEDDINGS = "prompt_embeddings"  # PEFT's name for the one tensor
BIRTHS = {"vocabulary": "SAMPLE_VOCAB", "random": "RANDOM", "text": "RANDOM"}
"""How PEFT draws what a text does not decide."""


def build_prompt_config(settings: PromptSettings, model: nn.Module) -> PromptTuningConfig:
    """PEFT's configuration for ``settings`` on this model.

    Raises: ModelError: the model is of a family whose parts are not known.
    """
    find_family(model)
    return PromptTuningConfig(
        task_type=choose_task_type(model),
        num_virtual_tokens=settings.tokens,
        prompt_tuning_init=BIRTHS[settings.init],
        token_dim=find_embedding(model).embedding_dim,
        num_transformer_submodules=1,
    )


def find_embedding(model: Any) -> nn.Embedding:
    """The base's embeddings of real tokens."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding


def adopt_prompt(base: nn.Module, values: Mapping[str, Any]) -> PromptTuningConfig:
    """Our own configuration with a file's number of virtual tokens and kind of birth.

    Raises: SettingsError: a value out of range, or a birth that needs more than the file.
    """
    births = {theirs: ours for ours, theirs in BIRTHS.items() if ours != "text"}
    birth = values["prompt_tuning_init"]
    if birth not in births:
        raise SettingsError(describe_unknown("prompt_tuning_init", birth, births))
    settings = PromptSettings(tokens=values["num_virtual_tokens"], init=births[birth])  # type: ignore[arg-type]
    return build_prompt_config(settings, base)


def outline_prompt(base: nn.Module, config: PromptTuningConfig) -> Iterator[Outline]:
    """The embeddings of the virtual tokens, in single precision as PEFT keeps them."""
    width = find_embedding(base).embedding_dim
    yield Outline(EMBEDDINGS, torch.float32, (config.num_virtual_tokens or 0, width))


FORM = Form(
    fields={"num_virtual_tokens": (int,), "prompt_tuning_init": (str,)},
    adopt=adopt_prompt,
    outline=outline_prompt,
)


class PromptComponent(AdapterComponent):
    """``contracts.Component`` for virtual tokens; ``begun_as`` are the ids of the text they begin as."""

    def __init__(
        self,
        base: nn.Module,
        config: PromptTuningConfig,
        *,
        begun_as: tuple[int, ...] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__(base, kind="prompt", config=config, form=FORM, fingerprint=fingerprint)
        self._begun_as = begun_as
        self._handles: list[RemovableHandle] = []

    def _create(self) -> Adapter:
        adapter = super()._create()
        if self._begun_as is not None:
            embeddings = adapter.parameters[EMBEDDINGS]
            rows = [self._begun_as[place % len(self._begun_as)] for place in range(len(embeddings))]
            with torch.no_grad():
                embeddings.copy_(find_embedding(self._base).weight[rows])
        return adapter

    def _build(self, config: PeftConfig) -> Adapter:
        words = find_embedding(self._base)
        made = PromptEmbedding(config, words)  # type: ignore[no-untyped-call]
        tokens = VirtualTokens(made.embedding.to(words.weight.device)).requires_grad_(False)
        tokens.train(find_first_stack(self._base).training)
        parameters = dict(zip([EMBEDDINGS], tokens.parameters(), strict=True))
        return Adapter(config, (), tuple(tokens.modules()), parameters)

    def _install(self, resident: Adapter) -> None:
        super()._install(resident)
        tokens = resident.modules[0]
        assert isinstance(tokens, VirtualTokens)
        self._handles = hang_in(self._base, tokens)

    def _remove(self, resident: Adapter) -> None:
        super()._remove(resident)
        take_out(self._base, self._handles)


def build_prompt(
    base: nn.Module, settings: PromptSettings, *, tokenizer: Any = None, fingerprint: str | None = None
) -> PromptComponent:
    """The component ``prompt`` on ``base``; ``tokenizer`` reads a text to begin as.

    Raises:
        SettingsError: the text to begin as has no tokens.
        ModelError: the base is of a family whose parts are not known.
    """
    begun_as = None
    if settings.text is not None:
        assert tokenizer is not None
        begun_as = tuple(tokenizer(settings.text, add_special_tokens=False)["input_ids"])
        if not begun_as:
            raise SettingsError(f"prompt.text is {settings.text!r}, which has no tokens: use another text.")
    config = build_prompt_config(settings, base)
    return PromptComponent(base, config, begun_as=begun_as, fingerprint=fingerprint)
