"""A run verified whole: untouched ones hold, and damage is found by the check that should find it."""

import json
import shutil

import pytest
from damaging import edit_answers, edit_results, find, flip, read_all, reseal

from codestrata.errors import RunError
from codestrata.experiment import rescoring
from codestrata.experiment.rescoring import Change, rescore_run, store_rescored
from codestrata.files import write_text
from codestrata.languages import isolation
from codestrata.languages.confinement import Isolation
from codestrata.locks import hold
from codestrata.progress import Silence
from codestrata.store import RunDirectory
from codestrata.verification import runs
from codestrata.verification.runs import (
    SUBJECTS,
    check_metrics,
    describe_verification,
    sort_changes,
    verify_run,
)

ALL = ["files", *SUBJECTS]


def test_an_untouched_run_holds_wherever_it_lies_and_nothing_is_written(small_run, tmp_path):
    run = RunDirectory(shutil.copytree(small_run.path, tmp_path / "elsewhere"))
    before = read_all(run)
    verification = verify_run(run, decode=True)
    assert [check.subject for check in verification.checks] == ALL
    assert [check.first for check in verification.checks] == [None] * len(ALL)
    assert verification.holds
    assert all(check.count > 0 for check in verification.checks)
    assert read_all(run) == before


@pytest.mark.slow
def test_a_run_of_every_method_with_programs_holds(tiny_run):
    assert find(tiny_run, decode=True) == {}


def test_without_decoding_all_else_is_checked(canary_run):
    verification = verify_run(canary_run)
    assert [check.subject for check in verification.checks] == [name for name in ALL if name != "predictions"]
    tree = json.loads(json.dumps(describe_verification(verification)))
    assert (tree["run"], tree["holds"], len(tree["checks"])) == ("mine", True, 7)
    proofs = tree["certificate"]["proofs"]
    assert [(proof["task"], proof["after"], proof["holds"]) for proof in proofs] == [
        ("early", "late", True),
        ("early", "last", True),
        ("late", "last", True),
    ]
    assert {proofs[0][name]["state"] for name in ("component", "base", "outputs")} == {"unchanged"}
    assert tree["certificate"]["shares_component"] == []


@pytest.mark.usefixtures("without_scoring")
def test_every_check_is_shown_with_how_far_it_is(canary_run):
    phases = []

    class Watcher(Silence):
        def start(self, label, total):
            phases.append([label, total, 0])

        def advance(self, done, note=""):
            phases[-1][2] = done

    verify_run(canary_run, decode=True, progress=Watcher())
    assert [label.partition(" ")[0] for label, _, _ in phases] == [
        *("files", "base", "data", "components", "decode", "answers")
    ]
    assert all(total == done for _, total, done in phases), phases


@pytest.mark.usefixtures("without_scoring")
def test_a_flipped_bit_in_a_component_is_found_by_its_file_and_its_tensors(run):
    flip(run.task_folder("lora", 0, "early") / "adapter_model.safetensors")
    assert find(run).keys() == {"files", "components", "isolation"}
    reseal(run)
    found = find(run)
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        "components": "differs",
        "isolation": "not checked",
    }


def test_a_changed_completion_with_new_checksums_is_found_by_the_metrics(run):
    edit_answers(run, "base", "late", 0, completion="return [x + 1 for x in xs]")
    reseal(run)
    found = find(run)
    assert list(found) == ["metrics"]
    assert found["metrics"][1].startswith("/base/cells/1/")


def test_a_changed_completion_with_new_checksums_and_scores_is_found_by_decoding(run):
    row = edit_answers(run, "base", "late", 0, completion="return [x + 1 for x in xs]")
    reseal(run)
    store_rescored(run, rescore_run(run))
    found = find(run, decode=True)
    assert list(found) == ["predictions"]
    assert (
        f"base, row 0, late, test: example {row['identifier']}: completion stored" in found["predictions"][1]
    )


def test_a_changed_score_is_found_by_the_metrics(run):
    edit_results(run, lambda tree: tree["base"]["cells"][0]["scores"]["bleu"].update(value=0.5))
    reseal(run)
    found = find(run)
    assert list(found) == ["metrics"]
    assert found["metrics"][1].startswith("/base/cells/0/scores/bleu/value: stored 0.5, computed ")


@pytest.mark.usefixtures("without_scoring")
def test_a_missing_and_an_extra_file_are_found_by_the_checksums(run):
    (run.path / "results_analysis.md").unlink()
    (run.path / "mine.txt").write_text("mine", encoding="utf-8")
    found = find(run)
    assert list(found) == ["files"]
    assert found["files"][1].startswith("mine.txt is extra")


@pytest.mark.usefixtures("without_scoring")
def test_a_changed_base_is_found(small_run, restored):
    flip(restored.base / "model.safetensors")
    assert find(small_run).keys() == {"base", "isolation"}


@pytest.mark.usefixtures("without_scoring")
def test_changed_data_are_found(small_run, restored):
    restored.data.write_bytes(restored.data.read_bytes().replace(b"add 1 ", b"put 1 "))
    assert find(small_run).keys() == {"data"}


