"""``python -m codestrata`` and the program ``codestrata``: the command line, with signals caught at once.

What this does not do: anything that ``cli.main`` does.
"""

import sys
from signal import SIGINT, Signals

from codestrata.interrupts import Interrupted, catch_signals


def main() -> int:
    """The exit code of the command line; one that a signal ends while it is still being imported says so."""
    with catch_signals():
        try:
            from codestrata.cli.main import main as run_command  # takes a while: after signals are caught

            return run_command()
        except KeyboardInterrupt as interrupt:
            number = interrupt.signal if isinstance(interrupt, Interrupted) else SIGINT
            print(f"interrupted ({Signals(number).name})", file=sys.stderr)
            return 128 + number


if __name__ == "__main__":
    sys.exit(main())
