"""Batch-norm folded into the layer before it: found once in the nodes, computed for each cut.

y = gamma * (conv(x) - mean) / sqrt(var + eps) + beta. Folded only where the layer feeds that batch-norm and nothing
else; a batch-norm before its convolution stays a node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from mtnas.graph.follow import attributes_of
from mtnas.graph.labels import Labelled

_OUT_AXIS = {"Conv": 0, "ConvTranspose": 1}


@dataclass(frozen=True)
class Fold:
    """One layer with the batch-norm that follows it.

    Args:
        weight, bias: arrays read; `bias` is empty where the layer has none.
        affine: names of gamma, beta, mean, variance.
        epsilon: of the batch-norm.
        axis: axis of the weight that holds output channels.
        transposed: a transposed convolution, whose output channels lie in blocks.
        out_weight, out_bias: names in the folded graph.
        channels: a tensor whose axis 1 are the output channels.
    """

    weight: str
    bias: str
    affine: tuple[str, str, str, str]
    epsilon: float
    axis: int
    transposed: bool
    out_weight: str
    out_bias: str
    channels: str


def apply_fold(fold: Fold, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Folded weight and bias, computed in float64."""
    gamma, beta, mean, variance = (arrays[name].astype(np.float64) for name in fold.affine)
    weight = arrays[fold.weight]
    scale_O = gamma / np.sqrt(variance + fold.epsilon)
    bias_O = arrays[fold.bias].astype(np.float64) if fold.bias else np.zeros_like(mean)
    factor_O = scale_O.astype(weight.dtype)
    if fold.transposed:
        inside = weight.shape[1]
        factor_GO = factor_O.reshape(-1, inside)
        per_row = np.repeat(factor_GO, weight.shape[0] // len(factor_GO), axis=0)
        scaled = weight * per_row.reshape(weight.shape[0], inside, *[1] * (weight.ndim - 2))
    else:
        view = [-1 if axis == fold.axis else 1 for axis in range(weight.ndim)]
        scaled = weight * factor_O.reshape(view)
    return scaled, (beta + (bias_O - mean) * scale_O).astype(weight.dtype)


def find_folds(graph: onnx.GraphProto, labels: Mapping[str, Labelled], arrays: set[str]) -> tuple[Fold, ...]:
    """Find what can be folded, and rewrite the nodes as if it had been.

    Args:
        graph: changed in place.
        labels: shapes of all tensors.
        arrays: names of the tensors that are weights.
    """
    makers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    taken = set(makers) | set(labels)
    folds, gone = [], []
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if maker is None or uses[node.input[0]] != 1 or not _foldable(maker, node, arrays):
            continue
        fold = _make_fold(maker, node, uses, taken, len(labels[maker.input[1]].shape))
        taken |= {fold.out_weight, fold.out_bias}
        folds.append(fold)
        gone.append(node.name)
        maker.input[:] = [maker.input[0], fold.out_weight, fold.out_bias]
        maker.output[0] = node.output[0]
    kept = [node for node in graph.node if node.name not in set(gone)]
    del graph.node[:]
    graph.node.extend(kept)
    return tuple(folds)


def _foldable(maker: onnx.NodeProto, norm: onnx.NodeProto, arrays: set[str]) -> bool:
    plain = {"Conv": {}, "ConvTranspose": {}, "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0}}
    if maker.op_type not in plain or not arrays.issuperset([*maker.input[1:3], *norm.input[1:5]]):
        return False
    attributes = attributes_of(maker)
    expected = plain[maker.op_type]
    return (
        all(attributes.get(name, value) == value for name, value in expected.items())
        and not attributes_of(norm).get("training_mode", 0)
        and len([name for name in norm.output if name]) == 1
    )


def _make_fold(maker: onnx.NodeProto, norm: onnx.NodeProto, uses: Counter[str], taken: set[str], rank: int) -> Fold:
    attributes = attributes_of(maker)
    weight, bias = maker.input[1], maker.input[2] if len(maker.input) > 2 else ""
    axis = _OUT_AXIS.get(maker.op_type, 0 if attributes.get("transB", 0) else rank - 1)
    stem = weight.removesuffix(".weight")
    alone = uses[weight] == 1
    tag = "" if alone else f".{norm.input[1].removesuffix('.weight')}"
    plain_bias = bias if bias and uses[bias] == 1 else f"{stem}{tag}.bias"
    if plain_bias in taken and plain_bias != bias:
        plain_bias = f"{stem}.{norm.name}.bias"
    out_weight = weight if alone else f"{stem}{tag}.weight"
    if out_weight in taken and out_weight != weight:
        out_weight = f"{stem}.{norm.name}.weight"
    epsilon = float(attributes_of(norm).get("epsilon", 1e-5))  # type: ignore[arg-type]
    affine = (norm.input[1], norm.input[2], norm.input[3], norm.input[4])
    transposed = maker.op_type == "ConvTranspose"
    return Fold(weight, bias, affine, epsilon, axis, transposed, out_weight, plain_bias, norm.output[0])
