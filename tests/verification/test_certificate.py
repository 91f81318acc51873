"""The certificate: what must be the same for each older task, and that any difference breaks its proof."""

from dataclasses import replace

import pytest
from damaging import edit_answers, edit_results, open_case

from codestrata.verification.certificate import (
    Certificate,
    Evidence,
    check_isolation,
    compare_older_answers,
    issue_certificate,
    list_pairs,
)
from codestrata.verification.claims import Owner

EARLY = Owner("lora", 0, "early")


def gather(case, **values):
    """What is found where nothing has changed, but for some values."""
    found = {
        "base": case.claims.base.fingerprint,
        "components": {owner: entry.component_fingerprint for owner, entry in case.trainings.items()},
        "agreements": compare_older_answers(case),
    }
    return Evidence(**found | values)


def prove(run, **values):
    """The first proof of a run."""
    case = open_case(run)
    return issue_certificate(case, gather(case, **values)).proofs[0]


def last_walk(tree):
    return tree["methods"][0]["seeds"][0]


def test_cells_that_were_decoded_again_prove_their_outputs(small_run):
    case = open_case(small_run)
    certificate = issue_certificate(case, gather(case))
    (proof,) = certificate.proofs
    assert (proof.method, proof.seed, proof.task, proof.after) == ("lora", 0, "early", "late")
    assert proof.holds
    assert proof.outputs.because == "all 4 predictions of test decoded again"
    assert certificate.shared == ("finetune",)
    check = check_isolation(certificate)
    assert (check.verdict, check.count) == ("same", 3)
    assert check.notes == ("finetune shares its component: no isolation claimed",)


def test_every_older_task_after_every_newer_one_is_proved_by_bytes_or_canaries(canary_run):
    case = open_case(canary_run)
    proofs = issue_certificate(case, gather(case)).proofs
    assert all(proof.holds for proof in proofs)
    by_bytes = "test taken over on equal bytes"
    assert {(proof.task, proof.after): proof.outputs.because for proof in proofs} == {
        ("early", "late"): by_bytes,
        ("early", "last"): f"4 of 8 predictions of test decoded again; {by_bytes}",
        ("late", "last"): f"4 of 8 predictions of test decoded again; {by_bytes}",
    }


def test_what_was_decoded_now_counts_too(small_run):
    same = prove(small_run, decoded={EARLY: None})
    assert same.outputs.because.endswith("; decoded now: the same")
    other = prove(small_run, decoded={EARLY: "example x: completion ..."})
    assert (other.outputs.state, other.outputs.because) == ("changed", "example x: completion ...")


def test_a_component_that_changed_or_is_gone_breaks_the_proof(small_run):
    trained = open_case(small_run).trainings[EARLY].component_fingerprint
    changed = prove(small_run, components={EARLY: "00"})
    assert changed.component.state == "changed"
    assert changed.component.because == f"fingerprint {trained} when trained, 00 in its file now"
    gone = prove(small_run, components={})
    assert (gone.component.state, gone.holds) == ("not shown", False)


def test_a_base_that_changed_or_is_gone_breaks_the_proof(small_run):
    assert prove(small_run, base="00").base.state == "changed"
    gone = prove(small_run, base=None)
    assert (gone.base.state, gone.holds) == ("not shown", False)


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("place", [0, 1])
def test_the_base_at_every_training_between_counts(run, stage, place):
    key = f"base_fingerprint_{stage}"
    edit_results(run, lambda tree: last_walk(tree)["trainings"][place].update({key: "00"}))
    proof = prove(run)
    assert proof.base.state == "changed"
    assert proof.base.because.endswith(f"00 {stage} the training on {('early', 'late')[place]}")


def test_the_base_at_later_trainings_does_not_count(canaries):
    edit_results(canaries, lambda tree: last_walk(tree)["trainings"][2].update(base_fingerprint_after="00"))
    case = open_case(canaries)
    found = {(p.task, p.after): p.base.state for p in issue_certificate(case, gather(case)).proofs}
    assert found == {
        ("early", "late"): "unchanged",
        ("early", "last"): "changed",
        ("late", "last"): "changed",
    }


