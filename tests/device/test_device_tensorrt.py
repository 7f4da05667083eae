"""TensorRT on the device, against strict stand-ins of three versions' bindings and a pretended GPU: not executed.

What a name, an argument or an order of calls can show is shown here; times and numbers of a real GPU are not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from trt_execution import LAYER_MS, Gpu, running

from mtnas.base.errors import DeviceMissing, ModelError
from mtnas.base.tables import lookup
from mtnas.device import tensorrt_network
from mtnas.device.cudart import Cuda, CudaError, library_names
from mtnas.device.tensorrt_network import TensorrtGraphNetwork, TensorrtNetwork
from mtnas.device.timing import time_runs
from mtnas.measure.runtimes.base import RuntimeOptions
from mtnas.measure.runtimes.table import RUNTIMES

IMAGE = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 4.0]], np.float32)


def affine(batch: int | str = 2, last: str = "Add") -> bytes:
    """Two outputs: 2x + 1, and its ReLU."""
    nodes = [
        helper.make_node("Mul", ["image", "two"], ["m"], name="double"),
        helper.make_node(last, ["m", "one"] if last == "Add" else ["m"], ["affine"], name="shift"),
        helper.make_node("Relu", ["affine"], ["positive"], name="cut_off"),
    ]
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [1], [v]) for name, v in (("two", 2.0), ("one", 1.0))]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (batch, 3)) for n in ("image", "affine", "positive")]
    graph = helper.make_graph(nodes, "affine", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    pretended = Gpu()
    monkeypatch.setattr(tensorrt_network, "Cuda", lambda: pretended)
    monkeypatch.setattr(tensorrt_network, "gpu_name", lambda: "Orin")
    monkeypatch.setattr(tensorrt_network, "own_folder", lambda: str(tmp_path))
    return pretended


def install(version: str, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = running(version, gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture(params=("10.13", "10.16", "11.4"))
def trt(request: pytest.FixtureRequest, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return install(request.param, gpu, monkeypatch)


@pytest.mark.parametrize("kind", [TensorrtNetwork, TensorrtGraphNetwork])
def test_opens_runs_binds_and_frees_everything(kind: type[TensorrtNetwork], trt: ModuleType, gpu: Gpu) -> None:
    network = kind(affine())
    assert network.version == trt.__version__ and network.outputs == ["affine", "positive"]
    assert network.inputs == [("image", "float32", (2, 3))]
    assert network.options["precision"] == "as in the file (strongly typed)" and network.options["gpu"] == "Orin"
    for factor in (1, 3):
        found = network.run({"image": factor * IMAGE})
        np.testing.assert_allclose(found["affine"], 2 * factor * IMAGE + 1)
        np.testing.assert_allclose(found["positive"], np.maximum(2 * factor * IMAGE + 1, 0))
    assert not gpu.alive, "a run frees its buffers"
    call = network.bind({"image": IMAGE})
    call()
    assert len(gpu.memory) == 3
    np.testing.assert_allclose(call.outputs()["affine"], 2 * IMAGE + 1)
    assert network.peak_mb() > 0.004
    network.close()
    network.close()
    assert not gpu.alive and not gpu.memory


def test_runs_are_timed_by_events_from_an_idle_gpu(trt: ModuleType, gpu: Gpu) -> None:
    call = TensorrtNetwork(affine()).bind({"image": IMAGE})
    del gpu.done[:]
    times, interrupted = time_runs(call, 3)
    assert times == [3 * LAYER_MS] * 3 and not interrupted
    assert gpu.done == ["synchronize", "record", "enqueue", "record"] * 3


def test_replay_captures_once_and_enqueues_no_more(trt: ModuleType, gpu: Gpu) -> None:
    call = TensorrtGraphNetwork(affine()).bind({"image": IMAGE})
    del gpu.done[:]
    assert call.timed(2) == [3 * LAYER_MS] * 2
    call()
    assert gpu.done.count("replay") == 3 and "enqueue" not in gpu.done


def test_layers_are_profiled_in_a_context_of_their_own(trt: ModuleType, gpu: Gpu) -> None:
    network = TensorrtNetwork(affine())
    layers = network.layers({"image": IMAGE}, 4)
    assert [layer["name"] for layer in layers] == ["double", "shift", "cut_off"]
    assert [layer["kind"] for layer in layers] == ["Mul", "Add", "Relu"]
    assert all(layer["ms"] == LAYER_MS and layer["outputs"] for layer in layers)
    assert not gpu.alive


def test_a_free_batch_has_a_range(trt: ModuleType, gpu: Gpu) -> None:
    network = TensorrtNetwork(affine("batch"))
    assert network.inputs[0][2] == (None, 3)
    for batch in (1, 5):
        assert network.run({"image": np.ones((batch, 3), np.float32)})["affine"].shape == (batch, 3)


def test_engines_are_built_once_for_a_file_a_version_and_a_gpu(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trt = install("10.16", gpu, monkeypatch)
    for _ in range(3):
        TensorrtNetwork(affine()).close()
    assert trt.built == 1
    (engine,) = tmp_path.glob("*.engine")
    engine.write_bytes(engine.read_bytes()[:-20])
    TensorrtNetwork(affine()).close()
    assert trt.built == 2, "a torn engine is built again"
    TensorrtNetwork(affine("batch")).close()
    monkeypatch.setattr(tensorrt_network, "gpu_name", lambda: "Thor")
    TensorrtNetwork(affine()).close()
    assert trt.built == 4
    newer = install("11.4", gpu, monkeypatch)
    TensorrtNetwork(affine()).close()
    assert newer.built == 1
    assert len(list(tmp_path.glob("*.engine"))) == 4 and len(list(tmp_path.glob("timing-*.cache"))) == 3


def test_engines_of_a_file_lie_beside_it(trt: ModuleType, gpu: Gpu, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(affine())
    TensorrtNetwork(str(folder / "model.onnx")).close()
    assert len(list(folder.glob("*.engine"))) == 1 and not list(tmp_path.glob("*.engine"))


@pytest.mark.parametrize("row", ["tensorrt", "tensorrt-graph"])
def test_the_host_opens_it_by_name(row: str, trt: ModuleType, gpu: Gpu) -> None:
    opener = lookup(row, RUNTIMES, "runtime")
    with opener(affine(), RuntimeOptions()) as session:
        assert session.options["cuda_graph"] is (row == "tensorrt-graph")
        np.testing.assert_allclose(session.run({"image": IMAGE})["affine"], 2 * IMAGE + 1)
        assert session.times_layers and (session.peak_mb() or 0) > 0
        with pytest.raises(ModelError, match="image"):
            session.run({"image": IMAGE[0]})
    with pytest.raises(ModelError, match="tensorrt"):
        opener(b"this is not a network", RuntimeOptions())


def test_an_operator_that_the_parser_refuses_is_named(trt: ModuleType, gpu: Gpu) -> None:
    with pytest.raises(ValueError, match="HammingWindow"):
        TensorrtNetwork(affine(last="HammingWindow"))


def test_what_a_machine_lacks_is_said(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = install("10.13", gpu, monkeypatch)
    monkeypatch.setattr(gpu, "devices", lambda: 0)
    with pytest.raises(DeviceMissing, match="no NVIDIA GPU"):
        lookup("tensorrt", RUNTIMES, "runtime")(affine(), RuntimeOptions())
    trt.__version__ = "10.1.0"
    assert "10.3" in TensorrtNetwork.lacks()


def test_the_runtime_library_has_every_function_that_is_called() -> None:
    """The real libcudart, where one is installed; without a driver it answers with its own words."""
    try:
        cuda = Cuda()
    except CudaError as error:
        pytest.skip(str(error))
    assert cuda.runtime_version()[0].isdigit() and library_names()
    try:
        found = str(cuda.devices())
    except CudaError as error:
        found = str(error)
    assert found.isdigit() or found.startswith("cudaGetDeviceCount: ")


def test_errors_carry_the_librarys_words() -> None:
    class Library:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any) -> Any:
                return b"out of memory" if name == "cudaGetErrorString" else 2

            setattr(self, name, call)
            return call

    with pytest.raises(CudaError, match=r"cudaMalloc: out of memory \(2\)"):
        Cuda(Library()).allocate(8)


def test_the_subject_is_a_valid_network() -> None:
    onnx.checker.check_model(onnx.load_model_from_string(affine()))
