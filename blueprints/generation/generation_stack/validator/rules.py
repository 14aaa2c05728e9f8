"""Decides what a result is worth and how long its miner waits; pure rules.

A task ends as exactly one of accepted, rejected or expired. A result that cannot be used, that was handed
in before, or that its miner gave up is rejected and makes the miner wait longer.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from generation_stack.splats.judge import Judgement


class State(enum.StrEnum):
    """How a task stands; every issued task is in exactly one."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Terms(NamedTuple):
    """What the validator asks of its miners."""

    deadline_s: float = 120.0
    cooldown_s: float = 3.0
    #: A rejected result makes the cooldown so many times longer.
    penalty: float = 4.0
    most_open: int = 2


class Feedback(NamedTuple):
    """What a miner is told about a result."""

    state: State
    score: float
    reasons: list[str]
    cooldown_s: float


#: A real object fills about this share of the grid around it; more does not earn more.
_WELL_FILLED = 0.15


def feedback(judgement: Judgement, *, used_before_by: str, took_s: float, terms: Terms) -> Feedback:
    """Return the feedback on a result that came in time.

    Half of the score is for being usable, the rest for how much there is to see and for how soon it came.
    """
    reasons = list(judgement.reasons)
    if used_before_by:
        reasons.append(f"stale: these bytes were accepted for task {used_before_by} before")
    if reasons:
        return Feedback(State.REJECTED, 0.0, reasons, terms.cooldown_s * terms.penalty)
    seen = min(1.0, judgement.filled / _WELL_FILLED)
    soon = max(0.0, 1.0 - took_s / terms.deadline_s)
    return Feedback(State.ACCEPTED, round(0.5 + 0.3 * seen + 0.2 * soon, 4), [], terms.cooldown_s)


def given_up(reason: str, terms: Terms) -> Feedback:
    """Return the feedback on a task that its miner gave up: the same as on a bad result."""
    return Feedback(State.REJECTED, 0.0, [f"given_up: {reason}"], terms.cooldown_s * terms.penalty)
