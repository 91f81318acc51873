import json
import os
import runpy
import sys
from pathlib import Path

import pytest

from codestrata.errors import ExecutionError
from codestrata.languages import confinement, runtimes
from codestrata.languages.attacks import CONNECT_TCP, DAEMON, FORK_BOMB, READ_FILE, SEND_UDP, WRITE_FILE
from codestrata.languages.confinement import RUNGS, build_command, choose_user, find_obstacle, is_open_to_all
from codestrata.languages.containment import carry_out
from codestrata.languages.runtimes import remove_contained

PLAIN = {"user": None, "limits": {}, "memory_mib": 64}


def read_plan(command):
    """The JSON that the launcher in a command gets."""
    return json.loads(command[command.index(str(runtimes.RUNNERS / "confine.py")) + 1])


def test_every_rung_but_deno_is_for_every_language():
    assert find_obstacle("python", "deno") == "deno runs JavaScript only"
    assert find_obstacle("javascript", "deno") is None
    assert {find_obstacle(language, "limits") for language in runtimes.LANGUAGES} == {None}


def test_names_that_are_not_known():
    with pytest.raises(ExecutionError, match=r"Unknown isolation 'bubblewarp'. Did you mean 'bubblewrap'\?"):
        find_obstacle("python", "bubblewarp")
    with pytest.raises(ExecutionError, match=r"Unknown language 'rust'. Known: javascript, lua, python."):
        find_obstacle("rust", "limits")


def test_obstacles_are_explained(monkeypatch):
    monkeypatch.setattr(confinement.shutil, "which", lambda name: None)
    assert "package bubblewrap" in find_obstacle("python", "bubblewrap")
    monkeypatch.setattr(confinement.platform, "machine", lambda: "pdp11")
    assert "no seccomp filter for the processor pdp11" in find_obstacle("python", "landlock")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "on Linux only" in find_obstacle("python", "landlock")
    with pytest.raises(ExecutionError, match="No isolation by landlock for python: "):
        build_command("python", "landlock", "/folder", **PLAIN)


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap and landlock are Linux's")
def test_confined_rungs_have_their_filters_and_plain_ones_none(monkeypatch):
    monkeypatch.setattr(confinement.shutil, "which", lambda name: f"/usr/bin/{name}")
    for rung in RUNGS:
        plan = read_plan(build_command("javascript", rung, "/folder", **PLAIN))
        assert (plan["filter"] is not None) == (rung in ("bubblewrap", "landlock"))
        assert (plan["files"] is not None) == (rung == "landlock")
        if plan["files"]:
            assert plan["files"]["writable"] == "/folder"
            assert not any(Path("/etc/passwd").is_relative_to(path) for path in plan["files"]["readable"])
            assert not any(Path.home().is_relative_to(path) for path in plan["files"]["readable"])


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is Linux's")
def test_bubblewrap_shows_only_the_system_and_the_runner(monkeypatch):
    monkeypatch.setattr(confinement.shutil, "which", lambda name: f"/usr/bin/{name}")
    command = build_command("python", "bubblewrap", "/folder", **PLAIN)
    options = command[: command.index("--")]
    for option in ("--unshare-all", "--die-with-parent", "--new-session", "--clearenv"):
        assert option in options
    assert options[options.index("--cap-drop") + 1] == "ALL"
    shown = {options[place + 1] for place, option in enumerate(options) if option == "--ro-bind"}
    assert shown <= {*confinement.SYSTEM, *confinement.SYSTEM_FILES, *runtimes.list_files_needed("python")}
    assert "--bind" not in options
    assert "/" not in shown


def test_root_gives_every_runner_a_user_of_its_own(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    users = {choose_user("bubblewrap") for _ in range(20)}
    assert len(users) > 10
    assert users <= set(confinement.USERS)
    assert choose_user("limits") is None
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert choose_user("landlock") is None


def test_a_closed_folder_on_the_way_is_noticed(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "file").touch()
    for folder in tmp_path.resolve().parents:
        if not folder.stat().st_mode & 0o001:
            assert not is_open_to_all(str(inner))
            return
    tmp_path.chmod(0o755)
    assert is_open_to_all(str(inner))
    tmp_path.chmod(0o700)
    assert not is_open_to_all(str(inner))


def test_paths_inside_other_paths_are_left_out():
    assert remove_contained(["/a/b", "/a/bc", "/a/b/c", "/d/", "/d", "/a/b/../e"]) == [
        "/a/b",
        "/a/bc",
        "/a/e",
        "/d",
    ]


@pytest.mark.parametrize("attack", [FORK_BOMB, DAEMON], ids=lambda attack: attack.name)
@pytest.mark.parametrize("place", [("python", "bubblewrap")], ids="-".join, indirect=True)
def test_bubblewrap_holds_processes_without_the_filter_too(attack, monkeypatch, place):
    if os.geteuid() != 0:
        pytest.skip("the limit on processes is set for runners with a user of their own: needs root")
    monkeypatch.setattr(confinement, "build_filter", lambda *who: None)
    harm = carry_out("python", "bubblewrap", [attack])[attack.name]
    assert harm == (
        ("reached its end",) if attack is DAEMON else ()
    )  # it may start a process, which ends too


@pytest.mark.parametrize("place", [("python", "landlock")], ids="-".join, indirect=True)
def test_landlock_holds_files_and_connections_without_the_filter_too(place, monkeypatch):
    monkeypatch.setattr(confinement, "build_filter_text", lambda *who: None)
    harms = carry_out("python", "landlock", [READ_FILE, WRITE_FILE, CONNECT_TCP, SEND_UDP])
    found = {name for name, harm in harms.items() if harm}
    assert SEND_UDP.name in found  # Landlock does not know UDP: the attempt was real, and the filter was off
    kernel = runpy.run_path(str(runtimes.RUNNERS / "kernel.py"))
    assert found - {SEND_UDP.name} == ({CONNECT_TCP.name} if kernel["find_landlock_version"]() < 4 else set())


def test_a_missing_runtime_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "deno", None)
    with pytest.raises(ExecutionError, match="pip install deno"):
        build_command("javascript", "limits", "/folder", **PLAIN)
