"""Opening, reading and changing the fabricated trees."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from fabricated import H, W

from mtnas.data.base import Dataset
from mtnas.data.config import SPLITS, DataConfig
from mtnas.data.open import open_dataset


def opened(name: str, root: Path, height: int = H, width: int = W, **changes: object) -> Dataset:
    config = DataConfig(name=name, root=str(root), height=height, width=width, **changes)  # type: ignore[arg-type]
    return open_dataset(config)


def read_all(name: str, root: Path) -> None:
    data = opened(name, root)
    for split in SPLITS:
        data.split(split)


def keys_of(data: Dataset, split: str) -> list[str]:
    return list(data.split(split)._keys)  # type: ignore[attr-defined]


def one(data: Dataset, split: str = "report", index: int = 0) -> dict[str, torch.Tensor]:
    return {name: target[0] for name, target in data.split(split).batch([index])[1].items()}


def edited(trees: Callable[[str], Path], name: str, to: Path) -> Path:
    return Path(shutil.copytree(trees(name), to / name))
