"""What the processes of the tests of `ranks` run: trainings by name, one after the other.

torchrun --nproc-per-node 2 together.py OUT WAIT_SECONDS NAME...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from step_toys import norm_free, normed, normed_elastic, sandwiched, tuned
from train_toys import toy_elastic

from mtnas.base.optional import available
from mtnas.train.balance.table import BALANCES, EXTRAS
from mtnas.train.ranks import joined

#: no augmentation: each process draws its own
ALIKE = {"augment": False, "batch_size": 8}
#: options of a sandwich with batch-norm; one process does the same in twice as many parts of a step
OPTIONS: dict[str, dict[str, object]] = {
    "reused": {"feature_distill": "slice", "decoders_per_encoder": 2, "random_widths": 1, "start": "start.pt"},
    "resorted": {"feature_distill": "project", "resort_epochs": 1, "ema": 0.9},
    "opening": {"warm_share": 0.2, "progressive": 0.7, "resort_openings": True, "accumulate": 2, "ema": 0.5},
    "followed": {"feature_distill": "attention", "random_widths": 3},
    "weighed": {"feature_distill": "gram", "balance": "nash" if available("torchjd") else "dwa", "resort_epochs": 1},
}
USABLE = [name for name in sorted(BALANCES) if all(map(available, EXTRAS.get(name, ())))]


def case(name: str, out: Path, **more: object) -> dict[str, torch.Tensor]:
    """The weights of one training; its settings follow from its name."""
    kind, _, detail = name.partition("-")
    if kind == "balance":
        return tuned(out, **ALIKE, balance=detail, epochs=1, **more)
    if kind == "sandwich":
        settings = {"features": {"feature_distill": "project"}, "parts": {"accumulate": 2, "ema": 0.9}}.get(detail, {})
        return sandwiched(out, **ALIKE, **settings, **more)
    if kind == "options":
        settings = {**ALIKE, **OPTIONS[detail], **more}
        if "start" in settings:
            settings["start"] = start_file(out.parent)
        return sandwiched(out, normed_elastic(), **settings)
    if kind == "uneven":  # seven images for two processes
        return tuned(out, norm_free(norm=True), **{**ALIKE, "batch_size": 7}, **more)
    assert kind == "long"  # batch-norm, augmentation, trials, everything on
    settings = {"accumulate": 2, "ema": 0.9, "balance": "famo", "batch_size": 8, "epochs": 12, "augment": True}
    settings |= {"resort_epochs": 2}
    trials = {"precision": "float32", "channels_last": "always", "checkpoint_seconds": 0.05}
    return sandwiched(out, toy_elastic(seed=int(os.environ.get("RANK", "0"))), **settings, **trials, **more)


def start_file(folder: Path) -> str:
    """A checkpoint to start from; processes may write it at the same time."""
    folder.mkdir(exist_ok=True)
    written = folder / f"start.{os.getpid()}"
    torch.save(normed(seed=3).state_dict(), written)
    return str(written.rename(folder / "start.pt"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with joined(float(sys.argv[2])) as ranks:
        (folder / f"pid{ranks.rank}").write_text(str(os.getpid()))
        for name in sys.argv[3:]:
            state = case(name, folder / name)
            np.savez(folder / f"{name}.{ranks.rank}.npz", **{key: tensor.numpy() for key, tensor in state.items()})
