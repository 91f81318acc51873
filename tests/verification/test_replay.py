"""Every stored answer is asked for again, in the batches of the run, and the first other one is named."""

import shutil
from itertools import groupby

import pytest
from damaging import edit_answers, edit_results, find, flip, open_case, reseal

from codestrata.experiment import cells
from codestrata.methods import METHODS
from codestrata.verification import runs
from codestrata.verification.claims import Owner
from codestrata.verification.inputs import check_data
from codestrata.verification.replay import list_questions, list_training_names
from codestrata.verification.runs import verify_run

pytestmark = pytest.mark.usefixtures("without_scoring")


def decode(run):
    return next(check for check in verify_run(run, decode=True).checks if check.subject == "predictions")


@pytest.mark.parametrize("name", ["small_run", "canary_run"])
def test_every_stored_answer_of_a_model_is_asked_for_again(request, name):
    run = request.getfixturevalue(name)
    questions = list_questions(open_case(run))
    asked = {question.folder for question in questions}
    files = {path.parent.relative_to(run.path).as_posix() for path in run.path.rglob("predictions.jsonl")}
    assert asked | {"controls/echo", "controls/nearest"} == files
    stored = {(folder, *place) for folder in asked for place in cells.read_predictions(run.path / folder)}
    assert {(question.folder, question.task, question.split) for question in questions} == stored


def test_all_manners_occur(small_run, canary_run):
    asked = [question for run in (small_run, canary_run) for question in list_questions(open_case(run))]
    assert {question.manner for question in asked} == {"plain", "row", "canaries", "shifted"}


@pytest.mark.parametrize("name", ["small_run", "canary_run"])
def test_questions_of_a_component_stand_together(request, name):
    questions = list_questions(open_case(request.getfixturevalue(name)))
    owners = [owner for owner, _ in groupby(questions, key=lambda question: question.owner)]
    assert owners[0] is None
    assert len(owners) == len(set(owners))


def test_untouched_runs_give_every_answer_again_in_the_batches_of_the_run(canary_run, monkeypatch):
    asked = []
    real = cells.predict

    def predict(base, examples, settings, **rest):
        asked.append(([example.identifier for example in examples], settings.seed, rest["compared"] is None))
        return real(base, examples, settings, **rest)

    monkeypatch.setattr(cells, "predict", predict)
    check = decode(canary_run)
    assert (check.verdict, check.notes) == ("same", ())
    files = canary_run.path.rglob("predictions.jsonl")
    assert check.count == sum(path.read_text(encoding="utf-8").count("\n") for path in files)
    answers = open_case(canary_run).read_answers("base", "early", "test")
    every = [answer.identifier for answer in answers if answer.sample == 0]
    canaries, rest = every[::2], every[1::2]  # two of four, spread from the first on
    assert [call for call in asked if set(call[0]) <= set(every)] == [
        (every, 0, True),  # the base
        (canaries, 0, False),  # the own component: the canaries by themselves, and the base is asked
        (rest, 2 * cells.SEED_STRIDE, False),  # another portion draws from elsewhere
        (canaries, 0, True),  # the canaries once more
        (every, 2, True),  # for the noise floor, with draws that no sample had
    ]


def test_another_completion_is_named_with_both_wherever_it_stands(run):
    places = {
        ("base", "early"): "base, row 0, early, test",
        ("methods/lora/seed-0/early", "early"): "lora, seed 0, row 1, early, test",
        ("methods/lora/seed-0/late", "early"): "lora, seed 0, row 2, early, test",
        ("methods/lora/seed-0/late/transfer", "early"): "lora, seed 0, component late, row 2, early, test",
        ("methods/finetune/seed-0/late", "early"): "finetune, seed 0, row 2, early, test",
        ("controls/echo", "late"): "control echo, late, test",
    }
    wanted = []
    for (folder, task), about in places.items():
        row = edit_answers(run, folder, task, 2, completion="mine")
        wanted.append(f"{about}: example {row['identifier']}: completion stored 'mine', decoded now ")
    row = edit_answers(run, "methods/finetune/seed-0/early", "early", 0, agreed=99)
    about = "finetune, seed 0, row 1, early, test"
    wanted.append(f"{about}: example {row['identifier']}: agreed stored 99, decoded now ")
    check = decode(run)
    assert check.verdict == "differs"
    for line in wanted:
        assert sum(said.startswith(line) for said in check.differences) == 1, line
    assert len(check.differences) == len(wanted)


def test_another_word_on_what_repeats_is_named(run):
    """One token repeats in these runs, so that every target does."""
    places = {
        ("methods/lora/seed-0/early", "early", "target_repeats", False): "lora, seed 0, row 1, early, test",
        ("methods/lora/seed-0/late", "early", "repeats", None): "lora, seed 0, row 2, early, test",
        (
            "methods/finetune/seed-0/late",
            "late",
            "target_repeats",
            False,
        ): "finetune, seed 0, row 2, late, test",
        ("base", "early", "repeats", True): "base, row 0, early, test",
    }
    wanted = []
    for (folder, task, field, value), about in places.items():
        row = edit_answers(run, folder, task, 1, **{field: value})
        wanted.append(f"{about}: example {row['identifier']}: {field} stored {value}, decoded now ")
    differences = decode(run).differences
    assert [sum(line.startswith(start) for line in differences) for start in wanted] == [1] * len(wanted)
    assert len(differences) == len(wanted)


