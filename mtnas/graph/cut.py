"""Cutting: a selection's own ONNX model, with numpy and onnx alone.

Weights are sliced by the labels of their axes, batch-norm statistics replaced by the selection's own, batch-norms
folded; the nodes are copied and the few numbers that depend on widths are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from mtnas.base.errors import CheckpointError, JobError, StaleStatistics
from mtnas.base.groups import Selection
from mtnas.graph.fold import apply_fold
from mtnas.graph.network import set_batch
from mtnas.graph.plan import Plan, Variant

State = Mapping[str, np.ndarray]
STATISTICS = (".running_mean", ".running_var")


@dataclass(frozen=True)
class Sources:
    """Where a cut takes its numbers from.

    Args:
        state: weights that replace the file's own, full-size or already sliced.
        statistics: running mean and variance of this selection, sliced.
        names: all names a state may hold; others are an error.
        aliases: other names of the same weight (tied layers).
    """

    state: State | None = None
    statistics: State | None = None
    names: frozenset[str] = frozenset()
    aliases: Mapping[str, str] | None = None

    def replacements(self) -> dict[str, np.ndarray]:
        """By the file's own names; statistics win over the state."""
        found: dict[str, np.ndarray] = {}
        for given in (self.state or {}, self.statistics or {}):
            for name, array in given.items():
                if name not in self.names:
                    raise CheckpointError(
                        "weights of this network", received=f"an unknown name {name!r}", where="state of the cut"
                    )
                found[(self.aliases or {}).get(name, name)] = np.asarray(array)
        return found


def slice_array(array: np.ndarray, keep: Mapping[int, np.ndarray]) -> np.ndarray:
    """Keep positions on some axes; the result owns its memory in C order."""
    for axis, positions in keep.items():
        array = np.take(array, positions, axis=axis)
    return array


def kept_positions_of(plan: Plan, mask: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
    """Of every weight that gets smaller: axis -> kept positions."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for name in plan.weights:
        for axis, labels in plan.labels[name].axes.items():
            stays = mask[labels]
            if not stays.all():
                found.setdefault(name, {})[axis] = np.flatnonzero(stays)
    return found


def sliced_weights(plan: Plan, keep: Mapping[str, Mapping[int, np.ndarray]], replaced: State) -> dict[str, np.ndarray]:
    """All weights at the selection's sizes."""
    arrays: dict[str, np.ndarray] = {}
    for name, full in plan.weights.items():
        positions = keep.get(name, {})
        given = replaced.get(name)
        if given is None:
            arrays[name] = slice_array(full, positions)
            continue
        given = given.astype(full.dtype, copy=False)
        small = cut_shape(full.shape, positions)
        if given.shape == full.shape:
            arrays[name] = slice_array(given, positions)
        elif given.shape == small:
            arrays[name] = given
        else:
            raise CheckpointError(
                f"shape {small} (cut) or {full.shape} (full)",
                received=str(given.shape),
                where=f"state of the cut: {name}",
                cure="pass the weights of this selection, or those of the full network",
            )
    return arrays


def cut_shape(full: tuple[int, ...], positions: Mapping[int, np.ndarray]) -> tuple[int, ...]:
    return tuple(len(positions[axis]) if axis in positions else size for axis, size in enumerate(full))


def check_statistics(plan: Plan, keep: Mapping[str, Mapping[int, np.ndarray]], given: State) -> None:
    """Statistics passed for a selection must have its sizes."""
    for name, array in given.items():
        expected = cut_shape(plan.weights[name].shape, keep.get(name, {})) if name in plan.weights else None
        if expected is not None and np.asarray(array).shape != expected:
            raise StaleStatistics(
                f"shape {expected}",
                received=str(np.asarray(array).shape),
                where=f"statistics of the cut: {name}",
                cure="pass elastic.statistics(selection) of the same selection",
            )


def statistics_kind(plan: Plan, selection: Selection, arrays: State, replaced: State) -> str:
    """`selection` when every batch-norm's statistics were given at this selection's sizes, or nothing was cut."""
    whole = not (selection.skipped or selection.chosen) and selection.size is None
    if whole and all(arrays[name].shape == full.shape for name, full in plan.weights.items()):
        return "selection"
    running = [name for name in plan.weights if name.endswith(STATISTICS)]
    own = all(name in replaced and replaced[name].shape == arrays[name].shape for name in running)
    return "selection" if own else "full"


def fill_numbers(plan: Plan, variant: Variant, model: onnx.ModelProto, mask: np.ndarray, dynamic: bool) -> State:
    """Write the numbers that depend on widths into the copied nodes; returns all constants."""
    numbers = {patch.name: patch.values(mask) for patch in plan.patches}
    stuck = [patch.name for patch in plan.patches if patch.needs_batch]
    if dynamic and stuck:
        raise JobError(
            "a network whose shapes can be written for any batch size",
            received=f"a batch size inside {stuck[0]!r}",
            where="dynamic_batch",
            cure="export with a fixed batch size",
        )
    for tensor in model.graph.initializer:
        if tensor.name in numbers:
            tensor.CopyFrom(numpy_helper.from_array(numbers[tensor.name], tensor.name))
    for block in variant.blocks:
        model.graph.node[block.node].attribute[block.attribute].i = block.value(mask)
    return {**plan.constants, **numbers}


def cut_model(
    plan: Plan, selection: Selection, sources: Sources, *, fold_bn: bool, dynamic_batch: bool
) -> onnx.ModelProto:
    """The model of one selection."""
    variant = plan.folded if fold_bn else plan.plain
    mask = plan.units.mask(selection)
    model = onnx.ModelProto()
    model.CopyFrom(variant.skeleton)
    constants = fill_numbers(plan, variant, model, mask, dynamic_batch)
    replaced = sources.replacements()
    keep = kept_positions_of(plan, mask)
    check_statistics(plan, keep, sources.statistics or {})
    arrays = sliced_weights(plan, keep, replaced)
    kind = statistics_kind(plan, selection, arrays, replaced)
    for item in plan.derived:
        arrays[item.name] = item.compute({**constants, **arrays})
    for vector in variant.inputs:
        vector.apply(arrays)
    for fold in variant.folds:
        arrays[fold.out_weight], arrays[fold.out_bias] = apply_fold(fold, arrays)
    model.graph.initializer.extend(numpy_helper.from_array(arrays[name], name) for name in variant.reads)
    set_batch(model, "batch" if dynamic_batch else 1)
    onnx.helper.set_model_props(model, {"mtnas.selection": selection.id, "mtnas.statistics": kind})
    return model
