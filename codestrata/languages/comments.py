"""Code without its comments, as CodeBLEU takes them out before it parses.

What this does not do: read the code with its grammar. The rules are those of the published metric, with its
faults: outside Python and Ruby, ``//`` and ``/*`` begin a comment wherever they stand outside single and
double quotes (inside a JavaScript template string or regular expression too), and ``#`` never does (PHP).
"""

import io
import re
import tokenize

QUOTED = {quote: re.compile(rf"[^\\{quote}]*(?:\\.[^\\{quote}]*)*{quote}", re.DOTALL) for quote in "'\""}
ESCAPED_QUOTE = re.compile(r"\\['\"]")
MOST_ESCAPED_QUOTES = 200
OPENING = re.compile(r"//|/\*|'|\"")


def strip_comments(language: str, code: str) -> str:
    """``code`` without comments and blank lines, and without docstrings in Python; Ruby stays as it is.

    Python that Python's own tokenizer refuses stays as it is too, and so does Python with a line of more than
    200 escaped quotes, for which the tokenizer takes minutes where a string is not closed.

    Source: what PyPI's codebleu 0.7.0 hands to its parsers, observed.
    """
    if language == "ruby":
        return code
    if language == "python":
        if any(len(ESCAPED_QUOTE.findall(line)) > MOST_ESCAPED_QUOTES for line in code.split("\n")):
            return code
        try:
            stripped = strip_python(code)
        except (tokenize.TokenError, SyntaxError):
            return code
    else:
        stripped = strip_slashes(code)
    return "\n".join(line for line in stripped.split("\n") if line.strip())


def strip_python(code: str) -> str:
    """Python code without comments and without string literals that begin a line or follow an indent.

    What is between tokens becomes as many spaces as separate them in their line.

    Raises: tokenize.TokenError, SyntaxError: the tokenizer refuses the code.
    """
    parts: list[str] = []
    last_line, last_column, before = -1, 0, tokenize.INDENT
    for kind, text, (line, column), (end_line, end_column), _ in tokenize.generate_tokens(
        io.StringIO(code).readline
    ):
        if line > last_line:
            last_column = 0
        parts.append(" " * (column - last_column))
        docstring = kind == tokenize.STRING and (before in (tokenize.INDENT, tokenize.NEWLINE) or column == 0)
        if kind != tokenize.COMMENT and not docstring:
            parts.append(text)
        last_line, last_column, before = end_line, end_column, kind
    return "".join(parts)


def strip_slashes(code: str) -> str:
    """Code with a space for every ``// ...`` and ``/* ... */`` outside quotes; time grows with its length.

    A quote or a ``/*`` that is never closed is taken as it stands.
    """
    parts: list[str] = []
    unclosed: set[str] = set()  # what was not closed once is not closed later: do not look again
    place = 0
    while opening := OPENING.search(code, place):
        start, mark = opening.start(), opening.group()
        parts.append(code[place:start])
        end = None if mark in unclosed else find_end(code, opening.end(), mark)
        if end is None:
            unclosed.add(mark)
            parts.append(code[start])
            place = start + 1
        else:
            parts.append(code[start:end] if mark in QUOTED else " ")
            place = end
    return "".join(parts) + code[place:]


def find_end(code: str, place: int, mark: str) -> int | None:
    """Where what began with ``mark`` before ``place`` is over; ``None`` where it is never closed."""
    if mark in QUOTED:
        closed = QUOTED[mark].match(code, place)
        return closed.end() if closed else None
    if mark == "//":
        newline = code.find("\n", place)
        return len(code) if newline < 0 else newline
    closing = code.find("*/", place)
    return None if closing < 0 else closing + 2
