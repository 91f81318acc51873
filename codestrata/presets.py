"""Ready-made experiments, as trees of settings that an experiment file and ``--set`` change.

What this does not do: check them; ``settings.build_settings`` does, as for any other tree.
"""

from typing import Any

from codestrata.errors import SettingsError, describe_unknown, shorten

Tree = dict[str, Any]


def pocket() -> Tree:
    """The embedded default: the shipped base learns kata in Python, then JavaScript, in minutes on a CPU."""
    task = {
        "source": "kata",
        "train_examples": 4000,
        "validation_examples": 100,
        "test_examples": 300,
        "unseen_examples": 60,
    }
    return {
        "preset": "pocket",
        "methods": ["base", "lora", "layers", "finetune"],
        "tasks": [{"name": "python", **task}, {"name": "javascript", **task}],
        "base": {"name": "pocket"},
        "training": {
            "steps": 300,
            "batch_size": 24,
            "learning_rate": 3e-3,
            "decay": "cosine",
            "precision": "fp32",  # the same numbers whether the processor has bf16 or not
        },
        "lora": {"rank": 16, "alpha": 32.0, "learning_rate": 7e-3},
        "layers": {"placement": "both", "learning_rate": 1e-2},
        "weights": {"learning_rate": 3e-3},
        "decoding": {"batch_size": 180, "max_new_tokens": 96},
        "measurement": {"transfer": True},
    }


def mined() -> Tree:
    """Real code that is on this machine anyway: the shipped base learns to say what functions do.

    Why summaries, and what the limits cut: docs/tutorial-own-repository.md.
    """
    task = {
        "source": "mined",
        "objective": "summarize",
        "train_examples": 2000,
        "validation_examples": 100,
        "test_examples": 150,
    }
    return {
        "preset": "mined",
        "methods": ["base", "lora", "layers", "finetune"],
        "tasks": [{"name": "python", **task}, {"name": "javascript", **task}],
        "base": {"name": "pocket"},
        "training": {
            "steps": 150,
            "batch_size": 12,
            "learning_rate": 3e-3,
            "decay": "cosine",
            "max_prompt_tokens": 1024,
            "max_target_tokens": 192,
            "precision": "fp32",
        },
        "lora": {"rank": 16, "alpha": 32.0, "learning_rate": 7e-3},
        "layers": {"placement": "both", "learning_rate": 1e-2},
        "weights": {"learning_rate": 3e-3},
        "decoding": {"batch_size": 100, "max_new_tokens": 128},
    }


def field() -> Tree:
    """What a practitioner would try: every serious method on three kata languages in a row, three seeds.

    Where each learning rate comes from, and which of them are not the lowest of their grid: docs/field.md.
    """
    task = {
        "source": "kata",
        "train_examples": 2400,
        "validation_examples": 100,
        "test_examples": 100,
    }
    return {
        "preset": "field",
        "methods": [
            "base",
            "lora",
            "layers",
            "hybrid",
            "ia3",
            "prompt",
            "own-layers",
            "shared-layers",
            "warm",
            "routed",
            "merged",
            "finetune",
            "lora-seq",
            "olora",
            "ewc",
            "replay",
            "distill",
            "joint",
        ],
        "seeds": [0, 1, 2],
        "tasks": [{"name": name, **task} for name in ("python", "javascript", "lua")],
        "base": {"name": "pocket"},
        "training": {
            "steps": 100,
            "batch_size": 24,
            "learning_rate": 3e-3,
            "decay": "cosine",
            "precision": "fp32",
        },
        "lora": {"rank": 16, "alpha": 32.0, "learning_rate": 7e-3},
        "layers": {"placement": "both", "learning_rate": 1e-2},
        "hybrid": {"placement": "both", "learning_rate": 1e-2},
        "shared_layers": {"placement": "both", "learning_rate": 1e-2},
        "ia3": {"learning_rate": 0.2},
        "own_layers": {"placement": "both", "learning_rate": 2e-2},
        "weights": {"learning_rate": 3e-3},
        "decoding": {"batch_size": 100, "max_new_tokens": 96},
        "measurement": {"agreement": False},
    }


