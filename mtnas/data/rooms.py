"""What stands in a generated room: a box room, solids on its floor, pictures on its walls, one camera, one light.

World axes: x right, y down, z into the room; the floor is y = 0, lengths in metres. The camera looks along +z, turned
by small random angles, so that at zero angles camera axes and world axes are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CLASS_NAMES = ("wall", "floor", "ceiling", "picture", "box", "ball", "cylinder", "table")
WALL, FLOOR, CEILING, PICTURE, BOX, BALL, CYLINDER, TABLE = range(8)
#: looks of the walls; the label of the image-level target `room`
ROOM_STYLES = ("plain", "stripes", "bricks", "panels")
#: parts 0..5 are the faces x = 0, x = size, ceiling, floor, z = 0, z = size; then pictures, then solids
FACE_CLASSES = (WALL, WALL, CEILING, FLOOR, WALL, WALL)
FIRST_PICTURE, FIRST_SOLID = 6, 10
HALF_ANGLE_TAN = math.tan(math.radians(33.0))
PLACING_TRIES = 12

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Paint:
    """Two colours and a pattern. `scale` is the size of the pattern in metres, `phase` shifts it."""

    first: np.ndarray
    second: np.ndarray
    pattern: str
    scale: float
    phase: float
    gloss: float = 0.0


@dataclass(frozen=True)
class Solid:
    """A ball, a turned box or an upright cylinder; `half` are half sizes (a radius in x and z for round shapes)."""

    shape: str
    kind: int
    part: int
    centre: Vector
    half: Vector
    yaw: float
    paint: Paint


@dataclass(frozen=True)
class Picture:
    """A flat rectangle on a wall: `along` is its range along the wall, `up` its range of y."""

    face: int
    part: int
    along: tuple[float, float]
    up: tuple[float, float]
    paint: Paint


@dataclass(frozen=True)
class Room:
    """Everything the ray caster needs."""

    size: Vector
    style: int
    faces: tuple[Paint, ...]
    pictures: tuple[Picture, ...]
    solids: tuple[Solid, ...]
    eye: Vector
    turn_33: np.ndarray
    light: Vector
    ambient: float


def colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """A random RGB colour of any hue."""
    hue, s, v = rng.random() * 6.0, rng.uniform(*saturation), rng.uniform(*value)
    ramp = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return (v * (1.0 - s * (1.0 - ramp))).astype(np.float32)


def brown(rng: np.random.Generator) -> np.ndarray:
    """A wood colour."""
    return (rng.uniform(0.35, 0.75) * np.array([1.0, rng.uniform(0.62, 0.8), rng.uniform(0.32, 0.52)])).astype(
        np.float32
    )


def turning(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation from camera to world: roll, then pitch (positive looks down), then yaw."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_y @ about_x @ about_z).astype(np.float32)


def random_room(rng: np.random.Generator) -> Room:
    """Draw a room; all randomness comes from the generator."""
    size = (rng.uniform(3.6, 6.5), rng.uniform(2.4, 3.1), rng.uniform(4.2, 7.5))
    eye = (size[0] * rng.uniform(0.25, 0.75), -rng.uniform(1.1, 1.8), rng.uniform(0.3, 0.9))
    yaw = math.radians(rng.uniform(-28, 28))
    turn_33 = turning(yaw, math.radians(rng.uniform(2, 20)), math.radians(rng.uniform(-3, 3)))
    style = int(rng.integers(len(ROOM_STYLES)))
    light = (size[0] * rng.uniform(0.25, 0.75), -size[1] * rng.uniform(0.82, 0.94), size[2] * rng.uniform(0.2, 0.7))
    return Room(
        size, style, _faces(rng, style), _pictures(rng, size), _solids(rng, size, eye, yaw), eye, turn_33, light,
        rng.uniform(0.4, 0.55),
    )  # fmt: skip


def _faces(rng: np.random.Generator, style: int) -> tuple[Paint, ...]:
    """Paint of the six faces: one for all walls, one for the ceiling, one for the floor."""
    first = colour(rng, (0.04, 0.35), (0.6, 0.95))
    second = first * rng.uniform(0.6, 0.82) if rng.random() < 0.6 else colour(rng, (0.05, 0.4), (0.55, 0.9))
    scale = (1.0, rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.6), rng.uniform(0.6, 1.0))[style]
    wall = Paint(first, second, ROOM_STYLES[style], scale, rng.random())
    white = np.full(3, rng.uniform(0.82, 0.98), np.float32) * colour(rng, (0.0, 0.05), (0.98, 1.0))
    ceiling = Paint(white, white * 0.92, "plain", 1.5, rng.random())
    if rng.random() < 0.5:
        wood = brown(rng)
        floor = Paint(wood, wood * 0.72, "planks", rng.uniform(0.18, 0.32), rng.random(), 0.1)
    else:
        tile = colour(rng, (0.0, 0.25), (0.35, 0.75))
        floor = Paint(tile, tile * rng.uniform(0.55, 0.75), "checks", rng.uniform(0.4, 0.7), rng.random(), 0.15)
    return (wall, wall, ceiling, floor, wall, wall)


def _pictures(rng: np.random.Generator, size: Vector) -> tuple[Picture, ...]:
    """Up to three pictures, at most one on each of the walls that can be seen."""
    faces = rng.permutation([0, 1, 5])[: int(rng.integers(0, 4))]
    pictures = []
    for number, face in enumerate(int(face) for face in faces):
        length = size[0] if face == 5 else size[2]
        half_along, half_up = rng.uniform(0.3, 0.75), rng.uniform(0.25, 0.5)
        along = rng.uniform(half_along + 0.2, length - half_along - 0.2)
        up = -rng.uniform(1.4, 1.75)
        paint = Paint(
            colour(rng, (0.4, 0.9), (0.4, 0.95)), colour(rng, (0.4, 0.9), (0.3, 0.9)), "art", 1.0, rng.random()
        )
        box = (along - half_along, along + half_along), (up - half_up, up + half_up)
        pictures.append(Picture(face, FIRST_PICTURE + number, *box, paint))
    return tuple(pictures)


def _solids(rng: np.random.Generator, size: Vector, eye: Vector, yaw: float) -> tuple[Solid, ...]:
    """Three to eight solids in front of the camera, apart from each other as far as twelve tries allow."""
    placed: list[tuple[float, float, float]] = []
    solids: list[Solid] = []
    for part in range(FIRST_SOLID, FIRST_SOLID + int(rng.integers(3, 9))):
        kind = int(rng.choice([BOX, BALL, CYLINDER, TABLE], p=[0.3, 0.26, 0.26, 0.18]))
        radius = rng.uniform(0.18, 0.5) if kind != TABLE else rng.uniform(0.4, 0.65)
        spot = _free_spot(rng, size, eye, yaw, placed, radius)
        if spot is not None:
            placed.append((*spot, radius))
            solids += _solid(rng, kind, part, spot, radius)
    return tuple(solids)


def _free_spot(
    rng: np.random.Generator,
    size: Vector,
    eye: Vector,
    yaw: float,
    placed: list[tuple[float, float, float]],
    radius: float,
) -> tuple[float, float] | None:
    """A place on the floor that the camera sees, inside the room and off the other solids; None when none was found."""
    for _ in range(PLACING_TRIES):
        ahead = rng.uniform(1.5 + radius, size[2])
        aside = ahead * HALF_ANGLE_TAN * rng.uniform(-0.95, 0.95)
        x = eye[0] + ahead * math.sin(yaw) + aside * math.cos(yaw)
        z = eye[2] + ahead * math.cos(yaw) - aside * math.sin(yaw)
        inside = radius + 0.05 < x < size[0] - radius - 0.05 and z < size[2] - radius - 0.05
        if inside and all(math.hypot(x - px, z - pz) > radius + pr + 0.05 for px, pz, pr in placed):
            return x, z
    return None


def _solid(rng: np.random.Generator, kind: int, part: int, spot: tuple[float, float], radius: float) -> list[Solid]:
    """The shapes of one solid; a table has two."""
    x, z = spot
    yaw = rng.uniform(0, math.pi)
    pattern = str(rng.choice(["plain", "bands", "checks", "stripes"]))
    first = colour(rng, (0.45, 0.95), (0.35, 0.95))
    second = colour(rng, (0.3, 0.9), (0.3, 0.95)) if rng.random() < 0.5 else first * 0.6
    paint = Paint(first, second, pattern, rng.uniform(0.16, 0.34), rng.random(), rng.uniform(0.0, 0.5))
    if kind == BALL:
        return [Solid("ball", kind, part, (x, -radius, z), (radius,) * 3, yaw, paint)]
    if kind == CYLINDER:
        thin, tall = radius * rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.8)
        return [Solid("cylinder", kind, part, (x, -tall, z), (thin, tall, thin), yaw, paint)]
    if kind == BOX:
        half = (radius * rng.uniform(0.5, 0.72), rng.uniform(0.15, 0.75), radius * rng.uniform(0.5, 0.72))
        return [Solid("box", kind, part, (x, -half[1], z), half, yaw, paint)]
    wood = brown(rng)
    paint = Paint(wood, wood * 0.75, "planks", 0.12, rng.random(), 0.2)
    height = rng.uniform(0.5, 0.85)
    top = Solid("cylinder", kind, part, (x, -height, z), (radius, 0.045, radius), yaw, paint)
    return [top, Solid("cylinder", kind, part, (x, -height / 2, z), (0.07, height / 2, 0.07), yaw, paint)]
