"""Generated rooms: labels that agree with geometry worked out independently."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mtnas.base.progress import Silent
from mtnas.base.seeds import generator
from mtnas.data.config import DataConfig
from mtnas.data.open import open_dataset
from mtnas.data.raycast import camera_rays, cast, entry
from mtnas.data.rooms import BALL, BOX, CLASS_NAMES, CYLINDER, FIRST_SOLID, Paint, Room, Solid, random_room, turning
from mtnas.data.scenes import holes

PAINT = Paint(np.ones(3, np.float32), np.ones(3, np.float32), "plain", 1.0, 0.0)


def empty_room(*solids: Solid) -> Room:
    """4 m wide, 3 m high, 6 m deep, camera straight ahead at 1.5 m of height, 1 m from the near wall."""
    return Room((4.0, 3.0, 6.0), 0, (PAINT,) * 6, (), solids, (2.0, -1.5, 1.0), np.eye(3, dtype=np.float32),
                (2.0, -2.8, 3.0), 0.4)  # fmt: skip


def middle(size: int = 33) -> int:
    return size * size // 2


def test_empty_room_by_hand() -> None:
    rays = camera_rays(33, 33)
    hits = cast(empty_room(), rays)
    assert hits.depth_P[middle()] == pytest.approx(5.0, rel=1e-5)
    assert hits.normal_3P[:, middle()].tolist() == [0, 0, -1]
    # a ray one unit down per unit ahead meets the floor 1.5 m below after 1.5 m, one to the left the wall after 2 m
    steep = np.array([[0, 1, 1], [-1, 0, 1], [0, -1, 1]], np.float32).T
    hits = cast(empty_room(), steep)
    assert np.allclose(hits.depth_P, [1.5, 2.0, 1.5], rtol=1e-5)
    assert [CLASS_NAMES[c] for c in hits.class_P] == ["floor", "wall", "ceiling"]
    assert np.array_equal(hits.normal_3P.T, [[0, -1, 0], [1, 0, 0], [0, 1, 0]])


def solid(shape: str, kind: int, half: tuple[float, float, float], yaw: float = 0.0) -> Solid:
    return Solid(shape, kind, FIRST_SOLID, (2.0, -1.5, 4.0), half, yaw, PAINT)


@pytest.mark.parametrize(
    ("thing", "depth"),
    [
        (solid("ball", BALL, (0.5, 0.5, 0.5)), 2.5),
        (solid("box", BOX, (0.4, 0.3, 0.6)), 2.4),
        (solid("box", BOX, (0.4, 0.3, 0.6), math.pi / 2), 2.6),
        (solid("box", BOX, (0.5, 0.5, 0.5), math.pi / 4), 3 - math.sqrt(0.5)),
        (solid("cylinder", CYLINDER, (0.25, 0.7, 0.25)), 2.75),
    ],
)
def test_depth_of_solids_by_hand(thing: Solid, depth: float) -> None:
    hits = cast(empty_room(thing), camera_rays(33, 33))
    assert hits.depth_P[middle()] == pytest.approx(depth, rel=1e-4)
    assert hits.class_P[middle()] == thing.kind
    if thing.yaw != math.pi / 4:
        assert np.allclose(hits.normal_3P[:, middle()], [0, 0, -1], atol=1e-3)


def test_a_ball_covers_the_area_it_should() -> None:
    """A ball of radius r at distance d is seen up to the tangent r / sqrt(d^2 - r^2)."""
    hits = cast(empty_room(solid("ball", BALL, (0.5,) * 3)), camera_rays(301, 301))
    focal = 0.5 * 301 / math.tan(math.radians(33))
    expected = math.pi * (focal * 0.5 / math.sqrt(9 - 0.25)) ** 2
    assert (hits.class_P == BALL).sum() == pytest.approx(expected, rel=0.01)


def test_solids_behind_the_camera_are_not_seen() -> None:
    behind = replace(solid("ball", BALL, (0.3,) * 3), centre=(2.0, -1.5, 0.4))
    assert (cast(empty_room(behind), camera_rays(33, 33)).class_P != BALL).all()
    rays = camera_rays(33, 33)
    assert np.isinf(entry(behind, (2.0, -1.5, 1.0), rays)).all()


def test_rays_parallel_to_a_surface_raise_no_warning() -> None:
    level = np.array([[0, 0, 1], [0, 1, 0]], np.float32).T
    with np.errstate(divide="raise", invalid="raise"):
        assert entry(solid("box", BOX, (0.4, 0.3, 0.6)), (2.0, -1.5, 1.0), level)[0] == pytest.approx(2.4)
        assert entry(solid("cylinder", CYLINDER, (0.4, 0.3, 0.4)), (2.0, -2.5, 4.0), level)[1] == pytest.approx(0.7)


def test_turning() -> None:
    ahead = np.array([0, 0, 1.0])
    assert np.allclose(turning(math.pi / 2, 0, 0) @ ahead, [1, 0, 0], atol=1e-6)
    assert np.allclose(turning(0, math.pi / 2, 0) @ ahead, [0, 1, 0], atol=1e-6)
    turn = turning(0.3, 0.2, -0.1)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("index", range(5))
def test_normals_agree_with_depth(index: int) -> None:
    """The normal of a smooth patch is the cross product of its tangents, taken from neighbouring points."""
    room = random_room(generator(0, "exam", index))
    size = 160
    hits = cast(room, camera_rays(size, size))
    points = hits.point_3P.reshape(3, size, size)
    along = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    measured = np.cross(down, along, axis=0)
    measured /= np.linalg.norm(measured, axis=0)
    exact = hits.normal_3P.reshape(3, size, size)[:, 1:-1, 1:-1]
    angle = np.degrees(np.arccos(np.clip((measured * exact).sum(0), -1, 1)))
    assert np.median(angle) < 0.5
    assert (angle < 5).mean() > 0.85


def test_holes_cover_five_percent_in_blotches() -> None:
    hole = holes((64, 64), np.random.default_rng(0))
    assert hole.mean() == pytest.approx(0.05, abs=0.002)
    beside = hole[:, 1:] & hole[:, :-1]
    assert beside.sum() > 5 * hole.sum() * 0.05


def test_an_image_does_not_depend_on_the_sizes_of_splits() -> None:
    small = open_dataset(DataConfig(height=24, width=32, train=3, calibrate=2)).split("calibrate").batch([1])
    large = open_dataset(DataConfig(height=24, width=32, train=9, calibrate=5)).split("calibrate").batch([1])
    assert all((small[1][name] == large[1][name]).all() for name in small[1])
    assert (small[0] == large[0]).all()


def test_labels_are_complete_and_varied() -> None:
    split = open_dataset(DataConfig(height=48, width=48, train=60)).split("train")
    _, targets = split.batch(np.arange(60))
    assert set(targets["segmentation"].unique().tolist()) == set(range(8))
    assert set(targets["room"].unique().tolist()) == set(range(4))
    share = targets["presence"].mean(0)
    assert (share[3:] > 0.15).all() and (share[3:] < 0.95).all()
    holes_share = (targets["depth"] == 0).float().mean()
    assert holes_share == pytest.approx(0.05, abs=0.005)
    assert ((targets["depth"][:, 0] == 0) == (targets["normals"] == 0).all(1)).all()


def test_pictures_are_bright_enough_and_normalised() -> None:
    split = open_dataset(DataConfig(height=48, width=48, train=60)).split("train")
    image, _ = split.batch(np.arange(60))
    assert image.mean(dim=(0, 2, 3)).abs().max() < 0.25
    assert (image.std(dim=(0, 2, 3)) - 1).abs().max() < 0.25


def test_progress_is_reported() -> None:
    class Counting(Silent):
        total = 0

        def task(self, title: str, total: int, done: int = 0):  # type: ignore[no-untyped-def]
            Counting.total += total
            return super().task(title, total, done)

    open_dataset(DataConfig(height=16, width=16, train=5), progress=Counting()).split("train")
    assert Counting.total == 5
