"""Simple bodies of unit size: points on their surface with normals, and which points lie inside.

Each stands around the origin, its axis along z, within the cube from -0.5 to 0.5. ``shape`` is the one
number that a body may have: how wide a cylinder's top is beside its foot, how thick a torus is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]
Sampler: TypeAlias = Callable[[np.random.Generator, int, float], tuple[Points, Points]]
Inside: TypeAlias = Callable[[Points, float], NDArray[np.bool_]]


class Body(NamedTuple):
    """How one body is sampled evenly over its surface, and what lies inside it."""

    sample: Sampler
    contains: Inside


def _sphere(rng: np.random.Generator, count: int, shape: float) -> tuple[Points, Points]:
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals * 0.5, normals


def _in_sphere(points: Points, shape: float) -> NDArray[np.bool_]:
    return np.asarray((points**2).sum(axis=1) < 0.25)


def _dome(rng: np.random.Generator, count: int, shape: float) -> tuple[Points, Points]:
    """Sample the upper half of a sphere, stretched to the full height, with its floor."""
    points, normals = _sphere(rng, count, shape)
    points[:, 2], normals[:, 2] = abs(points[:, 2]), abs(normals[:, 2])
    is_floor = rng.random(count) < 1.0 / 3.0
    points[is_floor, :2], points[is_floor, 2] = _disc(rng, int(is_floor.sum())), 0.0
    normals[is_floor] = (0.0, 0.0, -1.0)
    # Stretching z by two tilts the normals the other way.
    normals[:, 2] *= 0.5
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points[:, 2] = points[:, 2] * 2.0 - 0.5
    return points, normals


def _in_dome(points: Points, shape: float) -> NDArray[np.bool_]:
    height = (points[:, 2] + 0.5) / 2.0
    return np.asarray((height > 0.0) & ((points[:, :2] ** 2).sum(axis=1) + height**2 < 0.25))


def _box(rng: np.random.Generator, count: int, shape: float) -> tuple[Points, Points]:
    points = rng.random((count, 3)) - 0.5
    face = rng.integers(6, size=count)
    axis, side = face // 2, np.where(face % 2 == 0, -1.0, 1.0)
    normals = np.zeros((count, 3))
    rows = np.arange(count)
    points[rows, axis], normals[rows, axis] = side * 0.5, side
    return points, normals


def _in_box(points: Points, shape: float) -> NDArray[np.bool_]:
    return np.asarray(abs(points).max(axis=1) < 0.5)


def _disc(rng: np.random.Generator, count: int) -> Points:
    angle, radius = rng.random(count) * 2 * np.pi, 0.5 * np.sqrt(rng.random(count))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _cylinder(rng: np.random.Generator, count: int, shape: float) -> tuple[Points, Points]:
    """Sample a cylinder whose top has ``shape`` times the radius of its foot: 1 is straight, 0 a cone."""
    slant = float(np.hypot(1.0, 0.5 * (1.0 - shape)))
    areas = np.array([np.pi * 0.5 * (1.0 + shape) * slant, np.pi * 0.25, np.pi * 0.25 * shape**2])
    part = rng.choice(3, size=count, p=areas / areas.sum())
    angle = rng.random(count) * 2 * np.pi
    # Evenly over the mantle: more where it is wide.
    wide = 1.0 - rng.random(count) * (1.0 - shape**2) if shape < 1.0 else np.ones(count)
    height = (1.0 - np.sqrt(wide)) / (1.0 - shape) if shape < 1.0 else rng.random(count)
    radius = 0.5 * (1.0 - (1.0 - shape) * height)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), height - 0.5], axis=1)
    normals = np.stack([np.cos(angle), np.sin(angle), np.full(count, 0.5 * (1.0 - shape))], axis=1) / slant
    for cap, scale, z in ((1, 1.0, -0.5), (2, shape, 0.5)):
        chosen = part == cap
        points[chosen, :2], points[chosen, 2] = _disc(rng, int(chosen.sum())) * scale, z
        normals[chosen] = (0.0, 0.0, np.sign(z))
    return points, normals


def _in_cylinder(points: Points, shape: float) -> NDArray[np.bool_]:
    radius = 0.5 * (1.0 - (1.0 - shape) * (points[:, 2] + 0.5))
    return np.asarray((abs(points[:, 2]) < 0.5) & ((points[:, :2] ** 2).sum(axis=1) < radius**2))


def _torus(rng: np.random.Generator, count: int, shape: float) -> tuple[Points, Points]:
    """Sample a ring in the xy plane; ``shape`` is its thickness beside its width."""
    thin = 0.5 * shape
    wide = 0.5 - thin
    around, across = rng.random(count) * 2 * np.pi, rng.random(count) * 2 * np.pi
    # The outer side is longer than the inner one: draw the angle again where it came out too often.
    for _ in range(8):
        again = rng.random(count) > (wide + thin * np.cos(across)) / (wide + thin)
        across[again] = rng.random(int(again.sum())) * 2 * np.pi
    outwards = np.cos(across)
    normals = np.stack([np.cos(around) * outwards, np.sin(around) * outwards, np.sin(across)], axis=1)
    ring = np.stack([np.cos(around), np.sin(around), np.zeros(count)], axis=1) * wide
    return ring + normals * thin, normals


def _in_torus(points: Points, shape: float) -> NDArray[np.bool_]:
    thin = 0.5 * shape
    from_ring = np.hypot(points[:, 0], points[:, 1]) - (0.5 - thin)
    return np.asarray(from_ring**2 + points[:, 2] ** 2 < thin**2)


BODIES = {
    "sphere": Body(_sphere, _in_sphere),
    "dome": Body(_dome, _in_dome),
    "box": Body(_box, _in_box),
    "cylinder": Body(_cylinder, _in_cylinder),
    "torus": Body(_torus, _in_torus),
}
