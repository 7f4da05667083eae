"""Settings of the pruning stage."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name
from mtnas.prune.criteria.table import CRITERIA

#: what a step has to show to stay
ACCEPT = ("faster", "not_slower")


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How much to prune, by which criterion, and how steps are judged."""

    enabled: bool = True
    #: False hands the chosen network on unpruned.
    target: str = "90%"
    #: Stop when the measured latency is at most this percent of the chosen network's.
    criterion: str = "taylor"
    #: A row of prune/criteria/table.py.
    step: int = 8
    #: Units removed from one group in one step; the device's efficient channel step. Doubled where it shows no effect.
    min_units: int = 8
    #: No group is cut below this many units.
    images: int = 128
    #: Images of the calibrate split behind the importance.
    batch_size: int = 16
    #: Images per gradient pass.
    max_steps: int = 48
    #: Give up after so many steps, accepted or not.
    refresh_steps: int = 4
    #: The importance is computed again after so many accepted steps.
    accept: str = "faster"
    #: A step stays when it is measurably faster, or already when it is not slower (limits other than latency).

    def __post_init__(self) -> None:
        for name in ("step", "min_units", "images", "batch_size", "max_steps", "refresh_steps"):
            if getattr(self, name) < 1:
                raise JobError("a number of at least 1", received=str(getattr(self, name)), where=f"prune.{name}")
        check_name(self.criterion, CRITERIA, "criterion", "prune.criterion")
        check_name(self.accept, dict.fromkeys(ACCEPT), "rule", "prune.accept")
        if not 0.0 < self.target_ratio <= 1.0:
            raise JobError("a percent above 0% and up to 100%", received=self.target, where="prune.target", cure="90%")

    @property
    def target_ratio(self) -> float:
        """The target as a ratio to the chosen network's latency; 0 when it cannot be read."""
        text = self.target.strip()
        try:
            return float(text[:-1]) / 100.0 if text.endswith("%") else 0.0
        except ValueError:
            return 0.0
