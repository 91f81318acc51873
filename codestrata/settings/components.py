"""Settings of every kind of component.

What this does not do: build a component (``methods`` does).
"""

from dataclasses import dataclass
from typing import Literal

from codestrata.errors import SettingsError, shorten
from codestrata.settings.checks import check_argument, check_range


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Component ``lora``: low-rank updates beside chosen linear maps, through PEFT."""

    variant: Literal["plain", "dora", "rslora"] = "plain"
    """``plain``; ``dora`` learns the length of every row of the updated matrices apart from its direction;
    ``rslora`` counts an update alpha / sqrt(r)."""
    rank: int = 16
    """Rank r of every update."""
    alpha: float = 32.0
    """Scale: an update counts alpha / r."""
    dropout: float = 0.0
    """Dropout on the input of every update."""
    targets: tuple[str, ...] | None = None
    """Names of the linear maps, such as ``("q", "v")``; null takes all of the base's blocks."""
    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("lora.rank", self.rank, low=1)
        check_range("lora.alpha", self.alpha, above=0)
        check_range("lora.dropout", self.dropout, low=0, high=1)
        check_range("lora.learning_rate", self.learning_rate, above=0, high=1)


@dataclass(frozen=True, kw_only=True)
class LayersSettings:
    """Component ``layers``: new transformer blocks on the frozen base."""

    placement: str = "decoder-top"
    """``top`` (above the stack that writes the answers), ``encoder-top``, ``decoder-top``, ``both`` or
    ``interleaved:<n>`` (a new block after every n-th). A base without encoder has the same top twice:
    ``top`` and ``decoder-top``."""
    blocks: int = 1
    """New blocks at every place."""
    init: str = "copy"
    """``copy`` (the neighbour, made the identity) or ``scaled:<s>`` (normal draws, standard deviation s)."""
    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("layers.blocks", self.blocks, low=1)
        check_range("layers.learning_rate", self.learning_rate, above=0, high=1)
        places = ("top", "encoder-top", "decoder-top", "both")
        check_argument("layers.placement", self.placement, plain=places, counted="interleaved", number=int)
        check_argument("layers.init", self.init, plain=("copy",), counted="scaled", number=float)


@dataclass(frozen=True, kw_only=True)
class IA3Settings:
    """Component ``ia3``: learned scales of keys, values and inner feed-forward activations, through PEFT."""

    feed_forward: bool = True
    """Scale the inner activations of feed-forward parts too, as the paper does."""
    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("ia3.learning_rate", self.learning_rate, above=0, high=1)


@dataclass(frozen=True, kw_only=True)
class HybridSettings:
    """Component ``hybrid``: low-rank updates on the base's maps and new blocks, as one component."""

    rank: int = 8
    """Rank r of every update."""
    alpha: float = 16.0
    """Scale: an update counts alpha / r."""
    dropout: float = 0.0
    """Dropout on the input of every update."""
    targets: tuple[str, ...] | None = None
    """Names of the linear maps with an update; null takes all of the base's blocks."""
    placement: str = "decoder-top"
    """Where new blocks go: ``top``, ``encoder-top``, ``decoder-top``, ``both`` or ``interleaved:<n>``."""
    blocks: int = 1
    """New blocks at every place."""
    init: str = "copy"
    """How new blocks are made, as in ``layers.init``: ``copy`` or ``scaled:<s>``."""
    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("hybrid.rank", self.rank, low=1)
        check_range("hybrid.alpha", self.alpha, above=0)
        check_range("hybrid.dropout", self.dropout, low=0, high=1)
        check_range("hybrid.blocks", self.blocks, low=1)
        check_range("hybrid.learning_rate", self.learning_rate, above=0, high=1)
        places = ("top", "encoder-top", "decoder-top", "both")
        check_argument("hybrid.placement", self.placement, plain=places, counted="interleaved", number=int)
        check_argument("hybrid.init", self.init, plain=("copy",), counted="scaled", number=float)


@dataclass(frozen=True, kw_only=True)
class OwnLayersSettings:
    """Component ``own-layers``: the base's own last blocks, trained further on a copy per task."""

    placement: Literal["top", "encoder-top", "decoder-top", "both"] = "decoder-top"
    """Whose last blocks train: those of the stack that writes the answers (``top``), the encoder's, the
    decoder's, or both stacks'."""
    blocks: int = 1
    """How many blocks of a stack, counted from its end."""
    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("own_layers.blocks", self.blocks, low=1)
        check_range("own_layers.learning_rate", self.learning_rate, above=0, high=1)


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """Component ``prompt``: learned embeddings of virtual tokens before every prompt, through PEFT."""

    tokens: int = 20
    """Virtual tokens."""
    init: Literal["vocabulary", "random", "text"] = "vocabulary"
    """How they begin: ``vocabulary`` (the base's embeddings of tokens drawn from its vocabulary), ``random``
    (standard normal draws) or ``text`` (the base's embeddings of ``prompt.text``)."""
    text: str | None = None
    """What ``text`` begins with, such as ``"Write Python code"``: repeated or cut to ``tokens`` tokens."""
    learning_rate: float | None = 0.3
    """Peak learning rate, the paper's: far above what weights need; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("prompt.tokens", self.tokens, low=1)
        check_range("prompt.learning_rate", self.learning_rate, above=0, high=1)
        if (self.init == "text") != bool(self.text and self.text.strip()):
            raise SettingsError(
                f"prompt.init is {self.init!r} and prompt.text is {shorten(self.text)}: init 'text' needs a "
                "text that is not blank, and the others take none (null)."
            )


@dataclass(frozen=True, kw_only=True)
class SharedLayersSettings:
    """Component ``shared-layers``: new blocks that all tasks share, and low-rank updates for every task.

    Whether later tasks train the blocks too is the method's: ``shared-layers`` or ``shared-layers-seq``.
    """

    rank: int = 8
    """Rank r of every update."""
    alpha: float = 16.0
    """Scale: an update counts alpha / r."""
    dropout: float = 0.0
    """Dropout on the input of every update."""
    targets: tuple[str, ...] | None = None
    """Names of the linear maps with an update; null takes all of the base's blocks."""
    placement: str = "decoder-top"
    """Where the blocks go: ``top``, ``encoder-top``, ``decoder-top``, ``both`` or ``interleaved:<n>``."""
    blocks: int = 1
    """New blocks at every place."""
    init: str = "copy"
    """How new blocks are made, as in ``layers.init``: ``copy`` or ``scaled:<s>``."""
    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("shared_layers.rank", self.rank, low=1)
        check_range("shared_layers.alpha", self.alpha, above=0)
        check_range("shared_layers.dropout", self.dropout, low=0, high=1)
        check_range("shared_layers.blocks", self.blocks, low=1)
        check_range("shared_layers.learning_rate", self.learning_rate, above=0, high=1)
        label, places = "shared_layers.placement", ("top", "encoder-top", "decoder-top", "both")
        check_argument(label, self.placement, plain=places, counted="interleaved", number=int)
        check_argument("shared_layers.init", self.init, plain=("copy",), counted="scaled", number=float)


@dataclass(frozen=True, kw_only=True)
class WeightsSettings:
    """Component ``weights``: a full copy of the base's weights, all of them trained."""

    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("weights.learning_rate", self.learning_rate, above=0, high=1)
