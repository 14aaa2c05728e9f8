"""What is wrong with an instance, why, and what to do: judged from values alone.

1. Every check says something: PASS needs evidence, and where there is none the verdict is UNKNOWN (I1).
2. A subject that fails is its own business and never makes the instance unhealthy, unless nothing of it
   works at all; failures of our own do.
3. What is behind something else names it: a round stands still *because* no executor is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from standfast.app.service_findings import service_findings
from standfast.app.wire import PROTOCOL
from standfast.kernel.errors import StandfastError
from standfast.kernel.verdict import Finding, Verdict
from standfast.tasks.model import Counts, ExecutorInfo

#: An executor that was not heard of for this long, and holds nothing, was taken away rather than lost.
GONE_S = 600.0
#: An executor of kinitro's wire asks every 5 s when it has nothing to do, unless its operator says otherwise.
WIRE_POLL_S = 30.0
#: No claim and no result for this long, while work waits and nothing runs, is more than a pause.
IDLE_S = 15.0
#: A jump of the wall clock is worth a warning for this long; nothing is decided by that clock (I14).
JUMP_S = 300.0
_ENOUGH = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as late, in seconds; from the configuration."""

    executor_silent_s: float = 6.0
    leader_silent_s: float = 5.0
    longest_attempt_s: float = 120.0
    publication_age_s: float = 3_600.0
    is_publishing: bool = True


