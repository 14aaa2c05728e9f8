"""What is here in kinitro's words: rounds as cycles, attempts as tasks, publications as weights (K18).

1. ``cycle_id`` is the round's number. ``block_number`` is the number of its publication, 0 where nothing
   of it was published: it grows with each publication, which is what a validator compares (K17).
2. ``task_uuid`` is the attempt's name. A retry has another one, so an old attempt cannot speak for it (I3).
3. Kinitro's results have no word for whose fault an error was. One without a word is ours: it is tried
   again and never scored (K2, I6).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from standfast.app.reports import Invalid, to_report
from standfast.evaluation.model import RoundState
from standfast.evaluation.rounds import RoundRow
from standfast.kernel.canonical import canonical_json
from standfast.publication.store import PublicationRow
from standfast.tasks.attempts import token_of
from standfast.tasks.model import Answer, Counts, Lease, Report

PROTOCOL = "kinitro"
#: The code of an error that came without one.
UNCLASSIFIED = "UnclassifiedError"
_STATUSES: Mapping[RoundState, str] = {
    RoundState.OPEN: "running",
    RoundState.COMPLETE: "completed",
    RoundState.PUBLISHED: "completed",
    RoundState.WITHHELD: "completed",
    RoundState.FAILED: "failed",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
_LONGEST_ERROR = 2_000
_UNNAMED_TASK = "0" * 16


class WireResult(NamedTuple):
    """One result that can be stored once ``uuid`` has led to its task."""

    uuid: str
    token: int
    report: Report


class Flawed(NamedTuple):
    """One result that cannot be used; ``uuid`` is empty where none could be read."""

    uuid: str
    message: str


class ResultAnswer(NamedTuple):
    """What became of one result."""

    uuid: str
    answer: Answer
    message: str = ""


def executor_name(executor_id: str) -> str:
    """Return the name that an executor has here: its id, or one made from it where names are not so free."""
    if _NAME.fullmatch(executor_id):
        return executor_id
    code = hashlib.sha256(executor_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    plain = re.sub(r"[^A-Za-z0-9._:@-]+", "-", executor_id[:40]).strip("._:@-")
    return f"{plain or 'executor'}-{code}"


def lease_seconds(count: int, *, episode_s: float, lease_ttl_s: float) -> float:
    """Return how long ``count`` leases must last that nobody extends.

    Kinitro's executor runs what it fetched one after the other and reports at the end, or queues it behind
    one episode that runs; the ordinary lease on top is for bringing the results home (K15).
    """
    return (count + 1) * episode_s + lease_ttl_s


def task_of(lease: Lease, row: RoundRow, *, ttl_s: float) -> dict[str, Any]:
    """Return a lease as kinitro's task; what kinitro does not know stands after ``created_at``."""
    spec = json.loads(lease.spec)
    subject = next(one for one in row.plan.subjects if one.name == lease.subject)
    return {
        "task_uuid": lease.attempt_id,
        "cycle_id": row.number,
        "miner_uid": subject.uid,
        "miner_hotkey": subject.hotkey,
        "miner_endpoint": spec["endpoint"],
        "miner_repo": None,
        "miner_revision": None,
        "env_id": spec["environment"],
        "seed": spec["seed"],
        "status": "assigned",
        "created_at": row.opened_at,
        "task_id": lease.task_id,
        "token": lease.token,
        "attempt": lease.attempt,
        "ttl_s": ttl_s,
        "variant": spec["variant"],
        "limits": spec["limits"],
    }


