"""Is the instance there? What was seen of its processes and its API, and what that supports.

Used when the API cannot say it itself: not started, killed, stopped by a signal, hung, starting, shadowed by
another program on its port. ``look`` collects within a bound, ``judge`` is pure.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from standfast.app.instance import LOGS_NAME, Found, Run, Unreadable
from standfast.kernel.clock import iso
from standfast.kernel.errors import StandfastError
from standfast.kernel.verdict import Finding, Verdict
from standfast.services.adapters.journal import FileJournal
from standfast.services.adapters.procfs import Listener, boot_id, listener, read_stat
from standfast.services.model import Identity

#: An instance that has not opened its API by then will not by itself.
STARTING_S = 60.0
_TAIL_LINES = 3
_LETTERS = {
    "T": "is stopped by a signal (T)",
    "t": "is stopped by a debugger (t)",
    "Z": "has ended and is not buried (Z)",
    "X": "has ended",
    "D": "waits in the kernel and cannot be interrupted (D): a disk or a mount hangs",
}


@dataclass(frozen=True, slots=True)
class ProcessSeen:
    """One process of the instance; ``letter`` is its state, empty where it is gone."""

    name: str
    pid: int
    letter: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    """What was seen; ``error`` is how asking the API ended, ``holder`` who listens on its port.

    ``last_sign_at`` is when the instance last wrote to its store or its log, by the wall clock.
    """

    data_dir: Path
    run: Run | Unreadable | None
    age_s: float = 0.0
    main: ProcessSeen | None = None
    children: tuple[ProcessSeen, ...] = ()
    error: StandfastError | None = None
    port: int = 0
    holder: Listener | None = None
    blueprint: str = ""
    log_tail: tuple[str, ...] = field(default=())
    last_sign_at: str = ""


def look(found: Found, error: StandfastError | None, now: datetime, *, blueprint: str = "") -> Presence:
    """Look at the processes that the instance wrote down; never waits for any of them."""
    run = found.run()
    if not isinstance(run, Run):
        return Presence(found.data_dir, run, error=error, blueprint=blueprint)
    port = _port_of(run.url)
    log = found.data_dir / LOGS_NAME / "standfast.log"
    return Presence(
        found.data_dir, run,
        age_s=_age_s(run.started_at, now),
        main=process_seen("standfast", run.process, str(log)),
        children=tuple(process_seen(child.name, child.identity, child.log) for child in run.children),
        error=error,
        port=port,
        holder=listener(port) if port else None,
        blueprint=blueprint or run.blueprint,
        log_tail=tail_of(log),
        last_sign_at=_last_sign(log, found.data_dir / "standfast.db", found.data_dir / "standfast.db-wal"),
    )  # fmt: skip


def _last_sign(*paths: Path) -> str:
    """Return when the newest of ``paths`` was written; the store's log is written on every tick."""
    written = []
    for path in paths:
        with contextlib.suppress(OSError):
            written.append(path.stat().st_mtime)
    return iso(datetime.fromtimestamp(max(written), UTC)) if written else ""


def judge(seen: Presence) -> list[Finding]:
    """Return what the evidence supports, worst first."""
    if not isinstance(seen.run, Run) or seen.main is None:
        return [_judge_absent(seen)]
    findings = [_judge_main(seen, seen.run, seen.main)]
    findings += [_judge_child(child) for child in seen.children if _is_ill(child) and seen.main.letter]
    return sorted(findings, key=lambda finding: -finding.verdict)


def _judge_absent(seen: Presence) -> Finding:
    start = f"standfast up {seen.blueprint}" if seen.blueprint else "standfast up BLUEPRINT"
    if isinstance(seen.run, Unreadable):
        return Finding(
            "instance", Verdict.UNKNOWN, "RecordUnreadable", f"{seen.run.path}: {seen.run.why}",
            remedy=f"ask the API by its address (--url); else start again, it ends what is left: {start}",
        )  # fmt: skip
    return Finding(
        "instance", Verdict.FAIL, "NotRunning", f"no instance runs in {seen.data_dir}", remedy=start
    )


