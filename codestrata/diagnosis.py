"""What is supported on a base, and why not: found from its configuration and tokenizer, without its weights.

The model is built on PyTorch's meta device, where tensors have shapes and no values; on it every kind of
component is made and counted.

What this does not do: load or download weights, so it cannot say whether they are whole; or train anything.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch

from codestrata.components.layers import list_places, outline_layers
from codestrata.engine.decoding import HARMLESS, can_decode
from codestrata.engine.precision import choose_precision
from codestrata.engine.prefixes import find_prefix, has_mixed_attention
from codestrata.errors import CodestrataError, ModelError, SettingsError
from codestrata.methods import METHODS, Method, build_component
from codestrata.models.families import (
    Family,
    attends_nearby,
    find_family,
    find_family_by_type,
    list_stacks,
)
from codestrata.models.loading import (
    Base,
    choose_automatic_class,
    choose_device,
    count_parameters,
    explain_failures,
    has_file,
    load_config,
    load_tokenizer,
)
from codestrata.models.pocket import POCKET, find_pocket
from codestrata.settings.components import LayersSettings
from codestrata.settings.sections import BaseSettings
from codestrata.settings.tree import Settings

PROBE = "probe"
BYTES_PER_PARAMETER = 4  # every base is loaded in single precision
MIB = 2**20
Decoder = Literal["own", "generate"]


@dataclass(frozen=True, kw_only=True)
class ComponentSupport:
    """Whether a kind of component can be had on a base, under the settings that were asked about.

    ``parameters`` train; ``None`` where it cannot be had, and ``reason`` says why. ``frozen_blocks`` are the
    base's blocks below everything that trains, where what they make of an example can be computed once and
    kept. ``decoded_by`` is who computes greedy answers with it: as ``Decoding.by``.
    """

    kind: str
    parameters: int | None
    frozen_blocks: int | None
    decoded_by: Decoder | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlacementSupport:
    """What one new block at every place of a placement is; ``None`` where there is none, with the reason."""

    placement: str
    new_blocks: int | None
    parameters: int | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class TokenizerFound:
    """A base's tokenizer; ``padding`` is the token that fills rows up, often the end token itself."""

    kind: str
    tokens: int
    end: str
    padding: str


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How greedy answers are computed: by loops of our own (``own``), or by transformers' ``generate``."""

    by: Decoder
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What there is to know about a base before it is loaded.

    ``problems`` are what makes it unusable, ``notes`` what a user should know. What could not be found out is
    ``None`` or empty, and a problem says why. ``stored_dtype`` is the number format of the weights on disk,
    ``memory_mib`` what they take when loaded, ``precision`` that of matrix products on this machine.
    """

    name: str
    model_type: str | None = None
    family: str | None = None
    is_causal: bool | None = None
    blocks: Mapping[str, int] = field(default_factory=dict)
    parameters: int | None = None
    memory_mib: int | None = None
    stored_dtype: str | None = None
    precision: str | None = None
    tokenizer: TokenizerFound | None = None
    decoding: Decoding | None = None
    components: tuple[ComponentSupport, ...] = ()
    placements: tuple[PlacementSupport, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether a run could use this base with some component."""
        return not self.problems and any(entry.reason is None for entry in self.components)


def diagnose(settings: Settings) -> Diagnosis:
    """What is supported on the base that the settings name, under these settings; raises nothing about it."""
    problems: list[str] = []
    source = str(find_pocket()) if settings.base.name == POCKET else settings.base.name
    found = Diagnosis(name=settings.base.name)
    with collected(problems):
        config = read_config(source, settings.base)
        found = replace(found, model_type=config.model_type, stored_dtype=name_dtype(config))
        with collected(problems):
            tokenizer = load_tokenizer(source, settings.base)
            found = replace(found, tokenizer=describe_tokenizer(tokenizer))
            check_vocabulary(config, tokenizer)
        with collected(problems):
            family = find_family_by_type(config.model_type, label=source)
            model = build_outline(source, config, settings.base)
            found = replace(found, family=family.name, is_causal=family.is_causal)
            if found.tokenizer is not None:
                base = Base(settings.base.name, model, tokenizer, torch.device("meta"), "not computed")
                found = describe_model(found, base, settings)
            check_start(config, family)
    return replace(found, problems=tuple(problems), notes=tuple(list_notes(found, settings)))


