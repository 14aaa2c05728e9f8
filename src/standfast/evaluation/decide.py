"""When a round ends, how, and what was measured in it.

1. An empty round never completes: nothing was measured (I1, K5).
2. A subject is measured when enough of its episodes were scored in every environment. One that is not, for
   reasons that are not its own, keeps the rates of the last round that measured it (I6); where there is
   none it is named as unmeasured and gets no weight in this round.
3. A rate is won / scored: an episode that our own infrastructure lost is in neither number (I6).
4. At the deadline what is open is cancelled; the round fails or ends in part, by explicit policy (K5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from standfast.evaluation.model import OutcomeClass
from standfast.evaluation.plan import RoundPlan
from standfast.tasks.model import Counts

MAX_CARRIED_ROUNDS = 5
"""How many rounds a subject that we could not measure keeps its last rates; then it is unmeasured."""


class Cell(NamedTuple):
    """What became of one subject's episodes in one environment."""

    expected: int
    won: int
    lost: int
    subject_errors: int

    @property
    def scored(self) -> int:
        """Episodes that count."""
        return self.won + self.lost + self.subject_errors


class Earlier(NamedTuple):
    """What an earlier complete round measured itself: rates and shares by uid."""

    number: int
    rates: Mapping[str, Mapping[str, float]]
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Carried:
    """Rates of an earlier round that stand in for a subject that could not be measured."""

    round_number: int
    rates: Mapping[str, float]
    share: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a round says about its subjects.

    ``rates[uid][environment]`` has a row for every subject that may carry weight; ``shares[uid]`` is the
    smallest scored / expected over environments (of the round that measured
    it); ``missing`` are the subjects without a row.
    """

    rates: Mapping[str, Mapping[str, float]]
    shares: Mapping[str, float]
    carried: Mapping[str, Carried] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """The round goes on."""


@dataclass(frozen=True, slots=True)
class Complete:
    """The round ends with what was measured; ``reason`` is empty unless it ends in part."""

    measured: Measured
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """The round ends without a result."""

    code: str
    reason: str


def advance(
    plan: RoundPlan, counts: Counts, measured: Measured, *, is_over_deadline: bool
) -> Wait | Complete | Fail:
    """Decide what becomes of an open round from what the store has now; level-triggered."""
    if counts.total == 0:
        return Fail("EmptyRound", "the round has no tasks: there are no subjects or no environments")
    open_tasks = counts.pending + counts.running
    if open_tasks and not is_over_deadline:
        return Wait()
    if open_tasks and plan.completeness.on_deadline == "fail":
        return Fail("DeadlinePassed", f"{open_tasks} of {counts.total} tasks were open at the deadline")
    enough = len(measured.rates) >= plan.completeness.min_subjects
    if not enough or not _has_own(measured):
        return Fail("TooFewMeasured", _too_few(plan, counts, measured))
    return Complete(measured, _partial(counts, open_tasks, measured))


def _has_own(measured: Measured) -> bool:
    # A round in which everything is carried over measured nothing, and says nothing new.
    return any(uid not in measured.carried for uid in measured.rates)


def _too_few(plan: RoundPlan, counts: Counts, measured: Measured) -> str:
    own = len(measured.rates) - len(measured.carried)
    return (
        f"{own} of {len(plan.subjects)} subjects were measured, {plan.completeness.min_subjects} are needed "
        f"({counts.succeeded} of {counts.total} episodes scored, {counts.dead} dead, "
        f"{counts.running + counts.pending} open)"
    )


def _partial(counts: Counts, open_tasks: int, measured: Measured) -> str:
    parts = []
    if open_tasks:
        parts.append(f"{open_tasks} of {counts.total} tasks were open at the deadline and are cancelled")
    if counts.dead:
        parts.append(f"{counts.dead} episodes could not be run by our own infrastructure and are not scored")
    if measured.carried:
        parts.append("carried from an earlier round: uid " + ", ".join(sorted(measured.carried)))
    if measured.missing:
        parts.append("not measured: uid " + ", ".join(sorted(measured.missing)))
    return "; ".join(parts)


def measure(
    plan: RoundPlan, classes: Mapping[tuple[str, str], Mapping[str, int]], previous: Sequence[Earlier]
) -> Measured:
    """Return what the scored episodes say.

    ``classes[(uid, environment)][class]`` counts scored episodes; ``previous`` are earlier complete rounds,
    newest first.
    """
    rates: dict[str, dict[str, float]] = {}
    shares: dict[str, float] = {}
    carried: dict[str, Carried] = {}
    missing: list[str] = []
    for subject in plan.subjects:
        cells = {
            e.id: _cell(len(e.variants), classes.get((subject.name, e.id), {})) for e in plan.environments
        }
        share = min((cell.scored / cell.expected for cell in cells.values()), default=0.0)
        if share >= plan.completeness.min_subject_share and all(cell.scored for cell in cells.values()):
            rates[subject.name] = {name: cell.won / cell.scored for name, cell in cells.items()}
            shares[subject.name] = share
        elif earlier := _carry(plan, subject.name, previous):
            carried[subject.name] = earlier
            rates[subject.name] = dict(earlier.rates)
            shares[subject.name] = earlier.share
        else:
            missing.append(subject.name)
    return Measured(rates, shares, carried, tuple(missing))


def _cell(expected: int, classes: Mapping[str, int]) -> Cell:
    return Cell(
        expected,
        classes.get(OutcomeClass.WON, 0),
        classes.get(OutcomeClass.LOST, 0),
        classes.get(OutcomeClass.SUBJECT_ERROR, 0),
    )


def _carry(plan: RoundPlan, uid: str, previous: Sequence[Earlier]) -> Carried | None:
    wanted = {e.id for e in plan.environments}
    for round_ in previous:
        own = round_.rates.get(uid)
        if own is not None and set(own) == wanted and plan.number - round_.number <= MAX_CARRIED_ROUNDS:
            return Carried(round_.number, own, round_.shares[uid])
    return None


def is_due(*, open_rounds: int, opened_ms: int | None, now_ms: int, interval_s: float) -> bool:
    """Decide whether the next round may open: none is open, and the interval since the last is over."""
    if open_rounds:
        return False
    return opened_ms is None or now_ms >= opened_ms + int(interval_s * 1000)
