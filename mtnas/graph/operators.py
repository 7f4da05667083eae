"""ONNX operators by what they do to axes, memory and time: literal tables."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Element by element, shapes aligned at the right.
ELEMENTWISE = _names(
    """
    Abs Add And Cast Ceil Celu Clip Cos Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
    HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow
    Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
    """
)
#: The first input's axes go on; only axes that never shrink change size.
KEEPS_AXES = _names(
    """
    AveragePool CumSum GlobalAveragePool GlobalMaxPool GridSample Hardmax LogSoftmax LpNormalization LpPool LRN MaxPool
    Pad Resize Softmax Upsample
    """
)
REDUCTIONS = _names(
    """
    ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
    """
)
RESHAPES = _names("Reshape Flatten Squeeze Unsqueeze")

#: May write their result over their first input.
IN_PLACE = _names("Relu Clip LeakyRelu PRelu Sigmoid HardSigmoid HardSwish Tanh Elu Gelu Softplus Mish")
#: Only give their input another shape.
VIEWS = RESHAPES | {"Identity"}
#: Run inside the convolution before them.
FUSED = _names("Relu Clip LeakyRelu Sigmoid HardSigmoid HardSwish Tanh")

#: Kind of memory traffic; everything else is `elementwise`.
TRAFFIC: dict[str, frozenset[str]] = {
    "resize": _names("Resize Upsample GridSample"),
    "pool": _names("MaxPool AveragePool LpPool"),
    "reduce": REDUCTIONS | _names("GlobalAveragePool GlobalMaxPool"),
    "copy": _names("Concat Split Slice Transpose Pad Expand Gather Tile DepthToSpace SpaceToDepth"),
    "norm": _names("BatchNormalization InstanceNormalization LayerNormalization Softmax LogSoftmax"),
}
