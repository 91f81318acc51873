"""The table of methods: component x retention x schedule x selection, and the names that resolve to it.

What this does not do: train or evaluate (``experiment`` walks), or hold settings of components.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from codestrata.components.hybrid import build_hybrid
from codestrata.components.ia3 import build_ia3
from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.own_layers import OwnLayersComponent
from codestrata.components.prompt import build_prompt
from codestrata.components.shared_layers import build_shared_layers
from codestrata.components.weights import WeightsComponent
from codestrata.contracts import Component, Retention
from codestrata.errors import SettingsError, describe_unknown
from codestrata.models.loading import Base
from codestrata.records import COMPONENT_PER_TASK, NAMED_BY_TASK, Schedule
from codestrata.retention.distill import Distillation
from codestrata.retention.ewc import ElasticWeights
from codestrata.retention.orthogonal import OrthogonalRanks
from codestrata.retention.replay import Replay
from codestrata.settings.components import LoraSettings
from codestrata.settings.tree import Settings


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to learn tasks in a row.

    ``schedule`` is how the tasks share components: see ``records.Schedule``.
    ``retention`` protects earlier tasks while one component is trained on the next. ``selection`` is how the
    component is found at inference: ``oracle`` by the task's label, ``routed`` from the prompt; ``merged``
    makes one of all tasks' so far. ``verified`` says what its numbers were
    held against, beyond that it runs; the page docs/methods/<name>.md says how.
    """

    name: str
    component: (
        Literal["lora", "layers", "hybrid", "ia3", "prompt", "own-layers", "shared-layers", "weights"] | None
    )
    retention: Literal["replay", "ewc", "orthogonal", "distill"] | None = None
    schedule: Schedule
    selection: Literal["oracle", "routed", "merged"] = "oracle"
    about: str
    source: str | None = None
    verified: str | None = None

    @property
    def has_component_per_task(self) -> bool:
        """Whether every task has a component of its own, which no later training touches."""
        return self.schedule in COMPONENT_PER_TASK

    @property
    def is_named_by_task(self) -> bool:
        """Whether every task has a component of its own, though later trainings may change a part of it."""
        return self.schedule in NAMED_BY_TASK

    @property
    def is_isolated(self) -> bool:
        """Whether a task is answered by its own component alone, whatever other tasks arrive."""
        return self.has_component_per_task and self.selection == "oracle"


