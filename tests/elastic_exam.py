"""What every encoder and head of the tables must do beyond running: shrink, be cut, be trained, be quantized.

`Subject` holds one network with its elastic model and elastic graph; the checks take one. Tiny widths, 64x64 pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import torch
import zoo
from torch import Tensor

from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.base.tables import lookup
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.count_model import count_model
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import random_selection, relative_error, run_model
from mtnas.graph.subset import keep_outputs
from mtnas.measure.runtimes.base import RuntimeOptions
from mtnas.measure.runtimes.table import RUNTIMES
from mtnas.quantize.check import int8_report
from mtnas.quantize.ptq import quantize_onnx
from mtnas.space.rules import SpaceRules
from mtnas.train.build import build_model
from mtnas.train.config import ModelConfig

SIDE = 64
TARGETS = {"segmentation": ("segmentation", 5), "depth": ("depth", 1), "presence": ("presence", 4)}
TOLERANCE = 1e-4
#: why a group may keep its width without being a fault of the network
EXPLAINED = ("is output ", "one channel", "they span one head of attention", "LayerNorm normalises over its channels")


@dataclass(frozen=True)
class Subject:
    """One network of the tables, of three tasks."""

    config: ModelConfig

    @cached_property
    def elastic(self) -> ElasticModel:
        model = build_model(self.config, TARGETS)
        zoo.randomise(model)
        made = make_elastic(
            model.eval(),
            zoo.image(2, SIDE),
            rules=SpaceRules(depth=True, operators=True, experts=True, min_channels=4),
            round_to=4,
        )
        made.calibrate_with(lambda: [zoo.image(4, SIDE, seed=9)])
        return made

    @cached_property
    def graph(self) -> ElasticGraph:
        return graph_of(self.elastic)

    def selections(self, count: int) -> list[Selection]:
        """The smallest and `count` others: prefixes of the space, and any units with any blocks, in turn."""
        elastic, rng = self.elastic, generator(0, "exam")
        found = [elastic.selection(elastic.space.smallest)]
        for number in range(count):
            prefix = elastic.selection(elastic.space.sample(rng))
            found.append(prefix if number % 2 else random_selection(self.graph, rng))
        return found


def tiny(**settings: object) -> ModelConfig:
    """The smallest network that has everything: three stages, of one, two and one block."""
    return ModelConfig(**{"width": 16, "blocks": (1, 2, 1), "head_width": 16, "head_convs": 1, **settings})  # type: ignore[arg-type]


def check_groups(subject: Subject, *, runs_often: bool = False) -> None:
    """All channels but those of the outputs may shrink; nothing was refused by the proof.

    With `runs_often`, blocks that run once per task must stay.
    """
    groups = subject.elastic.groups
    unexplained = {g.name: g.frozen for g in groups if g.frozen and not any(why in g.frozen for why in EXPLAINED)}
    assert unexplained == {}
    stated = {g.frozen for g in groups if g.frozen.startswith("is output")}
    assert stated == {f"is output {task!r}" for task in TARGETS}
    refused = {block.refused for block in subject.elastic.blocks if block.refused}
    assert refused == ({f"it runs {len(TARGETS)} times in one forward"} if runs_often else set())


def check_cuts(subject: Subject, count: int = 4) -> None:
    """A cut of the elastic graph, in onnxruntime, is the extracted torch module; so is the view of the full one."""
    picture = zoo.image(1, SIDE, seed=4)
    for selection in subject.selections(count):
        statistics = subject.elastic.statistics(selection)
        small = subject.elastic.extract(selection, statistics=statistics)
        with torch.no_grad():
            expected, viewed = small(picture), subject.elastic.run(picture, selection)
        cut = subject.graph.cut(selection, statistics={name: tensor.numpy() for name, tensor in statistics.items()})
        found = run_model(cut, picture.numpy())
        assert list(found) == list(expected) == list(viewed)
        for task, output in expected.items():
            assert relative_error(viewed[task].numpy(), output.numpy()) <= TOLERANCE, (task, selection)
            assert relative_error(found[task], output.numpy()) <= TOLERANCE, (task, selection)
        counts, file = subject.graph.counts(selection), count_model(cut)
        assert counts.params == sum(parameter.numel() for parameter in small.parameters())
        assert counts.macs == file.macs and math.isclose(counts.size_mb, file.size_mb, rel_tol=1e-9)
        assert math.isclose(counts.activation_peak_mb, file.activation_peak_mb, rel_tol=1e-9)


def check_openvino(subject: Subject) -> None:
    """The smallest network in OpenVINO computes what it does in onnxruntime."""
    model, picture = _smallest(subject), zoo.image(1, SIDE, seed=4).numpy()
    expected = run_model(model, picture)
    with lookup("openvino", RUNTIMES, "runtime")(model.SerializeToString(), RuntimeOptions()) as session:
        found = session.run({model.graph.input[0].name: picture})
    for task, output in expected.items():
        assert relative_error(found[task], output) <= 1e-3, task


def check_int8(subject: Subject) -> None:
    """Quantized, every layer runs as int8, and outputs stay near."""
    model, pictures = subject.graph.cut(Selection.of({})), zoo.image(8, SIDE, seed=5).numpy()
    quantized = quantize_onnx(model, [pictures[i : i + 1] for i in range(8)])
    report = int8_report(quantized)
    report.require_int8()
    for task, output in run_model(model, pictures[:1]).items():
        error = run_model(quantized, pictures[:1])[task] - output
        assert np.sqrt(np.mean(error**2)) <= 0.2 * np.sqrt(np.mean(output**2)), task


def check_learns(subject: Subject) -> None:
    """A few steps on one batch lower the loss, and every parameter has a gradient; for one task, its own alone."""
    torch.manual_seed(0)
    model, image = build_model(subject.config, TARGETS).train(), zoo.image(4, SIDE, seed=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(6):
        outputs = model(image)
        loss = torch.stack([_loss(task, output) for task, output in outputs.items()]).sum()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert missing == []
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0], losses


def check_subset(subject: Subject, task: str = "segmentation") -> None:
    """The file of one task alone computes the same and is cheaper."""
    model, picture = subject.graph.cut(Selection.of({})), zoo.image(1, SIDE, seed=4).numpy()
    alone = keep_outputs(model, [task])
    assert relative_error(run_model(alone, picture)[task], run_model(model, picture)[task]) == 0
    assert len(alone.graph.node) < len(model.graph.node)


def _loss(task: str, output: Tensor) -> Tensor:
    """Towards a fixed target of each output's own shape."""
    target = torch.randn(output.shape, generator=torch.Generator().manual_seed(len(task)))
    return (output - target).square().mean()


def _smallest(subject: Subject) -> onnx.ModelProto:
    return subject.graph.cut(subject.elastic.selection(subject.elastic.space.smallest))
