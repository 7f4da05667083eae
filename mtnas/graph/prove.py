"""Proof of a new elastic graph: the largest network computes what torch computes, and a few random cuts run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from mtnas.base.errors import ModelError
from mtnas.base.groups import Selection
from mtnas.base.optional import require
from mtnas.base.seeds import generator

if TYPE_CHECKING:
    from mtnas.graph.elastic_graph import ElasticGraph

TOLERANCE = 1e-3
CUTS = 2


def run_model(model: onnx.ModelProto, image_BCHW: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs of a model in onnxruntime, on one thread."""
    ort = require("onnxruntime", why="running ONNX files")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image_BCHW}), strict=True))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest expected value."""
    return float(np.abs(found - expected).max(initial=0.0) / max(np.abs(expected).max(initial=0.0), 1e-12))


def random_selection(graph: ElasticGraph, rng: np.random.Generator) -> Selection:
    """Every elastic group keeps a random number of random units."""
    kept = {}
    for group in graph.groups:
        if group.elastic:
            width = int(rng.integers(1, group.size + 1))
            kept[group.name] = rng.choice(group.size, width, replace=False).tolist()
    return Selection.of(kept)


def prove(graph: ElasticGraph, image_BCHW: np.ndarray, expected: Mapping[str, np.ndarray]) -> None:
    """Raise `ModelError` unless the largest network is right and random cuts give outputs of the right shape."""
    found = run_model(graph.full_model(), image_BCHW)
    for name, array in expected.items():
        if found[name].shape != array.shape or not relative_error(found[name], array) <= TOLERANCE:
            raise ModelError(
                f"output {name!r} of the exported network as in torch",
                received=f"relative error {relative_error(found[name], array):.1e}"
                if found[name].shape == array.shape
                else f"shape {found[name].shape}",
                where="elastic graph",
                cure="the model depends on something the exporter cannot see; keep forward() pure",
            )
    rng = generator(0, "graph", "prove")
    for _ in range(CUTS):
        outputs = run_model(graph.cut(random_selection(graph, rng)), image_BCHW[:1])
        for name, array in expected.items():
            if outputs[name].shape[1:] != array.shape[1:]:
                raise ModelError(f"shape {array.shape[1:]} of output {name!r}", received=str(outputs[name].shape[1:]))
