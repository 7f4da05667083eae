"""Some tasks of the task-routed transformer: their own experts alone run, in evaluation and in training."""

from __future__ import annotations

import torch
import zoo

from mtnas.elastic.model import make_elastic
from mtnas.elastic.task_subset import only_tasks
from mtnas.encoders.vit_moe import TaskRoutedViT
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet


def routed() -> MultiTaskNet:
    torch.manual_seed(0)
    body = TaskRoutedViT(("depth", "edges"), experts=4, chosen=1, width=16, depth=(1, 1, 1))
    channels = [level.channels for level in body.levels]
    heads = {task: make_head("fpn", level_channels=channels, channels=1, width=16) for task in body.tasks}
    model = MultiTaskNet(body, heads)
    zoo.randomise(model)
    return model.eval()


def test_only_the_experts_of_the_wished_task_are_left() -> None:
    model = routed()
    small = only_tasks(model, ["edges"], zoo.image())
    torch.testing.assert_close(small(zoo.image())["edges"], model(zoo.image())["edges"])
    whole, left = ({n for n, _ in m.named_parameters() if ".experts." in n} for m in (model, small))
    assert left and len(left) == len(whole) // 4  # one of four experts of every routed MLP


def test_training_of_one_task_runs_whatever_experts_it_chooses() -> None:
    elastic = make_elastic(routed(), zoo.image(), round_to=4)
    for seed in range(8):  # the choice in training is noisy
        torch.manual_seed(seed)
        outputs = elastic.run(zoo.image(), training=True, tasks=["edges"])
        assert list(outputs) == ["edges"]
        outputs["edges"].mean().backward()
    assert all(parameter.grad is None for parameter in elastic.model.heads["depth"].parameters())
