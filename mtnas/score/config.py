"""How many images stand behind each score and each re-estimated statistic."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.base.errors import JobError


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
