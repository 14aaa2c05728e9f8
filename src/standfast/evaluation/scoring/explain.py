"""Why each subject has its weight, in values that a command or a page can print."""

from __future__ import annotations

from dataclasses import dataclass

from standfast.evaluation.scoring.contest import hold_contest
from standfast.evaluation.scoring.policy import PolicyName
from standfast.evaluation.scoring.score import ScoreSheet
from standfast.evaluation.scoring.table import table_of


@dataclass(frozen=True, slots=True)
class Standing:
    """One subject in one environment.

    ``threshold`` is what a later subject must exceed, ``holder`` who won the environment on its own.
    """

    environment: str
    rate: float
    is_measured: bool
    threshold: float
    holder: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why ``uid`` has ``weight``; ``reason`` says it in one sentence.

    ``dominated_by`` and ``beaten_by`` (on all environments together) are in the order of commitment.
    """

    uid: str
    weight: float
    u16: int
    points: float
    sets_won: int
    sets_total: int
    is_on_frontier: bool
    dominated_by: tuple[str, ...]
    beaten_by: tuple[str, ...]
    standings: tuple[Standing, ...]
    reason: str


def explain(sheet: ScoreSheet) -> tuple[Explanation, ...]:
    """Return one explanation per subject, in the order of ``sheet.uids``."""
    table = table_of(sheet.scores)
    contest = hold_contest(table, sheet.policy.name)
    beats = contest.beats_on_all()
    frontier = set(sheet.frontier)
    explained = []
    for index, uid in enumerate(sheet.uids):
        standings = tuple(
            Standing(
                environment=name,
                rate=float(table.rates[index, column]),
                is_measured=bool(table.measured[index, column]),
                threshold=float(contest.thresholds[index, column]),
                holder=sheet.holders[name],
            )
            for column, name in enumerate(table.environments)
        )
        facts = Explanation(
            uid=uid,
            weight=sheet.outcome.weights.get(uid, 0.0),
            u16=sheet.outcome.u16.get(uid, 0),
            points=sheet.points[uid],
            sets_won=sheet.sets_won[uid],
            sets_total=contest.all_environments,
            is_on_frontier=uid in frontier,
            dominated_by=tuple(table.uids[i] for i in contest.order if contest.dominates[i, index]),
            beaten_by=tuple(table.uids[i] for i in contest.order if beats[i, index]),
            standings=standings,
            reason="",
        )
        explained.append(_with_reason(facts, sheet))
    return tuple(explained)


def _with_reason(facts: Explanation, sheet: ScoreSheet) -> Explanation:
    values = {name: getattr(facts, name) for name in Explanation.__dataclass_fields__}
    return Explanation(**{**values, "reason": _reason(facts, sheet)})


def _reason(facts: Explanation, sheet: ScoreSheet) -> str:
    total = sum(sheet.points.values())
    won = f"won {facts.sets_won} of {facts.sets_total} sets of environments"
    if facts.sets_won:
        return f"{won}: {facts.points:.0f} of {total:.0f} points"
    if all(standing.rate == 0 for standing in facts.standings):
        return "never succeeded in any environment"
    if facts.dominated_by and sheet.policy.name is PolicyName.STANDFAST:
        return (
            f"off the frontier: uid {facts.dominated_by[0]} is nowhere worse by more than "
            f"{sheet.epsilons[0]:.2f} and clearly better over all environments"
        )
    if facts.beaten_by:
        return f"{won}: on all environments together beaten by uid {_few(facts.beaten_by)}"
    return f"{won}: each set has an earlier or better holder"


def _few(uids: tuple[str, ...]) -> str:
    shown = ", ".join(uids[:3])
    return f"{shown} and {len(uids) - 3} more" if len(uids) > 3 else shown
