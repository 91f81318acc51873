"""What is repeated of the training text, as tables and sentences."""

import pytest

from codestrata.report.markdown import render_analysis
from codestrata.report.repetition import explain_repetition, list_repetition_tables
from codestrata.results.repetition import estimate_share


def make_entry(
    method="lora",
    seed=0,
    task="python",
    *,
    split="test",
    order=0,
    long=4,
    repeating=1,
    n=10,
    untrained=0,
):
    counts = {"n": n, "long": long, "repeating": repeating}
    share = estimate_share([True] * repeating + [False] * (n - repeating), "the reason")
    nothing = estimate_share([False] * n, "the reason")
    return {
        "method": method,
        "seed": seed,
        "order": order,
        "task": task,
        "split": split,
        "outputs": {**counts, "untrained": untrained, "share": share},
        "targets": {**counts, "repeating": 0, "share": nothing},
    }


def make_results(*entries, tokens=50):
    methods = [("base", None), ("lora", "lora"), ("finetune", "weights")]
    return {
        "methods": [{"name": name, "component": component} for name, component in methods],
        "repetition": {"tokens": tokens, "reason": None, "entries": list(entries)},
    }


def test_a_row_says_how_much_a_method_repeats_and_what_perfect_answers_would():
    base = make_entry("base", None, n=0, long=0, repeating=0, untrained=10)
    (table,) = list_repetition_tables(make_results(base, make_entry(), make_entry(task="lua", repeating=0)))
    assert table.title == "Answers that repeat 50 tokens of training text (95 % interval)"
    assert table.header == (
        "method", "task", "answers", "of 50 tokens or more", "repeating", "share", "targets",
    )  # fmt: skip
    assert table.rows == (
        ("lora", "python", "10", "4", "1", "0.100 [0.018, 0.404]", "0.000"),
        ("lora", "lua", "10", "4", "0", "0.000 [0.000, 0.278]", "0.000"),
    )


def test_seeds_are_counted_together_and_orders_after_the_first_left_out():
    entries = [make_entry(seed=0, repeating=1), make_entry(seed=1, repeating=3), make_entry(order=1, n=99)]
    (table,) = list_repetition_tables(make_results(*entries))
    assert table.rows == (("lora", "python", "20", "8", "4", "0.200 (0.100 to 0.300)", "0.000"),)


def test_unseen_kinds_have_a_table_of_their_own():
    tables = list_repetition_tables(make_results(make_entry(), make_entry(split="unseen")))
    assert [table.title.partition(" (")[0] for table in tables] == [
        "Answers that repeat 50 tokens of training text",
        "Answers that repeat 50 tokens of training text, kinds of problem that no training contains",
    ]


def test_where_no_answer_is_long_enough_a_sentence_stands_for_the_table():
    short = make_results(make_entry(long=0, repeating=0), make_entry("echo", None, long=9, repeating=0))
    assert list_repetition_tables(short) == []
    (text,) = explain_repetition(short)
    assert text.startswith("No answer of a trained method at the end of the sequence is 50 tokens long")


def test_the_text_says_what_a_share_means_and_what_is_not_counted():
    texts = list(explain_repetition(make_results(make_entry(untrained=7))))
    assert "stand the same way in a prompt or a target that the component was trained on" in texts[0]
    assert texts[1].startswith("7 answers, which were left to the untouched base, are not counted")
    assert len(list(explain_repetition(make_results(make_entry())))) == 1


def test_a_method_without_a_looked_at_answer_has_no_share():
    entries = [make_entry(), make_entry("finetune", n=0, long=0, repeating=0)]
    (table,) = list_repetition_tables(make_results(*entries))
    assert table.rows[1] == ("finetune", "python", "0", "0", "0", "-", "-")


HEADING = "## Training text repeated word for word"


def test_the_analysis_has_the_section_where_it_was_looked_at(results):
    assert HEADING in render_analysis(results)


@pytest.mark.parametrize("part", ["tokens", "methods"])
def test_the_analysis_has_none_where_it_was_off_or_nothing_trained(results, part):
    if part == "tokens":
        results = results | {"repetition": {"tokens": None, "reason": "off", "entries": []}}
        assert HEADING not in render_analysis(results)
    else:
        from codestrata.report.markdown import write_repetition

        assert list(write_repetition(results | {"methods": results["methods"][:1]})) == []
