"""``codestrata sandbox``."""

import json

import pytest

from codestrata.cli import confining
from codestrata.languages import containment, isolation
from codestrata.languages.attacks import ATTACKS
from codestrata.languages.confinement import RUNGS, Isolation
from codestrata.languages.runtimes import LANGUAGES

REASONS = {"bubblewrap": "no namespaces here", "landlock": None, "deno": "deno runs JavaScript only"}


@pytest.fixture
def ladder(monkeypatch):
    """A machine where landlock holds and bubblewrap does not."""
    monkeypatch.setattr(isolation, "explain_refusal", lambda language, rung: REASONS.get(rung))


def test_the_ladder_is_shown(call, ladder):
    code, out, err = call("sandbox", "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert [(row["language"], row["rung"]) for row in rows] == [
        (name, rung) for name in LANGUAGES for rung in RUNGS
    ]
    states = {row["rung"]: row["state"] for row in rows if row["language"] == "python"}
    assert states == {
        "bubblewrap": "refused: no namespaces here",
        "landlock": "chosen",
        "deno": "refused: deno runs JavaScript only",
        "limits": isolation.CONSENT,
    }
    code, out, err = call("sandbox")
    assert (code, err) == (0, "")
    assert "no namespaces here" in out
    assert "Lua 5.4" in out


def test_a_language_without_a_runtime_is_shown(call, monkeypatch):
    lacking = Isolation(language="lua", rung=None, runtime=None, refused={}, reason="No Lua here")
    monkeypatch.setattr(isolation, "choose_isolation", lambda language: lacking)
    rows = json.loads(call("sandbox", "--json")[1])
    assert {row["state"] for row in rows} == {"No Lua here"}


@pytest.fixture
def harms(monkeypatch):
    """Attacks that nobody carries out: on ``limits``, the first of the list does harm."""

    def pretend(language, rung, attacks):
        return {
            attack.name: ("reached its end",) if rung == "limits" and attack is attacks[0] else ()
            for attack in attacks
        }

    monkeypatch.setattr(containment, "carry_out", pretend)


def test_attacks_are_shown(call, harms):
    code, out, _ = call("sandbox", "--attacks", "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["attack"] for row in rows] == [attack.name for attack in ATTACKS]
    assert rows[0]["python, limits"] == "**reached its end**"
    assert rows[1]["python, limits"] == "contained"
    by_name = {row["attack"]: row for row in rows}
    assert by_name["sending over UDP"]["lua, limits"] == confining.NOT_TRIED
    assert "contained" in call("sandbox", "--attacks")[1]


def test_attacks_as_markdown(call, harms):
    code, out, _ = call("sandbox", "--attacks", "--markdown")
    assert code == 0
    for language in LANGUAGES:
        assert f"### {language}\n\n| attack | " in out
    for attack in ATTACKS:
        assert f"| {attack.name} | " in out
    lua = out.split("### lua")[1].split("###")[0]
    assert "sending over UDP" not in lua
    assert len({line.count("|") for line in lua.splitlines() if line}) == 1


def test_the_benchmark_runs_kata_programs(call, monkeypatch):
    monkeypatch.setattr(confining, "BENCHMARK_PROGRAMS", 20)
    rows = json.loads(call("sandbox", "--benchmark", "--json")[1])
    assert [row["language"] for row in rows] == list(LANGUAGES)
    for row in rows:
        if isolation.choose_isolation(row["language"]).rung is None:
            assert (row["programs"], row["seconds"]) == (0, None)
        else:
            assert (row["programs"], row["passed"]) == (20, 20)
            assert row["seconds"] > 0
