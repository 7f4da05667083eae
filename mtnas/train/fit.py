"""The engine of every training: steps, schedule, checkpoints, curves, resuming.

Everything random in a step follows from the seed and the step's number, so a checkpoint holds no generator states, and
a run that was killed and started again ends with the same bits as one that was not (on the same kind of CPU).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mtnas.base.errors import CheckpointError, DataError, TrainingDiverged
from mtnas.base.files import file_hash, make_folder, write_json
from mtnas.base.progress import Progress
from mtnas.data.base import Batch, Split
from mtnas.elastic.recalibrate import re_estimate
from mtnas.train.average import WeightAverage
from mtnas.train.batches import Batches
from mtnas.train.board import Board
from mtnas.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_weights
from mtnas.train.clock import EVEN, Clock, Work
from mtnas.train.config import FitConfig
from mtnas.train.curves import Curves
from mtnas.train.gradients import StepGradients
from mtnas.train.objective import Before, Moment, Objective, device_of, place
from mtnas.train.optimizer import make_optimizer, set_rate
from mtnas.train.precision import Mode
from mtnas.train.ranks import current_ranks
from mtnas.train.result import FitResult
from mtnas.train.schedule import learning_rate
from mtnas.train.state import FitState
from mtnas.train.trials import Trials
from mtnas.train.watch import Scores, Watch, scores_text

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
CURVES = "curves.jsonl"
RESULT = "fit.json"

#: Images of the train split behind the batch-norm statistics of averaged weights.
AVERAGE_IMAGES = 256


@dataclass(frozen=True)
class FitJob:
    """What to fit, on what, and where to write.

    Args:
        objective: puts gradients on its module.
        split: images and labels.
        config: the settings.
        out: folder for everything that is written.
        seed: of everything random.
        progress: shows a bar.
        title: of the bar.
        cost: of a mean step, for the result.
        watch: looks at scores while it runs.
        work: phases of the training, for the time left; see `clock.work_until`.
        before: is called before each step.
    """

    objective: Objective
    split: Split
    config: FitConfig
    out: Path
    seed: int
    progress: Progress
    title: str = "train"
    cost: Mapping[str, float] = field(default_factory=dict)
    watch: Watch | None = None
    work: Work = EVEN
    before: Before | None = None


def fit(job: FitJob) -> FitResult:
    """Run all steps that are still to do, and write weights and result; returns at once when all are done."""
    return Fitter(job).run()


class Fitter:
    """One training run."""

    def __init__(self, job: FitJob) -> None:
        self.job, self.config, self.objective = job, job.config, job.objective
        self.ranks = current_ranks()
        make_folder(job.out)
        self.module = self.objective.module
        self.device = device_of(self.module)
        self.balance = self.objective.balance.to(self.device)
        self.beside = {name: part.to(self.device) for name, part in self.objective.beside.items()}
        images = min(self.config.batch_size, len(job.split))
        self.batches = Batches(job.split, images, job.seed, self.config.augment, self.ranks)
        self.per_epoch = self.config.round * self.batches.per_epoch
        self.total = self.config.epochs * self.per_epoch
        self.optimizer = make_optimizer(self.config, self.module, self.beside.values())
        self.gradients = StepGradients(self.objective, job.seed, self.batches.batch_size, self._portions(), self.ranks)
        self.average = WeightAverage(self.module, self.config.ema) if self.config.ema else None
        self.state = FitState(self.module, self.beside, self.optimizer, self.average)
        self.curves = Curves(job.out / CURVES, max(1, self.per_epoch // 10))
        self.identity = self._identity()
        self.clock = Clock()
        self.trials: dict[str, float] = {}
        self.seen: dict[str, str] = {}
        self.mode = Mode("float32", channels_last=False)

    def run(self) -> FitResult:
        try:
            first = self._begin()
            self.clock = Clock(before=self.clock.before)
            if self.config.tensorboard and self.ranks.leads:
                self.curves.board = Board(self.job.out, first, self.config.where("tensorboard"))
            with self.mode.threaded(), self.job.progress.task(self.job.title, self.total, first) as bar:
                batches = self.batches.stream(first, self.total, self.mode.ahead)
                for step, batch in zip(range(first, self.total), batches, strict=True):
                    losses = self._step(step, batch)
                    shown = {f"loss {name}": round(loss, 4) for name, loss in losses.items() if name != "total"}
                    bar.advance(1, **shown, **self.seen, eta=self._eta(first, step + 1))
        finally:
            if self.curves.board:
                self.curves.board.close()
            Mode("float32", channels_last=False).lay_out(self.module)
        return self._finish()

    # --- one step ---------------------------------------------------------------------------------------------

    def _step(self, step: int, batch: Batch) -> dict[str, float]:
        """Gradients, one optimizer step, and a line or a checkpoint when it is time."""
        moved = self._before(step)
        rate = learning_rate(step, total=self.total, warmup=self._warmup(), peak=self.config.lr)
        placed = place(step, batch, self.mode, self.device, step / self.total)
        losses = self.gradients.collect(placed)
        norm = self._clip()
        self._check(step, losses, norm)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.gradients.look(placed)
        done = step + 1
        if self.average:
            self.average.update(done)
        fields = {"epoch": done / self.per_epoch, "lr": rate, "norm": norm, "seconds": self.clock.seconds()}
        epoch_ends = done % self.per_epoch == 0
        if self.ranks.leads:
            scores = self._look(done) if epoch_ends else {}
            self.curves.add(done, losses, fields | scores | moved, now=bool(scores or moved))
        if epoch_ends:
            self.balance.end_epoch()
        if not self.ranks.leads:
            return losses
        if epoch_ends or time.monotonic() - self.clock.saved >= self.config.checkpoint_seconds:
            self._save(done)
        return losses

    def _before(self, step: int) -> dict[str, float]:
        """What changes before a step, as fields for the curves."""
        if self.job.before is None:
            return {}
        fields = self.job.before(Moment(step, self.per_epoch, self.total), self.state.along)
        if fields and self.ranks.leads:
            told = ", ".join(f"{name} {value:.3g}" for name, value in fields.items())
            self.job.progress.note(f"{self.job.title}: before step {step + 1}: {told}")
        return fields

    def _look(self, done: int) -> dict[str, Scores]:
        """Scores of the averaged or else the present weights, when it is time."""
        watch = self.job.watch
        if watch is None or done % (watch.epochs * self.per_epoch):
            return {}
        with self.average.in_place() if self.average else nullcontext():
            scores = watch()
        self.seen = {f"scores of the {network}": scores_text(values) for network, values in scores.items()}
        return {"scores": scores}

    def _clip(self) -> float:
        """Clip the gradients; returns their norm before that."""
        limit = self.config.clip_norm or math.inf
        return float(nn.utils.clip_grad_norm_(self.module.parameters(), limit))

    def _check(self, step: int, losses: Mapping[str, float], norm: float) -> None:
        """Raise before the step spoils the weights."""
        bad = [name for name, loss in losses.items() if not math.isfinite(loss)]
        if not bad and math.isfinite(norm):
            return
        rate = self.config.lr
        raise TrainingDiverged(
            "finite losses and gradients",
            received=f"NaN or infinity in {', '.join(bad) if bad else 'the gradients'}",
            where=f"{self.job.title}, step {step + 1} of {self.total}",
            cure=f"lower {self.config.where('lr')} (now {rate:g}), for example to {rate / 3:.1g}; "
            f"the state before is kept in {self.job.out / CHECKPOINT}",
        )

    def _portions(self) -> int:
        """Portions of a step in each process; a small split, or many processes, can make them too small."""
        parts = self.config.accumulate * self.ranks.count
        if self.batches.batch_size < 2 * parts:
            raise DataError(
                f"two images for each of the {parts} parts of a step",
                received=f"{self.batches.batch_size} images, {self.ranks.count} process(es)",
                where=self.job.split.name,
                cure=f"lower {self.config.where('accumulate')}, use more images a step, or fewer processes",
            )
        return self.config.accumulate

    def _warmup(self) -> int:
        return round(self.config.warmup_epochs * self.per_epoch)

    def _eta(self, first: int, done: int) -> str:
        seconds = self.clock.left(first / self.total, done / self.total, self.job.work)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"

    # --- beginning and end ------------------------------------------------------------------------------------

    def _begin(self) -> int:
        """Continue from the checkpoint, or choose the mode and write the first one; returns the steps done.

        All processes read the leading one's file, and so start from the same weights.
        """
        if not self.ranks.agreed((self.job.out / CHECKPOINT).exists()):
            if self.total:
                self.mode, self.trials = self._trials().choose(self.config, self.device)
            if self.ranks.leads:
                self.mode.lay_out(self.module)
                self.curves.rewind(0, self.curves.state())
                self._save(0)
            if self.ranks.count == 1:
                return 0
            self.ranks.meet()
        checkpoint = load_checkpoint(self.job.out / CHECKPOINT, self.identity)
        if checkpoint is None:
            raise CheckpointError(
                "a folder that all processes see",
                received="no checkpoint",
                where=str(self.job.out / CHECKPOINT),
                cure="give --out on a shared file system",
            )
        self._restore(checkpoint)
        return checkpoint.step

    def _trials(self) -> Trials:
        return Trials(self.state, self.batches, self.gradients, self.total, self.job.progress, self.job.title)

    def _finish(self) -> FitResult:
        if self.average:
            self.average.deliver()
            re_estimate(self.module.eval(), self._plain_images())
        digest = self._deliver()
        result = FitResult(
            steps=self.total,
            epochs=self.config.epochs,
            images=self.total * self.batches.batch_size,
            seconds=round(self.clock.seconds(), 3),
            mode=str(self.mode),
            trials=self.trials,
            threads=self.mode.threads,
            losses=self.curves.last(),
            weights=WEIGHTS,
            weights_hash=digest,
            ema=self.config.ema,
            cost=dict(self.job.cost),
        )
        if self.ranks.leads:
            write_json(self.job.out / RESULT, result.to_json())
        return result

    def _deliver(self) -> str:
        """The leading process writes the weights; all return the hash of the file's bytes."""
        path = self.job.out / WEIGHTS
        if self.ranks.leads:
            save_weights(path, self.objective.state())
        self.ranks.meet()
        return file_hash(path)

    def _plain_images(self) -> Iterator[Tensor]:
        """Images of the train split as they are, in portions of a part of a step."""
        size = self.batches.batch_size // self.config.accumulate
        for image_BCHW, _targets in self.job.split.batches(size, AVERAGE_IMAGES):
            yield image_BCHW.to(self.device)

    # --- state ------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        network = [[name, list(tensor.shape)] for name, tensor in self.module.state_dict().items()]
        return {
            "settings": self.config.telling(),
            "seed": self.job.seed,
            "data": self.batches.fingerprint(),
            "network": network,
            **self.objective.identity(),
        }

    def _save(self, step: int) -> None:
        facts = {
            "mode": asdict(self.mode),
            "trials": self.trials,
            "curves": self.curves.state(),
            "seconds": self.clock.seconds(),
        }
        save_checkpoint(self.job.out / CHECKPOINT, Checkpoint(step, facts, self.state.tensors()), self.identity)
        self.clock.saved = time.monotonic()

    def _restore(self, checkpoint: Checkpoint) -> None:
        facts = checkpoint.facts
        self.mode, self.trials = Mode(**facts["mode"]), dict(facts["trials"])
        self.mode.lay_out(self.module)
        self.state.load(checkpoint.tensors, str(self.job.out))
        if self.ranks.leads:
            self.curves.rewind(checkpoint.step, facts["curves"])
        self.clock.before = float(facts["seconds"])
