"""A narrower width keeps the strongest channels of a network that comes trained."""

from __future__ import annotations

import numpy as np
import torch
import zoo

import mtnas
from mtnas.elastic.sort import l1_importance


def test_strong_channels_come_first_and_the_function_stays() -> None:
    model = zoo.build("residual").eval()
    zoo.randomise(model)
    image_BCHW = zoo.image(2, 32, 0)
    elastic = mtnas.make_elastic(model, image_BCHW)
    with torch.no_grad():
        expected, found = model(image_BCHW), elastic.run(image_BCHW)
    for task, output in expected.items():
        assert torch.allclose(found[task], output, rtol=1e-4, atol=1e-5)
    importance = l1_importance(elastic.groups, elastic.state())
    for group in elastic.groups:
        if group.elastic:
            assert np.diff(importance[group.name]).max() <= 1e-6
