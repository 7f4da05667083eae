"""Make a head by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtnas.base.tables import lookup
from mtnas.heads.base import Head
from mtnas.heads.joint import JointHead
from mtnas.heads.table import HEADS, JOINT_HEADS


def make_head(name: str, *, level_channels: Sequence[int], channels: int, width: int, convs: int = 2) -> Head:
    """A new head with freshly drawn weights (from torch's default generator).

    Args:
        name: a row of `HEADS`.
        level_channels: channels of the encoder's levels, fine to coarse.
        channels: channels of the output.
        width: hidden channels.
        convs: hidden convolutions.
    """
    head: type[Head] = lookup(name, HEADS, "head", "model")
    made: Head = head(level_channels, channels, width, convs)  # type: ignore[call-arg]
    return made


def make_joint_head(
    name: str, *, level_channels: Sequence[int], channels: Mapping[str, int], width: int, convs: int = 2
) -> JointHead:
    """A new joint decoder with freshly drawn weights (from torch's default generator).

    Args:
        name: a row of `JOINT_HEADS`.
        level_channels: channels of the encoder's levels, fine to coarse.
        channels: channels of each task's output, at least one task.
        width: hidden channels.
        convs: hidden convolutions of each task.
    """
    head: type[JointHead] = lookup(name, JOINT_HEADS, "head", "model.dense_head")
    made: JointHead = head(level_channels, channels, width, convs)  # type: ignore[call-arg]
    return made