def test_without_the_data_trained_on_nothing_is_said_of_what_repeats(run, monkeypatch):
    def check_late_data(case, progress):
        check, tasks = check_data(case, progress)
        return check, {"late": tasks["late"]}

    monkeypatch.setattr(runs, "check_data", check_late_data)
    edit_answers(run, "methods/finetune/seed-0/late", "late", 1, target_repeats=False)  # of early and late
    assert decode(run).differences == ()
    edit_answers(run, "methods/lora/seed-0/late", "late", 1, target_repeats=False)  # of late alone
    (difference,) = decode(run).differences
    assert difference.startswith("lora, seed 0, row 2, late, test: example ")
    assert difference.endswith(": target_repeats stored False, decoded now True")


@pytest.mark.parametrize(
    ("method", "owner", "names"),
    [
        ("lora", Owner("lora", 0, "b"), "b"),
        ("routed", Owner("routed", 0, "b"), "b"),
        ("merged", Owner("merged", 0, "b"), "ab"),
        ("finetune", Owner("finetune", 0, "b"), "ab"),
        ("joint", Owner("joint", 0, "c"), "abc"),
        ("warm", Owner("warm", 0, "b"), "ab"),
        ("kept", Owner("kept", 0, "c"), "ac"),
        ("kept", Owner("kept", 0, "a"), "a"),
        ("shared", Owner("shared", 0, "a"), "a"),
        ("shared", Owner("shared", 0, "a", "c"), "abc"),
    ],
)
def test_a_component_was_trained_on_what_its_schedule_says(method, owner, names):
    found = next((entry for entry in METHODS.values() if method in (entry.name, entry.schedule)), None)
    assert list_training_names("abc", found, owner) == set(names)


def test_another_second_answer_is_named(canaries):
    places = {
        "canaries/lora/seed-0/early": "lora, seed 0, row 3, early, test, canaries",
        "noise/lora/seed-0/early": "lora, seed 0, once more, row 3, early, test",
        "noise/lora/seed-0/last": "lora, seed 0, once more, row 3, last, test",
    }
    for folder in places:
        edit_answers(canaries, folder, folder.rpartition("/")[2], 3, completion="mine")
    differences = decode(canaries).differences
    assert [line.partition(": example")[0] for line in differences] == list(places.values())
    assert all(" (sample 1): completion stored 'mine', decoded now " in line for line in differences)


def test_a_component_that_cannot_be_loaded_is_named_and_the_others_answer(run):
    shutil.rmtree(run.task_folder("lora", 0, "early"))
    run.task_folder("lora", 0, "early").mkdir()
    check = decode(run)
    assert check.first.startswith("lora, seed 0, component early: it cannot answer: ")
    assert len(check.differences) == 1
    assert check.count > 20


def test_what_has_no_data_was_not_checked_and_another_machine_is_noted(run):
    def edit(tree):
        tree["base"]["cells"][0].update(split="unseen")
        tree["environment"].update(threads=64, cpu_count=99)

    edit_results(run, edit)
    check = decode(run)
    assert check.unchecked == ("answers to early, unseen: its data are not here as they were",)
    rounding = "differences may be rounding: another machine than the run began on"
    assert check.notes == (f"{rounding} (threads was 64, is 1)",)


def test_without_data_nothing_is_decoded(run, restored):
    restored.data.unlink()
    check = decode(run)
    assert (check.verdict, check.count, len(check.unchecked)) == ("not checked", 0, 2)


def test_another_base_is_not_asked(small_run, restored):
    flip(restored.base / "model.safetensors")
    check = decode(small_run)
    assert (check.verdict, check.first) == ("not checked", "the base is not what it was")


def test_a_device_that_is_not_here_is_not_replaced(run):
    text = run.settings_file.read_text(encoding="utf-8")
    run.settings_file.write_text(text.replace('name = "cpu"', 'name = "cuda:7"'), encoding="utf-8")
    assert "Device 'cuda:7' is not available here" in decode(run).first


def test_what_was_decoded_stands_in_the_certificate(run):
    edit_answers(run, "methods/lora/seed-0/early", "early", 0, agreed=99)
    reseal(run)
    verdict, first = find(run, decode=True)["isolation"]
    assert verdict == "differs"
    assert "early after late: outputs changed: lora, seed 0, row 1, early, test: example" in first


def test_what_a_component_answers_to_another_task_is_no_matter_of_the_certificate(run):
    edit_answers(run, "methods/lora/seed-0/early/transfer", "late", 0, completion="mine")
    reseal(run)
    assert list(find(run, decode=True)) == ["predictions"]


def test_without_its_data_a_component_is_not_said_to_have_answered(run, monkeypatch):
    def check_late_data(case, progress):
        check, tasks = check_data(case, progress)
        return check, {"late": tasks["late"]}

    monkeypatch.setattr(runs, "check_data", check_late_data)
    (proof,) = verify_run(run, decode=True).certificate.proofs
    assert proof.outputs.because == "all 4 predictions of test decoded again"
