"""What others predict latency with: multiply-adds alone, and a table of operators, each measured alone and summed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mtnas.base.files import content_hash
from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.base.progress import Progress
from mtnas.graph.count_model import static_shapes
from mtnas.measure.config import MeasureConfig
from mtnas.measure.fitting import non_negative
from mtnas.measure.protocol import Bench
from mtnas.quantize.timing import timing_copy


def macs_only(macs_N: np.ndarray, ms_N: np.ndarray, fresh_M: np.ndarray) -> np.ndarray:
    """A constant and a price per multiply-add, fitted on the same networks as ours."""
    return non_negative(macs_N[:, None], ms_N, 1e-6).predict(fresh_M[:, None])


def operators(model: onnx.ModelProto) -> list[onnx.ModelProto]:
    """Every node of a float network as a network of its own, on inputs of its own shapes."""
    shapes, arrays = static_shapes(model), {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        inputs = [name for name in dict.fromkeys(node.input) if name and name not in arrays]
        graph = helper.make_graph(
            [node],
            "operator",
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shapes[n]) for n in inputs],
            [helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, shapes[node.output[0]])],
            [arrays[name] for name in dict.fromkeys(node.input) if name in arrays],
        )
        found.append(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version))
    return found


def signature(operator: onnx.ModelProto) -> str:
    """Equal operators on equal shapes have equal signatures, whatever their weights."""
    graph = operator.graph
    node = graph.node[0]
    small = [numpy_helper.to_array(t).tolist() for t in graph.initializer if np.prod(t.dims) <= 8]
    inputs = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.input]
    weights = [list(tensor.dims) for tensor in graph.initializer]
    attributes = sorted(str(attribute) for attribute in node.attribute)
    return content_hash([node.op_type, attributes, inputs, weights, small])[:16]


def operator_sums(
    models: Sequence[tuple[Selection, onnx.ModelProto]],
    dialect: str,
    config: MeasureConfig,
    journal: Journal,
    progress: Progress,
) -> np.ndarray:
    """Milliseconds of each float network as the sum of its operators, each measured alone once.

    Args:
        models: float networks.
        dialect: operators are quantized in this dialect first; empty leaves them in float.
        config: how to measure; operators are small, so rounds are made short.
        journal: keeps what was measured.
        progress: where to report.
    """
    parts = [[(signature(one), one) for one in operators(model)] for _, model in models]
    known = {record["id"]: record["ms"] for record in journal.records()}
    wanted = {key: one for row in parts for key, one in row if key not in known}
    keys = list(wanted)
    with Bench(config, progress=progress) as bench, progress.task("operators", len(keys)) as bar:
        for start in range(0, len(keys), 25):
            group = {key: _file(wanted[key], dialect) for key in keys[start : start + 25]}
            for record in bench.measure(group):
                journal.append({"id": record.name, "ms": record.p50.value})
                known[record.name] = record.p50.value
                bar.advance()
    return np.asarray([sum(known[key] for key, _ in row) for row in parts])


def _file(operator: onnx.ModelProto, dialect: str) -> bytes:
    return (timing_copy(operator, dialect) if dialect else operator).SerializeToString()
