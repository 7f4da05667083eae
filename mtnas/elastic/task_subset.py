"""Some of a network's tasks: the other outputs are dropped, and what only they need does not run.

Two ways lead there. A module that has an attribute `active_tasks` (None = all) is told the wished tasks and computes no
others, as `mtnas.heads.model.MultiTaskNet` does; so a network that routes by task runs only their experts. In any
other, modules whose parameters serve no wished task are replaced: they return `Absent`, which swallows every operation
of torch, so that whatever is computed from it is absent too. Both are proven by trying: the wished outputs must stay as
they are on random images; a module that fails this runs on, with the reason in `TaskSubset.running`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.blocks import inside
from mtnas.base.errors import JobError, first_line
from mtnas.base.tables import picked
from mtnas.elastic.contract import check_outputs, try_model
from mtnas.elastic.owners import parameter_owners
from mtnas.elastic.slicing import Patch

ACTIVE, INSEPARABLE = "active_tasks", "inseparable"
#: never called themselves
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
TOLERANCE = 1e-5


class Absent:
    """Stands for a tensor that nobody wants: every operation of torch, method and attribute gives it back.

    It passes every check by equality, so that shared layers can be called with it; it cannot be counted or ordered.
    """

    @classmethod
    def __torch_function__(cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Absent:
        return cls()

    def __getattr__(self, name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Absent:
        return self

    def __getitem__(self, key: Any) -> Absent:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __call__
    __matmul__ = __rmatmul__ = __pow__ = __rpow__ = __neg__ = __floordiv__ = __rfloordiv__ = __call__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        raise TypeError("a value of a dropped task decides what runs")

    __iter__ = None
    __len__ = None


class Dropped(nn.Module):
    """In the place of a module that only dropped tasks need."""

    def forward(self, *args: Any, **kwargs: Any) -> Absent:
        return Absent()


@dataclass(frozen=True)
class KeepOutputs:
    """A forward hook: the outputs of these tasks alone."""

    tasks: tuple[str, ...]

    def __call__(self, module: nn.Module, args: Any, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {task: outputs[task] for task in self.tasks}


@dataclass(frozen=True)
class TaskSubset:
    """How a network answers some of its tasks.

    Args:
        tasks: in the network's order; empty = all of them, and nothing changes.
        removed: names of the modules that do not run.
        running: modules that serve dropped tasks alone and run all the same -> why.
        patches: what to set in the network for the time of a call.
    """

    tasks: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    running: Mapping[str, str] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()

    def of(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs that are wished."""
        return {task: outputs[task] for task in self.tasks} if self.tasks else outputs

    def without(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors that do not belong to removed modules."""
        return {name: tensor for name, tensor in named.items() if not inside(name, self.removed)}

    def reduce(self, network: nn.Module) -> nn.Module:
        """The same network, in place, without what is removed; names of all other tensors stay."""
        if not self.tasks:
            return network
        known = dict(network.named_modules())
        for name in self.removed:
            if name in known:
                network.set_submodule(name, Dropped())
        for layer in network.modules():
            if hasattr(layer, ACTIVE):
                setattr(layer, ACTIVE, self.tasks)
        if not hasattr(network, ACTIVE):
            network.register_forward_hook(KeepOutputs(self.tasks))
        return network


def wished(tasks: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """The tasks in the network's order; raises `JobError` for unknown ones and for none."""
    return picked(tasks, known, "a task of the network", "tasks")


def check_separable(network: nn.Module, tasks: tuple[str, ...]) -> None:
    """Raise `JobError` where a module says, in an attribute `inseparable`, why some tasks cannot be taken out.

    No tasks are all of them.
    """
    for name, module in network.named_modules() if tasks else ():
        if reason := getattr(module, INSEPARABLE, ""):
            raise JobError(
                "a network from which some of its tasks can be taken out",
                received=reason,
                where=name or type(module).__name__,
                cure="route by task (model.routing: task), or take all tasks",
            )


def find_subset(
    network: nn.Module, owners: Mapping[str, Sequence[str]], tasks: tuple[str, ...], example_BCHW: Tensor
) -> TaskSubset:
    """What need not run for these tasks, tried on a copy.

    Args:
        network: the full network; it is left as it is.
        owners: tasks that each parameter reaches.
        tasks: in the network's order, fewer than all.
        example_BCHW: images of a size that it can run.
    """
    trial = _Trial(copy.deepcopy(network).eval(), tasks, example_BCHW)
    candidates = _candidates(network, owners, tasks)
    removed, running = candidates, dict[str, str]()
    if trial.failure(candidates):
        removed, waiting = [], candidates
        while waiting:
            name, *waiting = waiting
            reason = trial.failure([*removed, name])
            inner = [
                f"{name}.{child}" for child in _candidates(network.get_submodule(name), _inside(owners, name), tasks)
            ]
            if not reason:
                removed.append(name)
            elif inner:
                waiting = [*inner, *waiting]
            else:
                running[name] = reason
    return TaskSubset(tasks, tuple(removed), running, tuple(_patches(network, removed, tasks)))


def only_tasks(network: nn.Module, tasks: Iterable[str], example_BCHW: Tensor) -> nn.Module:
    """A copy of any network that answers only these tasks, and runs only what they need, in evaluation mode.

    Args:
        network: `image (B,C,H,W) -> dict[task, Tensor]`.
        tasks: names of outputs.
        example_BCHW: images that it can run.

    Raises:
        JobError: no such output, or none at all; or a network that cannot be taken apart.
    """
    traced = copy.deepcopy(network).eval().requires_grad_(True)
    outputs = try_model(traced, example_BCHW)
    names = wished(tasks, tuple(outputs))
    small = copy.deepcopy(network).eval()
    if names == tuple(outputs):
        return small
    check_separable(network, names)
    return find_subset(network, parameter_owners(traced, outputs), names, example_BCHW).reduce(small)


def _candidates(network: nn.Module, owners: Mapping[str, Sequence[str]], tasks: tuple[str, ...]) -> list[str]:
    """The outermost modules none of whose parameters reaches a wished task; of a layer with tied ones, one does not."""
    found: list[str] = []
    for name, module in network.named_modules():
        if not name or inside(name, found) or isinstance(module, _CONTAINERS):
            continue
        own = [f"{name}.{key}" for key, _ in module.named_parameters(remove_duplicate=False)]
        serves = [bool(set(owners.get(key, ())) & set(tasks)) for key in own]
        layer = not any(True for _ in module.children())
        if own and not (all(serves) if layer else any(serves)):
            found.append(name)
    return found


def _inside(owners: Mapping[str, Sequence[str]], module: str) -> dict[str, Sequence[str]]:
    """Owners of the parameters in a module, by their names there."""
    prefix = f"{module}."
    return {name.removeprefix(prefix): tasks for name, tasks in owners.items() if name.startswith(prefix)}


def _patches(network: nn.Module, removed: Sequence[str], tasks: tuple[str, ...]) -> list[Patch]:
    layers = dict(network.named_modules())
    # What is told the tasks calls no others by itself; in training it may choose otherwise than in the trial.
    telling = [name for name, layer in layers.items() if name and hasattr(layer, ACTIVE)]
    absent: list[Patch] = [(layers[n].__dict__, "forward", _absent) for n in removed if not inside(n, telling)]
    told: list[Patch] = [(layer.__dict__, ACTIVE, tasks) for layer in layers.values() if hasattr(layer, ACTIVE)]
    return [*absent, *told]


def _absent(*args: Any, **kwargs: Any) -> Absent:
    """The forward of a module that does not run."""
    return Absent()


class _Trial:
    """Runs a copy with and without modules, on random images."""

    def __init__(self, network: nn.Module, tasks: tuple[str, ...], example_BCHW: Tensor) -> None:
        self.network, self.tasks = network, tasks
        noise = torch.randn(example_BCHW.shape, generator=torch.Generator().manual_seed(0))
        self.image_BCHW = noise.to(example_BCHW)
        with torch.no_grad():
            self.expected = check_outputs(network(self.image_BCHW))

    def failure(self, removed: Sequence[str]) -> str:
        """What goes wrong without these modules; empty when nothing does."""
        small = TaskSubset(self.tasks, tuple(removed)).reduce(copy.deepcopy(self.network))
        try:
            with torch.no_grad():
                outputs = small(self.image_BCHW)
        except Exception as error:  # noqa: BLE001
            return f"the network does not run without it: {first_line(error)}"
        for task in self.tasks:
            if not isinstance(outputs[task], Tensor):
                return f"output {task!r} is computed from it"
            expected = self.expected[task]
            difference = float((outputs[task] - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
            if not difference <= TOLERANCE:
                return f"output {task!r} changes without it (by {difference:.1e})"
        return ""
