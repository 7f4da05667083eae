"""The door to all data sets."""

from __future__ import annotations

from mtnas.base.progress import Progress, Silent
from mtnas.base.tables import lookup
from mtnas.data.base import Dataset
from mtnas.data.config import DataConfig
from mtnas.data.table import DATASETS


def open_dataset(config: DataConfig, *, progress: Progress | None = None) -> Dataset:
    """Check and describe a data set; images are read or generated when a split is first asked for."""
    return lookup(config.name, DATASETS, "data set", where="data.name")(config, progress or Silent())
