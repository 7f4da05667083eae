"""The learning rate of a step: linear warm-up, then half a cosine to zero."""

from __future__ import annotations

import math


def learning_rate(step: int, *, total: int, warmup: int, peak: float) -> float:
    """The rate of step `step` out of `total`; `peak` is reached at the end of `warmup` steps."""
    warmup = min(warmup, max(total - 1, 0))
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
