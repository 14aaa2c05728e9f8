"""How many tasks of one subject may run at a time: 3 to 10, driven by its success rate (K15).

The rule is affine-cortex's ``MinerSlotsAdjuster`` (efd9126): after enough samples and not more often than the
interval, 80 % or more clean results add a slot, less than 50 % take one away.
"""

from __future__ import annotations

from standfast.tasks.model import TaskPolicy

RAISE_FROM = 0.80
LOWER_BELOW = 0.50


def adjust_slots(slots: int, *, samples: int, clean: int, since_s: float | None, policy: TaskPolicy) -> int:
    """Return the subject's slots from now on; ``since_s`` is the time since the last change, None for never."""
    if samples < policy.slots_min_samples or (since_s is not None and since_s < policy.slots_interval_s):
        return slots
    rate = clean / samples
    if rate >= RAISE_FROM:
        return min(slots + 1, policy.slots_max)
    if rate < LOWER_BELOW:
        return max(slots - 1, policy.slots_min)
    return slots
