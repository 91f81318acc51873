"""Experience replay: some examples of earlier tasks are kept, and come up again in every step.

What this does not do: choose which examples are worth keeping (every one seen has the same chance).
"""

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar

from codestrata.contracts import Lesson
from codestrata.data.batches import EncodedExample
from codestrata.retention.memory import Memory
from codestrata.settings.retention import ReplaySettings


class Replay(Memory):
    """Retention ``replay``: a bounded reservoir of examples, drawn from anew in every step.

        a step of n own examples takes  k = round(n * ratio / (1 - ratio))  of the reservoir besides
        the m-th example ever seen:  m <= size: kept;  else it replaces a random kept one with size / m

    The own examples are those that the task would have had without replay: a step is larger, not poorer. The
    k are drawn without replacement where the reservoir holds as many. Every example that a training's steps
    took counts as seen, once.

    Source: Chaudhry et al. 2019, arXiv:1902.10486 (ER-Reservoir; there both halves of a step are equal, ratio
    0.5); the reservoir is algorithm R, Vitter 1985, doi:10.1145/3147.3165. Theirs is filled during a task,
    so that it replays the task's own examples too; ours at its end.
    """

    kind: ClassVar[str] = "replay"

    def __init__(self, settings: ReplaySettings, *, seed: int) -> None:
        super().__init__(settings, seed=seed)
        self.settings = settings
        self.facts |= {"seen": 0, "rows": []}

    @property
    def rows(self) -> list[EncodedExample]:
        """The reservoir."""
        return [
            EncodedExample(identifier=identifier, prompt_ids=tuple(prompt), target_ids=tuple(target))
            for identifier, prompt, target in self.facts["rows"]
        ]

    def mix(
        self, rows: Sequence[Any], plan: Sequence[Sequence[int]], *, seed: int
    ) -> tuple[Sequence[Any], Sequence[Sequence[int]]]:
        """The reservoir behind the task's own examples, and some of it in every step."""
        kept = self.rows
        if not kept:
            return rows, plan
        rng = Random(f"replay after {self.facts['seen']} examples with seed {seed}")
        places = range(len(rows), len(rows) + len(kept))
        share = self.settings.ratio / (1 - self.settings.ratio)
        return [*rows, *kept], [
            [*numbers, *draw(places, round(len(numbers) * share), rng)] for numbers in plan
        ]

    def remember(self, lesson: Lesson) -> None:
        """Show the reservoir the task's examples, one after another."""
        rng = Random(f"reservoir after {self.facts['seen']} examples with seed {self.seed}")
        kept, seen = list(self.facts["rows"]), int(self.facts["seen"])
        for number in sorted(lesson.examples):
            seen += 1
            place = len(kept) if seen <= self.settings.size else rng.randrange(seen)
            if place < self.settings.size:
                kept[place : place + 1] = [flatten(lesson.examples[number])]
        self.facts |= {"seen": seen, "rows": kept}
        super().remember(lesson)


def draw(places: Sequence[int], count: int, rng: Random) -> list[int]:
    """So many of the places at random, each once where there are enough."""
    if count <= len(places):
        return rng.sample(places, count)
    return rng.choices(places, k=count)


def flatten(row: EncodedExample) -> list[Any]:
    """An example as JSON values."""
    return [row.identifier, list(map(int, row.prompt_ids)), list(map(int, row.target_ids))]