@pytest.mark.usefixtures("without_scoring")
def test_a_base_that_is_gone_is_no_pass(small_run, inputs):
    inputs.base.rename(inputs.base.with_name("gone"))
    try:
        verdicts = {name: verdict for name, (verdict, _) in find(small_run, decode=True).items()}
    finally:
        inputs.base.with_name("gone").rename(inputs.base)
    assert verdicts == dict.fromkeys(("base", "predictions", "isolation"), "not checked")


@pytest.mark.usefixtures("without_scoring")
@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda tree: tree["tasks"][0].update(fingerprint="00"), {"data", "components"}),
        (lambda tree: tree["base"].update(fingerprint="00"), {"base", "components", "isolation"}),
        (
            lambda tree: tree["methods"][0]["seeds"][0]["trainings"][0].update(component_fingerprint="00"),
            {"components", "isolation"},
        ),
    ],
)
def test_a_changed_fingerprint_in_the_results_is_found(run, edit, found):
    edit_results(run, edit)
    reseal(run)
    assert find(run).keys() == found


def test_an_unfinished_run_is_refused_with_how_to_go_on(run):
    (run.path / "done.json").unlink()
    with pytest.raises(RunError, match="codestrata resume mine"):
        verify_run(run)


def test_a_run_in_use_is_refused(run):
    with hold(run.path / "lock", "it"), pytest.raises(RunError, match="'mine' is in use"):
        verify_run(run)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 7}'])
def test_results_that_cannot_be_used_leave_nothing_else_to_check(run, text):
    write_text(run.path / "experimental_results.json", text)
    verification = verify_run(run)
    assert [check.verdict for check in verification.checks] == ["differs"] + ["not checked"] * 6
    assert not verification.holds


@pytest.mark.parametrize(
    "edit",
    [
        lambda tree: tree.update(noise_floor={"entries": []}, controls=3),
        lambda tree: tree.pop("controls"),
        lambda tree: tree["base"]["cells"][0].update(folder="../elsewhere"),
        lambda tree: tree["methods"][0]["seeds"][0]["cells"][2].update(origin="rechecked"),
    ],
)
def test_results_of_a_wrong_shape_are_a_difference_and_no_crash(run, edit):
    edit_results(run, edit)
    assert check_metrics(run, Silence()).verdict == "differs"


def test_nothing_is_opened_behind_a_link_that_leads_out(run, tmp_path, monkeypatch):
    shutil.move(run.path / "base" / "predictions.jsonl", tmp_path / "predictions.jsonl")
    (run.path / "base" / "predictions.jsonl").symlink_to(tmp_path / "predictions.jsonl")
    monkeypatch.setattr(runs, "read_claims", lambda _: pytest.fail("it was opened"))
    verification = verify_run(run, decode=True)
    assert [check.verdict for check in verification.checks] == ["differs"] + ["not checked"] * 7
    assert "leads out of run" in verification.checks[1].first


@pytest.mark.usefixtures("without_scoring")
def test_settings_that_are_gone_or_damaged_are_found_by_files_and_plan(run):
    run.settings_file.unlink()
    assert find(run).keys() == {"files", "plan"}


def change(pointer, stored=1, computed=2):
    return Change(pointer=pointer, stored=stored, computed=computed)


def test_what_confines_programs_here_is_a_note_and_no_difference():
    changes = [change("/execution/python/rung", "bubblewrap", "landlock"), change("/a/isolation", "x", "y")]
    differences, unchecked, notes = sort_changes(changes)
    assert (differences, unchecked) == ((), ())
    assert notes == (
        "programs are confined in another way here: /execution/python/rung: stored 'bubblewrap', computed "
        "'landlock'",
    )


def test_where_a_score_cannot_be_computed_only_the_other_scores_are_compared():
    lost = change("/base/cells/0/scores/pass@1/value", 0.5, None)
    score, follows = change("/base/cells/0/scores/bleu/value"), change("/comparisons/0/p")
    assert sort_changes([score, follows])[0] == (
        "/base/cells/0/scores/bleu/value: stored 1, computed 2",
        "/comparisons/0/p: stored 1, computed 2",
    )
    differences, (unchecked,), _ = sort_changes([lost, score, follows])
    assert differences == ("/base/cells/0/scores/bleu/value: stored 1, computed 2",)
    assert unchecked.startswith(
        "1 stored scores cannot be computed here, such as /base/cells/0/scores/pass@1"
    )
    assert "and 1 entries that may follow from them" in unchecked


class Asked(Exception):
    """The scoring has begun."""


def refuse(*_):
    raise Asked


def test_no_program_of_a_run_is_run_unconfined_because_the_run_says_so(run, monkeypatch):
    def choose(language, isolation, allow_unconfined):
        assert allow_unconfined
        return Isolation(language=language, rung="limits", runtime="r", refused={})

    monkeypatch.setattr(isolation, "choose_isolation", choose)
    monkeypatch.setattr(rescoring, "CellReader", refuse)
    edit_results(run, lambda tree: tree["settings"]["execution"].update(allow_unconfined=True))
    check = check_metrics(run, Silence())
    assert check.verdict == "not checked"
    assert check.first.startswith("Nothing would confine the python programs in this run's predictions here")
    with pytest.raises(Asked):
        check_metrics(run, Silence(), allow_unconfined=True)
    edit_results(run, lambda tree: tree["settings"]["execution"].update(allow_unconfined=False))
    with pytest.raises(Asked):
        check_metrics(run, Silence())
