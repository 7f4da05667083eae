"""Every dense task type can be shown, truth and prediction alike."""

from __future__ import annotations

import numpy as np
import pytest

from mtnas.stages.pictures import colours
from mtnas.tasks.base import TaskSpec, make_task
from mtnas.tasks.table import TASKS
from mtnas.train.build import is_dense

VALUES = {
    "segmentation": np.array([[0, 255]]),
    "parts": np.array([[1, 255]]),
    "depth": np.array([[[1.0, 0.0]]]),
    "disparity": np.array([[[3.0, -1.0]]]),
    "normals": np.array([[[0.0, 0.0]], [[0.0, 0.0]], [[-1.0, 0.0]]]),
    "edges": np.array([[[1.0, 0.0]]]),
    "saliency": np.array([[[1.0, 0.0]]]),
}


@pytest.mark.parametrize("kind", [kind for kind in TASKS if is_dense(kind)])
def test_colours(kind: str) -> None:
    """The second pixel is a hole where the type knows holes, and then grey."""
    task = make_task(TaskSpec("x", kind, {"normals": 3, "segmentation": 4, "parts": 4}.get(kind, 1)))
    rgb = colours(task, VALUES[kind].repeat(2, axis=-2), 4.0)
    assert rgb.shape == (2, 2, 3) and rgb.dtype == np.uint8
    assert rgb[0, 0].tolist() != rgb[0, 1].tolist()
    if kind not in {"edges", "saliency"}:
        assert rgb[0, 1].tolist() == [96, 96, 96]


def test_near_is_bright_in_depth_and_in_disparity() -> None:
    depth, disparity = (make_task(TaskSpec("x", kind, 1)) for kind in ("depth", "disparity"))
    near = [
        colours(depth, np.array([[[0.5, 3.5], [0.5, 3.5]]]), 4.0).sum(axis=-1)[0].tolist(),
        colours(disparity, np.array([[[3.5, 0.5], [3.5, 0.5]]]), 4.0).sum(axis=-1)[0].tolist(),
    ]
    assert near[0] == near[1] and near[0][0] > near[0][1]
