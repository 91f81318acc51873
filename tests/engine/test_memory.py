"""Peaks of memory: from where they are read, and that they start anew."""

import mmap
import sys

import pytest
import torch

from codestrata.engine import memory
from codestrata.engine.memory import MemoryGauge

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset its counter")
def test_peak_memory_does_not_carry_over():
    gauge = MemoryGauge(CPU)
    # Straight from the system: a tensor may come out of memory that earlier tests left to the process.
    with mmap.mmap(-1, 256 * 2**20) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        largest = gauge.read_peak()
    assert MemoryGauge(CPU).read_peak() < largest - 200


def test_a_system_that_cannot_reset_says_so(monkeypatch):
    monkeypatch.setattr(memory, "reset_process_peak", lambda: False)
    gauge = MemoryGauge(CPU)
    assert gauge.counter == "getrusage ru_maxrss: the process's peak since it started"
    assert gauge.read_peak() > 50


def test_no_counter_is_nothing_and_not_zero(monkeypatch):
    monkeypatch.setattr(memory, "reset_process_peak", lambda: False)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert MemoryGauge(CPU).read_peak() is None


def test_a_counter_without_a_peak_is_read_after_every_step(monkeypatch):
    readings = iter([3 * 2**20, 5 * 2**20, 4 * 2**20])
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: next(readings))
    gauge = MemoryGauge(torch.device("mps"))
    for _ in range(3):
        gauge.sample()
    assert gauge.read_peak() == 5
    assert gauge.counter == "torch.mps.driver_allocated_memory after every step"
