"""Making the elastic graph: the only place of this room that needs torch.

The largest network is exported once. Parameters enter the clean-up as inputs of the graph, so that constant folding
and fusion cannot touch, rename or merge them: every initializer keeps its name in `state_dict()`, and batch-norm stays
a node whose statistics can be replaced.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from mtnas.base.errors import ModelError
from mtnas.base.forks import Fork
from mtnas.base.groups import ChannelGroup, Size
from mtnas.base.optional import require
from mtnas.graph.bypass import Bypasses
from mtnas.graph.elastic_graph import ElasticGraph, StateNames
from mtnas.graph.forks import Forks
from mtnas.graph.labels import BATCH
from mtnas.graph.marks import mark, take_marks
from mtnas.graph.naming import name_products
from mtnas.graph.network import IMAGE, split_weights
from mtnas.graph.prove import prove, prove_blocks, prove_forks, prove_resized
from mtnas.graph.resized import Resized, resizing_to
from mtnas.graph.sanitise import inline_constants

if TYPE_CHECKING:
    from torch import Tensor, nn

IR_VERSION = 10


def build_elastic_graph(
    model: nn.Module,
    example_BCHW: Tensor,
    groups: Sequence[ChannelGroup],
    *,
    blocks: Sequence[str] = (),
    forks: Sequence[Fork] = (),
    resized: Mapping[Size, nn.Module] | None = None,
    opset: int = 20,
) -> ElasticGraph:
    """Export the largest network with all options of its forks, follow its groups, find its blocks; once more for each
    smaller input size.

    Args:
        model: `image (B,C,H,W) -> dict[task, Tensor]`; it is copied, not changed.
        example_BCHW: one image or more, of the size the network will run at.
        groups: from `make_elastic`.
        blocks: names of the blocks that may be left out, from `make_elastic`.
        forks: the forks that may be chosen from, from `make_elastic`.
        resized: `ElasticModel.resized`: the same network for each smaller input size, with the same images.
        opset: 20 or 21.

    Raises:
        ModelError: the model cannot be exported, or its groups, blocks and forks cannot be followed through the graph.
    """
    import torch

    plain = copy.deepcopy(model).cpu().eval()
    image = example_BCHW[:1].cpu().float().repeat(BATCH, 1, 1, 1)
    with torch.no_grad():
        expected = plain(image)
    check_outputs(expected)
    parts = Parts(tuple(expected), tuple(blocks), tuple(forks), opset)
    proto, bypasses, found = _marked_export(plain, image, parts)
    names = state_names(plain, proto)
    modules = {size: copy.deepcopy(module).cpu().eval() for size, module in (resized or {}).items()}
    smaller = {size: _resized(module, size, image, parts) for size, module in modules.items()}
    graph = ElasticGraph(proto, groups, names, bypasses, resized=smaller, forks=found)
    prove(graph, image.numpy(), {name: tensor.numpy() for name, tensor in expected.items()})
    prove_blocks(graph, plain, image)
    prove_forks(graph, plain, image)
    prove_resized(graph, modules, image)
    return graph


@dataclass(frozen=True)
class Parts:
    """What every export of one network must show: its outputs, blocks and forks."""

    outputs: tuple[str, ...]
    blocks: tuple[str, ...]
    forks: tuple[Fork, ...]
    opset: int


def _marked_export(module: nn.Module, image_BCHW: Tensor, parts: Parts) -> tuple[onnx.ModelProto, Bypasses, Forks]:
    """The network as ONNX, and where its blocks and forks lie."""
    marked = copy.deepcopy(module)
    mark(marked, parts.blocks, parts.forks)
    proto = export(marked, image_BCHW, parts.outputs, parts.opset)
    return proto, *take_marks(proto, parts.blocks, parts.forks)


def _resized(module: nn.Module, size: Size, image_BCHW: Tensor, parts: Parts) -> Resized:
    """The graph of the network at a smaller input size, without weights."""
    with resizing_to(size):
        proto, bypasses, forks = _marked_export(module, image_BCHW, parts)
    skeleton, _weights = split_weights(proto, list(module.state_dict()))
    return Resized(skeleton, bypasses, forks)


def check_outputs(outputs: Any) -> None:
    """The model contract, as far as the graph needs it."""
    if not isinstance(outputs, dict) or not outputs:
        raise ModelError(
            "a dict of task name -> tensor",
            received=type(outputs).__name__,
            where="model.forward",
            cure='return {"depth": depth, ...}',
        )
    for reserved in ("shared", IMAGE):
        if reserved in outputs:
            raise ModelError(
                "another task name", received=repr(reserved), where="model.forward", cure="rename the task"
            )


def export(model: nn.Module, image_BCHW: Tensor, outputs: Sequence[str], opset: int) -> onnx.ModelProto:
    """The network as ONNX: every parameter and buffer by its own name, batch-norm as nodes, constants folded."""
    import torch

    require("onnxscript", why="exporting to ONNX")
    try:
        with quiet():
            program = torch.onnx.export(
                model,
                (image_BCHW,),
                dynamo=True,
                optimize=False,
                opset_version=opset,
                input_names=[IMAGE],
                output_names=list(outputs),
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise ModelError(
            "a model that torch.onnx.export can write",
            received=str(error).strip().splitlines()[0],
            where=type(model).__name__,
            cure="avoid control flow that depends on the image in forward()",
        ) from error
    assert program is not None
    proto = clean(program.model)
    proto.ir_version = IR_VERSION
    return proto


def clean(model: Any) -> onnx.ModelProto:
    """Fold what is constant, with all parameters held out of reach as inputs; name products; drop all notes."""
    import onnx_ir
    from onnxscript import optimizer

    graph = model.graph
    names = list(graph.initializers)
    values = [graph.initializers.pop(name) for name in names]
    data = [value.const_value for value in values]
    graph.inputs.extend(values)
    for value in values:
        value.const_value = None
    with quiet():
        optimizer.optimize_ir(model, num_iterations=2, onnx_shape_inference=True)
    del graph.inputs[1:]
    for value, array in zip(values, data, strict=True):
        value.const_value = array
        graph.register_initializer(value)
    proto = onnx_ir.to_proto(model)
    name_products(proto)
    strip(proto)
    inline_constants(proto)
    return proto


def strip(proto: onnx.ModelProto) -> None:
    """Without stack traces and stale shapes."""
    del proto.metadata_props[:]
    del proto.graph.value_info[:]
    del proto.graph.metadata_props[:]
    for item in [*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        del item.metadata_props[:]
        item.doc_string = ""


def state_names(model: nn.Module, proto: onnx.ModelProto) -> StateNames:
    """Names of parameters and buffers; a tied parameter has one name in the graph and others as aliases."""
    held = {tensor.name for tensor in proto.graph.initializer}
    state = model.state_dict(keep_vars=True)
    by_tensor: dict[int, str] = {id(tensor): name for name, tensor in state.items() if name in held}
    aliases = {
        name: by_tensor[id(tensor)] for name, tensor in state.items() if name not in held and id(tensor) in by_tensor
    }
    learned = {id(parameter) for parameter in model.parameters()}
    parameters = tuple(name for name, tensor in state.items() if name in held and id(tensor) in learned)
    return StateNames(parameters, tuple(state), aliases)


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter speaks of packages nobody asked for; be silent while it works."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
