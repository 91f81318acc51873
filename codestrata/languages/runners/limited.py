"""Lower this process's resource limits, then become a command; a script that ``sandbox`` starts.

Arguments: a JSON object of limits by name (``{"RLIMIT_CORE": 0}``), then the command with an absolute path.
A script of its own because setting limits between fork and exec is not safe in a parent that has threads.

What this does not do: confine anything that the system does not limit (macOS ignores RLIMIT_AS).
"""

import json
import os
import resource
import sys


def lower_limit(kind: int, value: int) -> None:
    """Set the soft and the hard limit to ``value``, or to the present hard limit where that is lower."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    try:
        resource.setrlimit(kind, (value, value))
    except (ValueError, OSError):
        if sys.platform != "darwin":  # macOS refuses some limits that it would not enforce anyway
            raise


if __name__ == "__main__":
    for name, limit in json.loads(sys.argv[1]).items():
        lower_limit(getattr(resource, name), limit)
    os.execv(sys.argv[2], sys.argv[2:])
