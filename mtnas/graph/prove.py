"""Proof of a new elastic graph: the largest network computes what torch computes, and so does it without each block
and with each option of a fork; a few random cuts run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from mtnas.base.errors import ModelError
from mtnas.base.groups import Selection, Size
from mtnas.base.optional import require
from mtnas.base.seeds import generator
from mtnas.graph.forks import forks_of, varied
from mtnas.graph.resized import resizing_to

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    """Every elastic group keeps a random number of random units; blocks are left out half of the time; any options,
    any size.
    """
    kept = {}
    for group in graph.groups:
        if group.elastic:
            width = int(rng.integers(1, group.size + 1))
            kept[group.name] = rng.choice(group.size, width, replace=False).tolist()
    skipped = [name for name in graph.bypasses if rng.random() < 0.5]
    sizes = (None, *graph.sizes)
    size = sizes[int(rng.integers(len(sizes)))] if graph.sizes else None
    chosen = {fork.name: str(rng.choice(list(fork.options))) for fork in forks_of(graph.forks)}
    return Selection.of(kept, skipped, size, chosen)


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
        outputs = run_model(graph.cut(replace(random_selection(graph, rng), size=None)), image_BCHW[:1])
        for name, array in expected.items():
            if outputs[name].shape[1:] != array.shape[1:]:
                raise ModelError(f"shape {array.shape[1:]} of output {name!r}", received=str(outputs[name].shape[1:]))


def prove_blocks(graph: ElasticGraph, model: nn.Module, image_BCHW: Tensor) -> None:
    """Raise `ModelError` unless the graph without a block computes what torch computes when the block is skipped.

    Args:
        graph: the elastic graph.
        model: the network it was made from.
        image_BCHW: gives the shape of the images, which are random.
    """
    for name in graph.bypasses:
        error = _error_without(graph, model, image_BCHW, Selection.of({}, [name]))
        if not error <= TOLERANCE:
            raise ModelError(
                f"the graph without block {name!r} as in torch",
                received=f"relative error {error:.1e}",
                where="elastic graph",
                cure="name the blocks that may be left out with blocks=, without this one",
            )


def prove_forks(graph: ElasticGraph, model: nn.Module, image_BCHW: Tensor) -> None:
    """Raise `ModelError` unless the graph with each option computes what torch computes with it; see `prove_blocks`."""
    for chosen in varied(graph.forks):
        error = _error_without(graph, model, image_BCHW, Selection.of({}, chosen=chosen))
        if not error <= TOLERANCE:
            raise ModelError(
                f"the graph with {', '.join(f'{option} in {name}' for name, option in chosen.items())} as in torch",
                received=f"relative error {error:.1e}",
                where="elastic graph",
                cure="keep the forward of every option pure: the exporter sees them all in one pass",
            )


def prove_resized(graph: ElasticGraph, modules: Mapping[Size, nn.Module], image_BCHW: Tensor) -> None:
    """Raise `ModelError` unless the graph at each smaller input size, whole, without its blocks, and with each option
    of its forks, is as in torch.
    """
    blocks = [Selection.of({}, [name]) for name in graph.bypasses]
    options = [Selection.of({}, chosen=chosen) for chosen in varied(graph.forks)]
    for size, model in modules.items():
        for selection in (Selection.of({}), *blocks, *options):
            with resizing_to(size):
                error = _error_without(graph, model, image_BCHW, replace(selection, size=size))
                if not error <= TOLERANCE:
                    told = f"relative error {error:.1e}"
                    told += f" without {selection.skipped[0]}" if selection.skipped else ""
                    told += "".join(f" with {option} in {name}" for name, option in selection.chosen)
                    raise ModelError("outputs as in torch", received=told)


def _error_without(graph: ElasticGraph, model: nn.Module, image_BCHW: Tensor, selection: Selection) -> float:
    """How far the graph is from torch, blocks replaced by their input, forks by an option; infinity where a shape
    differs.
    """
    import torch

    image_BCHW = torch.randn(image_BCHW.shape, generator=torch.Generator().manual_seed(0))[:1]
    forwards: dict[str, Any] = {name: lambda x: x for name in selection.skipped}
    for name, option in selection.chosen:
        fork: Any = model.get_submodule(name)
        forwards[name] = fork.way(option)
    stores = {name: model.get_submodule(name).__dict__ for name in forwards}
    for name, forward in forwards.items():
        stores[name]["forward"] = forward
    try:
        with torch.no_grad():
            expected = {task: output.numpy() for task, output in model(image_BCHW).items()}
    finally:
        for store in stores.values():
            del store["forward"]
    found = run_model(graph.cut(selection, fold_bn=False), image_BCHW.numpy())
    return max(
        relative_error(found[task], array) if found[task].shape == array.shape else np.inf
        for task, array in expected.items()
    )
