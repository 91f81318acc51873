"""How long it takes to put another resident component in place, and how many bytes a component takes on disk.

    python benchmarks/swapping.py [--residents 1,16,64] [--swaps 200]

The yardstick is what one does without residents: load base and component from disk again.

What this does not do: train the components, or assert a time.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from architecture import SMALL, TINY, build_model
from contest import (
    Contender,
    Figures,
    Target,
    add_options,
    hold,
    read_count,
    show_table,
    show_targets,
    take_medians,
    tell,
    write_results,
)
from machine import describe_machine, prepare_process, start_fresh

from codestrata.components.layers import build_layers, register_layers
from codestrata.components.lora import build_lora
from codestrata.contracts import Component
from codestrata.settings.components import LayersSettings, LoraSettings

COLUMNS = {
    "p50_milliseconds": "p50 ms",
    "p99_milliseconds": "p99 ms",
    "largest_milliseconds": "largest ms",
    "swaps": "swaps",
}
SIZE_COLUMNS = {
    "parameters": "parameters",
    "theoretical_bytes": "parameters x dtype",
    "file_bytes": "tensor file",
    "folder_bytes": "whole folder",
    "excess": "folder over theory",
}
MOST_MILLISECONDS, MOST_EXCESS = 10.0, 0.02
BYTES_PER_PARAMETER = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 whatever was found."""
    options = read_options(arguments)
    prepare_process(options.threads)
    machine = describe_machine(peak_size=options.peak_size, peak_seconds=options.peak_seconds)
    allocator = start_fresh()
    tables: dict[str, dict[str, list[Figures]]] = {}
    sizes: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("lora", "layers"):
            tables[kind], sizes[kind] = measure_kind(kind, options, Path(folder) / kind)
    medians = {
        kind: {name: take_medians(found) for name, found in table.items()} for kind, table in tables.items()
    }
    for kind, table in medians.items():
        show_table(f"Swapping: {kind}", COLUMNS, table)
    show_table("Bytes per component", SIZE_COLUMNS, sizes)
    targets = list_targets(medians, sizes, max(options.residents))
    show_targets(targets, options.repeats)
    notes = [
        f"random weights of {'a toy model' if options.tiny else 'codet5-small'}; newborn components; "
        "which component comes next is drawn, never the one in place",
        "with 1 resident a swap takes it out and puts it in again",
        f"allocator: {allocator}",
    ]
    for note in notes:
        print(f"- {note}")
    write_results(
        options,
        "swapping",
        machine=machine,
        notes=notes,
        tables=tables,
        medians=medians,
        targets=targets,
        extra={"bytes": sizes},
    )
    return 0


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the options' defaults take about two minutes on two cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_options(parser, "swapping")
    parser.add_argument("--residents", type=read_counts, default=(1, 16, 64), help="numbers of components")
    parser.add_argument("--swaps", type=read_count, default=200, help="of one repeat")
    parser.add_argument("--tiny", action="store_true", help="a toy model, to try the script")
    return parser.parse_args(arguments)


def read_counts(text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas, in rising order."""
    return tuple(sorted({read_count(part) for part in text.split(",")}))


def build_component(kind: str, model: Any) -> Component:
    """An empty set of residents of a kind."""
    if kind == "lora":
        return build_lora(model, LoraSettings(rank=16))
    return build_layers(model, LayersSettings(placement="decoder-top"))


def measure_kind(
    kind: str, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, list[Figures]], Figures]:
    """Swaps at every number of residents and both yardsticks, and a component's bytes."""
    tell(f"swapping: {kind}, {max(options.residents)} components")
    model = build_model(TINY if options.tiny else SMALL)
    model.save_pretrained(folder / "base")
    component = build_component(kind, model)
    names = [f"task{number}" for number in range(max(options.residents))]
    for seed, name in enumerate(names):
        component.attach(name, seed=seed)
    component.write(names[0], folder / "component", {"task": names[0]})
    # Every number of residents needs a set of its own: the others would be resident too.
    sets = {
        count: component if count == len(names) else build_component(kind, model)
        for count in options.residents
    }
    for count, residents in sets.items():
        for seed, name in enumerate(names[:count]):
            if name not in residents.names:
                residents.attach(name, seed=seed)
    contenders = [
        Contender(
            name=f"{count} resident",
            run=partial(measure_swaps, residents, options.swaps),
            warm_up=partial(measure_swaps, residents, 2 * count, 0),
        )
        for count, residents in sets.items()
    ]
    contenders += [
        Contender(name="component from disk", run=partial(measure_load, component, folder)),
        Contender(name="base and component from disk", run=partial(measure_reload, folder)),
    ]
    return hold(contenders, options.repeats), measure_bytes(component, names[0], folder / "component")


def measure_swaps(component: Component, swaps: int, repeat: int) -> Figures:
    """Latencies of activating another component, drawn anew each time."""
    rng = Random(repeat)
    names, milliseconds = component.names, list[float]()
    component.activate(names[0])
    for _ in range(swaps):
        others = [name for name in names if name != component.active]
        name = rng.choice(others or list(names))
        started = time.perf_counter()
        if not others:
            component.deactivate()
        component.activate(name)
        milliseconds.append((time.perf_counter() - started) * 1000)
    component.deactivate()
    return describe_latencies(milliseconds)


def measure_load(component: Component, folder: Path, repeat: int) -> Figures:
    """The latency of loading one component from disk onto the resident base, and activating it."""
    started = time.perf_counter()
    component.load("loaded", folder / "component")
    component.activate("loaded")
    milliseconds = (time.perf_counter() - started) * 1000
    component.detach("loaded")
    return describe_latencies([milliseconds])


def measure_reload(folder: Path, repeat: int) -> Figures:
    """The latency of loading base and component from disk with transformers and PEFT."""
    from peft import PeftModel
    from transformers import T5ForConditionalGeneration

    register_layers()
    started = time.perf_counter()
    base = T5ForConditionalGeneration.from_pretrained(folder / "base")
    PeftModel.from_pretrained(base, folder / "component").eval()
    return describe_latencies([(time.perf_counter() - started) * 1000])


def describe_latencies(milliseconds: Sequence[float]) -> Figures:
    """Median, 99th percentile and largest."""
    median, high = np.percentile(milliseconds, [50, 99])
    return {
        "swaps": len(milliseconds),
        "p50_milliseconds": float(median),
        "p99_milliseconds": float(high),
        "largest_milliseconds": max(milliseconds),
    }


def measure_bytes(component: Component, name: str, folder: Path) -> Figures:
    """A component's bytes on disk against its parameters at 4 bytes each."""
    parameters = sum(parameter.numel() for parameter in component.parameters(name).values())
    theory = parameters * BYTES_PER_PARAMETER
    whole = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "parameters": parameters,
        "theoretical_bytes": theory,
        "file_bytes": (folder / "adapter_model.safetensors").stat().st_size,
        "folder_bytes": whole,
        "excess": whole / theory - 1,
    }


def list_targets(
    medians: dict[str, dict[str, Figures]], sizes: dict[str, Figures], most: int
) -> list[Target]:
    """What is asked for, beside what was found."""
    swaps = [
        Target(
            name=f"{kind}: p99 in ms at {most} resident",
            found=table[f"{most} resident"]["p99_milliseconds"],
            wanted=MOST_MILLISECONDS,
            sense="at most",
        )
        for kind, table in medians.items()
    ]
    return swaps + [
        Target(
            name=f"{kind}: folder's bytes over parameters x dtype",
            found=abs(found["excess"]),
            wanted=MOST_EXCESS,
            sense="at most",
        )
        for kind, found in sizes.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
