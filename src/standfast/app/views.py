"""What one may look at: rounds, scores, miners and publications as plain JSON values.

``latest`` is the newest round; a round's secret is never shown while it is open (K1 c).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from standfast.app.plane import ControlPlane
from standfast.evaluation.model import OutcomeClass, RoundState
from standfast.evaluation.plan import plan_to_json
from standfast.evaluation.rounds import RoundRow
from standfast.facts.database import Tx
from standfast.kernel.errors import ConflictError, NotFoundError
from standfast.publication.document import render
from standfast.publication.store import PublicationRow

_CLASSES = tuple(c.value for c in OutcomeClass if c is not OutcomeClass.INFRA_ERROR)


def find_round(tx: Tx, plane: ControlPlane, ref: str, *, with_result: bool = False) -> RoundRow:
    """Return the round that ``ref`` names: a number, ``latest``, or the newest with a result.

    ``latest`` means the newest round that is over, or the open one where there is no other.
    """
    if ref == "latest":
        newest = plane.rounds.newest(tx, 20)
        over = [row for row in newest if row.state is not RoundState.OPEN]
        if with_result:
            over = [row for row in over if row.result is not None]
        found = (over or ([] if with_result else newest))[:1]
        if found:
            return found[0]
        raise NotFoundError(
            "no round is over yet" if newest else "there is no round yet", fix="standfast status --watch"
        )
    row = plane.rounds.get(tx, int(ref)) if ref.isascii() and ref.isdigit() and len(ref) < 16 else None
    if row is None:
        raise NotFoundError(f"there is no round {ref[:32]}", why=_known(tx, plane), fix="standfast round ls")
    return row


def _known(tx: Tx, plane: ControlPlane) -> str:
    newest = plane.rounds.newest(tx, 1)
    return f"the newest is {newest[0].number}" if newest else "none was opened yet"


def rounds_list(tx: Tx, plane: ControlPlane, limit: int) -> list[dict[str, Any]]:
    """Return the last rounds, newest first, with their disjoint counts."""
    return [round_summary(tx, plane, row) for row in plane.rounds.newest(tx, limit)]


def round_summary(tx: Tx, plane: ControlPlane, row: RoundRow) -> dict[str, Any]:
    """Return one round without its plan and explanations."""
    publication = plane.publications.of_round(tx, row.number)
    return {
        "round": row.number,
        "state": row.state.value,
        "opened_at": row.opened_at,
        "ended_at": row.ended_at or None,
        "deadline_in_s": _deadline_in_s(tx, plane, row),
        "code": row.code,
        "reason": row.reason,
        "counts": plane.rounds.counts(tx, row).as_dict(),
        "expected": row.plan.expected,
        "commitment": row.plan.commitment,
        "evidence_sha256": row.evidence_sha256 or None,
        "epoch": publication.epoch if publication is not None and publication.state == "published" else None,
        "weights": row.result["weights"] if row.result is not None else None,
    }


def _deadline_in_s(tx: Tx, plane: ControlPlane, row: RoundRow) -> float | None:
    if row.state is not RoundState.OPEN:
        return None
    return max(0.0, (row.deadline_ms - plane.tasks.store.control(tx).now_ms) / 1000)


def round_view(tx: Tx, plane: ControlPlane, ref: str) -> dict[str, Any]:
    """Return one round whole: plan, progress per subject, scores, and why each weight is what it is."""
    row = find_round(tx, plane, ref)
    view = round_summary(tx, plane, row)
    by_subject = plane.tasks.store.counts_by_subject(tx, row.plan.batch)
    classes = _classes(tx, plane, row)
    view["plan"] = plan_to_json(row.plan)
    view["secret"] = None if row.state is RoundState.OPEN else row.secret.hex()
    view["subjects"] = [
        {
            "uid": subject.name,
            "hotkey": subject.hotkey,
            "endpoint": subject.endpoint,
            "committed_block": subject.committed_block,
            "counts": by_subject[subject.name].as_dict() if subject.name in by_subject else None,
            "classes": classes.get(subject.name, {}),
        }
        for subject in row.plan.subjects
    ]
    view["attempts"] = attempt_counts(tx, plane, row)
    view["result"] = _result(row)
    view["publication"] = _publication(plane.publications.of_round(tx, row.number))
    return view


def _result(row: RoundRow) -> dict[str, Any] | None:
    return dict(row.result) if row.result is not None else None


def _classes(tx: Tx, plane: ControlPlane, row: RoundRow) -> dict[str, dict[str, dict[str, int]]]:
    """Return counts by subject, environment and class, in one pass over grouped rows."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    rows = tx.rows(plane.tasks.store.sql["outcome_counts"], {"batch": row.plan.batch})
    for subject, lane, outcome_class, number in rows:
        cell = found.setdefault(subject, {}).setdefault(lane, dict.fromkeys(_CLASSES, 0))
        cell[outcome_class] = int(number)
    return found


