"""What pm2's own limit of restarts can and cannot see, computed from an app's settings.

pm2 (lib/God.js, handleExit) counts a restart only if the life was shorter than ``min_uptime`` and ended
within ``min_uptime * max_restarts`` of the app's first start; at ``max_restarts`` such lives it gives up.
Restarts after that window, and those of lives that last longer, are never counted: 16,660 of them were seen.
"""

from __future__ import annotations

from typing import NamedTuple

from standfast.services.stacks.model import ProcessRules

#: lib/God.js: the defaults, and the cap and factor of exp_backoff_restart_delay.
MOST_RESTARTS = 16
LEAST_UPTIME_S = 1.0
BACKOFF_FACTOR = 1.5
BACKOFF_CAP_S = 15.0

#: A program that imports anything lives longer than this before it fails.
_SHORTEST_USEFUL_S = 1.0
_MOST_COUNTED = 100_000


class Breaker(NamedTuple):
    """Lives shorter than ``counted_life_s`` are stopped after ``most``, within ``window_s`` of the start."""

    most: int
    counted_life_s: float
    window_s: float
    is_default: bool

    @property
    def is_inert(self) -> bool:
        """Whether no real failure can trip it."""
        return self.counted_life_s <= _SHORTEST_USEFUL_S


def breaker_of(rules: ProcessRules) -> Breaker | None:
    """Return what stops an app that fails again and again; None where it is not restarted at all."""
    if rules.autorestart is False or rules.max_restarts == 0:
        return None
    is_default = rules.max_restarts is None and rules.min_uptime_s is None
    most = MOST_RESTARTS if rules.max_restarts is None else min(rules.max_restarts, _MOST_COUNTED)
    least = LEAST_UPTIME_S if rules.min_uptime_s is None else rules.min_uptime_s
    window = least * most
    # The last of the counted lives must end inside the window, waits between them included.
    room = (window - _waits(rules, most - 1)) / most
    return Breaker(most, round(max(0.0, min(least, room)), 3), window, is_default)


def _waits(rules: ProcessRules, times: int) -> float:
    """Return how long pm2 waits between the lives, all together."""
    if rules.backoff_s is None:
        return (rules.restart_delay_s or 0.0) * times
    total, wait = 0.0, rules.backoff_s
    for _ in range(times):
        total += wait
        wait = min(BACKOFF_CAP_S, wait * BACKOFF_FACTOR)
    return total
