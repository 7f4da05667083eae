"""How hit points look: pattern, light, shadow, gloss, sensor noise. Shape letter: P = rays."""

from __future__ import annotations

import numpy as np

from mtnas.data.raycast import Hits, entry, local
from mtnas.data.rooms import FIRST_PICTURE, FIRST_SOLID, HALF_ANGLE_TAN, Paint, Picture, Room, Solid

NOISE = 0.015
#: finest feature (share of the pattern's scale) and mean share of the second colour, for each pattern
FINEST = {"stripes": 0.5, "bands": 0.45, "checks": 1.0, "panels": 0.14, "bricks": 0.16, "planks": 0.5, "plain": 1.0}
MEAN_MIX = {"stripes": 0.5, "bands": 0.45, "checks": 0.5, "panels": 0.14, "bricks": 0.23, "planks": 0.41, "plain": 0.5}


def render(room: Room, hits: Hits, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The picture as uint8 (H,W,3)."""
    seen_3P = hits.point_3P - np.asarray(room.eye, np.float32)[:, None]
    distance_P = np.sqrt((seen_3P * seen_3P).sum(axis=0))
    facing_P = -(hits.normal_3P * seen_3P).sum(axis=0) / distance_P
    # metres that one pixel covers: patterns finer than that fade out instead of flickering
    pixel_P = hits.depth_P * (2 * HALF_ANGLE_TAN / shape[1]) / np.maximum(facing_P, 0.15)
    colour_3P, gloss_P = _surface(room, hits, pixel_P)
    bright_P, shine_P = _light(room, hits, seen_3P / distance_P)
    colour_3P = colour_3P * bright_P + gloss_P * shine_P
    image_HW3 = _smoothed(colour_3P.T.reshape(*shape, 3), hits.part_P.reshape(shape))
    image_HW3 += np.float32(NOISE) * rng.standard_normal(image_HW3.shape, dtype=np.float32)
    return (np.clip(image_HW3, 0, 1) * 255 + 0.5).astype(np.uint8)


def _surface(room: Room, hits: Hits, pixel_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour and gloss of every hit point before light."""
    colour_3P = np.zeros_like(hits.point_3P)
    gloss_P = np.zeros_like(hits.depth_P)

    def fill(at: np.ndarray, paint: Paint, u: np.ndarray, v: np.ndarray) -> None:
        mix = pattern(paint, u, v, pixel_P[at])
        colour_3P[:, at] = paint.first[:, None] * (1 - mix) + paint.second[:, None] * mix
        gloss_P[at] = paint.gloss

    for part in np.flatnonzero(np.bincount(hits.part_P)):
        at = np.flatnonzero(hits.part_P == part)
        x, y, z = hits.point_3P[:, at]
        if part < FIRST_PICTURE:
            fill(at, room.faces[part], *((z, y), (x, z), (x, y))[part // 2])
        elif part < FIRST_SOLID:
            picture = next(p for p in room.pictures if p.part == part)
            fill(at, picture.paint, *_on_picture(picture, x if picture.face == 5 else z, y))
        else:
            for solid in (s for s in room.solids if s.part == part):
                fill(at, solid.paint, *_on_solid(solid, hits.point_3P[:, at]))
                break
    return colour_3P, gloss_P


def _on_picture(picture: Picture, along: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position on a picture, each side from 0 to 1."""
    (a0, a1), (u0, u1) = picture.along, picture.up
    return (along - a0) / (a1 - a0), (up - u0) / (u1 - u0)


def _on_solid(solid: Solid, point_3P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surface coordinates in metres: around and up for round shapes, two axes of the face for boxes."""
    x, y, z = local(solid, point_3P)
    if solid.shape == "box":
        on_x = np.abs(x) / solid.half[0] > np.abs(z) / solid.half[2]
        on_top = np.abs(y) / solid.half[1] > np.maximum(np.abs(x) / solid.half[0], np.abs(z) / solid.half[2])
        return np.where(on_x & ~on_top, z, x), np.where(on_top, z, y)
    if solid.shape == "cylinder" and solid.half[1] < solid.half[0]:
        return x, z
    return np.arctan2(x, z) * np.float32(solid.half[0]), y


def pattern(paint: Paint, u: np.ndarray, v: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """How much of the second colour each point shows, from 0 to 1; faded where the pattern is finer than a pixel."""
    if paint.pattern == "art":
        return _art(u, v, paint.phase)
    u, v = (axis / np.float32(paint.scale) + np.float32(paint.phase) for axis in (u, v))
    mix: np.ndarray
    if paint.pattern == "stripes":
        mix = (u % 1 < 0.5).astype(np.float32)
    elif paint.pattern == "bands":
        mix = (v % 1 < 0.45).astype(np.float32)
    elif paint.pattern == "checks":
        mix = ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)
    elif paint.pattern == "panels":
        mix = np.maximum(u % 1 < 0.07, v % 1 < 0.07).astype(np.float32)
    elif paint.pattern == "bricks":
        row = np.floor(2 * v)
        mix = np.maximum((2 * v) % 1 < 0.16, (u + 0.5 * (row % 2)) % 1 < 0.08).astype(np.float32)
    elif paint.pattern == "planks":
        plank = np.floor(u)
        tone = np.sin(plank * np.float32(12.9898) + np.floor(v * 0.16 + plank * 0.37) * np.float32(78.233)) * 43758.547
        mix = (tone % 1) * np.float32(0.8) + (u % 1 < 0.06) * np.float32(0.2)
    else:
        mix = 0.5 + 0.25 * np.sin(u * 2.1 + 3 * paint.phase) + 0.25 * np.sin(v * 2.7 + u)
    fade = np.clip(np.float32(FINEST[paint.pattern] * paint.scale) / pixel - np.float32(0.5), 0, 1)
    mean = np.float32(MEAN_MIX[paint.pattern])
    return mean + (mix - mean) * fade


def _art(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    """A frame around two colours that meet along a wave."""
    inside = (np.abs(u - 0.5) < 0.42) & (np.abs(v - 0.5) < 0.42)
    wave = 0.5 + 0.25 * np.sin(7 * u + 9 * phase)
    return np.where(inside, np.clip(8 * (v - wave), 0, 1), np.float32(0.5 + 0.5 * (phase > 0.5)))


def _light(room: Room, hits: Hits, view_3P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brightness of matt surfaces and of highlights: one lamp that fades with distance, and hard shadows."""
    to_light_3P = np.asarray(room.light, np.float32)[:, None] - hits.point_3P
    square_P = (to_light_3P * to_light_3P).sum(axis=0)
    unit_3P = to_light_3P / np.sqrt(square_P)
    facing_P = (unit_3P * hits.normal_3P).sum(axis=0)
    lit_P = (facing_P > 0) & ~_shadowed(room, hits, to_light_3P)
    strength_P = lit_P * np.maximum(facing_P, 0) * (np.float32(1.2) / (1 + square_P * np.float32(0.05)))
    mirrored_P = (2 * facing_P * hits.normal_3P - unit_3P) * view_3P
    shine_P = lit_P * np.maximum(-mirrored_P.sum(axis=0), 0) ** 24
    # the floor throws light back: what faces down gets more of it
    fill_P = room.ambient * (1 + np.float32(0.35) * hits.normal_3P[1])
    return fill_P + strength_P, shine_P


def _shadowed(room: Room, hits: Hits, to_light_3P: np.ndarray) -> np.ndarray:
    """Points whose way to the lamp meets a solid."""
    start_3P = hits.point_3P + np.float32(0.01) * hits.normal_3P
    shadow_P = np.zeros(len(hits.depth_P), bool)
    for solid in room.solids:
        # nothing above a solid and nothing on the ceiling can lie in its shadow
        at = np.flatnonzero(start_3P[1] > solid.centre[1] - solid.half[1])
        start = (start_3P[0, at], start_3P[1, at], start_3P[2, at])
        shadow_P[at] |= entry(solid, start, to_light_3P[:, at]) < 1
    return shadow_P


def _smoothed(image_HW3: np.ndarray, part_HW: np.ndarray) -> np.ndarray:
    """Blend pixels on the outline of a part with their neighbours, as a lens would."""
    edge = np.zeros(part_HW.shape, bool)
    across, down = part_HW[:, 1:] != part_HW[:, :-1], part_HW[1:] != part_HW[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    rows, columns = np.nonzero(edge)
    height, width = part_HW.shape
    around = (
        image_HW3[np.maximum(rows - 1, 0), columns]
        + image_HW3[np.minimum(rows + 1, height - 1), columns]
        + image_HW3[rows, np.maximum(columns - 1, 0)]
        + image_HW3[rows, np.minimum(columns + 1, width - 1)]
    )
    result = image_HW3.copy()
    result[rows, columns] = np.float32(0.5) * image_HW3[rows, columns] + np.float32(0.125) * around
    return result
