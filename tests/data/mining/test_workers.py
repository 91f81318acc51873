"""Worker processes: order, deaths, and the end of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codestrata.data.mining import workers
from codestrata.data.mining.harvest import SLOW, harvest_file
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.seen import Seen
from codestrata.data.mining.sources import SourceFile
from codestrata.data.mining.workers import DIED, Crew, cut, find_peak_memory
from codestrata.errors import DataError

FUNCTION = 'def area_{0}(a):\n    """The area number {0} of all."""\n    b = a + {0}\n    return b\n'
OPTIONS = MiningOptions(jobs=2)


@pytest.fixture
def files(tmp_path):
    """Sixty files of one function each."""
    found = []
    for number in range(60):
        path = tmp_path / f"area_{number}.py"
        path.write_text(FUNCTION.format(number), encoding="utf-8")
        found.append(SourceFile(str(path), str(tmp_path), path.stat().st_size))
    return found


@pytest.fixture
def teach(tmp_path, monkeypatch):
    """A function that has workers run a statement before they mine a file called ``bad``."""

    def change(statement):
        home = tmp_path / "taught"
        home.mkdir()
        program = (
            "import os, sys, time\n"
            "from codestrata.data.mining import harvest\n"
            "mine = harvest.harvest_file\n"
            "def harvest_file(file, *rest):\n"
            f"    if 'bad' in file.path:\n        {statement}\n"
            "    return mine(file, *rest)\n"
            "harvest.harvest_file = harvest_file\n"
        )
        (home / "sitecustomize.py").write_text(program, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(home))

    return change


def rename(files, number, name):
    """Give a file another name."""
    old = Path(files[number].path)
    new = old.rename(old.with_name(name))
    files[number] = SourceFile(str(new), files[number].root, files[number].bytes)


def test_workers_give_what_this_process_would_in_the_same_order(files):
    with Crew("python", OPTIONS) as crew:
        found = list(crew.harvest(iter(files)))
        assert crew.memory_mib is None or 5 < crew.memory_mib < 500
    assert found == [(file, harvest_file(file, "python", OPTIONS, Seen())) for file in files]


def test_many_chunks_come_in_their_order(files):
    many = files * 5  # more chunks than are under way at once
    with Crew("python", OPTIONS) as crew:
        assert [file.path for file, _ in crew.harvest(many)] == [file.path for file in many]


def test_a_worker_that_dies_loses_one_file(files, teach):
    teach("os.kill(os.getpid(), 9)")
    rename(files, 40, "bad.py")
    with Crew("python", OPTIONS) as crew:
        found = [harvest for _, harvest in crew.harvest(files)]
    assert found[40].skipped == DIED
    assert [len(harvest.records) for harvest in found] == [int(number != 40) for number in range(60)]


def test_a_worker_that_does_not_answer_is_ended(files, teach, monkeypatch):
    monkeypatch.setattr(workers, "MOST_SECONDS", 1.5)
    teach("time.sleep(60)")
    rename(files, 3, "bad.py")
    with Crew("python", OPTIONS) as crew:
        found = [harvest for _, harvest in crew.harvest(files[:5])]
    assert [harvest.skipped for harvest in found] == [None, None, None, SLOW, None]


def test_what_a_worker_prints_does_not_disturb(files, teach):
    teach("print('hello', flush=True)")
    rename(files, 0, "bad.py")
    with Crew("python", OPTIONS) as crew:
        found = [harvest for _, harvest in crew.harvest(files[:2])]
    assert [len(harvest.records) for harvest in found] == [1, 1]


def test_workers_end_with_the_crew(files):
    with Crew("python", OPTIONS) as crew:
        next(crew.harvest(files))
        processes = [worker._process for worker in crew._workers.values()]
    assert processes
    assert all(process.poll() is not None for process in processes)


def test_a_worker_that_cannot_start_is_said(files, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false" if os.path.exists("/bin/false") else "/usr/bin/false")
    with Crew("python", OPTIONS) as crew, pytest.raises(DataError, match=r"cannot be started: .*one job"):
        list(crew.harvest(files))


def test_the_current_folder_is_not_imported_from(files, tmp_path, monkeypatch):
    for name in ("json", "struct", "codestrata"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the tree')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with Crew("python", OPTIONS) as crew:
        assert len(list(crew.harvest(files[:1]))) == 1


def test_chunks_are_neither_long_nor_large():
    small = [SourceFile(f"{number}.py", "/", 10) for number in range(70)]
    assert [len(chunk) for chunk in cut(small)] == [32, 32, 6]
    large = [SourceFile(f"{number}.py", "/", 600_000) for number in range(3)]
    assert [len(chunk) for chunk in cut(large)] == [1, 1, 1]
    assert [len(chunk) for chunk in cut([*small[:3], large[0], *small[3:5]])] == [6]
    assert list(cut([])) == []


def test_the_files_are_asked_for_as_they_are_needed(files):
    asked = []

    def ask():
        for file in files * 50:
            asked.append(file)
            yield file

    with Crew("python", OPTIONS) as crew:
        next(crew.harvest(ask()))
    assert len(asked) <= 32 * (workers.CHUNKS_AHEAD_PER_WORKER * 2) + 1


def test_workers_load_no_model_libraries():
    program = "import sys, codestrata.data.mining.workers as w; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"torch", "transformers", "numpy", "datasets"} & set(done.stdout.split())


@pytest.mark.skipif(not workers.MEMORY_FILE.exists(), reason="the system does not say")
def test_peak_memory_is_of_this_process():
    assert 10 < find_peak_memory() < 1e6


def test_peak_memory_is_not_known_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "MEMORY_FILE", tmp_path / "status")
    assert find_peak_memory() is None
