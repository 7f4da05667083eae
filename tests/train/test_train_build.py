"""Building the network of a job: ours or the user's own, the same weights each time, contract checked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtnas.base.errors import JobError, ModelError
from mtnas.train.build import build_model, check_outputs
from mtnas.train.config import FinetuneConfig, ModelConfig, TrainConfig

TARGETS = {"segmentation": ("segmentation", 8), "depth": ("depth", 1), "presence": ("presence", 8)}
SMALL = ModelConfig(width=16, blocks=(1, 1), head_width=16)
IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_outputs_in_the_order_of_the_tasks() -> None:
    outputs = build_model(SMALL, TARGETS)(IMAGE)
    assert list(outputs) == list(TARGETS)
    assert outputs["segmentation"].shape == (2, 8, 32, 32)
    assert outputs["depth"].shape == (2, 1, 32, 32)
    assert outputs["presence"].shape == (2, 8)


@pytest.mark.parametrize("encoder", ["resnet", "mobilenet"])
def test_default_network_is_about_a_million_parameters(encoder: str) -> None:
    targets = {**TARGETS, "normals": ("normals", 3)}
    model = build_model(ModelConfig(encoder=encoder), targets)
    assert 0.4e6 < sum(parameter.numel() for parameter in model.parameters()) < 1.2e6


def test_a_network_has_its_own_size_unless_told() -> None:
    assert ModelConfig(encoder="resnet50").width == 64 and ModelConfig(encoder="resnet50").blocks == (3, 4, 6, 3)
    assert ModelConfig(encoder="resnet50", width=32, blocks=(1, 1)).blocks == (1, 1)


def test_options_reach_the_encoder() -> None:
    def parameters(**settings: object) -> int:
        model = build_model(ModelConfig(encoder="uib", blocks=(1, 1), head_width=16, **settings), TARGETS)
        return sum(parameter.numel() for parameter in model.parameters())

    plain = parameters()
    assert plain == parameters(expansion=4, operator="extra_dw")
    assert parameters(expansion=2) < plain < parameters(squeeze=4)
    assert parameters(operator="ib") < plain


def test_a_routed_encoder_gives_each_task_its_own_maps() -> None:
    config = ModelConfig(encoder="vit_moe", width=16, blocks=(1, 1), head_width=16, experts=4, top_k=2)
    assert {task: tuple(x.shape) for task, x in build_model(config, TARGETS)(IMAGE).items()} == {
        "segmentation": (2, 8, 32, 32),
        "depth": (2, 1, 32, 32),
        "presence": (2, 8),
    }
    layers = build_model(config, TARGETS).encoder.stages[1][1].logits
    assert set(layers) == set(TARGETS)


def test_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build_model(SMALL, TARGETS, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    torch.randn(3)
    again, other = build_model(SMALL, TARGETS, seed=1), build_model(SMALL, TARGETS, seed=2)
    weights = [next(model.parameters()) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


class Own(nn.Module):
    def __init__(self, channels: int, wrap: bool) -> None:
        super().__init__()
        self.convolution, self.wrap = nn.Conv2d(3, channels, 3, padding=1), wrap

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        out = self.convolution(image)
        return {"depth": out} if self.wrap else out


FACTORY = """
from test_train_build import Own

def make(channels=1, wrap=True):
    return Own(channels, wrap)

def wrong():
    return 3
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_network.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return "own_network"


def test_factory_with_and_without_arguments(factory: str) -> None:
    model = build_model(ModelConfig(factory=f"{factory}:make"), {"depth": ("depth", 1)})
    check_outputs(model, IMAGE, {"depth": ("depth", 1)})
    config = ModelConfig(factory=f"{factory}:make", arguments={"channels": 4})
    assert build_model(config, {})(IMAGE)["depth"].shape[1] == 4


@pytest.mark.parametrize(
    ("factory_name", "arguments", "cure"),
    [
        ("no_such_module:make", {}, "PYTHONPATH"),
        ("own_network:mak", {}, "did you mean 'make'"),
        ("own_network:make", {"width": 3}, "parameters of own_network:make"),
        ("own_network:wrong", {}, "returns an nn.Module"),
    ],
)
def test_bad_factory(factory: str, factory_name: str, arguments: dict[str, int], cure: str) -> None:
    with pytest.raises(JobError, match=cure):
        build_model(ModelConfig(factory=factory_name, arguments=arguments), {})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import torch\nimport no_such_helper\n", 2),
        ("def make(:\n", 1),
        ("def make():\n    return {}['stem']\n", 2),
    ],
    ids=["import", "syntax", "call"],
)
def test_errors_of_the_users_own_code_name_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int
) -> None:
    name = f"own_broken_{line}_{len(text)}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=rf"{name}\.py:{line}"):
        build_model(ModelConfig(factory=f"{name}:make"), {})