def test_the_fingerprint_in_the_later_row_counts(run):
    edit_results(run, lambda tree: last_walk(tree)["cells"][-2].update(component_fingerprint="00"))
    proof = prove(run)
    assert proof.component.state == "changed"
    assert proof.component.because.endswith("00 in row 2, early, test")


def test_an_answer_that_changed_when_decoded_again_is_named(run):
    row = edit_answers(run, "methods/lora/seed-0/late", "early", 1, completion="other")
    proof = prove(run)
    assert proof.outputs.state == "changed"
    assert proof.outputs.because.startswith(f"test: example {row['identifier']}: completion at first ")
    assert proof.outputs.because.endswith("later 'other'")


def test_a_recheck_that_the_run_itself_calls_different_is_named(run):
    edit_results(run, lambda tree: last_walk(tree)["cells"][-2].update(identical_predictions=False))
    assert prove(run).outputs.because == "test: identical_predictions is False in the results"


def test_a_canary_that_changed_is_named(canaries):
    row = edit_answers(canaries, "canaries/lora/seed-0/early", "early", 2, completion="other")
    case = open_case(canaries)
    found = {(p.task, p.after): p.outputs for p in issue_certificate(case, gather(case)).proofs}
    assert found["early", "last"].state == "changed"
    assert f"example {row['identifier']}" in found["early", "last"].because
    assert found["early", "late"].state == found["late", "last"].state == "unchanged"


def test_answers_that_cannot_be_read_are_no_proof(run):
    (run.path / "methods/lora/seed-0/late/predictions.jsonl").unlink()
    outputs = prove(run).outputs
    assert outputs.state == "changed"
    assert "cannot be read" in outputs.because


def test_answers_taken_over_need_equal_bytes_and_the_own_answers(canaries):
    case = open_case(canaries)
    components = gather(case).components | {EARLY: "00"}
    found = issue_certificate(case, gather(case, components=components)).proofs
    assert [proof.outputs.state for proof in found] == ["not shown", "not shown", "unchanged"]

    def point_elsewhere(tree):
        (cell,) = [c for c in last_walk(tree)["cells"] if (c["row"], c["task"]) == (2, "early")]
        cell["folder"] = "base"

    edit_results(canaries, point_elsewhere)
    outputs = prove(canaries).outputs
    assert outputs.state == "not shown"
    assert outputs.because == "row 2, early, test: taken-over, with the predictions in base"


@pytest.mark.parametrize(
    "edit",
    [
        lambda tree: last_walk(tree)["cells"].pop(-2),
        lambda tree: last_walk(tree)["trainings"].clear(),
        lambda tree: last_walk(tree).update(cells=[], trainings=[]),
        lambda tree: tree.update(methods=[]),
        lambda tree: last_walk(tree)["cells"][-2].update(origin="structural"),
        lambda tree: last_walk(tree)["cells"][-2].update(origin="decoded"),
        lambda tree: last_walk(tree)["cells"][-2].update(split="unseen"),
        lambda tree: last_walk(tree)["cells"].append(last_walk(tree)["cells"][2] | {"split": "unseen"}),
    ],
)
def test_a_proof_is_wanting_where_the_results_do_not_tell(run, edit):
    edit_results(run, edit)
    case = open_case(run)
    (proof,) = issue_certificate(case, gather(case)).proofs
    assert not proof.holds
    assert check_isolation(Certificate(proofs=(proof,))).verdict != "same"


def test_one_task_has_nothing_to_prove(small_run):
    case = open_case(small_run)
    case = replace(case, settings=replace(case.settings, tasks=case.settings.tasks[:1]))
    assert list_pairs(case) == []
    assert check_isolation(issue_certificate(case, gather(case))).verdict == "same"
