"""What the networks see: one PNG for an image and for each dense task's truth and predictions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtnas.base.files import write_bytes
from mtnas.stages.context import RunContext

if TYPE_CHECKING:
    from torch import Tensor

    from mtnas.score.score import Forward
    from mtnas.tasks.base import Task

#: dark blue to yellow, interpolated; near is bright
_DEPTH_RGB = np.array([[253, 231, 37], [94, 201, 98], [33, 145, 140], [59, 82, 139], [68, 1, 84]], dtype=float)
_GREY = np.array([96, 96, 96], dtype=np.uint8)


def write_pictures(
    context: RunContext, forwards: Mapping[str, Forward], indices: Sequence[int], folder: Path
) -> list[dict[str, Any]]:
    """PNG files for some images of the report split; one row per image, paths relative to the stage's folder.

    Args:
        context: the run.
        forwards: `before` and `after` networks.
        indices: images of the report split.
        folder: the verify stage's folder.
    """
    rows = []
    for index in indices:
        image_BCHW, targets = context.split("report").batch([index])
        row: dict[str, Any] = {"index": int(index), "image": f"pictures/{index}-image.png", "tasks": {}}
        _save(folder / row["image"], _photo(context, image_BCHW))
        outputs = {name: forward(image_BCHW) for name, forward in forwards.items()}
        for name, task in context.tasks.items():
            if not task.dense:
                continue
            truth = targets[name]
            scale = _depth_scale(truth) if task.spec.type in {"depth", "disparity"} else 1.0
            shown = {"truth": truth, **{key: task.predict(output[name]) for key, output in outputs.items()}}
            paths = {key: f"pictures/{index}-{name}-{key}.png" for key in shown}
            for key, values in shown.items():
                _save(folder / paths[key], colours(task, values.detach().cpu().numpy()[0], scale))
            row["tasks"][name] = paths
        rows.append(row)
    return rows


def colours(task: Task, values: np.ndarray, scale: float) -> np.ndarray:
    """(H, W, 3) uint8 for one image's labels or predictions, by task type."""
    painters = {
        "segmentation": _classes,
        "parts": _classes,
        "normals": _vectors,
        "edges": _probability,
        "saliency": _probability,
    }
    if task.spec.type == "depth":
        return _depth(values, scale)
    if task.spec.type == "disparity":
        # large disparity is near, as small depth is
        return _depth(np.where(values < 0, -1.0, np.maximum(scale - values, scale * 1e-3)), scale)
    return painters[task.spec.type](values)


def palette(count: int) -> np.ndarray:
    """(count, 3) distinguishable colours: hues on the golden angle, three lightnesses."""
    import colorsys

    rows = [colorsys.hls_to_rgb((0.11 + 0.61803 * k) % 1.0, (0.62, 0.45, 0.75)[k % 3], 0.62) for k in range(count)]
    return (np.array(rows) * 255).astype(np.uint8)


def _classes(labels_HW: np.ndarray) -> np.ndarray:
    labels = np.squeeze(labels_HW).astype(int)
    colour = palette(64)[np.clip(labels, 0, 63)]
    colour[labels == 255] = _GREY
    return colour


def _vectors(normals_CHW: np.ndarray) -> np.ndarray:
    rgb = np.moveaxis((normals_CHW + 1.0) * 127.5, 0, -1).clip(0, 255).astype(np.uint8)
    rgb[np.abs(normals_CHW).sum(axis=0) < 1e-6] = _GREY
    return rgb


def _probability(edges: np.ndarray) -> np.ndarray:
    grey = (255 - np.squeeze(edges).clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _depth(depth: np.ndarray, scale: float) -> np.ndarray:
    metres = np.squeeze(depth)
    at = np.clip(metres / scale, 0, 1) * (len(_DEPTH_RGB) - 1)
    low = np.floor(at).astype(int).clip(0, len(_DEPTH_RGB) - 2)
    part = (at - low)[..., None]
    rgb = (_DEPTH_RGB[low] * (1 - part) + _DEPTH_RGB[low + 1] * part).astype(np.uint8)
    rgb[metres <= 0] = _GREY
    return rgb


def _depth_scale(truth: Tensor) -> float:
    return float(truth.max()) or 1.0


def _photo(context: RunContext, image_BCHW: Tensor) -> np.ndarray:
    info = context.dataset.info
    image_HWC = np.moveaxis(image_BCHW[0].numpy(), 0, -1) * np.array(info.std) + np.array(info.mean)
    return (image_HWC.clip(0, 1) * 255).astype(np.uint8)


def _save(path: Path, rgb_HWC: np.ndarray) -> None:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rgb_HWC).save(stream, format="PNG", optimize=True)
    write_bytes(path, stream.getvalue())
