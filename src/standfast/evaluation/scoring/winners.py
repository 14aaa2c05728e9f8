"""Who wins each set of environments: every set at once, with 64 subjects in one machine word.

The rule (both policies). For a set S and a pair of subjects, the later one takes the pair when it exceeds
the earlier one's thresholds on *all* of S; otherwise the earlier one keeps it. The winner of S is the first
subject in first-commit order that keeps or takes every one of its pairs; there may be none.

Asked pair by pair for each of the 2^E sets, that is up to 2^E * n^2 * E comparisons, 69 thousand million for
256 subjects and 16 environments. The structure that makes it cheap:

1. Let beats[i, j] be the *set* of environments on which i exceeds j's thresholds, as a bit mask. "i beats j
   on all of S" is "S is a subset of beats[i, j]". All of E is thus asked once per pair, not once per set.
2. Towards everybody earlier, c must beat each of them on S, that is S must be a subset of the intersection of
   those masks: one mask per subject, its reach. (What S may pay c for at all is intersected too.)
3. Towards everybody not earlier, c fails on S as soon as S is a subset of any of the masks
   beats[o, c]: the sets on which c fails are the downward closure of at most n masks.
4. Both are downward closures of marked sets, so mark the masks in a table over all 2^E sets and close it with
   the superset-OR (zeta) transform: E passes in which each set takes over the marks of the set that has
   one environment more. That is E * 2^E steps, whatever the number of marks.
5. A table's cell is a 64-bit word with a bit per subject, so that one transform serves 64 subjects. In
   first-commit order the winner of S is the lowest set bit of (within reach) and not (failing).

In all n^2 * E comparisons and (n / 64) * E * 2^E word operations, ten million together instead of 69
thousand million, in 2 tables of 2^E words (1 MB for 16 environments).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOBODY = -1
_WORD = 64


def beats_masks(rates: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Return ``beats[i, j]``: the bit mask of environments on which i's rate exceeds j's threshold."""
    count, environments = rates.shape
    beats = np.zeros((count, count), dtype=np.uint32)
    for column in range(environments):
        exceeds = rates[:, column][:, None] > thresholds[:, column][None, :]
        beats |= exceeds.astype(np.uint32) << np.uint32(column)
    return beats


def find_winners(
    beats: NDArray[np.uint32],
    *,
    ranks: NDArray[np.int64],
    payable: NDArray[np.uint32],
    environments: int,
) -> NDArray[np.int32]:
    """Return for every set (index = bit mask) the index of its winner, or NOBODY.

    ``beats`` (n x n) and ``payable`` (n) are masks of subjects in first-commit order; ``ranks`` (n, not
    falling) says who is earlier: equal ranks are the same moment. ``payable[c]`` bounds the sets c may win.
    """
    reach = _reach(beats, ranks, payable)
    winners = np.full(1 << environments, NOBODY, dtype=np.int32)
    # One word of subjects per turn, in first-commit order, so an earlier turn's winner stands.
    for first in range(0, len(ranks), _WORD):
        members = np.arange(first, min(first + _WORD, len(ranks)))
        members = members[reach[members] != 0]  # Who reaches no environment can win nothing.
        if not members.size:
            continue
        bits = np.uint64(1) << (members - first).astype(np.uint64)
        holding = np.zeros(1 << environments, dtype=np.uint64)
        np.bitwise_or.at(holding, reach[members], bits)
        _close_downwards(holding, environments)
        holding &= ~_failing(beats[:, members], ranks, members=members, bits=bits, environments=environments)
        decided = (winners == NOBODY) & (holding != 0)
        winners[decided] = first + _lowest_bit(holding[decided])
    winners[0] = NOBODY  # The empty set is nobody's.
    return winners


def set_sizes(environments: int) -> NDArray[np.uint8]:
    """Return the number of environments in every set (index = bit mask)."""
    return np.bitwise_count(np.arange(1 << environments, dtype=np.uint32))


def _reach(
    beats: NDArray[np.uint32], ranks: NDArray[np.int64], payable: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    is_earlier = ranks[None, :] < ranks[:, None]
    everything = np.uint32(0xFFFF_FFFF)
    masks = np.where(is_earlier, beats, everything)
    return np.asarray(np.bitwise_and.reduce(masks, axis=1) & payable, dtype=np.uint32)


def _failing(
    beats_members: NDArray[np.uint32],
    ranks: NDArray[np.int64],
    *,
    members: NDArray[np.int64],
    bits: NDArray[np.uint64],
    environments: int,
) -> NDArray[np.uint64]:
    challengers = ranks[:, None] >= ranks[members][None, :]
    challengers[members, np.arange(len(members))] = False
    failing = np.zeros(1 << environments, dtype=np.uint64)
    marks = np.broadcast_to(bits, challengers.shape)
    np.bitwise_or.at(failing, beats_members[challengers], marks[challengers])
    _close_downwards(failing, environments)
    return failing


def _close_downwards(table: NDArray[np.uint64], environments: int) -> None:
    """Give every set the marks of all its supersets, in place."""
    for environment in range(environments):
        halves = table.reshape(-1, 2, 1 << environment)
        halves[:, 0] |= halves[:, 1]


def _lowest_bit(words: NDArray[np.uint64]) -> NDArray[np.int32]:
    below = (words & (~words + np.uint64(1))) - np.uint64(1)
    return np.bitwise_count(below).astype(np.int32)
