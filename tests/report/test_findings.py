"""Every sentence says what stands at its pointer, and no more than the interval says."""

import re

import pytest

from codestrata.report.findings import list_chapters, list_findings
from codestrata.report.pointers import read_pointer

NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")
COUNTED = re.compile(r"^/methods(/\d+)?$")
"""Sentences that count cells or trainings under their pointer; the counts have tests of their own."""


def list_numbers(value):
    """All numbers under a value as they may be written, and the lengths of its lists."""
    if isinstance(value, dict):
        return {number for entry in value.values() for number in list_numbers(entry)}
    if isinstance(value, list):
        return {str(len(value))} | {number for entry in value for number in list_numbers(entry)}
    if isinstance(value, str):
        return set(NUMBER.findall(value))
    if isinstance(value, bool) or value is None:
        return set()
    return {f"{value:z.3f}", f"{value:,}" if isinstance(value, int) else f"{value:.4f}"}


def check_numbers(finding, results):
    found = read_pointer(results, finding.pointer)
    text = re.sub(r"`[^`]*`", "", finding.text).replace(results["headline_metric"], "")
    written = set(NUMBER.findall(text))
    assert written <= list_numbers(found), finding
    return len(written)


def find_texts(results, pointer):
    return [finding.text for finding in list_findings(results) if finding.pointer == pointer]


def find_text(results, pointer):
    (text,) = find_texts(results, pointer)
    return text


def find_method(results, name):
    return next(method for method in results["methods"] if method["name"] == name)


def test_every_number_stands_at_the_pointer_of_its_sentence(results):
    checked = sum(
        check_numbers(finding, results)
        for finding in list_findings(results)
        if not COUNTED.match(finding.pointer)
    )
    assert checked > 100


def test_every_number_of_a_real_run_stands_at_its_pointer(tiny_run):
    real = tiny_run.read_results()
    findings = list_findings(real)
    assert len(findings) > 20
    for finding in findings:
        read_pointer(real, finding.pointer)
        if not COUNTED.match(finding.pointer):
            check_numbers(finding, real)


def test_a_wrong_number_would_be_seen(results):
    finding = next(entry for entry in list_findings(results) if entry.pointer == "/comparisons/0")
    results["comparisons"][0]["difference"] = 0.212
    with pytest.raises(AssertionError):
        check_numbers(finding, results)


def test_chapters_stand_in_order(results):
    assert [chapter.heading for chapter in list_chapters(results)] == [
        "What was reached",
        "Against the controls",
        "Between the methods",
        "What was lost",
        "What carried over",
        "How far to trust it",
    ]


def test_what_was_reached_is_said_with_interval_and_seed(results):
    results["methods"][1]["final"]["test"]["python"]["pass@1"] |= {
        "value": 0.78,
        "interval": {"low": 0.73, "high": 0.823, "level": 0.95, "method": "wilson"},
    }
    assert find_text(results, "/methods/1/final/test/python/pass@1") == (
        "`lora` reaches pass@1 0.780 [0.730, 0.823] on python (n = 300, for this seed only)."
    )
    results["methods"][1]["final"]["test"]["python"]["pass@1"]["seeds"] = 5
    assert find_text(results, "/methods/1/final/test/python/pass@1").endswith("(n = 300, 5 seeds).")
    assert find_text(results, "/base/cells/0/scores/pass@1").startswith("The base scores pass@1 0.101 [0.051")


def test_what_could_not_be_measured_is_said_with_its_reason(results):
    results["methods"][1]["final"]["test"]["python"]["pass@1"] |= {
        "value": None,
        "interval": None,
        "reason": "no runtime",
    }
    text = find_text(results, "/methods/1/final/test/python/pass@1")
    assert text == "`lora` has no pass@1 on python: no runtime."


def test_above_the_controls_names_the_closest_control(results):
    assert find_text(results, "/control_comparisons/2") == (
        "`lora` is above the controls on python: even the closest, `nearest`, is worse; pass@1 of `lora` "
        "less that of `nearest` is 0.500 [0.450, 0.550] (n = 300, for this seed only)."
    )


def test_not_above_the_controls_names_the_control_that_is_better(results):
    text = find_text(results, "/control_comparisons/8")
    assert text.startswith("`finetune` is NOT above the controls on python: `nearest` is better;")
    assert "-0.100 [-0.150, -0.050]" in text


