"""What every stage of a run shares: the job, the folder, and the parts built from them on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtnas.base.groups import Selection
from mtnas.base.progress import Progress, Silent
from mtnas.base.seeds import derive_seed
from mtnas.job.schema import Job
from mtnas.stages.folder import RunFolder

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from mtnas.data.base import Dataset, Split
    from mtnas.elastic.model import ElasticModel
    from mtnas.graph.elastic_graph import ElasticGraph
    from mtnas.measure.profile import Profile
    from mtnas.measure.reach.base import Model
    from mtnas.measure.reach.shipping import Shipping
    from mtnas.tasks.base import Task


class RunContext:
    """Parts of one run, each built once, from the job alone; nothing here depends on the order of use."""

    def __init__(self, job: Job, out: Path, progress: Progress | None = None) -> None:
        self.job = job
        self.run = RunFolder(out)
        self.progress: Progress = progress or Silent()
        #: called by the train stage when it is about to train; under torchrun it calls the other processes
        self.before_training: Callable[[], object] = lambda: None

    def seed(self, purpose: str) -> int:
        """The seed for one purpose, derived from the job's."""
        return derive_seed(self.job.seed, purpose) % (1 << 31)

    # --- data and tasks ---------------------------------------------------------------------------------------

    @cached_property
    def dataset(self) -> Dataset:
        from mtnas.data.open import open_dataset

        return open_dataset(self.job.data, progress=self.progress)

    @property
    def data_fingerprint(self) -> str:
        return self.dataset.info.fingerprint

    @cached_property
    def tasks(self) -> dict[str, Task]:
        from mtnas.stages.parts import make_tasks

        return make_tasks(self.job, self.dataset.info)

    def split(self, name: str) -> Split:
        return self.dataset.split(name)

    def images(self, split: str, count: int, batch_size: int) -> Callable[[], Iterable[Tensor]]:
        """Image batches of a split, the same ones at every call."""

        def batches() -> Iterable[Tensor]:
            for image_BCHW, _targets in self.split(split).batches(batch_size, limit=count):
                yield image_BCHW

        return batches

    # --- networks ---------------------------------------------------------------------------------------------

    @cached_property
    def plain_model(self) -> nn.Module:
        from mtnas.stages.parts import make_model

        return make_model(self.job, self.tasks, self.dataset.info, self.seed("init"))

    @cached_property
    def own_network(self) -> str:
        """Hash of code and initial weights of a factory's network."""
        from mtnas.stages.own_inputs import own_network

        return own_network(self)

    @cached_property
    def width_step(self) -> int:
        """Widths are multiples of this."""
        from mtnas.stages.steps import width_step

        return width_step(self)

    @cached_property
    def elastic(self) -> ElasticModel:
        """The elastic model with untrained weights; `trained` loads the supernet's."""
        from mtnas.stages.parts import make_elastic_model

        elastic = make_elastic_model(self.job, self.plain_model, self.dataset.info, self.width_step)
        elastic.calibrate_with(self.images("calibrate", self.job.score.calibrate_images, 32))
        return elastic

    @cached_property
    def trained(self) -> ElasticModel:
        """The elastic model with the supernet's weights."""
        from mtnas.stages.parts import load_weights

        elastic = self.elastic
        elastic.load_state(load_weights(self.run.stage("train") / "weights.safetensors"))
        elastic.weights_changed()
        return elastic

    @cached_property
    def graph(self) -> ElasticGraph:
        from mtnas.graph.elastic_graph import ElasticGraph

        return ElasticGraph.load(self.run.stage("space") / "graph")

    @cached_property
    def profile(self) -> Profile:
        from mtnas.measure.profile import load_profile

        return load_profile(self.run.stage("profile") / "device", self.job.device)

    def cut(self, selection: Selection, state: Mapping[str, np.ndarray] | None = None) -> bytes:
        """A timing copy of a sub-network: right shapes and the device's precision, statistics of the full network."""
        return self._file_bytes(self.graph.cut(selection, state=state))

    def timing_model(self, selection: Selection) -> Model:
        """The same copy, to be cut on the device where that is another machine."""
        from mtnas.measure.reach.open import is_local

        return self.cut(selection) if is_local(self.job.device) else self._shipping.request(selection)

    @cached_property
    def _shipping(self) -> Shipping:
        from mtnas.measure.reach.shipping import Shipping

        return Shipping(self.graph, self.cut)

    @cached_property
    def precision(self) -> str:
        """What is measured and steered by: `float32` files, or copies of what quantization makes as `int8`."""
        from mtnas.measure.devices import measured_precision

        return measured_precision(self.job.device)

    @cached_property
    def _file_bytes(self) -> Callable[[onnx.ModelProto], bytes]:
        from mtnas.measure.devices import matching_device
        from mtnas.quantize.timing import file_bytes

        return file_bytes(self.precision, replace(self.job.quantize, dialect=matching_device(self.job.device).dialect))
