"""What status shows of a service: judged anew, and free of effects, so that any thread may call it."""

from __future__ import annotations

from typing import Any

from standfast.kernel.verdict import Verdict
from standfast.services.decide.order import unmet
from standfast.services.decide.readiness import SETTLE_S, grace_of
from standfast.services.life import Service
from standfast.services.model import UNSEEN, End, Judgement, ServiceState, ServiceView
from standfast.services.surroundings import Surroundings
from standfast.services.watch import Watch

_S = ServiceState
#: Ends that say how long a life that fails may last.
_RECENT = 5


def view_of(service: Service, around: Surroundings) -> ServiceView:
    """Return ``service`` as it is now."""
    watch, state, judgement = service.watch, service.state, None
    if watch is not None and state is not _S.STOPPING:
        judgement = watch.judgement(stopped_below=watch.running.stopped_below())
        if judgement.verdict > Verdict.PASS and watch.is_late(judgement):
            state = _S.NOT_READY
    waits_for = () if watch is not None else tuple(one.name for one in unmet(service.spec, around.states()))
    reason, message, remedy = _why(service, judgement, waits_for)
    fields = _of_life(service, watch, state, around.clock.monotonic()) | _of_end(
        service.history, stable_s=service.spec.restart.stable_s
    )
    spec, waits = service.spec, service.waits
    return ServiceView(
        name=spec.name,
        state=state,
        since=service.since,
        starts=service.starts,
        restarts=max(service.starts - 1, 0),
        reason=reason,
        message=message,
        remedy=remedy,
        log=service.journal.path,
        log_tail=() if state is _S.READY else service.journal.tail(),
        log_dropped_bytes=service.dropped_bytes,
        is_required=spec.is_required,
        port=spec.port,
        waits_for=waits_for,
        depends_on=tuple(one.name for one in spec.depends_on),
        grace_s=grace_of(spec.ready, waits),
        usual_ready_s=sorted(waits)[len(waits) // 2] if waits else None,
        held_by=service.held_by,
        retry_in_s=service.retry_in_s,
        restarts_in_window=around.spent(spec).service,
        memory_limit_bytes=spec.limits.memory_bytes,
        cpus_limit=spec.limits.cpus,
        group=spec.group,
        driver=spec.driver,
        kind=spec.kind,
        declared_in=f"{spec.file}:{spec.line}" if spec.line else spec.file,
        **fields,
    )


def _of_life(service: Service, watch: Watch | None, state: ServiceState, now_s: float) -> dict[str, Any]:
    if watch is None:
        return {"is_stable": state is _S.COMPLETED}
    running, ready_at_s = watch.running, watch.ready_at_s
    stable_s = now_s - ready_at_s if state is _S.READY and ready_at_s is not None else 0.0
    return {
        "pid": running.identity.pid if running.identity else None,
        "process_state": running.letter(),
        "uptime_s": now_s - running.started_s,
        "memory_bytes": running.memory_bytes(),
        "is_limited_by_kernel": running.is_limited,
        "life": running.life,
        "ready_after_s": None if ready_at_s is None else ready_at_s - running.started_s,
        "stable_for_s": stable_s,
        "is_stable": stable_s >= SETTLE_S,
        "is_adopted": service.is_adopted,
    }


def _of_end(history: tuple[End, ...], *, stable_s: float) -> dict[str, Any]:
    if not history:
        return {}
    last = history[-1]
    # A life that was ready for long is no sample of how it fails, and one whose end nobody saw tells nothing.
    recent = [
        end.lived_s
        for end in history[-_RECENT:]
        if end.at_s > float("-inf") and end.ready_s < stable_s and end.status != UNSEEN
    ]
    return {
        "last_exit": f"{last.status.text} after {last.lived_s:.1f} s at {last.at}",
        "last_error": last.last_line,
        "cls": last.cls,
        "action": last.action,
        "evidence": last.evidence,
        "longest_life_s": max(recent, default=0.0),
    }


def _why(service: Service, judgement: Judgement | None, waits_for: tuple[str, ...]) -> tuple[str, str, str]:
    if judgement is not None:
        return judgement.reason, judgement.message, judgement.remedy
    if service.waiting_for is not None and service.state is _S.HELD:
        return service.waiting_for.reason, service.waiting_for.message, service.waiting_for.remedy
    if service.state is _S.WAITING:
        return "DependencyNotReady", f"waits for {', '.join(waits_for)}", f"standfast explain {service.name}"
    if service.state is _S.BACKOFF and service.history:
        end = service.history[-1]
        said = f": {end.last_line}" if end.last_line else ""
        ended_by = f"ended by {end.asked_by}; " if end.asked_by else ""
        return (
            "Ended",
            f"{ended_by}{end.status.text} after {end.lived_s:.1f} s{said}",
            f"read {service.journal.path}",
        )
    if service.state is _S.COMPLETED:
        return "Completed", "ended with exit code 0, as it was declared to", ""
    return "", "", ""
