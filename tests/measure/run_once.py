"""What a runtime answers to one image, and how far that is from what was expected."""

from __future__ import annotations

import numpy as np
import onnx

from mtnas.device.networks import network_class


def run(runtime: str, model: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    opened = network_class(runtime)(model.SerializeToString(), threads=1)
    try:
        return {name: np.array(output) for name, output in opened.run({"image": image}).items()}
    finally:
        opened.close()


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square difference over the expected one's deviation."""
    assert found.shape == expected.shape
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
