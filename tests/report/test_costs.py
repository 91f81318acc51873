"""Every training is shown with what it cost."""

from codestrata.report.costs import build_cost_table, describe_engine, list_memory_counters
from codestrata.report.tables import MISSING


def test_every_training_has_a_line(results):
    training = results["methods"][2]["seeds"][0]["trainings"][1]
    training |= {"final_loss": 1.2345, "peak_memory_mib": None}
    table = build_cost_table(results)
    names = [(row[0], row[1], row[2]) for row in table.rows]
    tasks = ("python", "javascript")
    assert names == [(method, "0", task) for method in ("lora", "layers", "finetune") for task in tasks]
    first = dict(zip(table.header, table.rows[0], strict=True))
    assert (first["seconds"], first["peak MiB"], first["tokens/s"]) == ("30.0", "800", "13333")
    row = dict(zip(table.header, table.rows[3], strict=True))
    assert (row["final loss"], row["peak MiB"], row["steps"]) == ("1.234", MISSING, "300")


def test_a_line_says_in_which_order_its_tasks_came_where_there_are_several(results):
    results["orders"] = [["python", "javascript"], ["javascript", "python"]]
    results["methods"][1]["seeds"][0]["order"] = 1
    rows = build_cost_table(results).rows
    assert [row[1] for row in rows[:3]] == ["0, javascript > python"] * 2 + ["0, python > javascript"]


def test_memory_counters_are_named_once(results):
    assert list_memory_counters(results) == ["VmHWM of the process"]
    results["methods"] = results["methods"][:1]
    assert list_memory_counters(results) == []


def test_how_trainings_were_computed(results):
    assert describe_engine(results) == [
        "Matrix products of training in fp32; dropout of the frozen base off; "
        "C library: glibc keeps buffers.",
        "layers: states of the frozen part were read from disk for 8000 of 8000 examples "
        "(4000 computed in these trainings, 2.5 s).",
    ]


def test_why_states_were_not_kept(results):
    for training in results["methods"][2]["seeds"][0]["trainings"]:
        training["states"] |= {"kept": 0, "computed": 0, "seconds": 0.0, "reason": "the disk is short"}
    assert describe_engine(results)[1] == (
        "layers: states of the frozen part were read from disk for 0 of 8000 examples "
        "(0 computed in these trainings, 0.0 s): the disk is short."
    )


def test_nothing_is_said_of_no_trainings(results):
    results["methods"] = results["methods"][:1]
    assert describe_engine(results) == []
