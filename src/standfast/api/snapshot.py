"""Looks at the instance once for Prometheus, within a limit."""

from __future__ import annotations

import re
from datetime import datetime

from standfast.api.context import Context
from standfast.api.metrics import Snapshot
from standfast.app.plane import ControlPlane
from standfast.facts.database import Tx
from standfast.kernel.errors import StoreError, StoreUnavailableError
from standfast.tasks.model import Counts

_LOOK_S = 3.0
#: Error codes come from executors; as labels only what has the shape of a code is taken.
_CODE = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


async def take(context: Context) -> Snapshot:
    """Return the instance as it stands; only ``is_store_up`` where the store does not answer."""
    leads = context.scheduler_state().get("is_leader")
    is_leading = bool(leads) if leads is not None else None
    try:
        return await context.access.read(lambda tx: _look(tx, context.plane, is_leading), limit_s=_LOOK_S)
    except (StoreUnavailableError, StoreError):
        return Snapshot(is_store_up=False, is_leading=is_leading)


def _look(tx: Tx, plane: ControlPlane, is_leading: bool | None) -> Snapshot:
    newest = plane.rounds.newest(tx, 1)
    row = newest[0] if newest else None
    publication = plane.publications.latest(tx)
    return Snapshot(
        is_store_up=True,
        round_number=row.number if row is not None else None,
        round_age_s=_age_s(plane, row.opened_at) if row is not None else None,
        publication_epoch=publication.epoch if publication is not None else None,
        publication_age_s=_age_s(plane, publication.settled_at) if publication is not None else None,
        tasks=_tasks(plane.rounds.counts(tx, row)) if row is not None else {},
        outcomes=_outcomes(tx, plane, row.plan.batch) if row is not None else {},
        attempts=_attempts(tx, plane, row.plan.batch) if row is not None else {},
        executors={one.name: (one.silent_s, one.running) for one in plane.tasks.store.executors(tx)},
        is_leading=is_leading,
    )


def _tasks(counts: Counts) -> dict[str, int]:
    """Return disjoint numbers only: a sum over the labels must not count a task twice (I5)."""
    return {
        "succeeded": counts.succeeded,
        "running": counts.running,
        "waiting": counts.waiting,
        "paused": counts.paused,
        "dead": counts.dead,
        "cancelled": counts.cancelled,
    }


def _outcomes(tx: Tx, plane: ControlPlane, batch: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, _, kind, count in tx.rows(plane.tasks.store.sql["outcome_counts"], {"batch": batch}):
        found[kind] = found.get(kind, 0) + int(count)
    return found


def _attempts(tx: Tx, plane: ControlPlane, batch: str) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for state, code, count in plane.tasks.attempt_counts(tx, batch):
        shown = code if not code or _CODE.fullmatch(code) else "other"
        found[state, shown] = found.get((state, shown), 0) + count
    return found


def _age_s(plane: ControlPlane, instant: str) -> float | None:
    if not instant:
        return None
    return max(0.0, (plane.clock.wall() - datetime.fromisoformat(instant)).total_seconds())
