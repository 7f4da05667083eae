"""What a job may say about an encoder, checked by its tables. Knows no torch."""

from __future__ import annotations

from collections.abc import Sequence

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name
from mtnas.encoders.table import ENCODERS, MOST_STAGES, SIZES


def sized(name: str, width: int, blocks: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Width and blocks of each stage, with the encoder's own where they are 0 and empty; raises `JobError`."""
    check_name(name, ENCODERS, "encoder", "model.encoder")
    own_width, own_blocks = SIZES[name]
    blocks = tuple(blocks) or own_blocks
    if any(count < 1 for count in blocks):
        raise JobError(
            "at least one block in each stage",
            received=str(blocks),
            where="model.blocks",
            cure=f"write {list(own_blocks)}",
        )
    if len(blocks) > MOST_STAGES.get(name, len(blocks)):
        raise JobError(
            f"at most {MOST_STAGES[name]} stages in {name}",
            received=str(blocks),
            where="model.blocks",
            cure=f"write {list(own_blocks)}",
        )
    return width or own_width, blocks
