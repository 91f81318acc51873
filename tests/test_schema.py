"""The published JSON schema of results: real ones pass, broken ones do not, and every key is documented."""

import copy
import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

DOCUMENTATION = Path(__file__).resolve().parents[1] / "docs" / "results.md"
SCHEMA = json.loads(
    (files("codestrata") / "schemas" / "experimental_results.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def list_faults(tree):
    return [f"{fault.json_path}: {fault.message}" for fault in VALIDATOR.iter_errors(tree)]


def walk(schema, path=""):
    """(path, part) of every part of the schema that describes a value."""
    yield path, schema
    for key in ("properties", "patternProperties", "$defs"):
        for name, part in schema.get(key, {}).items():
            yield from walk(part, f"{path}/{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from walk(schema[key], f"{path}/{key}")


@pytest.fixture(scope="module")
def real(tiny_run):
    """The results of a real run; do not change them."""
    return tiny_run.read_results()


@pytest.fixture
def results(real):
    """A small part of the same, which passes too, to break."""
    method = real["methods"][1]
    (seed,) = method["seeds"]
    small = real | {
        "methods": [method | {"seeds": [seed | {"cells": seed["cells"][:1]}]}],
        "base": real["base"] | {"cells": real["base"]["cells"][:1]},
        "controls": [],
        "noise_floor": real["noise_floor"] | {"entries": []},
    }
    assert list_faults(small) == []
    return copy.deepcopy(small)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_real_results_have_the_published_shape(real):
    assert list_faults(real) == []


def test_the_version_is_the_one_that_is_written(real):
    assert SCHEMA["properties"]["schema_version"]["const"] == real["schema_version"]


def test_every_value_is_described():
    for path, part in walk(SCHEMA):
        if "$ref" in part or path.endswith("/items") or "additionalProperties" in path:
            continue
        properties_of_settings = path.startswith("/settings/")
        assert part.get("description") or part.get("enum") or properties_of_settings, path


def test_fixed_shapes_refuse_other_keys():
    for path, part in walk(SCHEMA):
        if part.get("type") == "object" and "properties" in part and path not in ("", "/settings"):
            assert "additionalProperties" in part, path
            assert set(part["required"]) <= set(part["properties"]), path


def break_key(tree):
    del tree["noise_floor"]


def break_deep_key(tree):
    del tree["methods"][0]["seeds"][0]["trainings"][0]["padding"]


def break_score(tree):
    tree["base"]["cells"][0]["scores"]["bleu"]["value"] = 1.5


def break_final_score(tree):
    tree["methods"][0]["final"]["test"]["python"]["pass@1"]["value"] = 100


def break_unknown_key(tree):
    tree["verdict"] = "lora wins"


def break_unknown_deep_key(tree):
    tree["base"]["cells"][0]["scores"]["bleu"]["stars"] = 3


def break_interval(tree):
    score = tree["base"]["cells"][0]["scores"]["bleu"]
    score["interval"] = {"low": "0.1", "high": 0.2, "level": 0.95, "method": "bootstrap"}


def break_reason(tree):
    tree["base"]["cells"][0]["scores"]["bleu"] |= {"value": None, "interval": None, "reason": None}


def break_interval_without_value(tree):
    interval = {"low": 0.1, "high": 0.2, "level": 0.95, "method": "bootstrap"}
    tree["base"]["cells"][0]["scores"]["bleu"] |= {"value": None, "interval": interval, "reason": "why"}


def break_verdict(tree):
    tree["comparisons"][0]["verdict"] = "probably first"


def break_missing_verdict(tree):
    tree["comparisons"][0]["verdict"] = None


def break_origin(tree):
    tree["base"]["cells"][0]["origin"] = "copied"


def break_recheck(tree):
    tree["base"]["cells"][0]["origin"] = "rechecked"


def break_canary(tree):
    tree["base"]["cells"][0] |= {"origin": "canary", "decoded_again": 0, "identical_predictions": True}


def break_taken_over(tree):
    tree["base"]["cells"][0]["origin"] = "taken-over"  # by the bytes of no component


def break_isolation(tree):
    tree["isolation"]["recheck"] = None


def break_matrix(tree):
    tree["methods"][0]["seeds"][0]["R"]["test"]["pass@1"][0][0] = "nan"


def break_fingerprint(tree):
    tree["base"]["fingerprint"] = "abc"


def break_version(tree):
    tree["schema_version"] = 2


def break_structural(tree):
    tree["methods"][0]["continual"]["pass@1"]["forgetting"]["structural"] = None


def break_transfer(tree):
    tree["methods"][0]["seeds"][0]["transfer"] = {"X": None, "reason": None, "cells": []}


def break_rung(tree):
    tree["execution"]["python"]["rung"] = 1


@pytest.mark.parametrize(
    "damage", [value for name, value in list(globals().items()) if name.startswith("break_")]
)
def test_broken_results_are_refused(results, damage):
    damage(results)
    assert list_faults(results)


def test_every_key_of_the_results_is_documented():
    text = DOCUMENTATION.read_text(encoding="utf-8")
    documented = set(re.findall(r"`([\w.\[\]]+)`", text))
    for key in SCHEMA["properties"]:
        assert key in documented or f"{key}[]" in documented, key
    assert "codestrata/schemas/experimental_results.schema.json" in text


def test_every_field_of_a_method_and_of_a_comparison_is_documented():
    text = DOCUMENTATION.read_text(encoding="utf-8")
    for shape in ("method", "seed", "cell", "compared", "training", "noiseEntry", "claim", "evidence"):
        for key in SCHEMA["$defs"][shape]["properties"]:
            assert any(f"{mark}{key}{end}" in text for mark in "`." for end in ("`", "[]`")), (shape, key)
