"""What a job is: the rooms' own settings, gathered under the stages' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import PlainValidator, WithJsonSchema

from mtnas.base.budget import LIMIT_UNITS, Budget, Floor
from mtnas.base.errors import JobError
from mtnas.data.config import DataConfig
from mtnas.export.config import ExportConfig
from mtnas.measure.config import MeasureConfig
from mtnas.prune.config import PruneConfig
from mtnas.quantize.config import QuantizeConfig
from mtnas.score.config import ReferencesConfig, ScoreConfig
from mtnas.search.config import SearchConfig
from mtnas.space.config import SpaceConfig
from mtnas.train.config import FinetuneConfig, ModelConfig, TrainConfig

_BOUND = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\s*-?[0-9.]+\s*%?\s*$"}, {"type": "null"}]}


def _mapping(raw: Any, where: str) -> dict[str, Any]:
    """Entries that are not null: `budget.size_mb=null` takes a limit away."""
    if not isinstance(raw, Mapping):
        raise JobError("a mapping of names to bounds", received=repr(raw), where=where)
    return {name: bound for name, bound in raw.items() if bound is not None}


def _budget(raw: Any) -> Budget:
    return Budget.parse(_mapping(raw, "budget"))


def _floors(raw: Any) -> dict[str, Floor]:
    return {task: Floor.parse(task, text) for task, text in _mapping(raw, "floors").items()}


_BUDGET_SCHEMA = {"type": "object", "properties": dict.fromkeys(LIMIT_UNITS, _BOUND), "additionalProperties": False}
_FLOORS_SCHEMA = {"type": "object", "additionalProperties": _BOUND}


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One output of the network; in a job its name alone is enough."""

    name: str
    """A target of the data set."""
    weight: float | None = None
    """Weight of its loss; null = the task's own default."""

    def __post_init__(self) -> None:
        if self.weight is not None and not self.weight > 0:
            raise JobError("a weight above 0", received=str(self.weight), where=f"tasks.{self.name}.weight")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything one run depends on."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    name: str = "job"
    """Names the run's folder; the file's own name where it is left out."""
    seed: int = 0
    """The root of every random number."""
    out: str | None = None
    """Folder of the run, relative to this file; null = runs/<name> where the command is typed."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where images and targets come from, and how many for each split."""
    tasks: tuple[TaskConfig, ...] = ()
    """The outputs, in order, out of a data set's targets and a network's outputs; left out = every target."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The full-size network."""
    space: SpaceConfig = field(default_factory=SpaceConfig)
    """Which widths it may take."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How the supernet is trained."""
    device: MeasureConfig = field(default_factory=MeasureConfig)
    """The device, and how latency is measured there; its name alone is enough."""
    budget: Annotated[Budget, PlainValidator(_budget), WithJsonSchema(_BUDGET_SCHEMA)] = Budget()
    """Hard limits on the delivered network: absolute, or a percent of the full-size one."""
    floors: Annotated[Mapping[str, Floor], PlainValidator(_floors), WithJsonSchema(_FLOORS_SCHEMA)] = field(
        default_factory=dict
    )
    """The worst score each task may have: `-3%` of the full-size network's, or an absolute value."""
    preference: Mapping[str, float] = field(default_factory=dict)
    """How much each task counts when one network is picked from the front; 1 where it is left out."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    """How many images stand behind a score."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """The optimizer and how long it runs."""
    prune: PruneConfig = field(default_factory=PruneConfig)
    """Channel pruning of the chosen network."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    """Training of the chosen network after pruning, with the supernet as teacher."""
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    """Int8 quantization for the device."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """The files that are delivered."""
    references: ReferencesConfig = field(default_factory=ReferencesConfig)
    """What the report's delta columns compare with."""

    @property
    def measure(self) -> MeasureConfig:
        """The settings under `device`, by the name of the room they belong to."""
        return self.device

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise JobError("a name without '/' that does not start with '.'", received=repr(self.name), where="name")
        if self.seed < 0:
            raise JobError("a seed of at least 0", received=str(self.seed), where="seed")
