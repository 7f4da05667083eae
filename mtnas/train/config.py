"""Settings of the network and of its training. Knows no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name
from mtnas.encoders.settings import chosen_options, sized
from mtnas.encoders.table import PER_TASK as MAPS_PER_TASK
from mtnas.heads.table import DENSE_HEADS, HEADS, JOINT_HEADS, TASK_VECTORS
from mtnas.heads.table import NONE as NO_VECTORS
from mtnas.train.balance.table import BALANCES, PER_TASK
from mtnas.train.features.table import AUTO, FEATURE_FORMS, NONE

OPTIMIZERS: tuple[str, ...] = ("adamw", "sgd")
PRECISIONS: tuple[str, ...] = ("auto", "float32", "bfloat16")
INDEPENDENT = "independent"
BRANCHES: tuple[str, ...] = (INDEPENDENT, "together")
SANDWICH, TURNS = "sandwich", "turns"
STEPS: tuple[str, ...] = (AUTO, SANDWICH, TURNS)
#: settings that do not change the weights
INERT: tuple[str, ...] = ("checkpoint_seconds", "tensorboard", "watch_epochs", "watch_images", "wait_seconds")
SWITCHES: tuple[str, ...] = ("auto", "always", "never")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network: ours, from an encoder and heads, or the user's own from a factory."""

    encoder: str = "resnet"
    """Row of the encoders' table."""
    width: int = 0
    """Channels of the stem, the others in proportion (docs/networks.md); 0 = the encoder's own."""
    blocks: tuple[int, ...] = ()
    """Blocks of each stage, one stage per stride from 4 on; empty = the encoder's own."""
    output_stride: int = 16
    """Input pixels per row of the coarsest level: 4, 8, 16 or 32."""
    expansion: int = 0
    """Hidden channels per input channel of a block (mobilenet, uib), or of an MLP (vit, vit_moe); 0 = the encoder's
    own."""
    operator: str = ""
    """Depthwise convolutions of uib's blocks: ib, convnext, extra_dw, ffn, or choice; empty = extra_dw."""
    squeeze: int = 0
    """Channels of a block per channel inside its squeeze-excite gate (uib; 4 is usual); 0 = no gate."""
    kernel: int | str = 0
    """Rows and columns of depthwise kernels (mobilenet, mobilenet_v2, mobilenet_v3, uib): 3, 5, 7, or choice: every
    block has its own; 0 = the encoder's own."""
    attention: str = ""
    """Attention of vit and vit_moe: multi_head, multi_query with one key and value for all heads, or choice; empty =
    multi_head."""
    experts: int = 0
    """Experts of every second MLP (vit_moe), a multiple of top_k; 0, and at most, = top_k for each task. By token, 0 =
    16."""
    top_k: int = 0
    """Experts that a task, or a token, has of them (vit_moe), together the work of one dense MLP; 0 = 4."""
    routing: str = ""
    """Who chooses experts (vit_moe): task, or token, to compare with (docs/networks.md); empty = task."""
    dense_head: str = "fpn"
    """Decoder of the tasks with one answer per pixel: one for each, or one for all (affinity, task_expert)."""
    image_head: str = "pooled"
    """Head of the tasks with one answer per image."""
    head_width: int = 48
    """Hidden channels of each head."""
    head_convs: int = 2
    """Hidden convolutions of each head."""
    task_vectors: str = "none"
    """A learned vector for each task and level that is added to the maps before its head: none, add or multiply."""
    factory: str = ""
    """The user's own network instead: "package.module:function", returning an nn.Module."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory."""

    def __post_init__(self) -> None:
        width, blocks = sized(self.encoder, self.width, self.blocks)
        object.__setattr__(self, "width", width)  # so that the resolved job says which network it is
        object.__setattr__(self, "blocks", blocks)
        chosen_options(self.encoder, self.encoder_options)
        dense_heads = {**{name: HEADS[name] for name in sorted(DENSE_HEADS)}, **JOINT_HEADS}
        check_name(self.dense_head, dense_heads, "head", "model.dense_head")
        image_heads = {name: row for name, row in HEADS.items() if name not in DENSE_HEADS}
        check_name(self.image_head, image_heads, "head", "model.image_head")
        check_name(self.task_vectors, dict.fromkeys(TASK_VECTORS), "setting", "model.task_vectors")
        alone = self.task_vectors == NO_VECTORS or self.dense_head not in JOINT_HEADS
        cure = f"choose {' or '.join(sorted(DENSE_HEADS))}, or leave model.task_vectors out"
        _require(alone, "heads of one task each", self.dense_head, "model.task_vectors", cure)
        shared = self.encoder not in MAPS_PER_TASK or self.dense_head not in JOINT_HEADS
        cure = f"choose {' or '.join(sorted(DENSE_HEADS))}, or the encoder vit"
        _require(
            shared,
            f"heads of one task each: {self.encoder} has no maps that all tasks share",
            self.dense_head,
            "model.dense_head",
            cure,
        )
        for name in ("width", "head_width"):
            value = getattr(self, name)
            _require(value > 0 and value % 8 == 0, "a positive multiple of 8", value, f"model.{name}", "try 32 or 64")
        _require(self.head_convs >= 1, "at least one", self.head_convs, "model.head_convs", "2 is the default")
        strides = (4, 8, 16, 32)
        _require(self.output_stride in strides, f"one of {strides}", self.output_stride, "model.output_stride")
        if self.factory:
            parts = self.factory.split(":")
            sound = len(parts) == 2 and all(parts)
            cure = "for example my_package.networks:make_network"
            _require(sound, '"package.module:function"', self.factory, "model.factory", cure)
        elif self.arguments:
            raise JobError("no arguments without a factory", where="model.arguments", cure="set model.factory")

    @property
    def encoder_options(self) -> dict[str, int | str]:
        """Settings that only some encoders read."""
        return {
            "expansion": self.expansion,
            "operator": self.operator,
            "squeeze": self.squeeze,
            "kernel": self.kernel,
            "attention": self.attention,
            "experts": self.experts,
            "top_k": self.top_k,
            "routing": self.routing,
        }


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What training and fine-tuning share."""

    epochs: int = 20
    """Passes over the train split (train.step turns: of each network of a round)."""
    batch_size: int = 32
    """Images per step; an incomplete last batch is left out."""
    accumulate: int = 1
    """Equal parts in which a step takes its images, for less memory; gradients add up, batch-norm sees one part."""
    optimizer: str = "adamw"
    """adamw or sgd (momentum 0.9)."""
    lr: float = 3e-3
    """Peak learning rate; cosine to zero."""
    weight_decay: float = 0.02
    """Never on batch-norm, biases or loss weights."""
    warmup_epochs: float = 1.0
    """Linear warm-up before the cosine."""
    ema: float = 0.0
    """Decay of the weights' moving average, which is then delivered (0.999 is usual for long trainings); 0 = none."""
    clip_norm: float = 5.0
    """Largest gradient norm; 0 = no clipping."""
    augment: bool = True
    """Flips, zooms and colours, drawn from the seed."""
    distill_weight: float = 0.5
    """Share of the teacher in a student's loss; the rest is the labels'."""
    balance: str = "fixed"
    """How the tasks' losses are weighed: a row of the balances' table."""
    flat_radius: float = 0.0
    """Length of the step to each task's steepest point, whose gradient makes minima flat (0.05 is usual); 0 = none."""
    precision: str = "auto"
    """float32, bfloat16 (autocast), or auto: whichever a short trial shows to be faster."""
    channels_last: str = "auto"
    """always, never, or auto: whichever a short trial shows to be faster."""
    tensorboard: bool = False
    """Write the curves for TensorBoard, too (folder tensorboard beside them; needs the extra of that name)."""
    checkpoint_seconds: float = 60.0
    """Longest time between two checkpoints."""

    def __post_init__(self) -> None:
        self._require(self.epochs >= 0, "zero or more", "epochs")
        self._require(self.batch_size >= 2, "at least 2 (batch-norm needs more than one image)", "batch_size")
        self._require(self.accumulate >= 1, "one or more", "accumulate")
        parts = self.batch_size % self.accumulate == 0 and self.batch_size // self.accumulate >= 2
        self._require(parts, f"a divisor of batch_size ({self.batch_size}) that leaves 2 images", "accumulate")
        self._require(0 <= self.ema < 1, "0 (none), or below 1", "ema")
        self._require(math.isfinite(self.lr) and self.lr > 0, "a positive number", "lr")
        for name in ("weight_decay", "warmup_epochs", "clip_norm", "flat_radius"):
            value = getattr(self, name)
            self._require(math.isfinite(value) and value >= 0, "zero or more", name)
        self._require(self.checkpoint_seconds >= 0, "zero (after each step) or more", "checkpoint_seconds")
        self._require(0 <= self.distill_weight <= 1, "between 0 and 1", "distill_weight")
        check_name(self.optimizer, dict.fromkeys(OPTIMIZERS), "optimizer", self.where("optimizer"))
        check_name(self.balance, BALANCES, "balance", self.where("balance"))
        check_name(self.precision, dict.fromkeys(PRECISIONS), "precision", self.where("precision"))
        check_name(self.channels_last, dict.fromkeys(SWITCHES), "setting", self.where("channels_last"))

    @property
    def round(self) -> int:
        """Steps in which all networks have their turn; an epoch has that many passes over the images."""
        return 1

    def telling(self) -> dict[str, Any]:
        """The settings that weights depend on."""
        return {name: value for name, value in asdict(self).items() if name not in INERT}

    def where(self, name: str) -> str:
        return f"train.{name}"

    def _require(self, sound: bool, expected: str, name: str) -> None:
        _require(sound, expected, getattr(self, name), self.where(name))


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FitConfig):
    """Training of the elastic network."""

    distill_weight: float = 0.0
    """Share of the largest network's outputs in a sub-network's loss; the rest is the labels'."""
    step: str = AUTO
    """sandwich: a step trains the largest, the smallest and random networks, which may follow the largest; turns: it
    trains one of them, the next step the next one; auto: turns, where nothing asks for several networks in a step."""
    random_widths: int = 2
    """Random sub-networks per step (turns: per round of steps), beside the largest and the smallest."""
    width_jitter: float = 0.2
    """Spread of single widths around their branch's, as a share of the range; 0 = a branch is evenly wide."""
    start: str = ""
    """Checkpoint of a trained network of this shape, which becomes the full network at the start; empty = none."""
    start_partial: bool = False
    """Whether tensors may be missing in it, such as the heads beside a trained encoder."""
    branches: str = INDEPENDENT
    """independent: the encoder and each decoder have a size of their own; together: one size for all."""
    decoders_per_encoder: int = 1
    """Decoder settings that one pass through the encoder serves; each counts as a sub-network of the step."""
    warm_share: float = 0.0
    """Share of training in which the largest network learns alone, one pass a step; then the others join."""
    progressive: float = 0.0
    """Share of training until all options are open, the largest first; 0 = all at once, after `warm_share`."""
    resort_epochs: int = 0
    """Epochs between two sortings of every group's channels by importance; 0 = never."""
    resort_openings: bool = False
    """Sort the channels of the narrowest open widths when narrower ones open (`warm_share`, `progressive`)."""
    feature_distill: str = AUTO
    """How sub-networks follow the largest one's features: none, slice, attention, gram, project, or auto (none in
    turns; in a sandwich attention, where the network has features that can be compared)."""
    feature_weight: float = 1.0
    """Weight of that distance beside the tasks' losses."""
    features: tuple[str, ...] = ()
    """Modules whose outputs are the features; without, those that end the shared part are found."""
    watch_epochs: int = 2
    """Epochs between two looks at the largest and the smallest network's scores on the select split; 0 = never."""
    watch_images: int = 64
    """Images behind each look."""
    wait_seconds: float = 600.0
    """How long a process of a training by several (torchrun) waits for the others before it gives up."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.watch_epochs >= 0, "zero (never) or more", "watch_epochs")
        self._require(self.watch_images >= 1, "one or more", "watch_images")
        self._require(math.isfinite(self.wait_seconds) and self.wait_seconds > 0, "a positive number", "wait_seconds")
        if self.start_partial and not self.start:
            raise JobError("a checkpoint to take a part of", where=self.where("start_partial"), cure="set train.start")
        check_name(self.branches, dict.fromkeys(BRANCHES), "setting", self.where("branches"))
        self._require(0 <= self.warm_share <= 1, "between 0 and 1", "warm_share")
        self._require(0 <= self.progressive <= 1, "between 0 and 1", "progressive")
        self._require(self.resort_epochs >= 0, "zero (never) or more", "resort_epochs")
        later = not self.progressive or self.progressive >= self.warm_share
        self._require(later, f"0, or at least warm_share ({self.warm_share:g})", "progressive")
        self._require(self.decoders_per_encoder >= 1, "one or more", "decoders_per_encoder")
        check_name(self.step, dict.fromkeys(STEPS), "setting", self.where("step"))
        if self.step == TURNS:
            self._check_turns()
        if self.decoders_per_encoder > 1:
            self._check_reuse()
        forms = {NONE: "", AUTO: "", **FEATURE_FORMS}
        check_name(self.feature_distill, forms, "form", self.where("feature_distill"))
        sound = math.isfinite(self.feature_weight) and self.feature_weight > 0
        _require(
            sound,
            "a positive number",
            self.feature_weight,
            self.where("feature_weight"),
            "set feature_distill: none to switch it off",
        )
        if self.features and self.feature_distill == NONE:
            raise JobError("no modules without a form", where=self.where("features"), cure="set train.feature_distill")
        self._require(self.random_widths >= 0, "zero or more", "random_widths")
        self._require(0 <= self.width_jitter <= 1, "between 0 and 1", "width_jitter")

    def _check_turns(self) -> None:
        """A network whose turn it is has no other one in its step to follow, or to share a pass with."""
        for name in self._several:
            raise JobError(
                "several networks in a step with this setting",
                received=f"step {self.step}, {name} {getattr(self, name)}",
                where=self.where("step"),
                cure=f"set step: {SANDWICH}, or leave {name} out",
            )

    @property
    def _several(self) -> list[str]:
        """Settings that ask for several networks in a step."""
        asks = {"distill_weight": self.distill_weight > 0, "decoders_per_encoder": self.decoders_per_encoder > 1}
        asks["feature_distill"] = self.feature_distill not in (NONE, AUTO)
        return [name for name, asked in asks.items() if asked]

    @property
    def takes_turns(self) -> bool:
        """Whether a step trains one network."""
        return self.step == TURNS or (self.step == AUTO and not self._several)

    @property
    def round(self) -> int:
        return 2 + self.random_widths if self.takes_turns else 1

    def _check_reuse(self) -> None:
        """Decoders of their own need branches of their own; gradients that are weighed task by task are not shared."""
        others = {"branches": self.branches != INDEPENDENT, "flat_radius": self.flat_radius > 0}
        others["balance"] = self.balance in PER_TASK
        for name in (name for name, clashes in others.items() if clashes):
            raise JobError(
                "one decoder per encoder with this setting",
                received=f"decoders_per_encoder {self.decoders_per_encoder}, {name} {getattr(self, name)}",
                where=self.where("decoders_per_encoder"),
                cure=f"set decoders_per_encoder to 1, or another {name}",
            )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(FitConfig):
    """Fine-tuning of a cut network."""

    epochs: int = 5
    """Passes over the train split; 0 = none."""
    lr: float = 1e-3
    """Peak learning rate; cosine to zero."""
    warmup_epochs: float = 0.2
    """Linear warm-up before the cosine."""

    def where(self, name: str) -> str:
        return f"finetune.{name}"


def _require(sound: bool, expected: str, received: object, where: str, cure: str = "") -> None:
    if not sound:
        raise JobError(expected, received=str(received), where=where, cure=cure)
