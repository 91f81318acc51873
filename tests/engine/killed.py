"""Trains a tiny component twice: whole, and killed again and again; the test beside it compares the bytes.

Every training runs in a process of its own, forked from this one so that nothing has to be imported again.

    python killed.py FOLDER KILLS
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from transformers import T5Config, T5ForConditionalGeneration

from codestrata.checkpoints import Checkpoints
from codestrata.components.lora import build_lora
from codestrata.data.batches import EncodedExample
from codestrata.settings.components import LoraSettings
from codestrata.settings.sections import TrainingSettings
from codestrata.training import fit

STEPS = 60


def train(folder: Path) -> None:
    """Train from wherever the checkpoints are, then store the component and its losses."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=64,
        d_model=16,
        d_kv=4,
        d_ff=32,
        num_layers=1,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    component = build_lora(
        T5ForConditionalGeneration(config).eval(), LoraSettings(rank=2, dropout=0.2, targets=("q",))
    )
    component.attach("a", seed=0)
    rows = [
        EncodedExample(identifier=str(n), prompt_ids=(2 + n, 7, 1), target_ids=(3 + n, 9, n, 1)[n % 3 :])
        for n in range(20)
    ]
    log = fit(
        component,
        "a",
        rows,
        TrainingSettings(steps=STEPS, batch_size=4, base_dropout=True, precision="fp32"),
        learning_rate=0.01,
        seed=0,
        pad_id=0,
        device=torch.device("cpu"),
        checkpoints=Checkpoints(folder.with_name(folder.name + "-kept"), seconds=0.0, say=lambda _: None),
    )
    component.write("a", folder, {})
    (folder / "losses.json").write_text(json.dumps(log.losses), encoding="utf-8")


def start(folder: Path) -> int:
    """The process that trains."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        train(folder)
        code = 0
    finally:
        os._exit(code)


def wait_for(process: int, folder: Path, steps: int) -> None:
    """Until the process has stored so many more checkpoints, or is over."""
    before = count_steps(folder)
    while count_steps(folder) < before + steps:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.001)


def count_steps(folder: Path) -> int:
    """Steps of the newest checkpoint, finished or not."""
    return max((int(path.name[5:]) for path in folder.glob("step-*")), default=0)


def main() -> int:
    """Compare nothing, leave both components; the exit code of the last process."""
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    assert os.waitpid(start(folder / "whole"), 0)[1] == 0
    rng, killed = random.Random(1), 0
    while True:
        process = start(folder / "broken")
        if killed < kills:
            wait_for(process, folder / "broken-kept", rng.randrange(1, 6))
            time.sleep(rng.random() / 100)
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        if not os.WIFSIGNALED(status):
            break
        killed += 1
    print(f"killed {killed} times")
    return os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main())
