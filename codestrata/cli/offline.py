"""The option ``--offline``: the model hub is off for the whole command, before anything of it is imported.

What this does not do: reach the hub, or refuse what needs it (``hub`` and ``models.loading`` do, with what to
do instead).
"""

from typing import Annotated

import typer

from codestrata.hub import go_offline


def switch_off(asked: bool) -> bool:
    """Switch the hub off where that was asked for."""
    if asked:
        go_offline()
    return asked


OfflineOption = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Reach no model hub: only local files, and what lies in the hub's cache.",
        is_eager=True,
        callback=switch_off,
    ),
]
