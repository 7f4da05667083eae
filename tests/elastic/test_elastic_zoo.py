"""The zoo itself keeps the model contract."""

from __future__ import annotations

import pytest
import torch
import zoo


@pytest.mark.parametrize("name", zoo.ZOO)
def test_zoo_models_return_named_finite_outputs(name: str) -> None:
    first, second = zoo.build(name, seed=1), zoo.build(name, seed=1)
    outputs, again = first(zoo.image()), second(zoo.image())
    assert outputs and all(isinstance(key, str) for key in outputs)
    for task, output in outputs.items():
        assert torch.isfinite(output).all() and output.std() > 1e-3
        assert torch.equal(output, again[task])
