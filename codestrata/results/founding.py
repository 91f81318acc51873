"""What of the founding experiment's published findings survives a run of its preset.

The published BLEU is a mean of sentence BLEU over 50 records, with one seed and sampled answers. Numbers of
this run that stand beside it are of the metric that is nearest to that, not of the headline metric.

What this does not do: repeat the founding experiment's own scoring, or judge runs of another preset.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from codestrata.presets import build_preset
from codestrata.report.pointers import read_pointer
from codestrata.results.evidence import (
    Evidence,
    Tree,
    find_comparison,
    find_echo,
    find_final,
    find_forgetting,
    find_noise,
    find_rechecks,
    find_taken_over,
    find_task,
    find_trainings,
)
from codestrata.settings.tree import build_settings, to_tree

Verdict = Literal["survives", "does not survive", "cannot tell"]

PRESET = "founding"
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "lora": {
        "python_bleu": 0.2150,
        "javascript_bleu": 0.2489,
        "training_minutes": 22.97,
        "memory_gb": 1.77,
        "python_forgetting_percent": 0.78,
        "parameter_percent": 0.1,
    },
    "layers": {
        "python_bleu": 0.2046,
        "javascript_bleu": 0.2147,
        "training_minutes": 21.69,
        "memory_gb": 0.01,
        "python_forgetting_percent": -6.20,
    },
}
NAMES = {"lora": "LoRA", "layers": "the full layer"}
LANGUAGES = {"python": "Python", "javascript": "JavaScript"}
RECORDS, TRAINED_ON, SEEDS = 50, 15000, 1
CONDITIONS = ("training", "lora", "layers", "decoding")
"""Sections of the settings in which a run of the preset must be as the published one was."""
REFERENCE_ECHO = {"python": 0.345, "javascript": 0.348}
"""What echoing the given half scored under the experiment's own scoring, on 1,000 real test records each."""
REFERENCE_SPREAD = 0.008
"""By how much (one standard deviation) drawing 50 of those records moves the mean."""
METRIC = "bleu_codexglue"
"""The metric of a run that is nearest to the published BLEU: a mean of smoothed sentence BLEU."""
BYTES_PER_TRAINED_NUMBER = 16
"""AdamW in float32 holds a weight, its gradient and two moments."""
SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published finding, what this run measured about it, and whether it survives."""

    name: str
    published: str
    verdict: Verdict
    reason: str
    measured: tuple[Evidence, ...]


def judge_founding(tree: Tree) -> dict[str, Any] | None:
    """The published findings beside this run's numbers; ``None`` unless its preset is ``founding``."""
    if tree["settings"]["preset"] != PRESET:
        return None
    claims = (
        *(judge_bleu(tree, method, language) for method in NAMES for language in LANGUAGES),
        *(judge_difference(tree, language) for language in LANGUAGES),
        *(judge_forgetting(tree, method) for method in NAMES),
        judge_time(tree),
        judge_memory(tree),
        judge_parameters(tree),
    )
    return {
        "published": {method: dict(numbers) for method, numbers in PUBLISHED.items()},
        "records": RECORDS,
        "seeds": SEEDS,
        "metric": METRIC,
        "metric_reason": (
            f"the published BLEU is a mean of sentence BLEU; {METRIC} is the metric of this run that is "
            f"nearest to it, while the run's comparisons are in {tree['headline_metric']}"
        ),
        "conditions": list(list_conditions(tree)),
        "claims": [{**asdict(claim), "measured": list(map(asdict, claim.measured))} for claim in claims],
    }


def list_conditions(tree: Tree) -> Iterator[str]:
    """In what this run differs from the published one."""
    if has_random_weights(tree):
        yield "the base has random weights"
    elif not tree["base"]["name"].endswith("codet5-small"):
        yield f"the base is {tree['base']['name']}, not codet5-small"
    for task in tree["tasks"]:
        for split, count in (("train", TRAINED_ON), ("test", RECORDS)):
            if task["examples"][split] != count:
                yield f"{task['name']} has {task['examples'][split]} {split} examples, not {count}"
    if len(tree["settings"]["seeds"]) != SEEDS:
        yield f"{len(tree['settings']['seeds'])} seeds, not {SEEDS}"
    published = to_tree(build_settings(build_preset(PRESET)))
    for section in CONDITIONS:
        for key, value in published[section].items():
            if (found := tree["settings"][section][key]) != value:
                yield f"{section}.{key} is {found}, not {value}"
    for task in tree["settings"]["tasks"]:
        for key in ("objective", "evaluation_objective"):
            if task[key] != (value := published["tasks"][0][key]):
                yield f"{task['name']} has {key} {task[key]}, not {value}"


def has_random_weights(tree: Tree) -> bool:
    """Whether the base's weights were drawn, not trained: its methods then say nothing about methods."""
    return bool(tree["settings"]["base"]["weights"] == "random")


