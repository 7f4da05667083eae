"""How many images stand behind each score and each re-estimated statistic, and what scores are compared with."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name

REFERENCES: dict[str, str] = {
    "none": "nothing",
    "full": "the unpruned supernet",
    "train": "single-task networks",
}


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Images per score during the search; the report split is always scored whole."""

    calibrate_images: int = 128
    """Images of the calibrate split behind re-estimated batch-norm statistics."""
    select_images: int | None = None
    """Images of the select split behind each score of the search; null = all of them."""
    batch_size: int = 32
    """Images per forward pass; scores do not depend on it."""

    def __post_init__(self) -> None:
        for name in ("calibrate_images", "batch_size"):
            if getattr(self, name) < 2:
                raise JobError("at least 2 images", received=str(getattr(self, name)), where=f"score.{name}")
        if self.select_images is not None and self.select_images < 1:
            raise JobError("at least one image, or null", received=str(self.select_images), where="score.select_images")


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
        check_name(self.mode, REFERENCES, "mode", "references.mode")
        if self.epochs is not None and self.epochs < 1:
            raise JobError("at least one epoch, or null", received=str(self.epochs), where="references.epochs")
