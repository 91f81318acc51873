"""Every knob of a run: frozen dataclasses, checked at construction, read from TOML, with a fingerprint.

An experiment file holds only what differs from a preset; ``--set training.steps=100`` changes one value. The
text under each field is its help text. Times are seconds, sizes MiB, rates in [0, 1].

What this does not do: know which methods, data or models exist (``methods``, ``data`` and ``models`` do), or
load anything.
"""

import dataclasses
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from codestrata.errors import SettingsError, describe_unknown, shorten
from codestrata.files import find_half_pair, hash_json, open_plain

OFF = "null"
"""How an experiment file and ``--set`` say ``None``, which TOML has no word for: off, or not set."""

RIVALS = {"steps": "epochs", "epochs": "steps"}

LARGEST = 10**9
"""No count, size, time or rate of an experiment is larger: one that is was meant otherwise."""
LARGEST_WHOLE = 2**63 - 1
"""TOML promises no larger whole number."""
LARGEST_SEED = 2**62
"""Seeds are counted on from what is set, as far as ``LARGEST_WHOLE``."""
LARGEST_FILE_BYTES = 2**20
LONGEST_TIMEOUT_SECONDS = 24 * 60 * 60
MOST_THREADS = 1024
PORTS = {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
DEVICES = {"con", "prn", "aux", "nul"} | PORTS
"""What Windows takes for a device, in upper and lower case, whatever folder it is in."""
TOML_PLACE = re.compile(r"\(at line (\d+), column \d+\)$")
LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
"""A dotted key of many parts. Python's reader takes time by the square of their number: hours, for a MiB."""

Source = Literal["kata", "codesearchnet", "file"]
Precision = Literal["auto", "bf16", "fp32"]
Objective = Literal["generate", "summarize", "complete", "continue", "denoise", "copy"]
REFUSED = {"fp16": " T5's activations go beyond fp16's largest number, 65504: use bf16 or fp32."}
"""Why a value is refused that is one elsewhere."""


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
class TaskSettings:
    """One task: where its records come from and what is asked of the model."""

    name: str
    """The task's name in files and tables: letters, digits, ``_`` and ``-``."""
    language: str | None = None
    """Programming language of the code; null takes the task's name."""
    source: Source = "kata"
    """``kata`` (generated), ``codesearchnet`` (hub or local records) or ``file`` (JSONL: prompt, target)."""
    path: str | None = None
    """Local file or folder, from the current directory; null with ``codesearchnet`` means the hub."""
    test_path: str | None = None
    """Local file of test records for ``file``; null holds test examples out of ``path``."""
    objective: Objective = "generate"
    """What training asks of a CodeSearchNet record."""
    evaluation_objective: Objective | None = None
    """What evaluation asks; null takes the training objective."""
    train_examples: int = 1000
    """Most examples to train on."""
    validation_examples: int = 100
    """Most examples held out for choosing settings; a run keeps them apart and scores none of them."""
    test_examples: int = 300
    """Most examples to score."""
    unseen_examples: int = 0
    """Most examples of the second test split (kata: skeletons that no training contains)."""
    seed: int = 0
    """Seed of data generation and of held-out splits; the run's own seeds do not change the data."""
    allow_overlap: bool = False
    """Train on examples that are tests too, where the data's own splits share some; how many is noted. Else
    such data is refused."""

    def __post_init__(self) -> None:
        check_name("tasks.name", self.name)
        check_range("tasks.train_examples", self.train_examples, low=1)
        check_range("tasks.validation_examples", self.validation_examples, low=0)
        check_range("tasks.test_examples", self.test_examples, low=1)
        check_range("tasks.unseen_examples", self.unseen_examples, low=0)
        check_range("tasks.seed", self.seed, low=0, high=LARGEST_SEED)
        own_splits = self.source == "codesearchnet" or self.test_path is not None
        if self.allow_overlap and not own_splits:
            raise SettingsError(
                f"tasks.allow_overlap of task {self.name!r} goes with a tasks.test_path or with source = "
                '"codesearchnet": elsewhere training and test are kept apart by how they are made.'
            )
        if self.path is not None and self.source == "kata":
            raise SettingsError(
                f"tasks.path is {shorten(self.path)} for task {self.name!r}, but its source is kata, which "
                'reads no file: set its source to "file" or "codesearchnet" too.'
            )
        if self.test_path is not None and self.source != "file":
            raise SettingsError(f'tasks.test_path of task {self.name!r} goes with source = "file" only.')
        objectives = {self.objective, self.evaluation_objective or self.objective}
        if self.source != "codesearchnet" and objectives != {"generate"}:
            raise SettingsError(
                f"Task {self.name!r} has prompts and targets of its own (source = {self.source!r}): an "
                'objective other than "generate" goes with source = "codesearchnet" only.'
            )
        if self.unseen_examples and self.source != "kata":
            raise SettingsError(
                f"tasks.unseen_examples is {self.unseen_examples} for task {self.name!r}: only source = "
                '"kata" has kinds of problem to hold out.'
            )
        if self.source == "file" and self.path is None:
            raise SettingsError(
                f'tasks.path is missing for task {self.name!r}: source = "file" reads a JSONL file.'
            )


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
    """Longer prompts are cut, and counted."""
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


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Component ``lora``: low-rank updates beside chosen linear maps, through PEFT."""

    variant: Literal["plain", "dora", "rslora"] = "plain"
    """``plain``; ``dora`` learns the length of every row of the updated matrices apart from its direction;
    ``rslora`` counts an update alpha / sqrt(r)."""
    rank: int = 16
    """Rank r of every update."""
    alpha: float = 32
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
    """``encoder-top``, ``decoder-top``, ``both`` or ``interleaved:<n>`` (a new block after every n-th)."""
    blocks: int = 1
    """New blocks at every place."""
    init: str = "copy"
    """``copy`` (the neighbour, made the identity) or ``scaled:<s>`` (normal draws, standard deviation s)."""
    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("layers.blocks", self.blocks, low=1)
        check_range("layers.learning_rate", self.learning_rate, above=0, high=1)
        places = ("encoder-top", "decoder-top", "both")
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
    """Where new blocks go: ``encoder-top``, ``decoder-top``, ``both`` or ``interleaved:<n>``."""
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
        places = ("encoder-top", "decoder-top", "both")
        check_argument("hybrid.placement", self.placement, plain=places, counted="interleaved", number=int)
        check_argument("hybrid.init", self.init, plain=("copy",), counted="scaled", number=float)


@dataclass(frozen=True, kw_only=True)
class OwnLayersSettings:
    """Component ``own-layers``: the base's own last blocks, trained further on a copy per task."""

    placement: Literal["encoder-top", "decoder-top", "both"] = "decoder-top"
    """Whose last blocks train: the encoder's, the decoder's, or both stacks'."""
    blocks: int = 1
    """How many blocks of a stack, counted from its end."""
    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("own_layers.blocks", self.blocks, low=1)
        check_range("own_layers.learning_rate", self.learning_rate, above=0, high=1)


@dataclass(frozen=True, kw_only=True)
class WeightsSettings:
    """Component ``weights``: a full copy of the base's weights, all of them trained."""

    learning_rate: float | None = None
    """Peak learning rate; null takes ``training.learning_rate``."""

    def __post_init__(self) -> None:
        check_range("weights.learning_rate", self.learning_rate, above=0, high=1)


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """Retention ``replay``: examples of earlier tasks in every step."""

    size: int = 200
    """Most examples kept, of all earlier tasks together."""
    ratio: float = 0.5
    """Share of every step's examples that come from earlier tasks; they are added to the step's own."""

    def __post_init__(self) -> None:
        check_range("retention.replay.size", self.size, low=1, high=10**6)
        check_range("retention.replay.ratio", self.ratio, above=0, high=0.95)


@dataclass(frozen=True, kw_only=True)
class EwcSettings:
    """Retention ``ewc``: a spring on every parameter, after its Fisher information."""

    strength: float = 10000.0
    """Lambda: weight of the penalty; 1 is Laplace's approximation for an earlier task of equal size."""
    decay: float = 1.0
    """Gamma: what the earlier tasks' Fisher information is multiplied by when a task is added."""
    examples: int = 200
    """Most examples of a task whose gradients make up its Fisher information."""

    def __post_init__(self) -> None:
        check_range("retention.ewc.strength", self.strength, low=0)
        check_range("retention.ewc.decay", self.decay, low=0, high=1)
        check_range("retention.ewc.examples", self.examples, low=1)


@dataclass(frozen=True, kw_only=True)
class OrthogonalSettings:
    """Retention ``orthogonal``: a task's low-rank directions keep clear of the earlier tasks'."""

    strength: float = 0.5
    """Lambda: weight of the summed overlaps between the directions."""

    def __post_init__(self) -> None:
        check_range("retention.orthogonal.strength", self.strength, low=0)


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """Retention ``distill``: the answers keep near to those of the model before the task."""

    strength: float = 1.0
    """Weight of the distance per target token, beside the cross entropy's 1."""
    temperature: float = 2.0
    """Both models' logits are divided by it."""

    def __post_init__(self) -> None:
        check_range("retention.distill.strength", self.strength, low=0)
        check_range("retention.distill.temperature", self.temperature, above=0)


@dataclass(frozen=True, kw_only=True)
class RetentionSettings:
    """What protects earlier tasks while a shared component is trained on the next."""

    replay: ReplaySettings = field(default_factory=ReplaySettings)
    ewc: EwcSettings = field(default_factory=EwcSettings)
    orthogonal: OrthogonalSettings = field(default_factory=OrthogonalSettings)
    distill: DistillSettings = field(default_factory=DistillSettings)


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
    tree_nodes: int = 400
    """Largest syntax tree, in nodes, whose edit distance is computed exactly; larger ones are counted."""
    recheck: Literal["full", "canary", "off"] | None = None
    """How isolated components are decoded again: ``full`` (every older task after every training), ``canary``
    (some examples of every older task, once, at the end) or ``off``; cells that are not decoded again are
    taken over on proof that base and component are the same bytes. Null: full up to 3 tasks, then canary."""
    canary_examples: int = 32
    """Test examples of a task that a canary decodes again."""

    def __post_init__(self) -> None:
        check_range("measurement.tree_nodes", self.tree_nodes, low=1)
        check_range("measurement.canary_examples", self.canary_examples, low=1)
        if not self.pass_k or len(set(self.pass_k)) < len(self.pass_k):
            found = shorten(list(self.pass_k))
            raise SettingsError(f"measurement.pass_k is {found}: give different k, at least one.")
        for k in self.pass_k:
            check_range("measurement.pass_k", k, low=1)


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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole run."""

    preset: str = "pocket"
    """The preset these settings started from."""
    methods: tuple[str, ...] = ("base", "lora", "layers", "finetune")
    """Methods to compare, by name (``codestrata methods`` lists them)."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds; every method is trained once per seed."""
    tasks: tuple[TaskSettings, ...] = ()
    """The tasks, in the order they arrive."""
    base: BaseSettings = field(default_factory=BaseSettings)
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(epochs=1))
    lora: LoraSettings = field(default_factory=LoraSettings)
    layers: LayersSettings = field(default_factory=LayersSettings)
    ia3: IA3Settings = field(default_factory=IA3Settings)
    hybrid: HybridSettings = field(default_factory=HybridSettings)
    own_layers: OwnLayersSettings = field(default_factory=OwnLayersSettings)
    weights: WeightsSettings = field(default_factory=WeightsSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    measurement: MeasurementSettings = field(default_factory=MeasurementSettings)
    device: DeviceSettings = field(default_factory=DeviceSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        for label, values in (("methods", self.methods), ("seeds", self.seeds), ("tasks", names)):
            if not values:
                raise SettingsError(f"{label} is empty: a run needs at least one.")
            if len(set(values)) < len(values):
                raise SettingsError(f"{label} holds a duplicate: {shorten(list(values))}.")
        check_name("preset", self.preset)
        check_range("decoding.seed", self.decoding.seed, low=0, high=LARGEST_SEED)
        for seed in self.seeds:
            check_range("seeds", seed, low=0, high=LARGEST_SEED)
        check_folded(names)
        largest = max(self.measurement.pass_k)
        if largest > self.decoding.samples:
            raise SettingsError(
                f"measurement.pass_k asks for pass@{largest} of {self.decoding.samples} completions per "
                f"prompt: set decoding.samples to {largest} or more."
            )


def check_range(
    name: str,
    value: float | None,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float = LARGEST,
) -> None:
    """Refuse a number that is not finite or outside its range; ``None`` means off and passes."""
    if value is None:
        return
    if value != value or abs(value) == math.inf:
        raise SettingsError(f"{name} is {value}: it must be a finite number.")
    too_low = (low is not None and value < low) or (above is not None and not value > above)
    if too_low or value > high:
        lower = f"at least {low}" if low is not None else f"above {above}"
        raise SettingsError(f"{name} is {shorten(value)}: it must be {lower} and at most {high}.")


def check_name(label: str, name: str) -> None:
    """Refuse a name that could not be that of a folder on every file system, or could lead out of one.

    Names are 1 to 64 letters, digits, ``_`` or ``-``, start with a letter or digit, and are no device of
    Windows.
    """
    allowed = name.isascii() and name.replace("_", "").replace("-", "").isalnum() and name[0].isalnum()
    if not allowed or len(name) > 64:
        raise SettingsError(
            f"{label} is {shorten(name)}: use 1 to 64 letters, digits, '_' or '-', starting with a letter or "
            "digit."
        )
    if name.lower() in DEVICES:
        raise SettingsError(f"{label} is {name!r}, which Windows takes for a device: use another name.")


def check_folded(names: Sequence[str]) -> None:
    """Refuse names of tasks that differ in case alone: macOS and Windows would give them one folder."""
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.lower(), name)
        if other != name:
            raise SettingsError(f"tasks holds {other!r} and {name!r}, which differ in case only: rename one.")


def check_argument(
    label: str, value: str, *, plain: Sequence[str], counted: str, number: Callable[[str], float]
) -> None:
    """Refuse a value that is neither one of ``plain`` nor ``<counted>:<n>`` with a positive ``number``."""
    word, _, argument = value.partition(":")
    if value in plain:
        return
    try:
        if word == counted and 0 < number(argument) < math.inf:
            return
    except ValueError:
        pass
    wanted = "positive whole number" if number is int else "positive number"
    raise SettingsError(f"{label} is {shorten(value)}: use {', '.join(plain)} or {counted}:<{wanted}>.")


def build_settings(tree: Mapping[str, Any]) -> Settings:
    """Settings out of nested plain values, as TOML gives them.

    Raises: SettingsError: an unknown key (with the nearest known one), a wrong type or a value out of range.
    """
    return typing.cast(Settings, convert(tree, Settings, "The tree of settings"))


def build_section(section: type, tree: Mapping[str, Any], path: str) -> Any:
    """One dataclass of the tree out of plain values; ``path`` is where it stands, for errors."""
    hints = typing.get_type_hints(section)
    values = {}
    for key, value in tree.items():
        if not isinstance(key, str):
            raise SettingsError(f"{path}{shorten(key)} is no name of a setting: expected text.")
        if key not in hints:
            raise SettingsError(describe_unknown("setting", path + key, [path + known for known in hints]))
        values[key] = convert(value, hints[key], path + key)
    missing = [
        entry.name
        for entry in dataclasses.fields(section)
        if entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
        and entry.name not in values
    ]
    if missing:
        raise SettingsError(f"{path}{missing[0]} is missing and has no default.")
    return section(**values)


def convert(value: Any, hint: Any, path: str) -> Any:
    """``value`` as its field's type: lists become tuples, whole numbers floats; nothing else is guessed."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or value == OFF:
            return None
        return convert(value, next(choice for choice in arguments if choice is not type(None)), path)
    if origin is Literal:
        if value not in arguments:
            found = value if isinstance(value, str) else shorten(value)
            raise SettingsError(describe_unknown(path, found, arguments) + REFUSED.get(found, ""))
        return value
    if origin is tuple:
        if isinstance(value, str):  # as in --set methods=lora,layers
            value = [parse_value(part.strip()) for part in value.split(",")]
        elif isinstance(value, int):
            value = [value]
        if not isinstance(value, list | tuple):
            found = f"{path} is {shorten(value)}: expected a list"
            remedy = f"; write [[{path}]] above each section"
            raise SettingsError(f"{found}{remedy if dataclasses.is_dataclass(arguments[0]) else ''}.")
        return tuple(convert(item, arguments[0], f"{path}.{index}") for index, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{path} is {shorten(value)}: expected a section with named values.")
        return build_section(typing.cast(type, hint), value, "" if hint is Settings else path + ".")
    return convert_plain(value, hint, path)


def convert_plain(value: Any, hint: type, path: str) -> Any:
    """A text, number or truth value as its field's type; one that no file could hold is refused."""
    kind = type(value).__name__
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= LARGEST_WHOLE else value
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SettingsError(f"{path} is {shorten(value)}: expected {hint.__name__}, found {kind}.")
    if isinstance(value, float):
        check_range(path, value, low=-math.inf, high=math.inf)
        return value + 0.0  # -0.0 is equal to 0.0, and must have the same fingerprint
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise SettingsError(f"{path} is {shorten(value)}: no whole number may be above {LARGEST_WHOLE}.")
    if isinstance(value, str) and ("\0" in value or find_half_pair(value) is not None):
        raise SettingsError(f"{path} is {shorten(value)}: a NUL, or what is no Unicode, cannot be in a text.")
    return value


def to_tree(settings: Any) -> dict[str, Any]:
    """Settings as nested plain values; ``build_settings(to_tree(s)) == s``."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value

    return typing.cast(dict[str, Any], plain(dataclasses.asdict(settings)))


def fingerprint(settings: Settings) -> str:
    """SHA-256 over the resolved settings: equal settings, equal fingerprint."""
    # Built anew, because a whole number given for a float (alpha=32) is equal to 32.0 but not the same JSON.
    return hash_json(to_tree(build_settings(to_tree(settings))))


def read_toml(path: Path) -> dict[str, Any]:
    """The plain values of an experiment file.

    Raises: SettingsError: the file is missing, no plain file, too large or not TOML; with the line if known.
    """
    try:
        with open_plain(path) as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}.") from error
    if len(content) > LARGEST_FILE_BYTES:
        raise SettingsError(f"{path}: larger than {LARGEST_FILE_BYTES / 2**20:g} MiB: no experiment file is.")
    if content.startswith("\ufeff".encode()):
        raise SettingsError(f"{path}:1: starts with a byte order mark: save it as UTF-8 without one.")
    try:
        text = content.decode("utf-8")
        long_key = LONG_KEY.search(text)
        if long_key is not None:
            line = text.count("\n", 0, long_key.start()) + 1
            raise SettingsError(f"{path}:{line}: a name of more than 32 parts: no setting has one.")
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}:{line}: not TOML: not UTF-8 ({error.reason}).") from error
    except tomllib.TOMLDecodeError as error:
        place = TOML_PLACE.search(str(error))
        line = int(place[1]) if place else content.count(b"\n") + 1
        raise SettingsError(f"{path}:{line}: not TOML: {error}.") from error
    except RecursionError as error:
        raise SettingsError(f"{path}: not TOML that can be used: nested too deeply.") from error
    except ValueError as error:  # Python reads no whole number of thousands of digits
        raise SettingsError(f"{path}: not TOML that can be used: {error}.") from error


def merge(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` with ``changes`` laid over it, section by section; lists are replaced whole.

    Changed ``steps`` turn the ``epochs`` of ``tree`` off, and the other way round.
    """
    merged = dict(tree)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        if RIVALS.get(key) not in changes:
            drop_rival(merged, key, value)
    return merged


def apply_assignment(tree: dict[str, Any], assignment: str) -> None:
    """Change one value of ``tree`` in place, from ``training.steps=100`` or ``tasks.python.path=a.jsonl``.

    The value is read as TOML, and as plain text where it is not TOML; ``null`` turns a setting off. Tasks are
    addressed by name, or all at once by ``*``. Setting ``training.steps`` turns ``training.epochs`` off, and
    the other way round.

    Raises: SettingsError: no ``=``, or a task name that is not in the tree.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"--set {shorten(assignment)}: expected key=value, such as training.steps=100.")
    value = parse_value(text.strip())
    parts = key.strip().split(".")
    if parts[0] == "tasks" and len(parts) == 3:
        for task in choose_tasks(tree, parts[1]):
            task[parts[2]] = value
        return
    section = tree
    for part in parts[:-1]:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise SettingsError(f"--set {shorten(assignment)}: {part} holds values, not a section.")
    section[parts[-1]] = value
    drop_rival(section, parts[-1], value)


def drop_rival(section: dict[str, Any], key: str, value: Any) -> None:
    """Turn off the setting that ``key`` replaces: training lasts for steps or for epochs, never both."""
    rival = RIVALS.get(key)
    if rival in section and value not in (None, OFF):
        section[rival] = OFF


def choose_tasks(tree: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The task sections called ``name``, or all of them for ``*``."""
    listed = tree.get("tasks")
    tasks = [task for task in listed if isinstance(task, dict)] if isinstance(listed, list) else []
    chosen = [task for task in tasks if name in ("*", task.get("name"))]
    if not chosen:
        names = [task["name"] for task in tasks if isinstance(task.get("name"), str)]
        raise SettingsError(describe_unknown("task", name, names))
    return chosen


def parse_value(text: str) -> Any:
    """A TOML value, or the text itself where it is not TOML."""
    try:
        tree = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # not TOML, a number too long, brackets too deep
        return text
    return tree["value"] if tree.keys() == {"value"} else text  # more keys: the text went on in another line