def judge_bleu(tree: Tree, method: str, language: str) -> Claim:
    """A published BLEU against what echoing the prompt scores: at or under that it shows no learning."""
    number = PUBLISHED[method][f"{language}_bleu"]
    echo = find_echo(tree, METRIC, language)
    own = find_final(tree, METRIC, method, language)
    said = (
        f"on 1,000 real records, scored as published, echoing scored {REFERENCE_ECHO[language]}, and drawing "
        f"{RECORDS} of them moves the mean by {REFERENCE_SPREAD}"
    )
    verdict: Verdict = "cannot tell"
    if echo.value is None:
        reason = f"there is no echo control to compare with: {echo.reason}; {said}"
    elif echo.interval is None:
        reason = f"echoing the prompt scores {echo.value:.4f} here, without an interval; {said}"
    elif (n := count_examples(tree, echo)) < RECORDS:
        reason = (
            f"echoing the prompt scores {echo.value:.4f} here, but {n} records are too few to judge; {said}"
        )
    else:
        low, high = echo.interval["low"], echo.interval["high"]
        limits = f"echoing the prompt scores {echo.value:.4f} [{low:.4f}, {high:.4f}] here"
        if low >= number:
            verdict = "does not survive"
            reason = f"{limits}: the published number is no evidence of learning; {said}"
        elif high < number and own.interval is not None and own.interval["high"] >= number:
            verdict = "survives"
            reason = f"{limits}: the published number is above it, and this run's method reaches it; {said}"
        elif high < number:
            reason = (
                f"{limits}: the published number is above it, but this run's method does not reach it; {said}"
            )
        else:
            reason = f"{limits}: the published number lies within that; {said}"
    return Claim(
        name=f"{method}_{language}_bleu",
        published=f"{NAMES[method]} reaches BLEU {number:.4f} on {LANGUAGES[language]}",
        verdict=verdict,
        reason=reason,
        measured=(echo, own),
    )


def count_examples(tree: Tree, score: Evidence) -> int:
    """How many examples a score is over."""
    return 0 if score.pointer is None else int(read_pointer(tree, score.pointer)["n"])


def judge_difference(tree: Tree, language: str) -> Claim:
    """LoRA against the full layer on one language: this run's comparison, and what 50 records can say."""
    numbers = [PUBLISHED[method][f"{language}_bleu"] for method in NAMES]
    difference = numbers[0] - numbers[1]
    measured = find_comparison(tree, language)
    noise = find_noise(tree, tree["headline_metric"], find_task(tree, language))
    thin = (
        f"the published difference {difference:.4f} rests on {RECORDS} records and one seed, and is "
        f"{difference / REFERENCE_SPREAD:.1f} times what drawing other {RECORDS} records moves one mean by "
        f"({REFERENCE_SPREAD}, before any decoding noise)"
    )
    echo = find_echo(tree, METRIC, language)
    if echo.interval and count_examples(tree, echo) >= RECORDS and echo.interval["low"] >= max(numbers):
        thin += "; neither published number is above echoing the prompt"
    verdict, reason = decide_difference(tree, language, measured, noise)
    return Claim(
        name=f"lora_beats_layers_{language}",
        published=(
            f"LoRA is better than the full layer on {LANGUAGES[language]}: BLEU {numbers[0]:.4f} against "
            f"{numbers[1]:.4f}"
        ),
        verdict=verdict,
        reason=f"{reason}; {thin}",
        measured=(measured, noise),
    )


def decide_difference(tree: Tree, language: str, measured: Evidence, noise: Evidence) -> tuple[Verdict, str]:
    """Whether this run's comparison shows LoRA above the full layer, and why."""
    if measured.pointer is None or measured.value is None:
        return "cannot tell", f"this run did not compare them: {measured.reason}"
    if has_random_weights(tree):
        return "cannot tell", "the base of this run has random weights: its methods say nothing about methods"
    entry = read_pointer(tree, measured.pointer)
    only = ", for this seed only" if entry["seeds"] == 1 else ""
    if entry["verdict"] not in ("first", "second"):
        return "cannot tell", f"this run cannot tell them apart{only}"
    if noise.value is not None and abs(measured.value) <= abs(noise.value):
        return "cannot tell", f"this run's difference is within its noise floor of {abs(noise.value):.4f}"
    better = entry[entry["verdict"]]
    if better == "lora":
        return "survives", f"LoRA is better in this run too{only}"
    return "does not survive", f"the full layer is better in this run{only}"


