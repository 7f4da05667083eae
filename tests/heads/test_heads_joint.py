"""What joint decoders and deeplab compute, against their formulas."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtnas.encoders.resnet import ResNet
from mtnas.heads.affinity import Affinity, CrossTask
from mtnas.heads.deeplab import PyramidPooling
from mtnas.heads.fpn import FPN
from mtnas.heads.model import MultiTaskNet
from mtnas.heads.pooled import Pooled
from mtnas.heads.task_expert import Gate, TaskExpert
from mtnas.train.build import build_model
from mtnas.train.config import ModelConfig

LEVELS = (8, 16)
TASKS = {"b": 3, "a": 2}


def maps(requires_grad: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, s, s, generator=generator).requires_grad_(requires_grad)
        for c, s in zip(LEVELS, (16, 8), strict=True)
    ]


def test_what_the_mean_contributes_is_its_part_of_a_concatenation() -> None:
    """1x1 of [branches, constant map] = 1x1 of the branches + 1x1 of the constant."""
    torch.manual_seed(0)
    pyramid, x = PyramidPooling(8, 8).eval(), torch.randn(2, 8, 6, 6)
    branches = torch.cat([branch(x) for branch in pyramid.branches], 1)
    reduced = pyramid.pooled[1](pyramid.pooled[0](x.mean((2, 3), keepdim=True))).expand(-1, -1, 6, 6)
    norm, last = pyramid.project[1], pyramid.pooled[2]
    folded = pyramid.project[0].weight * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None, None]
    together = F.conv2d(torch.cat([branches, reduced], 1), torch.cat([folded, last.weight], 1), last.bias)
    torch.testing.assert_close(pyramid(x), together.relu(), rtol=1e-4, atol=1e-5)


def test_a_convolution_over_places_of_an_affinity_is_one_of_the_keys() -> None:
    """The published fusion (3x3 over the map of every row of q'k) with one kernel for all places, moved inside."""
    q, k, kernel = torch.randn(5, 6 * 7), torch.randn(5, 6, 7), torch.randn(3, 3)
    affinity = (q.T @ k.flatten(1)).view(6 * 7, 1, 6, 7)
    fused = F.conv2d(affinity, kernel[None, None], padding=1).view(6 * 7, 6 * 7)
    inside = F.conv2d(k[None], kernel.expand(5, 1, 3, 3), padding=1, groups=5)[0]
    torch.testing.assert_close(fused, q.T @ inside.flatten(1), rtol=1e-4, atol=1e-4)


def test_affinity_mixes_values_by_products_of_queries_and_keys() -> None:
    """By sums over places, written out."""
    torch.manual_seed(0)
    exchange, own, everything = CrossTask(4, 8, 3).eval(), torch.randn(1, 4, 2, 3), torch.randn(1, 8, 2, 3)
    q, k, v = (x[0].flatten(1) for x in (exchange.query(everything), exchange.key(everything), exchange.value(own)))
    mixed = torch.zeros_like(v)
    for m in range(6):
        for n in range(6):
            mixed[:, m] += v[:, n] * (q[:, m] * k[:, n]).sum() / 6
    torch.testing.assert_close(exchange(own, everything), exchange.output(mixed.view(1, 3, 2, 3)))


def test_affinity_starts_near_its_own_features_and_learns_from_the_others() -> None:
    head = Affinity(LEVELS, TASKS, width=8, convs=1)
    for exchange in head.exchange.values():
        assert torch.equal(exchange.output[1].weight, torch.full((8,), 0.05))
    head(maps(), (32, 32))["a"].sum().backward()
    assert all(parameter.grad is not None for parameter in head.features["b"].parameters())
    assert all(parameter.grad is None for parameter in head.exchange["b"].parameters())


def test_a_gate_is_one_number_between_0_and_1() -> None:
    gate = Gate(8)
    found = gate(100 * torch.randn(3, 8, 4, 4))
    assert found.shape == (3, 1, 1, 1) and found.min() >= 0 and found.max() <= 1
    nn.init.zeros_(gate.weigh.weight)
    nn.init.zeros_(gate.weigh.bias)
    assert torch.equal(gate(torch.randn(1, 8, 4, 4)).flatten(), torch.tensor([0.5]))


def test_experts_run_once_for_all_tasks_and_closed_gates_shut_them_out() -> None:
    torch.manual_seed(0)
    head = TaskExpert(LEVELS, TASKS, width=8, convs=1).eval()
    expert, calls = head.levels[0].experts.branches[2], []
    handle = expert.body.register_forward_hook(lambda *_: calls.append(1))
    before = head(maps(), (32, 32))
    handle.remove()
    assert len(calls) == 1
    gate = expert.gates["a"].weigh
    nn.init.constant_(gate.bias, -1e4)
    closed = head(maps(), (32, 32))
    nn.init.zeros_(expert.body[0].weight)
    nn.init.constant_(expert.body[1].bias, 3.0)
    changed = head(maps(), (32, 32))
    assert not torch.equal(before["a"], closed["a"]) and torch.equal(before["b"], closed["b"])
    assert torch.equal(closed["a"], changed["a"]) and not torch.equal(closed["b"], changed["b"])


def test_fewer_experts_are_what_the_first_of_them_give() -> None:
    """With the gates of the others shut, all four answer as the first two."""
    torch.manual_seed(0)
    head = TaskExpert(LEVELS, TASKS, width=8, convs=1).eval()
    for level in head.levels:
        for expert in level.experts.branches[2:]:
            for gate in expert.gates.values():
                nn.init.constant_(gate.weigh.bias, -1e4)
    expected = head(maps(), (32, 32))
    for level in head.levels:
        level.experts.keep("2")
        assert len(level.experts.branches) == 2
    found = head(maps(), (32, 32))
    assert all(torch.allclose(found[task], output, atol=1e-6) for task, output in expected.items())


def test_memory_goes_from_coarse_to_fine_and_each_task_has_its_own() -> None:
    head = TaskExpert(LEVELS, TASKS, width=8, convs=1)
    given = maps(requires_grad=True)
    head(given, (32, 32))["a"].sum().backward()
    assert all(level.grad is not None and level.grad.any() for level in given)
    assert all(parameter.grad is None for level in head.levels for parameter in level.memory["b"].parameters())


def test_outputs_keep_the_order_of_the_tasks_whoever_decodes_them() -> None:
    encoder = ResNet(width=8, depth=(1, 1))
    channels = [level.channels for level in encoder.levels]
    joint, single = TaskExpert(channels, TASKS, width=8, convs=1), Pooled(channels, 4, width=8)
    model = MultiTaskNet(encoder, {"z": single}, joint, ("a", "z", "b")).eval()
    assert {task: out.shape[1] for task, out in model(torch.randn(1, 3, 32, 32)).items()} == {"a": 2, "z": 4, "b": 3}
    assert list(model(torch.randn(1, 3, 32, 32))) == ["a", "z", "b"]


def test_a_job_gets_one_joint_decoder_for_its_pixel_tasks() -> None:
    config = ModelConfig(width=16, blocks=(1, 1), head_width=16, dense_head="affinity")
    targets = {"depth": ("depth", 1), "presence": ("presence", 4), "normals": ("normals", 3)}
    model = build_model(config, targets)
    assert isinstance(model.joint, Affinity) and list(model.joint.output) == ["depth", "normals"]
    assert list(model.heads) == ["presence"] and list(model(torch.randn(2, 3, 64, 64))) == list(targets)
    images_only = build_model(config, {"presence": ("presence", 4)})
    assert images_only.joint is None and list(images_only.heads) == ["presence"]
    plain = build_model(ModelConfig(width=16, blocks=(1,), head_width=16), targets)
    assert plain.joint is None and isinstance(plain.heads["depth"], FPN)
