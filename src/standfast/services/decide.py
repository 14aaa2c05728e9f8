"""The rules of supervision: what a service's state becomes, whether it is ready, what follows its end.

1. Ready needs an answer that is fresh. A stopped process, a refused connection or a wrong status is a
   fault at once; silence is one when the last good answer is too old to rest on (I1).
2. How long a process lived says nothing about whether starting it again helps: a program that imports for
   2.2 s and then refuses its configuration fails as surely as one that fails in 0.1 s. What counts is
   that it never became ready and ended the same way as before.
3. After K equal ends without ever being ready the service is held (I8). A held service is tried again on
   a slow schedule, or when one of its inputs has changed.
4. Waits fall back only after a life that was ready for a while, so that "up for a second" resets nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from standfast.kernel.backoff import Backoff
from standfast.kernel.verdict import Verdict
from standfast.services.model import (
    STOPPED,
    End,
    Held,
    Judgement,
    Readiness,
    Restart,
    RestartPolicy,
    Seen,
    ServiceEvent,
    ServiceState,
)

_S, _E = ServiceState, ServiceEvent
_RUNNING = (_S.STARTING, _S.READY, _S.NOT_READY)
_WAITING = (_S.STOPPED, _S.BACKOFF, _S.HELD)

TRANSITIONS: Mapping[tuple[ServiceState, ServiceEvent], ServiceState] = {
    **{(state, _E.START): _S.STARTING for state in _WAITING},
    **{(state, _E.END_HOLD): _S.HELD for state in _WAITING},
    **{(state, _E.STOP): _S.STOPPED for state in _WAITING},
    **{(state, _E.ANSWERED): _S.READY for state in _RUNNING},
    **{(state, _E.LATE): _S.NOT_READY for state in _RUNNING},
    **{(state, _E.END_RETRY): _S.BACKOFF for state in _RUNNING},
    **{(state, _E.END_HOLD): _S.HELD for state in _RUNNING},
    **{(state, _E.STOP): _S.STOPPING for state in _RUNNING},
    (_S.STOPPING, _E.GONE): _S.STOPPED,
    # Asked twice, and a probe's answer that was on its way when the stop was asked for.
    (_S.STOPPING, _E.STOP): _S.STOPPING,
    (_S.STOPPING, _E.ANSWERED): _S.STOPPING,
    (_S.STOPPING, _E.LATE): _S.STOPPING,
}
"""Every move there is; any other (state, event) is a bug of the driver."""

#: A good answer may be this old. Three probes at 2 s: one lost answer on a busy machine is no fault, and
#: a service that hangs is still named well within 10 s.
FRESH_S = 6.0
#: How long a service without a probe must run before it counts as ready: one look at a crash loop
#: between two crashes must not say "ready".
SETTLE_S = 2.0
#: Waits between the slow tries of a held service; the last one repeats.
SLOW_TRIES_S = (60.0, 300.0, 900.0)
#: Never ready in so many times K lives, each with another end: as hopeless as the same end K times.
_VARIED_FACTOR = 3

#: Exit codes that mean "do not try again": the shim's and shells' 126 and 127, and sysexits(3).
PERMANENT_CODES: Mapping[int, str] = {
    64: "it was started with wrong arguments (EX_USAGE)",
    66: "an input that it needs is missing (EX_NOINPUT)",
    77: "it lacks a permission (EX_NOPERM)",
    78: "its configuration is wrong (EX_CONFIG)",
    126: "the program cannot be executed",
    127: "the program, or an interpreter or library that it needs, was not found",
}

_NOISE = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+(?:\.\d+)*|(?:/[\w.+-]+)+", re.IGNORECASE)


_IS_STOPPED = "ProcessStopped"


def move(state: ServiceState, event: ServiceEvent) -> ServiceState:
    """Return the state that follows; a pair that is not in the table breaks an invariant."""
    following = TRANSITIONS.get((state, event))
    assert following is not None, f"no move from {state} on {event.name}"
    return following


def judge(readiness: Readiness, seen: Seen) -> Judgement:
    """Judge whether a running service may receive work; what was not seen is UNKNOWN."""
    if seen.letter in STOPPED:
        return Judgement(Verdict.FAIL, _IS_STOPPED, "process is stopped (T)", f"kill -CONT {seen.pid}")
    if seen.stopped_below:
        message = f"process {seen.stopped_below}, which it started, is stopped (T)"
        return Judgement(Verdict.FAIL, _IS_STOPPED, message, f"kill -CONT {seen.stopped_below}")
    if seen.letter in ("", "Z", "X"):
        return Judgement(Verdict.UNKNOWN, "ProcessGone", "the process has just ended", "wait a moment")
    if not readiness.is_probed:
        return _judge_unprobed(seen)
    return _judge_probed(seen)


def _judge_unprobed(seen: Seen) -> Judgement:
    age_s = seen.now_s - seen.started_s
    if age_s < SETTLE_S:
        message = f"runs for {age_s:.1f} s, and nothing else is known"
        return Judgement(Verdict.UNKNOWN, "Settling", message, "wait a moment")
    return Judgement(Verdict.PASS, "Running", "runs; it has no readiness probe")


def _judge_probed(seen: Seen) -> Judgement:
    latest = seen.latest
    if latest is None:
        return Judgement(Verdict.UNKNOWN, "NotAskedYet", "no probe has come back yet", remedy="wait a moment")
    good_age_s = float("inf") if seen.last_good_s is None else seen.now_s - seen.last_good_s
    is_silent = latest.is_good or latest.reason in SILENCES
    if is_silent and good_age_s <= FRESH_S:
        return Judgement(Verdict.PASS, "Answers", f"answered {good_age_s:.1f} s ago")
    remedy = f"read its log; kill {seen.pid} ends it, and it is started again"
    if latest.is_good:
        return Judgement(
            Verdict.UNKNOWN, "AnswerTooOld", f"the last good answer is {good_age_s:.0f} s old", remedy=remedy
        )
    return Judgement(Verdict.FAIL, latest.reason, latest.detail, remedy=remedy)


#: Reasons of probes that saw nothing either way; the earlier answer may still be fresh.
SILENCES = frozenset({"NoAnswer"})


def is_late(readiness: Readiness, seen: Seen, judgement: Judgement, *, was_ready: bool) -> bool:
    """Whether a life that is not ready has no excuse left: it was ready before, is stopped, or too old."""
    if was_ready or judgement.reason == _IS_STOPPED:
        return True
    return seen.now_s - seen.started_s > readiness.start_s


def fingerprint(end: End) -> tuple[int, int, bool, str]:
    """Return what makes two ends the same: status, phase, and the last line without what varies."""
    words = " ".join(_NOISE.sub("#", end.last_line).split())
    return end.status.code, end.status.signal_number, end.was_ready, words[:200]


def after_exit(policy: RestartPolicy, history: Sequence[End], *, unit: float) -> Restart | Held:
    """Decide what follows the last of ``history``, an end that nobody asked for.

    ``unit`` in [0, 1) is drawn by the caller and spreads the waits.
    """
    last = history[-1]
    if not last.was_ready:
        held = _hopeless(policy, history)
        if held is not None:
            return held
    ends = _ends_since_stable(policy, history)
    if ends <= 1 and last.was_ready:
        # It worked; the first end is taken for an accident, and every second without it is a loss.
        return Restart(0.0)
    backoff = Backoff(base_s=policy.backoff_s, cap_s=policy.cap_s)
    return Restart(backoff.wait_s(ends, unit=unit))


def _hopeless(policy: RestartPolicy, history: Sequence[End]) -> Held | None:
    last, limit = history[-1], policy.max_fast_failures
    never_ready = _trailing(history, lambda end: not end.was_ready)
    same = _trailing(history, lambda end: fingerprint(end) == fingerprint(last))
    retry_s = SLOW_TRIES_S[min(max(same - limit, 0), len(SLOW_TRIES_S) - 1)]
    said = f": {last.last_line}" if last.last_line else ""
    if last.status.code == 0 and not last.status.signal_number and last.left_behind:
        return Held(
            "ForkedAway",
            f"it ended with exit code 0 and left {last.left_behind} processes running in the background, "
            "which were ended",
            "make it stay in the foreground (an option such as --foreground or --no-daemon)",
            retry_s,
        )
    if last.status.code in PERMANENT_CODES and not last.status.signal_number:
        meaning = PERMANENT_CODES[last.status.code]
        remedy = "correct that; it is started again when its program or a file that it names changes"
        return Held("Permanent", f"{last.status.text}, {meaning}{said}", remedy, retry_s)
    remedy = "cure what its log says; it is started again when its program or a file that it names changes"
    if same >= limit:
        message = f"ended {same} times in the same way without ever being ready: {last.status.text}{said}"
        return Held("SameFailure", message, remedy, retry_s)
    if never_ready >= _VARIED_FACTOR * limit:
        message = f"was started {never_ready} times and never became ready, last: {last.status.text}{said}"
        return Held("NeverReady", message, remedy, retry_s)
    return None


def _ends_since_stable(policy: RestartPolicy, history: Sequence[End]) -> int:
    """Return how many ends follow the last stable life, that life's own end included."""
    count = 0
    for end in reversed(history):
        count += 1
        if end.ready_s >= policy.stable_s:
            break
    return count


def _trailing(history: Sequence[End], holds: Callable[[End], bool]) -> int:
    count = 0
    for end in reversed(history):
        if not holds(end):
            break
        count += 1
    return count
