"""What ``codestrata mine`` takes and leaves out.

What this does not do: read files (``sources`` does), or judge a function (``filters`` does).
"""

import os
from dataclasses import dataclass

from codestrata.errors import SettingsError
from codestrata.settings.checks import check_range

MOST_FILE_BYTES = 2**20
MOST_JOBS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class MiningOptions:
    """How a tree is mined; what the mined file holds depends on all of them but ``jobs``."""

    jobs: int | None = None
    """How many processes work; 1 works in this one, null takes as many as it may use processors."""
    most_file_bytes: int = MOST_FILE_BYTES
    """Larger files are skipped and counted."""
    licenses: tuple[str, ...] = ()
    """Licences (SPDX identifiers) of the code to take; other and unknown ones are left out and counted. Empty
    takes all."""
    keep_secrets: bool = False
    """Take functions in which keys, tokens or passwords are found; else they are left out and counted."""
    keep_test_files: bool = False
    """Take the files that are tests by their path too; CodeSearchNet has none, though its paper only names
    the rule about functions."""
    leave_out: tuple[str, ...] = ()
    """Folders that are not walked: whole paths, without links in them."""
    overwrite: bool = False
    """Replace an older mined file."""

    def __post_init__(self) -> None:
        check_range("--jobs", self.jobs, low=1, high=MOST_JOBS)
        check_range("most_file_bytes", self.most_file_bytes, low=1, high=2**30)
        blank = [name for name in self.licenses if not name.strip()]
        if blank:
            raise SettingsError("--license is blank: give an SPDX identifier, such as MIT.")

    @property
    def workers(self) -> int:
        """``jobs``, resolved."""
        return self.jobs or min(count_processors(), MOST_JOBS)


def count_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
