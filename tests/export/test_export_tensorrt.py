"""The TensorRT builder against a strict stand-in made from the real bindings' surfaces; nothing here is executed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from onnx import helper
from onnx_zoo import calibration, exported
from trt_standin import standin
from trt_surface import Unwritten

from mtnas.base.errors import DeviceMissing, ExitCode, JobError, ModelError, PackageMissing
from mtnas.export import tensorrt
from mtnas.export.config import TensorRTConfig
from mtnas.export.engine import EngineResult, read_layers
from mtnas.export.onnx_file import write_onnx
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.ptq import quantize_onnx

VERSIONS = ("10.13", "10.16", "11.4")


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in in the place of the package, and a GPU's name."""
    module = standin(request.param)
    monkeypatch.setattr(tensorrt, "require", lambda *_, **__: module)
    monkeypatch.setattr(tensorrt, "gpu_name", lambda: "Orin")
    return module


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_onnx(exported("residual"), tmp_path / "model.onnx")


def plan(out: Path, result: EngineResult) -> dict:
    return json.loads((out / result.file).read_bytes())


# --- the stand-in is strict -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"])
def test_weak_typing_flags_exist_in_10_and_not_in_11(name: str) -> None:
    assert hasattr(standin("10.13").BuilderFlag, name)
    with pytest.raises(AttributeError):
        getattr(standin("11.4").BuilderFlag, name)


def test_the_standin_refuses_what_the_binding_lacks() -> None:
    trt = standin("11.4")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    config = builder.create_builder_config()
    with pytest.raises(AttributeError):
        _ = builder.platform_has_fast_int8
    with pytest.raises(AttributeError):
        config.max_workspace_size = 1
    with pytest.raises(AttributeError):
        config.num_optimization_profiles = 3
    with pytest.raises(TypeError):
        builder.create_network(explicit_batch=True)
    with pytest.raises(TypeError):
        builder.create_network(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    with pytest.raises(TypeError):
        config.set_flag("VERSION_COMPATIBLE")
    with pytest.raises(TypeError):
        trt.IBuilderConfig()
    with pytest.raises(AttributeError):
        _ = trt.IInt8EntropyCalibrator2
    with pytest.raises(Unwritten):
        builder.reset()


def test_the_standin_knows_overloads_and_defaults() -> None:
    trt = standin("10.16")
    builder = trt.Builder(trt.Logger())
    assert builder.create_network().values["creation"] == []
    assert builder.create_network(flags=2).values["creation"] == ["STRONGLY_TYPED"]
    with pytest.raises(TypeError):
        builder.build_serialized_network(1, 2, 3, 4)


def test_a_logger_must_be_initialised() -> None:
    trt = standin("10.13")

    class Forgetful(trt.ILogger):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="must be called"):
        trt.Builder(Forgetful())


# --- the builder ----------------------------------------------------------------------------------------------------


def test_a_float_file_becomes_an_engine_that_is_labelled_not_executed(trt: ModuleType, model: Path) -> None:
    out = model.parent / "engines"
    result = tensorrt.build_engine(model, out, TensorRTConfig(workspace_mb=64, optimization_level=4))
    assert not result.executed and "not executed" in result.label
    assert result.tensorrt == trt.__version__ and result.gpu == "Orin"
    assert set(result.tensors) == {"image", "segmentation", "depth", "presence"}
    assert len(result.layers) == len(exported("residual").graph.node)
    assert all(layer.kind and layer.precision.startswith("Int8") for layer in result.layers)
    settings = plan(out, result)["settings"]
    assert settings["pools"] == {"WORKSPACE": 64 << 20} and settings["level"] == 4
    assert settings["flags"] == [] and settings["profiles"] == []
    record = json.loads((out / result.file).with_suffix(".json").read_text())
    assert record["schema"] == "engine/1" and record["executed"] is False
    assert EngineResult.from_json(record) == result


def test_an_int8_file_in_tensorrts_dialect_builds(trt: ModuleType, tmp_path: Path) -> None:
    quantized = quantize_onnx(exported("residual"), calibration(1), QuantizeConfig(dialect="tensorrt"))
    path = write_onnx(quantized, tmp_path / "int8.onnx")
    result = tensorrt.build_engine(path, tmp_path)
    assert any(layer.kind == "QuantizeLinear" for layer in result.layers)


def test_another_dialect_is_refused_before_the_parser(trt: ModuleType, tmp_path: Path) -> None:
    path = write_onnx(quantize_onnx(exported("residual"), calibration(1)), tmp_path / "int8.onnx")
    with pytest.raises(ModelError, match=r"zero point(?s:.)*dialect: tensorrt"):
        tensorrt.build_engine(path, tmp_path)


