"""The command line: ``codestrata COMMAND``. Data on stdout; progress, logs and errors on stderr.

Exit codes: 0 done, 1 failed, 2 misuse (a wrong name, setting or combination), 130 interrupted.

What this does not do: import torch before a command needs it.
"""

import sys
from collections.abc import Sequence
from typing import Any

import typer

from codestrata.cli import comparing, confining, inspecting, rescoring, translating, using
from codestrata.cli.display import console
from codestrata.errors import CodestrataError, RunError, SettingsError

UsageError: Any = typer.BadParameter.__base__  # click's or, in newer versions, typer's own: not exported
MISUSE = (SettingsError, RunError)
INTERRUPTED = 130


def build_app() -> typer.Typer:
    """All commands."""
    app = typer.Typer(
        name="codestrata",
        help="One frozen code model, one swappable component per task, and what to train next, measured.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(describe)
    app.command("run")(comparing.run)
    app.command("list")(inspecting.list_all)
    app.command("show")(inspecting.show)
    app.command("methods")(inspecting.methods)
    app.command("score")(rescoring.score)
    app.command("matrix")(translating.matrix)
    app.command("sandbox")(confining.sandbox)
    app.command("generate")(using.generate)
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
    try:
        code = build_app()(list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except typer.Exit as error:
        return int(error.exit_code)
    except typer.Abort:
        return interrupt()
    except KeyboardInterrupt:
        return interrupt()
    except UsageError as error:
        error.show()
        return int(error.exit_code)
    except CodestrataError as error:
        console().print(f"error: {error}", style="bold red", markup=False, soft_wrap=True)
        return 2 if isinstance(error, MISUSE) else 1
    if code == INTERRUPTED:  # newer versions of typer turn KeyboardInterrupt into this
        return interrupt()
    return code if isinstance(code, int) else 0


def interrupt() -> int:
    """Say that the user stopped the command."""
    text = "interrupted: a run, if one had begun, stays unfinished, and 'codestrata list' shows it"
    console().print(text, style="bold red", markup=False, soft_wrap=True)
    return INTERRUPTED
