"""The text of one source file, or why it has none that is worth mining.

A file is read as its byte order mark says, or as Python's ``coding:`` line says, else as UTF-8. Where that
fails, each line that is not UTF-8 is read as Windows-1252. Where that is not plausible, the file may be in
any other encoding and is skipped: such a line has four bytes beyond ASCII in a row, or more of them than
letters of ASCII, or all such lines together have letters that no one alphabet of ``ALPHABETS`` has, or signs
within words. Every line break becomes a line feed.

What this does not do: tell an encoding from very few letters (those of one Western alphabet are read as that,
whatever they were meant to be), look for files (``sources`` does), or parse (``definitions`` does).
"""

import codecs
import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from codestrata.data.mining.sources import EMPTY, GENERATED, GONE, LARGE, MINIFIED, UNREADABLE
from codestrata.files import open_plain

BINARY = "binary"
UNKNOWN_ENCODING = "in an encoding that is not known"
DIGEST_BYTES = 8

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's does, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
CODING_LINE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
"""Python's own rule, for the first two lines of a file (PEP 263)."""
WESTERN = "windows-1252"
LETTER = re.compile(rb"[A-Za-z]")
FOREIGN_RUN = re.compile(rb"[\x80-\xff]{4}")
ALPHABETS = tuple(
    frozenset(f"{letters}µªº")
    for letters in (
        "àâäçèéêëîïôöœùûüß",  # French and German
        "àáâãçéêíñóôõúüïòè",  # Spanish, Portuguese and Catalan
        "àèéìíîòóùú",  # Italian
        "åäæöøéèêàôü",  # Danish, Norwegian, Swedish and Finnish
    )
)
"""The small letters beyond ASCII of languages that Windows-1252 was for.

Icelandic is not among them: Turkish files have other letters at the places of its own.
"""
BEYOND = r"\xa1-\xaa\xac-\xba\xbc-\u2012\u2027-\uffff"
"""What is beyond ASCII but for quotation marks, dashes and spaces, as part of a set in an expression."""
MISPLACED = re.compile(
    r"[^\W\d_][¿¡£¥¯¶¦¤]|[¹³¼¾¯£¥¶¦ªº][^\W\d_]"
    r"|õ(?!e)"
    rf"|(?<![a-z{BEYOND}])(?=[{BEYOND}]*[^\W\d_])[{BEYOND}]{{2,}}(?![a-z{BEYOND}])",
    re.IGNORECASE,
)
"""Signs where other encodings have letters, a letter where Portuguese has none, words without ASCII."""

HEAD_BYTES = 4096
HEAD_LINES = 30
GENERATED_MARKS = re.compile(
    rb"@generated\b(?!-)"
    rb"|code generated .*do not edit"
    rb"|do not (edit|modify|change)\b.*\bgenerated\b|\bgenerated\b.*do not (edit|modify|change)\b"
    rb"|^\W*(note: |warning: )?(this (file|code|class|module|program|source) (was |is |has been )?)?"
    rb"(auto-?matically|auto|machine)[ -]?generated\b"
    rb"|^\W*this (file|code|class|module) (was|is|has been) generated (by|from)\b"
    rb"|^\s*(#|//|/?\*|--|;)\W*generated (by|from)\b"
    rb"|^_tabversion *= *['\"]",
    re.IGNORECASE | re.MULTILINE,
)
"""How generators mark what they made, in the first lines of a file."""

LONG_LINE_BYTES = 250
"""A file of which half stands in longer lines was packed by a tool, or is data."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text of a file, its encoding, and a number that files of equal bytes share."""

    text: str
    encoding: str
    digest: int
    bytes: int


