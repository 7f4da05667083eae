"""Rays against a room: which part each ray meets, how far, with which normal. Shape letter: P = rays.

Rays are not of unit length: their camera z is 1, so the ray parameter is the depth in metres. All solids are convex
intersections of slabs and a round side, hence one rule: a ray enters at the largest entry and leaves at the smallest
exit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtnas.data.rooms import FACE_CLASSES, HALF_ANGLE_TAN, PICTURE, Room, Solid

#: three coordinates, each an array over rays or a number
Triple = Sequence[Any]
#: keeps a ray that is exactly parallel to a surface from dividing by zero; lost in rounding for all others
TINY = np.float32(1e-20)


@dataclass(frozen=True)
class Hits:
    """What each ray meets first. Normals are in world axes and point against the ray."""

    depth_P: np.ndarray
    part_P: np.ndarray
    class_P: np.ndarray
    normal_3P: np.ndarray
    point_3P: np.ndarray


def camera_rays(height: int, width: int) -> np.ndarray:
    """Directions (3,P) in camera axes with z = 1, row by row."""
    focal = 0.5 * width / HALF_ANGLE_TAN
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (np.arange(height) + 0.5 - height / 2) / focal
    grid = np.meshgrid(x, y)
    return np.stack([grid[0].ravel(), grid[1].ravel(), np.ones(height * width)]).astype(np.float32)


def cast(room: Room, camera_3P: np.ndarray) -> Hits:
    """Follow every camera ray to the first surface."""
    direction_3P = room.turn_33 @ camera_3P
    direction_3P[np.abs(direction_3P) < 1e-6] = 1e-6
    depth_P, face_P = _walls(room, direction_3P)
    owner_P = np.full(len(depth_P), -1, np.int16)
    for number, solid in enumerate(room.solids):
        entry_P = entry(solid, room.eye, direction_3P)
        nearer = np.flatnonzero(entry_P < depth_P)
        depth_P[nearer], owner_P[nearer] = entry_P[nearer], number
    point_3P = np.asarray(room.eye, np.float32)[:, None] + depth_P * direction_3P
    return _described(room, depth_P, face_P, owner_P, point_3P)


def _walls(room: Room, direction_3P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth and face at which each ray leaves the empty room."""
    depth_P = np.full(direction_3P.shape[1], np.inf, np.float32)
    face_P = np.zeros(direction_3P.shape[1], np.uint8)
    bounds = ((0.0, room.size[0]), (-room.size[1], 0.0), (0.0, room.size[2]))
    for axis, (low, high) in enumerate(bounds):
        ahead = direction_3P[axis] > 0
        wall = np.where(ahead, np.float32(high - room.eye[axis]), np.float32(low - room.eye[axis]))
        reach = wall / direction_3P[axis]
        nearer = reach < depth_P
        face_P[nearer] = (2 * axis + ahead)[nearer]
        np.minimum(depth_P, reach, out=depth_P)
    return depth_P, face_P


def entry(solid: Solid, origin: Triple, direction_3P: np.ndarray) -> np.ndarray:
    """Ray parameter at which each ray enters a solid; infinity for a miss or a solid behind the origin."""
    ox, oy, oz = (o - c for o, c in zip(origin, solid.centre))
    dx, dy, dz = direction_3P
    if solid.shape == "box":
        c, s = np.float32(math.cos(solid.yaw)), np.float32(math.sin(solid.yaw))
        ox, oz = c * ox + s * oz, c * oz - s * ox
        first_x, last_x = _slab(ox, c * dx + s * dz, solid.half[0])
        first_z, last_z = _slab(oz, c * dz - s * dx, solid.half[2])
        first, last = np.maximum(first_x, first_z), np.minimum(last_x, last_z)
    else:
        first, last = _round(solid, (ox, oy, oz), direction_3P)
    if solid.shape != "ball":
        low, high = _slab(oy, dy, solid.half[1])
        first, last = np.maximum(first, low), np.minimum(last, high)
    first[(first > last) | (first <= 0)] = np.inf
    return first


def _slab(origin: np.ndarray | float, direction_P: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Entry and exit of the space between two parallel planes."""
    inverse = np.float32(1) / (direction_P + TINY)
    middle, reach = -origin * inverse, np.abs(np.float32(half) * inverse)
    return middle - reach, middle + reach


def _round(solid: Solid, origin: Triple, direction_3P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entry and exit of a ball, or of an endless upright cylinder."""
    axes = (0, 1, 2) if solid.shape == "ball" else (0, 2)
    a = sum(direction_3P[i] * direction_3P[i] for i in axes) + TINY
    b = sum(origin[i] * direction_3P[i] for i in axes)
    c = sum(origin[i] * origin[i] for i in axes) - solid.half[0] ** 2
    inside = b * b - a * c
    root = np.sqrt(np.maximum(inside, 0))
    first = (-b - root) / a
    first[inside <= 0] = np.inf
    return first, (root - b) / a


def _described(room: Room, depth_P: np.ndarray, face_P: np.ndarray, owner_P: np.ndarray, point_3P: np.ndarray) -> Hits:
    """Parts, classes and normals of the points that were met."""
    part_P, class_P = face_P.copy(), np.asarray(FACE_CLASSES, np.uint8)[face_P]
    normal_3P = np.zeros_like(point_3P)
    normal_3P[face_P // 2, np.arange(len(face_P))] = 1.0 - 2.0 * (face_P % 2)
    bare = owner_P < 0
    for picture in room.pictures:
        along = point_3P[0] if picture.face == 5 else point_3P[2]
        low, high = picture.along
        on = bare & (face_P == picture.face) & (along > low) & (along < high)
        on &= (point_3P[1] > picture.up[0]) & (point_3P[1] < picture.up[1])
        part_P[on], class_P[on] = picture.part, PICTURE
    for number, solid in enumerate(room.solids):
        at = np.flatnonzero(owner_P == number)
        if len(at):
            part_P[at], class_P[at] = solid.part, solid.kind
            normal_3P[:, at] = _normals(solid, point_3P[:, at])
    return Hits(depth_P, part_P, class_P, normal_3P, point_3P)


def local(solid: Solid, point_3P: np.ndarray) -> np.ndarray:
    """World points in the solid's own axes, centre at the origin."""
    x, y, z = (point_3P[i] - np.float32(solid.centre[i]) for i in range(3))
    c, s = np.float32(math.cos(solid.yaw)), np.float32(math.sin(solid.yaw))
    return np.stack([c * x + s * z, y, c * z - s * x])


def _normals(solid: Solid, point_3P: np.ndarray) -> np.ndarray:
    """Outward unit normals of points on a solid, in world axes."""
    inner = local(solid, point_3P)
    scaled = inner / np.asarray(solid.half, np.float32)[:, None]
    if solid.shape == "ball":
        outward = scaled
    elif solid.shape == "box":
        axis = np.abs(scaled).argmax(axis=0)
        outward = np.zeros_like(scaled)
        outward[axis, np.arange(len(axis))] = np.sign(scaled[axis, np.arange(len(axis))])
    else:
        on_cap = np.abs(scaled[1]) > np.hypot(scaled[0], scaled[2])
        outward = np.where(on_cap, np.stack([scaled[1] * 0, np.sign(scaled[1]), scaled[1] * 0]), scaled)
        outward[1] *= on_cap
    c, s = np.float32(math.cos(solid.yaw)), np.float32(math.sin(solid.yaw))
    x, y, z = outward / np.sqrt((outward * outward).sum(axis=0))
    return np.stack([c * x - s * z, y, c * z + s * x])
