"""Single-task references, trained once for everything they depend on, and kept in a folder that runs may share.

An entry is named after its task and the hash of its identity: data, network with its initial weights, task, settings
and seed. While it is trained it holds the files of that training, so that an interrupted one continues; when it is
done, `network.safetensors` and `reference.json` with the scores on the select and the report split.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mtnas import __version__
from mtnas.base.errors import CheckpointError, StorageError
from mtnas.base.files import content_hash, file_hash, make_folder, read_json, storage_error, write_json
from mtnas.base.progress import Progress, Silent
from mtnas.data.base import Dataset
from mtnas.score.config import ScoreConfig
from mtnas.score.delta import delta
from mtnas.score.score import score
from mtnas.tasks.base import Task
from mtnas.train.checkpoint import save_weights, weights_hash
from mtnas.train.config import FitConfig
from mtnas.train.fit import CHECKPOINT
from mtnas.train.single import Source, single_config, single_network, train_single

SCHEMA = "reference/1"
NETWORK, RECORD = "network.safetensors", "reference.json"
SPLITS = ("select", "report")
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Recipe:
    """What all references of a run share.

    Args:
        model: encoder and heads, a factory's configuration, or a function that builds the user's network.
        dataset: `train` is learned, `calibrate` gives statistics, `select` and `report` are scored.
        config: of the multi-task training; epochs, batch size, optimizer and the rest are taken from it.
        seed: of initial weights, order and augmentation.
        score: images behind statistics, and per forward pass.
    """

    model: Source
    dataset: Dataset
    config: FitConfig
    seed: int = 0
    score: ScoreConfig = ScoreConfig()

    def identity(self, task: Task) -> dict[str, Any]:
        """Everything that decides a reference's weights and scores, as JSON."""
        settings = asdict(single_config(self.config))
        del settings["checkpoint_seconds"]
        info = self.dataset.info
        return {
            "mtnas": __version__,
            "data": [info.fingerprint, info.height, info.width],
            "task": task.spec.to_json(),
            "start": weights_hash(single_network(self.model, task, self.dataset, seed=self.seed).state_dict()),
            "settings": settings,
            "calibrate": self.score.calibrate_images,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Reference:
    """One task's single-task network.

    Args:
        task: its name.
        scores: by split, all metrics of the task.
        folder: where the entry lies.
        trained: whether this call trained it; else it was found.
    """

    task: str
    scores: Mapping[str, Mapping[str, float]]
    folder: Path
    trained: bool


@dataclass(frozen=True)
class References:
    """The single-task networks of some tasks, in their order."""

    entries: tuple[Reference, ...]
    tasks: Mapping[str, Task]

    def scores(self, split: str) -> Scores:
        """`{task: {metric: value}}` on `select` or `report`."""
        return {entry.task: dict(entry.scores[split]) for entry in self.entries}

    def delta(self, scores: Mapping[str, Mapping[str, float]], *, convention: str, split: str = "report") -> float:
        """A network's change against the references, in percent; sign and meaning in `score.delta.CONVENTIONS`.

        Args:
            scores: of the network, on the same split.
            convention: a row of `CONVENTIONS`.
            split: `select` or `report`.
        """
        metrics = {name: task.metrics for name, task in self.tasks.items()}
        return delta(scores, self.scores(split), metrics, convention=convention)


def train_references(
    recipe: Recipe, tasks: Mapping[str, Task], cache: Path, progress: Progress | None = None
) -> References:
    """The references of all tasks: read where the cache has them, else trained, one after the other.

    Args:
        recipe: what they share.
        tasks: by name.
        cache: the folder; other processes may use it at the same time.
        progress: shows a bar for each training.

    Raises:
        CheckpointError: an entry is damaged.
        TrainingDiverged: a loss is NaN or infinite.
    """
    found = tuple(reference(recipe, task, cache, progress) for task in tasks.values())
    return References(found, dict(tasks))


def reference(recipe: Recipe, task: Task, cache: Path, progress: Progress | None = None) -> Reference:
    """One task's reference; see `train_references`."""
    identity = recipe.identity(task)
    folder = make_folder(cache / f"{task.spec.name}-{content_hash(identity)[:16]}")
    with held(folder, progress or Silent()):
        if (folder / RECORD).exists():
            return _known(folder, task.spec.name, trained=False)
        _train(recipe, task, folder, identity, progress or Silent())
        return _known(folder, task.spec.name, trained=True)


def _train(recipe: Recipe, task: Task, folder: Path, identity: Mapping[str, Any], progress: Progress) -> None:
    """Train or continue, score, and leave the finished entry; the training's checkpoint is no longer needed then."""
    name = task.spec.name
    progress.note(f"reference of {name}: {recipe.config.epochs} epochs")
    network = train_single(
        recipe.model,
        task,
        recipe.dataset,
        recipe.config,
        folder,
        recipe.seed,
        calibrate_images=recipe.score.calibrate_images,
        progress=progress,
    )
    scores = {
        split: score(network, {name: task}, recipe.dataset.split(split), batch_size=recipe.score.batch_size)[name]
        for split in SPLITS
    }
    digest = save_weights(folder / NETWORK, network.state_dict())
    record = {"task": name, "identity": identity, "scores": scores, "weights": digest}
    write_json(folder / RECORD, {"schema": SCHEMA, "digest": content_hash(record), **record})
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _known(folder: Path, task: str, *, trained: bool) -> Reference:
    """A finished entry; raises `CheckpointError` unless its files are as they were written."""
    record = read_json(folder / RECORD, schema=SCHEMA)
    content = {key: value for key, value in record.items() if key not in ("schema", "digest")}
    if content_hash(content) != record.get("digest"):
        raise _damaged(folder / RECORD)
    weights = folder / NETWORK
    if not weights.is_file() or file_hash(weights) != record["weights"]:
        raise _damaged(weights)
    return Reference(task, record["scores"], folder, trained)


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        "the file as the reference's training wrote it",
        received="a changed file" if path.exists() else "no file",
        where=str(path),
        cure=f"restore it, or delete the folder {path.parent} to train this reference again",
    )


@contextmanager
def held(folder: Path, progress: Progress, poll_s: float = 0.2) -> Iterator[None]:
    """Hold an entry against other processes; waits as long as one of them has it, and takes over when that one dies."""
    import fcntl

    path = folder / ".lock"
    try:
        stream = path.open("a+")
    except OSError as error:
        raise storage_error(error, path) from error
    told = False
    with stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    progress.note(f"waiting for another process that trains {folder.name}")
                    told = True
                time.sleep(poll_s)
            except OSError as error:
                raise StorageError(
                    "a folder on a file system with locks",
                    received=error.strerror or str(error),
                    where=str(path),
                    cure="set references.cache to a folder on a local disk",
                ) from error
        yield


def epochs_of(config: FitConfig, epochs: int | None) -> FitConfig:
    """The settings with so many epochs, where a number is given."""
    return config if epochs is None else replace(config, epochs=epochs)
