"""Objects put together from parts: bodies that are stretched, turned, placed and coloured.

Points come evenly over the whole surface, never from where one part hides inside another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from generation_stack.splats.cloud import Surface
from generation_stack.splats.primitives import BODIES, Points

Vector: TypeAlias = tuple[float, float, float]

#: Called with the number of points made since the last call; raises to stop the work.
Progress: TypeAlias = Callable[[int], None]

#: Points drawn at a time; between two draws the work can be stopped.
CHUNK = 4_096
#: Draws to measure how much of a part can be seen.
_PROBE = 1_024
#: A part that is nearly hidden is not worth more draws than this.
_MOST_DRAWS = 64
_LIGHT = np.array([0.35, -0.5, 0.79])


@dataclass(frozen=True, slots=True)
class Part:
    """One body of an object; sizes and places in units of the object, angles in degrees around x, y, z."""

    body: str
    size: Vector
    at: Vector = (0.0, 0.0, 0.0)
    turn: Vector = (0.0, 0.0, 0.0)
    colour: Vector = (0.6, 0.6, 0.6)
    shape: float = 1.0
    opacity: float = 0.97
    #: How much neighbouring points differ in brightness.
    grain: float = 0.04
    #: How much brighter the side towards the light is.
    shine: float = 0.0
    #: Factors along the object's own axes, after the turn.
    stretch: Vector = (1.0, 1.0, 1.0)

    @property
    def rotation(self) -> Points:
        """The matrix of ``turn``."""
        x, y, z = (math.radians(angle) for angle in self.turn)
        around_x = np.array([[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]])
        around_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
        around_z = np.array([[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]])
        return np.asarray(around_z @ around_y @ around_x, dtype=np.float64)

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Return which points lie inside."""
        own = (points - np.array(self.at)) / np.array(self.stretch) @ self.rotation / np.array(self.size)
        return BODIES[self.body].contains(own, self.shape)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Points, Points, NDArray[np.float64]]:
        """Return points and normals in the object's space, and how much area each stands for."""
        points, normals = BODIES[self.body].sample(rng, count, self.shape)
        size, stretch = np.array(self.size), np.array(self.stretch)
        tilted = normals / size @ self.rotation.T / stretch
        lengths = np.linalg.norm(tilted, axis=1)
        # Stretching a surface changes its area by the determinant times the length of the tilted normal.
        areas = lengths * float(np.prod(size) * np.prod(stretch))
        placed = (points * size) @ self.rotation.T * stretch + np.array(self.at)
        return placed, tilted / lengths[:, None], areas


def moved(parts: Sequence[Part], *, by: Vector) -> list[Part]:
    """Return the parts at another place."""
    return [replace(p, at=(p.at[0] + by[0], p.at[1] + by[1], p.at[2] + by[2])) for p in parts]


def box_of(parts: Sequence[Part]) -> tuple[Vector, Vector]:
    """Return the lowest and the highest corner of a box that holds all parts."""
    reach = np.array([abs(p.rotation) @ np.array(p.size) / 2.0 * np.array(p.stretch) for p in parts])
    at = np.array([p.at for p in parts])
    low, high = (at - reach).min(axis=0), (at + reach).max(axis=0)
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def scaled(parts: Sequence[Part], *, by: float) -> list[Part]:
    """Return the parts, larger by a factor around the origin."""
    return [
        replace(
            part,
            size=(part.size[0] * by, part.size[1] * by, part.size[2] * by),
            at=(part.at[0] * by, part.at[1] * by, part.at[2] * by),
        )
        for part in parts
    ]


def fitted(parts: Sequence[Part]) -> list[Part]:
    """Return the parts in the middle of a cube of edge 1, which is what models of the field make."""
    low, high = box_of(parts)
    middle = tuple((a + b) / 2.0 for a, b in zip(low, high, strict=True))
    largest = max(b - a for a, b in zip(low, high, strict=True))
    return scaled(moved(parts, by=(-middle[0], -middle[1], -middle[2])), by=1.0 / max(largest, 1e-6))


def surface_of(parts: Sequence[Part], *, count: int, rng: np.random.Generator, progress: Progress) -> Surface:
    """Return exactly ``count`` points, shared out by the area of each part that can be seen."""
    areas = [_visible_area(index, parts, rng) for index in range(len(parts))]
    spread = 0.8 * math.sqrt(sum(areas) / count)
    pieces = []
    for index, share in enumerate(_shares(areas, count)):
        left = share
        while left > 0:
            piece = _piece(index, parts, rng, min(left, CHUNK), spread)
            progress(len(piece))
            pieces.append(piece)
            left -= len(piece)
    return Surface(*(np.concatenate([getattr(p, name) for p in pieces]) for name in Surface.__slots__))


def _visible_area(index: int, parts: Sequence[Part], rng: np.random.Generator) -> float:
    points, _, areas = parts[index].draw(rng, _PROBE)
    return float((areas * ~_hidden(index, parts, points)).mean())


def _hidden(index: int, parts: Sequence[Part], points: Points) -> NDArray[np.bool_]:
    hidden = np.zeros(len(points), dtype=bool)
    for other, part in enumerate(parts):
        # What glass covers can be seen.
        if other != index and part.opacity > 0.6:
            hidden |= part.contains(points)
    return hidden


def _shares(areas: Sequence[float], count: int) -> list[int]:
    """Share ``count`` out in proportion; whole numbers whose sum is exact."""
    total = sum(areas) or 1.0
    ends = [round(count * sum(areas[: index + 1]) / total) for index in range(len(areas))]
    ends[-1] = count
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _piece(index: int, parts: Sequence[Part], rng: np.random.Generator, count: int, spread: float) -> Surface:
    part = parts[index]
    kept_points, kept_normals, have = [], [], 0
    for attempt in range(_MOST_DRAWS):
        points, normals, areas = part.draw(rng, max(count, 256))
        chosen = rng.random(len(points)) * areas.max() < areas
        # The bound: what cannot be had from the visible side in so many draws is taken as it comes.
        if attempt < _MOST_DRAWS - 1:
            chosen &= ~_hidden(index, parts, points)
        else:
            chosen[:] = True
        kept_points.append(points[chosen])
        kept_normals.append(normals[chosen])
        have += int(chosen.sum())
        if have >= count:
            break
    points, normals = np.concatenate(kept_points)[:count], np.concatenate(kept_normals)[:count]
    return _painted(part, points, normals, rng, spread)


def _painted(part: Part, points: Points, normals: Points, rng: np.random.Generator, spread: float) -> Surface:
    """Colour the points as light from one side above would show them."""
    count = len(points)
    lit = np.clip(normals @ _LIGHT, 0.0, 1.0)
    light = 0.5 + 0.12 * normals[:, 2] + 0.42 * lit + part.shine * lit**12
    light *= 1.0 + part.grain * rng.normal(size=count)
    colours = np.array(part.colour)[None, :] * light[:, None] + (part.shine * 0.5 * lit**12)[:, None]
    values = (
        points, normals, colours,
        np.clip(part.opacity + 0.02 * rng.normal(size=count), 0.05, 0.99),
        spread * np.exp(0.15 * rng.normal(size=count)),
        rng.random(count) * 2 * np.pi,
    )  # fmt: skip
    return Surface(*(np.asarray(value, dtype=np.float32) for value in values))
