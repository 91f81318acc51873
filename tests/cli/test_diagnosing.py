import json
import shutil


def test_a_base_that_can_be_used(call, tiny_qwen3_folder):
    code, out, err = call("doctor", tiny_qwen3_folder)
    assert (code, err) == (0, "")
    for shown in ("qwen3, decoder-only", "3 in the decoder", "</s> and <pad>", "lora", "interleaved:3"):
        assert shown in out
    assert 'no encoder. It is made of a decoder alone: use "top"' in out
    assert "not supported" not in out


def test_the_shipped_base(call):
    code, out, _ = call("doctor", "pocket", "--json")
    found = json.loads(out)
    assert (code, found["is_usable"], found["family"], found["parameters"]) == (0, True, "t5", 1_509_760)
    assert found["problems"] == found["notes"] == []


def test_a_base_that_cannot_be_used_says_why(call, tiny_qwen3_folder, tmp_path):
    folder = shutil.copytree(tiny_qwen3_folder, tmp_path / "mine")
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    code, out, err = call("doctor", folder)
    assert (code, err) == (1, "")
    assert "not supported: " in out
    assert "model type 'gpt2', whose blocks are not known. Known: llama, qwen2, qwen3, t5." in out
    code, out, err = call("doctor", folder, "--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["is_usable"] is False


def test_settings_can_be_asked_about(call, tiny_qwen3_folder):
    code, out, _ = call("doctor", tiny_qwen3_folder, "--set", "layers.placement=both", "--json")
    reasons = {entry["kind"]: entry["reason"] for entry in json.loads(out)["components"]}
    assert code == 0
    assert "layers.placement is 'both'" in reasons["layers"]
    assert reasons["lora"] is None
    decoded_by = {entry["kind"]: entry["decoded_by"] for entry in json.loads(out)["components"]}
    assert (decoded_by["layers"], decoded_by["lora"], decoded_by["prompt"]) == (None, "own", "generate")


def test_a_wrong_setting_is_misuse(call, tiny_qwen3_folder):
    code, out, err = call("doctor", tiny_qwen3_folder, "--set", "layer.placement=top")
    assert (code, out) == (2, "")
    assert "layers" in err
