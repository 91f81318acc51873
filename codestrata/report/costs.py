"""What every training cost, as a table, and where its memory was read from.

What this does not do: sum a method's costs up (``tables.build_cost_comparison`` does).
"""

from codestrata.report.tables import MISSING, Results, Table

HEADER = ("method", "seed", "task", "steps", "seconds", "examples/s", "tokens/s", "final loss", "peak MiB")


def build_cost_table(results: Results) -> Table:
    """Every training: time, speed, memory, loss."""
    rows = tuple(
        (
            method["name"],
            str(entry["seed"]),
            training["task"],
            str(training["steps"]),
            f"{training['seconds']:.1f}",
            f"{training['examples_per_second']:.1f}",
            f"{training['tokens_per_second']:.0f}",
            f"{training['final_loss']:.3f}",
            MISSING if training["peak_memory_mib"] is None else f"{training['peak_memory_mib']:.0f}",
        )
        for method in results["methods"]
        for entry in method["seeds"]
        for training in entry["trainings"]
    )
    return Table("What training cost", HEADER, rows)


def list_memory_counters(results: Results) -> list[str]:
    """The counters that peak memory was read from."""
    return sorted(
        {
            training["memory_counter"]
            for method in results["methods"]
            for entry in method["seeds"]
            for training in entry["trainings"]
        }
    )
