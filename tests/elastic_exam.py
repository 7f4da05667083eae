"""What every encoder and head of the tables must do beyond running: shrink, be cut, be trained, be quantized.

`Subject` holds one network with its elastic model and elastic graph; the checks take one. Tiny widths, 64x64 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch
import zoo
from torch import Tensor, nn

from mtnas.base.blocks import inside
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.base.tables import lookup
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.export.onnx_file import write_onnx
from mtnas.forks.one_of import OneOf
from mtnas.graph.count_model import count_model
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.features_file import describe
from mtnas.graph.prove import random_selection, relative_error, run_model
from mtnas.graph.subset import keep_outputs
from mtnas.measure.runtimes.base import RuntimeOptions
from mtnas.measure.runtimes.table import RUNTIMES
from mtnas.quantize.check import int8_report
from mtnas.quantize.ptq import quantize_onnx
from mtnas.space.arch import Arch
from mtnas.space.rules import SpaceRules
from mtnas.train.build import build_model
from mtnas.train.config import ModelConfig
from mtnas.verify.config import INT8_TOLERANCE
from mtnas.verify.numerics import compare, require

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

    @cached_property
    def turns(self) -> list[Selection]:
        """Random widths and depths with the first option of every fork, the second, and so on until each had its turn;
        none where there are no forks.
        """
        space, rng = self.elastic.space, generator(0, "turns")
        options = {fork.choice: space.by_name[fork.choice].options for fork in self.elastic.open_forks}
        found = []
        for turn in range(max(map(len, options.values()), default=0)):
            taken = {name: own[turn % len(own)] for name, own in options.items()}
            found.append(self.elastic.selection(Arch.of(space.sample(rng).as_dict | taken)))
        return found

    def selections(self, count: int) -> list[Selection]:
        """The smallest, each turn, and `count` others: any units with any blocks, prefixes of the space, in turn."""
        elastic, rng = self.elastic, generator(0, "exam")
        found = [elastic.selection(elastic.space.smallest), *self.turns]
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


def check_features(subject: Subject) -> None:
    """What the predictor reads of an arch is what its file says."""
    for selection in subject.selections(4):
        known = dict(zip(subject.graph.feature_names, subject.graph.features(selection).tolist(), strict=True))
        found = describe(subject.graph.cut(selection))
        assert known["total/macs"] == subject.graph.counts(selection).macs == found["total/macs"]
        check_sums(known)
        shared = known.keys() & found.keys()
        differ = {name for name in shared if not math.isclose(known[name], found[name], rel_tol=1e-9)}
        assert {name for name in differ if "grouped" not in name and "depthwise" not in name} == set(), selection


def check_sums(features: Mapping[str, float]) -> None:
    """The kinds of work at all places add up to the whole, and so does the traffic."""
    placed = {name: value for name, value in features.items() if "@" in name}
    for whole, amount in (("total/macs", "macs"), ("total/macs16", "macs16"), ("total/bytes16", "bytes16")):
        found = sum(value for name, value in placed.items() if name.rpartition("/")[2] == amount)
        assert math.isclose(found, features[whole], rel_tol=1e-9), (whole, found, features[whole])


def check_delivered(subject: Subject, folder: Path) -> None:
    """Files of archs that together have every option: they are what torch computes, in float and in 8 bit."""
    pictures = zoo.image(8, SIDE, seed=5)
    for number, selection in enumerate(subject.turns):
        statistics = subject.elastic.statistics(selection)
        with torch.no_grad():
            expected = subject.elastic.extract(selection, statistics=statistics)(pictures)
        reference = {task: output.numpy() for task, output in expected.items()}
        cut = subject.graph.cut(selection, statistics={name: tensor.numpy() for name, tensor in statistics.items()})
        path = write_onnx(cut, folder / f"{number}.onnx")
        require(compare(path, reference, pictures.numpy()), str(path))
        check_openvino(subject, cut)
        eight_bit = quantize_onnx(cut, [picture.numpy() for picture in pictures.split(1)])
        int8_report(eight_bit).require_int8()
        path = write_onnx(eight_bit, folder / f"{number}-int8.onnx")
        require(compare(path, reference, pictures.numpy(), INT8_TOLERANCE, kind="rms"), str(path))


def check_openvino(subject: Subject, model: onnx.ModelProto | None = None) -> None:
    """A network, by default the smallest, in OpenVINO computes what it does in onnxruntime."""
    model, picture = model or _smallest(subject), zoo.image(1, SIDE, seed=4).numpy()
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
    """A few steps on one batch lower the loss, with every option of every fork, taken in turn; in each step every
    parameter has a gradient but those of the options that do not run.
    """
    torch.manual_seed(0)
    model, image = build_model(subject.config, TARGETS).train(), zoo.image(4, SIDE, seed=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    forks = [module for module in model.modules() if isinstance(module, OneOf)]
    turns = max((len(fork.parts()) for fork in forks), default=1)
    losses: list[list[float]] = [[] for _ in range(turns)]
    for step in range(6 * turns):
        for fork in forks:
            fork.default = list(fork.parts())[step % turns % len(fork.parts())]
        outputs = model(image)
        loss = torch.stack([_loss(task, output) for task, output in outputs.items()]).sum()
        losses[step % turns].append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert {name for name, parameter in model.named_parameters() if parameter.grad is None} == _idle(model)
        optimizer.step()
    assert all(turn[-1] < 0.9 * turn[0] for turn in losses), losses


def check_subset(subject: Subject, task: str = "segmentation") -> None:
    """The file of one task alone computes the same and is cheaper."""
    model, picture = subject.graph.cut(Selection.of({})), zoo.image(1, SIDE, seed=4).numpy()
    alone = keep_outputs(model, [task])
    assert relative_error(run_model(alone, picture)[task], run_model(model, picture)[task]) == 0
    assert len(alone.graph.node) < len(model.graph.node)


def _idle(model: nn.Module) -> set[str]:
    """Parameters of the options that do not run."""
    forks = {name: module for name, module in model.named_modules() if isinstance(module, OneOf)}
    parts = [
        f"{name}.options.{other}" for name, fork in forks.items() for other in fork.parts() if other != fork.default
    ]
    return {name for name, _ in model.named_parameters() if inside(name, parts)}


def _loss(task: str, output: Tensor) -> Tensor:
    """Towards a fixed target of each output's own shape."""
    target = torch.randn(output.shape, generator=torch.Generator().manual_seed(len(task)))
    return (output - target).square().mean()


def _smallest(subject: Subject) -> onnx.ModelProto:
    return subject.graph.cut(subject.elastic.selection(subject.elastic.space.smallest))
