"""What a job says about its data. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name
from mtnas.data.table import DATASETS

SPLITS = ("train", "calibrate", "select", "report")
#: numbers of segmentation classes a set can deliver, the usual one first
CLASSES: dict[str, tuple[int, ...]] = {
    "nyuv2": (13, 39, 40),
    "cityscapes-mtan": (7, 19, 2),
    "cityscapes-official": (19, 7),
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data, at which size."""

    name: str = "scenes"
    """A row of `data.table.DATASETS`."""
    root: str | None = None
    """Folder of a set on disk; without it, `$MTNAS_DATA/<name>`. Generated sets need none."""
    height: int = 64
    """Rows of the images the network sees."""
    width: int = 64
    """Columns of the images the network sees."""
    train: int | None = None
    """Images to train on; without it, all (or the generator's default)."""
    calibrate: int | None = None
    """Images for batch-norm statistics, quantization ranges and pruning decisions."""
    select: int | None = None
    """Images the search scores on."""
    report: int | None = None
    """Images for the final numbers; read only at the end."""
    classes: int | None = None
    """Segmentation classes, where a set offers several (`CLASSES`); the first of them without it."""
    targets: tuple[str, ...] = ()
    """Targets to deliver; empty for all."""

    def __post_init__(self) -> None:
        check_name(self.name, DATASETS, "data set", where="data.name")
        for side in ("height", "width"):
            if getattr(self, side) < 16:
                raise JobError("at least 16 pixels", received=str(getattr(self, side)), where=f"data.{side}")
        for split in SPLITS:
            if (count := getattr(self, split)) is not None and count < 1:
                raise JobError("at least one image", received=str(count), where=f"data.{split}")
        # resolved jobs of earlier versions say 13 for every set
        offered = CLASSES.get(self.name, (13,))
        if self.classes is not None and self.classes not in offered:
            raise JobError(
                f"one of {', '.join(map(str, offered))} classes",
                received=str(self.classes),
                where="data.classes",
                cure="" if self.name in CLASSES else f"remove it: the classes of {self.name} are given",
            )
