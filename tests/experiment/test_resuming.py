"""A run that was broken off and resumed: the same directory, nothing done twice, nothing mixed up."""

import json

import pytest

from codestrata import journal as journals
from codestrata.checkpoints import Checkpoints
from codestrata.environment import describe_environment as describe
from codestrata.errors import IsolationError, RunError, TrainingError
from codestrata.experiment import cells, trainings, walk
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.files import read_json
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory, open_run

OWN_TO_A_SESSION = {
    "events.jsonl",
    "experimental_results.json",
    "results_analysis.md",
    "checksums.json",
    "done.json",
}
METHODS = ["lora", "layers", "finetune"]


class Crash(BaseException):
    """What no handler may stop."""


class Listener:
    """Notes what it is told."""

    def __init__(self):
        self.said, self.phases = [], []

    def start(self, label, total):
        self.phases.append(label)

    def advance(self, done, note=""):
        pass

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def settings(quick_tree):
    """Three methods whose every step leaves a checkpoint."""
    return build_settings(quick_tree(methods=METHODS, checkpoints={"seconds": 0}, training={"steps": 3}))


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The run, never interrupted."""
    return run_experiment(settings, root=tmp_path_factory.mktemp("whole"), name="r")


def read_files(run):
    """Path -> content of all files but those that hold times."""
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.relative_to(run.path).as_posix() not in OWN_TO_A_SESSION
    }


def forget_times(value):
    """Results without what measures the machine."""
    if isinstance(value, dict):
        apart = {"seconds", "swap", "peak_memory_mib", "sessions", "examples_per_second", "tokens_per_second"}
        apart |= {"states"}
        return {key: forget_times(entry) for key, entry in value.items() if key not in apart}
    return [forget_times(entry) for entry in value] if isinstance(value, list) else value


def assert_same_run(found, whole):
    assert read_files(found) == read_files(whole)
    assert forget_times(found.read_results()) == forget_times(whole.read_results())
    left = {path.name for path in found.path.iterdir()} - {path.name for path in whole.path.iterdir()}
    assert not left


def break_off(monkeypatch, settings, root, unit, *, before=False):
    """A run that dies right after (or before) the journal's n-th unit, and how many were kept by then."""
    kept = []

    def write(path, text, real=journals.write_text):
        if before and len(kept) == unit:
            raise Crash
        real(path, text)
        kept.append(path)
        if not before and len(kept) == unit:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(journals, "write_text", write)
        try:
            return run_experiment(settings, root=root, name="r")
        except Crash:
            return RunDirectory(root / "r")


@pytest.mark.parametrize("unit", [12, *(pytest.param(unit, marks=pytest.mark.slow) for unit in (3, 20, 28))])
def test_a_run_broken_off_after_any_unit_ends_as_if_it_never_had_been(
    monkeypatch, settings, whole, tmp_path, unit
):
    broken = break_off(monkeypatch, settings, tmp_path, unit)
    assert not broken.is_done
    found = resume_experiment(broken)
    assert_same_run(found, whole)
    assert found.read_results()["sessions"] == 2


def test_what_is_finished_is_not_done_again(monkeypatch, settings, whole, tmp_path):
    broken = break_off(monkeypatch, settings, tmp_path, 100)  # never
    assert broken.is_done
    broken = break_off(monkeypatch, settings, tmp_path / "again", 20)
    known = sorted(path for path in broken.journal_folder.rglob("*.json"))
    for place in ("predict", "score"):
        real = getattr(__import__("codestrata.experiment.cells", fromlist=["cells"]), place)
        monkeypatch.setattr(
            f"codestrata.experiment.cells.{place}", count_calls(real, counts := {}, place), raising=True
        )
    fitted = {}
    monkeypatch.setattr(trainings, "fit", count_calls(trainings.fit, fitted, "fit"))
    resume_experiment(broken)
    finished = [path for path in known if "trainings" in path.parts]
    assert fitted["fit"] == 2 * len(METHODS) - len(finished)
    assert counts


def count_calls(real, counts, name):
    def call(*arguments, **keywords):
        counts[name] = counts.get(name, 0) + 1
        return real(*arguments, **keywords)

    return call


def test_a_complete_run_stays_as_it_is(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.path.rglob("*")}
    assert resume_experiment(whole).is_done
    after = {path: path.stat().st_mtime_ns for path in whole.path.rglob("*")}
    assert {path: after[path] for path in before if path.is_file()} == {
        path: when for path, when in before.items() if path.is_file()
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tree, path: tree["training"].update(steps=4), "settings"),
        (lambda tree, path: path.write_text(path.read_text() + '{"prompt": "x", "target": "y"}\n'), "data"),
    ],
    ids=["settings", "data"],
)
def test_a_run_does_not_go_on_with_other_inputs(monkeypatch, quick_tree, tmp_path, change, named):
    path = tmp_path / "own.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"p {n}", "target": f"t {n}"}) + "\n" for n in range(12)),
        encoding="utf-8",
    )
    task = {"source": "file", "path": str(path), "language": "python", "train_examples": 6}
    tree = quick_tree(tasks=[{"name": "early", **task}], methods=["lora"])
    broken = break_off(monkeypatch, build_settings(tree), tmp_path, 3)
    change(tree, path)
    broken.write_settings(build_settings(tree))
    with pytest.raises(RunError, match=f"cannot go on: its {named}.* was .* when it began and is .* now"):
        resume_experiment(broken)
    assert not broken.is_done


