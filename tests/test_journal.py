"""Units of work that are done once: what comes back, what does not, and what it took."""

import os

import pytest

from codestrata.errors import RunError
from codestrata.files import hash_text, write_text
from codestrata.journal import Journal
from codestrata.records import Cell, Prediction, Score, Training

ANSWERS = tuple[Prediction, ...]


class Worker:
    """Works something out, and counts how often."""

    def __init__(self, value):
        self.value, self.count = value, 0

    def __call__(self):
        self.count += 1
        return self.value


@pytest.fixture
def said():
    return []


@pytest.fixture
def build(tmp_path, said):
    """Makes a journal of the one folder, as another process would."""

    def make():
        journal = Journal()
        journal.follow(tmp_path / "journal", said.append)
        return journal

    return make


def make_prediction(**values):
    return Prediction(**{"identifier": "a/1", "prompt": "p", "target": "t", "completion": "c"} | values)


def test_a_unit_is_worked_on_once(build):
    worker = Worker((make_prediction(), make_prediction(tests="assert x\n\u2028 é", sample=3)))
    assert build().recall("answers/base/python/test/0", ANSWERS, worker) == worker.value
    assert build().recall("answers/base/python/test/0", ANSWERS, worker) == worker.value
    assert worker.count == 1


def test_units_of_other_names_are_others(build):
    journal = build()
    assert journal.recall("scores/a", int, lambda: 1) == 1
    assert journal.recall("scores/a/b", int, lambda: 2) == 2
    assert build().recall("scores/a", int, lambda: 3) == 1


def test_without_a_folder_every_unit_is_worked_on():
    worker = Worker(7)
    journal = Journal()
    assert [journal.recall("unit", int, worker) for _ in range(2)] == [7, 7]
    assert worker.count == 2


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-320, -0.0, 2.0**1000, 1 / 3])
def test_numbers_come_back_bit_for_bit(build, value):
    score = Score(metric="bleu", value=value, n=2, per_example=(value, None), statistics=((1.0, value),))
    worker = Worker((score,))
    first = build().recall("scores/x", tuple[Score, ...], worker)
    again = build().recall("scores/x", tuple[Score, ...], worker)
    assert repr(first) == repr(again) == repr(worker.value)


def test_the_first_time_gives_what_every_other_time_gives(build):
    """A list in place of a tuple, or 1 in place of 1.0, must not make an interrupted run another one."""
    score = Score(metric="bleu", value=1, n=2, per_example=[1, None])
    first = build().recall("scores/x", tuple[Score, ...], lambda: [score])
    again = build().recall("scores/x", tuple[Score, ...], lambda: [])
    assert repr(first) == repr(again)
    assert repr(first[0].value) == "1.0"


def test_records_with_free_mappings_come_back(build, tiny_run):
    described = tiny_run.read_results()["methods"][1]["seeds"][0]["trainings"][0]
    fields = {key: described[key] for key in Training.__dataclass_fields__ if key in described}
    fields |= {"seed": 0, "losses": (1.0, 2.0), "states": {"kept": 3, "reason": None, "mib": 0.5}}
    training = Training(**fields)
    build().recall("t", Training, lambda: training)
    assert build().recall("t", Training, pytest.fail) == training


def test_cells_come_back(build):
    cell = Cell(
        row=1,
        trained_through="python",
        task="python",
        split="test",
        origin="decoded",
        predictions=(make_prediction(),),
        scores=(),
        folder="base",
    )
    build().recall("c", Cell, lambda: cell)
    assert build().recall("c", Cell, pytest.fail) == cell


def test_what_a_unit_took_counts_again_when_it_is_recalled(build):
    journal = build()

    def work():
        journal.add("decoding", 2.5)
        with journal.clock("scoring"):
            pass
        return 1

    journal.add("loading", 10.0)
    journal.recall("unit", int, work)
    later = build()
    later.add("decoding", 1.0)
    later.recall("unit", int, pytest.fail)
    assert later.seconds["decoding"] == 3.5
    assert later.seconds["scoring"] == journal.seconds["scoring"]
    assert "loading" not in later.seconds
    assert later.recalled_seconds == pytest.approx(2.5 + journal.seconds["scoring"])


