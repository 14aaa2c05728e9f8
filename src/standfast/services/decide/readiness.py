"""Whether a running service may receive work, and how long a life may take to its first answer.

1. Ready needs an answer that is fresh. A stopped process, a refused connection or a wrong status is a
   fault at once; silence is one when the last good answer is too old to rest on (I1).
2. What is told once (READY=1, a line, a file) cannot be asked again: it holds while the process runs,
   which the kernel would tell at once were it otherwise.
3. A port that refuses while the program loads is no fault. How long loading takes is learnt from this
   service's own lives, not guessed (A000-7).
4. Who is not asked is called ready once it has run for a moment, so that what needs it may start. When it
   ends, that is no proof that it ever worked: a program may import for seconds before it refuses (A000-2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from standfast.kernel.verdict import Verdict
from standfast.services.model import STOPPED, Judgement, Readiness, Seen, ServiceSpec

#: A good answer may be this old, or three times the interval between two probes where that is longer: one
#: lost answer on a busy machine is no fault, and a service that hangs is still named well within 10 s.
FRESH_S = 6.0
#: How long a service without a probe must run before it counts as ready: one look at a crash loop
#: between two crashes must not say "ready".
SETTLE_S = 2.0
#: The grace of a service whose lives are not known yet.
GRACE_S = 60.0
#: Fewer lives than this teach nothing.
_LEAST_WAITS = 3
_MARGIN, _LEAST_GRACE_S = 1.5, 5.0
_IS_STOPPED = "ProcessStopped"
#: Reasons of probes that saw nothing either way; the earlier answer may still be fresh.
SILENCES = frozenset({"NoAnswer"})


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
    if readiness.is_once and seen.last_good_s is not None:
        return Judgement(Verdict.PASS, "SaidReady", f"it runs, and {readiness.target} was seen in this life")
    return _judge_probed(readiness, seen)


def _judge_unprobed(seen: Seen) -> Judgement:
    age_s = seen.now_s - seen.started_s
    if age_s < SETTLE_S:
        message = f"runs for {age_s:.1f} s, and nothing else is known"
        return Judgement(Verdict.UNKNOWN, "Settling", message, "wait a moment")
    return Judgement(Verdict.PASS, "Running", "runs; it has no readiness probe")


def _judge_probed(readiness: Readiness, seen: Seen) -> Judgement:
    latest = seen.latest
    if latest is None:
        return Judgement(Verdict.UNKNOWN, "NotAskedYet", "no probe has come back yet", remedy="wait a moment")
    good_age_s = float("inf") if seen.last_good_s is None else seen.now_s - seen.last_good_s
    is_silent = latest.is_good or latest.reason in SILENCES
    if is_silent and good_age_s <= max(FRESH_S, 3 * readiness.interval_s):
        return Judgement(Verdict.PASS, "Answers", f"answered {good_age_s:.1f} s ago")
    again = f"read its log; kill {seen.pid} ends it, and it is started again"
    remedy = again if seen.last_good_s is not None else "wait while it starts, or read its log"
    if latest.is_good:
        return Judgement(
            Verdict.UNKNOWN, "AnswerTooOld", f"the last good answer is {good_age_s:.0f} s old", remedy=remedy
        )
    return Judgement(Verdict.FAIL, latest.reason, latest.detail, remedy=remedy)


def is_late(seen: Seen, judgement: Judgement, *, grace_s: float, was_ready: bool) -> bool:
    """Whether a life that is not ready has no excuse left: it was ready before, is stopped, or too old."""
    if was_ready or judgement.reason == _IS_STOPPED:
        return True
    return seen.now_s - seen.started_s > grace_s


def grace_of(readiness: Readiness, waits: Sequence[float]) -> float:
    """Return how long a life may take to its first answer; ``waits`` is what earlier lives took, in seconds.

    Declared, it is what was declared. Learnt, it is the 99th percentile (nearest rank) with a margin of one
    half. Where too few lives are known it is ``GRACE_S``.
    """
    if readiness.start_s:
        return readiness.start_s
    if len(waits) < _LEAST_WAITS:
        return GRACE_S
    ordered = sorted(waits)
    rank = ordered[max(0, math.ceil(0.99 * len(ordered)) - 1)]
    return max(_LEAST_GRACE_S, rank * _MARGIN)


def proven_s(spec: ServiceSpec, ready_s: float) -> float:
    """Return how long a life that was called ready for ``ready_s`` surely worked; 0 = nothing shows it."""
    is_proof = spec.ready.is_probed or ready_s >= spec.restart.stable_s
    return ready_s if is_proof else 0.0
