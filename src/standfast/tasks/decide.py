"""The rules of leases: who may have a task, what becomes of a report, what follows a failure.

1. A result counts when its token is the task's current one, the task is leased to that holder, and the
   lease is not over. Everything else is answered, recorded, and not counted (I3, I4).
2. An attempt is counted when it is claimed, so that work that kills its worker reaches the limit too.
3. A lease that is over is refused even if nobody has taken the task yet: "expired" must not depend on
   whether the reaper happened to look.
4. Instants are milliseconds of the lease clock, which only runs while somebody could renew (I14).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from standfast.kernel.backoff import Backoff
from standfast.tasks.model import Answer, Event, Prior, Report, TaskPolicy, TaskState, Tracking

_S, _E = TaskState, Event

MAX_TOKEN = 2**62
MAX_TEXT = 100_000
_TEXTS = ("outcome", "outcome_class", "error_code", "error")

TRANSITIONS: Mapping[tuple[TaskState, Event], TaskState] = {
    (_S.PENDING, _E.CLAIM): _S.LEASED,
    (_S.PENDING, _E.CANCEL): _S.CANCELLED,
    (_S.PENDING, _E.REQUEUE): _S.PENDING,
    (_S.LEASED, _E.RESULT): _S.DONE,
    (_S.LEASED, _E.FAIL_RETRY): _S.PENDING,
    (_S.LEASED, _E.FAIL_LIMIT): _S.PAUSED,
    (_S.LEASED, _E.RELEASE): _S.PENDING,
    (_S.LEASED, _E.CANCEL): _S.CANCELLED,
    (_S.LEASED, _E.REQUEUE): _S.PENDING,
    (_S.PAUSED, _E.TTL_OVER): _S.DEAD,
    (_S.PAUSED, _E.CANCEL): _S.CANCELLED,
    (_S.PAUSED, _E.REQUEUE): _S.PENDING,
    (_S.DEAD, _E.REQUEUE): _S.PENDING,
}
"""Every move there is; any other (state, event) is refused."""


class Settled(NamedTuple):
    """What one report is worth: the answer, and whether it counts or is recorded as late."""

    answer: Answer
    message: str = ""
    is_late: bool = False


def objection(report: Report) -> str:
    """Say why no store could keep this report; empty when one can.

    SQLite would take a NUL character and PostgreSQL would not: what counts must not depend on that.
    """
    if not 0 < report.token <= MAX_TOKEN:
        return f"a token is a whole number from 1 to {MAX_TOKEN}"
    for name in _TEXTS:
        text = getattr(report, name)
        if len(text) > MAX_TEXT:
            return f"{name} is longer than {MAX_TEXT} characters"
        if "\0" in text or not _is_unicode(text):
            return f"{name} holds a character that cannot be stored"
    return ""


def _is_unicode(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def unmatched(report: Report, *, is_task: bool) -> Settled:
    """Decide what a report is worth whose task was never leased under its token."""
    if is_task:
        return Settled(Answer.INVALID, f"token {report.token} was never granted for this task")
    return Settled(Answer.UNKNOWN, "there is no such task")


def settle(
    current: Tracking, prior: Prior, report: Report, sha256: str, *, holder: str, now_ms: int
) -> Settled:
    """Decide what one report is worth; ``prior`` is the attempt under the token that it names."""
    if prior.holder != holder:
        return Settled(Answer.STALE, f"this lease is not held by {holder}")
    if prior.sha256 is not None:
        if prior.sha256 == sha256:
            return Settled(Answer.DUPLICATE, "the identical report was accepted before")
        return Settled(Answer.STALE, "another report for this lease was accepted before")
    return _against_lease(current, report, now_ms)


def _against_lease(current: Tracking, report: Report, now_ms: int) -> Settled:
    if current.token != report.token:
        return Settled(
            Answer.STALE, f"the lease has passed on: token {current.token} is current", is_late=True
        )
    if current.state != TaskState.LEASED:
        word = TaskState(current.state).name.lower()
        return Settled(Answer.EXPIRED, f"the lease is over, the task is {word}", is_late=True)
    if now_ms >= current.expires_at_ms:
        return Settled(Answer.EXPIRED, "the lease ran out before the report came", is_late=True)
    return Settled(Answer.ACCEPTED)


def after_report(report: Report, attempts: int, max_attempts: int) -> Event:
    """Decide what an accepted report does to its task."""
    return Event.RESULT if report.is_result else after_failure(attempts, max_attempts)


def after_failure(attempts: int, max_attempts: int) -> Event:
    """Decide whether a task whose attempt failed or was lost is tried again or paused."""
    return Event.FAIL_LIMIT if attempts >= max_attempts else Event.FAIL_RETRY


def retry_delay_ms(attempts: int, policy: TaskPolicy, *, unit: float) -> int:
    """Return the wait before the retry that follows ``attempts``; ``unit`` is drawn in [0, 1)."""
    backoff = Backoff(base_s=policy.retry_base_s, cap_s=policy.retry_cap_s)
    return int(backoff.wait_s(attempts, unit=unit) * 1000)


_LARGEST_STEP, _STEP_PER = 4, 25


def share(free: Mapping[str, int], running: Mapping[str, int], count: int) -> dict[str, int]:
    """Divide ``count`` claims among subjects with ``free`` slots so that the least served come first.

    Max-min fairness by water-filling: a level rises over ``running`` until ``count`` are given out or no
    slot is free. A slow subject therefore never gets more workers than a fast one that has work waiting.
    Subjects of equal rank keep the order of ``free``, which the caller shuffles.

    A large batch rises by up to four at a time: it then takes neighbours of a quarter of the subjects, and
    writes a quarter of the pages. Who was passed over is the least served, and first, in the next claim.
    """
    given = dict.fromkeys(free, 0)
    left = min(count, sum(free.values()))
    step = max(1, min(_LARGEST_STEP, count // _STEP_PER))
    level = min((running.get(name, 0) for name in free), default=0)
    # Each turn raises the level and some subject reaches its bound or takes one: slots bound it.
    while left > 0:
        for name in free:
            if left > 0 and given[name] < free[name] and running.get(name, 0) + given[name] <= level:
                more = min(step, free[name] - given[name], left)
                given[name] += more
                left -= more
        level += step
    return {name: number for name, number in given.items() if number}


def advance_clock_ms(now_ms: int, elapsed_s: float, *, cap_s: float) -> int:
    """Advance the lease clock by monotonic time, at most ``cap_s`` at once.

    The cap is what makes a suspended or stopped control plane harmless: time in which nobody could have
    renewed a lease does not count against its holder. A negative step never happens (I14).
    """
    return now_ms + int(min(max(elapsed_s, 0.0), cap_s) * 1000)
