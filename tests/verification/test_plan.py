"""The plan of a run: carried out in untouched ones; what the results lack or tell otherwise is named."""

import pytest
from damaging import edit_results, open_case

from codestrata.errors import SettingsError
from codestrata.files import write_json, write_text
from codestrata.methods import METHODS
from codestrata.verification.claims import read_claims
from codestrata.verification.inputs import build_case
from codestrata.verification.plan import check_plan, list_origins


def plan(run):
    return check_plan(*build_case(run, read_claims(run)))


def test_the_plan_of_untouched_runs_was_carried_out(small_run, canary_run):
    assert plan(small_run).verdict == plan(canary_run).verdict == "same"


def first_walk(tree):
    return tree["methods"][0]["seeds"][0]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda tree: tree["settings"]["training"].update(steps=3), "/settings of the results"),
        (lambda tree: tree.update(settings_fingerprint="00"), "/settings_fingerprint of the results 00"),
        (lambda tree: tree["environment"].update(threads=64), "environment.json is not the environment"),
        (lambda tree: tree["tasks"].reverse(), "the results have the tasks ('late', 'early')"),
        (lambda tree: tree["methods"].pop(), "the results have the methods ['lora']"),
        (
            lambda tree: tree["methods"][0].update(schedule="sequential"),
            "lora sequential with component lora",
        ),
        (lambda tree: first_walk(tree).update(seed=1), "the results have the seeds (1,) of lora"),
        (lambda tree: first_walk(tree)["trainings"].pop(), "tell of trainings on ('early',)"),
        (lambda tree: first_walk(tree)["cells"].pop(), "the results have no cell in row 2, late, test"),
        (lambda tree: first_walk(tree)["cells"][0].update(row=9), "a cell too many in row 9, early, test"),
        (lambda tree: first_walk(tree)["cells"].append(first_walk(tree)["cells"][0]), "have a cell twice"),
        (
            lambda tree: first_walk(tree)["cells"][-1].update(trained_through="early"),
            "row 2, late, test: the results have it after early, not late",
        ),
    ],
)
def test_results_that_lack_something_or_tell_of_other_things_are_named(run, edit, said):
    edit_results(run, edit)
    check = plan(run)
    assert check.verdict == "differs"
    assert any(said in line for line in check.differences), check.differences


def test_without_settings_those_in_the_results_serve_and_it_is_said(run):
    run.settings_file.unlink()
    check = plan(run)
    assert check.verdict == "differs"
    assert check.first.startswith("settings.toml: ")
    edit_results(run, lambda tree: tree["settings"].update(methods=["lroa"]))
    with pytest.raises(SettingsError, match="lroa"):
        open_case(run)


def test_an_environment_that_cannot_be_read_is_named(run):
    write_text(run.path / "environment.json", "{")
    assert "environment.json:1: not JSON" in plan(run).first


def test_environment_of_another_shape_does_not_pass(run):
    write_json(run.path / "environment.json", {})
    assert plan(run).first == "environment.json is not the environment in the results"


def test_only_what_the_schedule_allows_can_have_come_about(canary_run):
    case = open_case(canary_run)
    cells = {(cell.row, cell.task): cell for cell in case.walks["lora", 0].cells}
    lora = {place: list_origins(case, METHODS["lora"], cell) for place, cell in cells.items()}
    assert lora[0, "late"] == ("decoded",)
    assert lora[1, "late"] == ("structural",)
    assert lora[2, "late"] == ("decoded", "taken-over")
    assert lora[2, "early"] == ("rechecked", "taken-over")
    assert lora[3, "early"] == ("rechecked", "taken-over", "canary")
    assert list_origins(case, METHODS["finetune"], cells[1, "late"]) == ("decoded", "taken-over")
    assert list_origins(case, METHODS["joint"], cells[1, "late"]) == ("decoded", "taken-over")
    warm = {place: list_origins(case, METHODS["warm"], cell) for place, cell in cells.items()}
    assert warm[1, "late"] == ("decoded", "taken-over")  # by the component that its own will begin as
    assert {place: found for place, found in warm.items() if found != lora[place]}.keys() == {
        (1, "late"),
        (1, "last"),
        (2, "last"),
    }
    assert list_origins(case, METHODS["base"], cells[1, "early"]) == ("structural",)


@pytest.mark.parametrize(
    ("row", "task", "values", "said"),
    [
        (
            1,
            "late",
            {"folder": "methods/lora/seed-0/late"},
            "said to lie in methods/lora/seed-0/late, not in base",
        ),
        (0, "late", {"folder": "controls/echo"}, "said to lie in controls/echo, not in base"),
        (1, "early", {"folder": "methods/lora/seed-0/last"}, "not in methods/lora/seed-0/early"),
        (2, "early", {"folder": "methods/lora/seed-0/late"}, "was decoded with the same bytes"),
        (2, "early", {"component_fingerprint": "00"}, "was decoded with the same bytes"),
        (2, "early", {"origin": "structural"}, "no cell there can be structural"),
        (2, "early", {"origin": "decoded"}, "no cell there can be decoded"),
        (2, "early", {"origin": "canary"}, "no cell there can be canary"),
        (1, "late", {"origin": "decoded"}, "no cell there can be decoded"),
    ],
)
def test_cells_whose_answers_lie_elsewhere_are_named(canaries, row, task, values, said):
    def edit(tree):
        (cell,) = [cell for cell in first_walk(tree)["cells"] if (cell["row"], cell["task"]) == (row, task)]
        cell.update(values)

    edit_results(canaries, edit)
    differences = plan(canaries).differences
    assert differences[0].startswith(f"lora, seed 0: row {row}, {task}, test: ")
    assert said in differences[0]
    taken_over = 2 * ("seed-0/last" in values.get("folder", ""))  # later cells lose what they were taken from
    assert len(differences) == 1 + taken_over


def test_answers_of_the_base_or_to_other_tasks_that_lie_elsewhere_are_named(run):
    def edit(tree):
        tree["base"]["cells"][1].update(folder="noise/base/early")
        first_walk(tree)["transfer"]["cells"][0].update(folder="base")

    edit_results(run, edit)
    assert plan(run).differences == (
        "lora, seed 0: transfer, row 1, late, test: decoded, in base, not in "
        "methods/lora/seed-0/early/transfer",
        "base: row 0, late, test is decoded, in noise/base/early",
    )