def test_a_forward_that_fails_names_its_line() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            raise AssertionError("width must be even")

    with pytest.raises(ModelError, match=r"AssertionError: width must be even[\s\S]*") as caught:
        check_outputs(Broken(), IMAGE, {})
    assert "test_train_build.py" in caught.value.where


def test_an_output_that_is_no_tensor_is_told() -> None:
    class Tuples(nn.Module):
        def forward(self, x: Tensor) -> dict[str, tuple[Tensor]]:
            return {"depth": (x,)}

    with pytest.raises(ModelError, match="received: tuple"):
        check_outputs(Tuples(), IMAGE, {"depth": ("depth", 1)})


def test_contract_is_checked() -> None:
    targets = {"depth": ("depth", 1)}
    with pytest.raises(ModelError, match="dict of tensors"):
        check_outputs(Own(1, wrap=False), IMAGE, targets)
    with pytest.raises(ModelError, match=r"\(2, 1, 32, 32\)"):
        check_outputs(Own(2, wrap=True), IMAGE, targets)
    with pytest.raises(ModelError, match="an output named 'normals'"):
        check_outputs(Own(1, wrap=True), IMAGE, {"normals": ("normals", 3)})
    with pytest.raises(ModelError, match="runs on an image"):
        check_outputs(Own(1, wrap=True), IMAGE[:, :1], targets)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"encoder": "resnt"}, "model.encoder"),
        ({"dense_head": "pooled"}, "model.dense_head"),
        ({"image_head": "fpn"}, "model.image_head"),
        ({"width": 20}, "model.width"),
        ({"expansion": 2}, "model.expansion"),
        ({"encoder": "mobilenet", "expansion": -2}, "model.expansion"),
        ({"encoder": "mobilenet", "squeeze": 4}, "model.squeeze"),
        ({"encoder": "uib", "operator": "extra"}, "model.operator"),
        ({"task_vectors": "subtract"}, "model.task_vectors"),
        ({"task_vectors": "add", "dense_head": "affinity"}, "model.task_vectors"),
        ({"encoder": "vit", "experts": 4}, "model.experts"),
        ({"encoder": "vit_moe", "experts": 6}, "model.experts"),
        ({"encoder": "vit_moe", "experts": 2}, "model.experts"),
        ({"encoder": "vit_moe", "routing": "learned"}, "model.routing"),
        ({"encoder": "vit_moe", "routing": "tasks"}, "model.routing"),
        ({"encoder": "vit_moe", "dense_head": "affinity"}, "model.dense_head"),
        ({"blocks": (2, 0)}, "model.blocks"),
        ({"encoder": "mobilenet_v2", "blocks": (1, 1, 1, 1, 1)}, "model.blocks"),
        ({"output_stride": 12}, "model.output_stride"),
        ({"factory": "no_colon"}, "model.factory"),
        ({"arguments": {"a": 1}}, "model.arguments"),
    ],
)
def test_bad_model_settings(settings: dict[str, object], where: str) -> None:
    with pytest.raises(JobError, match=where):
        ModelConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": -1},
        {"batch_size": 1},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"optimizer": "adam"},
        {"balance": "fix"},
        {"precision": "float16"},
        {"channels_last": "on"},
        {"distill_weight": 1.5},
        {"random_widths": -1},
    ],
)
def test_bad_train_settings(settings: dict[str, object]) -> None:
    with pytest.raises(JobError, match=f"train.{next(iter(settings))}"):
        TrainConfig(**settings)


def test_bad_finetune_settings_name_their_own_place() -> None:
    with pytest.raises(JobError, match=r"finetune\.lr"):
        FinetuneConfig(lr=-1.0)


def test_bad_task_name() -> None:
    with pytest.raises(JobError, match="'my.task'"):
        build_model(SMALL, {"my.task": ("depth", 1)})
