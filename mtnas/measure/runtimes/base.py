"""The contract of a runtime: open a network from its ONNX bytes, run it, bind it for timing, time its layers, close it.

`Session` is the checked shell; the small class that talks to the library lives in `mtnas/device`, because the same
code runs on a device without this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from mtnas.base.errors import DeviceMissing, JobError, ModelError
from mtnas.measure.reach.lacking import what_lacks


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """How a network is run; recorded with every number."""

    threads: int = 1
    """Threads inside an operator; operators run one after another."""
    spinning: bool = False
    """Whether idle worker threads wait busily."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise JobError("at least one thread", received=str(self.threads), where="device.threads")


@dataclass(frozen=True)
class TensorSpec:
    """An input: its name, element type, and shape with None for a free dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def check(self, value: np.ndarray) -> None:
        """Raise `ModelError` unless the array fits."""
        fits = len(value.shape) == len(self.shape) and all(
            want is None or have == want for have, want in zip(value.shape, self.shape)
        )
        if not fits or value.dtype.name != self.dtype:
            raise ModelError(
                f"{self.dtype} of shape {_text(self.shape)}",
                received=f"{value.dtype.name} of shape {_text(value.shape)}",
                where=f"input {self.name!r}",
                cure="convert the array, or export the network for this shape",
            )


@dataclass(frozen=True)
class LayerTime:
    """One layer as the runtime executes it: fused layers stay fused.

    Args:
        name: the runtime's name for it.
        kind: the runtime's word for what it does.
        ms: median milliseconds of its runs, with the cost of timing it.
        outputs: tensors of the ONNX file that it is known to compute; empty for what the runtime added itself.
    """

    name: str
    kind: str
    ms: float
    outputs: tuple[str, ...]


class Network(Protocol):
    """What a runtime's class in the device runner offers.

    Beyond these it may have `layers(inputs, runs)`, a list of dicts with the fields of `LayerTime`, and `peak_mb()`,
    where the runtime counts device memory itself. A bound call may have `timed(count)`, the milliseconds of so many
    runs by a clock of its own.
    """

    version: str
    options: dict[str, Any]
    inputs: list[tuple[str, str, tuple[int | None, ...]]]
    outputs: list[str]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...
    def bind(self, inputs: Mapping[str, np.ndarray]) -> Callable[[], object]: ...
    def close(self) -> None: ...


class Session:
    """An open network; a context manager. Inputs are checked before the runtime sees them."""

    def __init__(self, runtime: str, network: Network) -> None:
        self.runtime = runtime
        self.version = network.version
        self.options: Mapping[str, Any] = dict(network.options)
        self.inputs = tuple(TensorSpec(*spec) for spec in network.inputs)
        self.outputs = tuple(network.outputs)
        self._network: Network | None = network

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        network = self._open()
        self._check(inputs)
        return network.run(inputs)

    def bind(self, inputs: Mapping[str, np.ndarray]) -> Callable[[], object]:
        """A call without arguments that runs on these inputs and copies nothing: what is timed."""
        network = self._open()
        self._check(inputs)
        return network.bind(inputs)

    @property
    def times_layers(self) -> bool:
        """Whether this runtime tells the time of each layer."""
        return callable(getattr(self._open(), "layers", None))

    def layers(self, inputs: Mapping[str, np.ndarray], runs: int = 20) -> tuple[LayerTime, ...]:
        """Time of each layer, in order of execution, measured apart from latency: timing layers slows them."""
        network = self._open()
        self._check(inputs)
        if not self.times_layers:
            raise ModelError(
                "a runtime that times its layers",
                received=self.runtime,
                where="layer times",
                cure="use onnxruntime, openvino, torch or tensorrt, which do",
            )
        found = getattr(network, "layers")(inputs, runs)  # noqa: B009 - not every network has it
        return tuple(LayerTime(item["name"], item["kind"], item["ms"], tuple(item["outputs"])) for item in found)

    def peak_mb(self) -> float | None:
        """Most device memory so far in MB (1e6 bytes), where the runtime counts it; None where it lies in the process.

        Then the peak is read from a fresh process: `mtnas.measure.memory.peak_memory`.
        """
        count = getattr(self._open(), "peak_mb", None)
        return None if count is None else float(count())

    def close(self) -> None:
        """Free the network; closing twice is allowed."""
        if self._network is not None:
            self._network.close()
        self._network = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Network:
        if self._network is None:
            raise ModelError("an open session", received="a closed one", where=self.runtime, cure="open it again")
        return self._network

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        names = [spec.name for spec in self.inputs]
        if set(inputs) != set(names):
            raise ModelError(f"inputs {names}", received=str(sorted(inputs)), where=self.runtime)
        for spec in self.inputs:
            spec.check(inputs[spec.name])


def open_network(runtime: str, kind: Any, model: bytes, options: RuntimeOptions) -> Session:
    """Open a network of a class that says what a machine lacks for it (`lacks()`)."""
    lacking = kind.lacks()
    if lacking:
        known = what_lacks(lacking)
        raise DeviceMissing(
            f"a machine that has what {runtime} needs",
            received=lacking,
            where=runtime,
            cure=known[1] if known else "see `mtnas doctor`, or choose a device with another runtime",
        )
    try:
        network = kind(model, options.threads, options.spinning)
    except Exception as error:  # every library raises classes of its own for a bad file
        raise unreadable(runtime, error) from error
    return Session(runtime, network)


def unreadable(runtime: str, error: Exception) -> ModelError:
    """The user's version of a runtime's refusal to open a file."""
    return ModelError(
        f"an ONNX network that {runtime} can open",
        received=str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__,
        where=runtime,
        cure="export it again; opset 20-21 and IR version 10 are read by every supported version",
    )


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if d is None else str(d) for d in shape) + ")"
