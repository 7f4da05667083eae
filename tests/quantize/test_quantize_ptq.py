"""Int8 that runs as int8: by dialect, deterministic, near the float network, with float where asked for."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx_zoo import calibration, exported, images

from mtnas.base.errors import DataError, JobError, ModelError
from mtnas.quantize import ptq
from mtnas.quantize.check import int8_report
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.dialects import DIALECTS
from mtnas.quantize.prepare import named, opset_of
from mtnas.quantize.ptq import float_nodes, quantize_onnx
from mtnas.quantize.regions import Wiring
from mtnas.quantize.session import open_session, run_images

#: root-mean-square error of random networks relative to the output's spread; 0.01-0.09 was seen in the zoo
NEAR = 0.15
ZOO = ["residual", "depthwise", "grouped", "unet", "high_resolution", "flatten", "other_norms"]


def rms_errors(float_model: onnx.ModelProto, int8_model: onnx.ModelProto) -> dict[str, float]:
    image_BCHW = images(16, seed=5)
    expected = run_images(open_session(float_model), image_BCHW)
    received = run_images(open_session(int8_model), image_BCHW)
    return {k: float(np.sqrt(np.mean((received[k] - v) ** 2)) / v.std()) for k, v in expected.items()}


def pairs(model: onnx.ModelProto, op_type: str) -> Sequence[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == op_type]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("name", ZOO)
def test_int8_is_near_float_in_every_dialect(name: str, dialect: str) -> None:
    model = exported(name)
    quantized = quantize_onnx(model, calibration(), QuantizeConfig(dialect=dialect))
    errors = rms_errors(model, quantized)
    assert 0 < max(errors.values()) < NEAR, errors
    assert list(errors) == [value.name for value in model.graph.output]


@pytest.mark.parametrize("name", ZOO)
def test_every_convolution_runs_as_int8_in_onnxruntime(name: str) -> None:
    report = int8_report(quantize_onnx(exported(name), calibration(1)))
    transposed = {node.name for node in exported(name).graph.node if node.op_type == "ConvTranspose"}
    report.require_int8(excluded=transposed)
    ran = [op for _, op in report.int8]
    graph = exported(name).graph
    assert ran.count("QLinearConv") == sum(node.op_type == "Conv" for node in graph.node)
    assert ran.count("QGemm") == sum(node.op_type == "Gemm" for node in graph.node)
    assert ran.count("QLinearAdd") >= sum(node.op_type == "Add" for node in graph.node) * (name != "other_norms")


def test_a_file_with_a_dynamic_batch_runs_as_int8_too() -> None:
    report = int8_report(quantize_onnx(exported("residual", True), calibration(1)))
    report.require_int8()


def test_the_file_stays_portable_and_the_input_untouched() -> None:
    model = exported("residual")
    before = model.SerializeToString(deterministic=True)
    quantized = quantize_onnx(model, calibration(1))
    assert model.SerializeToString(deterministic=True) == before
    assert quantized.ir_version <= 10 and opset_of(quantized) == opset_of(model)
    assert {item.domain for item in quantized.opset_import} == {""}
    assert not quantized.metadata_props
    onnx.checker.check_model(quantized, full_check=True)
    assert len(quantized.SerializeToString()) < 0.5 * len(before)


def test_same_calibration_same_bytes_in_another_process(tmp_path: Path) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save_model(exported("high_resolution"), str(source))
    np.save(tmp_path / "images.npy", np.stack(calibration(2)))
    code = (
        "import numpy as np, onnx; from pathlib import Path; from mtnas.quantize.ptq import quantize_onnx\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "result = quantize_onnx(onnx.load_model(str(folder / 'float.onnx')), list(np.load(folder / 'images.npy')))\n"
        "(folder / 'int8.onnx').write_bytes(result.SerializeToString(deterministic=True))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "4"})
    here = quantize_onnx(exported("high_resolution"), calibration(2)).SerializeToString(deterministic=True)
    assert target.read_bytes() == here


def test_batch_size_of_calibration_does_not_matter() -> None:
    whole = np.concatenate(calibration(2))
    results = [quantize_onnx(exported("plain"), np.array_split(whole, n)) for n in (2, 5)]
    assert results[0].SerializeToString(deterministic=True) == results[1].SerializeToString(deterministic=True)


def test_onnxruntime_dialect_is_unsigned_per_channel_and_covers_adds_and_heads() -> None:
    quantized = quantize_onnx(exported("residual"), calibration(1))
    wiring = Wiring.of(quantized.graph)
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    assert {wiring.initializers[node.input[2]] for node in pairs(quantized, "QuantizeLinear")} == {TensorProto.UINT8}
    for node in pairs(quantized, "Conv"):
        weight = wiring.producers[node.input[1]]
        assert stored[weight.input[0]].data_type == TensorProto.INT8
        assert list(stored[weight.input[1]].dims) == [stored[weight.input[0]].dims[0]]
    for node in pairs(quantized, "Add"):
        assert [wiring.producers[name].op_type for name in node.input] == ["DequantizeLinear"] * 2
    assert wiring.producers["presence"].op_type == "DequantizeLinear"


def test_tensorrt_dialect_is_signed_symmetric_with_bare_main_paths_and_outputs() -> None:
    quantized = quantize_onnx(exported("residual"), calibration(1), QuantizeConfig(dialect="tensorrt"))
    wiring = Wiring.of(quantized.graph)
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    for node in (*pairs(quantized, "QuantizeLinear"), *pairs(quantized, "DequantizeLinear")):
        zero = numpy_helper.to_array(stored[node.input[2]])
        assert zero.dtype == np.int8 and not zero.any()
    for node in pairs(quantized, "Add"):
        makers = sorted(wiring.producers[name].op_type for name in node.input)
        assert makers == ["Conv", "DequantizeLinear"], makers
    for node in (*pairs(quantized, "Conv"), *pairs(quantized, "Gemm")):
        assert wiring.producers[node.input[0]].op_type == "DequantizeLinear"
        weight = wiring.producers[wiring.producers[node.input[1]].input[0]]
        assert weight.op_type == "QuantizeLinear" and stored[weight.input[0]].data_type == TensorProto.FLOAT
        assert stored[node.input[2]].data_type == TensorProto.FLOAT if len(node.input) > 2 else True
    assert wiring.producers["presence"].op_type == "Gemm"
    used = {name for node in quantized.graph.node for name in node.input}
    assert {tensor.name for tensor in quantized.graph.initializer} <= used


def test_a_projection_shortcut_keeps_its_pair_and_the_long_path_loses_it() -> None:
    quantized = quantize_onnx(exported("residual"), calibration(1), QuantizeConfig(dialect="tensorrt"))
    wiring = Wiring.of(quantized.graph)
    kernels = {t.name: t.dims[2] for t in quantized.graph.initializer if len(t.dims) == 4}

    def kernel(node: onnx.NodeProto) -> int:
        return kernels[wiring.producers[wiring.producers[node.input[1]].input[0]].input[0]]

    bare = [wiring.producers[name] for node in pairs(quantized, "Add") for name in node.input]
    assert all(kernel(node) == 3 for node in bare if node.op_type == "Conv")


def test_float_heads_and_branches_stay_float() -> None:
    model = exported("residual")
    head = QuantizeConfig(float_heads=("depth",))
    kept = set(float_nodes(named(model), head))
    report = int8_report(quantize_onnx(model, calibration(1), head), kept)
    assert len(report.float_layers) == 1 and "on purpose" in report.float_layers[0].why
    report.require_int8(excluded=kept)
    branch = QuantizeConfig(float_branches=("depth",))
    kept = set(float_nodes(named(model), branch))
    report = int8_report(quantize_onnx(model, calibration(1), branch), kept)
    assert len(report.float_layers) == 2
    errors = rms_errors(model, quantize_onnx(model, calibration(1), head))
    assert errors["depth"] < rms_errors(model, quantize_onnx(model, calibration(1)))["depth"]


def test_float_nodes_by_pattern_and_an_unknown_pattern() -> None:
    model = named(exported("residual"))
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    config = QuantizeConfig(float_nodes=(convolutions[0],), float_upsampling=False)
    assert float_nodes(model, config) == [convolutions[0]]
    with pytest.raises(JobError, match=r"float_nodes(?s:.)*did you mean"):
        float_nodes(model, QuantizeConfig(float_nodes=(convolutions[0] + "9",)))
    with pytest.raises(JobError, match="a task of the model"):
        float_nodes(model, QuantizeConfig(float_heads=("dept",)))


@pytest.mark.parametrize("calibrator", ["minmax", "entropy", "percentile"])
def test_every_calibrator_works(calibrator: str) -> None:
    config = QuantizeConfig(calibrator=calibrator)
    assert max(rms_errors(exported("plain"), quantize_onnx(exported("plain"), calibration(2), config)).values()) < 0.3


def test_the_percentile_clips_what_minmax_keeps() -> None:
    batches = calibration(2)
    batches[0][0, 0, 0, 0] = 60.0

    def scale(calibrator: str) -> float:
        model = quantize_onnx(exported("plain"), batches, QuantizeConfig(calibrator=calibrator, percentile=99.0))
        return float(next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "image_scale"))

    assert scale("minmax") > 5 * scale("percentile")


def test_seven_bit_weights_use_half_the_range() -> None:
    def largest(choice: str) -> int:
        model = quantize_onnx(exported("plain"), calibration(1), QuantizeConfig(seven_bit_weights=choice))
        weights = [numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 4]
        return max(int(np.abs(w.astype(int)).max()) for w in weights)

    assert largest("yes") <= 64 < largest("no")


@pytest.mark.parametrize(
    ("features", "machine", "expected"),
    [(["avx512_vnni"], "x86_64", False), (["avx2"], "x86_64", True), (["asimddp"], "aarch64", False)],
)
def test_auto_saves_one_bit_on_x64_without_vnni(
    features: list[str], machine: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ptq, "cpu_info", lambda: {"features": features, "machine": machine})
    assert ptq.seven_bit(QuantizeConfig()) is expected
    assert not ptq.seven_bit(QuantizeConfig(dialect="tensorrt"))


def test_bad_calibration_is_refused() -> None:
    with pytest.raises(DataError, match="finite images"):
        quantize_onnx(exported("plain"), [np.full((1, 3, 32, 32), np.nan, np.float32)])
    with pytest.raises(DataError, match="finite images of shape"):
        quantize_onnx(exported("plain"), [np.zeros((1, 3, 16, 16), np.float32)])
    with pytest.raises(DataError, match="at least one calibration image"):
        quantize_onnx(exported("plain"), [])


def test_an_invalid_graph_is_refused() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported("plain"))
    model.graph.node[1].input[0] = "nobody"
    with pytest.raises(ModelError):
        quantize_onnx(model, calibration(1))


def test_quantizing_is_silent(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    handlers = list(logging.getLogger().handlers)
    quantize_onnx(exported("flatten"), calibration(1))
    assert logging.getLogger().handlers == handlers
    assert capfd.readouterr() == ("", "") and not caplog.records


@pytest.mark.parametrize(
    "bad",
    [
        {"dialect": "onnxruntime-x86"},
        {"calibrator": "max"},
        {"images": 0},
        {"batch_size": 0},
        {"percentile": 10.0},
        {"seven_bit_weights": "maybe"},
        {"max_drop_percent": -1.0},
    ],
)
def test_bad_settings(bad: dict) -> None:
    with pytest.raises(JobError, match=f"quantize.{next(iter(bad))}"):
        QuantizeConfig(**bad)
