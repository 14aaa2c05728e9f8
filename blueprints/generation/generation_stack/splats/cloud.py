"""A cloud of 3D Gaussians in the attribute layout that the programs of the field exchange.

Layout and meaning are those of the reference implementation (Kerbl et al., "3D Gaussian Splatting for
Real-Time Radiance Field Rendering", 2023): opacity is a logit, scales are natural logarithms, rotation is
a quaternion (w, x, y, z), colour is the zeroth spherical harmonic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

ATTRIBUTES = (
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip
#: Value of the zeroth real spherical harmonic: 1 / (2 sqrt(pi)).
SH_C0 = 0.28209479177387814


@dataclass(frozen=True, slots=True)
class Cloud:
    """``rows`` has one line per Gaussian and one column per name in ATTRIBUTES."""

    rows: Floats

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def positions(self) -> Floats:
        """Centres, (n, 3)."""
        return self.rows[:, 0:3]

    @property
    def normals(self) -> Floats:
        """Normals, (n, 3); many programs write zeros."""
        return self.rows[:, 3:6]

    @property
    def colours(self) -> Floats:
        """Red, green and blue, (n, 3); visible colours lie in 0..1."""
        return self.rows[:, 6:9] * np.float32(SH_C0) + np.float32(0.5)

    @property
    def opacities(self) -> Floats:
        """Opacity of each, (n,), in 0..1."""
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-self.rows[:, 9])), dtype=np.float32)

    @property
    def log_scales(self) -> Floats:
        """Natural logarithms of the three standard deviations, (n, 3)."""
        return self.rows[:, 10:13]

    @property
    def quaternions(self) -> Floats:
        """Rotations (w, x, y, z), (n, 4); not necessarily of length 1."""
        return self.rows[:, 13:17]


@dataclass(frozen=True, slots=True)
class Surface:
    """Points on surfaces, from which flat Gaussians are made: all arrays have one line per point.

    ``spread`` is the standard deviation along the surface; ``spin`` turns the Gaussian around its normal.
    """

    positions: Floats
    normals: Floats
    colours: Floats
    opacities: Floats
    spread: Floats
    spin: Floats

    def __len__(self) -> int:
        return len(self.positions)


def joined(surfaces: list[Surface]) -> Surface:
    """Return all points as one surface, in their order."""
    return Surface(*(np.concatenate([getattr(s, name) for s in surfaces]) for name in Surface.__slots__))


#: A Gaussian is this much thinner across its surface than along it: flat, but never degenerate.
_THICKNESS = 0.15
#: Along the spin direction a Gaussian is a little longer, so that neighbours close ranks.
_STRETCH = 1.3


def on_surface(surface: Surface) -> Cloud:
    """Return one flat Gaussian per point, lying in its surface."""
    rows = np.empty((len(surface), len(ATTRIBUTES)), dtype=np.float32)
    rows[:, 0:3] = surface.positions
    rows[:, 3:6] = surface.normals
    rows[:, 6:9] = (np.clip(surface.colours, 0.0, 1.0) - 0.5) / SH_C0
    held = np.clip(surface.opacities, 0.01, 0.995)
    rows[:, 9] = np.log(held / (1.0 - held))
    across = np.array([_STRETCH, 1.0 / _STRETCH, _THICKNESS], dtype=np.float32)
    rows[:, 10:13] = np.log(np.maximum(surface.spread[:, None] * across, 1e-6))
    rows[:, 13:17] = _facing(surface.normals, surface.spin)
    return Cloud(rows)


def _facing(normals: Floats, spin: Floats) -> Floats:
    """Return rotations that turn the z axis into the normal, after a turn by ``spin`` around z."""
    nx, ny, nz = normals.T
    align = np.stack([1.0 + nz, -ny, nx, np.zeros_like(nz)], axis=1)
    # Straight down has no shortest way round; half a turn around x is one.
    align[nz < -0.9999] = (0.0, 1.0, 0.0, 0.0)
    align /= np.linalg.norm(align, axis=1, keepdims=True)
    cosine, sine = np.cos(spin / 2.0), np.sin(spin / 2.0)
    w, x, y, _ = align.T
    turned = np.stack([w * cosine, x * cosine + y * sine, y * cosine - x * sine, w * sine], axis=1)
    return np.asarray(turned, dtype=np.float32)


def turned_upright(cloud: Cloud) -> Cloud:
    """Return the cloud with its z axis up as viewers of splats expect it: down the y axis.

    A quarter turn around x maps (x, y, z) to (x, -z, y), as TRELLIS does when it writes a file.
    """
    rows = cloud.rows.copy()
    for first in (0, 3):
        y, z = rows[:, first + 1].copy(), rows[:, first + 2].copy()
        rows[:, first + 1], rows[:, first + 2] = -z, y
    half = np.float32(np.sqrt(0.5))
    w, x, y, z = (cloud.rows[:, 13 + k] for k in range(4))
    rows[:, 13:17] = np.stack([half * (w - x), half * (x + w), half * (y - z), half * (z + y)], axis=1)
    return Cloud(rows)
