"""Inputs for a network that is only timed, and the names of the shapes in which runtimes describe them."""

from __future__ import annotations

from typing import Any, Callable, Dict, Sequence, Tuple

import numpy as np

Spec = Tuple[str, str, Tuple[Any, ...]]  # name, element type, shape with None for a free dimension
Call = Callable[[], Any]
Arrays = Dict[str, np.ndarray]


def random_inputs(specs: Sequence[Spec], seed: int = 0) -> Arrays:
    """Standard normal images (zeros for integer inputs), reproducible; free dimensions become 1."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, dtype, shape in specs:
        fixed = [1 if d is None else d for d in shape]
        floating = np.issubdtype(np.dtype(dtype), np.floating)
        inputs[name] = rng.standard_normal(fixed).astype(dtype) if floating else np.zeros(fixed, dtype)
    return inputs
