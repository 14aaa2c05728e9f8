"""Makes splats from a prompt or a picture by rules, without any model: real geometry on a bare machine.

The same request and seed give the same bytes; ``progress`` is called after every few thousand points and
may raise to stop the work.
"""

from __future__ import annotations

import numpy as np

from generation_stack.splats import relief, solids
from generation_stack.splats.assemblies import parts_of
from generation_stack.splats.cloud import Cloud, Surface, on_surface, turned_upright
from generation_stack.splats.png import Bytes
from generation_stack.splats.prompts import number_of, read
from generation_stack.splats.solids import Progress


def from_prompt(prompt: str, *, seed: int, count: int, progress: Progress) -> Cloud:
    """Return exactly ``count`` Gaussians of what the prompt describes."""
    rng = np.random.default_rng([seed, number_of(prompt.lower())])
    surface = solids.surface_of(parts_of(read(prompt), seed), count=count, rng=rng, progress=progress)
    _fit(surface)
    return turned_upright(on_surface(surface))


def _fit(surface: Surface) -> None:
    """Put what was made into the middle of a cube of edge 1, as models of the field do."""
    low, high = surface.positions.min(axis=0), surface.positions.max(axis=0)
    scale = 1.0 / max(float((high - low).max()), 1e-6)
    surface.positions[:] = (surface.positions - (low + high) / 2.0) * scale
    surface.spread[:] *= scale


def from_picture(picture: Bytes, *, seed: int, count: int, progress: Progress) -> Cloud:
    """Return exactly ``count`` Gaussians of what the picture shows; it is (height, width, 4) bytes."""
    rng = np.random.default_rng([seed, number_of("picture")])
    surface = relief.surface_of(picture, count=count, rng=rng, progress=progress)
    return turned_upright(on_surface(surface))
