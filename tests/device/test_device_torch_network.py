"""torch as a runtime: what it leaves behind in the process, what it says is missing, and the order of GPU timing.

The GPU's part is acted out by a stream and events that only know order: nothing here is a measurement of a GPU.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from mtnas.base.errors import DeviceMissing, ModelError
from mtnas.base.tables import lookup
from mtnas.device.timing import time_runs, warm_up
from mtnas.device.torch_cuda import CudaCall, CudaScope, TorchCudaGraphNetwork, TorchCudaNetwork
from mtnas.device.torch_network import CallScope, TorchCompiledNetwork, TorchNetwork
from mtnas.measure.anchor import anchor_model
from mtnas.measure.runtimes.base import RuntimeOptions
from mtnas.measure.runtimes.table import RUNTIMES


def network_with(kind: str) -> bytes:
    """One operator between input and output."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in ("image", "out")]
    graph = helper.make_graph([helper.make_node(kind, ["image"], ["out"])], "one", values[:1], values[1:])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def test_threads_are_those_asked_for_during_a_call_and_put_back_after() -> None:
    before, seen = torch.get_num_threads(), []
    with CallScope(before + 1):
        seen.append(torch.get_num_threads())
        with CallScope(before):
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())
        assert not torch.is_grad_enabled()
    assert seen == [before + 1, before, before + 1]
    assert torch.get_num_threads() == before and torch.is_grad_enabled()


def test_two_open_networks_do_not_disturb_each_other() -> None:
    one, two = TorchNetwork(anchor_model(), 1), TorchNetwork(anchor_model(), 2)
    image = {"image": np.ones((1, 3, 28, 28), np.float32)}
    calls, before = [one.bind(image), two.bind(image)], torch.get_num_threads()
    first = calls[0]()[0].clone()
    calls[1]()
    one.close()
    assert torch.allclose(calls[1]()[0], first, atol=1e-5)
    two.close()
    assert torch.get_num_threads() == before


def test_an_operator_that_is_not_translated_is_named_to_the_user() -> None:
    with pytest.raises(ModelError, match="no operator NonZero"):
        lookup("torch", RUNTIMES, "runtime")(network_with("NonZero"), RuntimeOptions())


def test_compiling_without_a_compiler_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "C++ compiler" in TorchCompiledNetwork.lacks() and not TorchNetwork.lacks()
    with pytest.raises(DeviceMissing, match=r"C\+\+ compiler"):
        lookup("torch-compiled", RUNTIMES, "runtime")(anchor_model(), RuntimeOptions())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said() -> None:
    assert "no CUDA device" in TorchCudaNetwork.lacks()
    with pytest.raises(RuntimeError, match="no CUDA device"):
        TorchCudaNetwork(anchor_model())


# --- order of GPU timing --------------------------------------------------------------------------------------------


class Stream:
    """Work takes 2 ms each and is done when somebody waits."""

    def __init__(self) -> None:
        self.now_ms, self.waiting, self.said = 0.0, [], []

    def put(self, work: Any) -> None:
        self.waiting.append(work)

    def synchronize(self) -> None:
        self.said.append("wait")
        self.finish()

    def finish(self) -> None:
        for work in self.waiting:
            work()
        self.waiting = []


class Event:
    def __init__(self, stream: Stream) -> None:
        self.stream, self.at_ms = stream, None

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or self.stream
        stream.said.append("event")
        stream.put(lambda: setattr(self, "at_ms", stream.now_ms))

    def synchronize(self) -> None:
        self.stream.finish()

    def elapsed_time(self, other: Any) -> float:
        return other.at_ms - self.at_ms


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def call(stream: Stream) -> CudaCall:
    def launch() -> str:
        stream.said.append("launch")
        stream.put(lambda: setattr(stream, "now_ms", stream.now_ms + 2.0))
        return "outputs"

    return CudaCall(launch, CallScope(1), stream, lambda: Event(stream))


def test_a_call_comes_back_when_the_gpu_has_ended(call: CudaCall, stream: Stream) -> None:
    assert call() == "outputs"
    assert stream.said == ["launch", "wait"] and not stream.waiting and stream.now_ms == 2.0


def test_runs_are_timed_between_events_from_an_idle_gpu(call: CudaCall, stream: Stream) -> None:
    assert call.timed(3) == [2.0] * 3
    assert stream.said == ["wait", "event", "launch", "event"] * 3


def test_the_loop_uses_the_clock_of_the_call(call: CudaCall) -> None:
    assert time_runs(call, 4) == ([2.0] * 4, [])
    assert warm_up(call, 0.0, 0.01) == (2.0, True)


# --- the GPU's classes, every call of torch.cuda acted out on the processor -----------------------------------------


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch, stream: Stream) -> Stream:
    """Names and order only: tensors stay on the processor, a graph replays what was launched while it was captured."""

    class Graph:
        def replay(self) -> None:
            stream.said.append("replay")

    for name, act in {
        "is_available": lambda: True,
        "reset_peak_memory_stats": lambda: None,
        "memory_allocated": lambda: 1_000_000,
        "max_memory_allocated": lambda: 3_500_000,
        "get_device_capability": lambda: (9, 0),
        "get_device_name": lambda: "Pretended",
        "synchronize": lambda: None,
        "empty_cache": lambda: stream.said.append("empty cache"),
        "Stream": lambda: stream,
        "stream": lambda _: contextlib.nullcontext(),
        "Event": lambda enable_timing: Event(stream),
        "CUDAGraph": Graph,
        "graph": lambda graph, stream: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, act)
    # A build for GPUs looks at all of them here, and there are none.
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    monkeypatch.setattr(TorchCudaNetwork, "device", "cpu")
    return stream


@pytest.mark.parametrize("kind", [TorchCudaNetwork, TorchCudaGraphNetwork])
def test_the_gpus_class_goes_its_whole_way(kind: type[TorchCudaNetwork], pretended_gpu: Stream) -> None:
    image = {"image": np.random.default_rng(0).standard_normal((1, 3, 28, 28)).astype(np.float32)}
    network, judge = kind(anchor_model()), TorchNetwork(anchor_model())
    np.testing.assert_allclose(network.run(image)["out"], judge.run(image)["out"], atol=1e-5)
    assert network.options["tf32"] is False and network.options["cuda_graph"] is kind.replayed
    assert network.options["compute_capability"] == "9.0" and network.peak_mb() == 2.5
    del pretended_gpu.said[:]
    inputs, place = [], network._placed
    network._placed = lambda array: inputs.append(weakref.ref(tensor := place(array))) or tensor
    call = network.bind(image)
    gc.collect()
    assert inputs and all(held() is not None for held in inputs), "a graph reads its inputs from where they were"
    assert len(call.timed(2)) == 2
    assert pretended_gpu.said.count("replay") == (2 if kind.replayed else 0)
    assert {layer["kind"] for layer in network.layers(image, 2)} == {"Conv", "Relu"}
    network.close()
    assert pretended_gpu.said[-1] == "empty cache"


def test_switches_of_precision_are_put_back() -> None:
    def switches() -> tuple[bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return cudnn.allow_tf32, cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32

    before = switches()
    with CudaScope(1, None):
        assert switches() == (False, True, False)
    assert switches() == before
