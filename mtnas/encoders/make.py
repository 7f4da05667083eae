"""Make an encoder by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtnas.base.tables import lookup
from mtnas.encoders.base import Encoder
from mtnas.encoders.settings import chosen_options, sized
from mtnas.encoders.table import ENCODERS, PER_TASK


def make_encoder(
    name: str,
    *,
    width: int = 0,
    depth: Sequence[int] = (),
    in_channels: int = 3,
    output_stride: int = 16,
    options: Mapping[str, int | str] | None = None,
    tasks: Sequence[str] = (),
) -> Encoder:
    """A new encoder with freshly drawn weights (from torch's default generator).

    Args:
        name: a row of `ENCODERS`.
        width: channels of the stem; 0 = the encoder's own.
        depth: blocks of each stage; empty = the encoder's own.
        in_channels: channels of the image.
        output_stride: the coarsest stride.
        options: what else the encoder reads (`OPTIONS`); the encoder's own where 0, empty or left out.
        tasks: names of the tasks, for encoders that give each maps of its own (`PER_TASK`); the others ignore them.
    """
    width, depth = sized(name, width, depth)
    encoder: type[Encoder] = lookup(name, ENCODERS, "encoder", "model.encoder")
    made: Encoder = encoder(  # type: ignore[call-arg]
        width=width,
        depth=depth,
        in_channels=in_channels,
        output_stride=output_stride,
        **chosen_options(name, options or {}),
        **({"tasks": tuple(tasks)} if name in PER_TASK else {}),
    )
    return made
