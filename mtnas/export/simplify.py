"""Simplifying with onnxslim: constants folded, unused arrays dropped; refused where an output changes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx

from mtnas.base.optional import require
from mtnas.quantize.prepare import clean
from mtnas.quantize.session import open_session, run_images

#: rounding of kernels that a simpler graph may run in another order, relative to the output's scale
_TOLERANCE = 1e-5
#: what the tool raises on a graph that it does not understand
_STUMBLES = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
)


def simplified(model: onnx.ModelProto, image_BCHW: np.ndarray) -> tuple[onnx.ModelProto | None, str]:
    """A simpler graph with the same outputs on these images, or None and why there is none.

    The model given is left alone; notes in its metadata are kept.
    """
    tool = require("onnxslim", why="simplifying")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        with _quiet():
            simple: onnx.ModelProto = tool.slim(copy)
        onnx.checker.check_model(simple, full_check=True)
    except _STUMBLES as error:
        return None, f"onnxslim could not read it: {str(error)[:200]}"
    del simple.graph.value_info[:]  # shapes that every runtime infers by itself
    onnx.helper.set_model_props(simple, {entry.key: entry.value for entry in model.metadata_props})
    fewer = len(simple.graph.node) < len(model.graph.node)
    if not fewer and clean(simple).ByteSize() >= clean(model).ByteSize():
        return None, "there is nothing to simplify"
    return (simple, "") if _same_outputs(model, simple, image_BCHW) else (None, "onnxslim changed the outputs")


def _same_outputs(model: onnx.ModelProto, simple: onnx.ModelProto, image_BCHW: np.ndarray) -> bool:
    before, after = (run_images(open_session(each), image_BCHW) for each in (model, simple))
    if before.keys() != after.keys():
        return False
    return all(
        value.shape == after[name].shape
        and np.abs(value - after[name]).max() <= _TOLERANCE * max(float(np.abs(value).max()), 1e-12)
        for name, value in before.items()
    )


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("onnxslim")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