def test_a_run_does_not_go_on_with_another_version(monkeypatch, settings, tmp_path):
    broken = break_off(monkeypatch, settings, tmp_path, 3)
    monkeypatch.setattr(walk, "version", lambda package: "0.0.1")
    with pytest.raises(RunError, match=r"version of codestrata was .* and is 0\.0\.1 now"):
        resume_experiment(broken)


def test_a_damaged_component_is_trained_again(monkeypatch, settings, whole, tmp_path):
    broken = break_off(monkeypatch, settings, tmp_path, 20)
    tensors = sorted(broken.path.glob("methods/*/seed-0/early/*.safetensors"))
    assert tensors
    content = bytearray(tensors[0].read_bytes())
    content[-1] ^= 1
    tensors[0].write_bytes(content)
    listener = Listener()
    assert_same_run(resume_experiment(broken, progress=listener), whole)
    assert any("trained again" in line for line in listener.said)


def crash(*_):
    raise Crash


def test_a_run_in_another_environment_goes_on_and_says_so(monkeypatch, settings, whole, tmp_path):
    broken = break_off(monkeypatch, settings, tmp_path, 5)
    with monkeypatch.context() as patch:  # as if the first session had had more threads
        patch.setattr(walk, "describe_environment", lambda device: {**describe(device), "threads": 64})
        (broken.journal_folder / "sessions/0.json").unlink()
        patch.setattr(walk, "measure", crash)
        with pytest.raises(Crash):
            resume_experiment(broken)
    listener = Listener()
    found = resume_experiment(broken, progress=listener)
    assert any("another environment (threads)" in line for line in listener.said)
    assert found.read_results()["environment"]["threads"] == 64


def test_a_run_that_never_wrote_its_settings_cannot_be_resumed(tmp_path):
    (tmp_path / "r").mkdir()
    with pytest.raises(RunError, match="settings"):
        resume_experiment(RunDirectory(tmp_path / "r"))


def test_a_failed_training_names_the_run_and_can_be_resumed(monkeypatch, settings, whole, tmp_path):
    begun = []

    def fail(*_, **__):
        raise TrainingError("the loss is nan")

    with monkeypatch.context() as patch:
        patch.setattr(trainings, "fit", fail)
        with pytest.raises(TrainingError):
            run_experiment(settings, root=tmp_path, name="r", begun=begun.append)
    assert [run.name for run in begun] == ["r"]
    assert_same_run(resume_experiment(open_run(tmp_path, "r")), whole)


def test_answers_belong_to_the_bytes_that_gave_them(monkeypatch, settings, tmp_path):
    """A component that comes out otherwise the second time (another machine) is decoded and scored anew."""
    broken = break_off(monkeypatch, settings, tmp_path, 15)
    folder = broken.path / "methods/lora/seed-0/early"
    assert (broken.journal_folder / "answers/methods/lora/seed-0/early").is_dir()
    (folder / "adapter_model.safetensors").unlink()
    real = trainings.fit

    def fit(component, name, *rest, checkpoints, **settings):
        log = real(component, name, *rest, checkpoints=None, **settings)
        for parameter in component.parameters(name).values():
            parameter.data += 0.25
        return log

    monkeypatch.setattr(trainings, "fit", fit)
    other = run_experiment(settings, root=tmp_path / "other", name="r")
    found = resume_experiment(broken)
    own = "methods/lora/seed-0/early/"
    first, second = (
        {path: content for path, content in read_files(run).items() if path.startswith(own)}
        for run in (found, other)
    )
    assert first == second
    assert first[f"{own}predictions.jsonl"] != (broken.path / "base/predictions.jsonl").read_bytes()


def test_a_training_that_changed_the_base_is_not_resumed_as_if_it_had_not(monkeypatch, settings, tmp_path):
    real = trainings.fit

    def fit(component, name, *rest, **settings):
        log = real(component, name, *rest, **settings)
        component.deactivate()
        next(component.model.parameters()).data += 1
        return log

    with monkeypatch.context() as patch:
        patch.setattr(trainings, "fit", fit)
        with pytest.raises(IsolationError):
            run_experiment(settings, root=tmp_path, name="r")
    assert not list((tmp_path / "r" / "checkpoints").rglob("*.safetensors"))


def test_portions_draw_from_different_seeds(monkeypatch, quick_tree, tmp_path):
    seeds = []
    real = cells.predict

    def predict(base, examples, settings, **rest):
        seeds.append((len(examples), settings.seed))
        return real(base, examples, settings, **rest)

    monkeypatch.setattr(cells, "predict", predict)
    monkeypatch.setattr(cells, "PORTION", 2)
    sampling = {"temperature": 0.8, "samples": 2, "max_new_tokens": 3}
    run_experiment(build_settings(quick_tree(methods=["base"], decoding=sampling)), root=tmp_path)
    assert len(seeds) == len(set(seeds)) > 4 or sorted({seed for _, seed in seeds})[:2] == [0, 2]
    assert {seed % cells.SEED_STRIDE for _, seed in seeds} <= {0, 2}


def test_what_a_training_took_before_it_was_broken_off_counts(monkeypatch, settings, tmp_path):
    class Slow:
        def offer(self, step, build, *, last=False, real=Checkpoints.offer):
            real(self, step, build, last=last)
            if step == 2:
                raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "offer", Slow.offer)
        with pytest.raises(Crash):
            run_experiment(settings, root=tmp_path, name="r")
    (facts,) = sorted((tmp_path / "r/checkpoints").rglob("step-00000002/facts.json"))
    before = read_json(facts)["facts"]["spent"]["seconds"]
    seconds = resume_experiment(open_run(tmp_path, "r")).read_results()["seconds"]
    assert before > 0
    assert seconds["total"] >= seconds["training"] >= before
