"""Gathers what a status is judged from, and shows it whole: verdict, findings, and the numbers behind them.

It answers while the store does not: then that is the finding, beside what this process knows by itself.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from standfast import __version__
from standfast.app import views
from standfast.app.config import Config
from standfast.app.findings import LeaderSeen, Limits, Observed, RoundSeen, SubjectSeen, findings, is_silent
from standfast.app.plane import ControlPlane
from standfast.evaluation.model import OutcomeClass, RoundState
from standfast.evaluation.rounds import RoundRow
from standfast.facts.database import Queries, Tx, load_queries
from standfast.facts.database.ports import Dialect
from standfast.kernel.clock import iso
from standfast.kernel.errors import StandfastError, StoreError, StoreUnavailableError
from standfast.kernel.verdict import combine
from standfast.tasks.model import AttemptState, ExecutorInfo
from standfast.tasks.store import Control

T = TypeVar("T")
#: A beat is due every tick: so many missed ones are no chance.
_TICKS_LATE = 6.0
#: A look at the beat that is older than this says nothing about now.
_LOOK_S = 5.0
_AGAIN_S = 0.5


class Reader(Protocol):
    """Runs ``work`` on a snapshot of the store, within a limit."""

    def __call__(self, work: Callable[[Tx], T]) -> Awaitable[T]:
        """Return what ``work`` returned, or raise a StandfastError."""
        ...


class LeaderWatch:
    """Remembers when the leader's beat was last seen to move, by this process's own clock (I14).

    ``has_moved`` is False until a movement was seen by looks that follow each other closely: that a beat
    differs from the one of an hour ago does not say that it beats now.
    """

    def __init__(self) -> None:
        self._seen = (-1, -1)
        self._since = 0.0
        self._looked_at = float("-inf")
        self.has_moved = False

    def see(self, term: int, beat: int, now_s: float) -> float:
        """Return how long the beat has stood still while it was watched."""
        if now_s - self._looked_at > _LOOK_S:
            self._seen, self._since, self.has_moved = (term, beat), now_s, False
        elif (term, beat) != self._seen:
            self._seen, self._since, self.has_moved = (term, beat), now_s, True
        self._looked_at = now_s
        return now_s - self._since


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a status comes from: a bounded ``read`` of the store, and what this process knows itself."""

    read: Reader
    scheduler_state: Callable[[], Mapping[str, Any]]
    services_state: Callable[[], Sequence[Mapping[str, Any]]]
    watch: LeaderWatch


@dataclass(frozen=True, slots=True)
class StoreSeen:
    """What one snapshot of the store says."""

    control: Control
    executors: tuple[ExecutorInfo, ...]
    current: RoundSeen | None
    last: RoundSeen | None
    subjects: tuple[SubjectSeen, ...]
    round_view: dict[str, Any] | None
    last_view: dict[str, Any] | None
    publication: dict[str, Any] | None


async def status_view(plane: ControlPlane, sources: Sources) -> dict[str, Any]:
    """Return the whole status as plain JSON values; never raises for a store that is away."""
    error: StandfastError | None = None
    seen: StoreSeen | None = None
    state = sources.scheduler_state()
    try:
        seen = await sources.read(lambda tx: look(tx, plane))
        beat_s = await _beat(plane, sources, seen.control) if not state.get("is_leader") else None
    except (StoreUnavailableError, StoreError) as away:
        error, seen, beat_s = away, None, None
    services = [dict(one) for one in sources.services_state()]
    leader = _leader(plane, state, seen, beat_s)
    observed = _observed(plane, seen, error, leader=leader, services=services)
    judged = findings(observed)
    return {
        "verdict": combine(one.verdict for one in judged).name,
        "findings": [one.as_dict() for one in judged],
        "name": plane.config.instance.name,
        "version": __version__,
        "at": iso(plane.clock.wall()),
        "store": {"name": plane.database.name, "dialect": plane.database.dialect, "is_up": error is None},
        "leader": asdict(leader) if leader is not None else None,
        "is_draining": seen.control.is_draining if seen else None,
        "round": seen.round_view if seen else None,
        "last_round": seen.last_view if seen else None,
        "counts": seen.round_view["counts"] if seen and seen.round_view else None,
        "subjects": [asdict(one) for one in seen.subjects] if seen else [],
        "executors": [_executor(one, observed.limits) for one in observed.executors],
        "services": services,
        "publication": seen.publication if seen else None,
    }


def look(tx: Tx, plane: ControlPlane) -> StoreSeen:
    """Read everything that a status needs from one snapshot."""
    newest = plane.rounds.newest(tx, 5)
    current = newest[0] if newest and newest[0].state is RoundState.OPEN else None
    last = next((row for row in newest if row.state is not RoundState.OPEN), None)
    shown = current or last
    subjects, active_at = _subjects(tx, plane, shown)
    latest = plane.publications.latest(tx)
    return StoreSeen(
        control=plane.tasks.store.control(tx),
        executors=tuple(plane.tasks.store.executors(tx)),
        current=_round(tx, plane, current, max(active_at, current.opened_at)) if current else None,
        last=_round(tx, plane, last, last.ended_at) if last else None,
        subjects=subjects,
        round_view=views.round_summary(tx, plane, shown) if shown else None,
        last_view=views.round_summary(tx, plane, last) if last else None,
        publication=views.publication_view(tx, plane) if latest is not None else None,
    )


