"""Decides what follows an attempt at a task; pure rules.

1. Done is only what the model answered with 200 and what was judged usable. A dropped connection, a
   timeout, a refusal or a file that cannot be used is never done.
2. Whatever may pass is tried again with backoff until the deadline; then the task has failed, with the last
   reason.
3. A request that the model calls wrong stays wrong: it fails at once.
4. The model may make an unusable result by accident, but not often.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Outcome(enum.StrEnum):
    """How one attempt ended."""

    DONE = "done"
    REFUSED = "refused"  # Nobody listens there.
    UNREADY = "unready"  # 503: the model says that it is not ready.
    BUSY = "busy"  # 429: its queue is full.
    TIMEOUT = "timeout"  # It accepted and did not answer in time.
    LOST = "lost"  # The connection broke before the answer was whole.
    ERROR = "error"  # It answered with an error of its own.
    INVALID_INPUT = "invalid_input"  # It says that the request is wrong.
    BAD_OUTPUT = "bad_output"  # It answered with a file that cannot be used.
    INTERRUPTED = "interrupted"  # This worker ended in the middle.


#: The model was reached and has used up time on the task, or this worker has: these are tries at it.
TRIES = frozenset({Outcome.TIMEOUT, Outcome.LOST, Outcome.ERROR, Outcome.BAD_OUTPUT, Outcome.INTERRUPTED})


class Attempt(NamedTuple):
    """One attempt, as it is kept with the task."""

    outcome: Outcome
    reason: str
    started_s: float
    ended_s: float


class Policy(NamedTuple):
    """How patient the worker is."""

    base_s: float = 0.5
    cap_s: float = 10.0
    most_bad_outputs: int = 2
    #: An attempt with less time than this could not succeed.
    shortest_s: float = 0.5


class Done(NamedTuple):
    """The task is done."""


class Retry(NamedTuple):
    """It is tried again at a time."""

    at: float
    reason: str


class Failed(NamedTuple):
    """It is given up."""

    reason: str


Next = Done | Retry | Failed


def after(
    attempts: list[Attempt], *, now: float, deadline: float, policy: Policy, unit: float, asked_s: float = 0.0
) -> Next:
    """Return what follows the last of ``attempts``.

    ``unit`` is a random number in [0, 1) for the jitter; ``asked_s`` is how long the model asked to wait.
    """
    last = attempts[-1]
    if last.outcome is Outcome.DONE:
        return Done()
    if last.outcome is Outcome.INVALID_INPUT:
        return Failed(f"the model refuses the request: {last.reason}")
    bad = sum(1 for attempt in attempts if attempt.outcome is Outcome.BAD_OUTPUT)
    if bad >= policy.most_bad_outputs and last.outcome is Outcome.BAD_OUTPUT:
        return Failed(f"{bad} results could not be used: {last.reason}")
    at = now + max(asked_s, wait_s(_in_a_row(attempts), policy=policy, unit=unit))
    if at + policy.shortest_s > deadline:
        return Failed(late(attempts))
    return Retry(at, f"{last.outcome}: {last.reason}")


def wait_s(attempt: int, *, policy: Policy, unit: float) -> float:
    """Return the wait after the ``attempt``-th failure in a row: exponential, capped, with full jitter."""
    ceiling = min(policy.cap_s, policy.base_s * 2.0 ** min(attempt - 1, 30))
    return ceiling * (0.1 + 0.9 * unit)


def late(attempts: list[Attempt]) -> str:
    """Return the reason of a task whose deadline has come."""
    if not attempts:
        return "the deadline passed before the model was ready for it"
    tries = sum(1 for attempt in attempts if attempt.outcome in TRIES)
    last = attempts[-1]
    return f"the deadline passed after {len(attempts)} attempts ({tries} reached the model); the last: " + (
        f"{last.outcome}: {last.reason}"
    )


def _in_a_row(attempts: list[Attempt]) -> int:
    """Return how often the last outcome came in a row: another kind of failure starts its backoff anew."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.outcome is not attempts[-1].outcome:
            break
        count += 1
    return count
