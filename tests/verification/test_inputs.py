"""Files, plan, base and data of a run: untouched ones pass, and every damage is named."""

import shutil

import pytest
from damaging import edit_results, flip, open_case

from codestrata.files import read_json, write_text
from codestrata.progress import Silence
from codestrata.settings.tree import build_settings
from codestrata.verification.inputs import (
    check_base,
    check_data,
    check_files,
    find_escape,
    list_environment_changes,
)


def test_untouched_files_pass(small_run):
    check = check_files(small_run, Silence())
    assert check.verdict == "same"
    assert check.count == len(read_json(small_run.path / "checksums.json")["files"])


def test_a_changed_a_missing_and_an_extra_file_are_named(run):
    flip(run.path / "lora_early" / "adapter_model.safetensors")
    (run.path / "environment.json").unlink()
    (run.path / "notes.txt").write_text("mine", encoding="utf-8")
    said = check_files(run, Silence()).differences
    assert said[0].startswith("environment.json is missing: wanted ")
    assert said[1].startswith("lora_early/adapter_model.safetensors is changed: wanted ")
    assert said[2:] == ("notes.txt is extra: found a file",)


def test_a_link_that_leads_out_is_found_and_one_that_stays_is_not(run, tmp_path):
    (run.path / "inner").symlink_to(run.path / "base")
    assert find_escape(run) is None
    (run.path / "journal").symlink_to(tmp_path)
    assert f"{run.path / 'journal'} leads out of run" in find_escape(run)


def first_walk(tree):
    return tree["methods"][0]["seeds"][0]


def test_an_untouched_base_passes_and_is_given(small_run):
    case = open_case(small_run)
    check, base = check_base(case, Silence())
    assert (check.verdict, check.count) == ("same", 9)
    assert base.fingerprint == case.claims.base.fingerprint


def test_a_changed_base_is_named_with_both_fingerprints(small_run, restored):
    flip(restored.base / "model.safetensors")
    case = open_case(small_run)
    check, base = check_base(case, Silence())
    was, now = case.claims.base.fingerprint, base.fingerprint
    assert was != now
    assert check.differences == (f"base {restored.base}: its fingerprint was {was} and is {now} now",)


def test_a_base_that_is_gone_was_not_checked_but_the_records_were(run, restored):
    shutil.move(restored.base, restored.base.with_name("gone"))
    try:
        case = open_case(run)
        check, base = check_base(case, Silence())
        assert (check.verdict, check.count, base) == ("not checked", 8, None)
        assert str(restored.base) in check.first
    finally:
        shutil.move(restored.base.with_name("gone"), restored.base)


@pytest.mark.parametrize("stage", ["before", "after"])
def test_a_base_that_was_another_one_at_a_training_is_named(run, stage):
    edit_results(
        run, lambda tree: first_walk(tree)["trainings"][1].update({f"base_fingerprint_{stage}": "00"})
    )
    check, _ = check_base(open_case(run), Silence())
    assert check.verdict == "differs"
    assert check.first.startswith(
        f"lora, seed 0, component late: {stage} the training the base had the finger"
    )


def test_a_device_that_is_not_here_does_not_keep_the_base_from_being_checked(run):
    text = run.settings_file.read_text(encoding="utf-8")
    write_text(run.settings_file, text.replace('name = "cpu"', 'name = "cuda:7"'))
    check, base = check_base(open_case(run), Silence())
    assert (check.verdict, base.device.type) == ("same", "cpu")


def test_untouched_data_pass_and_are_given(small_run):
    check, tasks = check_data(open_case(small_run), Silence())
    assert (check.verdict, check.count, list(tasks)) == ("same", 2, ["early", "late"])


def test_changed_data_are_named_and_not_given(small_run, restored):
    restored.data.write_bytes(restored.data.read_bytes().replace(b"add 1 ", b"put 1 "))
    check, tasks = check_data(open_case(small_run), Silence())
    assert (check.verdict, tasks) == ("differs", {})
    assert check.first.startswith("task early: its data had the fingerprint ")


def test_data_that_are_gone_or_damaged_were_not_checked(small_run, restored):
    restored.data.unlink()
    check, tasks = check_data(open_case(small_run), Silence())
    assert (check.verdict, check.count, tasks) == ("not checked", 0, {})
    assert check.first.startswith(f"task early: {restored.data}: cannot be read")
    restored.data.write_text("{", encoding="utf-8")
    assert check_data(open_case(small_run), Silence())[0].verdict == "not checked"


def test_what_may_change_the_last_bits_is_named(small_run):
    then = read_json(small_run.path / "environment.json")
    assert list_environment_changes(then, then) == []
    now = then | {"threads": 64, "python": "4", "packages": then["packages"] | {"torch": "9", "peft": "9"}}
    torch = then["packages"]["torch"]
    assert list_environment_changes(then, now) == ["threads was 1, is 64", f"torch was {torch}, is 9"]
    assert "torch was None" in " ".join(list_environment_changes({"packages": 3}, then))


def test_settings_in_the_results_are_those_of_the_file(small_run):
    case = open_case(small_run)
    assert build_settings(case.claims.settings) == case.settings
