"""Folders for others: they load without us, say the same, and appear as a whole or not at all."""

import json
import re
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from codestrata.answering import Choice, answer
from codestrata.errors import ComponentError, DataError, RunError, SettingsError, StorageError
from codestrata.experiment.walk import run_experiment
from codestrata.exporting import exports
from codestrata.exporting.exports import appearing, export_component
from codestrata.models.fingerprints import fingerprint_model
from codestrata.settings.tree import build_settings

METHODS = ("lora", "layers", "finetune")
PROMPT = "add 3 to xs"


@pytest.fixture(scope="session")
def exported(small_run, tmp_path_factory):
    """Method -> what its export to a plain checkpoint gave."""
    root = tmp_path_factory.mktemp("exported")
    return {method: export_component(small_run, choose(method), root / "new" / method) for method in METHODS}


def choose(method, task="early"):
    return Choice(method=method, seed=0, task=task)


def read_card(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def list_code(card):
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


@pytest.mark.parametrize("method", METHODS)
def test_the_card_s_code_answers_as_the_run_does(method, small_run, exported, monkeypatch, capsys):
    folder = exported[method].folder
    monkeypatch.chdir(folder)
    code = list_code(read_card(folder))
    names = {}
    exec(code[0].replace("what is asked", PROMPT), names)
    (wanted,) = answer(small_run, choose(method), [PROMPT], device="cpu")
    assert capsys.readouterr().out == wanted + "\n"
    assert type(names["model"]).__module__.startswith("transformers.")
    for more in code[1:]:
        without_cache = names["answer"]
        exec(more, names)
        assert torch.equal(names["answer"], without_cache)
    assert len(code) == (2 if method == "layers" else 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_decoder_alone_answers_without_us_as_in_the_run(method, decoder_run, tmp_path, monkeypatch, capsys):
    done = export_component(decoder_run, choose(method), tmp_path / "out")
    assert (done.comparison.same_answers, done.deeper_decoder) == (done.comparison.prompts, False)
    monkeypatch.chdir(done.folder)
    (code,) = list_code(read_card(done.folder))
    names = {}
    exec(code.replace("what is asked", PROMPT), names)
    (wanted,) = answer(decoder_run, choose(method), [PROMPT], device="cpu")
    # A run keeps special tokens inside an answer, which such a base gives and the page's code leaves out.
    assert capsys.readouterr().out == re.sub(r"<extra_id_\d+>|<pad>|<unk>", "", wanted) + "\n"
    assert wanted != ""
    assert type(names["model"]).__name__ == "LlamaForCausalLM"
    config = json.loads((done.folder / "config.json").read_text())
    assert config["num_hidden_layers"] == (4 if method == "layers" else 3)


def test_answers_end_with_the_tokenizers_and_the_generation_settings_tokens_too(
    quick_tree, tiny_llama_folder, tmp_path
):
    folder = shutil.copytree(tiny_llama_folder, tmp_path / "base")
    for name, ends in {"config.json": 7, "generation_config.json": [7, 9]}.items():
        values = json.loads((folder / name).read_text()) | {"eos_token_id": ends}
        (folder / name).write_text(json.dumps(values))
    tree = quick_tree(methods=["base", "ia3"], base={"name": str(folder)})
    run = run_experiment(build_settings(tree), root=tmp_path / "runs")
    done = export_component(run, choose("ia3"), tmp_path / "out")
    assert json.loads((done.folder / "generation_config.json").read_text())["eos_token_id"] == [1, 7, 9]


@pytest.mark.parametrize("method", ["lora", "layers"])
def test_an_adapter_of_a_decoder_alone(method, decoder_run, tmp_path, tiny_llama_folder, monkeypatch):
    done = export_component(decoder_run, choose(method), tmp_path / "out", "peft")
    monkeypatch.chdir(done.folder)
    (code,) = list_code(read_card(done.folder))
    names = {"BASE": tiny_llama_folder}
    exec(code, names)
    assert type(names["model"]).__name__ == "PeftModelForCausalLM"


@pytest.mark.parametrize("method", METHODS)
def test_what_was_compared_is_told(method, exported):
    found = exported[method].comparison
    assert (found.prompts, found.same_answers) == (2, 2)
    assert 0 < found.tokens <= 12
    assert found.largest_difference <= 1e-5 * found.largest_logit
    assert f"no logit differs\nby more than {found.largest_difference:.2g}" in read_card(
        exported[method].folder
    )


def test_the_files_are_a_checkpoint_s(exported):
    names = {path.name for path in exported["lora"].folder.iterdir()}
    assert {"README.md", "config.json", "generation_config.json", "model.safetensors"} < names
    assert {"tokenizer.json", "tokenizer_config.json"} < names
    assert {path.stat().st_mode & 0o777 for path in exported["lora"].folder.iterdir()} == {0o644}
    assert not any(path.name.endswith(".part") for path in exported["lora"].folder.parent.iterdir())


def test_only_a_deeper_decoder_goes_without_cache(exported):
    use = {
        method: json.loads((done.folder / "generation_config.json").read_text()).get("use_cache")
        for method, done in exported.items()
    }
    assert use["layers"] is False
    assert use["lora"] is not False
    assert {method: done.deeper_decoder for method, done in exported.items()} == {
        "lora": False,
        "layers": True,
        "finetune": False,
    }


def test_a_deeper_decoder_still_needs_that(exported):
    # Once this fails, transformers can do it: drop the note, and `use_cache` from generation_config.json.
    model = AutoModelForSeq2SeqLM.from_pretrained(exported["layers"].folder)
    with pytest.raises(IndexError, match="list index out of range"):
        model.generate(input_ids=torch.tensor([[5, 6, 1]]), max_new_tokens=3, do_sample=False, use_cache=True)


def test_a_shared_component_is_the_one_after_the_last_task(small_run, exported):
    model = AutoModelForSeq2SeqLM.from_pretrained(exported["finetune"].folder)
    stored = small_run.task_folder("finetune", 0, "late")
    assert fingerprint_model(model) == fingerprint_model(AutoModelForSeq2SeqLM.from_pretrained(stored))


def test_the_card_has_the_prompt_of_the_task_asked_for(tiny_run, tmp_path):
    done = export_component(tiny_run, choose("finetune", "python"), tmp_path / "out")
    assert "prompt = 'python: {}'" in read_card(done.folder)


def test_what_was_merged_is_exported_as_it_answers(quick_tree, tmp_path):
    tree = quick_tree(methods=["merged"], measurement={"agreement": False, "transfer": False})
    run = run_experiment(build_settings(tree), root=tmp_path / "runs")
    done = {
        (form, task): export_component(run, choose("merged", task), tmp_path / form / task, form)
        for form, task in (("hf", "early"), ("hf", "late"), ("peft", "early"))
    }
    plain, other = (done["hf", task].folder / "model.safetensors" for task in ("early", "late"))
    assert plain.read_bytes() == other.read_bytes()  # one for all tasks
    found = done["hf", "early"].comparison
    assert found.same_answers == found.prompts > 0
    stored = run.task_folder("merged", 0, "late") / "merged" / "adapter_model.safetensors"
    assert (done["peft", "early"].folder / stored.name).read_bytes() == stored.read_bytes()


def test_a_component_without_answers_of_its_own_is_exported(quick_tree, tmp_path):
    # It has the same bytes as another method's, which had answered: nothing was decoded for it.
    tree = quick_tree(
        methods=["lora", "warm", "finetune", "single"], measurement={"agreement": False, "transfer": False}
    )
    run = run_experiment(build_settings(tree), root=tmp_path / "runs")
    for entry in (entry for entry in run.read_results()["methods"] if entry["name"] in ("warm", "single")):
        method, (walk,) = entry["name"], entry["seeds"]
        own = [cell for cell in walk["cells"] if (cell["row"], cell["task"]) == (1, "early")]
        assert {cell["origin"] for cell in own} == {"taken-over"}
        done = export_component(run, choose(method), tmp_path / method)
        assert done.comparison.same_answers == done.comparison.prompts > 0


def test_no_path_of_this_machine_is_in_it(exported, tiny_base_folder, small_run):
    for done in exported.values():
        for path in done.folder.iterdir():
            content = path.read_bytes()
            assert str(tiny_base_folder.parent).encode() not in content, path.name
            assert str(small_run.path.parent).encode() not in content, path.name


def test_the_run_stays_what_it_was(small_run, exported):
    assert small_run.check_files() == []


@pytest.mark.parametrize("method", ["lora", "layers"])
def test_an_adapter_is_copied_as_it_is(method, small_run, tmp_path, tiny_base_folder, monkeypatch, capsys):
    done = export_component(small_run, choose(method), tmp_path / "adapter", "peft")
    source = small_run.task_folder(method, 0, "early")
    names = {"adapter_config.json", "adapter_model.safetensors", "component.json"}
    assert {path.name for path in done.folder.iterdir()} == {*names, "README.md"}
    assert all((done.folder / name).read_bytes() == (source / name).read_bytes() for name in names)
    assert done.comparison is None
    monkeypatch.chdir(done.folder)
    (code,) = list_code(read_card(done.folder))
    found = {"BASE": tiny_base_folder}
    exec(code, found)
    assert isinstance(found["model"], PeftModel)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_folder)
    ids = found["model"].generate(**tokenizer(PROMPT, return_tensors="pt"), max_new_tokens=6, do_sample=False)
    assert [tokenizer.decode(ids[0], skip_special_tokens=True)] == answer(
        small_run, choose(method), [PROMPT], device="cpu"
    )


def test_weights_are_no_adapter(small_run, tmp_path):
    with pytest.raises(SettingsError, match="kind 'weights' is no PEFT adapter: use --format hf"):
        export_component(small_run, choose("finetune"), tmp_path / "out", "peft")
    assert not (tmp_path / "out").exists()


def change_header(run, change):
    path = run.task_folder("lora", 0, "early") / "component.json"
    header = json.loads(path.read_text(encoding="utf-8"))
    change(header)
    path.write_text(json.dumps(header), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(sha256=7), "sha256 is 7"),
        (lambda header: header.update(sha256={"a": 7}), "sha256 is {'a': 7}"),
        (lambda header: header["sha256"].update({"../x": "0"}), r"'\.\./x' is no name of a file"),
        (lambda header: header["sha256"].update({"/x": "0"}), "'/x' is no name of a file"),
        (lambda header: header["sha256"].update({"gone": "0"}), "gone: cannot be read"),
        (
            lambda header: header["sha256"].update({"adapter_config.json": "0"}),
            "changed since it was written",
        ),
    ],
    ids=["no hashes", "no hash", "way out", "way from the root", "missing", "changed"],
)
def test_an_adapter_that_a_stranger_changed_is_refused(change, message, copied, tmp_path):
    change_header(copied, change)
    with pytest.raises(ComponentError, match=message):
        export_component(copied, choose("lora"), tmp_path / "out", "peft")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


