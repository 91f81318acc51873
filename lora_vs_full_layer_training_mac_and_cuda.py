"""The founding experiment: LoRA adapters against a new transformer layer, Python then JavaScript.

    python lora_vs_full_layer_training_mac_and_cuda.py [--device auto|cuda|mps|cpu] [--set KEY=VALUE]...

Runs the preset ``founding``; everything that ``codestrata run`` takes is taken here too.
"""

import sys

from codestrata.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "--preset", "founding", *sys.argv[1:]]))
