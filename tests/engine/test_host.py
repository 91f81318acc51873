"""Threads for the cores there are, and an allocator that says what it was told."""

import subprocess
import sys

import pytest
import torch

from codestrata.engine import host
from codestrata.engine.host import count_threads, keep_buffers, prepare_host, read_quota


@pytest.fixture
def free(monkeypatch):
    """Eight physical cores, all of them ours."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(host.torch.cpu, "get_capabilities", lambda: {"num_physical_cores": 8})
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(host, "read_quota", lambda _: None)


def test_a_thread_per_physical_core(free):
    assert count_threads() == 8


def test_no_more_than_the_process_may_use(free, monkeypatch):
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert count_threads() == 3
    monkeypatch.setattr(host, "read_quota", lambda _: 1.5)
    assert count_threads() == 2


def test_the_users_variable_counts(free, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert count_threads() == torch.get_num_threads()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("200000 100000\n", 2.0), ("max 100000\n", None), ("", None), ("50000 100000", 0.5)],
)
def test_quota(text, expected, tmp_path):
    path = tmp_path / "cpu.max"
    path.write_text(text, encoding="ascii")
    assert read_quota(path) == expected
    assert read_quota(tmp_path / "missing") is None


def test_threads_as_asked():
    before = torch.get_num_threads()
    try:
        assert prepare_host(threads=1, keep_memory=False).threads == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_left_alone_where_asked(monkeypatch):
    assert "system" in prepare_host(threads=1, keep_memory=False).allocator
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert keep_buffers() == "as MALLOC_ARENA_MAX says"
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    monkeypatch.setattr(host.platform, "system", lambda: "Darwin")
    assert "no glibc on this Darwin" in keep_buffers()


COUNT_FAULTS = """
import resource, sys, torch
from codestrata.engine.host import prepare_host
said = prepare_host(threads=1, keep_memory=sys.argv[1] == "keep").allocator
size = 64 * 2**20
for _ in range(20):  # until no new memory is asked for
    torch.ones(size // 4)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(size // 4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(said)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted on Linux")
@pytest.mark.slow
def test_large_buffers_are_kept():
    def count(mode):
        command = [sys.executable, "-c", COUNT_FAULTS, mode]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return int(printed[0]), printed[1]

    kept, said = count("keep")
    if "keeps" not in said:
        pytest.skip(f"the allocator is {said}")
    returned, _ = count("return")
    assert kept < returned / 10
