"""Everything that a policy says about pairs of subjects, before any set of environments is looked at.

``original``: who exceeds whose threshold; equal blocks are the same moment; every set may be won.

``standfast`` differs in five ways; the first four are properties of one subject or one pair alone, so that no
third subject can change them:

1. Within one block, whoever has the better mean counts as earlier (then the greater rates in the order of
   the environments, then the lower uid): a uid is no merit, and a copy stands next to its original. Every
   pair then has exactly one winner on every set.
2. A dominated subject (``frontier.py``) loses to its dominator on every set, whatever the thresholds say. So
   nobody off the frontier wins anything, while it still stands in the way of those who do not beat it.
3. A set can be won only by a subject that succeeded at least once in each of its environments.
4. A perfect record may displace where luck cannot explain it (``threshold.py``).
5. A set without a winner goes to its holder (``circles.py``), if that is on the frontier.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from standfast.evaluation.scoring.circles import find_holders
from standfast.evaluation.scoring.frontier import (
    clear_dominance,
    clear_epsilon,
    original_dominance,
    original_epsilons,
)
from standfast.evaluation.scoring.policy import PolicyName
from standfast.evaluation.scoring.table import RateTable
from standfast.evaluation.scoring.threshold import MIN_GAP, fair_threshold, threshold
from standfast.evaluation.scoring.winners import NOBODY, beats_masks, find_winners


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """One round under one policy; all indices are those of ``table.uids``.

    ``order`` lists the subjects from the earliest on; ``ranks`` is equal for those of the same moment.
    ``exceeds[i, j]`` is the bit mask of environments on which i is above j's threshold, ``beats[i, j]`` the
    one that decides the pair (``winners.py``), ``payable`` the environments whose sets a subject may win.
    """

    table: RateTable
    order: tuple[int, ...]
    epsilons: NDArray[np.float64]
    dominates: NDArray[np.bool_]
    on_frontier: NDArray[np.bool_]
    thresholds: NDArray[np.float64]
    exceeds: NDArray[np.uint32]
    beats: NDArray[np.uint32]
    ranks: NDArray[np.int64]
    payable: NDArray[np.uint32]

    @property
    def all_environments(self) -> int:
        """The bit mask of the set of all environments."""
        return (1 << len(self.table.environments)) - 1

    def beats_on_all(self) -> NDArray[np.bool_]:
        """Return ``[i, j]``: whether i takes or keeps the pair (i, j) on the set of all environments."""
        takes: NDArray[np.bool_] = self.beats == self.all_environments
        places = np.argsort(np.array(self.order, dtype=np.int64))
        is_later: NDArray[np.bool_] = places[:, None] > places[None, :]
        keeps = ~takes.T
        np.fill_diagonal(keeps, val=False)
        return np.where(is_later, takes, keeps)


def hold_contest(table: RateTable, policy: PolicyName) -> Contest:
    """Compare every pair of ``table``'s subjects under ``policy``."""
    return _original(table) if policy is PolicyName.ORIGINAL else _standfast(table)


def decide_sets(contest: Contest, policy: PolicyName) -> NDArray[np.int32]:
    """Return the index of the subject that is paid for each set (index = bit mask), or NOBODY."""
    if not contest.order:
        return np.full(1 << len(contest.table.environments), NOBODY, dtype=np.int32)
    order = np.array(contest.order, dtype=np.int64)
    found = find_winners(
        contest.beats[np.ix_(order, order)],
        ranks=contest.ranks[order],
        payable=contest.payable[order],
        environments=len(contest.table.environments),
    )
    winners = np.where(found == NOBODY, NOBODY, order[found]).astype(np.int32)
    if policy is PolicyName.ORIGINAL:
        return winners
    circular = np.flatnonzero(winners == NOBODY)[1:].astype(np.uint32)
    holders = find_holders(circular, contest.exceeds, order=contest.order, payable=contest.payable)
    winners[circular] = np.where(contest.on_frontier[holders], holders, NOBODY)
    return winners


def _original(table: RateTable) -> Contest:
    epsilons = original_epsilons(table.rates, table.episodes)
    dominates = original_dominance(table.rates, epsilons)
    thresholds = _thresholds(table, threshold)
    # The original has no threshold for what was not measured, and uses the smallest gap there.
    thresholds[~table.measured] = MIN_GAP
    exceeds = beats_masks(table.rates, thresholds)
    every_set = np.full(len(table.uids), (1 << len(table.environments)) - 1, dtype=np.uint32)
    order = sorted(range(len(table.uids)), key=lambda i: (table.blocks[i], int(table.uids[i])))
    moments = {block: rank for rank, block in enumerate(sorted(set(table.blocks)))}
    ranks = np.array([moments[block] for block in table.blocks], dtype=np.int64)
    return Contest(
        table=table,
        order=tuple(order),
        epsilons=epsilons,
        dominates=dominates,
        on_frontier=_undominated(dominates),
        thresholds=thresholds,
        exceeds=exceeds,
        beats=exceeds,
        ranks=ranks,
        payable=every_set,
    )


def _standfast(table: RateTable) -> Contest:
    tolerance = clear_epsilon(table.episodes)
    dominates = clear_dominance(table.rates, tolerance)
    thresholds = _thresholds(table, fair_threshold)
    exceeds = beats_masks(table.rates, thresholds)
    beats = exceeds.copy()
    beats[dominates] = (1 << len(table.environments)) - 1
    beats[dominates.T] = 0
    bits = np.uint32(1) << np.arange(len(table.environments), dtype=np.uint32)
    succeeded = (table.rates > 0).astype(np.uint32) @ bits
    order = _merit_order(table)
    return Contest(
        table=table,
        order=order,
        epsilons=np.full(len(table.environments), tolerance),
        dominates=dominates,
        on_frontier=_undominated(dominates) & (succeeded != 0),
        thresholds=thresholds,
        exceeds=exceeds,
        beats=beats,
        ranks=np.argsort(np.array(order, dtype=np.int64)),
        payable=succeeded,
    )


def _thresholds(table: RateTable, rule: Callable[[float, int], float]) -> NDArray[np.float64]:
    rows = [[rule(rate, table.episodes) for rate in row] for row in table.rates.tolist()]
    return np.array(rows, dtype=np.float64).reshape(table.rates.shape)


def _merit_order(table: RateTable) -> tuple[int, ...]:
    rows = table.rates.tolist()

    def key(index: int) -> tuple[float, float, list[float], int]:
        row = rows[index]
        return table.blocks[index], -math.fsum(row), [-rate for rate in row], int(table.uids[index])

    return tuple(sorted(range(len(rows)), key=key))


def _undominated(dominates: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(~dominates.any(axis=0), dtype=np.bool_)