@contextmanager
def collected(problems: list[str]) -> Iterator[None]:
    """Inside, an error of ours ends the block and is noted down."""
    try:
        yield
    except CodestrataError as error:
        problems.append(str(error))


def read_config(source: str, settings: BaseSettings) -> Any:
    """The base's configuration. Raises: HubError and ModelError, as loading the base would."""
    with explain_failures(source, settings.revision, key="base.name"):
        if has_file(source, "adapter_config.json", settings.revision):
            raise ModelError(f"{source} holds a component, not a base: name the base that it was trained on.")
        return load_config(source, settings)


def build_outline(source: str, config: Any, settings: BaseSettings) -> Any:
    """The model without values, with the generation settings that stand beside it.

    Raises: ModelError: a family that is not supported, or nothing that a model could be built from.
    """
    from transformers import GenerationConfig

    automatic = choose_automatic_class(config, source)
    with explain_failures(source, settings.revision, key="base.name"):
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = automatic.from_config(config, dtype=torch.float32, trust_remote_code=False)
        if settings.weights != "random" and has_file(source, "generation_config.json", settings.revision):
            read: Any = GenerationConfig.from_pretrained  # its types forbid the revision that it can take
            model.generation_config = read(source, revision=settings.revision)
    bare = [stack for stack, blocks in list_stacks(model).items() if not blocks]
    if bare:
        raise ModelError(f"{source}: config.json gives the {bare[0]} no blocks: there is nothing to adapt.")
    model.requires_grad_(False)
    return model.eval()


def describe_tokenizer(tokenizer: Any) -> TokenizerFound:
    """The tokenizer's class, size and the tokens that every row needs."""
    return TokenizerFound(
        kind=type(tokenizer).__name__,
        tokens=len(tokenizer),
        end=str(tokenizer.eos_token),
        padding=str(tokenizer.pad_token),
    )