@pytest.mark.parametrize("form", ["hf", "peft"])
def test_a_damaged_component_is_refused(form, copied, tmp_path):
    path = copied.task_folder("lora", 0, "early") / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ComponentError, match="changed since it was written"):
        export_component(copied, choose("lora"), tmp_path / "out", form)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_a_checkpoint_that_computes_something_else_is_not_written(small_run, tmp_path, monkeypatch):
    def spoil(model):
        plain = build(model)
        with torch.no_grad():
            next(plain.decoder.block[0].parameters())[0] += 0.1
        return plain

    build = exports.build_plain_model
    monkeypatch.setattr(exports, "build_plain_model", spoil)
    with pytest.raises(ComponentError, match=r"Not written: on 2 prompts of the run the checkpoint's logits"):
        export_component(small_run, choose("lora"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_logits_that_are_no_numbers_do_not_pass(small_run, tmp_path, monkeypatch):
    def spoil(model):
        plain = build(model)
        plain.shared.weight.data.fill_(float("nan"))
        return plain

    build = exports.build_plain_model
    monkeypatch.setattr(exports, "build_plain_model", spoil)
    with pytest.raises(ComponentError, match="Not written"):
        export_component(small_run, choose("lora"), tmp_path / "out")


def test_a_tokenizer_that_saving_changed_is_noticed(small_run, tmp_path, monkeypatch):
    def encode(texts, tokenizer, part):
        ids = [5, 1] if str(tmp_path) in tokenizer.name_or_path else [6, 1]
        return [ids for _ in texts]

    monkeypatch.setattr(exports, "encode_texts", encode)
    with pytest.raises(ComponentError, match="Not written: the tokenizer gives other ids"):
        export_component(small_run, choose("lora"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(small_run, tmp_path):
    done = export_component(small_run, choose("lora"), tmp_path, "peft")
    assert (done.folder, (tmp_path / "README.md").is_file()) == (tmp_path, True)


def test_what_is_there_is_spared(small_run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"full is a folder that is not empty: choose a new folder"):
        export_component(small_run, choose("lora"), tmp_path / "full")
    with pytest.raises(SettingsError, match=r"mine is a file: choose a new folder"):
        export_component(small_run, choose("lora"), tmp_path / "full" / "mine")
    assert (tmp_path / "full" / "mine").read_text(encoding="utf-8") == "kept"


def test_a_folder_inside_the_run_is_refused(small_run):
    with pytest.raises(SettingsError, match=r"lies inside run .*, whose files are sealed"):
        export_component(small_run, choose("lora"), small_run.path / "x" / ".." / "export")
    assert small_run.check_files() == []


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), SafetensorError("No space left on device")], ids=repr
)
def test_a_full_disk_leaves_nothing(failure, small_run, tmp_path, monkeypatch):
    def fail(model, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise failure

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    with pytest.raises(StorageError, match="No space left on device"):
        export_component(small_run, choose("lora"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path):
    def write():
        with appearing(tmp_path / "out") as folder:
            (folder / "half").write_bytes(b"")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_answers_cannot_be_checked(copied, tmp_path):
    path = copied.path / "base" / "predictions.jsonl"
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="no predictions of 'early'"):
        export_component(copied, choose("lora"), tmp_path / "out")


@pytest.mark.parametrize("form", ["hf", "peft"])
def test_an_unfinished_run_is_refused(form, copied, tmp_path):
    (copied.path / "done.json").unlink()
    with pytest.raises(RunError, match="did not come to its end"):
        export_component(copied, choose("lora"), tmp_path / "out", form)
