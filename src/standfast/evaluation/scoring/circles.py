"""Who holds a set of environments that nobody wins, because subjects beat each other in a circle.

A first, B a little better but not above A's thresholds, C above A's but not above B's: A keeps against B, B
against C, C takes from A. The original pays nobody then. With 128 subjects that is one set in three, and
with a single environment all there is to pay, so the ``standfast`` policy names a holder. In order of
commitment, whoever succeeded in every environment of the set challenges its holder, and takes the set by
exceeding the holder's thresholds on all of it. Whoever wins a set by thresholds would also hold it so.

A holder's rates only rise along the way, so whom somebody at x's rates could not displace at x's turn,
a copy of x cannot displace later. Raising one's own rates only makes taking and keeping easier. No rule that
always names somebody can also promise that an improvement never moves a set between two others; this one may.

Cost: one look per subject and set, a gather and a subset test in numpy; 20 ms for 16,000 sets and 256
subjects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from standfast.evaluation.scoring.winners import NOBODY


def find_holders(
    sets: NDArray[np.uint32],
    exceeds: NDArray[np.uint32],
    *,
    order: tuple[int, ...],
    payable: NDArray[np.uint32],
) -> NDArray[np.int32]:
    """Return the index of the holder, or NOBODY, of each of ``sets`` (bit masks).

    ``exceeds[i, j]`` is the mask of environments on which i's rate is above j's threshold, ``order`` the
    subjects' indices from the earliest on, ``payable[i]`` the environments in which i succeeded.
    """
    holders = np.full(len(sets), NOBODY, dtype=np.int32)
    # A set that nobody holds is taken by showing up: index NOBODY finds a mask of everything.
    unheld = np.full(1, 0xFFFF_FFFF, dtype=np.uint32)
    for index in order:
        if not payable[index]:
            continue
        takeable = np.concatenate([exceeds[index], unheld])[holders] & payable[index]
        holders[(sets & ~takeable) == 0] = index
    return holders
