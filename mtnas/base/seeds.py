"""One root seed, many independent named generators."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(root: int, *names: str | int) -> int:
    """A 63-bit seed that depends on the root and on every name, stable across processes."""
    text = "/".join([str(root), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(root: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for one purpose, independent of every other purpose."""
    return np.random.default_rng(derive_seed(root, *names))
