"""A whole run on a decoder-only base: trained, decoded, scored, reported, resumed and used."""

import pytest

from codestrata.answering import Choice, answer
from codestrata.experiment import trainings
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory

METHODS = ["base", "lora", "layers", "finetune"]


class Crash(BaseException):
    """What no handler may stop."""


@pytest.fixture(scope="module")
def settings(quick_tree, tiny_llama_folder):
    """Four methods on two tasks and a tiny Llama, whose tokenizer puts a token first and knows no padding."""
    return build_settings(
        quick_tree(
            methods=METHODS,
            base={"name": str(tiny_llama_folder)},
            layers={"placement": "top"},
            training={"steps": 4, "learning_rate": 0.05},
            checkpoints={"seconds": 0},
        )
    )


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    return run_experiment(settings, root=tmp_path_factory.mktemp("whole"), name="r")


def read_predictions(run):
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in sorted(run.path.rglob("predictions.jsonl"))
    }


def test_every_cell_of_the_matrix_is_measured(whole):
    results = whole.read_results()
    assert [entry["name"] for entry in results["methods"]] == METHODS
    for entry in results["methods"]:
        for seed in entry["seeds"]:
            matrix = seed["R"]["test"]["edit_similarity"]
            assert [len(row) for row in matrix] == [2, 2, 2]
            assert all(score is not None for row in matrix for score in row)
    report = (whole.path / "results_analysis.md").read_text(encoding="utf-8")
    assert all(name in report for name in METHODS)


def test_isolated_components_forget_nothing_and_shared_weights_may(whole):
    found = {}
    for entry in whole.read_results()["methods"]:
        matrix = entry["seeds"][0]["R"]["test"]["edit_similarity"]
        found[entry["name"]] = matrix[1][0] == matrix[2][0]
    assert found["lora"]
    assert found["layers"]
    assert not found["finetune"]


def test_new_blocks_begin_from_states_that_were_kept(whole):
    (layers,) = (entry for entry in whole.read_results()["methods"] if entry["name"] == "layers")
    for training in layers["seeds"][0]["trainings"]:
        states = training["states"]
        assert (states["encoder_blocks"], states["decoder_blocks"]) == (0, 3)
        assert states["kept"] == states["examples"] == 6
        assert states["reason"] is None


def test_completions_do_not_repeat_the_prompt_and_the_base_ranks_them(whole):
    cells = [cell for path in read_predictions(whole).values() for cell in path.decode().splitlines()]
    assert len({line for line in cells}) > 10
    results = whole.read_results()
    scores = next(entry for entry in results["methods"] if entry["name"] == "lora")["final"]["test"]
    for task in scores.values():
        assert 0 <= task["base_agreement"]["value"] <= 1


def test_a_run_that_was_broken_off_goes_on_to_the_same_bytes(settings, whole, tmp_path, monkeypatch):
    real, done = trainings.fit, []

    def crash(component, name, *arguments, **values):
        done.append(name)
        if len(done) == 4:
            raise Crash
        return real(component, name, *arguments, **values)

    monkeypatch.setattr(trainings, "fit", crash)
    with pytest.raises(Crash):
        run_experiment(settings, root=tmp_path, name="r")
    monkeypatch.setattr(trainings, "fit", real)
    again = resume_experiment(RunDirectory(tmp_path / "r"))
    assert read_predictions(again) == read_predictions(whole)
    for path in sorted(whole.path.rglob("*.safetensors")):
        assert (again.path / path.relative_to(whole.path)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("method", ["lora", "layers", "finetune"])
def test_a_component_of_the_run_answers(method, whole):
    choice = Choice(method=method, seed=0, task="late")
    texts = ["add 3 to xs", "add 11 to xs and to nothing else", "xs", ""]
    found = answer(whole, choice, texts, device="cpu")
    assert found == [answer(whole, choice, [text], device="cpu")[0] for text in texts]
    assert len(set(found)) > 1
    assert not any(found[number].startswith(texts[number]) for number in range(3))