def test_work_that_fails_leaves_no_unit(build, tmp_path):
    with pytest.raises(ZeroDivisionError):
        build().recall("unit", int, lambda: 1 // 0)
    assert not (tmp_path / "journal").exists()


def test_a_value_that_does_not_serve_is_worked_out_again_and_kept(build):
    build().recall("unit", int, lambda: 1)
    assert build().recall("unit", int, lambda: 2, serves=lambda found: found > 1) == 2
    assert build().recall("unit", int, pytest.fail, serves=lambda found: found > 1) == 2


def test_any_flipped_byte_is_noticed(build, tmp_path, said):
    build().recall("unit", ANSWERS, lambda: (make_prediction(),))
    path = tmp_path / "journal/unit.json"
    whole = path.read_bytes()
    for place in range(len(whole) - 1):  # the last one is the end of the line
        said.clear()
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        worker = Worker((make_prediction(completion="anew"),))
        assert build().recall("unit", ANSWERS, worker) == worker.value, place
        assert [line for line in said if "unit.json is damaged" in line], place


@pytest.mark.parametrize("length", [0, 1, 64, 65, 66, 100])
def test_a_cut_unit_is_noticed(build, tmp_path, said, length):
    build().recall("unit", ANSWERS, lambda: (make_prediction(),))
    path = tmp_path / "journal/unit.json"
    path.write_bytes(path.read_bytes()[:length])
    assert build().recall("unit", ANSWERS, lambda: ()) == ()
    assert said


def test_a_unit_of_another_kind_is_damaged_too(build, tmp_path, said):
    build().recall("unit", str, lambda: "text")
    assert build().recall("unit", int, lambda: 3) == 3
    assert said


def test_a_unit_that_is_not_text_is_damaged(build, tmp_path, said):
    write_text(tmp_path / "journal/unit.json", "")
    (tmp_path / "journal/unit.json").write_bytes(b"\xff\xfe\x00")
    assert build().recall("unit", int, lambda: 3) == 3
    assert said


@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_nothing_is_built_on_units_without_what_the_run_began_with(build, tmp_path, harm):
    build().recall("inputs", dict[str, str], lambda: {"base": "a"}, vital=True)
    build().recall("answers/base", int, lambda: 1)
    path = tmp_path / "journal/inputs.json"
    if harm == "flip":
        path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"'))
    else:
        path.unlink()
    with pytest.raises(RunError, match=r"inputs\.json is damaged or gone: .* Begin a new run"):
        build().recall("inputs", dict[str, str], lambda: {"base": "b"}, vital=True)


def test_a_vital_unit_that_died_before_any_other_is_made_again(build, tmp_path):
    (tmp_path / "journal").mkdir()
    assert build().recall("inputs", dict[str, str], lambda: {"base": "a"}, vital=True) == {"base": "a"}


def test_a_pipe_in_a_units_place_does_not_block(build, tmp_path, said):
    (tmp_path / "journal").mkdir()
    os.mkfifo(tmp_path / "journal/unit.json")
    assert build().recall("unit", int, lambda: 3) == 3
    assert build().recall("unit", int, pytest.fail) == 3
    assert len(said) == 1


@pytest.mark.parametrize("text", ["no JSON", "[1, 2]", '{"value": 1}', '{"value": "x", "seconds": {}}', "{"])
def test_a_unit_with_a_right_hash_and_wrong_content_is_damaged(build, tmp_path, said, text):
    write_text(tmp_path / "journal/unit.json", f"{hash_text(text)}\n{text}\n")
    assert build().recall("unit", int, lambda: 3) == 3
    assert said


def test_a_unit_that_was_given_is_never_worked_on(build):
    build().recall("trainings/lora/one", int, lambda: 1)
    journal, worker = build(), Worker(2)
    journal.accept(["trainings/lora/one", "trainings/lora/two"], "They are from run 'old'.")
    assert journal.is_given("trainings/lora/two")
    assert not journal.is_given("trainings/lora/three")
    assert journal.recall("trainings/lora/one", int, worker) == 1
    assert journal.recall("trainings/lora/three", int, worker) == 2
    with pytest.raises(RunError, match=r"trainings/lora/two cannot serve here.* from run 'old'\.$"):
        journal.recall("trainings/lora/two", int, worker)
    with pytest.raises(RunError, match="trainings/lora/one cannot serve here"):
        journal.recall("trainings/lora/one", int, worker, serves=lambda value: False)
    assert worker.count == 1
