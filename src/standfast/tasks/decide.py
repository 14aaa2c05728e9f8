"""The rules of leases: who may have a task, what becomes of a report, what follows a failure.

1. A result counts when its token is the task's current one, the task is leased to that holder, and the
   lease is not over. Everything else is answered, recorded, and not counted (I3, I4).
2. An attempt is counted when it is claimed, so that work that kills its worker reaches the limit too.
3. A lease that is over is refused even if nobody has taken the task yet: "expired" must not depend on
   whether the reaper happened to look.
4. Instants are milliseconds of the lease clock, which only runs while somebody could renew (I14).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from standfast.kernel.backoff import Backoff
from standfast.tasks.model import (
    Answer,
    AttemptState,
    Event,
    Prior,
    Report,
    TaskPolicy,
    TaskState,
    Tracking,
    Waiting,
)

_S, _E = TaskState, Event

_LARGEST_STEP, _STEP_PER = 4, 25
MAX_TOKEN = 2**62
MAX_TEXT = 100_000
_TEXTS = ("outcome_class", "outcome", "error_code", "error")
_REPORTED = (AttemptState.RESULT.value, AttemptState.FAILED.value)

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


_ACCEPTED = Settled(Answer.ACCEPTED)


def objection(report: Report) -> str:
    """Say why no store could keep this report; empty when one can.

    SQLite would take a NUL character and PostgreSQL would not: what counts must not depend on that.
    """
    if not 0 < report.token <= MAX_TOKEN:
        return f"a token is a whole number from 1 to {MAX_TOKEN}"
    texts = report[4:]
    if not _flaw("".join(texts)):
        return ""
    for name, text in zip(_TEXTS, texts, strict=True):
        if flaw := _flaw(text):
            return f"{name} {flaw}"
    return f"its texts together are longer than {MAX_TEXT} characters"


def objections(reports: Sequence[Report]) -> dict[int, str]:
    """Return the objection to each report that has one, by its place."""
    # One look at all texts together finds out that nothing is wrong with any, as nearly always.
    everything = "".join([text for report in reports for text in report[4:]])
    is_token_odd = not all(0 < report.token <= MAX_TOKEN for report in reports)
    if not is_token_odd and not _flaw(everything):
        return {}
    found = {place: objection(report) for place, report in enumerate(reports)}
    return {place: words for place, words in found.items() if words}


def _flaw(text: str) -> str:
    if len(text) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
    return "holds a character that cannot be stored" if "\0" in text or not _is_unicode(text) else ""


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


def settle(current: Tracking, prior: Prior, report: Report, *, holder: str, now_ms: int) -> Settled:
    """Decide what one report is worth; ``prior`` is the attempt under the token that it names."""
    if prior.holder != holder:
        return Settled(Answer.STALE, f"this lease is not held by {holder}")
    if prior.state in _REPORTED:
        if prior[3:] == report[4:] and (prior.state == AttemptState.RESULT) == report.is_result:
            return Settled(Answer.DUPLICATE, "the identical report was accepted before")
        return Settled(Answer.STALE, "another report for this lease was accepted before")
    return _against_lease(current, report, now_ms)


def reported(prior: Prior, report: Report) -> Prior:
    """Return ``prior`` as it is once ``report`` was accepted for it."""
    state = AttemptState.RESULT if report.is_result else AttemptState.FAILED
    return Prior(prior.name, state.value, prior.holder, *report[4:])


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


def after_failure(attempts: int, max_attempts: int) -> Event:
    """Decide whether a task whose attempt failed or was lost is tried again or paused."""
    return Event.FAIL_LIMIT if attempts >= max_attempts else Event.FAIL_RETRY


def retry_delay_ms(attempts: int, policy: TaskPolicy, *, unit: float) -> int:
    """Return the wait before the retry that follows ``attempts``; ``unit`` is drawn in [0, 1)."""
    backoff = Backoff(base_s=policy.retry_base_s, cap_s=policy.retry_cap_s)
    return int(backoff.wait_s(attempts, unit=unit) * 1000)


def choose(
    waiting: Iterable[Waiting], ceilings: Mapping[str, int], count: int
) -> tuple[list[Waiting], list[Waiting]]:
    """Return what is taken of ``waiting`` in its order, of a subject up to its ceiling, and the rest."""
    left = dict(ceilings)
    chosen: list[Waiting] = []
    passed: list[Waiting] = []
    for one in waiting:
        if len(chosen) < count and left.get(one.subject, 0) > 0:
            left[one.subject] -= 1
            chosen.append(one)
        else:
            passed.append(one)
    return chosen, passed


def ceilings(free: Mapping[str, int], running: Mapping[str, int], count: int) -> dict[str, int]:
    """Return how many tasks of each subject a claim of ``count`` may take, where it takes them in order.

    The lowest level over ``running`` that has room for the claim: who is served least has most room. Among
    equals the order of the tasks decides. The level of a large batch rises by up to four at a time: subjects
    do not stand in line in turn, and every task that is passed over has to be looked at again.
    """
    wanted = min(count, sum(free.values()))
    step = max(1, min(_LARGEST_STEP, count // _STEP_PER))
    level = min((running.get(name, 0) for name in free), default=0)
    room: dict[str, int] = {}
    # Each turn raises the level, and what is free bounds it.
    while sum(room.values()) < wanted:
        level += step
        room = {
            name: min(n, level - running.get(name, 0))
            for name, n in free.items()
            if level > running.get(name, 0)
        }
    return room


def choose_exactly(
    waiting: Sequence[Waiting], free: Mapping[str, int], running: Mapping[str, int], count: int
) -> list[Waiting]:
    """Return what is taken where ``waiting`` is all there is: fairly, and as much as slots allow."""
    there: dict[str, int] = {}
    for one in waiting:
        there[one.subject] = there.get(one.subject, 0) + 1
    exact = {name: least for name, n in there.items() if (least := min(n, free.get(name, 0))) > 0}
    return choose(waiting, share(exact, running, count), count)[0]


def share(free: Mapping[str, int], running: Mapping[str, int], count: int) -> dict[str, int]:
    """Divide ``count`` claims among subjects with ``free`` slots so that the least served come first.

    Max-min fairness by water-filling: a level rises over ``running`` until ``count`` are given out or no
    slot is free. A slow subject therefore never gets more workers than a fast one that has work waiting.
    Subjects of equal rank keep the order of ``free``.
    """
    given = dict.fromkeys(free, 0)
    left = min(count, sum(free.values()))
    level = min((running.get(name, 0) for name in free), default=0)
    # Each turn raises the level by one and some subject reaches its bound or takes one: slots bound it.
    while left > 0:
        for name in free:
            if left > 0 and given[name] < free[name] and running.get(name, 0) + given[name] <= level:
                given[name] += 1
                left -= 1
        level += 1
    return {name: number for name, number in given.items() if number}


def advance_clock_ms(now_ms: int, elapsed_s: float, *, cap_s: float) -> int:
    """Advance the lease clock by monotonic time, at most ``cap_s`` at once.

    The cap is what makes a suspended or stopped control plane harmless: time in which nobody could have
    renewed a lease does not count against its holder. A negative step never happens (I14).
    """
    return now_ms + int(min(max(elapsed_s, 0.0), cap_s) * 1000)
