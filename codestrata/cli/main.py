"""The command line: ``codestrata COMMAND``. Data on stdout; progress, logs and errors on stderr.

Exit codes: 0 done, 1 failed, 2 misuse (a wrong name, setting or combination), 128 + the signal's number where
one ended the command: 130 for SIGINT (Ctrl-C), 143 for SIGTERM.

What this does not do: import torch before a command needs it.
"""

import sys
from collections.abc import Sequence
from signal import SIGINT, Signals
from typing import Any

import typer
from typer.core import TyperGroup

from codestrata.cli import (
    comparing,
    confining,
    data,
    diagnosing,
    exporting,
    extending,
    inspecting,
    mining,
    rescoring,
    resuming,
    translating,
    using,
    verifying,
)
from codestrata.cli.display import console
from codestrata.errors import CodestrataError, RunError, SettingsError
from codestrata.hub import prepare_hub
from codestrata.interrupts import Interrupted, catch_signals, ignore_signals

UsageError: Any = typer.BadParameter.__base__  # click's or, in newer versions, typer's own: not exported
MISUSE = (SettingsError, RunError)
SIGNALLED = 128
"""What shells add to the number of the signal that ended a command."""


class Commands(TyperGroup):
    """The commands; one that a signal ends says so here, because typer forgets which signal it was."""

    def make_context(self, *given: Any, **options: Any) -> Any:
        """Read the command line. Raises: Exit: a signal came meanwhile."""
        try:
            return super().make_context(*given, **options)
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(say_interrupted(interrupt)) from interrupt

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Raises: Exit: a signal ended it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(say_interrupted(interrupt)) from interrupt


def build_app() -> typer.Typer:
    """All commands."""
    app = typer.Typer(
        name="codestrata",
        cls=Commands,
        help="One frozen code model, one swappable component per task, and what to train next, measured.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(describe)
    app.command("run")(comparing.run)
    app.command("resume")(resuming.resume)
    app.command("extend")(extending.extend)
    app.command("list")(inspecting.list_all)
    app.command("show")(inspecting.show)
    app.command("methods")(inspecting.methods)
    app.command("score")(rescoring.score)
    app.command("verify")(verifying.verify)
    app.command("matrix")(translating.matrix)
    app.command("doctor")(diagnosing.doctor)
    app.command("sandbox")(confining.sandbox)
    app.command("mine")(mining.mine)
    app.add_typer(data.build_commands(), name="data")
    app.command("generate")(using.generate)
    app.command("export")(exporting.export)
    app.command("pretrain")(using.pretrain)
    return app


def print_version(asked: bool) -> None:
    """Print the version and stop, where it was asked for."""
    if asked:
        from importlib.metadata import version as find_version

        typer.echo(find_version("codestrata"))
        raise typer.Exit


def describe(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", is_eager=True, callback=print_version
    ),
) -> None:
    """One frozen code model, one swappable component per task, and a measured answer to what to train."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    prepare_hub()
    with catch_signals():
        try:
            return call(list(sys.argv[1:] if arguments is None else arguments))
        except KeyboardInterrupt as interrupt:
            return say_interrupted(interrupt)


def call(arguments: list[str]) -> int:
    """The exit code of a command; what is wrong is said on stderr."""
    try:
        code = build_app()(arguments, standalone_mode=False)
    except typer.Exit as error:
        return int(error.exit_code)
    except typer.Abort:
        return say_interrupted(KeyboardInterrupt())
    except UsageError as error:
        error.show()
        return int(error.exit_code)
    except CodestrataError as error:
        say(f"error: {error}", error)
        return 2 if isinstance(error, MISUSE) else 1
    return code if isinstance(code, int) else 0


def say_interrupted(interrupt: KeyboardInterrupt) -> int:
    """Say that a signal ended the command, and give the exit code that tells which.

    It is said whole: while Ctrl-C is held down, one signal follows the other.
    """
    ignore_signals()
    number = interrupt.signal if isinstance(interrupt, Interrupted) else SIGINT
    say(f"interrupted ({Signals(number).name})", interrupt)
    return SIGNALLED + number


def say(text: str, error: BaseException) -> None:
    """Print why a command ended, and below it the notes of the error, such as how to go on."""
    target = console()
    target.print(text, style="bold red", markup=False, soft_wrap=True)
    for note in getattr(error, "__notes__", ()):
        target.print(note, markup=False, highlight=False, soft_wrap=True)
