"""Sampling lists: which variants of an environment the next round uses (K1 f).

1. The list keeps its size; the oldest leave first, what is added is drawn and not foreseeable.
2. A negative number of rotations leaves the list alone, and so does a list that would take more than
   80 % of what there is to draw from (affine-cortex, ``core/sampling_list.py``): a list that is nearly
   the whole pool is not a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_POOL_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Rotation:
    """A list after its rotation; ``is_skipped`` says that rule 2 left it alone."""

    items: tuple[int, ...]
    removed: tuple[int, ...] = ()
    added: tuple[int, ...] = ()
    is_skipped: bool = False


def rotate(
    current: Sequence[int], ranges: Sequence[tuple[int, int]], *, size: int, count: int,
    below: Callable[[int], int],
) -> Rotation:  # fmt: skip
    """Return ``current`` with ``count`` of its oldest replaced, at the given ``size``.

    ``ranges`` are half-open [first, end) and disjoint; ``below(n)`` draws a whole number in [0, n).
    """
    pool = sum(end - first for first, end in ranges)
    if count < 0 or size + count > pool * MAX_POOL_SHARE:
        return Rotation(tuple(current), is_skipped=True)
    leaving = max(0, len(current) + count - size)
    kept = tuple(current[leaving:])
    added = _draw(ranges, set(kept), size - len(kept), below)
    return Rotation((*kept, *added), removed=tuple(current[:leaving]), added=added)


def _draw(
    ranges: Sequence[tuple[int, int]], taken: set[int], count: int, below: Callable[[int], int]
) -> tuple[int, ...]:
    free = [item for first, end in ranges for item in range(first, end) if item not in taken]
    drawn = []
    for _ in range(max(0, count)):
        drawn.append(free.pop(below(len(free))))
    return tuple(drawn)
