"""Makes a solid from a picture: what stands out from its background becomes a body with two sides."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from generation_stack.splats.cloud import Surface, joined
from generation_stack.splats.png import Bytes
from generation_stack.splats.solids import CHUNK, Progress

Plane: TypeAlias = NDArray[np.float64]

#: Longest edge that heights are computed on; larger pictures are thinned out.
_LONGEST = 256
#: A pixel this close to the colour of the border belongs to the background.
_BACKGROUND = 0.14
_THICKEST, _RELIEF = 0.1, 0.03


def surface_of(picture: Bytes, *, count: int, rng: np.random.Generator, progress: Progress) -> Surface:
    """Return exactly ``count`` points on the front and the back of what the picture shows."""
    pixels = _thinned(picture).astype(np.float64) / 255.0
    mask = _foreground(pixels)
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
    # Half of what is around an edge is background, so the two sides meet there.
    bulge = _THICKEST * np.sqrt(np.clip(2.0 * _blurred(mask.astype(np.float64), 8) - 1.0, 0.0, 1.0)) * mask
    front, back = bulge + _RELIEF * _blurred(light, 1) * mask, -bulge
    pieces, left = [], count
    while left > 0:
        piece = _piece(pixels, mask, (front, back), rng, min(left, CHUNK))
        progress(len(piece))
        pieces.append(piece)
        left -= len(piece)
    whole = joined(pieces)
    # Each side shows the mask once; a Gaussian covers its share of that.
    edge = 1.0 / max(mask.shape)
    whole.spread[:] *= 0.8 * float(np.sqrt(2.0 * mask.sum() * edge**2 / count))
    return whole


def _thinned(picture: Bytes) -> Bytes:
    step = -(-max(picture.shape[:2]) // _LONGEST)
    return picture[::step, ::step]


def _foreground(pixels: Plane) -> NDArray[np.bool_]:
    """Return what is shown: by transparency where there is any, else by its distance from the border."""
    if pixels[..., 3].min() < 0.5:
        mask = pixels[..., 3] >= 0.5
    else:
        colours = pixels[..., :3]
        border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
        mask = abs(colours - np.median(border, axis=0)).max(axis=-1) > _BACKGROUND
    # A picture that is all background, or all object, is taken as a whole.
    return mask if 0.01 < mask.mean() < 0.98 else np.ones_like(mask)


def _blurred(plane: Plane, radius: int) -> Plane:
    """Return the plane after three box blurs, which is nearly a Gaussian one."""
    for _ in range(3):
        for axis in (0, 1):
            padded = np.pad(plane, [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)])
            sums = padded.cumsum(axis=axis)
            width = 2 * radius + 1
            upper = sums[width:] if axis == 0 else sums[:, width:]
            lower = sums[:-width] if axis == 0 else sums[:, :-width]
            plane = (upper - lower) / width
    return plane


def _piece(
    pixels: Plane, mask: NDArray[np.bool_], sides: tuple[Plane, Plane], rng: np.random.Generator, count: int
) -> Surface:
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    chosen = rng.integers(len(rows), size=count)
    y, x = rows[chosen], columns[chosen]
    is_front = rng.random(count) < 0.5
    depth = np.where(is_front, sides[0][y, x], sides[1][y, x])
    edge = 1.0 / max(height, width)
    jitter = rng.random((2, count))
    # The picture stands upright: its columns along x, its rows down z, its front towards -y.
    positions = np.stack(
        [(x + jitter[0] - width / 2) * edge, -depth, (height / 2 - y - jitter[1]) * edge], axis=1
    )
    values = (
        positions, _normals(sides, y, x, is_front, edge), pixels[y, x, :3],
        np.full(count, 0.96), np.exp(0.1 * rng.normal(size=count)), rng.random(count) * 2 * np.pi,
    )  # fmt: skip
    return Surface(*(np.asarray(value, dtype=np.float32) for value in values))


def _normals(
    sides: tuple[Plane, Plane],
    y: NDArray[np.intp],
    x: NDArray[np.intp],
    is_front: NDArray[np.bool_],
    edge: float,
) -> Plane:
    slopes = [np.gradient(side, edge) for side in sides]
    down = np.where(is_front, slopes[0][0][y, x], slopes[1][0][y, x])
    right = np.where(is_front, slopes[0][1][y, x], slopes[1][1][y, x])
    sign = np.where(is_front, 1.0, -1.0)
    # Gradient of depth(x, z) with y = -depth and z = -row: outwards is -y at the front, +y at the back.
    normals = np.stack([-right * sign, -sign, down * sign], axis=1)
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))
