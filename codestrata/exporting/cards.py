"""The README.md beside an exported component: what it is, what it scored, how to load it.

What this does not do: write files, or load anything.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codestrata.answering import Choice
from codestrata.components.folders import describe
from codestrata.errors import RunError
from codestrata.exporting.comparison import Comparison
from codestrata.methods import METHODS
from codestrata.models.families import CAUSAL_CLASS
from codestrata.report.tables import count_rows, write_score
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings

LICENCES: Mapping[str, str] = {"pocket": "Apache-2.0", "Salesforce/codet5-small": "Apache-2.0"}
"""The licences of bases that are known here, as their makers state them."""

MERGED: Mapping[str, str] = {
    "lora": "the low-rank updates were added to the weights they stand beside (PEFT's merge, in float32)",
    "layers": "the new blocks stand in their places, and the configuration counts them",
    "weights": "nothing: the checkpoint is the component itself",
    "own-layers": "the trained copies of the base's own blocks stand in the blocks' place",
    "ia3": "the learned scalings were multiplied into the weights (PEFT's merge, in float32)",
    "hybrid": (
        "the new blocks stand in their places, and the low-rank updates were added to the weights they stand"
        " beside (in float32)"
    ),
    "shared-layers": (
        "the blocks that the run's tasks share stand in their places, and the task's low-rank updates were"
        " added to the weights they stand beside (in float32)"
    ),
}
"""Component -> what became of it in a plain checkpoint."""

FASTER = """
The decoder has more blocks than the encoder. transformers 5.23 makes the cache of `generate` as long as the
encoder, and stops with `IndexError: list index out of range`. So `generation_config.json` says
`"use_cache": false`: slower, the same tokens. With a cache:

```python
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
settings = {{"max_new_tokens": {tokens}, "do_sample": False, "use_cache": True}}
answer = model.generate(**inputs, **settings, past_key_values=cache)
```
"""


def write_checkpoint_card(
    results: Mapping[str, Any],
    settings: Settings,
    choice: Choice,
    *,
    template: str,
    comparison: Comparison,
    automatic_class: str,
    deeper_decoder: bool,
) -> str:
    """The page of a plain checkpoint. Raises RunError: the results are not such as a run writes."""
    component = METHODS[choice.method].component or ""
    merged = MERGED.get(component, "the component's weights are in the checkpoint")
    found = comparison
    # Without an encoder the answer goes on from the prompt, which comes with it.
    shown = 'answer[0, inputs["input_ids"].shape[1] :]' if automatic_class == CAUSAL_CLASS else "answer[0]"
    return f"""\
{write_head(results, settings, choice, "A plain checkpoint: transformers loads it, nothing else is needed.")}
## Load it

```python
from transformers import {automatic_class}, AutoTokenizer

folder = "."  # this folder
model = {automatic_class}.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
prompt = {template!r}.replace("{{}}", "what is asked")
inputs = tokenizer(prompt, return_tensors="pt")
answer = model.generate(**inputs, max_new_tokens={settings.decoding.max_new_tokens}, do_sample=False)
print(tokenizer.decode({shown}, skip_special_tokens=True))
```

{write_limit(settings.training.max_prompt_tokens, automatic_class)}
{FASTER.format(tokens=settings.decoding.max_new_tokens) if deeper_decoder else ""}
## What was merged, and how that was checked

Component `{component}`: {merged}.

