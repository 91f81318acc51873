"""What validation said of every training, when it ended one, and which weights were kept.

What this does not do: show test scores; they had no part in it.
"""

from codestrata.report.costs import list_trainings, name_seed
from codestrata.report.tables import Results, Table

HEADER = (
    "method",
    "seed",
    "task",
    "steps",
    "validations",
    "lowest loss",
    "last loss",
    "stopped by",
    "weights kept",
)


def build_validation_table(results: Results) -> Table | None:
    """Every training that was validated; ``None`` where none was."""
    rows = tuple(
        (
            method["name"],
            name_seed(results, entry),
            training["task"],
            f"{training['steps']} of {training['planned_steps']}",
            str(len(found["losses"])),
            f"{found['best_loss']:.3f} (step {found['best_step']})",
            f"{found['losses'][-1]['loss']:.3f}",
            training["stopped"],
            f"{found['kept']} (step {found['kept_step']})",
        )
        for method, entry, training in list_trainings(results)
        if (found := training["validation"]) is not None
    )
    return Table("What validation said of every training", HEADER, rows) if rows else None


def explain_validation(results: Results) -> str:
    """What validation decided in this run, and what it did not see."""
    found = next(
        training["validation"]
        for _, _, training in list_trainings(results)
        if training["validation"] is not None
    )
    patience, kept = found["patience"], found["kept"]
    decided = []
    if patience is not None:
        many = "it was" if patience == 1 else f"{patience} in a row were"
        decided.append(f"a training stopped once {many} no better than the best before")
    if kept == "best":
        decided.append("the component has the weights of the lowest loss")
    return (
        "The loss (nats per target token, without dropout) on the task's validation examples was measured "
        f"after every {found['validation_steps']} steps and after the last: "
        f"{' and '.join(decided) or 'nothing was decided by it'}. A task's training took no step on these "
        "examples, and none of its test examples had a part in any choice."
    )
