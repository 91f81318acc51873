"""A component's folder from a stranger is safe to open, whatever is in it."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from harming import harm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from probing import KINDS, disturb, edit_json, generate, join_safetensors, logits, sign, split_safetensors
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from codestrata.components import adapters
from codestrata.components.residents import Residents
from codestrata.errors import ComponentError
from codestrata.models.fingerprints import fingerprint_model, fingerprint_tensors

TESTED = ("lora", "both-twice", "weights", "own-top", "dora", "ia3", "hybrid-both")
EXAMPLES = 60
SLOW_EXAMPLES = 5_000  # of each of the two properties


def look(component: Residents[Any]) -> dict[str, Any]:
    """All that a failing load could have changed; the base's fingerprint is taken without its occupant."""
    model, active = component.model, component.active
    seen = {
        "names": component.names,
        "active": active,
        "modules": dict(model.named_modules()),
        "tensors": {name: (id(own), own.requires_grad) for name, own in model.named_parameters()},
        "residents": {name: fingerprint_tensors(component.parameters(name)) for name in component.names},
        "random": torch.get_rng_state().tolist(),
        "logits": logits(model).tolist(),
        "attributes": sorted(vars(model)),
    }
    component.deactivate()
    seen["base"] = fingerprint_model(model)
    if active is not None:
        component.activate(active)
    return seen


@dataclass
class Scene:
    """A component that runs on a base, and the folder of another one."""

    component: Residents[Any]
    folder: Path
    wanted: str
    before: dict[str, Any]
    counts: Counter[str] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def scenes(build_tiny_t5, tmp_path_factory):
    """A scene for a kind of component, made once."""

    @functools.cache
    def build(kind):
        component = KINDS[kind](build_tiny_t5())
        component.attach("kept", seed=0)
        component.attach("other", seed=0)
        disturb(component, "kept")
        disturb(component, "other", seed=2)
        folder = tmp_path_factory.mktemp("component") / kind
        component.write("other", folder, {"task": "python", "prompt_template": "python: {}"})
        wanted = fingerprint_tensors(component.parameters("other"))
        component.detach("other")
        component.activate("kept")
        return Scene(component, folder, wanted, look(component))

    return build


def sign_if_possible(folder: Path) -> None:
    """Sign, unless the harm was done to ``component.json`` itself."""
    path = folder / "component.json"
    with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):
        if path.is_file():
            sign(folder)


