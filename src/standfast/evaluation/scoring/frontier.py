"""Who dominates whom over all environments together: the epsilon-Pareto frontier, in both policies.

``original``: the tolerance is two standard deviations *of the subjects' scores* over the root of the
episodes, within [.01, .20]; a dominates b where it is nowhere worse than b by more than the tolerance and
somewhere better by more than it. Three things make that unfit for deciding who is paid: adding or
changing any subject moves everybody's tolerance (a subject that improves can be dominated because of
it); the relation has circles, so that a frontier can be empty; and of two equal subjects a noisy one
dominates the other as soon as they differ by .01.

``standfast`` keeps the relation and repairs the three:

1. epsilon = max(.02, 1 / sqrt(episodes)). That is the original formula with the largest spread that
   rates in [0, 1] can have, 1/2 (Popoviciu), so that it depends on nobody; also two standard errors of
   a rate of one half. It has no upper bound: after one episode nothing is clear, so nobody is dominated.
   .02 is the smallest first-commit gap (``threshold.py``).
2. a dominates b where a is nowhere worse by more than epsilon, somewhere better by more than epsilon, and
   *on the mean of all E environments better by more than 2 epsilon / sqrt(E)*. The mean strictly falls
   along any chain of dominance, so there are no circles and somebody always stands on the frontier. The
   factor makes it 2.8 standard errors of a difference of two means at worst: a copy that is measured
   with independent noise dominates the original at most once in 300 rounds (without this condition, at 16
   environments, in one of four).
3. Whether a dominates b is decided by the rates of a and b alone and each comparison moves one way only, so
   raising one's own rate never makes one dominated, and what a copy dominates, its original dominated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_CLEAR_EPSILON = 0.02


def epsilon(
    values: Sequence[float] | NDArray[np.floating],
    episodes: int,
    *,
    minimum: float = 0.01,
    maximum: float = 0.2,
) -> float:
    """Return the original's tolerance for one environment: clip(2 std / sqrt(episodes), minimum, maximum).

    ``values`` are all subjects' scores there; without any, or at one episode or fewer, it is ``maximum``.
    """
    scores = np.asarray(values)
    if episodes <= 1 or not scores.size:
        return maximum
    spread = np.std(scores)
    return float(np.clip(2 * (spread / np.sqrt(episodes)), minimum, maximum))


def original_epsilons(rates: NDArray[np.float64], episodes: int) -> NDArray[np.float64]:
    """Return the original's tolerance per column of ``rates`` (subjects x environments).

    The original keeps scores in single precision; its numbers only come out of single precision.
    """
    single = rates.astype(np.float32)
    return np.array([epsilon(single[:, column], episodes) for column in range(rates.shape[1])])


def original_dominance(rates: NDArray[np.float64], epsilons: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return ``dominates[a, b]`` by the original's relation, on scores in single precision."""
    return _epsilon_dominance(rates.astype(np.float32), epsilons)


def clear_epsilon(episodes: int) -> float:
    """Return the tolerance of the ``standfast`` policy, which no subject can move."""
    return max(MIN_CLEAR_EPSILON, 1.0 / math.sqrt(max(episodes, 1)))


def clear_dominance(rates: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Return ``dominates[a, b]`` by the relation of the ``standfast`` policy (rule 2); it has no circles."""
    count, environments = rates.shape
    # fsum rounds once, so a mean never falls when a rate rises.
    means = np.array([math.fsum(row) / environments for row in rates.tolist()]).reshape(count)
    margin = 2 * tolerance / math.sqrt(environments)
    clearly_better = means[:, None] > (means + margin)[None, :]
    return clearly_better & _epsilon_dominance(rates, np.full(environments, tolerance))


def _epsilon_dominance(rates: NDArray[np.floating], epsilons: NDArray[np.float64]) -> NDArray[np.bool_]:
    count = rates.shape[0]
    nowhere_worse = np.ones((count, count), dtype=np.bool_)
    somewhere_better = np.zeros((count, count), dtype=np.bool_)
    # Column by column, so that memory stays at subjects squared.
    for column, tolerance in enumerate(epsilons):
        scores = rates[:, column]
        nowhere_worse &= scores[:, None] >= (scores - tolerance)[None, :]
        somewhere_better |= scores[:, None] > (scores + tolerance)[None, :]
    return nowhere_worse & somewhere_better
