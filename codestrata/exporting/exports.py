"""A run's component as a folder for others: a plain checkpoint (``hf``), or the PEFT adapter (``peft``).

A plain checkpoint is loaded again and compared with base and component before it is handed over, so that a
folder that was written is one that computes the same. A folder appears as a whole or not at all.

What this does not do: run anything in the folder, or send it anywhere.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from codestrata.answering import (
    Choice,
    check_choice,
    find_folder,
    find_last_folder,
    load_choice,
    read_own_settings,
    read_template,
)
from codestrata.components.adapters import CONFIG_FILE
from codestrata.components.folders import check_hash, describe, open_file, parse_object, read_object
from codestrata.components.residents import COMPONENT_FILE
from codestrata.data.tokens import Part, count_leading, cut_prompt, encode_texts
from codestrata.engine.host import prepare_host
from codestrata.errors import ComponentError, DataError, SettingsError, StorageError
from codestrata.experiment.cells import read_predictions
from codestrata.exporting.cards import write_adapter_card, write_checkpoint_card
from codestrata.exporting.comparison import Comparison, compare_models
from codestrata.exporting.disclosure import check_texts, check_training
from codestrata.exporting.plain import build_plain_model, has_deeper_decoder
from codestrata.files import PART_SUFFIX, explain_failure, make_folder, move, remove, write_bytes, write_text
from codestrata.methods import build_component
from codestrata.models.families import CAUSAL_CLASS, ENCODER_DECODER_CLASS, find_family
from codestrata.models.loading import Base, load_base
from codestrata.models.special import list_ends, read_ends
from codestrata.settings.tree import Settings
from codestrata.store import RunDirectory

Format = Literal["hf", "peft"]
FORMATS: tuple[Format, ...] = ("hf", "peft")
CARD_FILE = "README.md"
BASE_FOLDER = "base"
"""Where every run keeps what its base answered to the prompts of all tasks; a component may have no answers
of its own: what has the same bytes as another has the other's."""
COMPARED_PROMPTS = 8
COMPARED_TOKENS = 64
"""So many of the run's prompts are answered by both models, with so many tokens at most."""
TOLERANCE = 1e-4
"""Largest difference of two logits that rounding may make, as a share of the largest logit."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written where; ``comparison`` is that of a plain checkpoint with base and component."""

    folder: Path
    choice: Choice
    comparison: Comparison | None
    deeper_decoder: bool


def export_component(
    run: RunDirectory, choice: Choice, out: Path, form: Format = "hf", *, allow_secrets: bool = False
) -> Export:
    """Write the component of a finished run into the folder ``out``, which must be empty or not there yet.

    Raises:
        ComponentError: the component is damaged, belongs to another base, or has no place in a plain
            checkpoint; or the checkpoint computes something else.
        DataError: the run's predictions cannot be read.
        RunError: the run did not come to its end, its results are damaged, or a folder leads out of it.
        SettingsError: the choice is none of the run's, its component has no such format, ``out`` is taken, or
            a secret would get out and that is not allowed.
        StorageError: the folder cannot be written.
    """
    out = check_target(run, out)
    results, settings = run.read_results(), run.read_settings()
    if not allow_secrets:
        check_training(results, settings)
    source = find_folder(run, settings, choice)
    template = read_template(run.inside(run.task_folder(choice.method, choice.seed, choice.task)))
    if form == "peft":
        if find_last_folder(run, settings, choice) is not None:
            raise SettingsError(
                f"The blocks that {choice.task!r} shares were trained on by later tasks, and its folder "
                "holds them as they were before: use --format hf."
            )
        files = read_adapter(source)
        card = write_adapter_card(results, settings, choice, automatic_class=name_automatic_class(files))
        if not allow_secrets:
            check_texts({**files, CARD_FILE: card.encode("utf-8")})
        export_adapter(files, out, card)
        return Export(folder=out, choice=choice, comparison=None, deeper_decoder=False)
    prompts = choose_prompts(run.inside(run.path / BASE_FOLDER), choice.task)
    base = load_with_component(run, settings, choice)
    end_as_in_runs(base)
    plain = build_plain_model(base.model)
    deeper = has_deeper_decoder(plain)
    if deeper:
        plain.generation_config.use_cache = False  # else ``generate`` fails unless it is told so
    with appearing(out) as folder:
        write_checkpoint(plain, base.tokenizer, folder)
        comparison = compare_with_checkpoint(base, folder, prompts, settings)
        card = write_checkpoint_card(
            results,
            settings,
            choice,
            template=template,
            comparison=comparison,
            automatic_class=find_family(plain).automatic_class,
            deeper_decoder=deeper,
        )
        if not allow_secrets:
            check_texts({CARD_FILE: card.encode("utf-8")})
        write_text(folder / CARD_FILE, card)
    return Export(folder=out, choice=choice, comparison=comparison, deeper_decoder=deeper)


def export_adapter(files: Mapping[str, bytes], out: Path, card: str) -> None:
    """Write a PEFT adapter's files and its page. Raises StorageError: no room, no right."""
    with appearing(out) as folder:
        for name, content in files.items():
            write_bytes(folder / name, content)
        write_text(folder / CARD_FILE, card)