METHODS = {
    method.name: method
    for method in (
        Method(
            name="base",
            component=None,
            schedule="isolated",
            about="the untouched base: what every method starts from",
            verified="the same bytes before and after every training",
        ),
        Method(
            name="lora",
            component="lora",
            schedule="isolated",
            about="a low-rank adapter per task on the frozen base",
            verified="its formula by hand; PEFT's own logits and tokens",
            source="Hu et al. 2021, arXiv:2106.09685",
        ),
        Method(
            name="layers",
            component="layers",
            schedule="isolated",
            about="new transformer blocks per task on the frozen base",
            verified="the base bit for bit at birth; PEFT's logits and transformers' tokens after training",
            source="Wu et al. 2024 (LLaMA Pro), arXiv:2401.02415; ours are swapped per task",
        ),
        Method(
            name="hybrid",
            component="hybrid",
            schedule="isolated",
            about="a low-rank adapter and new transformer blocks per task, as one component",
            verified="the base bit for bit at birth; its two halves alone; transformers' tokens",
        ),
        Method(
            name="ia3",
            component="ia3",
            schedule="isolated",
            about="learned scales of keys, values and inner activations per task on the frozen base",
            verified="the paper's scales by hand; PEFT's own logits and tokens",
            source="Liu et al. 2022, arXiv:2205.05638",
        ),
        Method(
            name="prompt",
            component="prompt",
            schedule="isolated",
            about="learned embeddings of virtual tokens before every prompt, per task on the frozen base",
            source="Lester et al. 2021, arXiv:2104.08691",
            verified="PEFT's own logits and tokens, one prompt at a time and in batches",
        ),
        Method(
            name="shared-layers",
            component="shared-layers",
            schedule="kept",
            about="new blocks of the first task, frozen for all later ones, and a low-rank adapter per task",
            verified="its first training equals that of hybrid, bit for bit; PEFT loads every folder alone",
        ),
        Method(
            name="shared-layers-seq",
            component="shared-layers",
            schedule="shared",
            about="new blocks trained on with every task, and a low-rank adapter per task",
            verified="its first training equals that of hybrid, bit for bit; PEFT loads every folder alone",
        ),
        Method(
            name="own-layers",
            component="own-layers",
            schedule="isolated",
            about="the base's own last blocks, a trained copy per task: the control for new blocks",
            verified="exactly the copied tensors train; the same losses with cached states as without",
        ),
        Method(
            name="finetune",
            component="weights",
            schedule="sequential",
            about="all weights, task after task, nothing protected: the one that forgets",
            verified="folders load with plain transformers; trainings go on from the stored one, bit for bit",
        ),
        Method(
            name="warm",
            component="lora",
            schedule="warm",
            about="an adapter per task that begins as a copy of the one before: transfer without forgetting",
            verified="its trainings equal those of lora-seq, bit for bit",
        ),
        Method(
            name="routed",
            component="lora",
            schedule="isolated",
            selection="routed",
            about="an adapter per task, picked from the prompt alone: no task label",
            source="Lee et al. 2018, arXiv:1807.03888 (Mahalanobis distance); ours picks components",
            verified="energies by hand in two dimensions; answers are those of the component picked",
        ),
        Method(
            name="merged",
            component="lora",
            schedule="isolated",
            selection="merged",
            about="the adapters of all tasks so far made into one: one model for all, no task label",
            source="Yadav et al. 2023 (TIES), arXiv:2306.01708; Yu et al. 2024 (DARE), arXiv:2311.03099",
            verified="the logits of PEFT's add_weighted_adapter; its folder loads with plain peft",
        ),
        Method(
            name="single",
            component="weights",
            schedule="isolated",
            about="all weights, anew for every task: an expert that saw one task alone",
            verified="its first training equals those of finetune and joint, bit for bit",
        ),
        Method(
            name="joint",
            component="weights",
            schedule="joint",
            about="all weights, anew on all tasks so far at once: the bound that needs all data together",
            verified="its first training equals that of single, bit for bit",
            source="Caruana 1997, Machine Learning 28 (multitask learning)",
        ),
        Method(
            name="lora-seq",
            component="lora",
            schedule="sequential",
            about="one low-rank adapter, task after task, nothing protected",
            verified="its first training equals that of lora, bit for bit",
            source="Hu et al. 2021, arXiv:2106.09685",
        ),
        Method(
            name="replay",
            component="weights",
            retention="replay",
            schedule="sequential",
            about="all weights, task after task, with some examples of earlier tasks in every step",
            verified="shares of every step by hand; equal chances over 2,000 seeds",
            source="Chaudhry et al. 2019, arXiv:1902.10486",
        ),
        Method(
            name="ewc",
            component="weights",
            retention="ewc",
            schedule="sequential",
            about="all weights, task after task, held where earlier tasks depend on them",
            verified="Fisher information, penalty, gradient and joint optimum of two parameters by hand",
            source="Kirkpatrick et al. 2017, arXiv:1612.00796; online: Schwarz et al. 2018, arXiv:1805.06370",
        ),
        Method(
            name="olora",
            component="lora",
            retention="orthogonal",
            schedule="sequential",
            about="one low-rank adapter with a block of ranks per task, orthogonal to the earlier blocks",
            verified="penalty, gradient and end point of two inputs by hand; the form of the authors' code",
            source="Wang et al. 2023, arXiv:2310.14152",
        ),
        Method(
            name="distill",
            component="weights",
            retention="distill",
            schedule="sequential",
            about="all weights, task after task, answers held near to the model's before the task",
            verified="divergence and gradient of two words by hand",
            source="Li and Hoiem 2016, arXiv:1606.09282",
        ),
    )
}


def resolve_methods(names: Sequence[str]) -> list[Method]:
    """The methods of those names, in that order.

    Raises: SettingsError: an unknown name, or a combination that makes no sense.
    """
    for name in names:
        if name not in METHODS:
            raise SettingsError(describe_unknown("method", name, METHODS))
        check_method(METHODS[name])
    return [METHODS[name] for name in names]


def check_method(method: Method) -> None:
    """Refuse a combination that makes no sense. Raises SettingsError: it makes none, and why."""
    check_selection(method)
    check_sharing(method)
    if method.retention is None:
        return
    stated = f"Method {method.name!r} has retention {method.retention}"
    if method.schedule != "sequential":
        apart = "every task has a component of its own, which no later training touches"
        why = {
            "isolated": f"{apart}, so that nothing is to be protected",
            "warm": f"{apart}, so that nothing is to be protected",
            "kept": f"{apart}, so that nothing is to be protected",
            "joint": "every training has the data of all tasks so far, so that nothing is to be protected",
            "shared": "it would hold one component that serves all tasks, and here each task has its own",
        }[method.schedule]
        raise SettingsError(f"{stated} with schedule {method.schedule}: {why}. Use schedule sequential.")
    if method.retention == "orthogonal" and method.component != "lora":
        raise SettingsError(
            f"{stated} with component {method.component}: it keeps a LoRA's directions apart. "
            "Use component lora."
        )


def check_sharing(method: Method) -> None:
    """Refuse shared parts where there are none, and whole components where parts are shared.

    Raises: SettingsError: a component and a schedule that do not go together, and why.
    """
    has_part, wants_part = method.component == "shared-layers", method.schedule in ("kept", "shared")
    if has_part == wants_part:
        return
    why = "its components have no part to share. Use component shared-layers, or another schedule."
    if has_part:
        why = "its components share new blocks. Use schedule kept or shared."
    raise SettingsError(
        f"Method {method.name!r} has component {method.component} with schedule {method.schedule}: {why}"
    )


