"""What of a record is compared with others when duplicates and leaks are looked for.

    function        its code, however it is laid out; near duplicates: without the docstring
    ready example   within a split prompt and target, across splits the prompt, however these are laid out;
                    near duplicates: both as one
    one of each     the function's code, with and without documentation, against the example's: its target
                    alone, after its prompt and after its prelude

What this does not do: compare anything (``duplicates`` does).
"""

from codestrata.data.duplicates import Trace
from codestrata.data.objectives import cut_docstring
from codestrata.data.sourced import SourcedExample
from codestrata.data.sources import Record


def trace_record(record: Record, *, mixed: bool = False) -> Trace:
    """The record's trace; ``mixed`` where functions and ready examples are to be compared with each other."""
    if isinstance(record, SourcedExample):
        return trace_example(record, mixed=mixed)
    code = record.code
    bare = cut_docstring(code) if record.language == "python" else code
    layout = strip_layout(code)
    documented = code if bare != code else f"{record.docstring}\n{code}"
    foreign = dict.fromkeys((layout, strip_layout(bare), strip_layout(documented))) if mixed else ()
    return Trace(
        identifier=record.identifier,
        kind="function",
        equal=("code", layout),
        shared=("code", layout),
        text=bare,
        foreign=tuple(foreign),
        foreign_texts=(documented,) if mixed and documented != bare else (),
    )


def trace_example(record: SourcedExample, *, mixed: bool) -> Trace:
    """The trace of a ready example."""
    example = record.example
    whole = f"{example.prompt}\n{example.target}"
    codes = [example.target]
    if example.prelude is not None:
        codes.append(f"{example.prelude}\n{example.target}")
    prompt, target = strip_layout(example.prompt), strip_layout(example.target)
    foreign = dict.fromkeys(map(strip_layout, (whole, *codes))) if mixed else ()
    return Trace(
        identifier=example.identifier,
        kind="example",
        equal=("prompt and target", f"{len(prompt)}:{prompt}{target}"),
        shared=("prompt", prompt),
        text=whole,
        foreign=tuple(foreign),
        foreign_texts=tuple(codes) if mixed else (),
    )


def strip_layout(code: str) -> str:
    """The code or text with every run of white space as one space."""
    return " ".join(code.split())
