"""When a round ends, how, and what was measured in it; literals only."""

from __future__ import annotations

import pytest

from standfast.evaluation.decide import (
    MAX_CARRIED_ROUNDS,
    Complete,
    Earlier,
    Fail,
    Measured,
    Wait,
    advance,
    is_due,
    measure,
)
from standfast.evaluation.model import EpisodeLimits, Subject
from standfast.evaluation.plan import (
    Completeness,
    PlannedEnvironment,
    RoundPlan,
    plan_from_json,
    plan_to_json,
    tasks_of,
)
from standfast.evaluation.scoring.policy import ScoringPolicy
from standfast.tasks.model import Counts

SECRET = bytes(32)


def plan(*, completeness: Completeness | None = None, number: int = 9, uids: int = 2) -> RoundPlan:
    return RoundPlan(
        number=number,
        commitment="c",
        subjects=tuple(
            Subject(uid, f"hk{uid}", f"http://127.0.0.1:{9000 + uid}", 10 + uid) for uid in range(uids)
        ),
        environments=(PlannedEnvironment("a", (5, 7, 9, 11), 1.0), PlannedEnvironment("b", (1, 2), 2.0)),
        limits=EpisodeLimits(),
        completeness=completeness or Completeness(),
        scoring=ScoringPolicy(),
    )


MEASURED = Measured({"0": {"a": 1.0, "b": 1.0}, "1": {"a": 0.0, "b": 0.0}}, {"0": 1.0, "1": 1.0})


def test_k5_a_round_without_tasks_fails() -> None:
    outcome = advance(plan(), Counts(), MEASURED, is_over_deadline=False)
    assert isinstance(outcome, Fail)
    assert outcome.code == "EmptyRound"


@pytest.mark.parametrize(
    "counts",
    [Counts(succeeded=11, waiting=1), Counts(succeeded=11, running=1), Counts(succeeded=11, paused=1)],
)
def test_k5_open_tasks_wait_until_the_deadline(counts: Counts) -> None:
    assert isinstance(advance(plan(), counts, MEASURED, is_over_deadline=False), Wait)
    assert isinstance(advance(plan(), counts, MEASURED, is_over_deadline=True), Complete)
    failing = plan(completeness=Completeness(on_deadline="fail"))
    assert isinstance(advance(failing, counts, MEASURED, is_over_deadline=True), Fail)


def test_k5_too_few_measured_subjects_fail_the_round() -> None:
    strict = plan(completeness=Completeness(min_subjects=3))
    outcome = advance(strict, Counts(succeeded=12), MEASURED, is_over_deadline=False)
    assert isinstance(outcome, Fail)
    assert outcome.code == "TooFewMeasured"


def test_i1_a_round_that_only_carries_rates_over_measured_nothing() -> None:
    earlier = [Earlier(8, {"0": {"a": 1.0, "b": 1.0}}, {"0": 1.0})]
    measured = measure(plan(), {}, earlier)
    assert set(measured.carried) == {"0"}
    assert isinstance(advance(plan(), Counts(dead=12), measured, is_over_deadline=True), Fail)


def test_i6_what_our_infrastructure_lost_is_in_neither_number() -> None:
    classes = {("0", "a"): {"won": 2, "lost": 1}, ("0", "b"): {"won": 2}}
    measured = measure(plan(completeness=Completeness(min_subject_share=0.7)), classes, [])
    assert measured.rates == {"0": {"a": 2 / 3, "b": 1.0}}
    assert measured.shares == {"0": 0.75}
    assert measured.missing == ("1",)


def test_k5_an_error_of_the_subject_is_scored() -> None:
    classes = {("0", "a"): {"subject_error": 4}, ("0", "b"): {"won": 1, "subject_error": 1}}
    assert measure(plan(), classes, []).rates == {"0": {"a": 0.0, "b": 0.5}}


def test_an_environment_without_any_scored_episode_makes_the_subject_unmeasured() -> None:
    classes = {("0", "a"): {"won": 4}}
    assert measure(plan(completeness=Completeness(min_subject_share=0.0)), classes, []).missing == ("0", "1")


@pytest.mark.parametrize(
    ("number", "is_carried"), [(8, True), (9 - MAX_CARRIED_ROUNDS, True), (8 - MAX_CARRIED_ROUNDS, False)]
)
def test_i6_rates_are_carried_for_a_bounded_number_of_rounds(number: int, is_carried: bool) -> None:
    earlier = [Earlier(number, {"1": {"a": 0.5, "b": 0.5}}, {"1": 0.95})]
    measured = measure(plan(), {}, earlier)
    assert ("1" in measured.carried) is is_carried
    if is_carried:
        assert measured.shares["1"] == 0.95


def test_rates_of_other_environments_are_not_carried() -> None:
    earlier = [Earlier(8, {"1": {"a": 0.5}}, {"1": 1.0})]
    assert measure(plan(), {}, earlier).missing == ("0", "1")


def test_k1_tasks_are_the_same_whoever_names_them_and_paired_across_subjects() -> None:
    first = tasks_of(plan(), SECRET, lambda: 0.3)
    second = tasks_of(plan_from_json(plan_to_json(plan())), SECRET, lambda: 0.9)
    assert [(t.task_id, t.key, t.spec) for t in first] == [(t.task_id, t.key, t.spec) for t in second]
    seeds: dict[tuple[str, int], set[int]] = {}
    for task in first:
        seeds.setdefault((task.lane, task.spec["episode"]), set()).add(task.spec["seed"])
    assert len(seeds) == 6
    assert all(len(found) == 1 for found in seeds.values())
    assert len({task.task_id for task in first}) == len(first) == plan().expected


def test_k1_known_task_id_and_seed() -> None:
    """Pinned: a change of these numbers would orphan every stored round."""
    task = tasks_of(plan(), SECRET, lambda: 0.5)[0]
    assert (task.key, task.task_id, task.spec["seed"]) == ("0/a/00000", "5b376b3ad1f3f8fb", 573327623)


@pytest.mark.parametrize(
    ("open_rounds", "opened_ms", "now_ms", "due"),
    [
        (0, None, 0, True),
        (1, None, 0, False),
        (0, 1_000, 5_999, False),
        (0, 1_000, 6_000, True),
        (1, 1_000, 60_000, False),
    ],
)
def test_the_next_round_is_due_after_the_interval(
    open_rounds: int, opened_ms: int | None, now_ms: int, due: bool
) -> None:
    assert is_due(open_rounds=open_rounds, opened_ms=opened_ms, now_ms=now_ms, interval_s=5.0) is due
