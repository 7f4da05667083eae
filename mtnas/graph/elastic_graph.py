"""The elastic graph: one ONNX file, its groups and blocks; any selection's network, cost and features come from it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mtnas.base.errors import CheckpointError
from mtnas.base.files import file_hash, make_folder, read_json, write_bytes, write_json
from mtnas.base.groups import ChannelGroup, Selection, Size
from mtnas.graph.bypass import Bypass, Bypasses, reduced
from mtnas.graph.count import Counter, Counts, make_counter
from mtnas.graph.cut import Sources, cut_model
from mtnas.graph.features import FeatureTable, in_order, make_features
from mtnas.graph.forks import Forks, GraphFork, forks_of, varied, ways
from mtnas.graph.input_size import at_input_size
from mtnas.graph.network import set_batch, split_weights
from mtnas.graph.plan import Plan, make_plan
from mtnas.graph.resized import Resized, at_camera_size, read_resized, write_resized
from mtnas.graph.subset import wanted_outputs

SCHEMA = "graph/1"
MODEL_FILE, PLAN_FILE = "elastic.onnx", "plan.json"
_KEPT = 128


@dataclass(frozen=True)
class StateNames:
    """How the torch model names its numbers.

    Args:
        parameters: names of learned parameters in the graph; other arrays are statistics or buffers.
        known: every name a state may hold.
        aliases: further names of tied parameters -> the name in the graph.
    """

    parameters: tuple[str, ...]
    known: tuple[str, ...]
    aliases: Mapping[str, str]


class ElasticGraph:
    """One graph, many networks. Make it with `build_elastic_graph` or `ElasticGraph.load`.

    Args:
        model: the largest network, initializers named as in `state_dict()`, batch-norm as nodes.
        groups: the channel groups; members that the graph does not hold (such as counters) are ignored.
        names: how the torch model names its numbers.
        bypasses: the blocks that may be left out, by name.
        weights: initializers that are not in the model itself.
        forks: the forks that may be chosen from.
        resized: the same network behind a resize of the image, by the input size it then runs at.
        tasks: the outputs that its networks have; empty = all of the model's. See `answering`.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        groups: Sequence[ChannelGroup],
        names: StateNames,
        bypasses: Bypasses | None = None,
        weights: Mapping[str, np.ndarray] | None = None,
        resized: Mapping[Size, Resized] | None = None,
        forks: Forks = (),
        tasks: Sequence[str] = (),
    ) -> None:
        self.groups = tuple(groups)
        self.names = names
        self.bypasses: Bypasses = dict(bypasses or {})
        self.forks = forks
        self.tasks = tuple(tasks)
        self.outputs = self.tasks or tuple(output.name for output in model.graph.output)
        shape = model.graph.input[0].type.tensor_type.shape.dim
        self.input_shape = (1, *(dim.dim_value for dim in shape[1:]))
        self._skeleton, held = split_weights(model, (*names.known, *names.parameters))
        self._weights = {**held, **(weights or {})}
        self.resized: Mapping[Size, Resized] = dict(resized or {})
        self._reduced: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], ElasticGraph] = OrderedDict()
        self._smaller: dict[Size, ElasticGraph] = {}
        self._sized: dict[Size, ElasticGraph] = {}
        self._plan: Plan = make_plan(self._skeleton, self._weights, renamed(self.groups, names.aliases))

    @property
    def plan(self) -> Plan:
        """That of the largest network."""
        return self.without(())._plan

    @staticmethod
    def load(folder: Path) -> ElasticGraph:
        """Read `elastic.onnx` and `plan.json`; raises `CheckpointError` when they do not belong together."""
        data = read_json(folder / PLAN_FILE, schema=SCHEMA)
        path = folder / MODEL_FILE
        if not path.exists() or file_hash(path) != data["model_sha256"]:
            raise CheckpointError(
                "the ONNX file this plan was written for",
                received="another file" if path.exists() else "no file",
                where=str(path),
                cure="write both again: run the space stage into a new folder",
            )
        groups = [ChannelGroup.from_json(group) for group in data["groups"]]
        names = StateNames(tuple(data["parameters"]), tuple(data["state_names"]), dict(data["aliases"]))
        bypasses = {name: Bypass(*ends) for name, ends in data.get("bypasses", {}).items()}
        resized = read_resized(folder, data.get("resized", []))
        forks = tuple(GraphFork.from_json(fork) for fork in data.get("forks", ()))
        given: dict[str, Any] = {"resized": resized, "forks": forks, "tasks": data.get("tasks", ())}
        return ElasticGraph(onnx.load_model(str(path)), groups, names, bypasses, **given)

    def save(self, folder: Path) -> None:
        """Write the largest network, runnable as it is at any batch size, and the plan beside it."""
        make_folder(folder)
        write_bytes(folder / MODEL_FILE, self.full_model().SerializeToString())
        record = {
            "schema": SCHEMA,
            "model_sha256": file_hash(folder / MODEL_FILE),
            "outputs": list(self.outputs),
            "input_shape": list(self.input_shape),
            "parameters": list(self.names.parameters),
            "state_names": list(self.names.known),
            "aliases": dict(self.names.aliases),
            "groups": [group.to_json() for group in self.groups],
            "bypasses": {name: [block.source, block.result] for name, block in self.bypasses.items()},
            **({"forks": [fork.to_json() for fork in self.forks]} if self.forks else {}),
            **({"tasks": list(self.tasks)} if self.tasks else {}),
            "resized": write_resized(folder, self.resized),
        }
        write_json(folder / PLAN_FILE, record)

    def full_model(self) -> onnx.ModelProto:
        """The largest network with all weights, batch-norm as nodes, any batch size."""
        model = onnx.ModelProto()
        model.CopyFrom(self._skeleton)
        model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in self._weights.items())
        set_batch(model, "batch")
        return model

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The smaller input sizes that the network may run at; images and outputs keep theirs."""
        return tuple(self.resized)

    def resized_to(self, size: Size | None) -> ElasticGraph:
        """The elastic graph of the network behind a resize to one of `sizes`; itself for None."""
        if size is None:
            return self
        if size not in self._smaller:
            graph = self.resized[size]
            read = {name for node in graph.model.graph.node for name in node.input}
            weights = {name: array for name, array in self._weights.items() if name in read}
            copied = onnx.ModelProto()
            copied.CopyFrom(graph.model)
            self._smaller[size] = ElasticGraph(
                copied, self.groups, self.names, graph.bypasses, weights, forks=graph.forks, tasks=self.tasks
            )
        return self._smaller[size]

    def without(self, skipped: tuple[str, ...], chosen: Mapping[str, str] | None = None) -> ElasticGraph:
        """The elastic graph of the network without these blocks, and with these options of forks alone.

        The last ones asked for are kept.

        Args:
            skipped: the blocks that return their input.
            chosen: fork -> option; the default where nothing is said.
        """
        taken = ways(self.forks, chosen or {})
        if not skipped and not taken and not self.tasks:
            return self
        key = skipped, tuple(taken.values())
        found = self._reduced.get(key)
        if found is None:
            skeleton, read = reduced(self._skeleton, self.bypasses, skipped, taken, self.tasks)
            weights = {name: array for name, array in self._weights.items() if name in read}
            found = self._reduced[key] = ElasticGraph(skeleton, self.groups, self.names, weights=weights)
            if len(self._reduced) > _KEPT:
                self._reduced.popitem(last=False)
        self._reduced.move_to_end(key)
        return found

    def answering(self, tasks: Iterable[str]) -> ElasticGraph:
        """The elastic graph of the networks that answer these tasks alone: same groups, blocks, forks and sizes.

        What only the other tasks need is in no network, count or feature; their choices change nothing.
        Raises `JobError` for a task that the network has not, and for none.
        """
        names = wanted_outputs(tasks, self.outputs)
        if names == self.outputs:
            return self
        copied = onnx.ModelProto()
        copied.CopyFrom(self._skeleton)
        given: dict[str, Any] = {"resized": self.resized, "forks": self.forks, "tasks": names}
        return ElasticGraph(copied, self.groups, self.names, self.bypasses, self._weights, **given)

    def cut(
        self,
        selection: Selection,
        *,
        state: Mapping[str, np.ndarray] | None = None,
        statistics: Mapping[str, np.ndarray] | None = None,
        fold_bn: bool = True,
        dynamic_batch: bool = False,
        input_size: tuple[int, int] | None = None,
    ) -> onnx.ModelProto:
        """The network of one selection.

        Without `statistics` (or a state that holds them at the selection's sizes) the full network's batch-norm
        statistics are sliced: right for measuring time, wrong for accuracy. The model's metadata says which:
        `mtnas.statistics` is `selection` or `full`.

        Args:
            selection: the kept units, skipped blocks, chosen options and the size that the network runs at.
            state: weights that replace the file's own; full-size or already sliced.
            statistics: running mean and variance of this selection, sliced.
            fold_bn: fold batch-norm into the layer before it where that is exact.
            dynamic_batch: leave the batch size open.
            input_size: height and width in pixels of the images, where they are not the example's.
        """
        if input_size is not None and tuple(input_size) != self.input_shape[2:]:
            return self.at_input_size(input_size).cut(
                selection, state=state, statistics=statistics, fold_bn=fold_bn, dynamic_batch=dynamic_batch
            )
        plan = self.at(selection)._plan
        sources = Sources(state, statistics, self._known, self.names.aliases)
        return cut_model(plan, selection, sources, fold_bn=fold_bn, dynamic_batch=dynamic_batch)

    def at(self, selection: Selection) -> ElasticGraph:
        """The graph of a selection's size, blocks and options alone; raises `SpaceError` where it does not fit."""
        selection.check(self.groups, tuple(self.bypasses), self.sizes, forks_of(self.forks))
        return self.resized_to(selection.size).without(selection.skipped, dict(selection.chosen))

    def at_input_size(self, size: tuple[int, int]) -> ElasticGraph:
        """The same network and groups for images of another height and width, worked out once per size.

        A selection's size then means the same share of the images; sizes that do not allow this are left out.

        Raises:
            ModelError: the graph has its input size baked in.
        """
        height, width = (int(length) for length in size)
        if (height, width) == self.input_shape[2:]:
            return self
        if (height, width) not in self._sized:
            model = at_input_size(self.full_model(), (height, width))
            resized = at_camera_size(
                {at: self.resized_to(at).full_model() for at in self.sizes}, self.resized, (height, width)
            )
            self._sized[height, width] = ElasticGraph(
                model, self.groups, self.names, self.bypasses, resized=resized, forks=self.forks, tasks=self.tasks
            )
        return self._sized[height, width]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset((*self.names.known, *self._weights))

    def counts(self, selection: Selection) -> Counts:
        """Exact costs of one selection's network; nothing is built."""
        return self.at(selection)._counter.counts(selection)

    def features(self, selection: Selection) -> np.ndarray:
        """What a latency predictor reads; see `feature_names`. All are >= 0."""
        graph = self.at(selection)
        values = graph._features.values(selection)
        if not (self.bypasses or self.resized or self.forks):
            return values
        return in_order(dict(zip(graph._features.names, values.tolist(), strict=True)), self.feature_names)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Those of the whole network; then what appears only in smaller ones, since neighbours fuse anew.

        At every input size, every block and every option of a fork is tried alone, and all together. What other
        combinations fuse differently counts for the nearest of these names (`in_order`).
        """
        depths = [(), *((name,) for name in self.bypasses), tuple(sorted(self.bypasses))]
        sized = [self.resized_to(size) for size in (None, *self.sizes)]
        graphs = [graph.without(skipped) for graph in sized for skipped in depths]
        graphs += [graph.without((), chosen) for graph in sized for chosen in varied(self.forks)]
        return tuple(dict.fromkeys(name for graph in graphs for name in graph._features.names))

    @cached_property
    def _counter(self) -> Counter:
        return make_counter(self._plan, self.names.parameters)

    @cached_property
    def _features(self) -> FeatureTable:
        return make_features(self._plan)


def renamed(groups: Sequence[ChannelGroup], aliases: Mapping[str, str]) -> list[ChannelGroup]:
    """Groups whose members speak of tied parameters by the name the graph uses."""
    result = []
    for group in groups:
        members = tuple(type(m)(aliases.get(m.name, m.name), m.axis, m.positions_UK, m.role) for m in group.members)
        result.append(ChannelGroup(group.name, group.size, members, group.owners, group.frozen))
    return result
