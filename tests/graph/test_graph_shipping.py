"""A network put together on the device is the host's file, byte for byte, and travels as a small recipe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import graph_toy
import numpy as np
import onnx
import pytest

from mtnas.base.groups import Selection
from mtnas.device.cut import Base, cut_bytes
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.measure.reach.archive import runner_archive
from mtnas.measure.reach.packing import pack
from mtnas.measure.reach.shipping import Shipping


@cache
def graph() -> ElasticGraph:
    return build_elastic_graph(graph_toy.toy(), graph_toy.image(), graph_toy.toy_groups())


def some(seed: int, prefix: bool) -> Selection:
    """Random widths: the first units of every group, or any."""
    rng, kept = np.random.default_rng(seed), {}
    for group in graph().groups:
        if group.elastic:
            count = int(rng.integers(1, group.size + 1))
            kept[group.name] = range(count) if prefix else rng.permutation(group.size)[:count]
    return Selection.of(kept)


@pytest.mark.parametrize("prefix", [True, False])
def test_the_device_makes_the_hosts_file(prefix: bool) -> None:
    shipping = Shipping(graph())
    base = Base(shipping.base)
    for seed in range(4):
        request = shipping.request(some(seed, prefix))
        recipe = request.recipe()
        assert cut_bytes(base, recipe) == request.onnx_bytes()
        large = [t for t in graph().cut(some(seed, prefix)).graph.initializer if len(t.raw_data) >= 256]
        named = [part for part in json.loads(recipe[: recipe.index(b"\n")])["parts"] if isinstance(part, list)]
        assert {part[0] for part in named} == {tensor.name for tensor in large}
        assert onnx.load_model_from_string(cut_bytes(base, recipe)) == graph().cut(some(seed, prefix))


def test_a_recipe_is_much_smaller_than_the_network() -> None:
    shipping, largest = Shipping(graph()), Selection.of({})
    weights = sum(array.nbytes for array in shipping.arrays.values())
    assert len(shipping.recipe(largest)) < 0.2 * weights < len(shipping.make(largest))


def test_what_is_no_slice_is_sent_as_it_is() -> None:
    def other(selection: Selection) -> bytes:
        model = graph().cut(selection)
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            if array.dtype == np.float32 and selection.kept:
                tensor.CopyFrom(onnx.numpy_helper.from_array(array + 1, tensor.name))
        return bytes(model.SerializeToString())

    shipping = Shipping(graph(), other)
    request = shipping.request(some(1, True))
    assert cut_bytes(Base(shipping.base), request.recipe()) == request.onnx_bytes()


def test_a_changed_base_is_noticed() -> None:
    shipping = Shipping(graph())
    broken = bytearray(shipping.base)
    broken[-40] ^= 1
    with pytest.raises(ValueError, match="hash"):
        cut_bytes(Base(bytes(broken)), shipping.recipe(Selection.of({})))


def test_a_job_holds_the_base_once() -> None:
    shipping = Shipping(graph())
    models = {f"n{seed}": shipping.request(some(seed, True)) for seed in range(3)}
    package = pack({"kind": "latency", "seed": 0}, models)
    assert sum(blob == shipping.base for blob in package.blobs.values()) == 1
    assert len(package.blobs) == 3 + 1 + 2 and len(package.keys) == 3  # recipes, base, runner and job


def test_keys_tell_networks_and_settings_apart() -> None:
    keys = {frozenset(pack({"kind": "latency", "seed": seed}, {"a": b"1", "b": b"1"}).keys) for seed in (0, 1)}
    assert len(keys) == 2 and all(len(pair) == 2 for pair in keys)
    alone = pack({"kind": "latency", "seed": 0}, {"a": b"1"}).keys
    assert set(alone) < set(pack({"kind": "latency", "seed": 0}, {"a": b"1", "b": b"1"}).keys)


def test_cutting_needs_numpy_alone(tmp_path: Path, blocked: Callable[[str], str]) -> None:
    shipping = Shipping(graph())
    request = shipping.request(some(2, False))
    (tmp_path / "runner.pyz").write_bytes(runner_archive())
    (tmp_path / "base").write_bytes(shipping.base)
    (tmp_path / "recipe").write_bytes(request.recipe())
    code = (
        blocked("onnx") + "sys.path.insert(0, 'runner.pyz')\nfrom mtnas.device.store import Store\n"
        "made = Store('.').model({'base': 'base', 'recipe': 'recipe'})\nopen('made', 'wb').write(made)\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "made").read_bytes() == request.onnx_bytes()


@pytest.fixture
def blocked() -> Callable[[str], str]:
    """Code that makes a package impossible to import."""
    return lambda name: f"import sys\nsys.modules[{name!r}] = None\n"
