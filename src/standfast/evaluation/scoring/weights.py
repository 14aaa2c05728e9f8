"""Points become weights, and weights become the chain's 16-bit numbers.

The original's softmax pays everybody, those without a point too (21 uids that won nothing once took 88 %),
pays all alike when nobody has a point, and rounds every u16 down, so that they sum to less than 65535.
``qualified_weights`` and ``largest_remainder_u16`` are what the ``standfast`` policy uses instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from standfast.evaluation.scoring.policy import require_temperature

U16_TOTAL = 65535


def original_weights(
    points: Mapping[str, float], temperature: float, *, min_weight: float = 0.0
) -> dict[str, float]:
    """Return the original's softmax over all subjects; uniform where no subject has a point.

    ``min_weight`` lifts everybody to it where that leaves anything to share. Unlike the original, refuses a
    temperature of NaN or infinity (ConfigError, K8).
    """
    heat = require_temperature(temperature)
    if not points:
        return {}
    values = np.array(list(points.values()), dtype=np.float64)
    if not values.any():
        return {uid: 1.0 / len(points) for uid in points}
    powers = np.exp((values - values.max()) / heat)
    weights = powers / powers.sum()
    lifted = min_weight * len(points)
    if 0 < lifted < 1.0:
        weights = weights * (1.0 - lifted) + min_weight
    return dict(zip(points, weights.tolist(), strict=True))


def original_u16(weights: Mapping[str, float]) -> dict[str, int]:
    """Return every weight's share of 65535 rounded down, as the original does; uniform where all are 0."""
    if not weights:
        return {}
    values = np.array(list(weights.values()), dtype=np.float64)
    total = values.sum()
    shares = values / total if total > 0 else np.ones_like(values) / len(values)
    return dict(zip(weights, (shares * U16_TOTAL).astype(np.uint16).tolist(), strict=True))


def qualified_weights(points: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Return the softmax over those who have a point; everybody else gets exactly 0.

    The answer sums to 1; where nobody has a point it is empty and the caller decides what that means.
    Subjects without a point have no influence on any digit of the others' weights. Raises ConfigError for
    a bad temperature.
    """
    heat = require_temperature(temperature)
    most = max(points.values(), default=0.0)
    if most <= 0:
        return {}
    # A tiny temperature may overflow the quotient to -inf, whose exponential is 0, as it should be.
    powers = {uid: math.exp((won - most) / heat) if won > 0 else 0.0 for uid, won in points.items()}
    # fsum does not depend on order, so neither do the weights.
    total = math.fsum(powers.values())
    return {uid: power / total for uid, power in powers.items()}


def largest_remainder_u16(weights: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers that sum to exactly 65535, each within 1 of its share (Hamilton's method).

    Computed in exact fractions: which of two nearly equal remainders is larger must not depend on rounding.
    Equal remainders are served in the order of ``weights``; a weight of 0 gets 0. Refuses weights that are
    empty or have no positive sum with ValueError: there is nothing to divide.
    """
    shares = {uid: Fraction(weight) for uid, weight in weights.items()}
    total = sum(shares.values(), Fraction(0))
    if total <= 0 or min(shares.values()) < 0:
        raise ValueError("weights need a positive sum and no negative part")
    exact = {uid: share * U16_TOTAL / total for uid, share in shares.items()}
    whole = {uid: math.floor(share) for uid, share in exact.items()}
    left = U16_TOTAL - sum(whole.values())
    # Fewer are left than there are remainders above 0, so nobody with weight 0 is ever served.
    for uid in sorted(exact, key=lambda uid: whole[uid] - exact[uid])[:left]:
        whole[uid] += 1
    return whole
