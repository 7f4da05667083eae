"""An exported file as a forward function, so that the same metrics judge it as judged the trained network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from torch import Tensor

from mtnas.quantize.session import open_session, run_images

Forward = Callable[[Tensor], dict[str, Tensor]]


def onnx_forward(model: Path | onnx.ModelProto | bytes, *, threads: int = 1) -> Forward:
    """`image_BCHW -> {task: raw output}` through onnxruntime on the CPU, for any number of images a call."""
    session = open_session(model, threads=threads)

    def forward(image_BCHW: Tensor) -> dict[str, Tensor]:
        outputs = run_images(session, image_BCHW.detach().cpu().float().numpy())
        return {name: torch.from_numpy(value) for name, value in outputs.items()}

    return forward