def check_target(run: RunDirectory, out: Path) -> Path:
    """The folder to be written, from the root. Raises SettingsError: it is taken, or inside the run."""
    out = out.resolve()
    if out.is_relative_to(run.path.resolve()):
        raise SettingsError(
            f"{out} lies inside run {run.name!r}, whose files are sealed: choose another --out."
        )
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        found = "a folder that is not empty" if out.is_dir() else "a file"
        raise SettingsError(f"{out} is {found}: choose a new folder with --out.")
    return out


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place in one step at the end, or is gone after a failure."""
    folder = out.parent / f".{out.name}.{token_hex(4)}{PART_SUFFIX}"
    make_folder(folder, fresh=True)
    try:
        yield folder
        move(folder, out)
    except BaseException:
        remove(folder)
        raise


def read_adapter(source: Path) -> dict[str, bytes]:
    """File name -> content of a PEFT adapter, as ``component.json`` was written for them.

    Raises:
        ComponentError: a file is missing, changed or no plain file.
        SettingsError: the component is no PEFT adapter.
    """
    header = read_object(source, COMPONENT_FILE)
    hashes = header.get("sha256")
    if not isinstance(hashes, dict) or not all(isinstance(wanted, str) for wanted in hashes.values()):
        raise ComponentError(
            f"{source / COMPONENT_FILE}: sha256 is {describe(hashes)}, but the files' hashes are needed."
            " Get the component again."
        )
    if CONFIG_FILE not in hashes:
        raise SettingsError(
            f"A component of kind {describe(header.get('kind'))} is no PEFT adapter: use --format hf."
        )
    files = {}
    for name, wanted in hashes.items():
        if Path(name).name != name:
            raise ComponentError(f"{source / COMPONENT_FILE}: {describe(name)} is no name of a file in it.")
        files[name] = read_whole(source, name)
        check_hash(source / name, hashlib.sha256(files[name]).hexdigest(), wanted)
    return files | {COMPONENT_FILE: read_whole(source, COMPONENT_FILE)}


def name_automatic_class(files: Mapping[str, bytes]) -> str:
    """Which class of transformers loads the base of a PEFT adapter. Raises ComponentError: damaged."""
    config = parse_object(files[CONFIG_FILE], CONFIG_FILE)
    return CAUSAL_CLASS if config.get("task_type") == "CAUSAL_LM" else ENCODER_DECODER_CLASS


def read_whole(source: Path, name: str) -> bytes:
    """The content of a regular file in the folder. Raises ComponentError: as ``open_file``."""
    with open_file(source, name) as file:
        return file.read()


def choose_prompts(source: Path, task: str) -> list[str]:
    """Some prompts of the task that a folder has answers to, each once. Raises DataError: there are none."""
    predictions = read_predictions(source).get((task, "test"), ())
    prompts = list(dict.fromkeys(prediction.prompt for prediction in predictions))[:COMPARED_PROMPTS]
    if not prompts:
        raise DataError(
            f"no predictions of {task!r}, by whose prompts the checkpoint could be checked", path=source
        )
    return prompts


def load_with_component(run: RunDirectory, settings: Settings, choice: Choice) -> Base:
    """The run's base on the CPU in single precision, with the component active."""
    prepare_host(threads=settings.device.threads, keep_memory=settings.device.keep_memory)
    base = load_base(settings.base, torch.device("cpu"))
    method, source = check_choice(choice), find_folder(run, settings, choice)
    component = build_component(method, base, read_own_settings(source, method, settings))
    load_choice(component, run, settings, choice)
    return base


def end_as_in_runs(base: Base) -> None:
    """Have ``generate`` end answers with all the tokens that end them in a run, the tokenizer's included."""
    ends = list_ends(base.model, base.tokenizer)
    if ends != read_ends(base.model.generation_config):
        base.model.generation_config.eos_token_id = sorted(ends)


def write_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """Weights, configuration, generation settings and tokenizer. Raises StorageError: no room, no right."""
    with explain_failure(folder, "written"):
        try:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            for path in folder.iterdir():
                path.chmod(0o644)  # safetensors makes 0600, which others could not read
        except SafetensorError as error:  # what the system refused, in words
            raise StorageError(folder, "written", OSError(str(error))) from error


def compare_with_checkpoint(
    base: Base, folder: Path, prompts: Sequence[str], settings: Settings
) -> Comparison:
    """What base and component have in common with the checkpoint, loaded as anybody would.

    Raises: ComponentError: the logits are further apart than rounding can bring them.
    """
    import transformers

    family = find_family(base.model)
    plain = getattr(transformers, family.automatic_class).from_pretrained(folder)
    part: Part = "prompt" if family.is_causal else "whole"
    rows, found = (
        encode_texts(prompts, tokenizer, part=part)
        for tokenizer in (base.tokenizer, transformers.AutoTokenizer.from_pretrained(folder))
    )
    if rows != found:
        raise ComponentError("Not written: the tokenizer gives other ids once it was saved. Report this.")
    leading = count_leading(base.tokenizer) if family.is_causal else None
    rows = [cut_prompt(row, settings.training.max_prompt_tokens, leading=leading) for row in rows]
    limit = min(settings.decoding.max_new_tokens, COMPARED_TOKENS)
    comparison = compare_models(base.model, plain, rows, max_new_tokens=limit)
    # Negated, so that what is no number at all does not pass either.
    if not comparison.largest_difference <= TOLERANCE * max(1.0, comparison.largest_logit):
        raise ComponentError(
            f"Not written: on {len(rows)} prompts of the run the checkpoint's logits differ by up to"
            f" {comparison.largest_difference:.3g} from those of base and component, whose largest is"
            f" {comparison.largest_logit:.3g}. Rounding cannot explain that: report it with the run."
        )
    return comparison
