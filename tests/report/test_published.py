"""The published findings of the founding experiment as the report shows them."""

import json
from importlib.resources import files

import jsonschema
import pytest

from codestrata.presets import build_preset
from codestrata.report.markdown import render_analysis
from codestrata.report.pointers import read_pointer
from codestrata.report.published import (
    build_published_table,
    build_verdicts_table,
    describe_published,
    list_published_findings,
)
from codestrata.results.founding import judge_founding
from codestrata.settings.tree import build_settings, to_tree


@pytest.fixture
def founding(results):
    """The made results as those of a run of preset ``founding``."""
    results["settings"] = to_tree(build_settings(build_preset("founding")))
    results["founding"] = judge_founding(results)
    return results


def test_it_has_the_published_shape(founding):
    text = (files("codestrata") / "schemas" / "experimental_results.schema.json").read_text(encoding="utf-8")
    jsonschema.validate(founding, json.loads(text))


def test_only_a_founding_run_has_the_section(results, founding):
    assert "## The published findings" in render_analysis(founding)
    assert "## The published findings" not in render_analysis(founding | {"founding": None})


def test_the_published_table_is_that_of_the_founding_experiment(founding):
    table = build_published_table(founding)
    assert table.title == "As published (1 seed, 50 evaluation records)"
    assert table.rows == (
        ("LoRA", "0.2150", "0.2489", "22.97", "1.77", "0.78"),
        ("full layer", "0.2046", "0.2147", "21.69", "0.01", "-6.20"),
    )


def test_every_claim_has_a_sentence_that_points_to_it(founding):
    claims = founding["founding"]["claims"]
    findings = list(list_published_findings(founding))
    assert len(findings) == len(claims)
    for finding, claim in zip(findings, claims, strict=True):
        assert read_pointer(founding, finding.pointer) == claim
        assert claim["published"] in finding.text
        assert claim["verdict"].capitalize() in finding.text
        assert claim["reason"] in finding.text


def test_every_number_beside_a_claim_has_its_pointer(founding):
    table = build_verdicts_table(founding)
    assert len(table.rows) == len(founding["founding"]["claims"])
    assert "(`/controls/0/cells/0/scores/bleu_codexglue`)" in table.rows[0][2]
    assert "0.5000 [0.4500, 0.5500]" in table.rows[0][2]


def test_a_number_that_cannot_be_had_shows_why(founding):
    evidence = founding["founding"]["claims"][0]["measured"][0]
    evidence |= {"value": None, "interval": None, "pointer": None, "reason": "no such task"}
    assert "- (no such task)" in build_verdicts_table(founding).rows[0][2]


def test_the_summary_counts_verdicts_and_names_the_metric_and_the_conditions(founding):
    verdicts = [claim["verdict"] for claim in founding["founding"]["claims"]]
    text = describe_published(founding)
    assert text.startswith(f"Of {len(verdicts)} published findings {verdicts.count('survives')} survive, ")
    assert f"{verdicts.count('does not survive')} do not, {verdicts.count('cannot tell')} cannot be" in text
    assert "`bleu_codexglue`" in text
    assert "python has 300 test examples, not 50" in text
