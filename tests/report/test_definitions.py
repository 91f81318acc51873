"""Every metric is shown with the controls, and defined."""

import pytest

from codestrata.report.definitions import build_metrics_tables, choose_group, group_metrics, list_definitions


def find_line(results, metric):
    return dict(list_definitions(results))[metric]


@pytest.mark.parametrize(
    ("name", "kind", "group"),
    [
        ("pass@1", "rate", "Running and matching"),
        ("pass@10", "rate", "Running and matching"),
        ("exact_match", "rate", "Running and matching"),
        ("bleu_codexglue", "score", "Text"),
        ("meteor_exact_stem", "score", "Text"),
        ("codebleu", "score", "Structure"),
        ("ast_nodes_jaccard", "score", "Structure"),
        ("syntax_pass", "rate", "Structure"),
        ("base_shift", "description", "Agreement with the base"),
        ("complexity", "description", "Descriptions"),
        ("something", "score", "Other scores"),
    ],
)
def test_every_metric_has_a_group(name, kind, group):
    assert choose_group(name, kind) == group


def test_no_metric_is_lost(results):
    results["metrics"]["new_score"] = {"kind": "score", "formula": "f", "source": "s", "implementation": "i"}
    names = [name for group in group_metrics(results).values() for name in group]
    assert sorted(names) == sorted(results["metrics"])


def test_the_tables_show_every_contender_on_every_task(results):
    tables = build_metrics_tables(results, "test")
    assert [table.title for table in tables] == [
        f"{heading}, split `test` (n = 300)"
        for heading in ("Running and matching", "Text", "Structure", "Descriptions")
    ]
    for table in tables:
        assert [row[:2] for row in table.rows] == [
            (task, name)
            for task in ("python", "javascript")
            for name in ("base", "echo", "nearest", "lora", "layers", "finetune")
        ]
    assert tables[1].header == ("task", "method", "bleu", "bleu_codexglue")
    value = results["controls"][0]["cells"][0]["scores"]["pass@1"]["value"]
    assert tables[0].rows[1][2] == f"{value:.3f} [{value - 0.05:.3f}, {value + 0.05:.3f}]"


def test_a_metric_without_any_value_has_a_reason_and_no_column(results):
    assert not any("base_agreement" in table.header for table in build_metrics_tables(results, "test"))
    assert "not computed: the base was not asked" in find_line(results, "base_agreement")


def test_a_split_without_examples_has_no_tables(results):
    for task in results["tasks"]:
        task["examples"]["unseen"] = 0
    assert build_metrics_tables(results, "unseen") == []


def test_a_definition_has_kind_formula_source_implementation_and_variant(results):
    assert find_line(results, "bleu") == (
        "(score) share of x | y; source: someone; implementation: ours; variant: parser 1.0"
    )


def test_a_missing_value_names_whom_and_why(results):
    score = results["controls"][1]["cells"][0]["scores"]["pass@1"]
    score |= {"value": None, "interval": None, "reason": "no runtime"}
    cells = results["methods"][1]["seeds"][0]["cells"]
    cells[-1]["scores"]["pass@1"] |= {"value": None, "interval": None, "reason": "out of memory"}
    results["base"]["cells"][0]["scores"]["pass@1"]["reason"] = "1 of 4 predictions have no tests"
    line = find_line(results, "pass@1")
    assert "not computed for nearest: no runtime" in line
    assert "not computed for lora: out of memory" in line
    assert "note for base: 1 of 4 predictions have no tests" in line
