"""The document that a round's weights can be recomputed from, by anyone, without the store.

It holds the plan, the revealed secret, one row per episode and the result. ``verify`` trusts none of the
numbers in it: seeds, task names, rates, weights and u16 are made again and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from standfast.evaluation.decide import Carried, Earlier, Measured, measure
from standfast.evaluation.model import OutcomeClass, Scores
from standfast.evaluation.plan import RoundPlan, plan_from_json, plan_to_json, tasks_of
from standfast.evaluation.scoring import ScoreSheet, explain, score
from standfast.evaluation.scoring.score import Burned, Hold
from standfast.evaluation.seeds import commit
from standfast.kernel.canonical import digest
from standfast.kernel.verdict import Finding, Verdict

SCHEMA = "standfast.evidence/1"
_SCORED = frozenset({OutcomeClass.WON, OutcomeClass.LOST, OutcomeClass.SUBJECT_ERROR})
_REMEDY = "do not use these weights; compare with other copies of the evidence and ask its publisher"

Row = Mapping[str, Any]


def count_classes(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, int]]:
    """Count scored episodes by (uid, environment) and class; a row without a class was not scored."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        if row["class"] in _SCORED:
            cell = counts.setdefault((row["subject"], row["environment"]), {})
            cell[row["class"]] = cell.get(row["class"], 0) + 1
    return counts


def score_measured(plan: RoundPlan, measured: Measured) -> ScoreSheet:
    """Score what was measured under the plan's policy.

    The tolerance uses the smallest number of episodes of any environment: the least certain one rules.
    """
    blocks = {subject.name: subject.committed_block for subject in plan.subjects}
    scores = Scores(
        environments=tuple(e.id for e in plan.environments),
        rates=measured.rates,
        first_blocks={uid: blocks[uid] for uid in measured.rates},
        episodes_per_env=min(len(e.variants) for e in plan.environments),
    )
    return score(scores, plan.scoring)


def result_of(plan: RoundPlan, measured: Measured, sheet: ScoreSheet) -> dict[str, Any]:
    """Return the part of the evidence that is computed: rates, shares, points, weights, u16, outcome."""
    outcome = sheet.outcome
    word = "hold" if isinstance(outcome, Hold) else "burn" if isinstance(outcome, Burned) else "weights"
    return {
        "rates": {uid: dict(row) for uid, row in measured.rates.items()},
        "shares": dict(measured.shares),
        "carried": {
            uid: {"round": c.round_number, "rates": dict(c.rates), "share": c.share}
            for uid, c in measured.carried.items()
        },
        "missing": list(measured.missing),
        "points": dict(sheet.points),
        "frontier": list(sheet.frontier),
        "outcome": word,
        "reason": getattr(outcome, "reason", ""),
        "weights": dict(outcome.weights),
        "u16": dict(outcome.u16),
    }


def explanations(sheet: ScoreSheet) -> list[dict[str, Any]]:
    """Return for each subject why it has its weight, as JSON values."""
    return [
        {
            "uid": e.uid, "weight": e.weight, "u16": e.u16, "points": e.points, "sets_won": e.sets_won,
            "sets_total": e.sets_total, "is_on_frontier": e.is_on_frontier, "reason": e.reason,
            "dominated_by": list(e.dominated_by), "beaten_by": list(e.beaten_by),
            "standings": [
                {"environment": s.environment, "rate": s.rate, "threshold": s.threshold, "holder": s.holder}
                for s in e.standings
            ],
        }
        for e in explain(sheet)
    ]  # fmt: skip


