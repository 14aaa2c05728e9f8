"""How a stack of services is: judged from what was seen of it, also where its supervisor is gone or hangs.

1. A supervisor that is killed, stopped or hung ends nothing: what of its services runs is said, and so is
   that nobody starts again what ends now.
2. Of a service that nobody asks, it is only known that its process runs: that is UNKNOWN, not ready (I1).
3. A stack that was ended in order has one thing to say, and not one for each of its services.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from standfast import __version__
from standfast.app.instance import Run, Unreadable
from standfast.app.service_findings import service_findings
from standfast.app.stack_look import LifeSeen, StackSeen, names_of
from standfast.kernel.clock import iso
from standfast.kernel.verdict import Finding, Verdict, combine
from standfast.services.decide.matrix import matrix_of
from standfast.services.model import STOPPED, ServiceSpec, ServiceState, ServiceView

#: A supervisor that does not answer by then will not by itself.
STARTING_S = 20.0
_CHECK = "supervisor"


def status_of(seen: StackSeen) -> dict[str, Any]:
    """Return the status of a stack as plain JSON values."""
    rows = rows_of(seen)
    names = names_of(seen.specs, rows)
    found = findings(seen)
    run = seen.run if isinstance(seen.run, Run) else None
    return {
        "verdict": combine(one.verdict for one in found).name,
        "findings": [one.as_dict() for one in found],
        "name": run.name if run else None,
        "version": run.version if run else __version__,
        "at": iso(seen.at),
        "data_dir": str(seen.data_dir),
        "supervisor": {
            "pid": run.process.pid if run else None,
            "started_at": run.started_at if run else None,
            "is_answering": seen.answer is not None,
        },
        "matrix": matrix_of(names, {row["name"]: row for row in rows}).as_dict(),
        "services": rows,
    }


def findings(seen: StackSeen) -> list[Finding]:
    """Return what the evidence supports, worst first; what concerns all services stands before them."""
    found = list(supervisor_findings(seen))
    if seen.answer is not None:
        found += service_findings(seen.views)
    elif _is_orphaned(seen):
        # That the others go on is said once, of the supervisor.
        found += service_findings([row for row in rows_of(seen) if row["reason"] != "NobodyAsks"])
    return sorted(found, key=lambda one: -one.verdict)


def supervisor_findings(seen: StackSeen) -> Iterator[Finding]:
    """Yield what is to be said about the supervisor itself and about what it wrote down."""
    if isinstance(seen.run, Unreadable):
        yield Finding(
            _CHECK, Verdict.UNKNOWN, "RecordUnreadable", f"{seen.run.path}: {seen.run.why}",
            remedy=_record_remedy(seen),
        )  # fmt: skip
    if seen.answer is not None:
        yield from _answering(seen)
    elif isinstance(seen.run, Run) and seen.main is not None and seen.main.letter not in ("", "Z", "X"):
        yield _silent(seen, seen.main.pid, seen.main.letter)
    elif not isinstance(seen.run, Unreadable):
        yield _absent(seen)
    if seen.trouble:
        yield Finding(
            _CHECK, Verdict.UNKNOWN, "DeclarationUnreadable", seen.trouble,
            remedy=f"it is written anew by: {_up(seen)}",
        )  # fmt: skip


def _answering(seen: StackSeen) -> Iterator[Finding]:
    assert seen.answer is not None
    who = f" (process {seen.run.process.pid})" if isinstance(seen.run, Run) else ""
    count = len(seen.answer["services"])
    yield Finding(
        _CHECK, Verdict.PASS, "SupervisorAnswers", f"the supervisor{who} answers, of {count} services"
    )
    if trouble := seen.answer.get("trouble"):
        yield Finding(
            "history", Verdict.FAIL, "HistoryUnwritten",
            f"what happens to the services cannot be put on record: {trouble}",
            remedy=f"make room, or mend the disk: df -h {seen.data_dir}",
        )  # fmt: skip


def _silent(seen: StackSeen, pid: int, letter: str) -> Finding:
    """Judge a supervisor whose process lives and which does not answer."""
    goes_on = _goes_on(seen)
    evidence = {"pid": pid, "letter": letter, "log": list(seen.log_tail)}
    if letter in STOPPED:
        return Finding(
            _CHECK, Verdict.FAIL, "SupervisorStopped",
            f"the supervisor (process {pid}) is stopped by a signal ({letter}); {goes_on}",
            remedy=f"kill -CONT {pid}", evidence=evidence,
        )  # fmt: skip
    why = f": {seen.error.what}" if seen.error is not None else ""
    if seen.age_s < STARTING_S:
        return Finding(
            _CHECK, Verdict.UNKNOWN, "SupervisorStarting",
            f"the supervisor (process {pid}) started {seen.age_s:.0f} s ago and does not answer yet{why}",
            remedy="ask again in a few seconds", evidence=evidence,
        )  # fmt: skip
    return Finding(
        _CHECK, Verdict.FAIL, "SupervisorSilent",
        f"the supervisor (process {pid}) lives ({letter}) and does not answer{why}; {goes_on}",
        remedy=f"replace it, its services do not notice: kill -9 {pid}; {_up(seen)}", evidence=evidence,
    )  # fmt: skip


def _absent(seen: StackSeen) -> Finding:
    """Judge a supervisor that is not there: killed, or ended in order."""
    if not _is_orphaned(seen):
        return Finding(
            _CHECK, Verdict.FAIL, "NotRunning", f"nothing of this stack runs in {seen.data_dir}",
            remedy=_up(seen),
        )  # fmt: skip
    run = seen.run
    if isinstance(run, Run) and run.process.boot_id != seen.boot_id:
        return Finding(
            _CHECK, Verdict.FAIL, "MachineRestarted",
            f"the machine was restarted, and nothing has started this stack again; {_goes_on(seen)}",
            remedy=f"{_up(seen)}; to have it start by itself: standfast units", since=boot_at(seen),
            evidence={"boot_then": run.process.boot_id, "boot_now": seen.boot_id},
        )  # fmt: skip
    who = f"the supervisor (process {run.process.pid})" if isinstance(run, Run) else "the supervisor"
    return Finding(
        _CHECK, Verdict.FAIL, "SupervisorKilled",
        f"{who} is gone and said no goodbye; {_goes_on(seen)}",
        remedy=f"{_up(seen)} takes them back; standfast down ends them",
        evidence={"started_at": run.started_at if isinstance(run, Run) else "", "log": list(seen.log_tail)},
    )  # fmt: skip


def _is_orphaned(seen: StackSeen) -> bool:
    """Whether services were left without a supervisor that answers."""
    return seen.run is not None or any(life.is_running for life in seen.lives.values())


def _goes_on(seen: StackSeen) -> str:
    running = sum(life.is_running for life in seen.lives.values())
    whole = max(len(seen.specs), len(seen.lives))
    if not running:
        return f"none of {whole} services runs"
    return f"{running} of {whole} services go on without it, and what ends now is not started again"


def _record_remedy(seen: StackSeen) -> str:
    if seen.answer is not None:
        return f"it is written anew by: standfast down; {_up(seen)}"
    return f"{_up(seen)} takes back what runs; standfast down ends it"


def _up(seen: StackSeen) -> str:
    return f"standfast up {seen.blueprint} --detach" if seen.blueprint else "standfast up --detach"


def boot_at(seen: StackSeen) -> str:
    """Return when this machine was started, as far as its two clocks tell."""
    return iso(datetime.fromtimestamp(seen.at.timestamp() - seen.now_s, UTC))


def rows_of(seen: StackSeen) -> list[dict[str, Any]]:
    """Return every service as the supervisor shows it, or as it can be told without one."""
    if seen.answer is not None:
        return seen.views
    specs = {spec.name: spec for spec in seen.specs}
    undeclared = [ServiceSpec(name, ()) for name in seen.lives if name not in specs]
    return [_row(seen, spec) for spec in (*seen.specs, *undeclared)]


def _row(seen: StackSeen, spec: ServiceSpec) -> dict[str, Any]:
    life, held = seen.lives.get(spec.name), seen.records.holds.get(spec.name)
    last = seen.records.last_end(spec.name)
    view = ServiceView(
        name=spec.name, state=ServiceState.STOPPED, since="", is_required=spec.is_required, port=spec.port,
        depends_on=tuple(one.name for one in spec.depends_on), group=spec.group, driver=spec.driver,
        kind=spec.kind, declared_in=f"{spec.file}:{spec.line}" if spec.line else spec.file,
        log=str(seen.data_dir / "logs" / f"{spec.name}.log"), held_by=held.who if held else "",
        last_exit=last.text if last else "",
        usual_ready_s=seen.records.last_wait_s(spec.name),
    )  # fmt: skip
    if life is not None and life.is_running:
        return _running(view.as_dict(), life, seen)
    if held is not None:
        why = f"held by {held.who}{f': {held.why}' if held.why else ''}"
        fix = f"standfast release {spec.name}"
        view = replace(
            view, state=ServiceState.HELD, since=held.since, reason="HeldByPerson", message=why, remedy=fix
        )
    elif (
        life is None
        and spec.is_task
        and last is not None
        and last.status is not None
        and not any(last.status)
    ):
        view = replace(view, state=ServiceState.COMPLETED, since=last.ended_at, reason="Completed")
    else:
        view = _stopped(seen, view, life)
    return view.as_dict()


def _running(row: dict[str, Any], life: LifeSeen, seen: StackSeen) -> dict[str, Any]:
    record = life.record
    is_stopped = life.letter in STOPPED
    port = row["port"]
    listens = f"; its port {port} is {'' if port in seen.ports else 'not '}listened on" if port else ""
    message = "is stopped by a signal" if is_stopped else f"runs, and nobody asks it{listens}"
    return {
        **row, "state": "running", "since": iso(datetime.fromtimestamp(record.started_at, UTC)),
        "pid": record.child.pid, "process_state": life.letter, "starts": 1, "life": record.life,
        "uptime_s": max(0.0, seen.now_s - record.started_s), "memory_bytes": life.memory_bytes,
        "ready_after_s": _ready_after_s(seen, record.name, record.life),
        "reason": "ProcessStopped" if is_stopped else "NobodyAsks",
        "message": f"process {record.child.pid} {message}",
        "remedy": f"kill -CONT {record.child.pid}" if is_stopped else _up(seen),
    }  # fmt: skip


def _ready_after_s(seen: StackSeen, name: str, life: str) -> float | None:
    lives = seen.records.lives.get(name, ())
    return next((one.ready_after_s for one in lives if one.life == life), None)


def _stopped(seen: StackSeen, view: ServiceView, life: LifeSeen | None) -> ServiceView:
    """Return a service of which nothing runs, with what is known about why."""
    view = replace(view, reason="NobodyStartsIt", remedy=_up(seen))
    if life is None:
        last = seen.records.last_end(view.name)
        why = f"it does not run; it last ended by {view.last_exit}" if view.last_exit else "it does not run"
        cls = last.cls if last is not None and last.cls != "requested_stop" else ""
        return replace(view, message=why, cls=cls, evidence=last.evidence if last and cls else ())
    record, exit_ = life.record, life.record.exit
    if record.boot_id != seen.boot_id:
        return replace(view, starts=1, message="it does not run: the machine was restarted")
    status = record.outcome().status
    if exit_ is None or status is None:
        return replace(view, starts=1, message="it does not run: its shim is gone, and nobody saw its end")
    at = iso(datetime.fromtimestamp(float(exit_["at"]), UTC))
    lived_s = float(exit_["s"]) - record.started_s
    ended = f"{status.text} after {lived_s:.1f} s at {at}"
    message = f"it ended ({status.text}), and nobody starts it again"
    return replace(view, starts=1, since=at, last_exit=ended, message=message)


def without_api(seen: StackSeen) -> list[Mapping[str, Any]]:
    """Return what of an instance's services runs where its API does not answer."""
    return [row for row in rows_of(seen) if row["state"] == "running" or seen.answer is not None]
