"""Decides what the miner does with each task that its worker knows; pure rules.

The miner keeps nothing itself. What is owed is computed anew on every look, from what the worker has: so a
miner that was killed goes on where it was.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

#: How long after its deadline a result is still offered to a validator that does not answer.
GRACE_S = 60.0
#: Time that handing a result in takes; the worker has to be done earlier.
_RESERVE_SHARE, _MOST_RESERVE_S = 0.05, 5.0


class Step(enum.Enum):
    """What is owed for a task."""

    WAIT = enum.auto()  # The worker is still at it.
    SUBMIT = enum.auto()  # It is done: hand the result in.
    GIVE_UP = enum.auto()  # It has failed: tell the validator.
    FORGET = enum.auto()  # Nobody can be told any more.


def owed(task: Mapping[str, Any], validators: set[str]) -> Step:
    """Return what is owed for a task as the worker shows it."""
    is_known = task.get("origin", {}).get("validator") in validators
    if task["state"] not in ("done", "failed"):
        return Step.WAIT
    if not is_known or float(task["deadline_in_s"]) < -GRACE_S:
        return Step.FORGET
    return Step.SUBMIT if task["state"] == "done" else Step.GIVE_UP


def worker_id(validator: str, id_: str) -> str:
    """Return the worker's id for a validator's task: two validators may use the same id."""
    return f"{hashlib.sha256(validator.encode()).hexdigest()[:8]}:{id_}"


def worker_deadline_s(left_s: float) -> float:
    """Return the time that the worker gets of what the validator leaves."""
    return left_s - min(_MOST_RESERVE_S, left_s * _RESERVE_SHARE)


class Answer(NamedTuple):
    """How a validator answered what was handed in."""

    #: One of accepted, rejected, expired, unknown; or empty, when it has to be tried again.
    end: str
    body: Mapping[str, Any]


def answered(status: int, body: Mapping[str, Any]) -> Answer:
    """Return what an answer means; whatever may pass is no end."""
    if status == 200:
        return Answer("accepted" if body.get("accepted") is True else "rejected", body)
    if status == 410:
        return Answer("expired", body)
    if status == 404:
        return Answer("unknown", body)
    return Answer("", body)
