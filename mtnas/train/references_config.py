"""What the delivered networks are compared with. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name

MODES: dict[str, str] = {
    "none": "nothing",
    "full": "the unpruned supernet",
    "train": "single-task networks",
}


@dataclass(frozen=True, kw_only=True)
class ReferencesConfig:
    """What scores are compared with in the report's delta columns."""

    mode: str = "full"
    """none, full (the unpruned supernet, which costs nothing more), or train: one single-task network for each task."""
    epochs: int | None = None
    """Passes over the train split for each single-task network; null = as many as `train.epochs`."""
    cache: str | None = None
    """Folder of trained references, which runs may share; null = `.references` beside the run's folder."""

    def __post_init__(self) -> None:
        check_name(self.mode, MODES, "mode", "references.mode")
        if self.epochs is not None and self.epochs < 1:
            raise JobError("at least one epoch, or null", received=str(self.epochs), where="references.epochs")
