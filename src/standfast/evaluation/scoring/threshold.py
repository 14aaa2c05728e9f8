"""The rate that a later subject must exceed to displace an earlier one in one environment.

The gap above the earlier subject's rate p after n episodes is z standard errors of p, within
[min_gap, max_gap]; p is kept within [.01, .99] for that, and without episodes the gap is max_gap. The
original caps p + gap at 1, and since a later subject must be strictly above it, an earlier subject at .98
or more (50 episodes) can never be displaced, whatever anybody does.

``standfast`` asks the exact question near the ceiling, where the normal approximation has no room: how
often would an equal subject have a perfect record by luck? That is p ** n. Where it is at most .0668, the
tail that z = 1.5 allows anywhere else, the threshold is capped half an episode below 1, so that a perfect
record, and nothing less, displaces. Examples: .98 over 200 episodes is displaced by 200 of 200 (luck in
2 of 100 rounds); .98 over 50 episodes is not (luck in 36 of 100): more episodes per round, not a weaker
rule, make it so. A rate of 1 is never exceeded: nothing better can be measured there, and a tie belongs to
who came first. Such a subject can still lose its points by being dominated (``frontier.py``).

No threshold is below its rate, and none falls when the rate rises; the promises of ``score.py`` about
copies and improvement rest on that.
"""

from __future__ import annotations

import math

Z_SCORE = 1.5
MIN_GAP = 0.02
MAX_GAP = 0.10
# One-sided tail of the normal distribution beyond Z_SCORE.
LUCK = 0.0668


def threshold(
    rate: float,
    episodes: int,
    *,
    z_score: float = Z_SCORE,
    min_gap: float = MIN_GAP,
    max_gap: float = MAX_GAP,
) -> float:
    """Return the original's threshold: min(rate + gap, 1)."""
    return min(rate + _gap(rate, episodes, z_score=z_score, bounds=(min_gap, max_gap)), 1.0)


def fair_threshold(rate: float, episodes: int) -> float:
    """Return the threshold of the ``standfast`` policy, which a perfect record exceeds where luck cannot."""
    perfect_by_luck = rate**episodes if episodes > 0 else 1.0
    ceiling = 1.0 - 0.5 / episodes if perfect_by_luck <= LUCK else 1.0
    return min(threshold(rate, episodes), ceiling)


def _gap(rate: float, episodes: int, *, z_score: float, bounds: tuple[float, float]) -> float:
    smallest, largest = bounds
    if episodes <= 0:
        return largest
    # Away from 0 and 1, where the standard error would vanish.
    held = max(0.01, min(0.99, rate))
    error = math.sqrt(held * (1.0 - held) / episodes)
    return min(max(z_score * error, smallest), largest)
