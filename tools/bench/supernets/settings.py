"""Networks, data and schedules of the supernets' benchmarks: one setting for each data set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name
from mtnas.data.config import DataConfig
from mtnas.train.config import FinetuneConfig, ModelConfig, TrainConfig

DENSE = ("segmentation", "depth", "normals", "edges")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All arms and seeds of a data set share this.

    Args:
        name: of the records' folder.
        data: images and their splits.
        tasks: targets that are learned; empty for all of the data set.
        model: the full network.
        train: of the supernets.
        budgets: shares of the full network's multiply-adds.
        candidates: for each budget, drawn networks, and as many that follow the preferences.
        rounds: of a search that starts from them.
        children: networks that it scores in a round for each budget.
        calibrate_images: behind each network's batch-norm statistics.
        multipliers: widths of the single-task networks.
    """

    name: str
    data: DataConfig
    tasks: tuple[str, ...]
    model: ModelConfig
    train: TrainConfig
    budgets: tuple[float, ...] = (0.3, 0.5, 0.7, 1.0)
    candidates: int = 30
    rounds: int = 4
    children: int = 20
    calibrate_images: int = 128
    multipliers: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)

    def alone(self, epochs: int) -> FinetuneConfig:
        """The same schedule for a network that is trained by itself, on labels only."""
        return replace(self.tuned(epochs), lr=self.train.lr, warmup_epochs=self.train.warmup_epochs)

    def tuned(self, epochs: int) -> FinetuneConfig:
        """Fine-tuning as users get it by default, but on labels only: a teacher's passes would have to be counted."""
        train = self.train
        return FinetuneConfig(
            epochs=epochs,
            batch_size=train.batch_size,
            weight_decay=train.weight_decay,
            precision=train.precision,
            channels_last=train.channels_last,
            distill_weight=0.0,
        )


def _train(epochs: int, batch_size: int) -> TrainConfig:
    return TrainConfig(epochs=epochs, batch_size=batch_size, precision="bfloat16", channels_last="always")


_SCENES = Setting(
    name="scenes",
    data=DataConfig(name="scenes", height=48, width=48, train=1536, calibrate=128, select=256, report=384),
    tasks=DENSE,
    model=ModelConfig(width=32, blocks=(2, 2, 2, 1), head_width=32),
    train=_train(14, 32),
)
SETTINGS: dict[str, Setting] = {
    "scenes": _SCENES,
    "scenes_long": replace(_SCENES, name="scenes_long", train=_train(56, 32)),
    "nyuv2": Setting(
        name="nyuv2",
        data=DataConfig(name="nyuv2", height=48, width=64),
        tasks=DENSE,
        model=ModelConfig(width=32, blocks=(2, 2, 2, 1), head_width=32),
        train=_train(30, 32),
    ),
    "cifar100": Setting(
        name="cifar100",
        data=DataConfig(name="cifar100-mtl", height=32, width=32, train=10000, select=1000, report=2000),
        tasks=(),
        model=ModelConfig(width=32, blocks=(2, 2, 2, 1), head_width=32, head_convs=1),
        train=_train(8, 64),
    ),
}


def setting_of(name: str, *, quick: bool = False) -> Setting:
    """A row of the table; a quick one learns next to nothing and only shows that everything runs."""
    check_name(name, SETTINGS, "setting", "tools.bench.supernets")
    return shortened(SETTINGS[name]) if quick else SETTINGS[name]


def shortened(setting: Setting) -> Setting:
    data = replace(setting.data, train=128, calibrate=64, select=32, report=32)
    train = replace(setting.train, epochs=1)
    fewer = replace(setting, calibrate_images=32, candidates=3, rounds=1, children=2)
    return replace(fewer, name=f"{setting.name}-quick", data=data, train=train)


def check_seeds(seeds: int) -> tuple[int, ...]:
    """Seeds 0..n-1."""
    if seeds < 1:
        raise JobError("at least one seed", received=str(seeds), where="--seeds")
    return tuple(range(seeds))