def check_selection(method: Method) -> None:
    """Refuse to pick or merge where it makes no sense. Raises SettingsError: it makes none, and why."""
    if method.selection == "oracle":
        return
    stated = f"Method {method.name!r} has selection {method.selection}"
    if method.component is None:
        raise SettingsError(f"{stated} without a component: there is nothing to choose. Name a component.")
    if method.schedule != "isolated":
        why = {
            "routed": "each task's answers come from a component that saw it alone, so that a choice matters",
            "merged": "components that were trained apart are made into one",
        }[method.selection]
        raise SettingsError(
            f"{stated} with schedule {method.schedule}: {why}. Use schedule isolated, or selection oracle."
        )
    if method.selection == "merged" and method.component != "lora":
        why = {
            "weights": "whole weights are not merged here",
            "own-layers": "blocks of the base's own are not merged here",
        }.get(method.component, "only low-rank updates of the same maps can be added up")
        raise SettingsError(f"{stated} with component {method.component}: {why}. Use component lora.")


def find_twin(method: Method, methods: Sequence[Method]) -> Method | None:
    """The method among others whose components a routed or merged one would train again; ``None``: no such.

    It is equal in everything but the selection, which is ``oracle``.
    """
    if method.selection == "oracle":
        return None
    parts = (method.component, method.retention, method.schedule)
    return next(
        (
            other
            for other in methods
            if (other.component, other.retention, other.schedule, other.selection) == (*parts, "oracle")
        ),
        None,
    )


def build_component(method: Method, base: Base, settings: Settings) -> Component:
    """The method's kind of component on the base, with none resident yet.

    Raises: SettingsError: settings that do not fit the base, such as unknown LoRA targets.
    """
    if method.selection == "merged" and settings.lora.variant != "plain":
        raise SettingsError(
            f"lora.variant is {settings.lora.variant} with method {method.name!r}: only plain LoRA can be "
            f"merged. Use plain, or leave {method.name} out."
        )
    match method.component:
        case "lora":
            lora = stack_ranks(settings) if method.retention == "orthogonal" else settings.lora
            return build_lora(base.model, lora, fingerprint=base.fingerprint)
        case "layers":
            return build_layers(base.model, settings.layers, fingerprint=base.fingerprint)
        case "hybrid":
            return build_hybrid(base.model, settings.hybrid, fingerprint=base.fingerprint)
        case "ia3":
            return build_ia3(base.model, settings.ia3, fingerprint=base.fingerprint)
        case "prompt":
            return build_prompt(
                base.model, settings.prompt, tokenizer=base.tokenizer, fingerprint=base.fingerprint
            )
        case "shared-layers":
            return build_shared_layers(
                base.model,
                settings.shared_layers,
                is_kept=method.schedule == "kept",
                fingerprint=base.fingerprint,
            )
        case "own-layers":
            return OwnLayersComponent(base.model, settings.own_layers, fingerprint=base.fingerprint)
        case "weights":
            return WeightsComponent(base.model, fingerprint=base.fingerprint)
        case None:
            raise SettingsError(f"Method {method.name!r} has no component to build.")


def stack_ranks(settings: Settings) -> LoraSettings:
    """One LoRA with room for the ranks of every task, each as strong as in a LoRA of its own.

    Raises: SettingsError: weight decay, which would change the blocks of other tasks; or a variant of LoRA,
        whose tasks would share more than the ranks.
    """
    if settings.lora.variant != "plain":
        raise SettingsError(
            f"lora.variant is {settings.lora.variant} with method 'olora', which stacks the ranks of "
            "plain LoRAs. Use plain, or leave olora out."
        )
    if settings.training.weight_decay:
        raise SettingsError(
            f"training.weight_decay is {settings.training.weight_decay} with method 'olora': it would shrink "
            "what earlier tasks learned. Set it to 0, or leave olora out."
        )
    tasks = len(settings.tasks)
    return replace(settings.lora, rank=settings.lora.rank * tasks, alpha=settings.lora.alpha * tasks)


def build_retention(method: Method, settings: Settings, *, seed: int) -> Retention | None:
    """What protects earlier tasks under this method, none remembered yet; ``None`` where nothing does."""
    own = settings.retention
    match method.retention:
        case "replay":
            return Replay(own.replay, seed=seed)
        case "ewc":
            return ElasticWeights(own.ewc, seed=seed)
        case "orthogonal":
            return OrthogonalRanks(own.orthogonal, ranks=settings.lora.rank, seed=seed)
        case "distill":
            return Distillation(own.distill, seed=seed)
        case None:
            return None


def choose_learning_rate(method: Method, settings: Settings) -> float:
    """The peak learning rate of the method: its component's own, else the training's."""
    rates = {
        "lora": settings.lora.learning_rate,
        "layers": settings.layers.learning_rate,
        "hybrid": settings.hybrid.learning_rate,
        "ia3": settings.ia3.learning_rate,
        "prompt": settings.prompt.learning_rate,
        "own-layers": settings.own_layers.learning_rate,
        "shared-layers": settings.shared_layers.learning_rate,
        "weights": settings.weights.learning_rate,
    }
    own = rates.get(method.component or "")
    return settings.training.learning_rate if own is None else own
