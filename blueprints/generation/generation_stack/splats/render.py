"""Draws splats as a picture, so that a result can be looked at without a viewer.

It is the usual picture of splats (Gaussians projected, sorted and blended from back to front), simplified:
each Gaussian is drawn round, and only the nearest of a thin layer has a pixel.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from generation_stack.splats.cloud import Cloud
from generation_stack.splats.png import Bytes

_WIDEST = 6
_BACKGROUND = 0.93


def picture_of(cloud: Cloud, *, size: int = 512, turn: float = 30.0, tilt: float = 20.0) -> Bytes:
    """Return the cloud as (size, size, 4) bytes, seen from ``turn`` degrees around and ``tilt`` above."""
    x, y, depth, scale = _projected(cloud, size, math.radians(turn), math.radians(tilt))
    order = np.argsort(-depth, kind="stable")
    colours = np.clip(cloud.colours, 0.0, 1.0)[order].astype(np.float64)
    opacities = cloud.opacities[order].astype(np.float64)
    # The smallest of the three lies across the surface and is not seen from the front.
    sigmas = np.exp(np.sort(cloud.log_scales.astype(np.float64), axis=1)[:, 1:]).mean(axis=1)[order] * scale
    # As the reference does: no Gaussian is narrower than a pixel, or dense ones would leave holes.
    sigmas = np.minimum(np.sqrt(sigmas**2 + 0.3), _WIDEST / 2)
    return _blended(x[order], y[order], sigmas, colours, opacities, size)


def _projected(
    cloud: Cloud, size: int, turn: float, tilt: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    points = cloud.positions.astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    points = points - (low + high) / 2.0
    # Files hold their objects with y down.
    across, up, away = points[:, 0], -points[:, 1], points[:, 2]
    across, away = (
        across * math.cos(turn) - away * math.sin(turn),
        across * math.sin(turn) + away * math.cos(turn),
    )
    up, away = up * math.cos(tilt) + away * math.sin(tilt), away * math.cos(tilt) - up * math.sin(tilt)
    scale = 0.9 * size / max(float(np.linalg.norm(high - low)), 1e-9)
    return size / 2 + across * scale, size / 2 - up * scale, away, scale


def _blended(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    colours: NDArray[np.float64],
    opacities: NDArray[np.float64],
    size: int,
) -> Bytes:
    """Blend from back to front, a layer of Gaussians at a time; within one, the nearest has a pixel."""
    image = np.full((size + 2 * _WIDEST, size + 2 * _WIDEST, 3), _BACKGROUND)
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    for start in range(0, len(x), 2_048):
        chosen = np.arange(start, min(start + 2_048, len(x)))[inside[start : start + 2_048]]
        reach = int(np.ceil(3.0 * sigmas[chosen].max())) if len(chosen) else 0
        for dy in range(-min(reach, _WIDEST), min(reach, _WIDEST) + 1):
            for dx in range(-min(reach, _WIDEST), min(reach, _WIDEST) + 1):
                away = (column[chosen] + dx + 0.5 - x[chosen]) ** 2 + (
                    row[chosen] + dy + 0.5 - y[chosen]
                ) ** 2
                alpha = (opacities[chosen] * np.exp(-away / (2.0 * sigmas[chosen] ** 2)))[:, None]
                at = (row[chosen] + dy + _WIDEST, column[chosen] + dx + _WIDEST)
                image[at] = image[at] * (1.0 - alpha) + colours[chosen] * alpha
    inner = image[_WIDEST:-_WIDEST, _WIDEST:-_WIDEST]
    out = np.full((size, size, 4), 255, dtype=np.uint8)
    out[..., :3] = np.clip(inner * 255.0, 0, 255).astype(np.uint8)
    return out