def read_result(raw: object) -> WireResult | Flawed:
    """Return the result that ``raw`` makes, or why it makes none; never raises, and names no value."""
    if not isinstance(raw, Mapping):
        return Flawed("", "a result must be an object")
    uuid = raw.get("task_uuid")
    token = token_of(uuid)
    if token is None or not isinstance(uuid, str):
        return Flawed("", "task_uuid must be one that was fetched here")
    verification, flaw = _verification(raw)
    if flaw:
        return Flawed(uuid, flaw)
    said = {
        "task_id": _UNNAMED_TASK, "token": token, "success": raw.get("success"),
        "score": raw.get("score", 0.0), "total_reward": raw.get("total_reward", 0.0),
        "steps": raw.get("timesteps", 0), **_blame(raw),
    }  # fmt: skip
    report = to_report(said)
    if isinstance(report, Invalid):
        return Flawed(uuid, report.message)
    if verification:
        outcome = canonical_json({**json.loads(report.outcome), **verification})
        report = report._replace(outcome=outcome)
    return WireResult(uuid, token, report)


def _blame(raw: Mapping[Any, Any]) -> dict[str, Any]:
    """Return error, code and fault; kinitro's error texts have no bound, and a long one must not be lost."""
    error, fault = raw.get("error"), raw.get("fault")
    if isinstance(error, str):
        error = error[:_LONGEST_ERROR]
    if not error:
        return {"error": "", "error_code": raw.get("error_code"), "fault": fault}
    code = raw.get("error_code") or UNCLASSIFIED
    return {"error": error, "error_code": code, "fault": fault or "infrastructure"}


def _verification(raw: Mapping[Any, Any]) -> tuple[dict[str, Any], str]:
    """Return what was said about the deployed model, and what is wrong with it."""
    passed, match = raw.get("verification_passed"), raw.get("verification_score")
    if passed is not None and not isinstance(passed, bool):
        return {}, "verification_passed must be true, false or null"
    if match is not None and not _is_share(match):
        return {}, "verification_score must be a number from 0 to 1, or null"
    said = {"verification_passed": passed, "verification_score": match}
    return {name: value for name, value in said.items() if value is not None}, ""


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def submitted_of(answers: Sequence[ResultAnswer]) -> dict[str, Any]:
    """Return the reply to a batch: ``accepted`` counts what is durable because of it."""
    accepted = sum(one.answer is Answer.ACCEPTED for one in answers)
    return {
        "accepted": accepted,
        "rejected": len(answers) - accepted,
        "errors": [
            _error(index, one) for index, one in enumerate(answers) if one.answer is not Answer.ACCEPTED
        ],
        "items": [
            {"task_uuid": one.uuid, "status": one.answer.value, "message": one.message} for one in answers
        ],
    }


def _error(index: int, one: ResultAnswer) -> str:
    what = f"Task {one.uuid}" if one.uuid else f"Result {index}"
    if one.answer in (Answer.STALE, Answer.EXPIRED, Answer.UNKNOWN):
        return f"{what}: not found or not assigned to executor"
    return f"{what}: {one.message}"


def cycle_of(row: RoundRow, block: int) -> dict[str, Any]:
    """Return a round as kinitro's cycle."""
    return {
        "id": row.number,
        "block_number": block,
        "started_at": row.opened_at,
        "completed_at": row.ended_at or None,
        "status": _STATUSES[row.state],
        "n_miners": len(row.plan.subjects),
        "n_environments": len(row.plan.environments),
        "duration_seconds": duration_s(row),
    }


def duration_s(row: RoundRow) -> float | None:
    """Return how long a round was open by the wall clock, for people; None while it is."""
    if not row.ended_at:
        return None
    took = datetime.fromisoformat(row.ended_at) - datetime.fromisoformat(row.opened_at)
    return max(0.0, took.total_seconds())