def test_what_cannot_be_told_from_a_control_is_not_above_it(results):
    text = find_text(results, "/control_comparisons/5")
    assert text.startswith("It cannot be told whether `layers` is above the controls on python: `nearest`")
    assert "about 1,234 more examples would" in text


def test_a_control_that_was_not_compared_decides_that_it_cannot_be_told(results):
    keys = ("first", "second", "task", "split", "metric")
    old = results["control_comparisons"][1]
    results["control_comparisons"][1] = {key: old[key] for key in keys} | {
        "verdict": None,
        "reason": "echo has no answers",
    }
    results["above_controls"][0] |= {"verdict": "cannot tell"}
    results["above_controls"][0]["against"]["echo"] = None
    assert find_text(results, "/control_comparisons/1") == (
        "It cannot be told whether `lora` is above the controls on python: it was not compared with `echo`: "
        "echo has no answers."
    )


def test_one_beats_the_other_only_by_verdict(results):
    for number, entry in enumerate(results["comparisons"]):
        text = find_text(results, f"/comparisons/{number}")
        assert ("beats" in text) == (entry["verdict"] in ("first", "second"))
    assert find_text(results, "/comparisons/0").startswith(
        "`lora` beats `layers` on python: pass@1 of `lora`"
    )
    text = find_text(results, "/comparisons/2")
    assert text.startswith("`finetune` beats `layers` on python: pass@1 of `layers` less that of `finetune`")
    for entry in results["comparisons"]:
        entry["verdict"] = "cannot tell"
    assert not any("beats" in finding.text for finding in list_findings(results))


def test_what_cannot_be_told_says_what_would(results):
    assert find_text(results, "/comparisons/1") == (
        "Cannot tell `lora` from `finetune` on python: difference in pass@1 0.011 [-0.039, 0.061] (n = 300, "
        "for this seed only); about 1,234 more examples would; the smallest difference that could be "
        "detected is 0.064."
    )
    results["comparisons"][1] |= {"seeds": 3, "seeds_needed": 7, "minimum_detectable_effect": None}
    assert find_text(results, "/comparisons/1").endswith(
        "(n = 300, 3 seeds); about 1,234 more examples or about 7 more seeds would."
    )
    results["comparisons"][1] |= {"examples_needed": None, "examples_needed_reason": "too small"}
    results["comparisons"][1] |= {"seeds_needed": None, "seeds_needed_reason": "one seed only"}
    assert "no number of more examples or seeds is known that would: too small; one seed only" in find_text(
        results, "/comparisons/1"
    )


def test_a_pair_that_was_not_compared_says_why(results):
    keys = ("first", "second", "task", "split", "metric")
    old = results["comparisons"][0]
    results["comparisons"][0] = {key: old[key] for key in keys} | {"verdict": None, "reason": "no runtime"}
    text = find_text(results, "/comparisons/0")
    assert text == "`lora` and `layers` were not compared on python: no runtime."


def test_a_difference_within_the_noise_of_its_task_says_so(results):
    assert not any("differed as much" in finding.text for finding in list_findings(results))
    entry = next(entry for entry in results["noise_floor"]["entries"] if entry["task"] == "python")
    entry["differences"]["pass@1"] = -0.22
    assert find_text(results, "/comparisons/0").endswith(
        "; but the same weights, evaluated twice, differed as much."
    )
    assert "differed as much" not in find_text(results, "/comparisons/1")  # nothing is claimed there
    assert "differed as much" not in find_text(results, "/comparisons/2")


@pytest.mark.parametrize(
    ("low", "high", "start"),
    [
        (0.1, 0.2, "`finetune` forgets: F over earlier tasks is"),
        (-0.1, 0.2, "Cannot tell whether `finetune` forgets: F"),
        (-0.2, -0.1, "`finetune` improves on earlier tasks: F is"),
        (0.0, 0.2, "Cannot tell whether `finetune` forgets: F"),
    ],
)
def test_forgetting_is_what_its_interval_says(results, low, high, start):
    found = find_method(results, "finetune")["continual"]["pass@1"]["forgetting"]
    found |= {"value": (low + high) / 2, "interval": found["interval"] | {"low": low, "high": high}}
    text = find_text(results, "/methods/3/continual/pass@1/forgetting")
    assert text.startswith(start)
    assert f"[{low:.3f}, {high:.3f}]" in text


def test_forgetting_by_construction_is_no_finding(results):
    text = find_text(results, "/methods/1/continual/pass@1/forgetting")
    assert text.startswith("`lora` forgets 0.000, structural:")


