"""Resizing, augmentation and derived labels on arrays that can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mtnas.base.errors import JobError
from mtnas.data.augment import View, random_view, take_bilinear, take_nearest
from mtnas.data.base import DataInfo, TargetInfo
from mtnas.data.compact import Compact, CompactSplit
from mtnas.data.config import DataConfig
from mtnas.data.labels import edges_of, presence_of
from mtnas.data.resample import Resampler, weights_OI


@pytest.mark.parametrize(("size_out", "size_in"), [(96, 120), (128, 160), (7, 7), (64, 160), (33, 20), (1, 9)])
def test_weights_sum_to_one_and_stay_in_place(size_out: int, size_in: int) -> None:
    weights = weights_OI(size_out, size_in)
    assert np.allclose(weights.sum(1), 1)
    assert (weights >= 0).all()
    centres = (np.arange(size_out) + 0.5) * size_in / size_out - 0.5
    shift = weights @ np.arange(size_in) - np.clip(centres, 0, size_in - 1)
    # a pixel that is shared by two outputs counts with its centre, hence up to 0.15 pixel
    assert np.abs(shift).max() < (0.15 if size_out < size_in else 1e-4)
    assert abs(shift.mean()) < 1e-4


def test_same_size_changes_nothing() -> None:
    resampler, rng = Resampler((5, 6), (5, 6)), np.random.default_rng(0)
    image = rng.integers(0, 255, (5, 6, 3)).astype(np.uint8)
    assert np.array_equal(resampler.mean(image), image)
    assert np.array_equal(resampler.labels(image[..., 0]), image[..., 0])


def test_shrinking_by_two_is_a_block_mean() -> None:
    image = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = image.reshape(2, 2, 3, 2).mean(axis=(1, 3))
    assert np.allclose(Resampler((4, 6), (2, 3)).mean(image), expected)


def test_holes_do_not_leak_into_depth() -> None:
    """One hole in a block of 2 m: still 2 m; three holes: a hole."""
    depth = np.full((2, 4), 2.0, np.float32)
    depth[0, 0] = depth[0, 2] = depth[1, 2] = depth[0, 3] = 0
    assert np.allclose(Resampler((2, 4), (1, 2)).depth(depth), [[2.0, 0.0]])


def test_normals_are_averaged_as_directions() -> None:
    a = math.sqrt(0.5)
    normals = np.array([[[0, 0, -1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]], np.float32)
    result = Resampler((1, 4), (1, 2)).normals(normals)
    assert np.allclose(result, [[[a, 0, -a], [0, 0, 0]]], atol=1e-6)


def test_labels_are_never_mixed() -> None:
    labels = np.random.default_rng(0).choice([3, 255], (120, 160)).astype(np.uint8)
    assert set(np.unique(Resampler((120, 160), (96, 128)).labels(labels))) == {3, 255}


def test_edges_are_thin_and_left_right_symmetric_in_number() -> None:
    parts = np.zeros((1, 4, 6), np.uint8)
    parts[:, :, 3:] = 1
    edges = edges_of(parts)
    assert edges.sum() == 4 and edges[0, :, 3].all()
    assert edges_of(parts[:, :, ::-1]).sum() == 4


def test_presence_counts_pixels_and_skips_ignored() -> None:
    segmentation = np.array([[[0, 0, 2, 255]], [[1, 1, 1, 1]]], np.uint8)
    assert presence_of(segmentation, 3).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert presence_of(segmentation, 3, min_pixels=2).tolist() == [[1, 0, 0], [0, 1, 0]]


def view_of(zoom: float, flip: bool, height: int, width: int) -> View:
    """A centred zoom, perhaps flipped, without jitter."""
    rows = (np.arange(height) + 0.5 - height / 2) / zoom + height / 2 - 0.5
    columns = (np.arange(width) + 0.5 - width / 2) / zoom + width / 2 - 0.5
    columns = columns[::-1] if flip else columns
    return View(np.array([zoom]), np.array([flip]), rows[None], columns[None], np.ones((1, 3)), np.zeros((1, 1)))


def test_flip_is_exact() -> None:
    image = torch.rand(1, 3, 8, 10)
    view = view_of(1.0, True, 8, 10)
    assert torch.allclose(take_bilinear(image, view), image.flip(-1), atol=1e-5)
    labels = np.random.default_rng(0).integers(0, 9, (1, 8, 10))
    assert np.array_equal(take_nearest(labels, view), labels[:, :, ::-1])


def test_image_and_labels_zoom_to_the_same_place() -> None:
    """A picture that is a label map stays within one pixel of the zoomed labels."""
    labels = np.zeros((1, 40, 60), np.uint8)
    labels[:, 8:20, 14:37] = 1
    view = view_of(1.5, True, 40, 60)
    image = take_bilinear(torch.from_numpy(labels[:, None].astype(np.float32)), view)[:, 0].numpy()
    zoomed = take_nearest(labels, view)
    assert zoomed.sum() == pytest.approx(labels.sum() * 1.5**2, rel=0.1)
    assert ((image > 0.5) != zoomed).mean() < 0.01


def test_random_views_stay_inside_the_image() -> None:
    view = random_view(500, 40, 60, np.random.default_rng(0))
    assert view.rows_BH.min() > -0.51 and view.rows_BH.max() < 39.51
    assert view.columns_BW.min() > -0.51 and view.columns_BW.max() < 59.51
    assert 0.4 < view.flip_B.mean() < 0.6
    assert set(view.zoom_B) == {1.0, 1.2, 1.5}


def one_image_split() -> CompactSplit:
    """A wall that leans: depth grows along x, normals look to the left."""
    arrays = Compact.empty(1, 16, 16)
    arrays.depth_NHW[:] = 3000
    arrays.normals_NHW3[:] = (-90, 0, -90)
    targets = {name: TargetInfo(name, n) for name, n in (("depth", 1), ("normals", 3), ("segmentation", 2))}
    info = DataInfo("toy", "1", 16, 16, (0, 0, 0), (1, 1, 1), targets, {"train": 1}, "", False)
    return CompactSplit("train", arrays, info)


def test_augmentation_turns_normals_and_scales_depth() -> None:
    split, seen = one_image_split(), set()
    for seed in range(40):
        view = random_view(1, 16, 16, np.random.default_rng(seed))
        _, targets = split.batch([0], np.random.default_rng(seed))
        assert torch.allclose(targets["depth"], torch.tensor(3.0 / float(view.zoom_B[0])))
        sign = 1.0 if view.flip_B[0] else -1.0
        assert torch.allclose(targets["normals"][0, :, 4, 5], torch.tensor([sign, 0, -1]) * math.sqrt(0.5))
        seen.add((float(view.zoom_B[0]), bool(view.flip_B[0])))
    assert len(seen) == 6


@pytest.mark.parametrize("bad", [{"name": "scene"}, {"height": 8}, {"train": 0}, {"classes": 20}])
def test_config_is_checked(bad: dict) -> None:
    with pytest.raises(JobError, match=f"data.{next(iter(bad))}"):
        DataConfig(**bad)