The checkpoint was loaded as above and compared with the frozen base that carries the component, on
{found.prompts} prompts of the run's test examples: along {found.tokens} generated tokens no logit differs
by more than {found.largest_difference:.2g} (the largest is {found.largest_logit:.3g}), and
{found.same_answers} of {found.prompts} greedy answers are the same, token for token.
"""


def write_limit(tokens: int, automatic_class: str) -> str:
    """What became of longer prompts."""
    if automatic_class == CAUSAL_CLASS:
        return f"In the run a prompt of more than {tokens} tokens lost its beginning."
    return f"In the run a prompt was cut after {tokens} tokens."


def write_adapter_card(
    results: Mapping[str, Any], settings: Settings, choice: Choice, *, automatic_class: str
) -> str:
    """The page of a PEFT adapter. Raises RunError: the results are not such as a run writes."""
    component = METHODS[choice.method].component or ""
    ours = component in ("layers", "hybrid", "shared-layers")
    lines = ["import codestrata\n"] if ours else []
    lines += ["from peft import PeftModel", f"from transformers import {automatic_class}", ""]
    lines += ["codestrata.register_with_peft()  # once, so that PEFT knows this kind"] if ours else []
    lines += [
        f"base = {automatic_class}.from_pretrained(BASE)  # the base named above",
        'model = PeftModel.from_pretrained(base, ".")  # this folder',
    ]
    code = "\n".join(lines)
    return f"""\
{write_head(results, settings, choice, "A PEFT adapter, byte for byte as the run stored it.")}
## Load it

```python
{code}
```

It belongs to the base with the fingerprint above and to no other; `codestrata` refuses any other.
"""


def write_head(results: Mapping[str, Any], settings: Settings, choice: Choice, kind: str) -> str:
    """Title, origin, base, data and scores."""
    try:
        task = next(entry for entry in results["tasks"] if entry["name"] == choice.task)
        examples = ", ".join(f"{count} {split}" for split, count in task["examples"].items())
        base = write_base(results["base"], settings)
        data = (
            f"`{task['name']}` ({task['language']}), from {name_source(settings, choice.task)};"
            f" examples: {examples}; objective `{task['objective']}`, evaluated on"
            f" `{task['evaluation_objective']}`; fingerprint `{task['fingerprint']}`"
        )
        scores = write_scores(results, choice)
        origin = f"`{results['run']}`, settings `{results['settings_fingerprint']}`"
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise RunError(
            f"Run {describe(results.get('run'))} has results that no run writes ({type(error).__name__}:"
            f" {describe(str(error))}). Get the run again."
        ) from error
    return f"""\
# {choice.task}: {choice.method}, seed {choice.seed}

{kind} Exported by codestrata from a finished run.

- method: `{choice.method}`, {METHODS[choice.method].about}
- run: {origin}
- base: {base}
- task: {data}

## What it scored in the run

With all tasks of the run learned; 95 % intervals over examples, of this seed alone.

{scores}
"""


def write_base(base: Mapping[str, Any], settings: Settings) -> str:
    """The base, its fingerprint and what is known of its licence; of a local folder only the last part."""
    name = settings.base.name
    shown = Path(name).name if Path(name).is_dir() or Path(name).is_absolute() else name
    known = LICENCES.get(name) if settings.base.weights == "trained" else None
    licence = f"licence {known}" if known else "licence not recorded by the run: that of the base holds"
    return f"`{shown}`, fingerprint `{base['fingerprint']}`, {base['parameters']:,} parameters; {licence}"


def name_source(settings: Settings, task: str) -> str:
    """Where the task's examples came from, without the path of a file."""
    found: TaskSettings = next(entry for entry in settings.tasks if entry.name == task)
    names = {
        "kata": "generated kata problems",
        "codesearchnet": "CodeSearchNet",
        "file": "a file of one's own",
    }
    return names.get(found.source, found.source)


def write_scores(results: Mapping[str, Any], choice: Choice) -> str:
    """A table of the task's scores with this component once the sequence was over."""
    method = next(entry for entry in results["methods"] if entry["name"] == choice.method)
    walk = next(entry for entry in method["seeds"] if entry["seed"] == choice.seed)
    last = count_rows(walk)
    rows = [("split", "metric", "score", "n", ""), ("---",) * 5]
    for cell in walk["cells"]:
        if (cell["row"], cell["task"]) == (last, choice.task):
            rows += [
                (cell["split"], metric, write_score(score), str(score["n"]), score["reason"] or "")
                for metric, score in cell["scores"].items()
            ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
