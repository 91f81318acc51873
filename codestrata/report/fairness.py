"""How the methods were made comparable: what was solved for each, and the learning rates that were tried.

What this does not do: solve or try anything (``experiment.fairness`` does).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from codestrata.report.tables import MISSING, Results, Table

MATCH_HEADER = ("method", "solved", "target", "reached", "off by")
SEARCH_HEADER = ("method", "steps per trial", "validation loss by rate", "chosen", "at the grid's edge")
SHARES = {
    "parameters": "every training of a method changes that many parameters",
    "bytes": "the components that a method needs to answer all tasks take that many bytes, one per task or "
    "one for all; what a retention keeps for later trainings is not counted",
    "tokens": "a task's training takes that many prompt and target tokens, replayed ones included; a joint "
    "model, made anew for every task, takes those of all tasks so far",
    "time": "a task's training lasts that long, by steps timed before the run; a joint model, made anew for "
    "every task, gets the time of all tasks so far. The numbers of steps hold for this machine only",
}
"""What is matched -> what that means."""


def list_fair_tables(results: Results) -> list[Table]:
    """What was solved, and what was tried, as far as the run did either."""
    fair = results["fair"]
    if fair is None:
        return []
    methods = fair["methods"].items()
    tables = []
    if fair["match"] is not None:
        rows = tuple(write_match(name, own) for name, own in methods)
        tables.append(Table(f"What was solved for equal {fair['unit']}", MATCH_HEADER, rows))
    searched = tuple(write_search(name, own["search"]) for name, own in methods if own["search"] is not None)
    if searched:
        title = "Validation loss after trials on the first task, nats per target token"
        tables.append(Table(title, SEARCH_HEADER, searched))
    return tables


def write_match(name: str, own: Mapping[str, Any]) -> tuple[str, ...]:
    """A method's row of what was solved."""
    if own["steps"] is not None:
        solved = f"{own['knob']} {', '.join(map(str, own['steps'].values()))}"
    else:
        solved = ", ".join(
            f"{setting} {value:g}"
            for setting, value in own["values"].items()
            if not setting.endswith(".learning_rate")
        )
    if not solved:
        solved = "as set" if own["knob"] is not None else MISSING
    mark = "" if own["within_tolerance"] else f" ({own['reason']})"
    return (
        name,
        solved,
        write_amount(own["target"]),
        write_amount(own["reached"]),
        f"{100 * own['deviation']:+.1f} %{mark}",
    )


def write_amount(value: float) -> str:
    """Parameters, bytes or tokens as whole numbers; short times with a digit behind the point."""
    return f"{value:,.0f}" if value >= 1000 or float(value).is_integer() else f"{value:,.1f}"


def write_search(name: str, search: Mapping[str, Any]) -> tuple[str, ...]:
    """A method's row of what was tried."""
    losses = ", ".join(
        f"{trial['rate']:g}: {'diverged' if trial['loss'] is None else format(trial['loss'], '.3f')}"
        for trial in search["trials"]
    )
    edge = "no" if search["edge"] is None else f"{search['edge']}: widen it"
    return (name, str(search["steps"]), losses, f"{search['chosen']:g}", edge)


def explain_fairness(results: Results) -> Iterator[str]:
    """What the tables mean, and what does not follow from them."""
    fair = results["fair"]
    if fair is None:
        return
    if fair["match"] is not None:
        source = (
            "The target was given"
            if fair["reference"] is None
            else f"The target is what `{fair['reference']}` has as it is set"
        )
        of = "over all trainings of a seed" if fair["match"] in ("tokens", "time") else fair["unit"]
        yield (
            f"Methods were matched on {fair['match']}: {SHARES[fair['match']]}. {source}; a method counts as "
            f"matched within {100 * fair['tolerance']:g} %. Targets and what was reached are {of}."
        )
        apart = [f"`{name}`" for name, own in fair["methods"].items() if not own["within_tolerance"]]
        if apart:
            yield f"Not matched: {', '.join(apart)}. Where one differs from the others, that may be why."
    searches = [own["search"] for own in fair["methods"].values() if own["search"] is not None]
    if searches:
        yield (
            f"Every method had {len(searches[0]['trials'])} trials on `{searches[0]['task']}`, the first "
            "task, and the rate with the lowest loss on its validation examples served for all trainings. No "
            "test example and no later task took part. What a retention does later could not be seen there."
        )
