"""Numeric agreement of an exported file with its reference, head by head, relative to each output's own scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtnas.base.errors import VerificationFailed
from mtnas.quantize.session import open_session, run_images
from mtnas.verify.config import FLOAT_TOLERANCE


@dataclass(frozen=True)
class HeadError:
    """How far one head of the file is from the reference.

    Args:
        task: the head.
        shape: of its output, batch included.
        largest: largest absolute difference over the reference's largest absolute value.
        rms: root-mean-square difference over the reference's standard deviation.
        tolerance: what `kind` may reach.
        kind: which of the two is judged, `largest` or `rms`.
    """

    task: str
    shape: tuple[int, ...]
    largest: float
    rms: float
    tolerance: float
    kind: str = "largest"

    @property
    def error(self) -> float:
        return self.largest if self.kind == "largest" else self.rms

    @property
    def ok(self) -> bool:
        """NaN is not ok."""
        return self.error <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def compare(
    onnx_path: Path,
    reference: Mapping[str, np.ndarray],
    image_BCHW: np.ndarray,
    tolerances: Mapping[str, float] | float = FLOAT_TOLERANCE,
    *,
    kind: str = "largest",
    threads: int = 1,
) -> tuple[HeadError, ...]:
    """Run the file on images and compare every head.

    Args:
        onnx_path: the exported file.
        reference: expected outputs by task, in order.
        image_BCHW: the images they belong to.
        tolerances: one for all, or by task.
        kind: `largest` for float files, `rms` for int8 files.
        threads: of onnxruntime.

    Raises:
        VerificationFailed: outputs are missing, renamed, reordered or have another shape.
    """
    outputs = run_images(open_session(onnx_path, threads=threads), image_BCHW)
    if list(outputs) != list(reference):
        raise VerificationFailed(
            f"outputs {list(reference)}",
            received=str(list(outputs)),
            where=str(onnx_path),
            cure="export again; an output was renamed or lost",
        )
    heads = []
    for task, expected in reference.items():
        tolerance = tolerances if isinstance(tolerances, float) else tolerances.get(task, FLOAT_TOLERANCE)
        heads.append(_head(task, expected, outputs[task], onnx_path, (tolerance, kind)))
    return tuple(heads)


def _head(task: str, expected: np.ndarray, received: np.ndarray, path: Path, judged: tuple[float, str]) -> HeadError:
    if received.shape != expected.shape:
        raise VerificationFailed(
            f"output {task!r} of shape {expected.shape}", received=str(received.shape), where=str(path)
        )
    difference = received.astype(np.float64) - expected
    scale = float(np.abs(expected).max()) or 1.0
    spread = float(expected.std()) or scale
    largest = float(np.abs(difference).max()) / scale
    rms = float(np.sqrt(np.mean(difference**2))) / spread
    return HeadError(task, tuple(received.shape), largest, rms, *judged)


def require(heads: tuple[HeadError, ...], where: str) -> None:
    """Raise `VerificationFailed` naming the head that is furthest beyond its tolerance."""
    wrong = [head for head in heads if not head.ok]
    if not wrong:
        return
    worst = max(wrong, key=lambda head: np.nan_to_num(head.error / head.tolerance, nan=np.inf))
    raise VerificationFailed(
        f"{worst.task} within {worst.tolerance:g} of the reference",
        received=f"{worst.error:.3g} ({worst.kind} relative error), {len(wrong)} of {len(heads)} heads are off",
        where=where,
        cure="the file does not compute what the trained network computes: export it again",
    )
