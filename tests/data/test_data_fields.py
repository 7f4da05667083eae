"""Fields, views of boxes and disparity, thinning, and splits on values that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtnas.base.errors import JobError
from mtnas.data.augment import Recipe, View, random_view, view_boxes
from mtnas.data.base import TargetInfo
from mtnas.data.config import SPLITS, DataConfig
from mtnas.data.fields import Borders, Disparity, Mask, Metres, Present, Vectors
from mtnas.data.resample import Resampler
from mtnas.data.splits import carve, chosen, chunks_of
from mtnas.data.thinning import laplacian_edges, thin


def view_of(zoom: float, flip: bool, corner: tuple[float, float], height: int = 8, width: int = 16) -> View:
    """A view whose top left corner lies at `corner` (y, x in shares of the source)."""
    rows = (np.arange(height) + 0.5) / zoom + corner[0] * height - 0.5
    columns = (np.arange(width) + 0.5) / zoom + corner[1] * width - 0.5
    columns = columns[::-1] if flip else columns
    return View(np.array([zoom]), np.array([flip]), rows[None], columns[None], np.ones((1, 3)), np.zeros((1, 1)))


def test_boxes_follow_zoom_crop_and_flip() -> None:
    """Zoom 2, lower right quarter: (0.6, 0.6, 0.8, 0.9) becomes (0.2, 0.2, 0.6, 0.8); mirrored, x is 0.4 to 0.8."""
    box = np.array([[0.6, 0.6, 0.8, 0.9]])
    assert np.allclose(view_boxes(box, view_of(2, False, (0.5, 0.5))), [[0.2, 0.2, 0.6, 0.8]])
    assert np.allclose(view_boxes(box, view_of(2, True, (0.5, 0.5))), [[0.4, 0.2, 0.8, 0.8]])
    assert np.allclose(view_boxes(box, view_of(1, True, (0, 0))), [[0.2, 0.6, 0.4, 0.9]])


def test_boxes_are_clipped_and_given_up() -> None:
    half = np.array([[0.25, 0.5, 0.75, 0.75]])  # of which the right half is left
    assert np.allclose(view_boxes(half, view_of(2, False, (0.5, 0.5))), [[0, 0, 0.5, 0.5]])
    corner = np.array([[0.1, 0.1, 0.6, 0.6]])  # of which 1/25 is left
    assert np.isnan(view_boxes(corner, view_of(2, False, (0.5, 0.5)))).all()
    assert np.isnan(view_boxes(np.full((1, 4), np.nan), view_of(1, False, (0, 0)))).all()


def test_boxes_move_as_labels_do() -> None:
    """The box around a block of a mask, after a random view, is the box around the viewed block."""
    mask = np.zeros((1, 40, 60), np.uint8)
    mask[:, 10:30, 20:50] = 1
    field, box = Mask(TargetInfo("saliency", 1)), np.array([[20 / 60, 10 / 40, 50 / 60, 30 / 40]])
    for seed in range(30):
        view = random_view(1, 40, 60, np.random.default_rng(seed))
        rows, columns = field.tensor(mask, view)[0, 0].nonzero(as_tuple=True)
        seen = [columns.min() / 60, rows.min() / 40, (columns.max() + 1) / 60, (rows.max() + 1) / 40]
        assert np.allclose(view_boxes(box, view)[0], seen, atol=0.03)


def test_depth_is_divided_and_disparity_multiplied() -> None:
    depth = np.array([[[2.0, 0.0]]], np.float32)
    disparity = np.array([[[2.0, -1.0]]], np.float32)
    view = view_of(2.0, False, (0, 0), 1, 2)
    assert Metres(TargetInfo("depth", 1)).tensor(depth, view).flatten().tolist() == [1.0, 1.0]
    assert Disparity(TargetInfo("disparity", 1)).tensor(disparity, view).flatten().tolist() == [4.0, 4.0]
    holes = Disparity(TargetInfo("disparity", 1)).tensor(disparity[..., ::-1], view)
    assert holes.flatten().tolist() == [-1.0, -1.0]


def test_disparity_in_pixels_follows_the_width_and_keeps_zero() -> None:
    raw = np.array([[0.0, 0.0, 8.0, 8.0, -1.0, -1.0]], np.float32).repeat(2, axis=0)
    resampler = Resampler((2, 6), (1, 3))
    assert Disparity(TargetInfo("disparity", 1), pixels=True).pack(raw, resampler).tolist() == [[0.0, 4.0, -1.0]]
    assert Disparity(TargetInfo("disparity", 1)).pack(raw, resampler).tolist() == [[0.0, 8.0, -1.0]]


def test_a_flip_turns_normals() -> None:
    rows = np.zeros((1, 2, 2, 3), np.int8)
    rows[..., 0], rows[0, :, 0, 0] = 127, -127
    tensor = Vectors(TargetInfo("normals", 3)).tensor(rows, view_of(1, True, (0, 0), 2, 2))
    assert tensor[0, 0].tolist() == [[-1, 1], [-1, 1]]


def test_unlabelled_images_are_not_scored() -> None:
    rows = np.full((2, 3, 4), 255, np.uint8)
    rows[1, :, :2], rows[1, :, 2:] = 0, 1
    edges = Borders(TargetInfo("edges", 1)).tensor(rows, None)
    flags = Present(TargetInfo("presence", 3)).tensor(rows, None)
    assert (edges[0] == 255).all() and edges[1].sum() == 3
    assert flags.tolist() == [[255, 255, 255], [1, 1, 0]]


def test_lines_survive_shrinking() -> None:
    lines = np.zeros((40, 40), np.uint8)
    lines[:, 13] = 1
    lines[30:, 30:] = 255
    small = Mask(TargetInfo("edges", 1), thin_lines=True).pack(lines, Resampler((40, 40), (10, 10)))
    assert (small[:, 3] == 1).all() and (small == 1).sum() == 10 and (small[8:, 8:] == 255).all()


def test_thin_leaves_a_connected_line() -> None:
    """A thick bar becomes its middle, a ring stays a ring, a single pixel stays."""
    bar = np.zeros((9, 20), bool)
    bar[3:6, 2:18] = True
    middle = thin(bar)
    assert middle.sum(axis=0).max() == 1 and middle[4, 4:16].all() and middle.sum() >= 12
    ring = np.zeros((12, 12), bool)
    ring[2:10, 2:10] = True
    ring[5:7, 5:7] = False
    line = thin(ring)
    assert line.sum() < ring.sum() and not line[5:7, 5:7].any()
    assert all(line[4:8].sum(axis=1) == 2)
    dot = np.zeros((3, 3), bool)
    dot[1, 1] = True
    assert np.array_equal(thin(dot), dot)


def test_laplacian_marks_both_sides() -> None:
    labels = np.full((4, 6), 3)
    labels[:, 3:] = 9
    edges = laplacian_edges(labels)
    assert edges[:, 2:4].all() and edges.sum() == 8
    line = thin(edges).sum(axis=1)
    assert line.max() == 1 and line.sum() >= 3  # an end may lose a pixel


def test_recipes_leave_out_what_would_be_wrong() -> None:
    view = random_view(300, 36, 36, np.random.default_rng(0), Recipe(zooms=(1.0,), flip=False, pad=0.1, colours=False))
    assert not view.flip_B.any() and set(view.zoom_B) == {1.0}
    assert (view.gain_B3 == 1).all() and (view.shift_B1 == 0).all()
    assert -3.61 <= view.rows_BH.min() < -2 and 37 < view.columns_BW.max() <= 35 + 3.61


def test_a_recipe_does_not_change_the_draws_of_others() -> None:
    first, second = (random_view(9, 8, 8, np.random.default_rng(3), *r) for r in ((), (Recipe(),)))
    assert np.array_equal(first.rows_BH, second.rows_BH) and np.array_equal(first.gain_B3, second.gain_B3)


def test_carving_keeps_groups_whole() -> None:
    groups = chunks_of(tuple(f"k{i:03d}" for i in range(203)), 10)
    config = DataConfig(name="camvid", select=30)
    pools = carve(groups, config, ["select", "calibrate"])
    homes = [{split for split, pool in pools.items() if key in pool} for group in groups for key in group]
    assert all(len(home) == 1 for home in homes)
    assert all(len({split for split, pool in pools.items() for key in group if key in pool}) == 1 for group in groups)
    assert 30 <= len(pools["select"]) <= 40 and 17 <= len(pools["calibrate"]) <= 30
    picked = chosen({**pools, "report": ("r",)}, config)
    assert len(picked["select"]) == 30 and set(picked) == set(SPLITS)
    with pytest.raises(JobError, match=r"data\.calibrate"):
        carve(groups, DataConfig(name="camvid", calibrate=500), ["calibrate"])
    with pytest.raises(JobError, match=r"at most 1 images[\s\S]*\n"):
        chosen({**pools, "report": ("r",)}, DataConfig(name="camvid", report=5))


def test_views_of_boxes_stay_finite_tensors() -> None:
    from mtnas.data.fields import Box

    field = Box(TargetInfo("box", 4))
    rows = field.blank(3, 8, 8)
    rows[1] = (0.1, 0.2, 0.3, 0.4)
    seen = field.tensor(rows, random_view(3, 8, 8, np.random.default_rng(0)))
    assert seen.dtype == torch.float32 and seen[0].isnan().all() and seen[2].isnan().all()
