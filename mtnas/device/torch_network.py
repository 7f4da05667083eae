"""A network in torch on this CPU: eager, or compiled by torch's inductor.

The ONNX file is translated to a torch.fx graph (`torch_graph.py`), so that torch runs exactly the file that the other
runtimes run. Thread count and precision switches of torch belong to the whole process; they are set for the length of
one call and put back, so nothing leaks into other work.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import Any, Dict, Mapping, Sequence, Tuple

import numpy as np
import torch
from torch import fx

from .inputs import Arrays, Call
from .layer_names import layer_table
from .torch_graph import OnnxNetwork, Shapes

#: weights packed for the kernels; no worker processes that would stay beside the measurement
_COMPILE = {"freezing": True, "compile_threads": 1}
Timed = Dict[Tuple[str, str, Tuple[str, ...]], float]


class TorchNetwork:
    """Operator by operator, images and weights with channels last in memory."""

    package = "torch"
    device = "cpu"
    compiled = False
    channels_last = True

    def __init__(self, model: Any, threads: int = 1, spinning: bool = False) -> None:
        lacking = self.lacks()
        if lacking:
            raise RuntimeError(lacking)
        self._threads = threads
        self._network: Any = OnnxNetwork(model, self.device, self.channels_last)
        self._modules: dict[Shapes, Any] = {}
        self.version = torch.__version__
        self.options = self._describe(spinning)
        self.inputs = self._network.inputs
        self.outputs = self._network.outputs
        zeros = [np.zeros([1 if d is None else d for d in shape], dtype) for _, dtype, shape in self.inputs]
        self._bound(zeros)  # what torch cannot compute is refused when the file is opened, not when it is timed

    @classmethod
    def lacks(cls) -> str:
        """What this machine lacks for this runtime; empty when nothing."""
        if cls.compiled and not shutil.which(os.environ.get("CXX", "g++")):
            return "torch.compile on a CPU needs a C++ compiler, and none was found (g++, or CXX in the environment)"
        return ""

    def _describe(self, spinning: bool) -> dict[str, Any]:
        return {
            "device": self.device,
            "compiled": self.compiled,
            "threads": self._threads,
            "spinning": "as torch's OpenMP library does",
            "precision": "as in the file; Q/DQ pairs are computed in float32",
            "float32_matmul": torch.get_float32_matmul_precision(),
            "compile_options": dict(_COMPILE) if self.compiled else None,
            "memory_format": "channels last" if self.channels_last else "contiguous",
        }

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        found = self.bind(inputs)()
        return {name: np.array(value.cpu().numpy()) for name, value in zip(self.outputs, found)}

    def bind(self, inputs: Mapping[str, np.ndarray]) -> Call:
        """A call without arguments that runs on these inputs, converted to torch's layout once, here."""
        return self._bound([inputs[name] for name, _, _ in self.inputs])

    def layers(self, inputs: Mapping[str, np.ndarray], runs: int) -> list[dict[str, Any]]:
        """Median milliseconds of each ONNX node over `runs` runs, one operator after another, after one run to warm up.

        Not given by compiled code, whose kernels are not the file's nodes.
        """
        arrays = [inputs[name] for name, _, _ in self.inputs]
        clock = self._clock(self._translated(arrays))
        tensors = [self._placed(array) for array in arrays]
        taken: list[Timed] = []
        with self._scope():
            for _ in range(runs + 1):
                clock.spent = {}
                clock.run(*tensors)
                taken.append(clock.spent)
        kinds = {name: kind for name, kind, _ in taken[0]}
        outputs = {name: list(tensors) for name, _, tensors in taken[0]}
        return layer_table([{name: ms for (name, _, _), ms in run.items()} for run in taken[1:]], kinds, outputs)

    def close(self) -> None:
        self._network, self._modules = None, {}

    def _bound(self, arrays: Sequence[np.ndarray]) -> Call:
        tensors = [self._placed(array) for array in arrays]
        return BoundCall(self._module(arrays, tensors), tensors, self._scope())

    def _scope(self) -> CallScope:
        return CallScope(self._threads)

    def _module(self, arrays: Sequence[np.ndarray], tensors: Sequence[torch.Tensor]) -> Any:
        shapes = tuple(array.shape for array in arrays)
        if shapes not in self._modules:
            module: Any = self._translated(arrays)
            if self.compiled:
                module = torch.compile(module, dynamic=False, options=dict(_COMPILE))
                with self._scope():
                    module(*tensors)
            self._modules[shapes] = module
        return self._modules[shapes]

    def _translated(self, arrays: Sequence[np.ndarray]) -> fx.GraphModule:
        return self._network.translate(tuple(array.shape for array in arrays))

    def _clock(self, module: fx.GraphModule) -> LayerClock:
        return LayerClock(module)

    def _placed(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        laid_out = self.channels_last and tensor.dim() == 4
        return tensor.contiguous(memory_format=torch.channels_last) if laid_out else tensor


class TorchCompiledNetwork(TorchNetwork):
    """Compiled to C++ by torch's inductor when opened, weights packed for its kernels; needs a C++ compiler."""

    compiled = True
    channels_last = False  # inductor chooses layouts itself
    layers = None  # type: ignore[assignment]


class CallScope:
    """Threads of torch for the length of a call, without gradients; what was there before comes back after."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._quiet = torch.no_grad()

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        if self._before != self._threads:
            torch.set_num_threads(self._threads)
        self._quiet.__enter__()

    def __exit__(self, *details: Any) -> None:
        self._quiet.__exit__(*details)
        if self._before != self._threads:
            torch.set_num_threads(self._before)


class BoundCall:
    """One run on fixed inputs; the outputs are torch's and belong to the next call as well."""

    def __init__(self, module: Any, tensors: Sequence[torch.Tensor], scope: CallScope) -> None:
        self._module, self._tensors, self._scope = module, list(tensors), scope

    def __call__(self) -> Any:
        with self._scope:
            return self._module(*self._tensors)


class LayerClock(fx.Interpreter):
    """Runs a translated graph node by node and adds up the time of the calls that came from one ONNX node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.spent: Timed = {}
        self._place: tuple[str, str, tuple[str, ...]] = ("", "", ())

    def run_node(self, n: fx.Node) -> Any:
        self._place = n.meta.get("onnx", ("", "", ()))
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        start = time.perf_counter_ns()
        result = target(*args, **kwargs)
        self.add((time.perf_counter_ns() - start) / 1e6)
        return result

    def add(self, ms: float) -> None:
        self.spent[self._place] = self.spent.get(self._place, 0.0) + ms
