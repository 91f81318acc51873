import platform
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.languages import seccomp
from codestrata.languages.seccomp import ARCHITECTURES, build_filter

TABLES = ("FORBIDDEN", "FORK", "BECOME_ANOTHER", "SEND_SIGNALS", "ON_ITSELF_ONLY", "HIDDEN")
ALLOWED, NOT_PERMITTED, UNKNOWN, KILLED = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def ask(program, number, arguments=(0,) * 6, architecture=None, machine="x86_64"):
    """What the kernel would do: classic BPF carried out by hand, apart from the code that made it."""
    data = struct.pack("<iIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *arguments)
    instructions = list(struct.iter_unpack("<HBBI", program))
    place = accumulator = 0
    while True:
        code, if_true, if_false, value = instructions[place]
        place += 1
        if code == 0x06:  # return
            return value
        if code == 0x20:  # load a word of the call
            (accumulator,) = struct.unpack_from("<I", data, value)
            continue
        holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: accumulator & value != 0}[code]
        place += if_true if holds else if_false


def find_number(name, machine="x86_64"):
    entries = [entry.split(":") for table in TABLES for entry in getattr(seccomp, table).split()]
    (numbers,) = [entry[1:] for entry in entries if entry[0] == name]
    return int(numbers[list(ARCHITECTURES).index(machine)])


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_numbers_are_those_of_the_kernels_headers(machine):
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"the kernel's header {header} is not installed")
    text = header.read_text(encoding="utf-8")
    known = {m[1]: m[2] for m in re.finditer(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    column = list(ARCHITECTURES).index(machine)
    for table in TABLES:
        for entry in getattr(seccomp, table).split():
            name, *numbers = entry.split(":")
            if name in known or numbers[column] == "-":  # newer calls than the header are not in it
                assert known.get(name, "-") == numbers[column], name
    for name, numbers in {"clone": seccomp.CLONE, "fcntl": (72, 25), "ioctl": (16, 29)}.items():
        assert known[name] == str(numbers[column])


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize(
    ("strictness", "tables"),
    [
        ("runner", ("FORBIDDEN",)),
        ("engine", ("FORBIDDEN", "FORK", "SEND_SIGNALS")),
        ("program", ("FORBIDDEN", "FORK", "SEND_SIGNALS", "BECOME_ANOTHER")),
    ],
)
def test_forbidden_calls_fail_and_others_do_not(machine, strictness, tables):
    program = build_filter(machine, strictness)
    column = list(ARCHITECTURES).index(machine)
    forbidden = {
        number for table in tables for number in seccomp.read_numbers(getattr(seccomp, table), column)
    }
    hidden = set(seccomp.read_numbers(seccomp.HIDDEN, column))
    for number in range(seccomp.NEW_CALLS_FROM):
        right = NOT_PERMITTED if number in forbidden else UNKNOWN if number in hidden else ALLOWED
        if number == seccomp.CLONE[column]:  # without flags it makes a process
            right = ALLOWED if strictness == "runner" else NOT_PERMITTED
        assert ask(program, number, machine=machine) == right, number


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["runner", "engine", "program"]), st.integers(0, 2**32 - 1))
def test_clone_makes_threads_and_never_namespaces(strictness, flags):
    allowed = (strictness == "runner" or flags & 0x10000) and not flags & 0x7E020000
    verdict = ask(build_filter("x86_64", strictness), seccomp.CLONE[0], (flags, *[0] * 5))
    assert verdict == (ALLOWED if allowed else NOT_PERMITTED)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 2**32 - 1))
def test_settings_of_other_processes_are_out_of_reach(other):
    program = build_filter("x86_64", "runner")
    for name in ("prlimit64", "sched_setaffinity", "move_pages"):
        assert ask(program, find_number(name), (other, *[0] * 5)) == NOT_PERMITTED
        assert ask(program, find_number(name), (0, other, *[0] * 4)) == ALLOWED


def test_commands_that_signal_or_type_are_refused():
    program = build_filter("x86_64", "runner")
    for call, commands in (72, (8, 15)), (16, (0x5412, 0x541C, 0x8901, 0x8902)):
        for command in commands:
            assert ask(program, call, (0, command, *[0] * 4)) == NOT_PERMITTED
        assert ask(program, call, (commands[0], 1, *[0] * 4)) == ALLOWED


@settings(max_examples=100, deadline=None)
@given(st.integers(seccomp.NEW_CALLS_FROM, 2**31 - 1))
def test_calls_newer_than_the_table_are_unknown(number):
    for machine in ARCHITECTURES:
        assert ask(build_filter(machine, "runner"), number, machine=machine) == UNKNOWN


def test_calls_of_another_architecture_end_the_process():
    assert ask(build_filter("x86_64", "runner"), 1, architecture=0x40000003) == KILLED


def test_an_unknown_processor_has_no_filter():
    assert build_filter("pdp11", "program") is None


@pytest.mark.skipif(platform.system() != "Linux", reason="seccomp is Linux's")
@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_programs_are_short_enough_for_the_kernel(machine):
    for strictness in ("runner", "engine", "program"):
        program = build_filter(machine, strictness)
        assert len(program) % 8 == 0
        assert len(program) // 8 <= 4096