def judge_forgetting(tree: Tree, method: str) -> Claim:
    """Forgetting of components that nothing touches any more: 0 by construction, shown by decoding again."""
    percent, bleu = (PUBLISHED[method][key] for key in ("python_forgetting_percent", "python_bleu"))
    absolute = abs(percent) / 100 * bleu
    again, count = find_rechecks(tree, method)
    taken = find_taken_over(tree, method)
    lost, noise = find_forgetting(tree, METRIC, method), find_noise(tree, METRIC, find_task(tree, "python"))
    verdict: Verdict = "cannot tell"
    construction = "every task has a component of its own, so forgetting is 0 by construction"
    if again.value is None and taken.value is None:
        reason = f"nothing shows it here: {again.reason}"
    elif again.value is None:
        verdict = "does not survive"
        reason = f"{construction}: in all {taken.value:.0f} later cells base and component kept their bytes"
    elif again.value < 1:
        reason = f"isolation is not shown here: {again.value:.1%} of {count} cells decoded again are the same"
    else:
        verdict = "does not survive"
        reason = (
            f"{construction}: {count} of {count} cells that were decoded again gave the same answers to the "
            "last character"
        )
    size = f"the published {percent:.2f} % are {absolute:.4f} in BLEU"
    if noise.value is None:
        size += f", and this run has no noise floor to compare it with: {noise.reason}"
    else:
        relation = "no more than" if absolute <= abs(noise.value) else "more than"
        floor = f"{abs(noise.value):.4f} by which two evaluations of the same weights differ here"
        size += f", {relation} the {floor}"
    return Claim(
        name=f"{method}_python_forgetting",
        published=f"{NAMES[method]} forgets {percent:.2f} % of Python after JavaScript",
        verdict=verdict,
        reason=f"{reason}; {size}",
        measured=(lost, again, *([] if taken.value is None else [taken]), noise),
    )


def judge_time(tree: Tree) -> Claim:
    """Which of the two trains faster, by the signs of all pairs of trainings on the same task and seed."""
    minutes = [PUBLISHED[method]["training_minutes"] for method in NAMES]
    measured = [find_trainings(tree, method, "seconds") for method in NAMES]
    pairs = [
        (lora, layer) for lora, layer in zip(*measured, strict=False) if None not in (lora.value, layer.value)
    ]
    faster = sum(layer.value < lora.value for lora, layer in pairs if lora.value and layer.value)
    p = compute_sign_p(faster, len(pairs))
    verdict: Verdict = "cannot tell"
    if p < SIGNIFICANT:
        verdict = "survives" if faster > len(pairs) / 2 else "does not survive"
    reason = (
        f"the full layer was faster in {faster} of {len(pairs)} pairs of trainings on the same task with the "
        f"same seed (sign test p {p:.4f}; under 6 pairs can never decide)"
        if pairs
        else "this run did not train both"
    )
    return Claim(
        name="training_time",
        published=f"the full layer trains faster: {minutes[1]} minutes against {minutes[0]} with LoRA",
        verdict=verdict,
        reason=reason,
        measured=tuple(entry for entries in measured for entry in entries),
    )


def compute_sign_p(count: int, n: int) -> float:
    """Two-sided exact p of ``count`` of n signs being the same, if either sign were equally likely."""
    tail = sum(math.comb(n, k) for k in range(min(count, n - count) + 1))
    return min(1.0, 2 * tail / (1 << n))


def judge_memory(tree: Tree) -> Claim:
    """The published memory, a difference of the process's resident size, against what training must hold."""
    memory = [PUBLISHED[method]["memory_gb"] for method in NAMES]
    parameters = find_trainings(tree, "layers", "parameters")
    peaks = [entry for method in NAMES for entry in find_trainings(tree, method, "peak_memory_mib")]
    verdict: Verdict = "cannot tell"
    said = "the published memory is a difference of the process's resident size, read before and after"
    if parameters[0].value is None:
        reason = f"this run has no full layer to count: {parameters[0].reason}; {said}"
    else:
        least = parameters[0].value * BYTES_PER_TRAINED_NUMBER / 1e9
        held = (
            f"AdamW in float32 holds at least {BYTES_PER_TRAINED_NUMBER} bytes for each of the "
            f"{parameters[0].value:.0f} trained numbers, {least:.3f} GB"
        )
        reason = f"{held}; {said}"
        if least > memory[1] + 0.005:  # it is published with two decimals
            verdict = "does not survive"
    return Claim(
        name="memory",
        published=f"the full layer takes {memory[1]} GB of memory, LoRA {memory[0]} GB",
        verdict=verdict,
        reason=reason,
        measured=(parameters[0], *peaks),
    )


def judge_parameters(tree: Tree) -> Claim:
    """LoRA's share of the parameters: counted here, claimed there."""
    percent = PUBLISHED["lora"]["parameter_percent"]
    share = find_trainings(tree, "lora", "parameter_share")[0]
    verdict: Verdict = "cannot tell"
    if share.value is None:
        reason = f"this run has no LoRA to count: {share.reason}"
    else:
        verdict = "survives" if round(100 * share.value, 1) == percent else "does not survive"
        reason = f"counted, it is {share.value:.4f} of base and component together"
    return Claim(
        name="lora_parameters",
        published=f"LoRA has {percent} % of the parameters",
        verdict=verdict,
        reason=reason,
        measured=(share,),
    )
