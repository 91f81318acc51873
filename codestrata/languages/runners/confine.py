"""Give up rights as a plan says, then become a command; a script that ``sandbox`` starts.

Arguments: a JSON object, then the command with an absolute path. The object: ``limits`` by name
(``{"RLIMIT_CORE": 0}``), and, each ``null`` where it does not apply, ``user`` (a number to become),
``may_read_everything``, ``files`` (``readable``, ``devices``, ``writable``) and ``filter`` (a BPF program).
A script of its own because none of this is safe between fork and exec in a parent that has threads.

What this does not do: confine anything that the system does not limit (macOS ignores RLIMIT_AS).
"""

import base64
import importlib
import json
import os
import resource
import sys
from typing import Any


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


def give_up_rights(plan: dict[str, Any], kernel: Any, parent: int) -> None:
    """Everything of the plan that needs the kernel's help; ``parent`` must not be outlived."""
    files = plan["files"]
    # Opened before the user changes, who may not come as far.
    rules = None if files is None else kernel.build_rules(**files)
    if plan["user"] is not None:
        kernel.become_user(plan["user"], may_read_everything=plan["may_read_everything"])
    kernel.die_with_parent(parent)  # a change of user would undo it
    if rules is not None or plan["filter"] is not None:
        kernel.refuse_new_privileges()
    if rules is not None:
        kernel.obey_rules(rules)
    if plan["filter"] is not None:
        kernel.filter_calls(base64.b64decode(plan["filter"]))


def load_kernel() -> Any:
    """The module ``kernel``, which lies beside this script."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    return importlib.import_module("kernel")


def main() -> None:
    """Carry out the plan and become the command."""
    parent = os.getppid()
    plan, command = json.loads(sys.argv[1]), sys.argv[2:]
    for name, limit in plan["limits"].items():
        lower_limit(getattr(resource, name), limit)
    if sys.platform == "linux":
        give_up_rights(plan, load_kernel(), parent)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
