"""Every attack on every rung that this machine offers, and the page that says what came of it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codestrata.cli.confining import CONTAINED, NOT_TRIED, write_markdown
from codestrata.languages.attacks import ATTACKS, REACH
from codestrata.languages.confinement import RUNGS
from codestrata.languages.containment import (
    HONEST,
    World,
    carry_out,
    end_process,
    find_attacks,
    list_processes,
    open_runner,
)
from codestrata.languages.runtimes import LANGUAGES
from codestrata.languages.sandbox import Outcome, Program

PAGE = Path(__file__).parents[2] / "docs" / "sandbox.md"

# What plain limits do not contain: all that Python may do with the user's rights.
HARM_UNDER_LIMITS = {
    "fork bomb": "reached its end",
    "reading a file outside": "read the secret",
    "reading other processes": "read the secret",
    "writing outside": "reached its end, wrote the file",
    "connecting over TCP": "reached its end, connected",
    "sending over UDP": "reached its end, sent a datagram",
    "signalling the user's processes": "reached its end, ended the process",
    "leaving a process behind": "reached its end, left a process",
}


def expect(language, rung, attack):
    """What the page must say and an attack must find."""
    if language not in attack.sources:
        return NOT_TRIED
    if (language, rung) == ("python", "limits") and attack.name in HARM_UNDER_LIMITS:
        return f"**{HARM_UNDER_LIMITS[attack.name]}**"
    return CONTAINED


def test_every_attack_is_contained_but_what_plain_limits_cannot(place):
    language, rung = place
    harms = carry_out(language, rung, find_attacks(language))
    found = {name: f"**{', '.join(harm)}**" if harm else CONTAINED for name, harm in harms.items()}
    assert found == {
        attack.name: expect(language, rung, attack) for attack in ATTACKS if language in attack.sources
    }


def read_tables(text):
    """(language, rung, attack) -> cell, of the page's tables."""
    cells = {}
    for part in text.split("\n### ")[1:]:
        language = part.split("\n")[0].strip()
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in part.splitlines()
            if line.startswith("| ")
        ]
        for row in rows[2:]:
            for rung, cell in zip(rows[0][1:-1], row[1:-1], strict=True):
                cells[language, rung, row[0]] = cell
    return cells


def test_the_page_says_what_the_tests_assert():
    cells = read_tables(PAGE.read_text(encoding="utf-8"))
    right = {
        (language, rung, attack.name): expect(language, rung, attack)
        for language in LANGUAGES
        for rung in RUNGS
        for attack in ATTACKS
        if language in attack.sources and (rung != "deno" or language == "javascript")
    }
    assert cells == right


def test_the_page_is_generated_from_the_table():
    text = PAGE.read_text(encoding="utf-8")
    for attack in ATTACKS:
        assert f"| {attack.name} |" in text
        assert f"| {attack.contained} |" in text
    for rung in RUNGS:
        assert f"`{rung}`" in text
    assert "codestrata sandbox --attacks --markdown" in text
    generated = text.split("<!-- attacks: begin -->\n")[1].split("<!-- attacks: end -->")[0]
    harms = {}
    for (language, rung, attack), cell in read_tables(f"\n{generated}").items():
        harm = () if cell == CONTAINED else tuple(cell.strip("*").split(", "))
        harms.setdefault(f"{language}, {rung}", {})[attack] = harm
    assert generated.strip() == write_markdown(harms)


def test_the_table_of_attacks_is_whole():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    for attack in ATTACKS:
        assert {"python", "javascript"} <= set(attack.sources) <= set(LANGUAGES), attack.name
        assert set(attack.tests) <= set(attack.sources)
    for language in LANGUAGES:
        assert find_attacks(language, probes=True)
    assert "prepareStackTrace" in REACH


def test_the_patched_asserts_fail_because_every_judgement_held(place):
    language, rung = place
    (attack,) = [attack for attack in ATTACKS if attack.name == "patched asserts"]
    with World() as world, open_runner(language, rung, world) as runner:
        outcome = runner.run(world.aim(attack, language), 10)
    right = {
        "python": "AssertionError: ",
        "javascript": "Error: every judgement held",
        "lua": "LuaError: program:16: every judgement held",
    }
    assert outcome == Outcome("failed", right[language])


@pytest.fixture(scope="module")
def world():
    with World() as made:
        yield made


CALM = Outcome("failed", "")


def test_nothing_done_is_no_harm(world):
    assert world.list_harm(CALM) == []
    assert world.list_remains() == []


def test_each_harm_is_seen_once(world):
    assert world.list_harm(Outcome("passed", "")) == ["reached its end"]
    assert world.list_harm(Outcome("failed", f"found {world.secret}")) == ["read the secret"]
    world.target.write_text("here")
    assert world.list_harm(CALM) == ["wrote the file"]
    socket.create_connection(world.listener.getsockname()).close()
    assert world.list_harm(CALM) == ["connected"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"here", world.mailbox.getsockname())
    assert world.list_harm(CALM) == ["sent a datagram"]
    os.kill(world.victim.pid, signal.SIGTERM)
    world.victim.wait()
    assert world.list_harm(CALM) == ["ended the process"]
    assert world.list_harm(CALM) == []


def test_what_remains_is_seen_and_removed(world):
    (world.folder / "left").mkdir()
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)", str(world.folder)]
    process = subprocess.Popen(sleeper)
    try:
        deadline = time.monotonic() + 10
        while process.pid not in list_processes(str(world.folder)):  # it takes a moment to become what it is
            assert time.monotonic() < deadline
        assert world.list_remains() == ["left a process", "left files"]
        assert process.wait(10) < 0
    finally:
        end_process(process)
    assert world.list_remains() == []


def test_a_spoiled_neighbour_is_seen(monkeypatch):
    monkeypatch.setitem(HONEST, "python", Program("", "assert False"))
    (attack,) = [attack for attack in ATTACKS if attack.name == "exit before the tests"]
    assert carry_out("python", "limits", [attack])[attack.name] == ("spoiled the next program",)
