import json
import shutil
import time

import pytest

from codestrata.errors import ExecutionError
from codestrata.languages import confinement, containment, isolation, runtimes
from codestrata.languages.attacks import (
    CONNECT_TCP,
    DAEMON,
    LARGE_FILE,
    READ_FILE,
    SEND_UDP,
    SIGNAL,
    WRITE_FILE,
)
from codestrata.languages.confinement import RUNGS
from codestrata.languages.containment import carry_out, find_attacks
from codestrata.languages.isolation import CONSENT, choose_isolation, explain_refusal, run_self_test
from codestrata.languages.runtimes import LANGUAGES


@pytest.fixture
def answer(monkeypatch):
    """A function that settles which rungs are refused, and why."""

    def settle(**reasons):
        monkeypatch.setattr(
            isolation, "explain_refusal", lambda language, rung: reasons.get(rung, f"{rung} fails")
        )

    return settle


def test_auto_takes_the_first_rung_that_passes(answer):
    answer(landlock=None, deno=None, limits=None)
    found = choose_isolation("javascript", allow_unconfined=True)
    assert (found.rung, found.refused, found.reason) == ("landlock", {"bubblewrap": "bubblewrap fails"}, None)
    assert found.runtime.startswith("deno ")


def test_plain_limits_need_consent(answer):
    answer(limits=None)
    found = choose_isolation("python")
    assert found.rung is None
    assert found.refused["limits"] == CONSENT
    assert "consent with execution.allow_unconfined=true" in found.reason
    assert "bubblewrap: bubblewrap fails" in found.reason
    assert choose_isolation("python", "limits").rung is None
    assert choose_isolation("python", "limits", allow_unconfined=True).rung == "limits"
    assert choose_isolation("python", allow_unconfined=True).rung == "limits"


def test_an_explicit_rung_is_never_replaced(answer):
    answer(bubblewrap=None, limits=None)
    found = choose_isolation("python", "landlock", allow_unconfined=True)
    assert (found.rung, found.refused) == (None, {"landlock": "landlock fails"})
    assert found.reason == "nothing that was asked for confines python here (landlock: landlock fails)"


def test_names_that_are_not_known():
    with pytest.raises(ExecutionError, match=r"Unknown isolation 'docker'. Known: bubblewrap, deno"):
        choose_isolation("python", "docker")
    found = choose_isolation("rust")
    assert (found.rung, found.runtime, found.refused) == (None, None, {})
    assert found.reason == "Unknown language 'rust'. Known: javascript, lua, python."


