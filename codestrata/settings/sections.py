"""Settings of everything but tasks, components and retention: base, training, decoding, measurement, host.

Times are seconds, sizes MiB, rates in [0, 1].

What this does not do: know which data or models exist (``data`` and ``models`` do).
"""

from dataclasses import dataclass
from typing import Literal

from codestrata.errors import SettingsError, shorten
from codestrata.settings.checks import (
    LARGEST_WHOLE,
    LONGEST_TIMEOUT_SECONDS,
    MOST_THREADS,
    check_range,
)

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class BaseSettings:
    """The frozen model."""

    name: str = "pocket"
    """``pocket`` (shipped), a model hub name such as ``Salesforce/codet5-small``, or a local folder."""
    revision: str | None = None
    """Branch, tag or commit on the hub; null takes the hub's default."""
    weights: Literal["trained", "random"] = "trained"
    """``random`` keeps the architecture and draws new weights: for trying a path without a download."""
    tokenizer: str | None = None
    """Folder or hub name of the tokenizer where it differs from the model's."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The one training loop."""

    steps: int | None = None
    """Optimizer steps per task; null trains for ``epochs`` instead."""
    epochs: float | None = None
    """Passes over the training examples; null trains for ``steps`` instead."""
    batch_size: int = 16
    """Examples per optimizer step."""
    learning_rate: float = 5e-4
    """AdamW's peak learning rate, where a component does not set its own."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    clip_norm: float | None = 1.0
    """Largest gradient norm; null does not clip."""
    warmup_fraction: float = 0.05
    """Share of the steps over which the learning rate rises from 0."""
    decay: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls after warm-up, to 0 at the last step."""
    max_prompt_tokens: int = 512
    """Longer prompts are cut, and counted: a decoder-only base's at their beginning, else at their end."""
    max_target_tokens: int = 512
    """Longer targets are cut, and counted."""
    batch_tokens: int | None = None
    """Most tokens computed together, padding included; larger steps are cut, with the same gradient but for
    rounding. Null takes 8192 on a CPU and 65536 elsewhere."""
    precision: Precision = "auto"
    """Arithmetic of the matrix products: ``bf16`` (trained weights stay fp32) or ``fp32``; ``auto`` takes
    bf16 where the processor has instructions for it."""
    base_dropout: bool = False
    """Keep dropout inside the frozen base on while a component trains; its states are then never cached."""
    validation_steps: int | None = None
    """Measure the loss on the task's validation examples after so many optimizer steps each time, and after
    the last; null never does."""
    patience: int | None = None
    """Stop a training once so many validations in a row were no better than the best before; null takes all
    steps. The learning rate falls as if all were taken."""
    keep: Literal["last", "best"] = "last"
    """Which weights a training leaves: those after its last step, or of the lowest validation loss."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            found = f"training.steps is {self.steps} and training.epochs is {self.epochs}"
            raise SettingsError(f"{found}: set exactly one of them.")
        check_range("training.steps", self.steps, low=1)
        check_range("training.epochs", self.epochs, above=0)
        check_range("training.batch_size", self.batch_size, low=1)
        check_range("training.batch_tokens", self.batch_tokens, low=1)
        check_range("training.learning_rate", self.learning_rate, above=0, high=1)
        check_range("training.weight_decay", self.weight_decay, low=0)
        check_range("training.clip_norm", self.clip_norm, above=0)
        check_range("training.warmup_fraction", self.warmup_fraction, low=0, high=1)
        check_range("training.max_prompt_tokens", self.max_prompt_tokens, low=1)
        check_range("training.max_target_tokens", self.max_target_tokens, low=1)
        check_range("training.validation_steps", self.validation_steps, low=1)
        check_range("training.patience", self.patience, low=1)
        for name, value, off in (("patience", self.patience, None), ("keep", self.keep, "last")):
            if value != off and self.validation_steps is None:
                raise SettingsError(
                    f"training.{name} is {shorten(value)}, but nothing is validated: set "
                    "training.validation_steps, such as 50, too."
                )


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """How prompts become completions; greedy and deterministic unless asked otherwise."""

    batch_size: int = 64
    """Prompts decoded together."""
    max_new_tokens: int = 256
    """Longest completion."""
    beams: int = 1
    """Beam width; 1 is greedy."""
    temperature: float | None = None
    """Sampling temperature (among the 50 likeliest tokens, as transformers does); null does not sample."""
    no_repeat_ngram: int | None = None
    """Ban any n-gram from occurring twice; null does not ban."""
    samples: int = 1
    """Completions per test prompt, for pass@k; more than one needs a temperature."""
    seed: int = 0
    """Seed of sampling."""
    precision: Precision = "fp32"
    """Arithmetic of the matrix products: ``fp32``, ``bf16``, or ``auto`` as in training."""

    def __post_init__(self) -> None:
        check_range("decoding.samples", self.samples, low=1)
        if self.samples > 1 and self.temperature is None:
            raise SettingsError(
                f"decoding.samples is {self.samples} without a temperature: all would be the same. "
                "Set decoding.temperature, such as 0.8, or decoding.samples to 1."
            )
        check_range("decoding.batch_size", self.batch_size, low=1)
        check_range("decoding.max_new_tokens", self.max_new_tokens, low=1)
        check_range("decoding.beams", self.beams, low=1)
        check_range("decoding.temperature", self.temperature, above=0)
        check_range("decoding.no_repeat_ngram", self.no_repeat_ngram, low=1)
        check_range("decoding.seed", self.seed, low=0, high=LARGEST_WHOLE)


@dataclass(frozen=True, kw_only=True)
class ExecutionSettings:
    """Limits under which generated programs run, and what confines them."""

    timeout_seconds: float = 2.0
    """Wall time of one program with its tests."""
    memory_mib: int = 1024
    """Memory of the process that runs programs."""
    isolation: Literal["auto", "bubblewrap", "landlock", "deno", "limits"] = "auto"
    """What confines programs; ``auto`` takes the first that passes its self-test, never ``limits`` alone."""
    allow_unconfined: bool = False
    """Consent to plain limits where nothing better works: generated Python then has your rights."""

    def __post_init__(self) -> None:
        check_range("execution.timeout_seconds", self.timeout_seconds, above=0, high=LONGEST_TIMEOUT_SECONDS)
        check_range("execution.memory_mib", self.memory_mib, low=64)
        if self.isolation == "limits" and not self.allow_unconfined:
            raise SettingsError(
                "execution.isolation is 'limits': generated programs would run with your rights. "
                "Consent with execution.allow_unconfined=true, or use auto."
            )


@dataclass(frozen=True, kw_only=True)
class MeasurementSettings:
    """What is measured beside the scores of every task after every training."""

    pass_k: tuple[int, ...] = (1,)
    """The k of pass@k; each at most ``decoding.samples``."""
    transfer: bool = False
    """Also score every task's component on every other task's test split: the matrix X."""
    agreement: bool = True
    """Also ask the base how it ranks every token that a component says."""
    repetition_tokens: int | None = 50
    """Note which answers repeat so many words and marks in a row of the training text, word for word; null
    does not look. 50 is what studies of memorized training data use."""
    tree_nodes: int = 400
    """Largest syntax tree, in nodes, whose edit distance is computed exactly; larger ones are counted."""
    recheck: Literal["full", "canary", "off"] | None = None
    """How isolated components are decoded again: ``full`` (every older task after every training), ``canary``
    (some examples of every older task, once, at the end) or ``off``; cells that are not decoded again are
    taken over on proof that base and component are the same bytes. Null: full up to 3 tasks, then canary."""
    canary_examples: int = 32
    """Test examples of a task that a canary decodes again."""
    data_fractions: tuple[float, ...] = ()
    """Also train a component for each task on these first parts of its training examples, such as 0.25 and
    0.5, with as many optimizer steps as on all of them, and score it on the task's test split."""

    def __post_init__(self) -> None:
        check_range("measurement.repetition_tokens", self.repetition_tokens, low=1)
        check_range("measurement.tree_nodes", self.tree_nodes, low=1)
        check_range("measurement.canary_examples", self.canary_examples, low=1)
        if not self.pass_k or len(set(self.pass_k)) < len(self.pass_k):
            found = shorten(list(self.pass_k))
            raise SettingsError(f"measurement.pass_k is {found}: give different k, at least one.")
        for k in self.pass_k:
            check_range("measurement.pass_k", k, low=1)
        if len(set(self.data_fractions)) < len(self.data_fractions):
            found = shorten(list(self.data_fractions))
            raise SettingsError(f"measurement.data_fractions is {found}: give different fractions.")
        for fraction in self.data_fractions:
            check_range("measurement.data_fractions", fraction, above=0, high=1)
            if fraction == 1:
                raise SettingsError(
                    "measurement.data_fractions holds 1: all of the training examples is what the run trains "
                    "on anyway. Leave it out."
                )


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Where the arithmetic happens."""

    name: str = "auto"
    """``auto`` (CUDA, then Apple MPS, then CPU), ``cuda``, ``cuda:<n>``, ``mps`` or ``cpu``."""
    threads: int | None = None
    """CPU threads of torch; null takes one for every physical core that this process may use."""
    keep_memory: bool = True
    """Have the C library keep large freed buffers instead of handing them back after every step (Linux)."""

    def __post_init__(self) -> None:
        check_range("device.threads", self.threads, low=1, high=MOST_THREADS)
        kind, _, index = self.name.partition(":")
        numbered = kind == "cuda" and index.isascii() and index.isdecimal() and len(index) < 4
        if self.name not in ("auto", "cuda", "mps", "cpu") and not numbered:
            raise SettingsError(f"device.name is {shorten(self.name)}: use auto, cuda, cuda:<n>, mps or cpu.")


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """What is kept on disk to be used again: token ids, and states of the frozen base."""

    folder: str | None = None
    """Where; null takes ``codestrata`` in the user's cache folder."""
    tokens: bool = True
    """Keep token ids of training examples."""
    states_mib: int | None = 4096
    """Most disk for states of the frozen base, of all runs together; null keeps none."""
    states_dtype: Literal["bf16", "fp32"] = "bf16"
    """Number format of stored states; bf16 rounds what training starts from to 8 bits."""

    def __post_init__(self) -> None:
        check_range("cache.states_mib", self.states_mib, low=1)


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """How much of a training a crash may cost."""

    seconds: float | None = 60.0
    """Most time between two checkpoints of a training; 0 stores one after every step, null only the last."""

    def __post_init__(self) -> None:
        check_range("checkpoints.seconds", self.seconds, low=0)
