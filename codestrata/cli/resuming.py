"""``codestrata resume``: go on with a run that did not come to its end.

What this does not do: anything that ``experiment.resume_experiment`` does.
"""

from pathlib import Path
from typing import Annotated

import typer

from codestrata.cli.comparing import (
    LOADING,
    JsonOption,
    RunsOption,
    hint_at_resume,
    show_report,
    show_summary,
)
from codestrata.cli.display import LiveProgress, console
from codestrata.cli.offline import OfflineOption
from codestrata.interrupts import catch_signals
from codestrata.store import open_run


def resume(
    run: Annotated[str, typer.Argument(help="Name or path of an unfinished run.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
    offline: OfflineOption = False,
) -> None:
    """Go on with a run that was interrupted: it ends as if it never had been."""
    directory = open_run(runs, run)
    was_done = directory.is_done
    with (
        hint_at_resume([directory]),
        catch_signals() as interrupts,
        LiveProgress(console(), quiet=quiet) as progress,
    ):
        progress.say(LOADING)
        with interrupts.postponed():  # a module whose import is cut off may stay half there
            from codestrata.experiment.walk import resume_experiment
        finished = resume_experiment(directory, progress=progress, interrupts=interrupts)
    if was_done and not as_json:
        typer.echo(f"Run {finished.name!r} is complete: there is nothing left to do.")
        show_report(finished)
        return
    show_summary(finished, as_json=as_json)
