"""`mtnas.profile`: the latencies of an elastic model on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mtnas.api.given import Out, device_config, given_context, identity, workplace
from mtnas.api.known import learn
from mtnas.base.files import read_json, write_json
from mtnas.base.groups import Selection
from mtnas.base.progress import Progress
from mtnas.base.quantity import Measured, Predicted
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.job.schema import Job
from mtnas.measure import profile_files
from mtnas.measure.config import MeasureConfig
from mtnas.measure.profile import Profile
from mtnas.stages import profile as stage

SCHEMA = "device-profile/1"


@dataclass(frozen=True)
class DeviceProfile:
    """What is known of an elastic model on a device. Made by `mtnas.profile`.

    Args:
        record: measurements, self-test and predictor.
        graph: the elastic graph that networks are cut from to be measured.
        config: how it was measured.
    """

    record: Profile
    graph: ElasticGraph
    config: MeasureConfig

    def predict(self, selection: Selection) -> Predicted:
        """Latency in ms of a sub-network, with an interval; `elastic.selection(arch)` gives its selection."""
        return self.record.predict(self.graph.features(selection)[None, :])[0]

    @property
    def full(self) -> Measured:
        """The measured latency in ms of the unpruned network."""
        return self.record.extreme("largest").record.p50

    @property
    def smallest(self) -> Measured:
        """The measured latency in ms of the smallest network."""
        return self.record.extreme("smallest").record.p50

    def to_json(self) -> dict[str, Any]:
        return self.record.to_json()

    def __str__(self) -> str:
        error = self.record.predictor.held_out.to_json()
        told = ", ".join(f"{key} {value:.3g}" for key, value in error.items() if isinstance(value, float))
        doubt = f"\n  the predictor does not steer: {self.record.doubt}" if self.record.doubt else ""
        return (
            f"{self.record.device.name}: {len(self.record.points)} networks measured, "
            f"{self.smallest.value:.3f} to {self.full.value:.3f} ms\n  held-out error of the predictor: {told}{doubt}"
        )

    def save(self, folder: str | Path) -> None:
        """Write `device/`, `graph/` and `profile.json`; `mtnas.load_profile` reads them."""
        folder = Path(folder)
        self.graph.save(folder / "graph")
        self.record.save(folder / "device")
        write_json(folder / "profile.json", {"schema": SCHEMA, "config": asdict(self.config)})


def profile(
    elastic: ElasticModel,
    device: str = "local-ort",
    *,
    samples: int | None = None,
    config: MeasureConfig | None = None,
    tasks: Sequence[str] | None = None,
    out: Out = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DeviceProfile:
    """Measure sub-networks on a device and fit a latency predictor that knows its own error.

    Weights do not matter for latency: profile before, during or after training.

    Args:
        elastic: from `make_elastic`; its example's height and width are measured, with a batch of one.
        device: a folder in `hardware_profiles/`, or a path to a folder with a `device.yaml`.
        samples: networks to measure, when `config` should stay as it is otherwise.
        config: the measuring protocol; it names the device itself, and `device` is then not read.
        tasks: measure networks that answer these alone, as `elastic.extract(arch, tasks=...)` takes them out.
        out: folder for the measurements (`3-profile` in it); the same call continues where it was interrupted.
        seed: of the choice of networks.
        progress: shows a bar.

    Raises:
        ModelError: the network cannot be exported.
        JobError: no such device or task, or `out` holds measurements made under other circumstances.
        PackageMissing: the device's runtime is not installed.
    """
    config = device_config(device, config)
    if samples is not None:
        config = replace(config, samples=samples)
    inputs = {**identity(elastic, weights=False), "config": asdict(config), "seed": seed}
    graph = graph_of(elastic)
    if tasks is not None:
        graph = graph.answering(tasks)
        inputs["tasks"] = list(graph.outputs)
    with workplace(out, "profile", inputs) as call:
        if call.done:
            record = profile_files.load_profile(call.folder / "device", config)
        else:
            context = given_context(Job(device=config, seed=seed), call.run, elastic, progress=progress)
            context.graph = graph
            call.finish(stage.run(context, call.folder))
            record = context.profile
        found = DeviceProfile(record, graph, config)
        if tasks is None:
            learn(elastic, profile=found)
        return found


def load_profile(folder: str | Path) -> DeviceProfile:
    """Read what `DeviceProfile.save` wrote; refuses a profile of another machine, runtime version or thread count."""
    folder = Path(folder)
    stored = read_json(folder / "profile.json", schema=SCHEMA)["config"]
    config = MeasureConfig(**stored)
    record = profile_files.load_profile(folder / "device", config)
    return DeviceProfile(record, ElasticGraph.load(folder / "graph"), config)
