"""``codestrata verify``."""

import json
import shutil

import pytest

from codestrata.cli.verifying import SHOWN, build_certificate_table, find_run
from codestrata.errors import RunError
from codestrata.experiment.walk import run_experiment
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory
from codestrata.verification.certificate import Certificate, Finding, Proof


@pytest.fixture(scope="module")
def finished(quick_tree, tmp_path_factory):
    tree = quick_tree(methods=["lora", "finetune"])
    return run_experiment(build_settings(tree), root=tmp_path_factory.mktemp("runs"), name="mine")


@pytest.fixture
def run(finished, tmp_path):
    return RunDirectory(shutil.copytree(finished.path, tmp_path / "mine"))


def read_files(run):
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_an_untouched_run_holds_with_decoding(call, run):
    before = read_files(run)
    code, out, err = call("verify", "mine", "--runs", run.path.parent, "--decode", "-q")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    rows = {words[1]: words[3:7:2] for line in lines if len(words := line.split()) > 5 and words[0] == "│"}
    for name in ("files", "plan", "base", "data", "components", "metrics", "predictions", "isolation"):
        assert rows[name][0] == "same", out
    (proof,) = [line for line in lines if "equal bytes" in line or ("decoded again" in line and "│" in line)]
    assert proof.split()[1:10:2] == ["lora", "0", "early", "late", "unchanged"]
    assert lines[-2:] == [
        "isolation: finetune shares its component: no isolation claimed",
        "Run 'mine' holds: everything that was compared is the same.",
    ]
    assert read_files(run) == before


def test_damage_ends_in_1_with_the_first_difference(call, run):
    (run.path / "results_analysis.md").write_text("better", encoding="utf-8")
    (run.path / "mine.txt").write_text("mine", encoding="utf-8")
    code, out, err = call("verify", run.path)
    assert code == 1
    assert "mine.txt is extra" in out
    assert "files: 1 more; --json lists them.\n" in out
    assert "Run 'mine' does not hold: files differs.\n" in out
    assert out.endswith("Predictions were not decoded again; --decode does.\n")
    assert "files against checksums.json" in err
    assert "components" in err


def test_what_keeps_everything_from_being_checked_is_said_once(call, run):
    (run.path / "experimental_results.json").write_text("{", encoding="utf-8")
    code, out, _ = call("verify", run.path, "-q")
    assert code == 1
    assert out.count("not JSON") == 1
    assert out.count("the same") == 5


def test_json_has_every_check_and_every_proof(call, run):
    (run.path / "mine.txt").write_text("mine", encoding="utf-8")
    code, out, err = call("verify", run.path, "--json", "-q")
    tree = json.loads(out)
    assert (code, err, tree["holds"]) == (1, "", False)
    verdicts = {check["subject"]: check["verdict"] for check in tree["checks"]}
    assert verdicts.pop("files") == "differs"
    assert set(verdicts.values()) == {"same"}
    assert [proof["holds"] for proof in tree["certificate"]["proofs"]] == [True]
    assert tree["certificate"]["shares_component"] == ["finetune"]


def test_an_unfinished_or_unknown_run_is_misuse(call, run):
    (run.path / "done.json").unlink()
    root = run.path.parent
    code, out, err = call("verify", "mine", "--runs", root, "-q")
    assert (code, out) == (2, "")
    assert f"codestrata resume mine --runs {root}" in err
    code, out, err = call("verify", "mien", "--runs", root, "-q")
    assert (code, out) == (2, "")
    assert "Did you mean 'mine'?" in err


def test_a_finished_run_is_found_without_its_settings(run, tmp_path):
    run.settings_file.unlink()
    assert find_run(tmp_path, "mine") == find_run(tmp_path / "nowhere", str(run.path)) == run
    (run.path / "done.json").unlink()
    with pytest.raises(RunError, match="never wrote its settings"):
        find_run(tmp_path, "mine")


def test_of_a_long_certificate_what_does_not_hold_comes_first():
    def build(number, state):
        fine, other = Finding("unchanged", "same bytes"), Finding(state, "why")
        task = f"task-{number}"
        return Proof(method="lora", seed=0, task=task, after="last", component=fine, base=fine, outputs=other)

    proofs = [build(number, "unchanged") for number in range(SHOWN)] + [build(SHOWN, "changed")]
    table = build_certificate_table(Certificate(proofs=tuple(proofs)))
    assert len(table.rows) == SHOWN
    assert table.rows[0] == ("lora", "0", f"task-{SHOWN}", "last", "unchanged", "unchanged", "changed: why")
    assert table.title.endswith(f"({SHOWN} of {SHOWN + 1}; --json has all)")
    assert len(build_certificate_table(Certificate(proofs=tuple(proofs[:2]))).rows) == 2
