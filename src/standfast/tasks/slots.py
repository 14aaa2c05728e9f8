"""How many tasks of one subject may run at once, and how free slots are divided among its lanes (K15).

1. A subject has 3 to 10 slots and starts with 6. Every 6 hours, on 50 samples or more, a success rate of .80
   or above earns one more, below .50 costs one. Only samples that are the subject's own doing belong in the
   rate (I6): our failures must not narrow anybody's way.
2. Too few samples, too soon, or a rate that is not a number change nothing: unknown is not bad.
3. Free slots go first to lanes that have work and none running, drawn by lot when there are too few slots: by
   weight or by name, the same lanes would come last for ever. Then to lanes below their share of all slots
   (by weight, largest remainder), furthest below first; then round robin by weight.

Unlike the original, a starving lane never makes the total exceed the subject's slots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Returns an unpredictable whole number from 0 to one below its argument.
Draw = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class SlotPolicy:
    """Bounds and pace of a subject's slots; the defaults are the original's."""

    default: int = 6
    minimum: int = 3
    maximum: int = 10
    interval_s: float = 21600.0
    min_samples: int = 50
    raise_at: float = 0.8
    lower_below: float = 0.5


@dataclass(frozen=True, slots=True)
class SlotsChanged:
    """The subject has ``slots`` from now on, and why."""

    slots: int
    reason: str


@dataclass(frozen=True, slots=True)
class SlotsKept:
    """The subject keeps ``slots``, and why."""

    slots: int
    reason: str


DEFAULT_POLICY = SlotPolicy()


def adjust_slots(
    current: int | None,
    *,
    samples: int,
    success_rate: float,
    since_last_s: float | None,
    policy: SlotPolicy = DEFAULT_POLICY,
) -> SlotsChanged | SlotsKept:
    """Decide a subject's slots from its recent success rate.

    ``current`` is None for a subject without a record, ``since_last_s`` (monotonic seconds since the last
    change) where there was none. A record outside the bounds is brought back into them.
    """
    slots = policy.default if current is None else current
    held = min(max(slots, policy.minimum), policy.maximum)
    if held != slots:
        return SlotsChanged(held, f"{slots} is outside {policy.minimum} to {policy.maximum}")
    if since_last_s is not None and since_last_s < policy.interval_s:
        return SlotsKept(slots, f"changed {since_last_s:.0f} s ago, next after {policy.interval_s:.0f} s")
    if samples < policy.min_samples:
        return SlotsKept(slots, f"{samples} samples, {policy.min_samples} are needed")
    # NaN fails the comparison and lands here too.
    if not 0.0 <= success_rate <= 1.0:
        return SlotsKept(slots, f"the success rate is {success_rate}")
    if success_rate >= policy.raise_at and slots < policy.maximum:
        return SlotsChanged(slots + 1, f"success rate {success_rate:.2f}")
    if success_rate < policy.lower_below and slots > policy.minimum:
        return SlotsChanged(slots - 1, f"success rate {success_rate:.2f}")
    return SlotsKept(slots, f"success rate {success_rate:.2f}")


@dataclass(frozen=True, slots=True)
class Lane:
    """One environment of a subject: its weight, how many of its tasks run, how many wait."""

    name: str
    weight: float
    active: int
    waiting: int


def split_slots(lanes: list[Lane], *, total: int, available: int, draw: Draw) -> tuple[str, ...]:
    """Return the lanes that get the ``available`` of ``total`` slots, one name per slot, in order.

    A weight that is negative or not finite counts as 0. Never returns more than ``available`` names, nor a
    lane more often than tasks wait in it. ``draw`` is asked only where lanes with nothing running outnumber
    the slots.
    """
    ready = {lane.name: lane for lane in lanes if lane.waiting > 0}
    assert len(ready) == sum(lane.waiting > 0 for lane in lanes), "two lanes have one name"
    waiting = {name: lane.waiting for name, lane in ready.items()}
    active = {name: lane.active for name, lane in ready.items()}
    weight = {name: _sound(lane.weight) for name, lane in ready.items()}
    chosen: list[str] = []

    def take(name: str) -> None:
        waiting[name] -= 1
        active[name] += 1
        chosen.append(name)

    for name in _starving(active, count=available, draw=draw):
        take(name)
    shares = _shares(weight, total)
    # Each turn takes one slot, so there are at most ``available`` turns.
    while len(chosen) < available:
        below = [name for name in ready if waiting[name] and active[name] < shares[name]]
        if not below:
            break
        # Equal deficits and weights go to the later name, as in the original.
        take(max(below, key=lambda name: (shares[name] - active[name], weight[name], name)))
    for name in _round_robin(waiting, weight, count=available - len(chosen)):
        take(name)
    return tuple(chosen)


def _sound(weight: float) -> float:
    return weight if math.isfinite(weight) and weight > 0 else 0.0


def _starving(active: Mapping[str, int], *, count: int, draw: Draw) -> list[str]:
    idle = sorted(name for name, running in active.items() if running == 0)
    if len(idle) <= count:
        return idle
    # Draws without replacement: each turn takes one lane out.
    return [idle.pop(draw(len(idle))) for _ in range(max(count, 0))]


def _shares(weight: Mapping[str, float], total: int) -> dict[str, int]:
    """Divide ``total`` by weight with the largest remainder; ties to the greater weight, then by name."""
    whole = sum(weight.values())
    exact = {name: total * (part / whole if whole else 1 / len(weight)) for name, part in weight.items()}
    shares = {name: int(share) for name, share in exact.items()}
    left = total - sum(shares.values())
    for name in sorted(exact, key=lambda name: (shares[name] - exact[name], -weight[name], name))[:left]:
        shares[name] += 1
    return shares


def _round_robin(waiting: Mapping[str, int], weight: Mapping[str, float], *, count: int) -> list[str]:
    left = {name: tasks for name, tasks in waiting.items() if tasks}
    ring = sorted(left, key=lambda name: (-weight[name], name))
    served: list[str] = []
    turn = 0
    # Each turn serves one task; a lane without more leaves the ring.
    while ring and len(served) < count:
        turn %= len(ring)
        name = ring[turn]
        served.append(name)
        left[name] -= 1
        if left[name]:
            turn += 1
        else:
            del ring[turn]
    return served