def _judge_main(seen: Presence, run: Run, main: ProcessSeen) -> Finding:
    who = f"the instance (process {main.pid})"
    evidence: dict[str, object] = {"pid": main.pid, "letter": main.letter, "log": list(seen.log_tail)}
    if not main.letter or main.letter in ("Z", "X"):
        return Finding(
            "instance", Verdict.FAIL, "Killed", f"{who} is gone and said no goodbye: it was killed",
            remedy=f"start it again, nothing acknowledged is lost: standfast up {seen.blueprint}",
            since=seen.last_sign_at, evidence={**evidence, "started_at": run.started_at},
        )  # fmt: skip
    if main.letter in ("T", "t"):
        return Finding(
            "instance", Verdict.FAIL, "ProcessStopped", f"{who} {_LETTERS[main.letter]}",
            remedy=f"kill -CONT {main.pid}", evidence=evidence,
        )  # fmt: skip
    if not run.url:
        return _judge_starting(seen, who, evidence)
    if seen.holder is not None and seen.holder.pid not in (0, main.pid):
        return Finding(
            "api", Verdict.FAIL, "PortTaken",
            f"port {seen.port} belongs to {seen.holder.text}, not to {who}",
            remedy=f"stop that program, then restart: standfast down; standfast up {seen.blueprint}",
            evidence=evidence,
        )  # fmt: skip
    return _judge_api(seen, who, evidence)


def _judge_starting(seen: Presence, who: str, evidence: dict[str, object]) -> Finding:
    is_late = seen.age_s > STARTING_S
    return Finding(
        "instance", Verdict.FAIL if is_late else Verdict.UNKNOWN, "StartHangs" if is_late else "Starting",
        f"{who} started {seen.age_s:.0f} s ago and its API does not listen yet",
        remedy="standfast logs; standfast down" if is_late else "ask again in a few seconds",
        evidence=evidence,
    )  # fmt: skip


def _judge_api(seen: Presence, who: str, evidence: dict[str, object]) -> Finding:
    main, error = seen.main, seen.error
    assert main is not None
    if error is None:
        return Finding("instance", Verdict.PASS, "Answers", f"{who} lives and its API answers")
    restart = f"see standfast logs; if it stays so: standfast down; standfast up {seen.blueprint}"
    if main.letter == "D":
        what = f"{who} {_LETTERS['D']}"
        return Finding(
            "instance", Verdict.FAIL, "Stuck", what, remedy="dmesg | tail; df -h", evidence=evidence
        )
    why = f": {error.why}" if error.why else ""
    remedy = error.fix if error.exit_code != 7 and error.fix else restart
    return Finding(
        "api", Verdict.FAIL, error.code, f"{who} lives ({main.letter}), but {error.what}{why}",
        remedy=remedy, evidence=evidence,
    )  # fmt: skip


def _is_ill(child: ProcessSeen) -> bool:
    return child.letter in ("", "T", "t", "Z", "X", "D")


def _judge_child(child: ProcessSeen) -> Finding:
    what = _LETTERS.get(child.letter, "is gone")
    is_stopped = child.letter in ("T", "t")
    return Finding(
        "process", Verdict.FAIL, "ProcessStopped" if is_stopped else "ProcessGone",
        f"{child.name} (process {child.pid}) {what}", child.name,
        remedy=f"kill -CONT {child.pid}" if is_stopped else f"standfast logs {child.name}",
    )  # fmt: skip


def process_seen(name: str, identity: Identity, log: str = "") -> ProcessSeen:
    """Return what exactly this process is now."""
    stat = read_stat(identity.pid)
    is_other = stat is None or stat.start_ticks != identity.start_ticks or boot_id() != identity.boot_id
    return ProcessSeen(name, identity.pid, "" if stat is None or is_other else stat.letter, log)


def _port_of(url: str) -> int:
    tail = url.rpartition(":")[2]
    return int(tail) if tail.isdigit() else 0


def _age_s(instant: str, now: datetime) -> float:
    try:
        return max(0.0, (now - datetime.fromisoformat(instant)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def tail_of(path: Path) -> tuple[str, ...]:
    """Return the last lines of a log, free of control characters; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return FileJournal(path).tail()[-_TAIL_LINES:]
    return ()
