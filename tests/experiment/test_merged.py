"""Rows of R answered by merged components, which lie in the run's folders and load with plain PEFT."""

import copy

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from codestrata.components.lora import build_lora
from codestrata.errors import SettingsError
from codestrata.experiment.cells import read_predictions
from codestrata.experiment.walk import run_experiment
from codestrata.lab import open_lab
from codestrata.merging import merge_lora
from codestrata.methods import METHODS, build_component
from codestrata.models.loading import load_base
from codestrata.progress import Silence
from codestrata.settings.tree import build_settings

NAMES = ("merged", "two", "three")  # a task may be called as a part of ours is


@pytest.fixture(scope="module")
def settings(long_tree):
    tree = long_tree(
        3, methods=["lora", "merged"], training={"steps": 2}, merging={"how": "ties", "density": 0.7}
    )
    for task, name in zip(tree["tasks"], NAMES, strict=True):
        task["name"] = name
    return build_settings(tree)


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """A finished run whose components are merged; do not change it."""
    return run_experiment(settings, root=tmp_path_factory.mktemp("merged"), name="r")


@pytest.fixture(scope="module")
def walk(run):
    (seed,) = next(entry for entry in run.read_results()["methods"] if entry["name"] == "merged")["seeds"]
    return seed


def test_every_row_has_the_components_of_all_tasks_so_far(walk):
    assert walk["merging"]["how"] == "ties"
    assert walk["merging"]["density"] == 0.7
    found = [(entry["row"], entry["tasks"], entry["folder"]) for entry in walk["merging"]["components"]]
    assert found == [
        (row, list(NAMES[:row]), f"methods/merged/seed-0/{NAMES[row - 1]}/merged") for row in (1, 2, 3)
    ]


def test_the_cells_are_those_of_the_merged_component(walk):
    for entry in walk["merging"]["components"]:
        row = [cell for cell in walk["cells"] if cell["row"] == entry["row"]]
        assert [cell["task"] for cell in row] == list(NAMES)
        assert {cell["component_fingerprint"] for cell in row} == {entry["component_fingerprint"]}
    # The first is the first task's own, whose answers lora's row holds already.
    first = next(cell for cell in walk["cells"] if (cell["row"], cell["task"]) == (1, NAMES[0]))
    assert (first["origin"], first["folder"]) == ("taken-over", f"methods/lora/seed-0/{NAMES[0]}")


def test_the_folder_holds_what_merging_the_folders_makes(run, settings, tmp_path):
    base = load_base(settings.base, torch.device("cpu"))
    folders = [run.path / "methods" / "lora" / "seed-0" / name for name in NAMES]
    merge_lora(base.model, settings.lora, folders, tmp_path / "m", kind="ties", density=0.7, seed=0)
    wanted = load_file(tmp_path / "m" / "adapter_model.safetensors")
    found = load_file(run.path / "methods/merged/seed-0/three/merged/adapter_model.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_merged_component_loads_with_plain_peft_and_gives_the_answers_of_r(run, settings):
    folder = run.path / "methods/merged/seed-0/three"
    base = load_base(settings.base, torch.device("cpu"))
    model = PeftModel.from_pretrained(copy.deepcopy(base.model), folder / "merged").eval()
    stored = read_predictions(folder)
    limit = settings.decoding.max_new_tokens
    for name in NAMES:
        for prediction in stored[name, "test"]:
            ids = torch.tensor([base.tokenizer(prediction.prompt)["input_ids"]])
            said = model.generate(input_ids=ids, max_new_tokens=limit, do_sample=False)[0]
            assert base.tokenizer.decode(said, skip_special_tokens=True) == prediction.completion


def test_only_plain_lora_is_merged(settings, long_tree):
    lab = open_lab(settings, Silence())
    tree = long_tree(2, methods=["merged"], lora={"variant": "dora"})
    with pytest.raises(SettingsError, match=r"lora\.variant is dora with method 'merged': only plain LoRA"):
        build_component(METHODS["merged"], lab.base, build_settings(tree))
    assert (
        build_component(METHODS["merged"], lab.base, settings).kind
        == build_lora(lab.base.model, settings.lora).kind
    )
