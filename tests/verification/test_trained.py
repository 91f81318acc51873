"""Components from their files: the fingerprints that training recorded, and every damage named."""

import shutil

import pytest
from damaging import edit_results, flip, open_case
from safetensors.torch import load_file, save_file

from codestrata.components.residents import COMPONENT_FILE
from codestrata.errors import ComponentError
from codestrata.experiment.archive import fingerprint_component
from codestrata.files import hash_file, read_json, write_json
from codestrata.methods import METHODS, build_component
from codestrata.models.loading import choose_device, load_base
from codestrata.progress import Silence
from codestrata.verification.claims import Owner
from codestrata.verification.trained import READ_FILES, check_components, read_component

EARLY, LATE = Owner("lora", 0, "early"), Owner("lora", 0, "late")


def check(run):
    return check_components(open_case(run), Silence())


def edit_tensors(folder, name="adapter_model.safetensors"):
    """Change one number of a component so that its folder fits itself."""
    tensors = load_file(folder / name)
    next(iter(tensors.values())).flatten()[0] += 1
    save_file(tensors, folder / name, metadata={"format": "pt"})
    edit_header(folder, lambda header: header["sha256"].update({name: hash_file(folder / name)}))


def edit_header(folder, edit):
    header = read_json(folder / COMPONENT_FILE)
    edit(header)
    write_json(folder / COMPONENT_FILE, header)


def test_fingerprints_from_files_are_those_of_the_components_for_every_kind(small_run, tmp_path):
    settings = open_case(small_run).settings
    base = load_base(settings.base, choose_device("cpu"))
    kinds = [method for method in METHODS.values() if method.component is not None]
    assert {method.component for method in kinds} == set(READ_FILES)
    for method in kinds:
        component = build_component(method, base, settings)
        component.attach("one", seed=0)
        component.write("one", tmp_path / method.name, {"task": "early"})
        stored = read_component(tmp_path / method.name, method.component, base.fingerprint)
        assert stored.fingerprint == fingerprint_component(component, "one")
        assert stored.about["task"] == "early"
        component.detach("one")


def test_components_of_untouched_runs_pass_and_their_fingerprints_are_given(small_run, canary_run):
    for run, folders in ((small_run, 6), (canary_run, 6)):
        case = open_case(run)
        found, fingerprints = check_components(case, Silence())
        assert found.verdict == "same"
        assert fingerprints == {owner: entry.component_fingerprint for owner, entry in case.trainings.items()}
        assert found.about.startswith(f"the tensors in {folders} folders ")


def test_a_flipped_bit_is_named_by_its_file(run):
    flip(run.task_folder(*EARLY.place) / "adapter_model.safetensors")
    found, fingerprints = check(run)
    assert found.verdict == "differs"
    assert "changed since it was written" in found.first
    assert EARLY not in fingerprints
    assert LATE in fingerprints


def test_other_tensors_in_a_folder_that_fits_itself_are_named(run):
    edit_tensors(run.task_folder(*EARLY.place))
    edit_tensors(run.path / "methods/finetune/seed-0/late", "model.safetensors")
    said = check(run)[0].differences
    assert len(said) == 3
    assert "the tensors in methods/lora/seed-0/early have the fingerprint" in said[0]
    assert "the tensors in lora_early have the fingerprint" in said[1]
    assert "the tensors in methods/finetune/seed-0/late have the fingerprint" in said[2]


def test_swapped_folders_are_named(run):
    early, late = run.task_folder(*EARLY.place), run.task_folder(*LATE.place)
    early.rename(run.path / "aside")
    late.rename(early)
    (run.path / "aside").rename(late)
    said = check(run)[0].differences
    assert any("early/component.json: task is 'late', but 'early' is right" in line for line in said)
    assert any("the tensors in methods/lora/seed-0/early have the fingerprint" in line for line in said)


def test_a_founding_copy_that_is_another_component_is_named(run):
    shutil.rmtree(run.path / "lora_early")
    shutil.copytree(run.path / "lora_late", run.path / "lora_early")
    said = check(run)[0].differences
    assert len(said) == 3
    assert "lora_early/component.json: task is 'late'" in said[0]
    assert "not" in said[2]
    assert "as those of the first seed" in said[2]


def test_another_configuration_in_a_founding_copy_is_named(run):
    folder = run.path / "lora_early"
    config = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", config | {"lora_alpha": 99})
    digest = hash_file(folder / "adapter_config.json")
    edit_header(folder, lambda header: header["sha256"].update({"adapter_config.json": digest}))
    assert check(run)[0].differences == (
        "lora, seed 0, component early: adapter_config.json in lora_early is not that of the first seed",
    )


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda header: header.update(base_fingerprint="00"), "base_fingerprint is '00'"),
        (lambda header: header.update(kind="layers"), "kind is 'layers'"),
        (lambda header: header.update(seed=3), "seed is 3, but 0 is right"),
        (lambda header: header.update(method="layers"), "method is 'layers', but 'lora' is right"),
        (lambda header: header.update(data_fingerprint="00"), "data_fingerprint is '00'"),
        (lambda header: header.update(settings_fingerprint="00"), "settings_fingerprint is '00'"),
    ],
)
def test_what_a_component_says_of_itself_must_fit(run, edit, said):
    edit_header(run.task_folder(*EARLY.place), edit)
    found = check(run)[0]
    assert found.verdict == "differs"
    assert said in found.first


def walk(tree):
    return tree["methods"][0]["seeds"][0]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda tree: walk(tree)["trainings"][0].update(component_fingerprint="00"), "but 00 was trained"),
        (lambda tree: walk(tree)["trainings"][0].update(folder="lora_early"), "folder is 'lora_early'"),
        (lambda tree: walk(tree)["trainings"].pop(0), "the results tell of no such training"),
        (
            lambda tree: walk(tree)["cells"][-2].update(component_fingerprint="00"),
            "lora, seed 0, row 2, early, test: the component in the cell has the fingerprint 00",
        ),
        (
            lambda tree: walk(tree)["cells"][0].update(component_fingerprint="00"),
            "lora, seed 0, row 0, early, test: the component in the cell has the fingerprint 00, but None",
        ),
        (
            lambda tree: walk(tree)["transfer"]["cells"][0].update(component_fingerprint="00"),
            "lora, seed 0, transfer, row 1, late, test",
        ),
        (
            lambda tree: tree["noise_floor"]["entries"][0]["first"].update(component_fingerprint="00"),
            "lora, seed 0, noise, row 1, early, test",
        ),
        (
            lambda tree: tree["methods"][1]["seeds"][0]["cells"][-1].update(component_fingerprint="00"),
            "finetune, seed 0, row 2, late, test",
        ),
        (
            lambda tree: tree["base"]["cells"][0].update(component_fingerprint="00"),
            "base, row 0, early, test",
        ),
    ],
)
def test_a_fingerprint_in_the_results_that_is_another_one_is_named(run, edit, said):
    edit_results(run, edit)
    found = check(run)[0]
    assert found.verdict == "differs"
    assert any(said in line for line in found.differences), found.differences


def test_no_component_is_read_outside_the_run(run, tmp_path):
    shutil.move(run.task_folder(*EARLY.place), tmp_path / "outside")
    run.task_folder(*EARLY.place).symlink_to(tmp_path / "outside")
    found, fingerprints = check(run)
    assert "leads out of run" in found.first
    assert EARLY not in fingerprints


def test_a_pickle_in_the_place_of_tensors_is_not_opened(run):
    folder = run.task_folder(*EARLY.place)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ComponentError, match="a pickle, which is not opened"):
        read_component(folder, "lora", open_case(run).claims.base.fingerprint)
