"""Layer times and device memory through the runner, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from measure_subject import quick_config

from mtnas.base.errors import MtnasError
from mtnas.device import job as jobs
from mtnas.device.store import Store
from mtnas.measure.layers import layer_times


def test_layers_of_a_network_on_the_device(chain: Callable[..., bytes]) -> None:
    found = layer_times(chain(16), quick_config(), runs=5)
    written = {tensor for layer in found for tensor in layer.outputs}
    assert {"r0", "r1", "r2", "r3"} <= written
    assert all(layer.ms > 0 and layer.kind for layer in found)


def test_a_runtime_without_layer_times_says_so(chain: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_open", lambda *_: Pretended())
    job = {"models": {"a": "a.onnx"}, "runtime": "torch-compiled", "seed": 0, "runs": 2}
    with pytest.raises(ValueError, match="torch-compiled"):
        jobs.layers(job, FakeStore(), lambda _: None)  # type: ignore[arg-type]


def test_device_memory_replaces_the_memory_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_open", lambda *_: Pretended())
    seen: list[dict[str, Any]] = []
    job = {"models": {"base": "b.onnx", "net": "n.onnx"}, "runtime": "pretended", "seed": 0}
    jobs.memory(job, FakeStore(), lambda records: seen.extend(records))  # type: ignore[arg-type]
    assert seen == [{"event": "memory", "name": "net", "base_mb": 0.0, "peak_mb": 12.5}]


def test_an_unreadable_network_is_an_error_of_the_user() -> None:
    with pytest.raises(MtnasError):
        layer_times(b"no network", quick_config())


class FakeStore(Store):
    def model(self, entry: Any) -> Any:
        return entry

    def file(self, entry: Any, folder: str) -> Any:
        return entry


class Pretended:
    """A network whose memory lies on a device that counts it."""

    inputs: list[Any] = []  # noqa: RUF012
    options: dict[str, Any] = {}  # noqa: RUF012

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {}

    def bind(self, inputs: dict[str, np.ndarray]) -> Callable[[], None]:
        return lambda: None

    def peak_mb(self) -> float:
        return 12.5
