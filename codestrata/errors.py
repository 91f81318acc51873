"""The one exception tree; every message says what was asked, what was found and what to do.

    CodestrataError
    ├── SettingsError      a setting, a name on the command line or a combination that makes no sense (exit 2)
    ├── DataError          a data file or record that cannot be used; carries file and line
    │   └── SlowParseError a source text whose syntax tree takes too long
    ├── ModelError         a base model that cannot be loaded or is not supported
    │   └── HubError       the model hub could not be reached
    ├── ComponentError     a component that does not fit its base, or is damaged
    │   └── IsolationError the frozen base changed: the run's numbers cannot be trusted
    ├── MatrixError        a continual-learning metric asked of a matrix that lacks the entries
    ├── TrainingError      training cannot start or cannot go on (no data, an example that does not fit)
    │   └── DivergenceError a loss or gradient that is no finite number: the same steps would come to it again
    ├── ExecutionError     programs could not be executed at all (no runtime for the language)
    ├── RunError           a run directory that is missing, taken, in use or unfinished
    └── StorageError       a file that the disk, or its rights, do not let us write or read

What this does not do: catch anything, or print.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr


class CodestrataError(Exception):
    """Root of everything codestrata raises on purpose."""


class SettingsError(CodestrataError):
    """A setting or a combination of settings is refused."""


class DataError(CodestrataError):
    """A data file or record cannot be used; the message starts with ``file:line:`` where known."""

    def __init__(self, message: str, *, path: str | Path | None = None, line: int | None = None) -> None:
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(place + message)
        self.path = path
        self.line = line


class SlowParseError(DataError):
    """A source text is so far from its language that its syntax tree takes too long."""


class ModelError(CodestrataError):
    """A base model cannot be loaded or is of a family that is not supported."""


class HubError(ModelError):
    """The model hub could not be reached, and there is no silent fallback."""


class ComponentError(CodestrataError):
    """A component does not fit its base, or its files are damaged."""


class IsolationError(ComponentError):
    """The frozen base changed although nothing may change it."""


class MatrixError(CodestrataError):
    """A metric needs entries of R that are missing or of the wrong shape."""


class TrainingError(CodestrataError):
    """Training cannot start or cannot go on."""


class DivergenceError(TrainingError):
    """The loss or its gradient is no finite number any more."""


class ExecutionError(CodestrataError):
    """Programs of a language cannot be executed here at all."""


class RunError(CodestrataError):
    """A run directory is missing, taken, in use or unfinished."""


class StorageError(CodestrataError):
    """A file cannot be written or read; ``reason`` is the system's, such as "No space left on device"."""

    def __init__(self, path: str | Path, verb: str, error: OSError, advice: str = "") -> None:
        self.path, self.errno = Path(path), error.errno
        self.reason = error.strerror or str(error) or type(error).__name__
        super().__init__(f"{path} cannot be {verb}: {self.reason}.{advice and ' '}{advice}")


def describe_unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A sentence for an unknown name: what was asked, the nearest known name, and all the choices.

    >>> describe_unknown("method", "lroa", ["layers", "lora"])
    "Unknown method 'lroa'. Did you mean 'lora'? Known: layers, lora."
    """
    choices = sorted(known)
    near = get_close_matches(name, choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown {kind} {shorten(name)}.{hint} Known: {', '.join(choices) or 'none'}."


def shorten(value: object) -> str:
    """The value as in source code, cut where it is long or deep: what a stranger's file holds may be both.

    >>> shorten({"name": "lora", "ranks": [8, 16]})
    "{'name': 'lora', 'ranks': [8, 16]}"
    """
    return ShortRepr().repr(value)


class ShortRepr(Repr):
    """As ``reprlib``, with longer texts, and with whole numbers that Python refuses to write out."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 80
        self.maxdict = 6

    def repr_int(self, x: int, level: int) -> str:
        """The number, or how long it is."""
        bits = x.bit_length()
        return f"<a number of {bits} bits>" if bits > 1024 else super().repr_int(x, level)