@dataclass(frozen=True, slots=True)
class SubjectSeen:
    """A subject in the round that is looked at: attempts that ended well or not, by error code."""

    name: str
    slots: int = 0
    is_paused: bool = False
    open_tasks: int = 0
    ended: int = 0
    own_errors: Mapping[str, int] = field(default_factory=dict)
    our_errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoundSeen:
    """A round: ``idle_s`` is how long ago anything of it was claimed or answered."""

    number: int
    state: str
    counts: Counts = field(default_factory=Counts)
    idle_s: float = 0.0
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LeaderSeen:
    """Who leads, and how long ago its last beat was seen; None where nobody could see one."""

    name: str
    term: int
    silent_s: float | None
    errors: Sequence[Mapping[str, Any]] = ()
    jump_s: float = 0.0
    jump_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that a status is judged from; ``store`` is why the rest could not be read."""

    limits: Limits
    store: StandfastError | None = None
    is_draining: bool = False
    leader: LeaderSeen | None = None
    executors: Sequence[ExecutorInfo] = ()
    current: RoundSeen | None = None
    last: RoundSeen | None = None
    subjects: Sequence[SubjectSeen] = ()
    publication_age_s: float | None = None
    services: Sequence[Mapping[str, Any]] = ()


def findings(seen: Observed) -> list[Finding]:
    """Return every finding, worst first; what depends on the store is left out where that is away."""
    found = list(_store(seen))
    if seen.store is None:
        for rule in (_leader, _executors, _round, _subjects, _publication):
            found.extend(rule(seen))
    found.extend(service_findings(seen.services))
    return sorted(found, key=lambda finding: -finding.verdict)


def _store(seen: Observed) -> Iterator[Finding]:
    error = seen.store
    if error is None:
        yield Finding("store", Verdict.PASS, "StoreAnswers", "the store answers")
        return
    why = f", because {error.why}" if error.why else ""
    remedy = error.fix or "standfast doctor"
    yield Finding("store", Verdict.FAIL, error.code, f"{error.what}{why}", remedy=remedy, since=error.since)


def _leader(seen: Observed) -> Iterator[Finding]:
    leader = seen.leader
    if leader is None or not leader.name:
        yield Finding(
            "scheduler", Verdict.FAIL, "NobodyLeads",
            "no scheduler leads: leases do not run out, rounds neither open nor end, nothing is published",
            remedy="start one: standfast up, or standfast scheduler",
        )  # fmt: skip
        return
    for error in leader.errors:
        what = f"{error.get('what', '')} {error.get('why', '')}".strip()
        yield Finding(
            "scheduler", Verdict.FAIL, str(error.get("code", "SchedulerFailing")),
            f"the scheduler cannot {error.get('loop', 'work')}: {what}", subject=leader.name,
            since=str(error.get("since", "")), remedy=str(error.get("fix") or "standfast logs"),
        )  # fmt: skip
    yield _beat(leader, seen.limits)
    yield from _jump(leader)


def _beat(leader: LeaderSeen, limits: Limits) -> Finding:
    if leader.silent_s is None:
        return Finding(
            "scheduler", Verdict.UNKNOWN, "LeaderUnseen", subject=leader.name,
            message=f"{leader.name} leads by the record; no beat of it has been seen yet",
            remedy="ask again in a few seconds",
        )  # fmt: skip
    if leader.silent_s > limits.leader_silent_s:
        return Finding(
            "scheduler", Verdict.FAIL, "LeaderSilent", subject=leader.name,
            message=f"the scheduler {leader.name} has not ticked for {leader.silent_s:.0f} s: it hangs or is "
            "gone",
            remedy="look at its process and its log; a standby takes over by itself, else start it again",
            evidence={"term": leader.term},
        )  # fmt: skip
    return Finding(
        "scheduler", Verdict.PASS, "LeaderTicks", f"{leader.name} leads (term {leader.term})", leader.name
    )


def _jump(leader: LeaderSeen) -> Iterator[Finding]:
    if leader.jump_age_s is not None:
        is_recent = leader.jump_age_s < JUMP_S
        yield Finding(
            "clock", Verdict.UNKNOWN if is_recent else Verdict.PASS, "ClockJumped",
            f"the wall clock jumped by {leader.jump_s:+.0f} s: times before and after do not compare",
            remedy="look at time synchronisation: timedatectl; leases and deadlines are not affected",
        )  # fmt: skip


def _executors(seen: Observed) -> Iterator[Finding]:
    limits = seen.limits
    present = [one for one in seen.executors if not is_silent(one, limits)]
    if not present:
        count = len(seen.executors)
        yield Finding(
            "executors", Verdict.FAIL, "NoExecutor",
            f"none of {count} executors is heard of" if count else "no executor ever asked for work",
            remedy="start one: standfast up, or standfast executor --url URL --token-file FILE",
        )  # fmt: skip
    for one in seen.executors:
        yield from _executor(one, limits)


def is_silent(one: ExecutorInfo, limits: Limits) -> bool:
    """Return whether an executor has said nothing for longer than it should.

    One of kinitro's wire says nothing while it works: how long it may, its leases say.
    """
    if _is_of_wire(one):
        return one.running == 0 and one.silent_s > max(limits.executor_silent_s, WIRE_POLL_S)
    return one.silent_s > limits.executor_silent_s


def _is_of_wire(one: ExecutorInfo) -> bool:
    return one.info.get("protocol") == PROTOCOL


def _executor(one: ExecutorInfo, limits: Limits) -> Iterator[Finding]:
    where = f"process {one.info.get('pid', '?')} on {one.info.get('host', '?')}"
    if one.silent_s > GONE_S and one.running == 0:
        yield Finding(
            "executor", Verdict.SKIPPED, subject=one.name, reason="ExecutorGone",
            message=f"{one.name} was last heard of {one.silent_s:.0f} s ago and holds nothing",
        )  # fmt: skip
        return
    if is_silent(one, limits):
        yield Finding(
            "executor", Verdict.FAIL, subject=one.name, since=one.last_seen_at, reason="ExecutorSilent",
            message=f"{one.name} ({where}) has said nothing for {one.silent_s:.0f} s: it is stopped, gone, "
            f"or cannot reach the API; its {one.running} leases run out by themselves",
            remedy=f"look at it: ps -o pid,stat,cmd -p {one.info.get('pid', '?')}; "
            f"standfast logs {one.name}; then start it again",
            evidence={"silent_s": round(one.silent_s, 1), "running": one.running},
        )  # fmt: skip
        return
    yield from _executor_says(one)


def _executor_says(one: ExecutorInfo) -> Iterator[Finding]:
    info = one.info
    spooled, trouble = _number(info.get("spooled")), str(info.get("last_error") or "")
    if trouble:
        yield Finding(
            "executor", Verdict.FAIL, "ExecutorTroubled", f"{one.name} says: {trouble}", one.name,
            remedy=f"standfast logs {one.name}", evidence={"spooled": spooled},
        )  # fmt: skip
    elif spooled > max(_number(info.get("capacity")), 10):
        yield Finding(
            "executor", Verdict.FAIL, subject=one.name, reason="SpoolNotEmpty",
            message=f"{spooled} results wait on the disk of {one.name}: they are finished and not delivered",
            remedy=f"they are delivered by themselves; if not: standfast logs {one.name}",
        )  # fmt: skip
    else:
        words = "cordoned, " if one.cordoned else ""
        yield Finding(
            "executor", Verdict.PASS, subject=one.name, reason="ExecutorWorks",
            message=f"{one.name}: {words}{one.running} running, {spooled} waiting for delivery",
        )  # fmt: skip
    if damaged := _number(info.get("damaged")):
        yield Finding(
            "executor", Verdict.FAIL, subject=one.name, reason="SpoolDamaged",
            message=f"{damaged} results on the disk of {one.name} were damaged and set aside; they run again",
            remedy="look at the disk (dmesg | tail), then delete the folder 'damaged' in its spool",
        )  # fmt: skip


def _round(seen: Observed) -> Iterator[Finding]:
    current = seen.current
    if current is None and seen.last is None:
        remedy = "standfast task drain --off" if seen.is_draining else "ask again in a few seconds"
        yield Finding("round", Verdict.UNKNOWN, "NoRound", "no round was opened yet", remedy=remedy)
    if current is not None:
        yield _progress(seen, current)
        if current.counts.paused:
            yield Finding(
                "round", Verdict.FAIL, "TasksPaused", subject=str(current.number),
                message=f"{current.counts.paused} tasks used up their attempts and wait for an operator",
                remedy="standfast task ls --state paused; then standfast task requeue ID",
            )  # fmt: skip
    if seen.last is not None and seen.last.state == "failed":
        yield Finding(
            "round", Verdict.FAIL, seen.last.code or "RoundFailed", subject=str(seen.last.number),
            message=f"round {seen.last.number} failed: {seen.last.reason}",
            remedy=f"standfast round show {seen.last.number}",
        )  # fmt: skip


def _progress(seen: Observed, current: RoundSeen) -> Finding:
    counts = current.counts
    limit_s = IDLE_S if counts.running == 0 else seen.limits.longest_attempt_s
    is_waited_for = any(_is_of_wire(one) and one.running for one in seen.executors)
    is_open = counts.pending > 0 or counts.running > 0
    is_stuck = is_open and not is_waited_for and current.idle_s > limit_s
    if not is_stuck:
        done = counts.succeeded + counts.failed
        return Finding(
            "round", Verdict.PASS, "RoundMoves",
            f"round {current.number}: {done} of {counts.total} tasks ended", str(current.number),
        )  # fmt: skip
    why, remedy = stuck_because(seen)
    return Finding(
        "round", Verdict.FAIL, "RoundStuck", subject=str(current.number),
        message=f"nothing of round {current.number} was claimed or answered for {current.idle_s:.0f} s "
        f"({counts.pending} tasks wait, {counts.running} run): {why}",
        remedy=remedy, evidence={"counts": counts.as_dict()},
    )  # fmt: skip


def stuck_because(seen: Observed) -> tuple[str, str]:
    """Return why work that waits is not taken, and what to do; the first cause that holds."""
    limits = seen.limits
    present = [one for one in seen.executors if not is_silent(one, limits)]
    waiting = [one for one in seen.subjects if one.open_tasks]
    causes: Sequence[tuple[bool, str, str]] = (
        (seen.is_draining, "an operator is draining it", "standfast task drain --off"),
        (not present, "no executor is there", "standfast executor, or standfast up"),
        (
            bool(present) and all(one.cordoned for one in present),
            "every executor is cordoned", "standfast executors uncordon NAME",
        ),
        (
            bool(waiting) and all(one.is_paused for one in waiting),
            "every subject with open tasks is paused", "standfast task resume NAME",
        ),
        (
            any(one.info.get("last_error") for one in present),
            "the executors have trouble of their own", "standfast logs EXECUTOR",
        ),
    )  # fmt: skip
    for is_so, why, remedy in causes:
        if is_so:
            return why, remedy
    return "the cause is not known", "standfast task ls; standfast logs EXECUTOR"


def _subjects(seen: Observed) -> Iterator[Finding]:
    for one in seen.subjects:
        own, ours = sum(one.own_errors.values()), sum(one.our_errors.values())
        if own and 2 * own >= one.ended:
            is_lost = one.ended >= _ENOUGH and own + ours >= one.ended
            yield Finding(
                "subject", Verdict.FAIL if is_lost else Verdict.PASS, "SubjectFailing", subject=one.name,
                message=f"subject {one.name}: {_listed(one.own_errors)}, of {one.ended} attempts",
                remedy=f"tell its owner; see standfast task ls --subject {one.name}",
                evidence={"errors": dict(one.own_errors)},
            )  # fmt: skip
        if one.is_paused:
            yield Finding(
                "subject", Verdict.PASS, "SubjectPaused", f"subject {one.name} is paused by an operator",
                one.name, remedy=f"standfast task resume {one.name}",
            )  # fmt: skip
    yield from _our_failures(seen)


def _our_failures(seen: Observed) -> Iterator[Finding]:
    codes: dict[str, int] = {}
    for one in seen.subjects:
        for code, count in one.our_errors.items():
            codes[code] = codes.get(code, 0) + count
    failed, ended = sum(codes.values()), sum(one.ended for one in seen.subjects)
    if failed >= _ENOUGH and 5 * failed >= ended:
        yield Finding(
            "attempts", Verdict.FAIL, "InfrastructureFailing",
            f"{failed} of {ended} attempts failed through no subject's doing: {_listed(codes)}",
            remedy="standfast task ls, then standfast task show ID; standfast logs EXECUTOR",
            evidence={"errors": codes},
        )  # fmt: skip


def _publication(seen: Observed) -> Iterator[Finding]:
    if not seen.limits.is_publishing:
        yield Finding("publication", Verdict.SKIPPED, "NotPublishing", "the configuration publishes nothing")
        return
    last, age_s = seen.last, seen.publication_age_s
    if last is not None and last.state == "withheld":
        yield Finding(
            "publication", Verdict.FAIL, "PublicationWithheld", subject=str(last.number),
            message=f"the weights of round {last.number} were withheld: {last.reason or last.code}; the last "
            "good ones stay",
            remedy=f"standfast round show {last.number}", evidence={"code": last.code},
        )  # fmt: skip
    elif last is not None and last.state == "complete" and last.idle_s > IDLE_S:
        yield Finding(
            "publication", Verdict.FAIL, "PublicationPending", subject=str(last.number),
            message=f"round {last.number} is complete for {last.idle_s:.0f} s and not published",
            remedy="standfast logs",
        )  # fmt: skip
    if age_s is None:
        if last is not None:
            yield Finding(
                "publication", Verdict.UNKNOWN, "NothingPublished", "nothing was published yet",
                remedy="standfast round ls",
            )  # fmt: skip
    elif age_s > seen.limits.publication_age_s:
        yield Finding(
            "publication", Verdict.FAIL, "PublicationStale", f"the last publication is {age_s:.0f} s old",
            remedy="standfast round ls",
        )  # fmt: skip
    else:
        yield Finding("publication", Verdict.PASS, "Published", f"the last publication is {age_s:.0f} s old")


def _listed(codes: Mapping[str, int]) -> str:
    ordered: list[tuple[str, int]] = sorted(codes.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {code}" for code, count in ordered[:5])


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
