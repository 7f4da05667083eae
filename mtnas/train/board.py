"""Curves for TensorBoard, beside `curves.jsonl`; the bridge to the package `tensorboard`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtnas.base.optional import require

FOLDER = "tensorboard"


def check_tensorboard(wanted: bool, where: str = "train.tensorboard") -> None:
    """Raise `PackageMissing` where it is wanted and not there."""
    if wanted:
        require("tensorboard", extra="tensorboard", why=where)


class Board:
    """Writes the records of curves as scalars; points of steps that a resumed run will take again are dropped.

    Args:
        out: folder of the training; the events go into a folder in it.
        step: steps done so far.
    """

    def __init__(self, out: Path, step: int, where: str) -> None:
        check_tensorboard(True, where)
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(out / FOLDER), purge_step=step + 1)  # type: ignore[no-untyped-call]

    def add(self, record: Mapping[str, Any]) -> None:
        """One record of the curves."""
        for name, value in scalars(record).items():
            self.writer.add_scalar(name, value, record["step"])  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self.writer.close()  # type: ignore[no-untyped-call]


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """What a record holds, by tag."""
    found = {name: float(record[name]) for name in ("lr", "norm", "epoch")}
    found["loss/total"] = float(record["total"])
    found |= {f"loss/{task}": float(value) for task, value in record["losses"].items()}
    for network, scores in record.get("scores", {}).items():
        found |= {f"score {network}/{task}": float(value) for task, value in scores.items()}
    return found
