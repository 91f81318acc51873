"""The hub's switches, what is said where it cannot be had, and that nothing reaches out unasked."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from codestrata import hub
from codestrata.errors import HubError

GUARD = """
import json, os, sys
tried = []
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")
sys.addaudithook(lambda event, values: event in NETWORK and tried.append([event, repr(values[1:])]))
from codestrata.hub import SILENT_VARIABLES, load_hub_file
if sys.argv[1] == "fetch":
    from codestrata.errors import HubError
    try:
        code = str(load_hub_file("owner/name", "file", task="t"))
    except HubError:
        code = 1
else:
    from codestrata.cli.main import main
    code = main(sys.argv[1:])
constants = sys.modules.get("huggingface_hub.constants")
is_silent = all(os.environ[name] == "1" for name in SILENT_VARIABLES)
is_silent = is_silent and (constants is None or constants.HF_HUB_DISABLE_TELEMETRY)
print(json.dumps({"code": code, "tried": tried, "is_silent": is_silent}))
"""


@pytest.fixture(autouse=True)
def own_switches(monkeypatch):
    """The variables and what was read from them are as before afterwards, and off before."""
    pytest.importorskip("huggingface_hub.constants")
    for name in (*hub.OFFLINE_VARIABLES, *hub.SILENT_VARIABLES):
        monkeypatch.setenv(name, "0")
    for name in hub.CONSTANTS:
        if name in sys.modules:
            monkeypatch.setattr(f"{name}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)


@pytest.fixture
def fake_hub(monkeypatch):
    """A hub client whose answers the test sets; it notes what it was asked for."""
    client = SimpleNamespace(calls=[], reach=lambda: None, give=dict)

    def dataset_info(self, name, **options):
        client.calls.append("reach")
        client.reach()

    def load_dataset(*arguments, **options):
        client.calls.append((*arguments, options))
        return client.give()

    def download(*arguments, **options):
        client.calls.append((*arguments, options["repo_type"], options["revision"]))
        return client.give()

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return client


def test_a_file_in_the_cache_is_taken_from_there(fake_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names, **options: "/cache/old")
    assert hub.load_hub_file("a/b", "c", task="t") == Path("/cache/old")
    assert fake_hub.calls == []


def fail_with(error):
    def fail():
        raise error

    return fail


def test_the_hub_is_on_until_it_is_switched_off():
    from huggingface_hub import constants

    assert not hub.is_offline()
    hub.go_offline()
    assert hub.is_offline()
    assert constants.HF_HUB_OFFLINE
    assert {os.environ[name] for name in hub.OFFLINE_VARIABLES} == {"1"}


@pytest.mark.parametrize("name", [hub.OFFLINE, "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(("value", "is_off"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_the_environment_switches_it_off_too(monkeypatch, name, value, is_off):
    monkeypatch.setenv(name, value)
    assert hub.is_offline() == is_off


def test_our_variable_reaches_the_hubs_own_client(monkeypatch):
    from huggingface_hub import constants

    hub.prepare_hub()
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setenv(hub.OFFLINE, "1")
    hub.prepare_hub()
    assert constants.HF_HUB_OFFLINE
    assert os.environ["HF_DATASETS_OFFLINE"] == "1"


def test_telemetry_is_off_whatever_the_environment_says():
    from huggingface_hub import constants

    hub.prepare_hub()
    assert {os.environ[name] for name in hub.SILENT_VARIABLES} == {"1"}
    assert constants.HF_HUB_DISABLE_TELEMETRY


def test_splits_and_files_are_asked_for_as_the_hub_names_them(fake_hub):
    fake_hub.give = lambda: {"test": []}
    assert hub.load_hub_splits("a/b", "small", task="t", revision="r") == {"test": []}
    assert hub.load_hub_splits("a/b", None, task="t", folder="python") == {"test": []}
    fake_hub.give = lambda: "/cache/file"
    assert hub.load_hub_file("a/b", "c/d.jsonl", task="t", revision="r") == Path("/cache/file")
    assert fake_hub.calls == [
        "reach",
        ("a/b", "small", {"revision": "r"}),
        "reach",
        ("a/b", {"revision": None, "data_dir": "python"}),
        "reach",
        ("a/b", "c/d.jsonl", "dataset", "r"),
    ]


@pytest.mark.parametrize("error", [ConnectionError("no route\nmore"), ValueError("no such part")])
def test_what_cannot_be_had_is_one_line_with_the_remedy(fake_hub, error):
    fake_hub.give = fail_with(error)
    for load in (hub.load_hub_splits, hub.load_hub_file):
        with pytest.raises(HubError) as caught:
            load("a/b", "c", task="t")
        said = str(error).splitlines()[0]
        remedy = "use local files with --set tasks.t.path=FILE"
        assert str(caught.value) == f"The hub's data set 'a/b' could not be reached ({said}); {remedy}"


def test_offline_nobody_is_asked_and_the_switch_is_named(fake_hub):
    fake_hub.give = fail_with(ConnectionError("offline"))
    hub.go_offline()
    with pytest.raises(
        HubError, match=r"not in its cache, and the hub is switched off \(offline\).*--offline"
    ):
        hub.load_hub_splits("a/b", None, task="t")
    assert "reach" not in fake_hub.calls


def call(tmp_path, *arguments, **environment):
    """A command in a process of its own that notes every attempt to reach somebody, and what it noted."""
    inherited = {key: value for key, value in os.environ.items() if key not in hub.OFFLINE_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", GUARD, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**inherited, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hub"), **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_check_of_local_data_reaches_nobody_and_offline_none_does(tmp_path):
    path = tmp_path / "own.jsonl"
    rows = [{"prompt": f"add {n} to xs", "target": f"return [x + {n} for x in xs]"} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found, _ = call(tmp_path, "data", "check", path, "-q")
    assert found == {"code": 0, "tried": [], "is_silent": True}
    asked = ["--against", "humaneval-x", "--language", "python", "--offline"]
    found, said = call(tmp_path, "data", "check", path, "-q", *asked)
    assert found == {"code": 1, "tried": [], "is_silent": True}
    assert "the hub is switched off" in said


@pytest.mark.slow
@pytest.mark.parametrize("way", ["option", "variable"])
def test_offline_no_connection_is_even_tried(tmp_path, tiny_base_folder, way):
    option, environment = (["--offline"], {}) if way == "option" else ([], {hub.OFFLINE: "1"})
    local = ["--set", f"base.name={tiny_base_folder}", "--runs", tmp_path / "runs", "-q"]
    found, said = call(tmp_path, "run", "--preset", "founding", *local, *option, **environment)
    assert found == {"code": 1, "tried": [], "is_silent": True}
    assert "the hub is switched off" in said


def test_the_guard_sees_an_attempt_and_none_where_the_hub_is_off(tmp_path):
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    found, _ = call(tmp_path, "fetch", **nobody)
    assert found["code"] == 1
    assert found["tried"]
    assert found["is_silent"]
    found, _ = call(tmp_path, "fetch", **nobody, **{hub.OFFLINE: "1"})
    assert found == {"code": 1, "tried": [], "is_silent": True}


@pytest.mark.slow
def test_a_base_is_not_asked_for_offline(tmp_path):
    found, _ = call(tmp_path, "doctor", "Salesforce/codet5-small", "--offline")
    assert found == {"code": 1, "tried": [], "is_silent": True}


@pytest.mark.slow
def test_a_run_on_local_data_reaches_nobody(tmp_path, quick_tree):
    tree = quick_tree(methods=["base", "lora"], measurement={"agreement": False, "transfer": False})
    path = tmp_path / "own.toml"
    assignments = []
    for key, value in (("base.name", tree["base"]["name"]), ("training.steps", 1)):
        assignments += ["--set", f"{key}={value}"]
    lines = ['methods = ["base", "lora"]', "[training]", "batch_size = 3", "[decoding]", "max_new_tokens = 4"]
    for task in tree["tasks"]:
        lines += ["[[tasks]]", *(f"{key} = {json.dumps(value)}" for key, value in task.items())]
    path.write_text("\n".join(lines), encoding="utf-8")
    found, said = call(tmp_path, "run", path, "--runs", tmp_path / "runs", "-q", *assignments)
    assert found == {"code": 0, "tried": [], "is_silent": True}, said
