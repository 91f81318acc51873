"""``codestrata matrix``."""

import json

import pytest

from codestrata.analysis.dialects import DIALECTS

PINNED = "python,lua,go\n.80\n.85,.70\n.90,.75,.60\n"


@pytest.fixture
def pinned(tmp_path):
    """The matrix on which the libraries differ, as CSV."""
    path = tmp_path / "r.csv"
    path.write_text(PINNED, encoding="utf-8")
    return path


def find_line(text, start):
    return next(line for line in text.splitlines() if line.strip("│ ").startswith(start))


def read_cells(line):
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_libraries_stand_side_by_side(call, pinned):
    code, out, err = call("matrix", pinned)
    assert (code, err) == (0, "")
    side = out[out.index("Side by side") : out.index("Definitions")]
    assert read_cells(find_line(side, "codestrata")) == ["codestrata", "0.7500", "0.0750", "-", "-0.0500"]
    assert read_cells(find_line(side, "Avalanche")) == ["Avalanche", "-", "0.0750", "-", "-0.0750"]
    assert read_cells(find_line(side, "Mammoth")) == ["Mammoth", "0.7500", "0.0750", "-", "0.0000"]
    for dialect in DIALECTS.values():
        assert dialect.title in side


def test_r_and_every_definition_are_shown(call, pinned):
    out = call("matrix", pinned)[1]
    assert read_cells(find_line(out, "after lua")) == ["after lua", "0.8500", "0.7000", "-"]
    for dialect in DIALECTS.values():
        for found in dialect.definitions:
            assert found.name in out
            assert found.formula in out


def test_what_is_missing_comes_with_its_reason(call, pinned):
    out = call("matrix", pinned)[1]
    line = find_line(out, "No codestrata forward_transfer")
    assert "Mammoth forward_transfer" in line
    assert line.endswith("R[t, i] is the score on task i after training through task t.")


def test_json_on_stdout(call, pinned):
    code, out, err = call("matrix", pinned, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["tasks"] == ["python", "lua", "go"]
    assert found["R"] == [[None, None, None], [0.8, None, None], [0.85, 0.7, None], [0.9, 0.75, 0.6]]
    assert list(found["libraries"]) == list(DIALECTS)
    mammoth = found["libraries"]["mammoth"]
    assert mammoth["source"] == DIALECTS["mammoth"].source
    assert mammoth["values"]["forgetting"]["value"] == 0
    assert mammoth["values"]["forgetting"]["quantity"] == "forgetting"
    assert mammoth["values"]["forward_transfer"]["value"] is None
    assert "not measured" in mammoth["values"]["forward_transfer"]["reason"]


def test_percentages_are_refused_with_the_remedy(call, tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("80,\n85,70\n", encoding="utf-8")
    code, out, err = call("matrix", path)
    assert (code, out) == (1, "")
    assert f"{path}:1: row 1, entry 1 is 80" in err
    assert "--percent divides them by 100" in err
    code, out, err = call("matrix", path, "--percent", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["R"][1:] == [[0.8, None], [0.85, 0.7]]


def test_a_task_named_like_markup_is_shown_as_it_is(call, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"R": [[0.5]], "tasks": ["[bold]"]}), encoding="utf-8")
    code, out, _ = call("matrix", path)
    assert code == 0
    assert "after [bold]" in out


def test_a_file_that_is_not_there_fails(call, tmp_path):
    code, out, err = call("matrix", tmp_path / "r.csv")
    assert (code, out) == (1, "")
    assert "cannot be read" in err


def test_a_method_of_a_run_is_chosen(call, tiny_run):
    code, out, err = call("matrix", tiny_run.path, "--method", "lora")
    assert (code, err) == (0, "")
    assert "lora, seed 0" in out
    side = out[out.index("Side by side") : out.index("Definitions")]
    assert "(structural)" in find_line(side, "codestrata")
    assert "(structural)" not in find_line(side, "Avalanche")
    by_file = call("matrix", tiny_run.path / "experimental_results.json", "--method", "lora")
    assert by_file == (code, out, err)


def test_a_run_without_a_choice_or_with_a_wrong_one_is_misuse(call, tiny_run):
    code, out, err = call("matrix", tiny_run.path)
    assert (code, out) == (2, "")
    assert "Choose one with --method: base" in err
    code, out, err = call("matrix", tiny_run.path, "--method", "lroa")
    assert (code, out) == (2, "")
    assert "Unknown method 'lroa'. Did you mean 'lora'?" in err


def test_a_choice_without_a_run_is_misuse(call, pinned):
    code, out, err = call("matrix", pinned, "--metric", "bleu")
    assert (code, out) == (2, "")
    assert "holds one matrix" in err


def test_no_library_sees_forgetting_where_nothing_can_be_forgotten(call, tmp_path):
    """Rows of a joint method are other models: what compares them is no number, under any name."""
    reason = "every row of R is another model"
    summary = {
        "average_accuracy": {"value": 0.6, "reason": None},
        "forgetting": {"value": None, "reason": reason},
        "backward_transfer": {"value": None, "reason": reason},
    }
    seed = {
        "seed": 0,
        "R": {"test": {"pass@1": [[0.0, 0.0], [0.8, 0.1], [0.5, 0.7]]}},
        "continual": {"pass@1": summary},
    }
    results = {
        "headline_metric": "pass@1",
        "tasks": [{"name": "python"}, {"name": "lua"}],
        "methods": [{"name": "joint", "seeds": [seed]}],
    }
    path = tmp_path / "experimental_results.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    code, out, _ = call("matrix", path, "--json")
    assert code == 0
    libraries = json.loads(out)["libraries"]
    for entry in libraries.values():
        for value in entry["values"].values():
            if value["quantity"] in ("forgetting", "backward transfer"):
                assert (value["value"], value["reason"]) == (None, reason)
    assert libraries["codestrata"]["values"]["average_accuracy"]["value"] == pytest.approx(0.6)
