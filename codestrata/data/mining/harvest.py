"""What one source file gives: records of its functions, and counts of what was left out.

What this does not do: look for files (``sources`` does), or compare functions with those of other files
(``miner`` does).
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codestrata.data.licenses import allows
from codestrata.data.mining.definitions import DEEP, Definition, extract
from codestrata.data.mining.filters import find_reason
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.repositories import Provenance, find_provenance
from codestrata.data.mining.seen import Seen
from codestrata.data.mining.sources import SourceFile, find_suffix, name_below
from codestrata.data.mining.texts import SourceText, read_source
from codestrata.data.secrets import find_secrets
from codestrata.errors import SlowParseError

SECRET = "contains a secret"
LICENSE_UNKNOWN = "licence unknown"
LICENSE_OTHER = "licence not among those asked for"
LICENSE_REASONS = (LICENSE_UNKNOWN, LICENSE_OTHER)
SLOW = "its syntax took too long"
MEMORY = "needs too much memory"
MOST_PARSE_SECONDS = 20.0

Line = bytes


@dataclass(slots=True)
class Harvest:
    """What a file gave: ``records`` are (a number that functions of equal code share, a line of JSON)."""

    bytes: int = 0
    skipped: str | None = None
    digest: int = 0
    note: str | None = None
    encoding: str = ""
    has_errors: bool = False
    functions: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    records: list[tuple[int, Line]] = field(default_factory=list)


def harvest_file(file: SourceFile, language: str, options: MiningOptions, mined: Seen) -> Harvest:
    """What a file gives; a file that cannot be mined is skipped with a reason.

    ``mined`` are the digests of the files that were mined here before: of a copy of one of them only its own
    digest is given, and what was mined now is added.
    """
    try:
        source = read_source(Path(file.path), language, options.most_file_bytes)
        if isinstance(source, str):
            return Harvest(file.bytes, skipped=source)
        provenance = find_provenance(Path(file.path), Path(file.root), source.text)
        refused = judge_license(provenance.license, options.licenses)
        if refused is not None:
            return Harvest(file.bytes, skipped=refused)
        if source.digest in mined:
            return Harvest(file.bytes, digest=source.digest)
        harvest = harvest_text(source, name_below(file.path, file.root), language, provenance, options)
        mined.add(source.digest)
        return harvest
    except SlowParseError:
        return Harvest(file.bytes, skipped=SLOW)
    except RecursionError:
        return Harvest(file.bytes, skipped=DEEP)
    except MemoryError:
        return Harvest(file.bytes, skipped=MEMORY)


def harvest_text(
    source: SourceText, path: str, language: str, provenance: Provenance, options: MiningOptions
) -> Harvest:
    """What a text gives.

    Raises: SlowParseError: it is so far from the language that its parse does not end in time.
    """
    extraction = extract(
        language,
        source.text,
        suffix=find_suffix(path),
        documented_only=True,
        most_seconds=MOST_PARSE_SECONDS,
    )
    harvest = Harvest(
        bytes=source.bytes,
        digest=source.digest,
        note=provenance.note,
        encoding=source.encoding,
        has_errors=extraction.has_errors,
        functions=len(extraction.functions) + extraction.left_out.total(),
        dropped=Counter(extraction.left_out),
    )
    for definition in extraction.functions:
        reason = find_reason(definition, language) or find_secret(definition, options)
        if reason is None:
            line = write_record(definition, path, language, provenance)
            harvest.records.append((definition.digest, line))
        else:
            harvest.dropped[reason] += 1
    return harvest


def judge_license(license: str | None, allowed: tuple[str, ...]) -> str | None:
    """Why the filter of licences leaves a file out, if so."""
    if not allowed or allows(license, allowed):
        return None
    return LICENSE_UNKNOWN if license is None else LICENSE_OTHER


def find_secret(definition: Definition, options: MiningOptions) -> str | None:
    """That a function has a secret in it, if so and if that matters."""
    if options.keep_secrets:
        return None
    code, docstring = definition.code, definition.docstring
    return SECRET if find_secrets(code if docstring in code else f"{docstring}\n{code}") else None


def write_record(definition: Definition, path: str, language: str, provenance: Provenance) -> bytes:
    """A function as a line of JSON; a lone surrogate, which no file can hold, becomes a question mark."""
    record = build_record(definition, path, language, provenance)
    return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def build_record(definition: Definition, path: str, language: str, provenance: Provenance) -> dict[str, Any]:
    """A function in CodeSearchNet's schema and ours after it."""
    return {
        "repo": provenance.repo,
        "path": path,
        "func_name": definition.qualified_name,
        "original_string": definition.code,
        "language": language,
        "code": definition.code,
        "code_tokens": definition.code_tokens,
        "docstring": definition.docstring,
        "docstring_tokens": definition.docstring_tokens,
        "sha": provenance.sha,
        "url": provenance.url,
        "partition": None,
        "summary": definition.summary,
        "start_line": definition.start_line,
        "end_line": definition.end_line,
        "license": provenance.license,
        "license_file": provenance.license_file,
        "commit_date": provenance.commit_date,
    }