def test_a_missing_runtime_is_the_reason(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "deno", None)
    assert "pip install deno" in choose_isolation("javascript").reason


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_self_test_is_made_once_and_quickly(language):
    explain_refusal.cache_clear()
    first = choose_isolation(language)
    if first.rung is None:
        pytest.skip(f"nothing confines {language} here: {first.reason}")
    started = time.perf_counter()
    assert choose_isolation(language) == first
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize("place", [("python", "bubblewrap")], ids="-".join, indirect=True)
def test_a_rung_that_does_not_start_says_why(place, monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no permission to create new namespace >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(confinement.shutil, "which", lambda name: str(broken))
    explain_refusal.cache_clear()
    assert "no permission to create new namespace" in explain_refusal("python", "bubblewrap")
    explain_refusal.cache_clear()


# What is taken from a rung -> the probe that must notice. Without the filter, because it would stop them too.
WEAK = {
    "files": ("reading a file outside: read the secret", ["--bind", "/tmp", "/tmp"], None),
    "network": ("connecting over TCP: reached its end, connected", [], "--unshare-net"),
    "processes": ("not alone: process", [], "--unshare-pid"),
}
NAMESPACES = [f"--unshare-{kind}" for kind in ("user", "ipc", "pid", "net", "uts")]


@pytest.mark.parametrize("place", [("python", "bubblewrap")], ids="-".join, indirect=True)
@pytest.mark.parametrize("weakness", WEAK)
def test_the_self_test_notices_a_bubblewrap_that_leaks(weakness, place, monkeypatch):
    probe, added, removed = WEAK[weakness]
    wrap = confinement.wrap_in_namespaces

    def wrap_badly(language, folder, user):
        words = [NAMESPACES if word == "--unshare-all" else [word] for word in wrap(language, folder, user)]
        command = [word for group in words for word in group if word != removed]
        first = command.index("--proc")
        return [*command[:first], *added, *command[first:]]

    monkeypatch.setattr(confinement, "build_filter", lambda *who: None)
    monkeypatch.setattr(confinement, "wrap_in_namespaces", wrap_badly)
    explain_refusal.cache_clear()
    reason = explain_refusal("python", "bubblewrap")
    explain_refusal.cache_clear()
    assert probe in reason


@pytest.mark.parametrize("place", [("python", "landlock")], ids="-".join, indirect=True)
@pytest.mark.parametrize(
    ("part", "probe"), [("files", "reading a file outside"), ("filter", "leaving a process behind")]
)
def test_the_self_test_notices_a_landlock_that_leaks(part, probe, place, monkeypatch):
    build = containment.Runner.__init__.__globals__["build_command"]

    def build_badly(*place, **options):
        command = build(*place, **options)
        number = command.index(str(runtimes.RUNNERS / "confine.py")) + 1
        command[number] = json.dumps({**json.loads(command[number]), part: None, "user": None})
        own = command.index(str(runtimes.RUNNERS / "python.py")) + 1
        command[own] = json.dumps({**json.loads(command[own]), "filter": None})
        return command

    monkeypatch.setitem(containment.Runner.__init__.__globals__, "build_command", build_badly)
    assert f"the self-test was not contained: {probe}" in run_self_test("python", "landlock")


@pytest.mark.parametrize("place", [("python", "limits")], ids="-".join, indirect=True)
def test_the_self_test_notices_that_plain_limits_confine_nothing(place):
    harms = carry_out("python", "limits", find_attacks("python", probes=True))
    harmless = {name for name, harm in harms.items() if not harm}
    assert harmless == {"reading the environment"}  # which is scrubbed on every rung


@pytest.fixture
def leaking_engine(monkeypatch, tmp_path):
    """A deno that hands programs its own object, with every permission."""
    runners = tmp_path / "runners"
    shutil.copytree(runtimes.RUNNERS, runners, ignore=shutil.ignore_patterns("__pycache__"))
    tmp_path.chmod(0o755)
    script = runners / "javascript.js"
    hole = "vm.createContext(Object.assign(Object.create(null), { Deno }))"
    text = script.read_text(encoding="utf-8").replace("vm.createContext(Object.create(null))", hole)
    assert hole in text
    script.write_text(text, encoding="utf-8")
    build = runtimes.build_runtime_command

    def build_badly(language, memory_mib, options):
        command = build(language, memory_mib, options)
        return [*command[:2], "--allow-all", *command[2:]] if language == "javascript" else command

    monkeypatch.setattr(runtimes, "RUNNERS", runners)
    monkeypatch.setattr(confinement, "RUNNERS", runners)
    monkeypatch.setattr(confinement, "build_runtime_command", build_badly)


@pytest.mark.parametrize("place", [("javascript", rung) for rung in RUNGS], ids="-".join, indirect=True)
def test_the_systems_rungs_hold_where_the_engine_does_not(place, leaking_engine):
    language, rung = place
    harms = carry_out(language, rung, [*find_attacks(language, probes=True), LARGE_FILE, SEND_UDP])
    harmful = {name for name, harm in harms.items() if harm}
    if rung in ("bubblewrap", "landlock"):
        assert harmful == set()
    else:
        assert {READ_FILE.name, WRITE_FILE.name, CONNECT_TCP.name, SIGNAL.name, DAEMON.name} <= harmful
