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
    body = TaskRoutedViT(("depth", "edges"), top_k=2, width=16, depth=(1, 1, 1))
    channels = [level.channels for level in body.levels]
    heads = {task: make_head("fpn", level_channels=channels, channels=1, width=16) for task in body.tasks}
    model = MultiTaskNet(body, heads)
    zoo.randomise(model)
    return model.eval()


def test_only_the_experts_of_the_wished_task_are_left() -> None:
    model = routed()
    small = only_tasks(model, ["edges"], zoo.image())
    torch.testing.assert_close(small(zoo.image())["edges"], model(zoo.image())["edges"])
    whole, left = ({n for n, _ in m.named_parameters() if ".branches." in n} for m in (model, small))
    assert left and len(left) == len(whole) // 2  # two of four experts of every routed MLP


def test_training_of_one_task_teaches_its_experts_alone() -> None:
    elastic = make_elastic(routed(), zoo.image(), round_to=4)
    outputs = elastic.run(zoo.image(), training=True, tasks=["edges"])
    assert list(outputs) == ["edges"]
    outputs["edges"].mean().backward()
    taught = {name for name, parameter in elastic.model.named_parameters() if parameter.grad is not None}
    assert any(".own.edges." in name for name in taught)
    assert not any(".own.depth." in name or name.startswith("heads.depth") for name in taught)
