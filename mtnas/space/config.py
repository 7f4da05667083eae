"""What a job says about its search space."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.base.errors import JobError


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """Which widths, and with a space such as `depth` which depths, the network may take."""

    rules: str = "default"
    """A shipped search space (`default`, `fine`, `depth`, ...) or a path to a YAML file."""
    round_to: int = 8
    """Widths are multiples of this; a `round_to` in the rules goes before it."""
    ignored_layers: tuple[str, ...] = ()
    """Names of layers that keep their full width."""

    def __post_init__(self) -> None:
        if self.round_to < 1:
            raise JobError("a whole number of at least 1", received=str(self.round_to), where="space.round_to")