def weights_of(publication: PublicationRow, row: RoundRow) -> dict[str, Any]:
    """Return a publication as kinitro's weights; the u16 values sum to 65535, as the chain wants them."""
    entries = sorted((int(uid), entry) for uid, entry in publication.document.weights.items())
    measured = row.result["rates"] if row.result is not None else {}
    return {
        "cycle_id": row.number,
        "block_number": publication.epoch,
        "timestamp": row.ended_at,
        "weights": {str(uid): entry.weight for uid, entry in entries},
        "weights_u16": {
            "uids": [uid for uid, _ in entries],
            "values": [entry.u16 for _, entry in entries],
        },
        "metadata": {
            "n_miners_evaluated": len(measured),
            "n_environments": len(row.plan.environments),
            "evaluation_duration_seconds": duration_s(row),
            "evidence_sha256": publication.document.evidence_sha256,
            "sha256": publication.sha256,
        },
        "hotkeys": {str(uid): entry.hotkey for uid, entry in entries},
    }


def scores_of(
    row: RoundRow, block: int, results: Mapping[tuple[str, str], tuple[int, float]]
) -> dict[str, Any]:
    """Return a round's scores; ``results`` has by (uid, environment) how many were scored, and their reward.

    A rate that was carried over says from which round; the counts beside it are those of this round.
    """
    rates, carried = _rates(row)
    scores = []
    for subject in row.plan.subjects:
        for environment in row.plan.environments:
            if subject.name not in rates:
                continue
            scored, reward = results.get((subject.name, environment.id), (0, 0.0))
            expected = 0 if row.is_pruned else len(environment.variants)
            scores.append(
                {
                    "uid": subject.uid,
                    "hotkey": subject.hotkey,
                    "env_id": environment.id,
                    "success_rate": rates[subject.name][environment.id],
                    "mean_reward": reward,
                    "episodes_completed": scored,
                    "episodes_failed": max(0, expected - scored),
                    "carried_from": carried.get(subject.name),
                }
            )
    return {
        "cycle": cycle_of(row, block),
        "scores": scores,
        "miner_summary": {uid: dict(by_environment) for uid, by_environment in rates.items()},
        "is_pruned": row.is_pruned,
    }


def carried_rounds(row: RoundRow) -> set[int]:
    """Return the earlier rounds whose rates stand in for some subject of ``row``."""
    return set(_rates(row)[1].values())


def miners_of(row: RoundRow, blocks: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return every miner that ``row`` has rates of, in one pass; ``blocks`` has each round's publication."""
    rates, carried = _rates(row)
    return [
        {
            "uid": subject.uid,
            "hotkey": subject.hotkey,
            "last_evaluated_block": blocks.get(carried.get(subject.name, row.number)) or None,
            "avg_success_rate": _mean(rates[subject.name].values()),
            "environments_evaluated": list(rates[subject.name]),
        }
        for subject in row.plan.subjects
        if subject.name in rates
    ]


def environments_of(names: Sequence[str], row: RoundRow | None) -> list[dict[str, Any]]:
    """Return the environments; ``row`` is the last round with rates, whose miners are counted."""
    rates = _rates(row)[0] if row is not None else {}
    listed = []
    for name in names:
        seen = [by_environment[name] for by_environment in rates.values() if name in by_environment]
        family, _, task = name.partition("/")
        listed.append(
            {
                "env_id": name,
                "env_name": family,
                "task_name": task,
                "n_evaluations": len(seen),
                "avg_success_rate": _mean(seen),
            }
        )
    return listed


def stats_of(counts: Counts, executors: Sequence[str], cycle_id: int | None) -> dict[str, Any]:
    """Return how tasks stand. A lost episode is completed; failed is what ended without a result."""
    return {
        "total_tasks": counts.total,
        "pending_tasks": counts.pending,
        "assigned_tasks": counts.running,
        "completed_tasks": counts.succeeded,
        "failed_tasks": counts.failed,
        "active_executors": list(executors),
        "current_cycle_id": cycle_id,
    }


def _rates(row: RoundRow) -> tuple[Mapping[str, Mapping[str, float]], dict[str, int]]:
    """Return a round's rates by uid, and for each that was carried over the round that measured it."""
    if row.result is None:
        return {}, {}
    return row.result["rates"], {uid: one["round"] for uid, one in row.result["carried"].items()}


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else None
