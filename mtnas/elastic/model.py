"""`ElasticModel`: one full-size network that runs and extracts any selection of its channels and blocks.

It holds no current arch: every call says which selection it wants. Methods are not safe to call from several threads
at once, since a running selection borrows the network's tensors.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mtnas.base.blocks import Block, inside, skippable_names
from mtnas.base.errors import CheckpointError, JobError, ModelError, StaleStatistics
from mtnas.base.forks import Fork, offered
from mtnas.base.groups import ChannelGroup, Selection, Size
from mtnas.elastic import sort
from mtnas.elastic.blocks import find_blocks, skipped_at
from mtnas.elastic.contract import check_example
from mtnas.elastic.extract import extract
from mtnas.elastic.groups import Structure, ignored_names
from mtnas.elastic.recalibrate import estimate, tracked_norms
from mtnas.elastic.sizes import InputSizes, find_sizes
from mtnas.elastic.slicing import Patch, Slicer
from mtnas.elastic.structure import find_structure, space_of_structure
from mtnas.elastic.summary import Summary, summarise
from mtnas.elastic.task_subset import TaskSubset, check_separable, find_subset, wished
from mtnas.space.arch import Arch
from mtnas.space.resolution import chosen_size
from mtnas.space.rules import SpaceRules
from mtnas.space.space import Space

FULL = Selection(())
_STATISTICS_KEPT = 512


class HasArch(Protocol):
    """Anything that carries an arch, such as a trial of a search."""

    @property
    def arch(self) -> Arch: ...


class Configurer(Protocol):
    """Finds the network of an elastic model for limits by name, weights and floors by task; for some tasks alone."""

    def __call__(
        self,
        elastic: ElasticModel,
        budget: Mapping[str, float | int | str],
        preference: Mapping[str, float],
        floors: Mapping[str, float | int | str],
        tasks: Sequence[str] | None = None,
    ) -> HasArch: ...


def make_elastic(
    model: nn.Module,
    example_inputs: Tensor,
    *,
    rules: SpaceRules | None = None,
    round_to: int = 8,
    ignored_layers: Sequence[str | nn.Module] = (),
    blocks: Sequence[str] = (),
    prove: bool = True,
) -> ElasticModel:
    """Find, prove and offer the channel groups of any network `image (B,C,H,W) -> dict[task, Tensor]`.

    Where the rules have depth, or blocks are named, blocks that can be left out are found and proven as well; where
    they have operators or experts, the options of every `OneOf` or `SumOf`; where they have resolution, the network is
    tried at every smaller input size.

    The model is copied; the caller's stays as it is.

    Args:
        model: any module that keeps the contract.
        example_inputs: an image batch it can run.
        rules: which widths the groups may have; by default a quarter, a half, three quarters and all.
        round_to: channels of every width are multiples of this.
        ignored_layers: modules, dotted names or globs whose output channels must stay.
        blocks: dotted names of the blocks that may be left out; by default all that add to their input.
        prove: test every group by cutting it (a few forward passes); without, links are believed.
    """
    check_example(example_inputs)
    network = copy.deepcopy(model).eval()
    example = example_inputs.detach().clone()
    ignored = ignored_names(model, ignored_layers)
    rules = rules or SpaceRules()
    with torch.enable_grad():  # owners are told by gradients, wherever this is called
        structure = find_structure(network, example, ignored, rules, prove)
        if rules.depth or blocks:
            structure = find_blocks(copy.deepcopy(network), structure, example, blocks)
    structure = replace(structure, inputs=find_sizes(network, example, rules.resolution))
    chosen = skippable_names(structure.blocks) or offered(structure.forks) or structure.inputs.sizes
    if not any(group.elastic for group in structure.groups) and not chosen:
        frozen = "; ".join(f"{group.name}: {group.frozen}" for group in structure.groups[:6])
        raise ModelError(
            "at least one group of channels that may shrink",
            received=frozen or "no convolution or linear layer",
            where="make_elastic",
            cure="use layers of torch.nn between the image and the outputs; see ignored_layers",
        )
    return ElasticModel(network, structure, space_of_structure(structure, rules, round_to), example)


class ElasticModel:
    """One network, all its selections. Made by `make_elastic`.

    Args:
        model: the full network, in evaluation mode.
        structure: its channel groups, blocks, forks and input sizes, frozen and refused ones included, and the owners
            of its parameters.
        space: the widths, depths, options and input sizes to choose from.
        example: an image batch.
    """

    def __init__(self, model: nn.Module, structure: Structure, space: Space, example: Tensor) -> None:
        self.model = model
        self.groups: tuple[ChannelGroup, ...] = structure.groups
        self.blocks: tuple[Block, ...] = structure.blocks
        self.inputs: InputSizes = structure.inputs
        self.forks: tuple[Fork, ...] = structure.forks
        self.parameter_owners = dict(structure.parameter_owners)
        self.space = space
        self.example = example
        with torch.no_grad():
            self.tasks: tuple[str, ...] = tuple(model(example))
        self._slicer = Slicer(model, structure)
        self._norms = tracked_norms(model)
        self._batches: Callable[[], Iterable[Tensor]] | None = None
        self._statistics: OrderedDict[tuple[Selection, tuple[str, ...]], dict[str, Tensor]] = OrderedDict()
        self._subsets: dict[tuple[str, ...], TaskSubset] = {self.tasks: TaskSubset()}
        self._stored_hold = True
        self.configurer: Configurer | None = None
        self._weights = weights_mark(model)
        self._training = _training_patches(model)
        self._evaluation: list[Patch] = [(layer.__dict__, "training", False) for layer in model.modules()]

    # --- running ------------------------------------------------------------------------------------------------

    def selection(self, arch: Arch | HasArch) -> Selection:
        """Prefix widths, depths, options and input size of an arch, or of what carries one, without what is whole."""
        arch = arch if isinstance(arch, Arch) else arch.arch
        self.space.check(arch)
        widths = {c.name: int(arch[c.name]) for c in self.space.choices if c.kind == "width"}
        depths = {c.name: int(arch[c.name]) for c in self.space.choices if c.kind == "depth"}
        chosen = {fork.name: str(arch[fork.choice]) for fork in self.open_forks}
        size = chosen_size(self.space, arch)
        return self._compact(Selection.prefix(widths, skipped_at(self.blocks, depths), size, chosen))

    @property
    def skippable(self) -> tuple[str, ...]:
        """Names of the blocks that may be left out."""
        return skippable_names(self.blocks)

    @property
    def resized(self) -> dict[Size, nn.Module]:
        """The whole network for each smaller input size, as a plain module that resizes by itself."""
        return {size: self.inputs.resizing(size).attach(copy.deepcopy(self.model)) for size in self.inputs.sizes}

    @property
    def open_forks(self) -> tuple[Fork, ...]:
        """The forks that may be chosen from."""
        return offered(self.forks)

    def options(self, selection: Selection) -> dict[str, str]:
        """Fork -> its option, of every fork that runs."""
        return dict(self._slicer.plan(self._compact(selection)).chosen)

    def absent(self, selection: Selection) -> tuple[str, ...]:
        """Modules that do not run: skipped blocks, and options of forks that are not chosen."""
        return self._slicer.plan(self._compact(selection)).absent

    def _compact(self, selection: Selection) -> Selection:
        return selection.compact(self.groups, self.open_forks)

    def run(
        self,
        image_BCHW: Tensor,
        selection: Selection | None = None,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        training: bool = False,
        tasks: Iterable[str] | None = None,
    ) -> dict[str, Tensor]:
        """The outputs of a selected network, as a view of the full one.

        Args:
            image_BCHW: the images, at full size whatever size the network runs at; so are the outputs.
            selection: kept units, skipped blocks, chosen options and input size; `None` is the full network.
            statistics: batch-norm statistics to use; by default those of `self.statistics(selection)`.
            training: use batch statistics and active dropout; stored statistics are not touched.
            tasks: answer these only; what the others alone need does not run. By default all.
        """
        selection, subset = self._compact(selection or FULL), self.answering(tasks)
        if training:
            return self._call(image_BCHW, selection, {}, self._training, subset)
        if statistics is None and selection == FULL and self._stored_holds():
            return self._call(image_BCHW, selection, {}, self._evaluation, subset)
        known = statistics is not None
        found = self._checked(statistics or {}, selection, subset) if known else self._known(selection, subset)
        return self._call(image_BCHW, selection, found, self._evaluation, subset)

    def answering(self, tasks: Iterable[str] | None) -> TaskSubset:
        """What need not run when only these tasks are asked for, found and proven once; `None` is all tasks.

        Raises `JobError` for unknown tasks and for none at all.
        """
        names = self.tasks if tasks is None else wished(tasks, self.tasks)
        if names not in self._subsets:
            self._subsets[names] = find_subset(self.model, self.parameter_owners, names, self.example)
        return self._subsets[names]

    def _call(
        self,
        image_BCHW: Tensor,
        selection: Selection,
        tensors: Mapping[str, Tensor],
        patches: Sequence[Patch],
        subset: TaskSubset,
    ) -> dict[str, Tensor]:
        with self._slicer.applied(self._slicer.plan(selection), tensors, [*patches, *subset.patches]):
            if selection.size is None:
                return subset.of(self.model(image_BCHW))
            resizing = self.inputs.resizing(selection.size)
            return resizing.enlarge(subset.of(self.model(resizing.shrink(image_BCHW))))

    def rehearse(self, selection: Selection, tasks: Iterable[str] | None = None) -> None:
        """Run one image through a selected network, for hooks to watch; batch-norm reads stored statistics, cut."""
        image_BCHW = self.example[:1].to(next(self.model.parameters()).device)
        with torch.no_grad():
            self._call(image_BCHW, self._compact(selection), {}, self._evaluation, self.answering(tasks))

    # --- batch-norm statistics ----------------------------------------------------------------------------------

    def calibrate_with(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        """Where batch-norm statistics come from: a function that gives the calibration images, batch by batch."""
        self._batches = batches
        self._statistics.clear()

    def weights_changed(self) -> None:
        """Say that weights were trained or replaced: no statistics hold any more.

        Changes in place (optimizers, `load_state_dict`) are noticed without it; writing through `.data` is not.
        """
        self._stored_hold = False
        self._statistics.clear()
        self._weights = weights_mark(self.model)

    def statistics(self, selection: Selection = FULL, *, tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Batch-norm statistics of a selected network, by state-dict name; estimated when they are not known.

        With `tasks`, those of the layers that these tasks need; what the others alone need does not run.

        Raises `StaleStatistics` when they are not known and there are no calibration images.
        """
        return self._known(self._compact(selection), self.answering(tasks))

    def _known(self, selection: Selection, subset: TaskSubset) -> dict[str, Tensor]:
        """The statistics of a compact selection; those of all tasks hold for some of them as well."""
        if selection == FULL and (self._stored_holds() or not subset.tasks):
            if not self._stored_holds():
                self._store(self._estimate(FULL, subset))
            return {name: tensor.clone() for name, tensor in self._cut_buffers(FULL, subset).items()}
        self._notice_changes()
        for key in ((selection, ()), (selection, subset.tasks)):
            if key in self._statistics:
                return subset.without(self._statistics[key])
        known = self._statistics[selection, subset.tasks] = self._estimate(selection, subset)
        if len(self._statistics) > _STATISTICS_KEPT:
            self._statistics.popitem(last=False)
        return known

    def _notice_changes(self) -> None:
        if self._weights != weights_mark(self.model):
            self.weights_changed()

    def _stored_holds(self) -> bool:
        """Whether the network's own buffers are the statistics of its present weights."""
        self._notice_changes()
        return self._stored_hold or not self._norms

    def _cut_buffers(self, selection: Selection, subset: TaskSubset) -> dict[str, Tensor]:
        """The stored statistics of all norms that a selection has, cut to it."""
        plan = self._slicer.plan(selection)
        norms = [norm for norm in self._norms if not inside(norm, (*plan.absent, *subset.removed))]
        found = {}
        for name in (f"{norm}.{key}" for norm in norms for key in ("running_mean", "running_var")):
            store, key = self._slicer.stores[name]
            found[name] = self._slicer.cut(name, plan, store[key])
        return found

    def _store(self, statistics: Mapping[str, Tensor]) -> None:
        for name, tensor in statistics.items():
            store, key = self._slicer.stores[name]
            store[key].copy_(tensor)
        self._stored_hold = True

    def _checked(
        self, statistics: Mapping[str, Tensor], selection: Selection, subset: TaskSubset
    ) -> Mapping[str, Tensor]:
        """The caller's statistics; raises `StaleStatistics` unless they have this selection's names and widths."""
        for name, own in self._cut_buffers(selection, subset).items():
            if name not in statistics or statistics[name].shape != own.shape:
                given = tuple(statistics[name].shape) if name in statistics else "nothing"
                raise StaleStatistics(
                    f"batch-norm statistics of shape {tuple(own.shape)}",
                    received=str(given),
                    where=name,
                    cure="pass elastic.statistics(selection) of the same selection",
                )
        return statistics

    def _estimate(self, selection: Selection, subset: TaskSubset) -> dict[str, Tensor]:
        if not self._norms:
            return {}
        if self._batches is None:
            raise StaleStatistics(
                "batch-norm statistics of this selection",
                received="weights or widths that they were not estimated for, and no calibration images",
                where=f"selection {selection.id}",
                cure="call elastic.calibrate_with(lambda: image_batches) once, or pass statistics=",
            )

        def run(image_BCHW: Tensor, patches: list[Patch]) -> object:
            return self._call(image_BCHW, selection, {}, [*self._evaluation, *patches], subset)

        found = estimate(run, self._norms, self._batches())
        if not found:
            raise StaleStatistics(
                "calibration images", received="no batch", where="calibrate_with", cure="give at least one batch"
            )
        return {name: found.get(name, own) for name, own in self._cut_buffers(selection, subset).items()}

    # --- taking out ---------------------------------------------------------------------------------------------

    def extract(
        self,
        selection: Selection | Arch | HasArch,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        tasks: Iterable[str] | None = None,
    ) -> nn.Module:
        """The selected network as a plain module with weights of its own, in evaluation mode; with `tasks`, or found by
        `configure` for some, without what only the others need; `JobError` where it is `inseparable`."""
        chosen = self._compact(selection) if isinstance(selection, Selection) else self.selection(selection)
        subset = self.answering((getattr(selection, "tasks", ()) or None) if tasks is None else tasks)
        check_separable(self.model, subset.tasks)
        found = self._known(chosen, subset) if statistics is None else self._checked(statistics, chosen, subset)
        return self._taken_out(chosen, found, subset)

    def _taken_out(self, selection: Selection, statistics: Mapping[str, Tensor], subset: TaskSubset) -> nn.Module:
        small = subset.reduce(extract(self.model, self._slicer, self._slicer.plan(selection), statistics))
        return small if selection.size is None else self.inputs.resizing(selection.size).attach(small)

    def configure_with(self, configurer: Configurer | None) -> None:
        """What answers `configure`; `mtnas.train`, `mtnas.profile` and `mtnas.search` set one that knows theirs."""
        self.configurer = configurer

    def configure(
        self,
        budget: Mapping[str, float | int | str] | None = None,
        preference: Mapping[str, float] | None = None,
        floors: Mapping[str, float | int | str] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> HasArch:
        """The network for a budget and a preference, without training; `extract` takes it out.

        Args:
            budget: limits by name, absolute or a percent of the unpruned network: `{"latency_ms": "50%"}`.
            preference: task -> weight, 1 where silent; preferred tasks get larger decoders.
            floors: task -> worst allowed score, absolute or relative to the unpruned network: `{"depth": "-3%"}`.
            tasks: a network that answers these alone; costs and percents are of such networks, profiled once.

        Raises:
            JobError: the tasks and data to score networks with are not known yet.
            Infeasible: no network was found that keeps them.
        """
        if self.configurer is None:
            raise JobError(
                "an elastic model that knows its tasks and data",
                received="one that was neither trained nor searched in this process",
                where="configure",
                cure="call mtnas.configure(elastic, tasks, data, profile, budget=...), or mtnas.train first",
            )
        return self.configurer(self, budget or {}, preference or {}, floors or {}, tasks)

    def sort_channels(
        self,
        importance: Mapping[str, np.ndarray] | None = None,
        leading: Mapping[str, int] | None = None,
        along: sort.Along = sort.alone,
    ) -> sort.Order:
        """Move the most important units to the front; the full network's function stays. Returns each place's old unit.

        Args:
            importance: a number per unit, by group; by default the L1 norm of the weights that read them.
            leading: sort so many units of these groups, the first ones, and no others; by default all.
            along: what moves with a parameter, such as its optimizer's state; without, sort before or after training.
        """
        self._notice_changes()
        order = sort.sort(self.groups, self.model.state_dict(keep_vars=True), importance, leading, along)
        self._statistics.clear()
        self._weights = weights_mark(self.model)
        return order

    # --- state --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """The full network's parameters and buffers, detached copies."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over parameters and buffers; names and shapes must agree. Statistics are estimated anew."""
        own = self.model.state_dict()
        wrong = sorted(set(own) ^ set(state)) or [n for n in own if own[n].shape != state[n].shape]
        if wrong:
            raise CheckpointError(
                "the state of this network",
                received=f"a difference in {wrong[0]!r} ({len(wrong)} in all)",
                where="load_state",
                cure="build the model with the settings it was saved with",
            )
        self.model.load_state_dict(dict(state))
        self.weights_changed()

    def summary(self) -> Summary:
        """Groups, blocks, forks, sizes, owners, what is frozen or refused and why, and the largest possible gain."""
        ends = FULL, self.selection(self.space.smallest)
        sizes = self._taken_out(ends[0], {}, TaskSubset()), self._taken_out(ends[1], {}, TaskSubset())
        parts = self.groups, self.blocks, self.forks, self.inputs
        return summarise(parts, self.space, self.example.to(next(self.model.parameters()).device), sizes)


def _training_patches(model: nn.Module) -> list[Patch]:
    """Training mode everywhere; norms neither read nor write their running statistics."""
    patches: list[Patch] = [(layer.__dict__, "training", True) for layer in model.modules()]
    tracking = [layer for layer in model.modules() if getattr(layer, "track_running_stats", False)]
    return patches + [(layer.__dict__, "track_running_stats", False) for layer in tracking]


def weights_mark(model: nn.Module) -> tuple[int, ...]:
    """Changes whenever a parameter is written in place or replaced."""
    return tuple(number for parameter in model.parameters() for number in (id(parameter), parameter._version))
