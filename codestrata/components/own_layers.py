"""Component ``own-layers``: the base's own last blocks, trained further on a copy per task.

It answers whether new blocks are worth their depth: as many of the base's own blocks train instead, and no
block is added. The copies stand in place while the component runs; everything below them stays frozen.

What this does not do: train norms or embeddings outside the blocks, or load without us: its tensors have the
names they have in a plain checkpoint, but they are not all of one.
"""

from typing import ClassVar

from torch import nn

from codestrata.components.replacing import ReplacingComponent
from codestrata.errors import SettingsError
from codestrata.models.families import choose_stacks, list_stacks
from codestrata.settings.components import OwnLayersSettings

TENSORS_FILE = "blocks.safetensors"


class OwnLayersComponent(ReplacingComponent):
    """``contracts.Component`` for blocks of the base; a newborn is the base itself for every seed.

    A folder is read where it holds exactly the tensors of the blocks that these settings choose.
    """

    read_files: ClassVar[tuple[str, ...]] = (TENSORS_FILE,)

    def __init__(
        self, base: nn.Module, settings: OwnLayersSettings, *, fingerprint: str | None = None
    ) -> None:
        """The component on ``base``; ``fingerprint`` saves computing it again.

        Raises:
            SettingsError: the base has no such stack, or fewer blocks than asked for.
            ModelError: the base is of a family whose blocks are not known.
        """
        blocks = list_own_blocks(base, settings)
        super().__init__(base, kind="own-layers", blocks=blocks, fingerprint=fingerprint)


def list_own_blocks(model: nn.Module, settings: OwnLayersSettings) -> tuple[str, ...]:
    """Paths of the base's blocks that train, first stack first.

    Raises: SettingsError: the base has no such stack, or fewer blocks than asked for.
    """
    stacks, placement, count = list_stacks(model), settings.placement, settings.blocks
    chosen: list[str] = []
    for stack in choose_stacks(model, placement, label="own_layers.placement"):
        if count > len(stacks[stack]):
            raise SettingsError(
                f"own_layers.blocks is {count}: the base's {stack} has {len(stacks[stack])} blocks."
            )
        chosen += stacks[stack][-count:]
    return tuple(chosen)