def read_source(path: Path, language: str, most_bytes: int) -> SourceText | str:
    """The text of a file; a reason, as a text, where it is to be skipped."""
    try:
        with open_plain(path) as file:
            content = file.read(most_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        return GONE
    except OSError:
        return UNREADABLE
    if len(content) > most_bytes:  # it has grown since
        return LARGE
    return read_content(content, language)


def read_content(content: bytes, language: str) -> SourceText | str:
    """The text that bytes are; a reason, as a text, where they are to be skipped."""
    mark, encoding = next((entry for entry in MARKS if content.startswith(entry[0])), (b"", ""))
    if encoding in ("", "utf-8"):  # the others hold NULs
        if b"\0" in content:
            return BINARY
        reason = judge_content(content)
        if reason is not None:
            return reason
    text = decode(content[len(mark) :], encoding, language)
    if text is None:
        return UNKNOWN_ENCODING
    if "\0" in text[0]:
        return BINARY
    if not text[0].strip():
        return EMPTY
    digest = int.from_bytes(blake2b(content, digest_size=DIGEST_BYTES).digest())
    return SourceText(break_lines(text[0]), text[1], digest, len(content))


def judge_content(content: bytes) -> str | None:
    """Why a file is no source that somebody wrote, if so."""
    head = b"\n".join(content[:HEAD_BYTES].splitlines()[:HEAD_LINES])
    if GENERATED_MARKS.search(head):
        return GENERATED
    if len(content) > LONG_LINE_BYTES and is_packed(content):
        return MINIFIED
    return None


def is_packed(content: bytes) -> bool:
    """Whether half of a file stands in long lines."""
    lengths = [len(line) for line in content.splitlines()]
    if max(lengths, default=0) <= LONG_LINE_BYTES:
        return False
    return 2 * sum(length for length in lengths if length > LONG_LINE_BYTES) > sum(lengths)


def decode(content: bytes, marked: str, language: str) -> tuple[str, str] | None:
    """The text and the name of its encoding; ``None`` where the bytes are no text that we can read."""
    declared = marked or (find_declared(content) if language == "python" else None)
    for encoding in dict.fromkeys([declared, "utf-8"]):
        try:
            if encoding is not None:
                return content.decode(encoding), encoding
        except (UnicodeError, LookupError):
            if marked:
                return None
    return decode_lines(content)


def find_declared(content: bytes) -> str | None:
    """The encoding that a Python file names in its first two lines, if it is one of texts."""
    lines = content[:1000].splitlines()[:2]
    if lines and lines[0].strip() and not lines[0].lstrip().startswith(b"#"):
        lines = lines[:1]
    found = next((match for line in lines if (match := CODING_LINE.match(line))), None)
    try:
        return codecs.lookup(found[1].decode("ascii")).name if found else None
    except (LookupError, UnicodeDecodeError):
        return None


def decode_lines(content: bytes) -> tuple[str, str] | None:
    """The text of lines in UTF-8 and in Windows-1252; ``None`` where it may be another encoding."""
    lines, western = [], []
    encodings = set()
    for line in content.splitlines(keepends=True):
        encoding = "utf-8"
        try:
            lines.append(line.decode(encoding))
        except UnicodeDecodeError:
            if is_foreign(line):
                return None
            encoding = WESTERN
            try:
                lines.append(line.decode(encoding))
            except UnicodeDecodeError:
                return None  # a byte that it lacks
            western.append(lines[-1])
        if not line.isascii():
            encodings.add(encoding)
    if not is_western("".join(western)):
        return None
    return "".join(lines), " and ".join(sorted(encodings))


def is_foreign(line: bytes) -> bool:
    """Whether a line that is not UTF-8 is in none of Western Europe's languages either, by its bytes."""
    beyond = sum(byte >= 0x80 for byte in line)
    return FOREIGN_RUN.search(line) is not None or beyond > len(LETTER.findall(line))


def is_western(text: str) -> bool:
    """Whether a text that was read as Windows-1252 may be one by its letters and where its signs stand."""
    letters = {letter for letter in text.lower() if letter.isalpha() and not letter.isascii()}
    return any(letters <= alphabet for alphabet in ALPHABETS) and MISPLACED.search(text) is None


def break_lines(text: str) -> str:
    """The text with a line feed for every break of a line."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