def attempt_counts(tx: Tx, plane: ControlPlane, row: RoundRow) -> list[dict[str, Any]]:
    """Return how the round's attempts ended, by state and error code (K2: counts per class are visible)."""
    return [
        {"state": state, "error_code": code, "count": count}
        for state, code, count in plane.tasks.attempt_counts(tx, row.plan.batch)
    ]


def round_evidence(tx: Tx, plane: ControlPlane, ref: str) -> dict[str, Any]:
    """Return the evidence of a round, what was recorded of it, and its publication."""
    row = find_round(tx, plane, ref, with_result=True)
    if row.result is None:
        state = "still open" if row.state is RoundState.OPEN else row.state.value
        raise ConflictError(
            f"round {row.number} is {state}: it has no evidence", why=row.reason, fix="standfast round ls"
        )
    if row.is_pruned:
        raise ConflictError(
            f"the episodes of round {row.number} were pruned", fix="raise evaluation.keep_rounds"
        )
    publication = plane.publications.of_round(tx, row.number)
    is_out = publication is not None and publication.state == "published"
    return {
        "evidence": plane.rounds.evidence(tx, row),
        "recorded": {
            "round": row.number, "state": row.state.value, "evidence_sha256": row.evidence_sha256,
            "ended_at": row.ended_at,
        },
        "publication": json.loads(render(publication.document)) if publication and is_out else None,
    }  # fmt: skip


def scores_view(tx: Tx, plane: ControlPlane, ref: str) -> dict[str, Any]:
    """Return the scores of one round; the only serializer of score replies."""
    row = find_round(tx, plane, ref, with_result=True)
    if row.result is None:
        raise ConflictError(f"round {row.number} has no scores", why=row.reason, fix="standfast round ls")
    result = row.result
    return {
        "round": row.number,
        "state": row.state.value,
        "ended_at": row.ended_at,
        "scores": [
            {
                "uid": subject.name,
                "hotkey": subject.hotkey,
                "rates": result["rates"].get(subject.name),
                "share": result["shares"].get(subject.name),
                "carried_from": result["carried"].get(subject.name, {}).get("round"),
                "points": result["points"].get(subject.name, 0.0),
                "weight": result["weights"].get(subject.name, 0.0),
            }
            for subject in row.plan.subjects
        ],
    }


def miners_view(tx: Tx, plane: ControlPlane) -> list[dict[str, Any]]:
    """Return every subject of the newest round that has one, with its slots and last scores."""
    newest = plane.rounds.newest(tx, 1)
    if not newest:
        return []
    scored = [row for row in plane.rounds.newest(tx, 20) if row.result is not None][:1]
    slots = {row.name: row for row in plane.tasks.store.subjects(tx)}
    result: Mapping[str, Any] = scored[0].result or {} if scored else {}
    return miners_of(newest[0], slots, result)


def miners_of(row: RoundRow, slots: Mapping[str, Any], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one entry per subject, in one pass: every look-up is by key (K13)."""
    rates, weights = result.get("rates", {}), result.get("weights", {})
    return [
        {
            "uid": subject.uid,
            "hotkey": subject.hotkey,
            "endpoint": subject.endpoint,
            "committed_block": subject.committed_block,
            "slots": slots[subject.name].slots if subject.name in slots else None,
            "is_paused": slots[subject.name].is_paused if subject.name in slots else None,
            "mean_rate": _mean(rates[subject.name].values()) if subject.name in rates else None,
            "rates": rates.get(subject.name),
            "weight": weights.get(subject.name, 0.0) if weights else None,
        }
        for subject in row.plan.subjects
    ]


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None


def publication_view(tx: Tx, plane: ControlPlane) -> dict[str, Any]:
    """Return the last publication, by its number."""
    latest = _publication(plane.publications.latest(tx))
    if latest is None:
        raise NotFoundError("nothing was published yet", fix="standfast round ls")
    return latest


def _publication(row: PublicationRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "epoch": row.epoch,
        "round": row.round_number,
        "state": row.state,
        "sha256": row.sha256,
        "settled_at": row.settled_at or None,
        "reason": row.reason,
        "document": json.loads(render(row.document)),
    }
