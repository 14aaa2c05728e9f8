"""What a miner asks: am I reachable, how did each of my episodes go and why, what of mine still waits (K20).

It never shows a seed: while a round is open every subject still plays the same ones (K1 d).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from standfast.app import views
from standfast.app.plane import ControlPlane
from standfast.evaluation.episode.blame import CODES
from standfast.evaluation.model import Subject
from standfast.evaluation.rounds import RoundRow
from standfast.facts.database import Tx
from standfast.kernel.errors import NotFoundError
from standfast.kernel.verdict import Finding, Verdict
from standfast.tasks.model import TaskState

#: Errors after which nothing of the subject's program can have been reached.
UNREACHED = frozenset(
    {
        "SubjectEndpointInvalid", "SubjectAddressForbidden", "SubjectNameUnknown", "SubjectRefused",
        "SubjectUnreachable", "SubjectTlsFailed",
    }
)  # fmt: skip


def miner_view(tx: Tx, plane: ControlPlane, uid: str, ref: str = "") -> dict[str, Any]:
    """Return one subject of a round: the one that ``ref`` names, else the open one, else the last."""
    newest = [] if ref else plane.rounds.newest(tx, 1)
    row = newest[0] if newest else views.find_round(tx, plane, ref or "latest")
    subject = next((one for one in row.plan.subjects if one.name == uid), None)
    if subject is None:
        known = ", ".join(one.name for one in row.plan.subjects[:20])
        raise NotFoundError(
            f"round {row.number} has no subject {uid[:16]}", why=f"it has {known}", fix="standfast status"
        )
    episodes = _episodes(tx, plane, row, uid)
    counts = plane.tasks.store.counts_by_subject(tx, row.plan.batch)
    slots = {one.name: one for one in plane.tasks.store.subjects(tx)}.get(uid)
    codes = Counter(one["error_code"] for one in episodes if one["error_code"])
    answered = sum(one["class"] in ("won", "lost") for one in episodes)
    mine = counts.get(uid)
    return {
        **_who(subject),
        "round": row.number,
        "state": row.state.value,
        "slots": slots.slots if slots is not None else None,
        "is_paused": slots.is_paused if slots is not None else None,
        "counts": mine.as_dict() if mine is not None else None,
        "queue": {
            "mine": mine.pending if mine is not None else 0,
            "all": sum(one.pending for one in counts.values()),
            "running": mine.running if mine is not None else 0,
        },
        "reachable": reachable(subject, codes, answered=answered).as_dict(),
        "errors": [
            {"code": code, "count": count, "meaning": meaning(code)} for code, count in codes.most_common()
        ],
        "episodes": episodes,
    }


def _who(subject: Subject) -> dict[str, Any]:
    return {
        "uid": subject.uid,
        "hotkey": subject.hotkey,
        "endpoint": subject.endpoint,
        "committed_block": subject.committed_block,
    }


def _episodes(tx: Tx, plane: ControlPlane, row: RoundRow, uid: str) -> list[dict[str, Any]]:
    rows = tx.rows(plane.tasks.store.sql["batch_results"], {"batch": row.plan.batch})
    return [_episode(one) for one in rows if one[1] == uid]


def _episode(row: Sequence[Any]) -> dict[str, Any]:
    name, _, environment, key, spec, state, attempts, _, kind, outcome, _, started_at, ended_at = row
    said = json.loads(outcome) if outcome else {}
    return {
        "task_id": f"{name:016x}",
        "environment": environment,
        "episode": json.loads(spec).get("episode", key),
        "state": TaskState(state).name.lower(),
        "class": kind,
        "score": said.get("score"),
        "steps": said.get("steps"),
        "subject_s": said.get("subject_s"),
        "error_code": said.get("error_code") or None,
        "error": said.get("error") or None,
        "attempts": attempts,
        "started_at": started_at,
        "ended_at": ended_at,
    }


def reachable(subject: Subject, codes: Mapping[str, int], *, answered: int) -> Finding:
    """Judge from the episodes that ended whether the subject could be reached; none is UNKNOWN (I1)."""
    missed = {code: count for code, count in codes.items() if code in UNREACHED}
    reached = answered + sum(codes.values()) - sum(missed.values())
    name = subject.name
    if missed and not reached:
        worst = max(missed, key=lambda code: missed[code])
        return Finding(
            "reachable", Verdict.FAIL, worst, f"{sum(missed.values())} of {sum(missed.values())} episodes: "
            f"{meaning(worst)}", name,
            remedy=f"serve the policy at {subject.endpoint}, so that the executors can reach it",
            evidence=dict(missed),
        )  # fmt: skip
    if not reached:
        return Finding(
            "reachable", Verdict.UNKNOWN, "NoEpisodeEnded", "no episode of this round has ended yet", name,
            remedy="ask again in a while",
        )  # fmt: skip
    text = f"{reached} of {reached + sum(missed.values())} episodes reached it"
    return Finding("reachable", Verdict.PASS, "Reached", text, name, evidence=dict(missed))


def meaning(code: str) -> str:
    """Return what an error code says, for people; empty for one that is not ours."""
    if code == "Timeout":
        return "the episode was killed at its limit, most of which went into waiting for the subject"
    return CODES[code][1] if code in CODES else ""
