"""``python -m codestrata``: the command line.

What this does not do: anything that ``cli.main`` does.
"""

import sys

from codestrata.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
