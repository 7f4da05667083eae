"""A network in torch on an NVIDIA GPU: eager, replayed as a CUDA graph, or compiled and replayed.

Not executed on the machine this was written on, which has no GPU. A run is timed with CUDA events from an idle GPU:
the next run starts when the one before has ended, as a camera's frames do. TF32 is off, and recorded.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np
import torch
from torch import fx

from .inputs import Call
from .torch_network import CallScope, LayerClock, TorchNetwork

_WARM_RUNS = 3


class TorchCudaNetwork(TorchNetwork):
    """Operator by operator; the processor's launches are part of the time."""

    device = "cuda"
    replayed = False

    def __init__(self, model: Any, threads: int = 1, spinning: bool = False) -> None:
        lacking = self.lacks()
        if lacking:
            raise RuntimeError(lacking)
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()
        self._stream: Any = torch.cuda.Stream()
        super().__init__(model, threads, spinning)

    @classmethod
    def lacks(cls) -> str:
        if not torch.cuda.is_available():
            return "torch sees no CUDA device (torch " + torch.__version__ + ")"
        return ""

    def peak_mb(self) -> float:
        """Most device memory, MB (1e6 bytes), that torch's allocator held for this network."""
        return (torch.cuda.max_memory_allocated() - self._before) / 1e6

    def close(self) -> None:
        super().close()
        self._stream = None
        torch.cuda.empty_cache()

    def _describe(self, spinning: bool) -> dict[str, Any]:
        major, minor = torch.cuda.get_device_capability()
        found = super()._describe(spinning)
        found.update(
            gpu=torch.cuda.get_device_name(),
            compute_capability=str(major) + "." + str(minor),
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
            cudnn_benchmark=True,
            tf32=False,
            cuda_graph=self.replayed,
            clock="CUDA events",
        )
        return found

    def _scope(self) -> CallScope:
        return CudaScope(self._threads, self._stream)

    def _bound(self, arrays: Sequence[np.ndarray]) -> Call:
        tensors = [self._placed(array) for array in arrays]
        module = self._module(arrays, tensors)
        scope = self._scope()
        if not self.replayed:
            launch: Callable[[], Any] = lambda: module(*tensors)  # noqa: E731
        else:
            launch = self._captured(scope, lambda: module(*tensors))
        return CudaCall(launch, scope, self._stream, lambda: torch.cuda.Event(enable_timing=True))

    def _captured(self, scope: CallScope, launch: Callable[[], Any]) -> Callable[[], Any]:
        """The launches of one run as a graph that is replayed as a whole; its outputs stay where they are."""
        with scope:
            for _ in range(_WARM_RUNS):
                launch()
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                outputs = launch()
        return Replay(graph, outputs, launch)

    def _translated(self, arrays: Sequence[np.ndarray]) -> fx.GraphModule:
        module = super()._translated(arrays)
        torch.cuda.synchronize()  # weights are laid out on another stream than the one that runs
        return module

    def _placed(self, array: np.ndarray) -> torch.Tensor:
        tensor = super()._placed(array)
        torch.cuda.synchronize()
        return tensor

    def _clock(self, module: fx.GraphModule) -> LayerClock:
        return CudaLayerClock(module)


class TorchCudaGraphNetwork(TorchCudaNetwork):
    """Eager kernels, recorded once and replayed: without the cost of launching them one by one."""

    replayed = True


class TorchCudaCompiledNetwork(TorchCudaNetwork):
    """Kernels of torch's inductor, recorded once and replayed."""

    compiled = True
    replayed = True
    layers = None  # type: ignore[assignment]


class CudaScope(CallScope):
    """One stream, true float32, and cuDNN's choice of algorithm by trial, for the length of a call."""

    def __init__(self, threads: int, stream: Any) -> None:
        super().__init__(threads)
        self._stream = stream

    def __enter__(self) -> None:
        super().__enter__()
        self._on_stream = torch.cuda.stream(self._stream)
        self._cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        self._matmul = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        self._cudnn.__enter__()
        self._on_stream.__enter__()

    def __exit__(self, *details: Any) -> None:
        self._on_stream.__exit__(*details)
        self._cudnn.__exit__(*details)
        torch.backends.cuda.matmul.allow_tf32 = self._matmul
        super().__exit__(*details)


class Replay:
    """A captured run. It reads the memory of its inputs and weights, so it holds on to what was captured."""

    def __init__(self, graph: Any, outputs: Any, held: Any) -> None:
        self._graph, self._outputs, self._held = graph, outputs, held

    def __call__(self) -> Any:
        self._graph.replay()
        return self._outputs


class CudaCall:
    """One run on the GPU; returns when it has ended there, so that any clock around it is right.

    Args:
        launch: puts one run on the stream and returns its outputs.
        scope: entered around it.
        stream: where it runs.
        event: makes an event that keeps the time.
    """

    def __init__(self, launch: Callable[[], Any], scope: Any, stream: Any, event: Callable[[], Any]) -> None:
        self._launch, self._scope, self._stream, self._event = launch, scope, stream, event

    def __call__(self) -> Any:
        with self._scope:
            outputs = self._launch()
        self._stream.synchronize()
        return outputs

    def timed(self, count: int) -> list[float]:
        """Milliseconds of each of `count` runs by the GPU's own clock, one after another from an idle GPU."""
        times = []
        for _ in range(count):
            start, end = self._event(), self._event()
            self._stream.synchronize()
            with self._scope:
                start.record(self._stream)
                self._launch()
                end.record(self._stream)
            end.synchronize()
            times.append(start.elapsed_time(end))
        return times


class CudaLayerClock(LayerClock):
    """Waits for the GPU around every call; small layers therefore look slower than in a whole run."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        result = target(*args, **kwargs)
        end.record()
        end.synchronize()
        self.add(start.elapsed_time(end))
        return result
