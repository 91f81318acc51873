"""``codestrata generate`` and ``pretrain``."""

import json

import pytest

from codestrata import pretraining


def read_predictions(run, method, task):
    path = run.task_folder(method, 0, task) / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["task"] == task]


@pytest.fixture
def generate(call, tiny_run):
    return lambda *arguments: call(
        "generate", "--runs", tiny_run.path.parent, "--run", tiny_run.name, "--device", "cpu", *arguments
    )


def test_a_prompt_is_answered_as_the_run_answered_it(generate, tiny_run):
    row = read_predictions(tiny_run, "layers", "python")[0]
    prompt = row["prompt"].removeprefix("python: ")
    code, out, err = generate("--task", "python", "--method", "layers", prompt)
    assert (code, out) == (0, row["completion"] + "\n")
    assert err == "layers, seed 0, of run pocket-1\n"
    code, out, _ = generate("--task", "python", "--method", "layers", prompt, "--json")
    assert json.loads(out) == {"prompt": prompt, "completion": row["completion"]}


def test_a_file_is_answered_line_by_line(generate, tiny_run, tmp_path):
    rows = read_predictions(tiny_run, "lora", "javascript")
    prompts = [row["prompt"].removeprefix("javascript: ") for row in rows]
    file = tmp_path / "in.jsonl"
    file.write_text("\n\n".join(json.dumps({"prompt": prompt}) for prompt in prompts), encoding="utf-8")
    code, out, _ = generate("--task", "javascript", "--method", "lora", "--file", file)
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"prompt": prompt, "completion": row["completion"]} for prompt, row in zip(prompts, rows, strict=True)
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "in.jsonl: cannot be read"),
        ("", "in.jsonl: holds no prompts"),
        ('{"prompt": "a"}\n{"prompt": \n', "in.jsonl:2: not JSON"),
        ('{"prompt": "a"}\n{"text": "b"}\n', 'in.jsonl:2: expected a text field "prompt"'),
        ('{"prompt": 3}\n', 'in.jsonl:1: expected a text field "prompt"'),
        ("[1]\n", "in.jsonl:1: expected a JSON object"),
    ],
)
def test_a_bad_file_is_1_with_its_line(generate, tmp_path, content, message):
    file = tmp_path / "in.jsonl"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    code, out, err = generate("--task", "python", "--file", file)
    assert (code, out) == (1, "")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "python"], "either a prompt or --file"),
        (["--task", "python", "sum", "--file", "in.jsonl"], "either a prompt or --file"),
        (["--task", "pyton", "sum"], "Unknown task 'pyton'. Did you mean 'python'?"),
        (["--task", "python", "--method", "lroa", "sum"], "Did you mean 'lora'?"),
        (["--task", "python", "--run", "poket-1", "sum"], "Unknown run 'poket-1'. Did you mean 'pocket-1'?"),
    ],
)
def test_misuse_is_2(generate, arguments, message):
    code, out, err = generate(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_device_that_is_not_there_is_named(generate):
    code, _, err = generate("--task", "python", "sum", "--device", "cuda:99")
    assert code in (1, 2)
    assert "cuda:99" in err


def test_pretraining_knows_its_base_and_spares_what_is_there(call, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "pretrain_pocket", lambda *_: pytest.fail("must not start"))
    code, _, err = call("pretrain", "poket", "--out", tmp_path / "new")
    assert code == 2
    assert "Unknown base 'poket'" in err
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("", encoding="utf-8")
    code, _, err = call("pretrain", "pocket", "--out", tmp_path / "old")
    assert code == 2
    assert "not empty" in err


def test_pretraining_says_what_it_made(call, tmp_path, monkeypatch):
    asked = []

    def pretend(folder, settings, report):
        asked.append((folder, settings))
        return {"base_fingerprint": "abc"}

    monkeypatch.setattr(pretraining, "pretrain_pocket", pretend)
    code, out, _ = call("pretrain", "pocket", "--out", tmp_path / "new")
    assert (code, out) == (0, f"Base abc in {tmp_path / 'new'}\n")
    assert asked == [(tmp_path / "new", pretraining.PretrainingSettings())]


def test_a_prompt_is_routed_and_the_component_named(call, routed_run, tmp_path):
    rows = read_predictions(routed_run, "routed", "late")
    path = routed_run.task_folder("routed", 0, "late") / "routing.jsonl"
    chosen = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    (choice,) = (row for row in chosen if (row["task"], row["identifier"]) == ("late", rows[0]["identifier"]))
    arguments = ("generate", "--runs", routed_run.path.parent, "--run", routed_run.name, "--device", "cpu")
    code, out, err = call(*arguments, "--route", rows[0]["prompt"])
    assert (code, out) == (0, rows[0]["completion"] + "\n")
    assert err.splitlines()[0] == f"routed, seed 0, of run {routed_run.name}"
    assert err.splitlines()[1] == f"component {choice['chosen']}, confidence {choice['confidence']:.2f}"
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows), encoding="utf-8")
    code, out, _ = call(*arguments, "--route", "--file", file)
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["completion"] for row in found] == [row["completion"] for row in rows]
    assert found[0]["task"] == choice["chosen"]
    assert found[0]["confidence"] == pytest.approx(choice["confidence"], abs=1e-3)


def test_either_a_task_or_a_router_picks(generate):
    for arguments in (("add 1",), ("--task", "python", "--route", "add 1")):
        code, out, err = generate(*arguments)
        assert (code, out) == (2, "")
        assert "Give either --task NAME, or --route to have the component picked." in err


def test_a_run_without_a_router_is_refused(generate):
    code, _, err = generate("--route", "add 1")
    assert code == 2
    assert "holds no router" in err
