"""Settings of verification."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.base.errors import JobError

#: float kernels of two runtimes sum in different orders; 1e-6 is usual, a swapped or missing weight gives 1e-2 and more
FLOAT_TOLERANCE = 1e-4
#: root-mean-square error of int8 relative to the output's spread; 0.02-0.1 is usual, unrelated outputs give 1 and more
INT8_TOLERANCE = 0.35


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """How the exported file is compared with the trained network."""

    images: int = 16
    """Images of the numeric comparison."""
    threads: int = 1
    """Threads of onnxruntime while it scores; they do not change the numbers."""
    float_tolerance: float = FLOAT_TOLERANCE
    """Largest error of a float head relative to its output's scale."""
    int8_tolerance: float = INT8_TOLERANCE
    """Root-mean-square error of an int8 head relative to its output's spread."""
    metric_tolerance_percent: float = 1.0
    """A float file's metric may differ this much from the trained network's; a class may flip where two tie."""

    def __post_init__(self) -> None:
        for key in ("images", "threads"):
            if getattr(self, key) < 1:
                raise JobError("at least 1", received=str(getattr(self, key)), where=f"verify.{key}")
        for key in ("float_tolerance", "int8_tolerance", "metric_tolerance_percent"):
            if not getattr(self, key) > 0:
                raise JobError("above 0", received=str(getattr(self, key)), where=f"verify.{key}")
