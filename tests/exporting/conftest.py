"""A finished run of every kind of component whose export is tested, and copies of it to change."""

import shutil

import pytest

from codestrata.experiment.walk import run_experiment
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory


@pytest.fixture(scope="session")
def small_settings(quick_tree):
    """The settings of ``small_run``: its new block makes the decoder deeper than the encoder."""
    tree = quick_tree(
        methods=["base", "lora", "layers", "finetune"], layers={"placement": "decoder-top", "blocks": 1}
    )
    return build_settings(tree)


@pytest.fixture(scope="session")
def small_run(small_settings, tmp_path_factory):
    """A finished run of three methods; do not change it."""
    return run_experiment(small_settings, root=tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def decoder_run(quick_tree, tiny_llama_folder, tmp_path_factory):
    """A finished run on a base without encoder, new blocks between its own; do not change it."""
    tree = quick_tree(
        methods=["base", "lora", "layers", "finetune"],
        base={"name": str(tiny_llama_folder)},
        layers={"placement": "interleaved:2"},
    )
    return run_experiment(build_settings(tree), root=tmp_path_factory.mktemp("decoder"))


@pytest.fixture
def copied(small_run, tmp_path):
    """A run of one's own, to be changed."""
    run = RunDirectory(tmp_path / "runs" / "copy")
    shutil.copytree(small_run.path, run.path)
    return run
