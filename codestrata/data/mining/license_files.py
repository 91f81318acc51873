"""The licence file that counts for a folder, and what licence it is.

What this does not do: recognise a text (``data.licenses`` does), or read metadata (``packages`` does).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from codestrata.data.licenses import recognize_license
from codestrata.data.mining.packages import INSTALLED, read_limited

MOST_LICENSE_BYTES = 2**20
LICENSE_NAME = re.compile(r"(?P<stem>licen[sc]es?|copying|unlicen[sc]e)(?P<rest>[-.][\w.-]*)?", re.IGNORECASE)
LICENSE_ENDINGS = ("", ".md", ".txt", ".rst", ".markdown")


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundLicense:
    """A licence file and what it was recognised as."""

    path: Path
    license: str | None


@lru_cache(maxsize=4096)
def find_license(folder: Path, top: Path) -> FoundLicense | None:
    """The licence file nearest above: in the folder, or one above it up to ``top``."""
    for above in (folder, *folder.parents):
        if not above.is_relative_to(top) or above.name in INSTALLED:
            return None
        names = choose_license_files(list_names(above))
        texts = [(name, read_limited(above / name, MOST_LICENSE_BYTES)) for name in names]
        readable = [(name, content) for name, content in texts if content is not None]
        if readable:
            return FoundLicense(path=above / readable[0][0], license=agree([text for _, text in readable]))
    return None


def list_names(folder: Path) -> list[str]:
    """The names in a folder, sorted; none where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def choose_license_files(names: Sequence[str]) -> list[str]:
    """The licence files that count among a folder's names, the first of which is to be named.

    A plain ``LICENSE`` counts alone. ``COPYING.LESSER`` goes before the ``COPYING`` that it refers to. Else
    all do, such as ``LICENSE-MIT`` and ``LICENSE-APACHE``.
    """
    found = [(match, name) for name in names if (match := LICENSE_NAME.fullmatch(name)) and not is_code(name)]
    plain = [name for match, name in found if (match.group("rest") or "").lower() in LICENSE_ENDINGS]
    lesser = [name for _, name in found if name.lower().startswith("copying.lesser")]
    licenses = [name for name in plain if name.lower().startswith("licen")]
    return (licenses or lesser or plain)[:1] or [name for _, name in found]


def is_code(name: str) -> bool:
    """Whether a name that begins as a licence's is that of a program, such as ``license.py``."""
    ending = PurePosixPath(name).suffix.lower()
    return ending in (
        ".py",
        ".js",
        ".ts",
        ".java",
        ".go",
        ".php",
        ".rb",
        ".json",
        ".html",
        ".xml",
        ".yml",
        ".c",
    )


def agree(contents: Sequence[bytes]) -> str | None:
    """The licence that all these texts are of; several licences are left open, as either may be meant."""
    names = {recognize_license(content.decode("utf-8", errors="replace")) for content in contents}
    return names.pop() if len(names) == 1 else None
