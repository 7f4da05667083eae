"""The encoders, by name. A new one is a file, a row in each table, and passes `test_encoder_contract.py`."""

from __future__ import annotations

from collections.abc import Mapping

ENCODERS: dict[str, str] = {
    "resnet": "mtnas.encoders.resnet:ResNet",
    "mobilenet": "mtnas.encoders.mobilenet:MobileNet",
    "vit": "mtnas.encoders.vit:ViT",
    "vit_moe": "mtnas.encoders.vit_moe:TaskRoutedViT",
    "resnet18": "mtnas.encoders.residual:BasicResNet",
    "resnet34": "mtnas.encoders.residual:BasicResNet",
    "resnet50": "mtnas.encoders.residual:BottleneckResNet",
    "mobilenet_v2": "mtnas.encoders.mobilenet_v2:MobileNetV2",
    "mobilenet_v3": "mtnas.encoders.mobilenet_v3:MobileNetV3",
    "uib": "mtnas.encoders.uib:UniversalNet",
    "hrnet": "mtnas.encoders.hrnet:HRNet",
}

#: Width and blocks of each stage where a job names none: as published, or as this package has used them.
SIZES: dict[str, tuple[int, tuple[int, ...]]] = {
    "resnet": (32, (2, 2, 2, 1)),
    "mobilenet": (32, (2, 2, 2, 1)),
    "resnet18": (64, (2, 2, 2, 2)),
    "resnet34": (64, (3, 4, 6, 3)),
    "resnet50": (64, (3, 4, 6, 3)),
    "mobilenet_v2": (32, (2, 3, 7, 4)),
    "mobilenet_v3": (16, (2, 3, 6, 3)),
    "uib": (32, (1, 2, 4, 4)),
    "hrnet": (16, (2, 2, 2, 2)),
    "vit": (48, (3, 3, 3, 3)),
    "vit_moe": (48, (3, 3, 3, 3)),
}

#: Encoders that give each task maps of its own: they are made for its names.
PER_TASK: frozenset[str] = frozenset({"vit_moe"})

#: Most stages an encoder can have; the others take any number.
MOST_STAGES: dict[str, int] = {"mobilenet_v2": 4, "mobilenet_v3": 4}

#: Who chooses among the experts of a routed MLP, and the module that has them; with as many experts as all tasks need,
#: `task` is `OwnExperts` of the same file.
TASK, LEARNED, TOKEN = "task", "learned", "token"
ROUTINGS: dict[str, str] = {
    TASK: "mtnas.encoders.routed:SharedExperts",
    LEARNED: "mtnas.encoders.routed_learned:LearnedExperts",
    TOKEN: "mtnas.encoders.routed_tokens:TokenExperts",
}

#: Settings of a job that an encoder reads beside its size, each with its own value.
OPTIONS: dict[str, Mapping[str, int | str]] = {
    "mobilenet": {"expansion": 4, "kernel": 3},
    "mobilenet_v2": {"kernel": 3},
    "mobilenet_v3": {"kernel": 0},  # as published, block by block
    "vit": {"expansion": 4, "attention": "multi_head"},
    "vit_moe": {"expansion": 4, "attention": "multi_head", "experts": 0, "top_k": 4, "routing": TASK},
    "uib": {"expansion": 4, "operator": "extra_dw", "squeeze": 0, "kernel": 3},
}

#: Instead of one operator, kernel or attention: every block has them all, and the arch chooses (`operators` in the
#: rules of the space).
CHOICE = "choice"

#: Settings that may say so.
CHOOSABLE: tuple[str, ...] = ("operator", "kernel", "attention")

#: Rows and columns of depthwise kernels.
KERNELS: tuple[int, ...] = (3, 5, 7)

#: Universal inverted bottlenecks: whether there is a depthwise convolution (before, after) the expansion.
UIB_OPERATORS: dict[str, tuple[bool, bool]] = {
    "ib": (False, True),
    "convnext": (True, False),
    "extra_dw": (True, True),
    "ffn": (False, False),
}

#: Attention of vision transformers, by name.
ATTENTIONS: dict[str, str] = {
    "multi_head": "mtnas.encoders.attention:MultiHead",
    "multi_query": "mtnas.encoders.attention:MultiQuery",
}