def _round(tx: Tx, plane: ControlPlane, row: RoundRow, active_at: str) -> RoundSeen:
    return RoundSeen(
        row.number, row.state.value, plane.rounds.counts(tx, row), _age_s(plane, active_at) or 0.0,
        row.code, row.reason,
    )  # fmt: skip


def _subjects(tx: Tx, plane: ControlPlane, row: RoundRow | None) -> tuple[tuple[SubjectSeen, ...], str]:
    """Return every subject of a round with how its attempts ended, and when anything last happened."""
    if row is None:
        return (), ""
    attempts = tx.rows(_queries(tx.dialect)["attempts_by_subject"], {"batch": row.plan.batch})
    ended, own, ours = _tally(attempts)
    by_subject = plane.tasks.store.counts_by_subject(tx, row.plan.batch)
    known = {one.name: one for one in plane.tasks.store.subjects(tx)}
    seen = []
    for subject in row.plan.subjects:
        name, counts = subject.name, by_subject.get(subject.name)
        seen.append(
            SubjectSeen(
                name, slots=known[name].slots if name in known else 0,
                is_paused=name in known and known[name].is_paused,
                open_tasks=counts.pending + counts.running if counts else 0,
                ended=ended.get(name, 0), own_errors=own.get(name, {}), our_errors=ours.get(name, {}),
            )
        )  # fmt: skip
    return tuple(seen), max((max(r[5], r[6]) for r in attempts), default="")


_ENDED = frozenset({AttemptState.RESULT, AttemptState.FAILED, AttemptState.EXPIRED})
Codes = dict[str, dict[str, int]]


def _tally(attempts: Sequence[tuple[Any, ...]]) -> tuple[dict[str, int], Codes, Codes]:
    """Return by subject: ended attempts, errors of its own, and errors of ours."""
    ended: dict[str, int] = {}
    own: Codes = {}
    ours: Codes = {}
    for subject, state, kind, code, count, _, _ in attempts:
        if AttemptState(state) not in _ENDED:
            continue
        ended[subject] = ended.get(subject, 0) + int(count)
        if not code:
            continue
        codes = (own if kind == OutcomeClass.SUBJECT_ERROR else ours).setdefault(subject, {})
        codes[code] = codes.get(code, 0) + int(count)
    return ended, own, ours


@functools.cache
def _queries(dialect: Dialect) -> Queries:
    return load_queries("standfast.app", dialect)


async def _beat(plane: ControlPlane, sources: Sources, control: Control) -> float:
    """Return how long another process's leader has been silent, watching it until that is known.

    Bounded: each turn waits, and it ends when the beat moves or has stood still for too long.
    """
    limit_s = limits_of(plane.config).leader_silent_s
    watch, now = sources.watch, plane.clock.monotonic
    silent_s = watch.see(control.term, control.beat, now())
    while control.leader and not watch.has_moved and silent_s <= limit_s:
        await asyncio.sleep(_AGAIN_S)
        control = await sources.read(plane.tasks.store.control)
        silent_s = watch.see(control.term, control.beat, now())
    return silent_s


def _leader(
    plane: ControlPlane, state: Mapping[str, Any], seen: StoreSeen | None, beat_s: float | None
) -> LeaderSeen | None:
    if seen is None and not state:
        return None
    jumped_at = str(state.get("clock_jump_at") or "")
    return LeaderSeen(
        seen.control.leader if seen else str(state.get("name", "")),
        seen.control.term if seen else int(state.get("term", 0)),
        state.get("last_tick_s") if state.get("is_leader") else beat_s,
        errors=tuple(state.get("errors", ())),
        jump_s=state.get("clock_jump_s", 0.0),
        jump_age_s=_age_s(plane, jumped_at),
    )


def _observed(
    plane: ControlPlane,
    seen: StoreSeen | None,
    error: StandfastError | None,
    *,
    leader: LeaderSeen | None,
    services: Sequence[Mapping[str, Any]],
) -> Observed:
    if seen is None:
        return Observed(limits_of(plane.config), store=error, leader=leader, services=services)
    published_at = seen.publication["settled_at"] if seen.publication else ""
    return Observed(
        limits_of(plane.config),
        is_draining=seen.control.is_draining,
        leader=leader,
        executors=seen.executors,
        current=seen.current,
        last=seen.last,
        subjects=seen.subjects,
        publication_age_s=_age_s(plane, published_at or ""),
        services=services,
    )


def limits_of(config: Config) -> Limits:
    """Return what counts as late in an instance with this configuration."""
    episode_s = config.evaluation.limits.timeout_s
    # A publication is renewed by each round: it is late when two in a row brought none.
    renewed_s = 2 * (max(config.evaluation.interval_s, 1.0) + config.evaluation.deadline_s)
    return Limits(
        executor_silent_s=config.tasks.executor_silent_s,
        leader_silent_s=max(5.0, _TICKS_LATE * config.scheduler.tick_s),
        longest_attempt_s=episode_s * 1.1 + config.tasks.lease_ttl_s + 10.0,
        publication_age_s=max(renewed_s, config.publication.max_age_s),
        is_publishing=config.publication.kind != "none",
    )


def _executor(one: ExecutorInfo, limits: Limits) -> dict[str, Any]:
    return {**asdict(one), "is_silent": is_silent(one, limits)}


def _age_s(plane: ControlPlane, instant: str) -> float | None:
    """Return how long ago an instant was by the wall clock, never negative; None for no instant."""
    if not instant:
        return None
    return max(0.0, (plane.clock.wall() - datetime.fromisoformat(instant)).total_seconds())
