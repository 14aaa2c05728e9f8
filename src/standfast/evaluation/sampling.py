"""Which variants of an environment are in play: a list that keeps its size and rotates (K1 f).

1. A list below its size is filled and nothing leaves; one above it sheds the surplus besides rotating.
2. What leaves is taken from the front (the oldest), what arrives goes to the end, and nothing arrives that
   was in the list before (the original may draw again what it has just removed).
3. Arrivals are drawn uniformly and without repetition from all of the dataset that is not in the list. The
   caller draws the numbers: production from the operating system's CSPRNG, since who can foresee the
   list can train on it.
4. More than four fifths of the dataset is never asked for: the little that is left would be foreseeable.
   Such a rotation is skipped with its reason, and the list stays as it is.

Ranges are half-open ``(first, end)`` and never expanded: a dataset of 10^9 variants costs no memory.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from standfast.kernel.clock import Entropy
from standfast.kernel.errors import ConfigError

# Returns an unpredictable whole number from 0 to one below its argument.
Draw = Callable[[int], int]
MAX_SHARE_PERCENT = 80
MAX_SIZE = 100_000


@dataclass(frozen=True, slots=True)
class Rotated:
    """The new list, what left its front and what was added to its end."""

    variants: tuple[int, ...]
    removed: tuple[int, ...]
    added: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RotationSkipped:
    """The list stays as it is, and why."""

    variants: tuple[int, ...]
    reason: str


def entropy_draw(entropy: Entropy) -> Draw:
    """Return a draw from ``entropy``; its bias is below 2 ** -128."""

    def draw(count: int) -> int:
        width = (count.bit_length() + 7) // 8 + 16
        return int.from_bytes(entropy.token_bytes(width), "big") % count

    return draw


def rotate(
    current: Sequence[int],
    *,
    dataset: Iterable[tuple[int, int]],
    size: int,
    rotation: int,
    draw: Draw,
) -> Rotated | RotationSkipped:
    """Rotate ``current`` towards ``size`` variants of ``dataset``, replacing ``rotation`` of them.

    Raises ConfigError for a range that is empty or negative, a size below 1 or above MAX_SIZE, or a list
    with a variant twice. A negative ``rotation`` or a dataset too small is a named skip, as in the original.
    """
    ranges = _merged(dataset)
    listed = set(current)
    _check(current, listed, size)
    reason = _objection(ranges, listed, size=size, rotation=rotation)
    if reason:
        return RotationSkipped(tuple(current), reason)
    surplus = len(current) - size
    leaving = max(0, surplus) + rotation if surplus >= 0 else 0
    arriving = rotation if surplus >= 0 else -surplus
    if _total(ranges) - _inside(ranges, listed) < arriving:
        return RotationSkipped(tuple(current), f"fewer than {arriving} variants are not in the list")
    added = _draw_new(ranges, listed, count=arriving, draw=draw)
    kept = tuple(current[leaving:])
    return Rotated(kept + added, removed=tuple(current[:leaving]), added=added)


def _check(current: Sequence[int], listed: set[int], size: int) -> None:
    if not 1 <= size <= MAX_SIZE:
        raise ConfigError(f"the sampling list's size is {size}", fix=f"set it from 1 to {MAX_SIZE}")
    if len(listed) != len(current):
        raise ConfigError("the sampling list has a variant twice", fix="name each variant once")


def _objection(ranges: Sequence[tuple[int, int]], listed: set[int], *, size: int, rotation: int) -> str:
    if rotation < 0:
        return f"the rotation is {rotation}"
    total = _total(ranges)
    if (size + rotation) * 100 > total * MAX_SHARE_PERCENT:
        return f"size {size} and rotation {rotation} are more than {MAX_SHARE_PERCENT} % of {total} variants"
    return ""


def _merged(dataset: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, end in sorted((first, end) for first, end in dataset):
        if not 0 <= first < end:
            raise ConfigError(
                f"the dataset has the range {first} to {end}",
                fix="give ranges as [first, end), first below end",
            )
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return tuple(merged)


def _total(ranges: Sequence[tuple[int, int]]) -> int:
    return sum(end - first for first, end in ranges)


def _positions(ranges: Sequence[tuple[int, int]], variants: Iterable[int]) -> list[int]:
    """Return where ``variants`` stand when all ranges are laid end to end, sorted; strangers are left out."""
    starts = [first for first, _ in ranges]
    offsets = [sum(end - first for first, end in ranges[:index]) for index in range(len(ranges))]
    found = []
    for variant in variants:
        index = bisect.bisect_right(starts, variant) - 1
        if index >= 0 and variant < ranges[index][1]:
            found.append(offsets[index] + variant - starts[index])
    return sorted(found)


def _inside(ranges: Sequence[tuple[int, int]], variants: Iterable[int]) -> int:
    return len(_positions(ranges, variants))


def _draw_new(
    ranges: Sequence[tuple[int, int]], listed: set[int], *, count: int, draw: Draw
) -> tuple[int, ...]:
    taken = _positions(ranges, listed)
    free = _total(ranges) - len(taken)
    added = []
    for already in range(count):
        choice = draw(free - already)
        assert 0 <= choice < free - already, f"drew {choice} of {free - already}"
        position = _nth_free(taken, choice)
        bisect.insort(taken, position)
        added.append(_variant_at(ranges, position))
    return tuple(added)


def _nth_free(taken: Sequence[int], choice: int) -> int:
    """Return the position that has exactly ``choice`` free positions before it and is free itself.

    ``taken[i] - i`` counts the free positions before taken[i], and never falls: a bisection.
    """
    low, high = 0, len(taken)
    while low < high:  # Halves the span each time.
        middle = (low + high) // 2
        if taken[middle] - middle <= choice:
            low = middle + 1
        else:
            high = middle
    return choice + low


def _variant_at(ranges: Sequence[tuple[int, int]], position: int) -> int:
    for first, end in ranges:
        if position < end - first:
            return first + position
        position -= end - first
    raise AssertionError("a position beyond the dataset")
