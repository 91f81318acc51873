"""What a training says of itself while it runs, when validation ends it, and when it cannot go on.

What this does not do: decide anything.
"""

from collections.abc import Sequence

from codestrata.checkpoints import Checkpoints
from codestrata.engine.course import Course
from codestrata.engine.watch import Watch
from codestrata.progress import Progress


def describe_step(course: Course) -> str:
    """What the newest step and the newest validation came to, for whoever watches."""
    loss = f"loss {course.done[-1].loss:.3f}"
    if course.watch is None or not course.watch.seen:
        return loss
    return f"{loss}, validation {course.watch.seen[-1].loss:.3f}"


def say_outcome(course: Course, watch: Watch, progress: Progress, label: str) -> None:
    """Say that validation ended the training early, or that it leaves other weights than its last."""
    best, done = watch.best, len(course.done)
    lowest = f"the lowest validation loss, {best.loss:.3f}, was after step {best.step}"
    if course.stopped == "patience":
        progress.say(f"{label}: stopped after step {done} of {len(course.plan)}: {lowest}")
    if watch.kept == "best" and best.step != done:
        progress.say(f"{label}: keeps the weights of step {best.step}, not of {done}: {lowest}")


def describe_failure(what: str, value: float, step: int, identifiers: Sequence[str]) -> str:
    """Where a training came to a number that it cannot go on from, and what to do."""
    return (
        f"The {what} is {value} at step {step}, on examples {', '.join(identifiers)}. "
        "Begin a new run with a lower learning rate (--set training.learning_rate=...), or look at these "
        "examples."
    )


def describe_kept(checkpoints: Checkpoints | None) -> str:
    """What is kept of a training that cannot go on."""
    if checkpoints is None or checkpoints.newest is None:
        return ""
    step = checkpoints.newest
    return f" The component before step {step + 1} is kept in {checkpoints.place(step)}."
