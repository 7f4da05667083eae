"""Networks and files measured side by side, for the functions that take one network instead of an elastic model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx

from mtnas.api.given import device_config
from mtnas.api.profiling import DeviceProfile
from mtnas.base.groups import Selection
from mtnas.base.progress import Progress, Silent
from mtnas.base.quantity import Measured
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import matching_device, measured_precision
from mtnas.measure.energy import energy
from mtnas.measure.gate import Verdict, never_slower
from mtnas.measure.memory import peak_memory
from mtnas.measure.protocol import measure
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.timing import file_bytes
from mtnas.search.trial import Cost
from mtnas.stages.costs import counted_costs_of

Predict = Callable[[Selection], float]

#: what is measured of one network at a time, in loops or processes of its own
_SINGLY: dict[str, Callable[[bytes, MeasureConfig], Measured]] = {"memory_mb": peak_memory, "energy_mj": energy}


@dataclass(frozen=True)
class Bench:
    """The cuts of one elastic graph on one device."""

    graph: ElasticGraph
    config: MeasureConfig
    progress: Progress = field(default_factory=Silent)

    def cut(self, selection: Selection) -> bytes:
        """A timing copy: right shapes and the device's precision, sliced statistics."""
        return self._file_bytes(self.graph.cut(selection))

    @cached_property
    def _file_bytes(self) -> Callable[[onnx.ModelProto], bytes]:
        dialect = matching_device(self.config).dialect
        return file_bytes(measured_precision(self.config), QuantizeConfig(dialect=dialect))

    def gate(self, before: Selection, after: Selection) -> Verdict:
        return never_slower(self.cut(before), self.cut(after), self.config)

    def costs(self, selections: Mapping[str, Selection], limits: Collection[str]) -> dict[str, dict[str, Cost]]:
        """Counted costs, latency measured side by side, and memory and energy where they are limited."""
        records = measure(
            {name: self.cut(chosen) for name, chosen in selections.items()}, self.config, progress=self.progress
        )
        found: dict[str, dict[str, Cost]] = {}
        for name, chosen in selections.items():
            latency = records[name].statistic(self.config.statistic)
            found[name] = {**counted_costs_of(self.graph, chosen), "latency_ms": latency}
            for cost in sorted(set(limits) & set(_SINGLY)):
                found[name][cost] = _SINGLY[cost](self.cut(chosen), self.config)
        return found

    def value(self, name: str, selection: Selection) -> float:
        """One cost other than latency."""
        if name in _SINGLY:
            return _SINGLY[name](self.cut(selection), self.config).value
        return counted_costs_of(self.graph, selection)[name].value

    def predict(self, profile: DeviceProfile | None) -> Predict:
        """What steers the order of steps: a fitting profile's predictor, else blocked multiply-adds and traffic.

        Roughly 50 multiply-adds take the time of one byte to or from memory; only the order matters.
        """
        names = self.graph.feature_names
        if profile is not None and profile.record.trustworthy and profile.graph.feature_names == names:
            return lambda selection: profile.record.predict(self.graph.features(selection)[None, :])[0].value
        weights_F = np.array([{"total/macs16": 1.0, "total/bytes16": 50.0}.get(name, 0.0) for name in names])
        return lambda selection: float(self.graph.features(selection) @ weights_F)


def bench_settings(profile: DeviceProfile | str) -> MeasureConfig:
    """The protocol of a profile, or the usual one of a device by name."""
    return profile.config if isinstance(profile, DeviceProfile) else device_config(profile)
