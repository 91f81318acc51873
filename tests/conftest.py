"""Fixtures for all tests: tiny models with random weights, built from configurations, without downloads."""

import copy
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codestrata.settings.tree import Settings, build_settings
from codestrata.store import RunDirectory

# Before torch is first imported, and for subprocesses: tiny models are slower on several threads, and much
# slower where the machine has other work.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Token ids and states of the tests stay out of the user's cache folder, in subprocesses too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def hasty_disk() -> Iterator[None]:
    """Nothing waits for the disk: no test cuts the power, and those of what is synced replace the call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # what is no open file is refused all the same
        yield


@pytest.fixture(scope="session", autouse=True)
def heard_interrupts() -> Iterator[None]:
    """Tests send SIGINT, which a suite that was started in the background was started to ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def build_tiny_t5() -> Callable[..., Any]:
    """Makes a T5 with random weights in evaluation mode; 2 + 2 blocks unless told otherwise."""

    def build(*, seed: int = 0, **overrides: Any) -> Any:
        import torch
        from transformers import T5Config, T5ForConditionalGeneration

        values = {
            "vocab_size": 64,
            "d_model": 16,
            "d_kv": 4,
            "d_ff": 32,
            "num_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "relu",
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
            **overrides,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return T5ForConditionalGeneration(T5Config(**values)).eval()

    return build


@pytest.fixture(scope="session")
def first_tiny_t5(build_tiny_t5: Callable[..., Any]) -> Any:
    """The tiny T5 that ``tiny_t5`` copies; do not change it."""
    return build_tiny_t5()


@pytest.fixture
def tiny_t5(first_tiny_t5: Any) -> Any:
    """A tiny T5 of one's own."""
    return copy.deepcopy(first_tiny_t5)


@pytest.fixture(scope="session")
def tiny_base_folder(build_tiny_t5: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user might name in ``base.name``: a tiny random T5 and a tokenizer that fits kata."""
    from codestrata.data.kata.problems import load_kata
    from codestrata.models.pocket import build_tokenizer
    from codestrata.settings.tasks import TaskSettings

    task = load_kata(TaskSettings(name="python", train_examples=20, validation_examples=0, test_examples=1))
    tokenizer = build_tokenizer([text for example in task.train for text in (example.prompt, example.target)])
    folder = tmp_path_factory.mktemp("base") / "tiny"
    build_tiny_t5(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def build_tiny_decoder() -> Callable[..., Any]:
    """Makes a decoder-only model with random weights in evaluation mode, by its model type: 3 blocks."""

    def build(model_type: str, *, seed: int = 0, **overrides: Any) -> Any:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        values = {
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 512,
            "initializer_range": 0.2,  # with the usual 0.02 all answers of so small a model are alike
            "tie_word_embeddings": model_type != "llama",
            "pad_token_id": None,
            "bos_token_id": None,
            "eos_token_id": 1,
            **overrides,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = AutoConfig.for_model(model_type, **values)
            return AutoModelForCausalLM.from_config(config).eval()

    return build


@pytest.fixture(scope="session")
def first_tiny_decoders(build_tiny_decoder: Callable[..., Any]) -> dict[str, Any]:
    """The models that ``tiny_llama``, ``tiny_qwen2`` and ``tiny_qwen3`` copy; do not change them."""
    return {model_type: build_tiny_decoder(model_type) for model_type in ("llama", "qwen2", "qwen3")}


@pytest.fixture
def tiny_llama(first_tiny_decoders: dict[str, Any]) -> Any:
    """A tiny Llama of one's own: embedding and output layer apart, no token for padding."""
    return copy.deepcopy(first_tiny_decoders["llama"])


@pytest.fixture
def tiny_qwen2(first_tiny_decoders: dict[str, Any]) -> Any:
    """A tiny Qwen2 of one's own: embedding and output layer tied, biases beside queries, keys and values."""
    return copy.deepcopy(first_tiny_decoders["qwen2"])


@pytest.fixture
def tiny_qwen3(first_tiny_decoders: dict[str, Any]) -> Any:
    """A tiny Qwen3 of one's own: embedding and output layer tied, norms of queries and keys."""
    return copy.deepcopy(first_tiny_decoders["qwen3"])


@pytest.fixture(scope="session")
def tiny_decoder_folders(
    build_tiny_decoder: Callable[..., Any], tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Folders by model type as a user might name them in ``base.name``, with the tokens of the tiny T5's.

    As with published ones, Llama's tokenizer puts a token first and has none for padding; Qwen's adds none.
    """
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    folders = {}
    for model_type in ("llama", "qwen2", "qwen3"):
        folder = tmp_path_factory.mktemp("base") / f"tiny-{model_type}"
        tokenizer: Any = AutoTokenizer.from_pretrained(tiny_base_folder)
        first, ids = "<extra_id_0>", {}
        if model_type == "llama":
            tokenizer.bos_token, tokenizer.pad_token = first, None
            ids = {"bos_token_id": tokenizer.bos_token_id}
        single = f"{first} $A" if model_type == "llama" else "$A"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=single, special_tokens=[(first, tokenizer.convert_tokens_to_ids(first))]
        )
        tokenizer.save_pretrained(folder)
        build_tiny_decoder(model_type, vocab_size=len(tokenizer), **ids).save_pretrained(folder)
        folders[model_type] = folder
    return folders


@pytest.fixture(scope="session")
def tiny_llama_folder(tiny_decoder_folders: dict[str, Path]) -> Path:
    """A tiny Llama as a user might name it in ``base.name``."""
    return tiny_decoder_folders["llama"]


@pytest.fixture(scope="session")
def tiny_qwen2_folder(tiny_decoder_folders: dict[str, Path]) -> Path:
    """A tiny Qwen2 as a user might name it in ``base.name``."""
    return tiny_decoder_folders["qwen2"]


@pytest.fixture(scope="session")
def tiny_qwen3_folder(tiny_decoder_folders: dict[str, Path]) -> Path:
    """A tiny Qwen3 as a user might name it in ``base.name``."""
    return tiny_decoder_folders["qwen3"]


@pytest.fixture(scope="session")
def tiny_tree(tiny_base_folder: Path) -> Callable[..., dict[str, Any]]:
    """Makes the tree of a whole run that takes a second or two: other values for a section are laid over."""

    def build(**sections: Any) -> dict[str, Any]:
        task = {"train_examples": 6, "validation_examples": 2, "test_examples": 4, "unseen_examples": 2}
        tree: dict[str, Any] = {
            "preset": "pocket",
            "methods": ["base", "lora", "layers", "finetune"],
            "tasks": [{"name": "python", **task}, {"name": "javascript", **task}],
            "base": {"name": str(tiny_base_folder)},
            # Large rates: a tiny random base must come to answer something else after two steps.
            "training": {"steps": 2, "batch_size": 3, "learning_rate": 0.02},
            "lora": {"rank": 2, "alpha": 8.0, "learning_rate": 0.01},
            "decoding": {"max_new_tokens": 6, "batch_size": 4},
            # One token: what a tiny base says in six is never fifty words and marks.
            "measurement": {"transfer": True, "repetition_tokens": 1},
            "device": {"name": "cpu", "threads": 1},
        }
        for name, values in sections.items():
            old = tree.get(name)
            tree[name] = {**old, **values} if isinstance(old, dict) else values
        return tree

    return build


@pytest.fixture(scope="session")
def quick_tree(tiny_tree: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """As ``tiny_tree``, for a run in half a second: own examples without tests, so that no program runs."""
    path = tmp_path_factory.mktemp("examples") / "own.jsonl"
    rows = [{"prompt": f"add {n} to xs", "target": f"return [x + {n} for x in xs]"} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def build(**sections: Any) -> dict[str, Any]:
        task = {"source": "file", "path": str(path), "language": "python", "train_examples": 6}
        quick = {
            "methods": ["base", "lora"],
            "tasks": [{"name": "early", **task}, {"name": "late", "seed": 1, **task}],
        }
        return tiny_tree(**{**quick, **sections})

    return build


@pytest.fixture(scope="session")
def tiny_settings(tiny_tree: Callable[..., dict[str, Any]]) -> Settings:
    """The settings of ``tiny_run``."""
    return build_settings(tiny_tree())


@pytest.fixture(scope="session")
def tiny_run(tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run of four methods on two tasks, for many tests to look at; do not change it."""
    from codestrata.experiment.walk import run_experiment

    return run_experiment(tiny_settings, root=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def routed_run(quick_tree: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run whose components a router picks, for many tests to look at; do not change it."""
    from codestrata.experiment.walk import run_experiment

    tree = quick_tree(methods=["routed"], measurement={"agreement": False, "transfer": False})
    return run_experiment(build_settings(tree), root=tmp_path_factory.mktemp("routed"), name="r")


class Checkout:
    """A git repository of a test: commits are made on the days that they are told."""

    def __init__(self, path: Path, *, bare: bool = False) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main", *(["--bare"] if bare else []))

    def git(self, *arguments: str, day: str = "2020-01-01") -> str:
        """What git prints."""
        moment = f"{day}T12:00:00+0000"
        names = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
        names |= {"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", "-c", "commit.gpgsign=false", *arguments],
            cwd=self.path,
            env=kept | names | {"GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment},
            check=True,
            capture_output=True,
        )
        return done.stdout.decode("utf-8", errors="replace").strip()

    def write(self, files: dict[str, str | bytes | None]) -> None:
        """Write files; those whose content is ``None`` are removed."""
        for name, content in files.items():
            path = Path(os.fsdecode(os.path.join(os.fsencode(self.path), os.fsencode(name))))
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, day: str, files: dict[str, str | bytes | None]) -> str:
        """A commit with these changes; gives its name."""
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={day}", day=day)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Callable[..., Checkout]:
    """A function that makes a git repository of the given name."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    return lambda name="checkout", **options: Checkout(tmp_path / name, **options)
