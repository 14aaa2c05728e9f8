"""Decides whether a file is a usable result; the worker and the validator ask the same rules.

1. It reads as a PLY file of splats that holds exactly what it announces.
2. Its count lies within bounds; every number is finite.
3. It is an object: its centres are spread over space, and not all in one place.
4. Its Gaussians can be drawn: rotations have a length, scales and opacities lie within what a renderer
   can use, enough of them can be seen, and none is larger than the object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from generation_stack.splats.cloud import Cloud
from generation_stack.splats.ply import PlyError, decode


class Bounds(NamedTuple):
    """What a result must lie within."""

    fewest: int = 1_000
    most: int = 2_000_000
    #: Smallest and largest edge of the box around all centres.
    smallest: float = 1e-3
    largest: float = 100.0
    #: Logits beyond this are opaque or invisible in every float32 renderer.
    opacity_logit: float = 30.0
    #: Share of Gaussians with an opacity of at least 0.05, fewer leave nothing to look at.
    visible_share: float = 0.05
    #: Share of Gaussians at places of their own; below it the object is a few points drawn often.
    distinct_share: float = 0.2
    #: A quaternion is normalised by every renderer; one of no length has no direction.
    rotation_norms: tuple[float, float] = (1e-3, 1e3)


class Objection(NamedTuple):
    """One reason why a result cannot be used: a word for machines, a sentence for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found; usable only without any objection."""

    objections: tuple[Objection, ...]
    count: int = 0
    #: Share of a 16 x 16 x 16 grid around the object that holds a centre; says how much there is to see.
    filled: float = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether nothing was found against it."""
        return not self.objections

    @property
    def reasons(self) -> list[str]:
        """Every objection as ``code: text``."""
        return [f"{objection.code}: {objection.text}" for objection in self.objections]


def judge(data: bytes, bounds: Bounds = Bounds()) -> Judgement:  # noqa: B008 - an immutable value
    """Return everything that speaks against using ``data``."""
    try:
        cloud = decode(data, most=bounds.most)
    except PlyError as error:
        return Judgement((Objection(error.code, str(error)),))
    if len(cloud) < bounds.fewest:
        text = f"{len(cloud)} Gaussians; at least {bounds.fewest} are wanted"
        return Judgement((Objection("too_few", text),), len(cloud))
    broken = int(np.count_nonzero(~np.isfinite(cloud.rows).all(axis=1)))
    if broken:
        text = f"{broken} of {len(cloud)} Gaussians hold NaN or infinity"
        return Judgement((Objection("not_finite", text),), len(cloud))
    objections = (*_extent(cloud, bounds), *_drawable(cloud, bounds))
    return Judgement(objections, len(cloud), 0.0 if objections else _filled(cloud))


def _extent(cloud: Cloud, bounds: Bounds) -> Iterator[Objection]:
    edges = np.ptp(cloud.positions, axis=0)
    widest = float(edges.max())
    if widest > bounds.largest:
        yield Objection(
            "too_large", f"the centres span {_edges(edges)}; at most {bounds.largest:g} is allowed"
        )
        return
    if widest < bounds.smallest or np.count_nonzero(edges > widest * 1e-3) < 2:
        yield Objection("constant", f"the centres span {_edges(edges)}: that is no object")
        return
    distinct = _distinct(cloud)
    if distinct < bounds.distinct_share:
        yield Objection("constant", f"only {distinct:.1%} of the centres are places of their own")


def _drawable(cloud: Cloud, bounds: Bounds) -> Iterator[Objection]:
    shortest, longest = bounds.rotation_norms
    norms = np.linalg.norm(cloud.quaternions.astype(np.float64), axis=1)
    bad = int(np.count_nonzero((norms < shortest) | (norms > longest)))
    if bad:
        yield Objection("rotation", f"{bad} quaternions have a length outside {shortest:g} to {longest:g}")
    far = int(np.count_nonzero(np.abs(cloud.rows[:, 9]) > bounds.opacity_logit))
    if far:
        yield Objection("opacity", f"{far} opacities lie beyond a logit of {bounds.opacity_logit:g}")
    visible = float(np.mean(cloud.opacities >= 0.05))
    if visible < bounds.visible_share:
        yield Objection("invisible", f"only {visible:.1%} of the Gaussians can be seen")
    widest = max(float(np.ptp(cloud.positions, axis=0).max()), bounds.smallest)
    large = int(np.count_nonzero(cloud.log_scales.max(axis=1) > np.log(widest)))
    small = int(np.count_nonzero(cloud.log_scales.max(axis=1) < np.log(1e-8)))
    # A trained cloud has a few outliers; an object of them is fog.
    if large > len(cloud) // 100 or small > len(cloud) // 100:
        yield Objection("scale", f"{large} Gaussians are larger than the object, {small} smaller than 1e-8")


def _distinct(cloud: Cloud) -> float:
    bits = np.ascontiguousarray(cloud.positions).view(np.uint32).astype(np.uint64)
    # One number per place sorts ten times faster than three; a collision would only make the share smaller.
    keys = bits @ np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
    return len(np.unique(keys)) / len(cloud)


def _filled(cloud: Cloud) -> float:
    low, edges = cloud.positions.min(axis=0), np.ptp(cloud.positions, axis=0)
    cells = np.minimum(((cloud.positions - low) / np.maximum(edges, 1e-9) * 16).astype(np.int64), 15)
    return len(np.unique(cells @ np.array([256, 16, 1]))) / 4096


def _edges(edges: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    return " x ".join(f"{edge:.3g}" for edge in edges)
