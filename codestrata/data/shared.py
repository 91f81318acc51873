"""Examples that one task of a run is trained on and another is tested on: what no split of one task can see.

What this does not do: leave any out. A task's examples depend on that task alone, so that a run that was
extended is the run that had all tasks from the beginning; ``tasks.exclude`` leaves them out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from codestrata.data.duplicates import (
    DuplicateIndex,
    Match,
    Trace,
    collect_shingles,
    compare_texts,
    may_be_near,
)
from codestrata.data.secrets import hide_secret
from codestrata.data.traces import strip_layout
from codestrata.records import Example, Task
from codestrata.settings.tasks import NEAR_DUPLICATES

MOST_EXAMPLES = 3
TRAINED, TESTED = "trained", "tested"


def find_shared_examples(
    tasks: Sequence[Task], threshold: float = NEAR_DUPLICATES
) -> tuple[dict[str, Any], ...]:
    """A row for every two tasks of which one is tested on what the other is trained on, if any is.

    A test counts if a training example has the same prompt and target, but for the layout (``exact``), or one
    of which prompt and target together, and the target alone, are as similar as ``threshold`` (``near``). A
    prompt alone does not: the same problem in another language has another answer.
    """
    traces = {task.name: [trace_whole(test) for test in (*task.test, *task.unseen)] for task in tasks}
    rows = []
    for trained in tasks:
        others = [task for task in tasks if task is not trained]
        index = index_training(trained, [test for task in others for test in traces[task.name]], threshold)
        for tested in others:
            found = [(test, match) for test in traces[tested.name] if (match := find_trained(index, test))]
            if found:
                exact = sum(match.is_exact for _, match in found)
                rows.append(
                    {
                        "trained": trained.name,
                        "tested": tested.name,
                        "tests": len(traces[tested.name]),
                        "exact": exact,
                        "near": len(found) - exact,
                        "threshold": threshold,
                        "examples": [describe_pair(*pair) for pair in found[:MOST_EXAMPLES]],
                    }
                )
    return tuple(rows)


def trace_whole(example: Example) -> Trace:
    """What of an example is compared with those of other tasks: prompt and target."""
    prompt, target = strip_layout(example.prompt), strip_layout(example.target)
    same = ("prompt and target", f"{len(prompt)}:{prompt}{target}")
    return Trace(
        identifier=example.identifier,
        kind="example",
        equal=same,
        shared=same,
        text=f"{prompt}\n{target}",
    )


def index_training(task: Task, tests: Sequence[Trace], threshold: float) -> DuplicateIndex:
    """The training examples of a task that may be like one of the tests."""
    index = DuplicateIndex(threshold)
    known = collect_shingles(tests)
    wholes = {test.equal for test in tests}
    for example in task.train:
        trace = trace_whole(example)
        if trace.equal in wholes or may_be_near(trace, known, threshold):
            index.add(trace, TRAINED)
    return index


def find_trained(index: DuplicateIndex, test: Trace) -> Match | None:
    """The training example that a test repeats."""
    match = index.find(test, TESTED, (TRAINED,))
    if match is None or match.is_exact:
        return match
    targets = (trace.text.partition("\n")[2] for trace in (test, match.entry.trace))
    likeness = compare_texts(*targets)
    return match if likeness is not None and likeness >= index.threshold else None


def describe_pair(test: Trace, match: Match) -> dict[str, Any]:
    """A test and the training example that it repeats."""
    return {
        "test": hide_secret(test.identifier),
        "repeats": hide_secret(match.entry.trace.identifier),
        "kind": "exact" if match.is_exact else "near",
        "jaccard": match.jaccard,
    }


def describe_shared(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence for every two tasks that share examples."""
    return tuple(
        f"{row['exact'] + row['near']} of {row['tests']} tests of {row['tested']} repeat what "
        f"{row['trained']} is trained on ({row['exact']} exactly, {row['near']} nearly): where tasks share a "
        f"component, what {row['tested']} scores is no test any more; tasks.exclude of {row['trained']} "
        "keeps them out"
        for row in rows
    )
