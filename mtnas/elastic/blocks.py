"""Finds the blocks of a network that can be left out, and proves each by leaving it out.

A block is a module whose input reaches its output through additions and activations alone, as in residual networks
(He et al., CVPR 2016): what lies on the other side of the additions may vanish. Skipping a block returns its input
(stochastic depth, Huang et al., ECCV 2016, does the same to train). The proof runs on a copy with random weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mtnas.base.blocks import Block, inside
from mtnas.base.errors import ModelError, first_line
from mtnas.base.forks import offered
from mtnas.base.groups import Selection
from mtnas.base.tables import nearest
from mtnas.elastic.calls import Call, adds_to_its_input, watch_calls
from mtnas.elastic.extract import extract
from mtnas.elastic.groups import Structure
from mtnas.elastic.proof import TOLERANCE, randomise, relative_error
from mtnas.elastic.slicing import Slicer
from mtnas.space.choice import Choice

_NO_CHANGE = 1e-6
_NO_RESIDUAL = "its input does not reach its output by additions and activations alone"


def find_blocks(network: nn.Module, structure: Structure, example_BCHW: Tensor, names: Sequence[str] = ()) -> Structure:
    """The structure with all blocks, in the order in which they run; those that fail are refused with a reason.

    Args:
        network: a copy in evaluation mode; its weights become random.
        structure: its proven groups.
        example_BCHW: the image batch to run.
        names: blocks named by the user; without, all that add to their input and hold no smaller one.
    """
    randomise(network.requires_grad_(False), example_BCHW)
    calls, outputs = watch_calls(network.requires_grad_(True), example_BCHW)
    network.requires_grad_(False)
    calls = {name: found for name, found in calls.items() if not _in_fork(name, structure)}
    chosen = _named(calls, network, names) if names else _innermost(calls)
    refused = {
        name: _in_fork(name, structure) or _static_reason(name, chosen, calls, network, outputs) for name in chosen
    }
    reached = _owners(chosen, structure)
    blocks = tuple(Block(name, "", reached[name], refused[name]) for name in chosen)
    blocks = _Prover(network, replace(structure, blocks=blocks), example_BCHW, calls).proven()
    return replace(structure, blocks=_staged(blocks, calls))


def _in_fork(name: str, structure: Structure) -> str:
    """Why a module inside an option is no block of the network; empty when it is outside."""
    parts = [part for fork in offered(structure.forks) for part in fork.parts]
    return next((f"it lies inside option {part}" for part in parts if inside(name, [part])), "")


def depth_choices(blocks: Sequence[Block]) -> tuple[Choice, ...]:
    """One choice per stage: how many of its blocks are kept, from the first on."""
    choices = []
    for stage, members in _by_stage(blocks).items():
        owners = dict.fromkeys(task for block in members for task in block.owners)
        choices.append(Choice(stage, tuple(range(len(members) + 1)), "depth", tuple(owners)))
    return tuple(choices)


def skipped_at(blocks: Sequence[Block], depths: Mapping[str, int]) -> tuple[str, ...]:
    """Blocks that are left out when each stage keeps so many."""
    return tuple(
        block.name
        for stage, members in _by_stage(blocks).items()
        for block in members[depths.get(stage, len(members)) :]
    )


def _by_stage(blocks: Sequence[Block]) -> dict[str, list[Block]]:
    found: dict[str, list[Block]] = {}
    for block in blocks:
        if block.skippable:
            found.setdefault(block.stage, []).append(block)
    return found


def _staged(blocks: Sequence[Block], calls: Mapping[str, Sequence[Call]]) -> tuple[Block, ...]:
    """Give each block the name of its stage: blocks of one parent, each fed by the one before."""
    counts: dict[str, int] = {}
    staged: list[Block] = []
    last: Block | None = None
    for block in blocks:
        if not block.skippable:
            staged.append(block)
            last = None
            continue
        parent = block.name.rpartition(".")[0] or "network"
        follows = last is not None and calls[last.name][0].output is calls[block.name][0].input
        if last is None or not follows or parent != (last.name.rpartition(".")[0] or "network"):
            counts[parent] = counts.get(parent, 0) + 1
        number = counts[parent]
        last = replace(block, stage=f"{parent}/depth" if number == 1 else f"{parent}/depth{number}")
        staged.append(last)
    return tuple(staged)


# --- finding ----------------------------------------------------------------------------------------------------------


def _innermost(calls: Mapping[str, Sequence[Call]]) -> list[str]:
    """Modules that add to their input and hold none that does, in the order in which they run."""
    found = [name for name, of_module in calls.items() if adds_to_its_input(of_module[0])]
    return [name for name in found if not any(other != name and inside(other, [name]) for other in found)]


def _named(calls: Mapping[str, Sequence[Call]], network: nn.Module, names: Sequence[str]) -> list[str]:
    """The user's blocks in the order in which they run; raises `ModelError` on a name the model does not have."""
    known = [name for name, _ in network.named_modules() if name]
    for name in names:
        if name not in known:
            raise ModelError("modules of this model", received=repr(name), where="blocks", cure=nearest(name, known))
    return [name for name in calls if name in names] + [name for name in names if name not in calls]


