"""Verification of a delivered file: hash, names, shapes, numbers and metrics, head by head, float and int8.

Two comparisons, because a quantized file cannot equal the trained network: the float file must compute what torch
computes up to rounding; the delivered file, when it is int8, must stay near the float file, and every task's metric on
it must keep its floor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtnas.base.errors import FloorMissed, VerificationFailed
from mtnas.export.manifest import Manifest
from mtnas.quantize.session import open_session, run_images
from mtnas.verify import numerics
from mtnas.verify.config import VerifyConfig
from mtnas.verify.metrics import Forward, onnx_forward
from mtnas.verify.numerics import HeadError

SCHEMA = "verify/1"
Scores = Mapping[str, Mapping[str, float]]
ScoreForward = Callable[[Forward], Scores]


@dataclass(frozen=True)
class Primary:
    """The metric by which a task is judged, and the worst value allowed."""

    metric: str
    higher_is_better: bool
    floor: float | None = None

    def kept(self, value: float) -> bool:
        if self.floor is None:
            return True
        return value >= self.floor if self.higher_is_better else value <= self.floor


@dataclass(frozen=True)
class Subject:
    """What is verified.

    Args:
        folder: holds the delivered file and its manifest.
        float_model: the float file that the delivered one was made from; the delivered file itself when that is float.
        reference: the trained network, ready to run: images to raw outputs by task.
        image_BCHW: normalised images for the numeric comparison.
        primaries: the judged metric by task.
        split: name of the split the metrics are computed on.
    """

    folder: Path
    float_model: Path
    reference: Callable[[Tensor], Mapping[str, Tensor]]
    image_BCHW: Tensor
    primaries: Mapping[str, Primary] = field(default_factory=dict)
    split: str = "report"


@dataclass(frozen=True)
class HeadResult:
    """Everything known about one head of the delivered file.

    Args:
        float_error: float file against the trained network.
        delivered_error: delivered file against the float file.
        metrics: `torch`, `onnx` (float file) and `delivered`, each metric by name.
        primary: metric, direction, floor.
        problems: what is wrong, in words; empty when all is well.
    """

    task: str
    float_error: HeadError
    delivered_error: HeadError
    metrics: Mapping[str, Mapping[str, float]]
    primary: Primary | None
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "output": self.task,
            "shape": list(self.float_error.shape),
            "max_relative_error_float": self.float_error.largest,
            "tolerance": self.float_error.tolerance,
            "float_error": self.float_error.to_json(),
            "delivered_error": self.delivered_error.to_json(),
            "metrics": {kind: dict(values) for kind, values in self.metrics.items()},
            "metric": self.primary.metric if self.primary else None,
            "floor": self.primary.floor if self.primary else None,
            "problems": list(self.problems),
            "ok": self.ok,
        }


@dataclass(frozen=True)
class VerifyResult:
    """The verdict on one delivered file."""

    model_sha256: str
    precision: str
    heads: tuple[HeadResult, ...]
    split: str
    images: int

    @property
    def passed(self) -> bool:
        return all(head.ok for head in self.heads)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "model_sha256": self.model_sha256,
            "precision": self.precision,
            "split": self.split,
            "images": self.images,
            "heads": [head.to_json() for head in self.heads],
        }

    def require(self) -> None:
        """Raise `VerificationFailed` naming head, error and tolerance, or `FloorMissed` when only a floor is missed."""
        numerics.require(tuple(head.float_error for head in self.heads), "float file against the trained network")
        numerics.require(tuple(head.delivered_error for head in self.heads), "delivered file against the float file")
        wrong = [head for head in self.heads if not head.ok]
        if not wrong:
            return
        only_floors = all("floor" in problem for head in wrong for problem in head.problems)
        kind = FloorMissed if only_floors else VerificationFailed
        raise kind(
            "every head as trained and above its floor",
            received="; ".join(f"{head.task}: {', '.join(head.problems)}" for head in wrong),
            where=f"delivered file, {self.split} split",
            cure="relax the floor, or set quantize.enabled: false when int8 alone misses it",
        )


def verify(subject: Subject, score: ScoreForward | None = None, config: VerifyConfig | None = None) -> VerifyResult:
    """Verify a delivered file; the result says what passed, `result.require()` raises when something did not.

    Args:
        subject: files, reference and images.
        score: every metric of every task for a forward function; without it only numbers are compared.
        config: tolerances.

    Raises:
        VerificationFailed: the file is not the one its manifest describes, or its outputs are named or shaped wrong.
    """
    config = config or VerifyConfig()
    manifest = Manifest.load(subject.folder / "manifest.json")
    delivered = manifest.check(subject.folder)
    image_BCHW = subject.image_BCHW[: config.images]
    expected = _reference(subject, image_BCHW)
    _check_manifest(manifest, expected)
    image = image_BCHW.cpu().float().numpy()
    float_heads = numerics.compare(subject.float_model, expected, image, config.float_tolerance)
    delivered_heads = _compare_delivered(subject, delivered, manifest, image, config)
    scores = _scores(subject, delivered, score, config)
    heads = [
        _judged(HeadResult(task, exported, given, _metrics(scores, task), subject.primaries.get(task)), config)
        for task, exported, given in zip(expected, float_heads, delivered_heads, strict=True)
    ]
    return VerifyResult(manifest.sha256, manifest.precision, tuple(heads), subject.split, len(image))


def _reference(subject: Subject, image_BCHW: Tensor) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        return {name: value.float().cpu().numpy() for name, value in subject.reference(image_BCHW).items()}


def _check_manifest(manifest: Manifest, expected: Mapping[str, np.ndarray]) -> None:
    """Names in order, and every axis the manifest states."""
    stated = {output.task: output.shape for output in manifest.outputs}
    if list(stated) != list(expected):
        raise VerificationFailed(f"outputs {list(expected)}", received=str(list(stated)), where="manifest")
    for task, value in expected.items():
        if tuple(stated[task][1:]) != value.shape[1:]:
            raise VerificationFailed(
                f"output {task!r} of shape {('B', *value.shape[1:])}", received=str(stated[task]), where="manifest"
            )


def _compare_delivered(
    subject: Subject, delivered: Path, manifest: Manifest, image: np.ndarray, config: VerifyConfig
) -> tuple[HeadError, ...]:
    """Against the float file: equal up to rounding when float, near when int8."""
    reference = run_images(open_session(subject.float_model), image)
    if manifest.precision == "int8":
        return numerics.compare(delivered, reference, image, config.int8_tolerance, kind="rms")
    return numerics.compare(delivered, reference, image, config.float_tolerance)


def _scores(subject: Subject, delivered: Path, score: ScoreForward | None, config: VerifyConfig) -> dict[str, Scores]:
    if score is None:
        return {}
    float_scores = score(onnx_forward(subject.float_model, threads=config.threads))
    same = subject.float_model.read_bytes() == delivered.read_bytes()
    return {
        "torch": score(lambda image_BCHW: dict(subject.reference(image_BCHW))),
        "onnx": float_scores,
        "delivered": float_scores if same else score(onnx_forward(delivered, threads=config.threads)),
    }


def _metrics(scores: Mapping[str, Scores], task: str) -> dict[str, dict[str, float]]:
    return {kind: dict(values.get(task, {})) for kind, values in scores.items()}


def _judged(head: HeadResult, config: VerifyConfig) -> HeadResult:
    """The head with its problems named."""
    problems = []
    for kind, error in (("float", head.float_error), ("delivered", head.delivered_error)):
        if not error.ok:
            problems.append(f"{kind} file: {error.kind} error {error.error:.3g} above {error.tolerance:g}")
    if head.primary is not None and head.metrics:
        problems.extend(_metric_problems(head, head.primary, config))
    return replace(head, problems=tuple(problems))


def _metric_problems(head: HeadResult, primary: Primary, config: VerifyConfig) -> list[str]:
    name = primary.metric
    trained, exported, delivered = (head.metrics[kind][name] for kind in ("torch", "onnx", "delivered"))
    problems = []
    if not abs(exported - trained) <= config.metric_tolerance_percent / 100.0 * max(abs(trained), 1e-12):
        problems.append(f"{name} {exported:.5g} on the float file, {trained:.5g} trained")
    if not primary.kept(delivered):
        problems.append(f"{name} {delivered:.5g} misses its floor {primary.floor:.5g}")
    return problems
