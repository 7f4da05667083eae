"""The contract of a runtime: open a network from its ONNX bytes, run it, bind it for timing, close it.

`Session` is the checked shell; the small class that talks to the library lives in `mtnas/device`, because the same
code runs on a device without this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from mtnas.base.errors import JobError, ModelError


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


class Network(Protocol):
    """What a runtime's class in the device runner offers."""

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