def check_vocabulary(config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer whose ids go beyond the model's embeddings. Raises ModelError: both sizes."""
    rows = getattr(config, "vocab_size", None)
    if rows is not None and len(tokenizer) > rows:
        raise ModelError(
            f"The tokenizer has {len(tokenizer)} tokens, the model embeddings for {rows}: name the tokenizer"
            " that belongs to it with --set base.tokenizer=FOLDER."
        )


def check_start(config: Any, family: Family) -> None:
    """Refuse an encoder-decoder without the token that answers start from. Raises ModelError."""
    if not family.is_causal and config.decoder_start_token_id is None:
        raise ModelError(
            "config.json has no decoder_start_token_id, from which answers start: add it (in T5 that is the"
            " token for padding)."
        )


def name_dtype(config: Any) -> str | None:
    """The number format that the configuration says the weights are stored in."""
    dtype = getattr(config, "dtype", None)
    return None if dtype is None else str(dtype).removeprefix("torch.")


def describe_model(found: Diagnosis, base: Base, settings: Settings) -> Diagnosis:
    """``found`` with what the model without values tells."""
    parameters = count_parameters(base.model)
    return replace(
        found,
        blocks={stack: len(paths) for stack, paths in list_stacks(base.model).items()},
        parameters=parameters,
        memory_mib=round(parameters * BYTES_PER_PARAMETER / MIB),
        precision=choose_precision(settings.training.precision, choose_device(settings.device.name)),
        decoding=describe_decoding(base.model),
        components=tuple(try_component(method, base, settings) for method in list_component_methods()),
        placements=tuple(try_placement(base.model, placement) for placement in list_placements(base.model)),
    )


def list_component_methods() -> list[Method]:
    """For every kind of component the first method that has it and nothing beside it."""
    kinds: dict[str, Method] = {}
    for method in METHODS.values():
        if method.component is not None and method.retention is None:
            kinds.setdefault(method.component, method)
    return list(kinds.values())


def try_component(method: Method, base: Base, settings: Settings) -> ComponentSupport:
    """Make a component of the method's kind on the model without values, and count it."""
    kind = str(method.component)
    try:
        component = build_component(method, base, settings)
        with torch.device("meta"):
            component.attach(PROBE, seed=0)
    except CodestrataError as error:
        return ComponentSupport(kind=kind, parameters=None, frozen_blocks=None, reason=str(error))
    count = sum(parameter.numel() for parameter in component.parameters(PROBE).values())
    component.activate(PROBE)
    prefix = None if has_mixed_attention(base.model) else find_prefix(base.model)
    decoded_by = choose_decoder(base.model)
    component.detach(PROBE)
    frozen = 0 if prefix is None else (prefix.encoder or 0) + (prefix.decoder or 0)
    return ComponentSupport(kind=kind, parameters=count, frozen_blocks=frozen, decoded_by=decoded_by)


def list_placements(model: Any) -> list[str]:
    """All that ``layers.placement`` can be, of the interleaved ones the densest and the sparsest."""
    deepest = max(map(len, list_stacks(model).values()))
    interleaved = [f"interleaved:{step}" for step in dict.fromkeys((1, deepest))]
    return ["top", "encoder-top", "decoder-top", "both", *interleaved]


def try_placement(model: Any, placement: str) -> PlacementSupport:
    """How many new blocks a placement means here, one at every place, and of how many parameters."""
    try:
        places = list_places(model, placement)
    except SettingsError as error:
        return PlacementSupport(placement=placement, new_blocks=None, parameters=None, reason=str(error))
    outlines = outline_layers(model, LayersSettings(placement=placement))
    count = sum(prod(outline.shape) for outline in outlines)
    return PlacementSupport(placement=placement, new_blocks=len(places), parameters=count)


def choose_decoder(model: Any) -> Decoder:
    """Who computes greedy answers of this model, with what is active on it."""
    return "own" if can_decode(model) else "generate"


def describe_decoding(model: Any) -> Decoding:
    """Who computes greedy answers of this model, and why it is not us."""
    if choose_decoder(model) == "own":
        return Decoding(by="own")
    rules = {key for key in model.generation_config.to_diff_dict() if not key.startswith("_")} - HARMLESS
    if rules:
        return Decoding(by="generate", reason=f"generation_config.json sets {', '.join(sorted(rules))}")
    family = find_family(model)
    attention = model.config._attn_implementation
    if family.is_causal and attention != "sdpa":
        return Decoding(by="generate", reason=f"the attention is {attention!r}, not 'sdpa'")
    if attends_nearby(model):
        return Decoding(by="generate", reason="some blocks attend to near tokens only")
    return Decoding(by="generate", reason="the configuration has no end token, or one of another kind")


def list_notes(found: Diagnosis, settings: Settings) -> Iterator[str]:
    """What a user of this base should know."""
    if found.stored_dtype not in (None, "float32"):
        yield (
            f"The weights are stored as {found.stored_dtype} and loaded as float32: bases do not change, and"
            " what trains keeps its full precision."
        )
    if found.tokenizer is not None and found.tokenizer.padding == found.tokenizer.end:
        yield "The tokenizer has no token for padding of its own: rows are filled up with the end token."
    if found.family is not None and found.decoding is not None and found.decoding.by == "generate":
        yield f"Answers are computed by transformers' generate, slower: {found.decoding.reason}."
    if Path(found.name).is_dir() and settings.base.weights != "random" and not list_weights(Path(found.name)):
        yield "The folder holds no weights: only --set base.weights=random can use it."


def list_weights(folder: Path) -> list[str]:
    """Names of the folder's files that may hold weights."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
