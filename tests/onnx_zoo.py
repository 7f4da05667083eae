"""Zoo models as ONNX files, exported once per test run, with their images and reference outputs."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
import zoo

from mtnas.export.config import ExportConfig
from mtnas.export.onnx_file import export_onnx


@functools.cache
def exported(name: str, dynamic: bool = False) -> onnx.ModelProto:
    """One zoo model as ONNX (batch 1 unless dynamic); callers must not change it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        return export_onnx(zoo.build(name), zoo.image(1), path, ExportConfig(dynamic_batch=dynamic))


def images(count: int = 8, seed: int = 1) -> np.ndarray:
    """Random images (count,3,side,side) as float32."""
    return zoo.image(count, seed=seed).numpy()


def calibration(batches: int = 4) -> list[np.ndarray]:
    return [images(8, seed=10 + i) for i in range(batches)]


def reference(name: str, image_BCHW: np.ndarray) -> dict[str, np.ndarray]:
    """The torch model's outputs."""
    with torch.no_grad():
        return {task: value.numpy() for task, value in zoo.build(name)(torch.from_numpy(image_BCHW)).items()}
