from codestrata.data.codesearchnet import Function
from codestrata.data.duplicates import compare_texts
from codestrata.data.sourced import SourcedExample
from codestrata.data.traces import trace_record
from codestrata.records import Example

CODE = 'def f(a):\n    """Add one."""\n    return a + 1\n'


def make_function(code=CODE, language="python", docstring="Add one."):
    return Function(
        identifier="1",
        repository=None,
        name="f",
        language=language,
        code=code,
        docstring=docstring,
        partition=None,
    )


def make_example(**changes):
    return SourcedExample(example=Example(**({"identifier": "1", "prompt": "p", "target": "t"} | changes)))


def test_a_function_is_its_code_without_the_docstring():
    trace = trace_record(make_function())
    other = trace_record(make_function(CODE.replace("Add one.", "Quite other words than those.")))
    assert trace.text == other.text == "def f(a):\n    return a + 1\n"
    assert trace.equal != other.equal
    assert not trace.foreign
    spaced = trace_record(make_function(CODE.replace("\n    ", "\n\t")))
    assert spaced.equal == trace.equal == trace.shared


def test_code_of_other_languages_is_as_it_is():
    code = "function f(a) { return a + 1 }"
    trace = trace_record(make_function(code, "javascript"), mixed=True)
    assert trace.text == code
    assert trace.foreign_texts == (f"Add one.\n{code}",)


def test_an_example_is_its_prompt_across_splits_and_both_within():
    one, other = trace_record(make_example()), trace_record(make_example(target="u"))
    assert one.shared == other.shared == ("prompt", "p")
    assert one.equal != other.equal
    assert one.text == "p\nt"
    laid_out = trace_record(make_example(prompt="p\r\n", target=" t"))
    assert (laid_out.equal, laid_out.shared) == (one.equal, one.shared)
    assert trace_record(make_example(prompt="a\nb", target="c")).equal != (
        trace_record(make_example(prompt="a", target="b\nc")).equal
    ), "where the prompt ends counts"


def test_functions_and_examples_meet_in_their_code():
    function = trace_record(make_function(), mixed=True)
    whole = make_example(prompt="Add one.", target="def f(a):\n  return a + 1")
    body = make_example(prompt='def f(a):\n    """Add one."""\n', target="    return a + 1\n")
    prelude = make_example(target="    return a + 1\n", prelude="def f(a):\n")
    for example in (whole, body, prelude):
        trace = trace_record(example, mixed=True)
        assert set(trace.foreign) & set(function.foreign)
        ours = (function.text, *function.foreign_texts)
        others = (trace.text, *trace.foreign_texts)
        assert max(compare_texts(one, other) for one in ours for other in others) == 1
