"""The few functions of NVIDIA's CUDA runtime that timing needs, called through ctypes: no torch, no other package.

Every name and argument here is the same in CUDA 11.4 to 13 (checked against libcudart 12.9 and 13.5). Pointers and
handles are plain integers. Source: the CUDA Runtime API reference.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
import os
import sys
from typing import Any

import numpy as np

_TO_DEVICE, _TO_HOST = 1, 2
_NON_BLOCKING = 1
_CAPTURE_RELAXED = 2
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, ...Minor
_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_OUT = ctypes.POINTER(ctypes.c_void_p)
_INT_OUT = ctypes.POINTER(ctypes.c_int)
#: name -> argument types; all return an error number
_FUNCTIONS = {
    "cudaGetDeviceCount": [_INT_OUT],
    "cudaDeviceGetAttribute": [_INT_OUT, _INT, _INT],
    "cudaRuntimeGetVersion": [_INT_OUT],
    "cudaMalloc": [_OUT, _SIZE],
    "cudaFree": [_POINTER],
    "cudaMemcpy": [_POINTER, _POINTER, _SIZE, _INT],
    "cudaDeviceSynchronize": [],
    "cudaStreamCreateWithFlags": [_OUT, ctypes.c_uint],
    "cudaStreamSynchronize": [_POINTER],
    "cudaStreamDestroy": [_POINTER],
    "cudaEventCreate": [_OUT],
    "cudaEventRecord": [_POINTER, _POINTER],
    "cudaEventSynchronize": [_POINTER],
    "cudaEventElapsedTime": [ctypes.POINTER(ctypes.c_float), _POINTER, _POINTER],
    "cudaEventDestroy": [_POINTER],
    "cudaStreamBeginCapture": [_POINTER, _INT],
    "cudaStreamEndCapture": [_POINTER, _OUT],
    "cudaGraphInstantiateWithFlags": [_OUT, _POINTER, ctypes.c_ulonglong],
    "cudaGraphLaunch": [_POINTER, _POINTER],
    "cudaGraphExecDestroy": [_POINTER],
    "cudaGraphDestroy": [_POINTER],
}


class CudaError(RuntimeError):
    """A call of the CUDA runtime failed."""


class Cuda:
    """The loaded library; every method raises `CudaError` with the library's own words."""

    def __init__(self, library: Any = None) -> None:
        self._library = library if library is not None else load_library()
        for name, kinds in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = kinds, _INT
        self._library.cudaGetErrorString.argtypes = [_INT]
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def devices(self) -> int:
        """How many GPUs this process sees."""
        return self._number("cudaGetDeviceCount")

    def runtime_version(self) -> str:
        version = self._number("cudaRuntimeGetVersion")
        return str(version // 1000) + "." + str(version % 1000 // 10)

    def compute_capability(self) -> str:
        """Of the first GPU."""
        parts = [self._number("cudaDeviceGetAttribute", which, 0) for which in (_MAJOR, _MINOR)]
        return str(parts[0]) + "." + str(parts[1])

    def allocate(self, size_bytes: int) -> int:
        return self._handle("cudaMalloc", max(size_bytes, 1))

    def free(self, memory: int) -> None:
        self._do("cudaFree", memory)

    def to_device(self, memory: int, array: np.ndarray) -> None:
        """Copy a contiguous array; returns when it is there, for every stream."""
        self._do("cudaMemcpy", memory, array.ctypes.data, array.nbytes, _TO_DEVICE)
        self._do("cudaDeviceSynchronize")  # the copy itself only waits until the array may be changed again

    def to_host(self, array: np.ndarray, memory: int) -> None:
        """Fill a contiguous array; returns when it is there."""
        self._do("cudaMemcpy", array.ctypes.data, memory, array.nbytes, _TO_HOST)

    def stream(self) -> int:
        return self._handle("cudaStreamCreateWithFlags", _NON_BLOCKING)

    def synchronize(self, stream: int) -> None:
        self._do("cudaStreamSynchronize", stream)

    def destroy_stream(self, stream: int) -> None:
        self._do("cudaStreamDestroy", stream)

    def event(self) -> int:
        """An event that keeps the time."""
        return self._handle("cudaEventCreate")

    def record(self, event: int, stream: int) -> None:
        self._do("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two recorded events; waits for the second."""
        self._do("cudaEventSynchronize", end)
        ms = ctypes.c_float()
        self._do("cudaEventElapsedTime", ctypes.byref(ms), start, end)
        return float(ms.value)

    def destroy_event(self, event: int) -> None:
        self._do("cudaEventDestroy", event)

    def begin_capture(self, stream: int) -> None:
        self._do("cudaStreamBeginCapture", stream, _CAPTURE_RELAXED)

    def end_capture(self, stream: int) -> int:
        """The captured work, ready to be launched."""
        graph = self._handle_after("cudaStreamEndCapture", stream)
        try:
            return self._handle("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._do("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._do("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._do("cudaGraphExecDestroy", graph)

    def _do(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            words = self._library.cudaGetErrorString(status)
            raise CudaError(name + ": " + (words or b"error").decode() + " (" + str(status) + ")")

    def _number(self, name: str, *arguments: Any) -> int:
        value = ctypes.c_int()
        self._do(name, ctypes.byref(value), *arguments)
        return int(value.value)

    def _handle(self, name: str, *arguments: Any) -> int:
        value = ctypes.c_void_p()
        self._do(name, ctypes.byref(value), *arguments)
        return int(value.value or 0)

    def _handle_after(self, name: str, *arguments: Any) -> int:
        value = ctypes.c_void_p()
        self._do(name, *arguments, ctypes.byref(value))
        return int(value.value or 0)


def load_library() -> Any:
    """libcudart from where the system, CUDA or a Python package keeps it; `CudaError` where there is none."""
    tried = []
    for name in library_names():
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            tried.append(str(error))
    raise CudaError("no libcudart was found; install CUDA's runtime (" + "; ".join(tried[:2]) + ")")


def library_names() -> list[str]:
    """Where libcudart may be, most usual first."""
    folders = [os.path.join(path, "nvidia", "*", "lib") for path in sys.path if path.endswith("-packages")]
    folders += ["/usr/local/cuda/lib64", "/usr/local/cuda/targets/*/lib"]
    files = [name for folder in folders for name in sorted(glob.glob(os.path.join(folder, "libcudart.so*")))[::-1]]
    found = ctypes.util.find_library("cudart")
    return [name for name in (found, "libcudart.so", "libcudart.so.13", "libcudart.so.12") if name] + files


def gpu_name() -> str:
    """Name of the first GPU as the driver knows it; a board's own name where the driver has none."""
    name = ctypes.create_string_buffer(256)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        if driver.cuInit(0) == 0 and driver.cuDeviceGetName(name, 256, 0) == 0 and name.value:
            return name.value.decode(errors="replace")
    except (OSError, AttributeError):
        pass
    try:
        with open("/proc/device-tree/model", encoding="utf-8", errors="replace") as stream:
            return stream.read().strip("\0 \n")
    except OSError:
        return "unknown GPU"