def founding() -> Tree:
    """The founding experiment as it was run: copying trained, continuing scored, decoding sampled."""
    task = {
        "source": "codesearchnet",
        "objective": "copy",
        "evaluation_objective": "continue",
        "train_examples": 15000,
        "validation_examples": 5000,
        "test_examples": 50,
        "near_duplicates": 1.0,  # it looked for none
    }
    return {
        "preset": "founding",
        "methods": ["base", "lora", "layers"],
        "tasks": [{"name": "python", **task}, {"name": "javascript", **task}],
        "base": {"name": "Salesforce/codet5-small"},
        "training": {
            "epochs": 2.0,
            "batch_size": 8,
            "learning_rate": 5e-4,
            "weight_decay": 0.01,
            "clip_norm": 1.0,
            "warmup_fraction": 0.0,
            "decay": "constant",
            "max_prompt_tokens": 512,
            "max_target_tokens": 512,
            "base_dropout": True,
        },
        "lora": {"rank": 16, "alpha": 32.0, "dropout": 0.1, "targets": ["q", "k", "v", "o", "wo"]},
        "layers": {"placement": "encoder-top", "init": "scaled:0.01"},
        "decoding": {
            "batch_size": 8,
            "max_new_tokens": 512,
            "beams": 3,
            "temperature": 0.7,
            "no_repeat_ngram": 2,
        },
    }


def founding_sound() -> Tree:
    """The founding question asked properly: documentation to code, greedy, 1,000 held-out examples."""
    tree = founding()
    changes = {
        "objective": "generate",
        "evaluation_objective": "generate",
        "test_examples": 1000,
        "near_duplicates": None,
    }
    return tree | {
        "preset": "founding-sound",
        "tasks": [task | changes for task in tree["tasks"]],
        "lora": tree["lora"] | {"targets": ["q", "k", "v", "o", "wi", "wo"]},
        "layers": {"placement": "encoder-top", "init": "copy"},
        "decoding": {"batch_size": 64, "max_new_tokens": 256},
    }


def codetask() -> Tree:
    """CodeTask-CL's stream of four kinds of work: code from words, translation, summaries, repair.

    Lengths are those that CodeXGLUE trains with; of each set a part, as the whole takes days without a GPU.
    Source: Yadav et al. 2023, arXiv:2307.02435. Theirs takes every example and other methods.
    """
    sizes = {"train_examples": 10000, "validation_examples": 500, "test_examples": 500}
    return {
        "preset": "codetask",
        "methods": ["base", "lora", "layers", "finetune"],
        "tasks": [
            {"name": "concode", "source": "concode", **sizes},
            {"name": "translate", "source": "translate", "language": "c_sharp", **sizes},
            {
                "name": "summarize",
                "source": "codesearchnet",
                "language": "ruby",
                "objective": "summarize",
                **sizes,
            },
            {"name": "refine", "source": "refine", **sizes},
        ],
        "base": {"name": "Salesforce/codet5-small"},
        "training": {
            "epochs": 2.0,
            "batch_size": 16,
            "learning_rate": 5e-4,
            "max_prompt_tokens": 320,
            "max_target_tokens": 256,
        },
        "lora": {"rank": 16, "alpha": 32.0},
        "layers": {"placement": "both"},
        "decoding": {"batch_size": 64, "max_new_tokens": 256},
    }


PRESETS = {
    "pocket": pocket,
    "mined": mined,
    "field": field,
    "codetask": codetask,
    "founding": founding,
    "founding-sound": founding_sound,
}


def build_preset(name: str) -> Tree:
    """The tree of a preset. Raises SettingsError: an unknown name."""
    if not isinstance(name, str):  # whatever an experiment file says
        raise SettingsError(f"preset is {shorten(name)}: expected text.")
    if name not in PRESETS:
        raise SettingsError(describe_unknown("preset", name, PRESETS))
    return PRESETS[name]()
