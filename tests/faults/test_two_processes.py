"""A run under way is nobody else's."""

import signal

from attempts import Order, Trouble
from chains import finish
from sameness import read_files


def test_a_second_process_is_refused_with_the_owner_named_and_changes_nothing(nursery, small, place):
    run, cache = place / "runs" / "mine", str(place / "cache")
    first = nursery.start(
        Order(
            run=str(run),
            cache=cache,
            tree=small.tree,
            trouble=Trouble(number=3, where="checkpoint", signal=signal.SIGSTOP),
        )
    )
    nursery.wait_until_stopped(first)
    before = read_files(run)
    second = nursery.attempt(Order(run=str(run), cache=cache))
    assert (second.code, second.error) == (1, "RunError")
    assert f"Run 'mine' is in use by process {first} on " in second.text
    assert read_files(run) == before
    told = nursery.attempt(Order(run=str(run), cache=cache, command=("resume", str(run), "-q")))
    assert (told.code, told.out) == (2, "")
    assert f"process {first} on " in told.err
    assert "go on with" not in told.err
    nursery.go_on(first)
    assert nursery.wait(first).is_done
    assert finish(nursery, small, place)[1] == []
