"""Kinitro's requests on the store: looking, fetching and submitting, each in one transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from standfast.app import wire
from standfast.app.plane import ControlPlane
from standfast.evaluation.model import RoundState
from standfast.evaluation.rounds import RoundRow
from standfast.facts.database import Tx
from standfast.kernel.errors import NotFoundError
from standfast.tasks.attempts import name_of
from standfast.tasks.driver import Claim
from standfast.tasks.model import Answer, Counts, Lease

#: Kinitro's executors say nothing of their lives.
_INSTANCE = "wire"
#: No number of ours is larger, and no store takes one that is much larger.
_LARGEST = 2**53


class Fetch(NamedTuple):
    """What an executor asks for; no environments means all."""

    executor: str
    limit: int
    environments: tuple[str, ...] = ()


def status(tx: Tx, plane: ControlPlane) -> dict[str, Any]:
    """Return how the network stands."""
    newest = _newest(tx, plane)
    last = plane.rounds.last_scored(tx)
    current = newest if newest is not None and newest.state is RoundState.OPEN else None
    return {
        "current_cycle": wire.cycle_of(current, 0) if current is not None else None,
        "last_completed_cycle": wire.cycle_of(last, _block(tx, plane, last.number)) if last else None,
        "total_cycles": newest.number if newest is not None else 0,
        "total_miners_evaluated": len(last.result["rates"]) if last is not None and last.result else 0,
        "environments": _environments(plane),
        "is_evaluating": current is not None,
    }


def weights(tx: Tx, plane: ControlPlane, block: int | None) -> dict[str, Any]:
    """Return the publication of number ``block``, or the last one by its number (K17); else NotFoundError."""
    if block is None:
        found = plane.publications.latest(tx)
        missing = "No weights available yet"
    else:
        found = plane.publications.published(tx, block) if 0 < block < _LARGEST else None
        missing = f"No weights found for block {block}"
    row = plane.rounds.get(tx, found.round_number) if found is not None else None
    if found is None or row is None:
        raise NotFoundError(missing)
    return wire.weights_of(found, row)


def scores(tx: Tx, plane: ControlPlane, cycle_id: int | None) -> dict[str, Any]:
    """Return the scores of one round, or of the newest that has any; else NotFoundError."""
    row = plane.rounds.last_scored(tx) if cycle_id is None else _round(tx, plane, cycle_id)
    if row is None:
        raise NotFoundError(
            "No completed evaluations yet" if cycle_id is None else f"Cycle {cycle_id} not found"
        )
    results = plane.tasks.store.outcome_means(tx, row.plan.batch, "total_reward") if row.result else {}
    return wire.scores_of(row, _block(tx, plane, row.number), results)


def miners(tx: Tx, plane: ControlPlane) -> list[dict[str, Any]]:
    """Return the miners of the newest round that has scores."""
    row = plane.rounds.last_scored(tx)
    if row is None:
        return []
    numbers = {row.number, *wire.carried_rounds(row)}
    return wire.miners_of(row, {number: _block(tx, plane, number) for number in numbers})


def environments(tx: Tx, plane: ControlPlane) -> list[dict[str, Any]]:
    """Return the environments of the rounds to come, with what the last scored round says of them."""
    return wire.environments_of(_environments(plane), plane.rounds.last_scored(tx))


def stats(tx: Tx, plane: ControlPlane, cycle_id: int | None) -> dict[str, Any]:
    """Return how the tasks of one round stand, or of the open one, or of the last where none is open."""
    newest = _newest(tx, plane)
    is_open = newest is not None and newest.state is RoundState.OPEN
    row = newest if cycle_id is None else _round(tx, plane, cycle_id)
    if cycle_id is None and newest is not None and is_open:
        cycle_id = newest.number
    counts = plane.rounds.counts(tx, row) if row is not None else Counts()
    holders = [one.name for one in plane.tasks.store.executors(tx) if one.running] if counts.running else []
    return wire.stats_of(counts, holders, cycle_id)


def fetch(tx: Tx, plane: ControlPlane, asked: Fetch) -> dict[str, Any]:
    """Lease tasks for as long as an executor that never extends them may need."""
    grant = plane.tasks.claim(tx, _said(asked.executor)._replace(limit=asked.limit, lanes=asked.environments))
    ttl_s = _prolong(tx, plane, asked.executor, grant.leases)
    row = _newest(tx, plane)
    return {
        "tasks": [_task(lease, row, ttl_s) for lease in grant.leases],
        "total_pending": plane.tasks.store.pending(tx),
        "reason": grant.reason,
    }


def _task(lease: Lease, row: RoundRow | None, ttl_s: float) -> dict[str, Any]:
    # The tasks of a round are cancelled when it ends, and the next one opens only then.
    assert row is not None, "a task has a round"
    assert row.plan.batch == lease.batch, "only the newest round has work"
    return wire.task_of(lease, row, ttl_s=ttl_s)


def _prolong(tx: Tx, plane: ControlPlane, executor: str, leases: Sequence[Lease]) -> float:
    if not leases:
        return 0.0
    episode_s = max(float(json.loads(lease.spec)["limits"]["timeout_s"]) for lease in leases)
    ttl_s = wire.lease_seconds(len(leases), episode_s=episode_s, lease_ttl_s=plane.config.tasks.lease_ttl_s)
    now_ms = plane.tasks.store.control(tx).now_ms
    held = [(name, lease.token) for lease in leases if (name := name_of(lease.task_id)) is not None]
    plane.tasks.store.leases.extend(
        tx, held, executor, now_ms=now_ms, expires_at_ms=now_ms + int(ttl_s * 1000)
    )
    return ttl_s


def _said(executor: str) -> Claim:
    """Return what an executor says of itself, which status judges its silence by."""
    return Claim(executor, _INSTANCE, 0, {"protocol": wire.PROTOCOL})


def submit(
    tx: Tx, plane: ControlPlane, executor: str, results: Sequence[wire.WireResult | wire.Flawed]
) -> dict[str, Any]:
    """Store a batch of results, each with its own answer (K3)."""
    plane.tasks.heartbeat(tx, _said(executor), [])
    usable = {i: one for i, one in enumerate(results) if isinstance(one, wire.WireResult)}
    known = plane.tasks.store.attempts_of(tx, [one.token for one in usable.values()])
    # The token only leads to an attempt; that it is the one that was meant, its whole name must say.
    named = {i: one for i, one in usable.items() if known.get(one.token, ("", ""))[0] == one.uuid}
    reports = [one.report._replace(task_id=known[one.token][1]) for one in named.values()]
    answers = dict(zip(named, plane.tasks.submit(tx, executor, reports), strict=True))
    told = []
    for index, one in enumerate(results):
        if isinstance(one, wire.Flawed):
            told.append(wire.ResultAnswer(one.uuid, Answer.INVALID, one.message))
        elif index not in answers:
            told.append(wire.ResultAnswer(one.uuid, Answer.UNKNOWN, "there is no such task"))
        else:
            told.append(wire.ResultAnswer(one.uuid, answers[index].answer, answers[index].message))
    return wire.submitted_of(told)


def _newest(tx: Tx, plane: ControlPlane) -> RoundRow | None:
    rows = plane.rounds.newest(tx, 1)
    return rows[0] if rows else None


def _round(tx: Tx, plane: ControlPlane, number: int) -> RoundRow | None:
    return plane.rounds.get(tx, number) if 0 < number < _LARGEST else None


def _block(tx: Tx, plane: ControlPlane, number: int) -> int:
    """Return the number under which a round was published; 0 where it was not."""
    publication = plane.publications.of_round(tx, number)
    return publication.epoch if publication is not None and publication.state == "published" else 0


def _environments(plane: ControlPlane) -> list[str]:
    return [environment.id for environment in plane.config.evaluation.environments]
