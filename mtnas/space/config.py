"""What a job says about its search space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mtnas.base.errors import JobError


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """Which widths, and with a space such as `depth` which depths, the network may take."""

    rules: str = "default"
    """A shipped search space (`default`, `fine`, `depth`, ...) or a path to a YAML file."""
    round_to: int | Literal["device", "probe"] = "device"
    """Widths are multiples of this; a `round_to` in the rules goes before it. `device`: the step that the device's
    description states. `probe`: the step that a short measurement finds, for every precision that may be delivered."""
    ignored_layers: tuple[str, ...] = ()
    """Names of layers that keep their full width."""

    def __post_init__(self) -> None:
        if isinstance(self.round_to, int) and self.round_to < 1:
            raise JobError("a whole number of at least 1", received=str(self.round_to), where="space.round_to")
