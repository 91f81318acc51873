"""The nursery, small runs on the pocket base to be interrupted, and the same runs never interrupted."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import tomli_w
from attempts import SMALL_DISK_BYTES, Nursery
from chains import NAME, carry_out_whole

from codestrata.store import replace_off

MEMORY = Path("/dev/shm")


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    can = hasattr(os, "fork") and Path("/proc/self/fd").is_dir()
    for item in items:
        if here in item.path.parents and not can:
            item.add_marker(pytest.mark.skip(reason="needs fork and /proc, which this system has not"))


@pytest.fixture(scope="session")
def nursery():
    """Carries out attempts, each in a process of its own."""
    with Nursery() as found:
        yield found


@pytest.fixture(scope="session")
def room(tmp_path_factory):
    """A folder for runs, in memory where there is some: what a killed process wrote is there all the same."""
    usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2**30
    if not usable:
        yield tmp_path_factory.mktemp("faults")
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="codestrata-faults-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def small_disk(room):
    """Where ``other_nursery`` has a disk of its own with bubblewrap, empty for everybody else."""
    folder = room / "disk"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def still_folder(room):
    """Where ``other_nursery`` can change nothing with bubblewrap, and everybody else can."""
    folder = room / "still"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def other_nursery(small_disk, still_folder):
    """A nursery whose hash seed is another, as that of any two processes is."""
    disk = f"--size {SMALL_DISK_BYTES} --tmpfs {small_disk} --ro-bind {still_folder} {still_folder}"
    words = f"bwrap --die-with-parent --dev-bind / / {disk}".split()
    with Nursery(hash_seed=1, prefix=words if shutil.which("bwrap") else ()) as found:
        yield found


@pytest.fixture(scope="session")
def confined(other_nursery):
    """``other_nursery``, which has a small disk and a folder that cannot be changed."""
    if not shutil.which("bwrap"):
        pytest.skip("needs bubblewrap")
    return other_nursery


@pytest.fixture
def place(room):
    """A folder for one test's runs."""
    folder = Path(tempfile.mkdtemp(dir=room))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def build_tree(room):
    """Makes the tree of a run of seconds on the shipped base; other values for a section are laid over."""
    from codestrata.data.kata.problems import load_kata
    from codestrata.presets import build_preset
    from codestrata.settings.tasks import TaskSettings

    tasks = []
    for language in ("python", "javascript"):
        kata = load_kata(
            TaskSettings(
                name=language, language=language, train_examples=14, validation_examples=0, test_examples=1
            )
        )
        path = room / f"{language}.jsonl"  # without tests: running programs would take most of the time
        rows = [{"prompt": example.prompt, "target": example.target} for example in kata.train]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        sizes = {"train_examples": 8, "validation_examples": 1, "test_examples": 3}
        tasks.append({"name": language, "source": "file", "path": str(path), "language": language, **sizes})

    def build(**sections):
        preset = build_preset("pocket")
        tree = {
            **preset,
            "tasks": tasks,
            "training": {**preset["training"], "steps": 3, "batch_size": 3},
            "decoding": {"batch_size": 4, "max_new_tokens": 8},
            "device": {"name": "cpu", "threads": 1},
            "checkpoints": {"seconds": 0},
            "execution": {
                "isolation": "limits",
                "allow_unconfined": True,
            },  # looks for nothing better; runs none
        }
        for name, values in sections.items():
            old = tree.get(name)
            tree[name] = {**old, **values} if isinstance(old, dict) else values
        return tree

    return build


@pytest.fixture(scope="session")
def carry_out(nursery, room, build_tree):
    """Gives the run of some settings that was never interrupted; each is carried out once."""
    done = {}

    def get(**sections):
        key = json.dumps(sections, sort_keys=True)
        if key not in done:
            folder = Path(tempfile.mkdtemp(dir=room, prefix="whole-"))
            done[key] = carry_out_whole(nursery, build_tree(**sections), folder)
        return done[key]

    return get


@pytest.fixture(scope="session")
def whole(carry_out):
    """All four methods on two tasks, with a checkpoint after every step."""
    return carry_out()


@pytest.fixture(scope="session")
def small(carry_out, build_tree):
    """One method on one task, with few tensors and few steps: a run of half a second."""
    (task, _) = build_tree()["tasks"]
    return carry_out(
        methods=["layers"],
        layers={"placement": "encoder-top"},
        tasks=[{**task, "train_examples": 3, "test_examples": 1}],
        training={"steps": 1},
        decoding={"max_new_tokens": 4},
        measurement={"transfer": False},
    )


@pytest.fixture
def write_command(place):
    """Gives the command line that begins a run of such settings in the test's folder."""

    def write(tree):
        file = place / "experiment.toml"
        file.write_text(tomli_w.dumps(replace_off(tree)), encoding="utf-8")
        return ("run", str(file), "--runs", str(place / "runs"), "--name", NAME, "-q")

    return write
