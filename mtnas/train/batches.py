"""Which images a step sees: a function of the seed and the step alone, so that a resumed run sees the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from mtnas.base.errors import DataError
from mtnas.base.seeds import generator
from mtnas.data.base import Batch, Split
from mtnas.train.ranks import Ranks


@dataclass(frozen=True)
class Batches:
    """Every epoch is a permutation of its own, without the incomplete last batch.

    Args:
        split: the images.
        batch_size: images per step, at most the whole split.
        seed: root of order and augmentation.
        augment: whether images are augmented; processes draw for themselves.
        ranks: the processes that train together; each takes its part of every step.
    """

    split: Split
    batch_size: int
    seed: int
    augment: bool
    ranks: Ranks = Ranks()

    def __post_init__(self) -> None:
        if len(self.split) < 2:
            raise DataError("at least two images to train on", received=str(len(self.split)), where=self.split.name)

    @property
    def per_epoch(self) -> int:
        return max(1, len(self.split) // self.batch_size)

    def indices(self, step: int) -> np.ndarray:
        """The images of a step in all processes, in order."""
        epoch, position = divmod(step, self.per_epoch)
        order_N = generator(self.seed, "order", epoch).permutation(len(self.split))
        return order_N[position * self.batch_size : (position + 1) * self.batch_size]

    def at(self, step: int) -> Batch:
        """Images and targets of a step, those of this process."""
        names = (step, self.ranks.rank) if self.ranks.rank else (step,)
        rng = generator(self.seed, "augment", *names) if self.augment else None
        return self.split.batch(np.array_split(self.indices(step), self.ranks.count)[self.ranks.rank], rng)

    def stream(self, first: int, last: int, ahead: bool = True) -> Iterator[Batch]:
        """Batches of steps first..last-1; with `ahead`, the next one is prepared in a thread while this one is used.

        That thread uses no helpers: left to itself, every thread that calls torch gets a team of OpenMP threads of its
        own, as large as the machine has cores, which then fight with those of the training step.
        """
        if not ahead:
            yield from map(self.at, range(first, last))
            return
        with ThreadPoolExecutor(1, "batches", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            upcoming = pool.submit(self.at, first) if first < last else None
            for step in range(first, last):
                assert upcoming is not None
                batch = upcoming.result()
                upcoming = pool.submit(self.at, step + 1) if step + 1 < last else None
                yield batch

    def fingerprint(self) -> str:
        """Hash of the split's size and of three of its images and their labels."""
        last = len(self.split) - 1
        image_BCHW, targets = self.split.batch(np.array([0, last // 2, last]))
        digest = hashlib.sha256(f"{self.split.name}/{len(self.split)}".encode())
        for name, tensor in [("image", image_BCHW), *sorted(targets.items())]:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
        return digest.hexdigest()[:16]