def test_parser_errors_name_the_node(trt: ModuleType, tmp_path: Path) -> None:
    box = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [4])
    out = helper.make_tensor_value_info("depth", onnx.TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([helper.make_node("Unique", ["image"], ["depth"], name="odd")], "g", [box], [out])
    path = write_onnx(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "odd.onnx"
    )
    with pytest.raises(ModelError, match=r"'odd' \(Unique\): No importer"):
        tensorrt.build_engine(path, tmp_path)


def test_a_dynamic_batch_gets_a_profile(trt: ModuleType, tmp_path: Path) -> None:
    path = write_onnx(exported("plain", True), tmp_path / "model.onnx")
    result = tensorrt.build_engine(path, tmp_path, TensorRTConfig(batch=(1, 4, 16)))
    profile = plan(tmp_path, result)["settings"]["profiles"]
    assert profile == [{"image": [[1, 3, 32, 32], [4, 3, 32, 32], [16, 3, 32, 32]]}]


def test_compatibility_settings_are_passed_on(trt: ModuleType, model: Path) -> None:
    config = TensorRTConfig(version_compatible=True, hardware_compatibility="ampere_plus")
    settings = plan(model.parent, tensorrt.build_engine(model, model.parent, config))["settings"]
    assert settings["flags"] == ["VERSION_COMPATIBLE"] and settings["compatibility"] == "AMPERE_PLUS"


def test_every_compatibility_exists_in_every_version() -> None:
    for version in VERSIONS:
        assert standin(version).HardwareCompatibilityLevel["SAME_COMPUTE_CAPABILITY"]


def test_the_same_engine_is_not_built_twice(trt: ModuleType, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tensorrt.build_engine(model, model.parent)
    again = tensorrt.build_engine(model, model.parent)
    assert again.reused and again.key == first.key and again.sha256 == first.sha256
    assert tensorrt.build_engine(model, model.parent, TensorRTConfig(optimization_level=5)).key != first.key
    monkeypatch.setattr(tensorrt, "gpu_name", lambda: "Thor")
    assert tensorrt.build_engine(model, model.parent).key != first.key


def test_a_damaged_engine_is_built_again(trt: ModuleType, model: Path) -> None:
    first = tensorrt.build_engine(model, model.parent)
    (model.parent / first.file).write_bytes(b"torn")
    again = tensorrt.build_engine(model, model.parent)
    assert not again.reused and again.sha256 == first.sha256


def test_the_timing_cache_grows_and_a_foreign_one_is_replaced(trt: ModuleType, model: Path) -> None:
    cache = model.parent / "timing.cache"
    tensorrt.build_engine(model, model.parent)
    first = json.loads(cache.read_bytes())
    other = write_onnx(exported("plain"), model.parent / "other.onnx")
    tensorrt.build_engine(other, model.parent)
    assert set(first["entries"]) < set(json.loads(cache.read_bytes())["entries"])
    cache.write_text(json.dumps({"version": "8.6.1", "entries": ["stale"]}))
    tensorrt.build_engine(other, model.parent, TensorRTConfig(workspace_mb=99))
    renewed = json.loads(cache.read_bytes())
    assert renewed["version"] == trt.__version__ and "stale" not in renewed["entries"]


def test_no_timing_cache_when_it_is_switched_off(trt: ModuleType, model: Path) -> None:
    tensorrt.build_engine(model, model.parent / "out", TensorRTConfig(timing_cache=""))
    assert not list((model.parent / "out").glob("*.cache"))


def test_layers_are_read_from_both_formats() -> None:
    fused = '{"Name": "a+b", "LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "Int8"}]}'
    old = f'{{"Layers": [{fused}], "Bindings": ["image"]}}'
    new = '{"Layers": ["a"], "I/O Tensors": [{"Name": "image"}]}'
    layers, tensors = read_layers(old)
    assert (layers[0].name, layers[0].precision, tensors) == ("a+b", "Int8", ("image",))
    assert read_layers(new)[0][0].name == "a" and read_layers(new)[1] == ("image",)


# --- without it -----------------------------------------------------------------------------------------------------


def test_without_the_package_the_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(PackageMissing, match=r"mtnas\[tensorrt\]") as caught:
        tensorrt.build_engine(model, model.parent)
    assert caught.value.exit_code == ExitCode.MISSING


def test_an_old_version_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = standin("10.13")
    module.__dict__["__version__"] = "8.6.1"
    monkeypatch.setattr(tensorrt, "require", lambda *_, **__: module)
    with pytest.raises(DeviceMissing, match=r"8\.6\.1"):
        tensorrt.build_engine(model, model.parent)


def test_without_a_gpu_the_device_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeviceMissing, match="NVIDIA GPU"):
        tensorrt.gpu_name()


@pytest.mark.parametrize(
    "bad", [{"workspace_mb": 0}, {"optimization_level": 6}, {"batch": (4, 2, 8)}, {"hardware_compatibility": "ampere"}]
)
def test_bad_settings(bad: dict) -> None:
    with pytest.raises(JobError, match=f"export.tensorrt.{next(iter(bad))}"):
        TensorRTConfig(**bad)
