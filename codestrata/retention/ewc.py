"""Elastic weight consolidation: a spring on every parameter, as stiff as earlier tasks' answers depend on it.

What this does not do: keep a spring per task (they add up in one, see ``ElasticWeights``).
"""

from collections.abc import Mapping
from random import Random
from typing import ClassVar

import torch
from torch import nn

from codestrata.contracts import Lesson
from codestrata.retention.memory import Memory
from codestrata.settings.retention import EwcSettings

FISHER, ANCHOR = "fisher", "anchor"


class ElasticWeights(Memory):
    """Retention ``ewc``: the diagonal Fisher information of earlier tasks holds the parameters.

        penalty   = strength / 2 * sum_i F_i (theta_i - theta*_i)^2
        after a task:  F_i <- decay * F_i + mean over examples (d log p(target | prompt) / d theta_i)^2 / L
                       theta* <- theta

    L is the mean number of target tokens per example, so that F is on the scale of the loss, nats per token;
    at strength 1 an earlier task of as many examples then weighs what Laplace's approximation of its loss
    does. F is empirical: of the targets themselves, one gradient per example, ``examples`` of them drawn
    without replacement.

    Source: Kirkpatrick et al. 2017, arXiv:1612.00796; as one running sum around the newest parameters,
    Schwarz et al. 2018, arXiv:1805.06370 (there gamma is ``decay``). They sample labels from the model
    or do not say; with two tasks both are the same but for that.
    """

    kind: ClassVar[str] = "ewc"

    def __init__(self, settings: EwcSettings, *, seed: int) -> None:
        super().__init__(settings, seed=seed)
        self.settings = settings
        self._held: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Have the springs where the parameters are."""
        self._held = {
            name: (
                self.tensors[f"{FISHER}.{name}"].to(parameter.device),
                self.tensors[f"{ANCHOR}.{name}"].to(parameter.device),
            )
            for name, parameter in parameters.items()
            if self.lessons
        }

    def penalise(self, parameters: Mapping[str, nn.Parameter]) -> torch.Tensor | None:
        """The strength / 2 * sum F (theta - theta*)^2; nothing before a task is remembered."""
        terms = [
            (fisher * (parameters[name] - anchor).square()).sum()
            for name, (fisher, anchor) in self._held.items()
        ]
        return self.settings.strength / 2 * torch.stack(terms).sum() if terms else None

    def remember(self, lesson: Lesson) -> None:
        """Add this task's Fisher information, and hold the parameters where they are now."""
        numbers = sorted(lesson.examples)
        rng = Random(f"Fisher information of task {self.lessons} with seed {self.seed}")
        drawn = sorted(rng.sample(numbers, min(self.settings.examples, len(numbers))))
        parameters = lesson.parameters
        sums = {
            name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in parameters.items()
        }
        for number in drawn:
            lesson.differentiate(number)
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    sums[name] += parameter.grad.float().square()
                    parameter.grad = None
        scale = len(drawn) * lesson.usual_targets
        kept = dict[str, torch.Tensor]()
        for name, parameter in parameters.items():
            fisher = (sums[name] / scale).cpu()
            if self.lessons:
                fisher += self.settings.decay * self.tensors[f"{FISHER}.{name}"]
            kept[f"{FISHER}.{name}"] = fisher
            kept[f"{ANCHOR}.{name}"] = parameter.detach().cpu().clone()
        self.tensors, self._held = kept, {}
        super().remember(lesson)
