"""What an executor decides, with literals only."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.app import executor_rules as rules
from standfast.app.executor_rules import Leased
from standfast.app.reports import Invalid, to_report
from standfast.app.spool import Spooled
from standfast.evaluation.model import EpisodeLimits, EpisodeReport, EpisodeSpec, Fault, OutcomeClass
from standfast.kernel.canonical import canonical_json
from standfast.kernel.errors import AuthError, TransientError

SPEC: dict[str, Any] = {
    "environment": "classic/cartpole",
    "seed": 7,
    "variant": 3,
    "episode": 2,
    "endpoint": "http://127.0.0.1:9",
    "limits": {"timeout_s": 5.0, "reset_s": 1, "act_s": 0.5, "subject_budget_s": 2.0, "reply_bytes": 1000},
}
LEASE = Leased("0" * 16, 12, SPEC)


@pytest.mark.parametrize(
    ("capacity", "running", "room", "wanted"),
    [
        (8, 0, 1000, 8),
        (8, 8, 1000, 0),
        (8, 9, 1000, 0),
        (8, 0, 0, 0),
        (8, 2, 5, 3),  # What runs needs its place in the spool too.
        (8, 4, 4, 0),
        (1000, 0, 5000, rules.MAX_CLAIM),
    ],
)
def test_work_is_taken_only_for_a_free_place_and_room_for_its_report(
    capacity: int, running: int, room: int, wanted: int
) -> None:
    assert rules.claim_count(capacity=capacity, running=running, room=room) == wanted


@pytest.mark.parametrize("status", ["accepted", "duplicate", "stale", "expired", "invalid", "unknown"])
def test_every_answer_of_today_is_final(status: str) -> None:
    spooled = Spooled(4, {"task_id": "t", "token": 1}, 10)
    settled = rules.settle([spooled], [{"index": 0, "status": status, "message": "why"}])
    assert settled.done == (4,)
    counted = status in ("accepted", "duplicate")
    assert bool(settled.refused) is not counted
    if not counted:
        assert settled.refused[0] == rules.Refused(4, "t", status, "why")


@pytest.mark.parametrize("answer", [{}, {"status": "later"}, {"status": None}, {"status": 200}])
def test_an_answer_that_is_not_understood_keeps_the_report(answer: dict[str, Any]) -> None:
    assert rules.settle([Spooled(4, {}, 10)], [answer]).done == ()


def test_a_refused_token_is_asked_about_rarely() -> None:
    assert rules.wait_after(AuthError("no"), 1, unit=0.5) > rules.wait_after(TransientError("x"), 1, unit=0.5)
    assert rules.wait_after(TransientError("x"), 10**6, unit=0.999) <= 15.0


def test_executors_do_not_ask_in_step() -> None:
    assert rules.poll_wait(1.0, unit=0.0) < 1.0 < rules.poll_wait(1.0, unit=0.99) < 1.3


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(2.5, 2.5), (0, 0.0), (-1, 5.0), (math.nan, 5.0), (math.inf, 5.0), ("1", 5.0), (True, 5.0), (None, 5.0)],
)
def test_k11_a_heartbeat_that_makes_no_sense_is_not_followed(said: Any, seconds: float) -> None:
    assert rules.heartbeat_of({"heartbeat_s": said}) == seconds


def test_a_lost_lease_is_known_by_the_token_that_was_asked_about() -> None:
    assert rules.lost_tokens({"lost": ["a", "c", 3, None]}, {"a": 7, "b": 8}) == (7,)
    assert rules.lost_tokens({"lost": "a"}, {"a": 7}) == ()
    assert rules.lost_tokens({}, {"a": 7}) == ()


@pytest.mark.parametrize("reply", [{}, {"leases": None}, {"leases": [3, None, {}, {"task_id": "x"}]}])
def test_a_claim_that_grants_nothing_usable_grants_nothing(reply: dict[str, Any]) -> None:
    assert rules.leases_of(reply) == ()


def test_a_lease_with_an_unusable_spec_is_still_a_lease() -> None:
    leases = rules.leases_of({"leases": [{"task_id": "x", "token": 3, "spec": "garbage"}]})
    assert leases == (Leased("x", 3, {}),)


def test_a_spec_becomes_an_episode() -> None:
    limits = EpisodeLimits(5.0, 1, 0.5, 2.0, 1000)
    assert rules.spec_of(SPEC) == EpisodeSpec("classic/cartpole", 7, 3, "http://127.0.0.1:9", limits)


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": "7"},
        {"seed": True},
        {"variant": 1.5},
        {"environment": 3},
        {"endpoint": None},
        {"limits": []},
        {"limits": {"timeout_s": "5"}},
        {"limits": {"fuel": 1}},
        {"extra": 1},
    ],
)
def test_a_spec_that_is_not_understood_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(rules.SpecError):
        rules.spec_of({**SPEC, **changed})
    with pytest.raises(rules.SpecError):
        rules.spec_of({key: value for key, value in SPEC.items() if key != "seed"})


def test_k2_a_report_that_contradicts_itself_is_ours() -> None:
    report, kind = rules.checked(EpisodeReport(success=True, error_code="X", error="x", fault=Fault.SUBJECT))
    assert kind is OutcomeClass.INFRA_ERROR
    assert report.error_code == "EpisodeGarbled"
    report, kind = rules.checked(EpisodeReport(success=True, score=math.nan))
    assert kind is OutcomeClass.INFRA_ERROR


REPORTS = [
    (EpisodeReport(success=False), OutcomeClass.LOST),
    (EpisodeReport(success=True, score=1.0), OutcomeClass.WON),
    (
        EpisodeReport(success=False, error_code="SubjectRefused", error="x", fault=Fault.SUBJECT),
        OutcomeClass.SUBJECT_ERROR,
    ),
    (rules.our_failure("EpisodeKilled", "x"), OutcomeClass.INFRA_ERROR),
]


@pytest.mark.parametrize(("report", "kind"), REPORTS)
def test_k2_both_ends_see_the_same_class(report: EpisodeReport, kind: OutcomeClass) -> None:
    said, ours = rules.checked(report)
    received = to_report(rules.item_of(replace(LEASE, task_id="0" * 16), said))
    assert not isinstance(received, Invalid)
    assert (ours, received.outcome_class) == (kind, kind.value)
    assert received.is_result is (kind is not OutcomeClass.INFRA_ERROR)


@given(
    st.builds(
        EpisodeReport,
        success=st.booleans(),
        score=st.floats(),
        total_reward=st.floats(-1e9, 1e9),
        steps=st.integers(-5, 10**6),
        duration_s=st.floats(),
        error_code=st.sampled_from(["", "Timeout"]),
        error=st.sampled_from(["", "text"]),
        fault=st.sampled_from([None, Fault.SUBJECT, Fault.INFRASTRUCTURE]),
    )
)
def test_k2_whatever_a_runner_reports_can_be_spooled_and_is_never_invalid(report: EpisodeReport) -> None:
    said, kind = rules.checked(report)
    item = rules.item_of(LEASE, said)
    canonical_json(item)
    received = to_report(item)
    if not isinstance(received, Invalid):
        assert received.outcome_class == kind.value
