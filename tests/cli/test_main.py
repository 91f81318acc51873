"""Exit codes, help, and where errors go."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console
from typer.core import TyperGroup

from codestrata import __main__, errors
from codestrata.cli import inspecting
from codestrata.cli.main import build_app, main
from codestrata.interrupts import Interrupted

ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("run", "resume", "extend", "list", "show", "methods", "score", "verify", "matrix", "doctor", "sandbox"),
    *("mine", "generate", "export", "pretrain"),
)


def call_apart(statement):
    """Run a statement in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-c", statement], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_data(call, arguments):
    code, out, err = call(*arguments)
    assert code == 0
    assert "Usage" in out
    assert err == ""


def test_help_lists_every_command(call):
    _, out, _ = call("--help")
    for name in COMMANDS:
        assert name in out


def test_every_command_and_option_says_what_it_does(call):
    names = [command.name for command in build_app().registered_commands]
    assert names == list(COMMANDS)
    groups = [group.typer_instance for group in build_app().registered_groups]
    for app in (build_app(), *groups):
        assert all(command.callback.__doc__ for command in app.registered_commands)


def test_every_command_is_documented():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    below = [
        f"{group.name} {command.name}"
        for group in build_app().registered_groups
        for command in group.typer_instance.registered_commands
    ]
    assert [name for name in (*COMMANDS, *below) if f"codestrata {name}" not in text] == []


def test_help_imports_nothing_heavy():
    statement = (
        "import sys; from codestrata.cli.main import main; code = main(['--help']); "
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'scipy'}; "
        "print(code, *heavy & set(sys.modules))"
    )
    assert call_apart(statement).splitlines()[-1] == "0"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--bogus"],
        ["bogus"],
        ["run", "--bogus"],
        ["run", "--set"],
        ["run", "a.toml", "b.toml"],
        ["resume"],
        ["show"],
        ["generate", "--run", "x"],
    ],
)
def test_misuse_of_the_command_line_is_2_without_a_traceback(call, arguments):
    code, _, err = call(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_what_is_wrong_with_the_command_line_is_said(call):
    _, out, err = call("run", "--bogus")
    assert "No such option: --bogus" in err
    assert out == ""


def test_the_version_is_that_of_the_package(call):
    from importlib.metadata import version

    assert call("--version") == (0, version("codestrata") + "\n", "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SettingsError("x"), 2),
        (errors.RunError("x"), 2),
        (errors.DataError("x"), 1),
        (errors.HubError("x"), 1),
        (errors.IsolationError("x"), 1),
        (errors.TrainingError("x"), 1),
        (KeyboardInterrupt(), 130),
        (Interrupted(signal.SIGINT), 130),
        (Interrupted(signal.SIGTERM), 143),
    ],
)
def test_errors_have_exit_codes_and_one_line_on_stderr(call, monkeypatch, tmp_path, error, code):
    def fail(_):
        raise error

    monkeypatch.setattr(inspecting, "list_directories", fail)
    found, out, err = call("list", "--runs", tmp_path)
    assert found == code
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1
    ends = {130: "interrupted (SIGINT)", 143: "interrupted (SIGTERM)"}
    assert lines[0] == ends.get(code, "error: x")


def test_brackets_in_a_message_are_text(call, monkeypatch, tmp_path):
    def fail(_):
        raise errors.DataError("expected [red] and [/x]", path="a.jsonl", line=3)

    monkeypatch.setattr(inspecting, "list_directories", fail)
    assert "error: a.jsonl:3: expected [red] and [/x]" in call("list", "--runs", tmp_path)[2]


def test_an_error_that_is_not_ours_is_not_hidden(monkeypatch, tmp_path):
    def fail(_):
        raise ZeroDivisionError

    monkeypatch.setattr(inspecting, "list_directories", fail)
    with pytest.raises(ZeroDivisionError):
        main(["list", "--runs", str(tmp_path)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_one_line(start, number):
    code, out, err = start("listing", "list").stop(number)
    assert (code, out) == (128 + number, "")
    assert err == f"interrupted ({signal.Signals(number).name})\n"


def test_a_signal_before_the_command_began_is_one_line(capsys, monkeypatch):
    def interrupt():
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("codestrata.cli.main.build_app", interrupt)
    assert main(["list"]) == 143
    assert capsys.readouterr() == ("", "interrupted (SIGTERM)\n")


def test_a_signal_while_the_end_is_said_does_not_cut_it(call, monkeypatch, tmp_path):
    class Impatient(Console):
        def print(self, *given, **options):
            signal.raise_signal(signal.SIGINT)
            super().print(*given, **options)
            signal.raise_signal(signal.SIGTERM)

    def interrupt(_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("codestrata.cli.main.console", lambda: Impatient(stderr=True))
    monkeypatch.setattr(inspecting, "list_directories", interrupt)
    assert call("list", "--runs", tmp_path) == (130, "", "interrupted (SIGINT)\n")


def test_the_handlers_of_the_caller_come_back(call, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    call("list", "--runs", tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_notes_of_an_error_stand_below_it(call, monkeypatch, tmp_path):
    def fail(_):
        error = errors.DataError("x")
        error.add_note("do [this]")
        raise error

    monkeypatch.setattr(inspecting, "list_directories", fail)
    assert call("list", "--runs", tmp_path)[2] == "error: x\ndo [this]\n"


@pytest.mark.parametrize("method", ["make_context", "invoke"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_not_forgotten_whatever_typer_does_at_that_moment(call, monkeypatch, method, number):
    def interrupt(*_, **__):
        raise Interrupted(number)

    monkeypatch.setattr(TyperGroup, method, interrupt)
    assert call("list") == (128 + number, "", f"interrupted ({signal.Signals(number).name})\n")


def test_the_module_is_the_command():
    called = [sys.executable, "-m", "codestrata", "--version"]
    done = subprocess.run(called, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, version("codestrata"))


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_command_line_is_imported(monkeypatch, capsys, number, expected):
    class Slow(ModuleType):
        def __getattr__(self, name):
            os.kill(os.getpid(), number)
            raise AttributeError(name)

    monkeypatch.setitem(sys.modules, "codestrata.cli.main", Slow("codestrata.cli.main"))
    assert __main__.main() == expected
    assert capsys.readouterr().err == f"interrupted ({number.name})\n"


def test_the_start_imports_nothing_heavy_before_signals_are_caught():
    loaded = call_apart("import sys, codestrata.__main__; print(*sys.modules)").split()
    assert not {"typer", "rich", "codestrata.cli"} & set(loaded)