def build(plan: RoundPlan, secret: bytes, rows: Sequence[Row], result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the evidence document; rows are sorted by task key."""
    return {
        "schema": SCHEMA,
        "plan": plan_to_json(plan),
        "secret": secret.hex(),
        "episodes": sorted((dict(row) for row in rows), key=lambda row: str(row["key"])),
        "result": dict(result),
    }


def verify(evidence: Mapping[str, Any], *, recorded_sha256: str = "") -> list[Finding]:
    """Recompute everything and return one finding per thing that was recomputed.

    Any malformed part makes its finding UNKNOWN, never PASS (I1); nothing is raised for bad content.
    """
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("evidence-digest", lambda: _digest_flaw(evidence, recorded_sha256)),
        ("seed-commitment", lambda: _commitment_flaw(evidence)),
        ("episodes", lambda: _episodes_flaw(evidence)),
        ("rates", lambda: _rates_flaw(evidence)),
        ("weights", lambda: _weights_flaw(evidence)),
    )
    return [_finding(name, check) for name, check in checks]


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        flaw = check()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        # The document came from outside: whatever its shape breaks is "could not be verified".
        message = f"the evidence is malformed: {type(error).__name__} {str(error)[:120]}"
        return Finding(name, Verdict.UNKNOWN, "Malformed", message, remedy="get the evidence again")
    if flaw.startswith("?"):
        return Finding(name, Verdict.UNKNOWN, "NotRecorded", flaw[1:], remedy="ask a running instance for it")
    if flaw:
        return Finding(name, Verdict.FAIL, "Mismatch", flaw, remedy=_REMEDY)
    return Finding(name, Verdict.PASS, "Recomputed", _GOOD[name])


_GOOD = {
    "evidence-digest": "the document has the digest that was recorded when the round ended",
    "seed-commitment": "the revealed secret fits the commitment that was published before the round",
    "episodes": "every episode is planned, has the seed that the secret gives, and counts once",
    "rates": "the rates follow from the episodes",
    "weights": "points, weights and u16 follow from the rates",
}


def _digest_flaw(evidence: Mapping[str, Any], recorded: str) -> str:
    if evidence["schema"] != SCHEMA:
        return f"the schema is {evidence['schema']!r}, this version verifies {SCHEMA}"
    if not recorded:
        return "?no digest was given to compare with"
    actual = digest(evidence)
    return "" if actual == recorded else f"the document has digest {actual}, recorded was {recorded}"


def _commitment_flaw(evidence: Mapping[str, Any]) -> str:
    plan = plan_from_json(evidence["plan"])
    expected = commit(bytes.fromhex(evidence["secret"]), round_id=plan.batch)
    given = plan.commitment
    return "" if expected == given else f"the secret gives commitment {expected}, the plan has {given}"


def _episodes_flaw(evidence: Mapping[str, Any]) -> str:
    plan = plan_from_json(evidence["plan"])
    planned = {task.key: task for task in tasks_of(plan, bytes.fromhex(evidence["secret"]), lambda: 0.5)}
    seen: set[str] = set()
    for row in evidence["episodes"]:
        task = planned.get(row["key"])
        if task is None:
            return f"{row['key']} was not planned"
        if row["key"] in seen:
            return f"{row['key']} counts twice"
        seen.add(row["key"])
        expected = (task.task_id, task.spec["seed"], task.spec["variant"], task.subject, task.lane)
        actual = (row["task"], row["seed"], row["variant"], row["subject"], row["environment"])
        if expected != actual:
            return f"{row['key']} should be {expected} and is {actual}"
    missing = planned.keys() - seen
    return f"{len(missing)} planned episodes are not in the evidence, {min(missing)} first" if missing else ""


def _rates_flaw(evidence: Mapping[str, Any]) -> str:
    plan = plan_from_json(evidence["plan"])
    result = evidence["result"]
    earlier = [
        Earlier(c["round"], {uid: c["rates"]}, {uid: c["share"]}) for uid, c in result["carried"].items()
    ]
    measured = measure(plan, count_classes(evidence["episodes"]), earlier)
    for name, ours in (("rates", measured.rates), ("shares", measured.shares)):
        if dict(ours) != result[name]:
            return f"the {name} recompute to {dict(ours)}, the evidence says {result[name]}"
    return ""


def _weights_flaw(evidence: Mapping[str, Any]) -> str:
    plan, result = plan_from_json(evidence["plan"]), evidence["result"]
    carried = {uid: Carried(c["round"], c["rates"], c["share"]) for uid, c in result["carried"].items()}
    measured = Measured(result["rates"], result["shares"], carried, tuple(result["missing"]))
    again = result_of(plan, measured, score_measured(plan, measured))
    for name in ("points", "frontier", "outcome", "weights", "u16"):
        if again[name] != result[name]:
            return f"{name} recompute to {again[name]}, the evidence says {result[name]}"
    return ""