def test_forgetting_without_a_value_or_an_interval(results):
    found = find_method(results, "finetune")["continual"]["pass@1"]["forgetting"]
    found |= {"interval": None}
    pointer = "/methods/3/continual/pass@1/forgetting"
    assert "without an interval: nothing is claimed" in find_text(results, pointer)
    found |= {"value": None, "reason": "it needs at least 2 tasks"}
    assert find_text(results, pointer) == (
        "`finetune`: forgetting was not computed: it needs at least 2 tasks."
    )


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 0.2, "earlier tasks help with later ones"),
        (-0.2, -0.1, "earlier tasks harm later ones"),
        (-0.1, 0.1, "cannot tell whether earlier tasks help"),
    ],
)
def test_forward_transfer_is_what_its_interval_says(results, low, high, words):
    found = find_method(results, "finetune")["continual"]["pass@1"]["forward_transfer"]
    found |= {"value": (low + high) / 2, "interval": found["interval"] | {"low": low, "high": high}}
    assert words in find_text(results, "/methods/3/continual/pass@1/forward_transfer")
    assert find_texts(results, "/methods/1/continual/pass@1/forward_transfer") == []  # structural


def test_transfer_names_component_and_task(results):
    text = find_text(results, "/methods/1/seeds/0/transfer/cells/0")
    assert text.startswith("The component that `lora` trained on python scores pass@1 0.")
    assert text.endswith("on javascript (n = 300, for this seed only).")


def test_the_noise_floor_is_said_or_why_there_is_none(results):
    assert "differed by up to 0.004 in pass@1, in 2 pairs of" in find_text(results, "/noise_floor")
    results["noise_floor"] |= {"largest": None, "entries": [], "reason": "no weights were evaluated twice"}
    text = find_text(results, "/noise_floor")
    assert text == "There is no noise floor: no weights were evaluated twice."


def test_isolation_is_counted(results):
    isolation, fingerprints = find_texts(results, "/isolation")
    assert isolation == (
        "Isolation by decoding: 4 cells of older tasks were decoded again after later training; 4 gave the "
        "same predictions to the last character."
    )
    assert fingerprints == "The frozen base kept its fingerprint in 6 of 6 trainings."
    results["isolation"] |= {"identical_cells": 3, "base_unchanged": 5}
    isolation, fingerprints = find_texts(results, "/isolation")
    assert "4 cells of older tasks were decoded again after later training; 3 gave the same" in isolation
    assert "in 5 of 6 trainings" in fingerprints


def test_what_bytes_show_is_told_apart_from_what_decoding_shows(results):
    results["isolation"] |= {"recheck": "canary", "rechecked_cells": 0, "identical_cells": 0}
    results["isolation"] |= {"canary_cells": 3, "canary_predictions": 96, "identical_canary_cells": 2}
    results["isolation"] |= {"taken_over_cells": 12}
    decoding, bytes_alone, _ = find_texts(results, "/isolation")
    assert decoding == (
        "Isolation by decoding: 96 predictions, canaries of 3 cells of older tasks, were decoded again after "
        "the last training; in 2 cells they were the same to the last character."
    )
    assert bytes_alone == (
        "Isolation by bytes: 12 cells were taken over and not decoded, as base and component had the "
        "fingerprints with which they were decoded before."
    )


def test_the_rung_is_said_or_why_no_program_ran(results):
    assert find_text(results, "/execution/python") == (
        "Generated python programs ran confined by `landlock` (Python 3.11)."
    )
    results["execution"]["python"] |= {"rung": None, "runtime": None, "reason": "no rung passes."}
    assert (
        find_text(results, "/execution/python") == "Generated python programs were not run: no rung passes."
    )


def test_completions_cut_at_the_limit_are_counted(results):
    assert find_texts(results, "/methods/1/unfinished") == []
    results["methods"][1]["unfinished"] = {"count": 4, "n": 720}
    assert find_text(results, "/methods/1/unfinished") == (
        "`lora`: the length limit cut 4 of its 720 completions at the end."
    )


def test_a_run_that_trained_nothing_has_findings_of_the_base_alone(results):
    results |= {"methods": results["methods"][:1], "above_controls": []}
    results |= {"comparisons": [], "control_comparisons": []}
    results["isolation"] = dict.fromkeys(results["isolation"], 0)
    assert [chapter.heading for chapter in list_chapters(results)] == [
        "What was reached",
        "How far to trust it",
    ]
