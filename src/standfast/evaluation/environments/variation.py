"""Turns a variant number into physics: the same number gives the same world in every process and release.

Each quantity is drawn on its own from SHA-256 of (environment, quantity, variant), so that adding a
quantity changes no other one. numpy's generators promise no stable stream across releases; a digest does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

#: The smallest and largest value of each quantity that varies.
Ranges: TypeAlias = Mapping[str, tuple[float, float]]


def draw(environment: str, variant: int, ranges: Ranges) -> dict[str, float]:
    """Return one value for each quantity in ``ranges``, spread evenly over the variants."""
    return {
        name: low + (high - low) * _unit(environment, name, variant) for name, (low, high) in ranges.items()
    }


def _unit(environment: str, quantity: str, variant: int) -> float:
    raw = hashlib.sha256(f"{environment}\n{quantity}\n{variant}".encode()).digest()
    return int.from_bytes(raw[:7], "big") / 2.0**56