def load_harmed(scene, data, *, signed):
    """Load a harmed copy of the scene's folder; what came of it, once nothing else can have changed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "component"
        shutil.copytree(scene.folder, folder)
        done = harm(folder, data.draw)
        if signed:
            sign_if_possible(folder)
        try:
            scene.component.load("stranger", folder)
        except ComponentError as error:
            outcome = "refused" if len(str(error)) < 5_000 else "refused at length"
        else:
            found = fingerprint_tensors(scene.component.parameters("stranger"))
            values = [own.isfinite().all() for own in scene.component.parameters("stranger").values()]
            scene.component.detach("stranger")
            assert all(values)
            outcome = "taken as equal" if found == scene.wanted else "taken as signed"
            if outcome == "taken as signed":
                assert signed, f"damage was not noticed: {done}"
                assert found == fingerprint_tensors(load_file(next(folder.glob("*.safetensors"))))
    assert outcome != "refused at length"
    assert look(scene.component) == scene.before
    scene.counts[outcome] += 1
    scene.counts[" + ".join((*done, outcome))] += 1


def report(scenes, capsys):
    """Print what became of the harmed folders."""
    with capsys.disabled():
        for kind in TESTED:
            for what, count in sorted(scenes(kind).counts.items()):
                print(f"{kind}: {what}: {count}")


MANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(MANY, max_examples=EXAMPLES // 2)
@given(kind=st.sampled_from(TESTED), data=st.data())
def test_a_harmed_folder_is_noticed_or_gives_the_same_tensors(scenes, kind, data):
    load_harmed(scenes(kind), data, signed=False)


@settings(MANY, max_examples=EXAMPLES // 2)
@given(kind=st.sampled_from(TESTED), data=st.data())
def test_a_folder_made_to_harm_is_refused_or_gives_what_it_holds(scenes, kind, data):
    """Hashes do not help against a stranger, who can write them anew."""
    load_harmed(scenes(kind), data, signed=True)


@pytest.mark.slow
@pytest.mark.parametrize("signed", [False, True], ids=["damaged", "signed"])
def test_thousands_of_harmed_folders(signed, scenes, capsys):
    @settings(MANY, max_examples=SLOW_EXAMPLES)
    @given(kind=st.sampled_from(TESTED), data=st.data())
    def run(kind, data):
        load_harmed(scenes(kind), data, signed=signed)

    for kind in TESTED:
        scenes(kind).counts.clear()
    try:
        run()
    finally:
        report(scenes, capsys)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


PICKLES = ["adapter_model.bin", "pytorch_model.bin", "a.pt", "a.pth", "a.ckpt", "a.pkl", "training_args.BIN"]


@pytest.mark.parametrize("kind", TESTED)
@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_in_place_of_the_tensors_is_refused_by_name_and_reason(kind, name, scenes, tmp_path):
    scene = scenes(kind)
    folder = shutil.copytree(scene.folder, tmp_path / "component")
    tensors = next(folder.glob("*.safetensors"))
    tensors.unlink()
    torch.save(Bomb(tmp_path / "created"), folder / name)
    with pytest.raises(ComponentError) as caught:
        scene.component.load("stranger", folder)
    for words in (
        f"{folder / name}: a pickle, which is not opened",
        "run whatever code",
        f"get {tensors.name}",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "created").exists()
    assert look(scene.component) == scene.before


def test_a_pickle_under_the_right_name_is_refused(scenes, tmp_path):
    scene = scenes("lora")
    folder = shutil.copytree(scene.folder, tmp_path / "component")
    torch.save(Bomb(tmp_path / "created"), folder / "adapter_model.safetensors")
    sign(folder)
    with pytest.raises(ComponentError, match=r"adapter_model\.safetensors: damaged"):
        scene.component.load("stranger", folder)
    assert not (tmp_path / "created").exists()


def test_a_pickle_beside_the_tensors_is_not_opened(scenes, tmp_path):
    scene = scenes("lora")
    folder = shutil.copytree(scene.folder, tmp_path / "component")
    for name in PICKLES:
        torch.save(Bomb(tmp_path / "created"), folder / name)
    scene.component.load("stranger", folder)
    found = fingerprint_tensors(scene.component.parameters("stranger"))
    scene.component.detach("stranger")
    assert found == scene.wanted
    assert not (tmp_path / "created").exists()


def claim_rank(folder: Path, rank: int) -> None:
    """Say in configuration and header alike that every update has that rank, in a file that takes no room."""
    edit_json(folder / "adapter_config.json", r=rank)
    path = folder / "adapter_model.safetensors"
    header, _ = split_safetensors(path)
    end = 0
    for name, entry in header.items():
        if name != "__metadata__":
            entry["shape"] = [rank if side == 2 else side for side in entry["shape"]]
            size = 4 * entry["shape"][0] * entry["shape"][1]
            entry["data_offsets"] = [end, end + size]
            end += size
    join_safetensors(path, header, b"")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + end)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("lora", {"r": 10**9}, r"expected float32 \[1000000000, 16\], found float32 \[2, 16\]"),
        ("both-twice", {"blocks": 10**6}, r"layers_blocks\.2\..*expected .*found nothing"),
    ],
    ids=["rank", "blocks"],
)
def test_claims_beyond_the_file_are_refused_before_memory_is_taken(
    kind, values, message, scenes, tmp_path, monkeypatch
):
    scene = scenes(kind)
    folder = shutil.copytree(scene.folder, tmp_path / "component")
    edit_json(folder / "adapter_config.json", **values)
    sign(folder)
    monkeypatch.setattr(adapters, "build_adapter", None)
    monkeypatch.setattr("codestrata.components.tensors.read_values", None)
    with pytest.raises(ComponentError, match=message):
        scene.component.load("stranger", folder)
    assert look(scene.component) == scene.before


def test_a_sparse_file_that_keeps_such_a_claim_is_refused(scenes, tmp_path, monkeypatch):
    scene = scenes("lora")
    folder = shutil.copytree(scene.folder, tmp_path / "component")
    claim_rank(folder, 10**8)
    sign(folder, leave_out=folder / "adapter_model.safetensors")
    monkeypatch.setattr(adapters, "build_adapter", None)
    monkeypatch.setattr("codestrata.components.tensors.read_values", None)
    with pytest.raises(ComponentError, match=r"[0-9]{12} bytes of tensors, where at most [0-9]{7} are"):
        scene.component.load("stranger", folder)
    assert look(scene.component) == scene.before


@pytest.mark.parametrize("kind", TESTED)
def test_a_load_that_fails_leaves_base_and_residents_as_they_were(kind, scenes, tmp_path):
    scene = scenes(kind)
    tokens = generate(scene.component.model)
    folder = shutil.copytree(scene.folder, tmp_path / "component")
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    tensors[sorted(tensors)[-1]].view(-1)[0] = float("nan")  # the last thing to be looked at
    save_file(tensors, path)
    sign(folder)
    before = look(scene.component)
    with pytest.raises(ComponentError, match="holds NaN or infinity"):
        scene.component.load("stranger", folder)
    assert look(scene.component) == before
    assert generate(scene.component.model) == tokens


def test_the_reference_reader_takes_what_we_take(scenes):
    for kind in TESTED:
        path = next(scenes(kind).folder.glob("*.safetensors"))
        try:
            load_file(path)
        except SafetensorError as error:
            pytest.fail(f"{path}: {error}")


MEASURE = """
import sys
from pathlib import Path
import torch
from transformers import T5Config, T5ForConditionalGeneration
from codestrata.components.lora import build_lora
from codestrata.components.layers import build_layers
from codestrata.components.weights import WeightsComponent
from codestrata.settings.components import LayersSettings, LoraSettings

def read_status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return 1024 * int(line.split()[1])

kind, folder, act = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
model = T5ForConditionalGeneration(
    T5Config(vocab_size=4000, d_model=1024, d_kv=64, d_ff=4096, num_layers=2, num_heads=16)
)
build = {
    "lora": lambda: build_lora(model, LoraSettings(rank=512)),
    "layers": lambda: build_layers(model, LayersSettings(placement="interleaved:1", blocks=1)),
    "weights": lambda: WeightsComponent(model),
}
component = build[kind]()
if act == "write":
    component.attach("a", seed=0)
    component.write("a", folder, {})
else:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here on
    before = read_status("VmRSS")
    component.load("a", folder)
    print(read_status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to measure memory")
@pytest.mark.parametrize("kind", ["lora", "layers", "weights"])
def test_loading_takes_about_twice_the_components_own_bytes_at_most(kind, tmp_path, capsys):
    def run(act):
        command = [sys.executable, "-c", MEASURE, kind, str(tmp_path), act]
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("write")
    taken = int(run("load"))
    size = next(tmp_path.glob("*.safetensors")).stat().st_size
    with capsys.disabled():
        print(json.dumps({"kind": kind, "bytes": size, "taken": taken, "times": round(taken / size, 2)}))
    assert taken < 2.3 * size