def _static_reason(
    name: str,
    chosen: Sequence[str],
    calls: Mapping[str, Sequence[Call]],
    network: nn.Module,
    outputs: Mapping[str, Tensor],
) -> str:
    """Why a block may not be left out, as far as one pass tells; empty when nothing speaks against it."""
    of_module = calls.get(name, ())
    if not of_module:
        return "it is not called with one tensor, or does not run"
    if outer := [other for other in chosen if other != name and inside(name, [other])]:
        return f"it lies inside block {outer[0]}"
    call = of_module[0]
    if not call.same_shape:
        return "its input and output differ in shape"
    if call.changes_input:
        return "it changes its input in place"
    if not adds_to_its_input(call):
        return _NO_RESIDUAL
    if len(of_module) > 1:
        return f"it runs {len(of_module)} times in one forward"
    if other := _shares_with(name, network):
        return f"it shares weights with {other}"
    for task, output in outputs.items():
        if output is call.output:
            return f"is output {task!r}"
    return ""


def _shares_with(name: str, network: nn.Module) -> str:
    """Another name, outside the block, of one of its parameters or buffers."""
    tensors = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    own = {id(tensor) for key, tensor in tensors if inside(key, [name])}
    return next((key for key, tensor in tensors if id(tensor) in own and not inside(key, [name])), "")


def _owners(names: Iterable[str], structure: Structure) -> dict[str, tuple[str, ...]]:
    """Tasks that any parameter of each block reaches."""
    by_size = sorted(structure.parameter_owners.values(), key=len, reverse=True)
    order = dict.fromkeys(task for tasks in by_size for task in tasks)
    found = {}
    for name in names:
        reached = {task for key, tasks in structure.parameter_owners.items() if inside(key, [name]) for task in tasks}
        found[name] = tuple(task for task in order if task in reached)
    return found


# --- proving ----------------------------------------------------------------------------------------------------------


class _Prover:
    """Leaves each block out, alone and together with the others."""

    def __init__(
        self, network: nn.Module, structure: Structure, example_BCHW: Tensor, calls: Mapping[str, Sequence[Call]]
    ) -> None:
        self.network, self.blocks, self.example_BCHW, self.calls = network, structure.blocks, example_BCHW, calls
        self.slicer = Slicer(network, structure)

    def proven(self) -> tuple[Block, ...]:
        reasons: dict[str, str] = {}
        standing: tuple[str, ...] = ()
        with torch.no_grad():
            full = self.network(self.example_BCHW)
            for block in self.blocks:
                reason = block.refused or self._unsteady(block.name) or self._failure((block.name,), full)
                if not reason and standing and (together := self._failure((*standing, block.name), full)):
                    reason = f"together with other blocks, {together}"
                reasons[block.name] = reason
                standing = standing if reason else (*standing, block.name)
        return tuple(replace(block, refused=reasons[block.name]) for block in self.blocks)

    def _unsteady(self, name: str) -> str:
        """Whether the block gives other numbers, or is another, after it has run."""
        layer, x = self.slicer.layers[name], self.calls[name][0].input.detach()
        before = _state(layer)
        first, second = layer(x.clone()), layer(x.clone())
        if not relative_error(first, second) <= _NO_CHANGE:
            return "it gives other numbers each time"
        after = _state(layer)
        changed = [key for key, value in after.items() if not _same(value, before.get(key))]
        return f"running it changes its own {changed[0]}" if changed else ""

    def _failure(self, skipped: tuple[str, ...], full: Mapping[str, Tensor]) -> str:
        """What goes wrong when blocks are left out; empty when nothing does."""
        plan = self.slicer.plan(Selection.of({}, skipped))
        copying = [(self.slicer.layers[name].__dict__, "forward", torch.clone) for name in skipped]
        try:
            with self.slicer.applied(plan, {}, ()):
                outputs = self.network(self.example_BCHW)
            with self.slicer.applied(plan, {}, copying):
                copied = self.network(self.example_BCHW)
            taken_out = extract(self.network, self.slicer, plan, {})(self.example_BCHW)
        except Exception as error:  # noqa: BLE001
            return f"leaving it out breaks the forward: {first_line(error)}"
        if any(outputs[task].shape != output.shape for task, output in full.items()):
            return "leaving it out changes the shape of an output"
        if not _largest_error(outputs, taken_out) <= TOLERANCE:
            return "something outside reads its layers"
        if not _largest_error(outputs, copied) <= TOLERANCE:
            return "what follows it changes its output in place"
        if not _largest_error(outputs, full) > _NO_CHANGE:
            return "leaving it out changes nothing"
        return ""


def _largest_error(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return max(relative_error(a[task], b[task]) for task in a)


def _state(layer: nn.Module) -> dict[str, object]:
    """Tensors and plain attributes of a module and of all inside it."""
    found: dict[str, object] = {
        key: value.clone() for key, value in layer.state_dict().items() if isinstance(value, Tensor)
    }
    for name, part in layer.named_modules():
        plain = {key: v for key, v in part.__dict__.items() if isinstance(v, bool | int | float | str)}
        found |= {f"{name}.{key}".lstrip("."): value for key, value in plain.items()}
    return found


def _same(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
