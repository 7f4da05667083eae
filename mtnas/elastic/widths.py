"""Which widths each group may have: the space of a network, in units of its groups."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mtnas.base.groups import ChannelGroup
from mtnas.space.choice import Choice
from mtnas.space.rules import SpaceRules
from mtnas.space.space import Space


def channels_per_unit(group: ChannelGroup) -> int:
    """Channels that a unit has in its narrowest producer: more than one where a grouped convolution ties blocks."""
    rows = [member.positions_UK[0] for member in group.members if member.role == "out"]
    return min((len(row) for row in rows), default=1)


def width_options(group: ChannelGroup, rules: SpaceRules, round_to: int) -> tuple[int, ...]:
    """Widths in units, ascending, the last one whole; channels are multiples of `round_to` where that is possible."""
    per_unit = channels_per_unit(group)
    channels = rules.options(group.name, group.size * per_unit, len(group.owners), math.lcm(round_to, per_unit))
    return tuple(sorted({max(1, round(width / per_unit)) for width in channels}))


def space_of(groups: Sequence[ChannelGroup], rules: SpaceRules, round_to: int) -> Space:
    """One choice for every elastic group that has at least two widths."""
    choices = []
    for group in groups:
        options = width_options(group, rules, round_to) if group.elastic else ()
        if len(options) > 1:
            choices.append(Choice(group.name, options, "width", group.owners))
    return Space(tuple(choices))
