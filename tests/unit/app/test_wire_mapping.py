"""How kinitro's words map to ours, by values only (K18)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from standfast.api.models import Name
from standfast.app import wire
from standfast.app.findings import Limits, Observed, RoundSeen, findings, is_silent
from standfast.evaluation.model import EpisodeLimits, RoundState, Subject
from standfast.evaluation.plan import Completeness, PlannedEnvironment, RoundPlan
from standfast.evaluation.rounds import RoundRow
from standfast.evaluation.scoring.policy import ScoringPolicy
from standfast.kernel.verdict import Verdict
from standfast.tasks.model import Answer, Counts, ExecutorInfo, Lease

UUID = "00000000-0007-4abc-8def-0123456789ab"
GOOD: dict[str, Any] = {"task_uuid": UUID, "success": True, "score": 1.0, "total_reward": 3.5, "timesteps": 9}
FAILED: dict[str, Any] = {"task_uuid": UUID, "success": False}
SPEC = {"environment": "a/x", "episode": 0, "variant": 5, "seed": 77, "endpoint": "http://m", "limits": {}}

PLAN = RoundPlan(
    number=3,
    commitment="c",
    subjects=(Subject(1, "hk1", "http://one", 0), Subject(2, "hk2", "http://two", 0)),
    environments=(PlannedEnvironment("a/x", (1, 2), 1.0), PlannedEnvironment("a/y", (3,), 1.0)),
    limits=EpisodeLimits(),
    completeness=Completeness(),
    scoring=ScoringPolicy(),
)
RESULT = {
    "rates": {"1": {"a/x": 0.5, "a/y": 1.0}, "2": {"a/x": 0.25, "a/y": 0.0}},
    "carried": {"2": {"round": 2, "rates": {}, "share": 1.0}},
}
ROW = RoundRow(
    number=3, state=RoundState.PUBLISHED, opened_at="2026-01-01T00:00:00.000Z", opened_ms=0, deadline_ms=0,
    plan=PLAN, secret=b"", first_token=0, ended_at="2026-01-01T00:00:12.500Z", code="", reason="",
    result=RESULT, evidence_sha256="", is_pruned=False,
)  # fmt: skip


@given(st.text(max_size=200))
def test_k18_any_executor_id_becomes_a_name(executor_id: str) -> None:
    name = wire.executor_name(executor_id)
    TypeAdapter(Name).validate_python(name)
    assert wire.executor_name(name) == name


def test_k18_a_name_that_can_stay_stays_and_others_differ() -> None:
    assert wire.executor_name("executor-1a2b3c4d") == "executor-1a2b3c4d"
    odd = ["my executor", "my  executor", "", "-", "\0", "\ud800", "e" * 65, "e" * 66, "ä", "../x"]
    assert len({wire.executor_name(one) for one in odd}) == len(odd)


def test_k15_an_unextended_lease_outlasts_its_whole_batch() -> None:
    assert wire.lease_seconds(10, episode_s=91.0, lease_ttl_s=30.0) >= 10 * 91
    assert wire.lease_seconds(1, episode_s=91.0, lease_ttl_s=30.0) >= 2 * 91, "one runs, one is queued"


@pytest.mark.parametrize(
    ("said", "outcome_class", "code"),
    [
        (GOOD, "won", ""),
        (FAILED, "lost", ""),
        ({**FAILED, "error": None}, "lost", ""),
        ({**FAILED, "error": ""}, "lost", ""),
        ({**FAILED, "error": "Evaluation timeout"}, "infra_error", "UnclassifiedError"),
        ({**FAILED, "error": "Miner reset failed"}, "infra_error", "UnclassifiedError"),
        ({**FAILED, "error": "x", "fault": "subject"}, "subject_error", "UnclassifiedError"),
        ({**FAILED, "error": "x", "fault": "subject", "error_code": "Timeout"}, "subject_error", "Timeout"),
        ({**FAILED, "error": "x" * 1_000_000}, "infra_error", "UnclassifiedError"),
        ({**GOOD, "future": {"a": 1}}, "won", ""),
    ],
)  # fmt: skip
def test_k2_each_result_has_its_class(said: dict[str, Any], outcome_class: str, code: str) -> None:
    read = wire.read_result(said)
    assert isinstance(read, wire.WireResult), read
    assert (read.uuid, read.token) == (UUID, 7)
    assert (read.report.outcome_class, read.report.error_code) == (outcome_class, code)
    assert read.report.is_result is (outcome_class != "infra_error"), "only our own failure is tried again"


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({**GOOD, "error": "and yet it broke"}, "contradict"),
        ({**GOOD, "score": float("nan")}, "score"),
        ({**GOOD, "score": float("inf")}, "score"),
        ({**GOOD, "score": 1.5}, "score"),
        ({**GOOD, "total_reward": float("-inf")}, "total_reward"),
        ({**GOOD, "timesteps": -1}, "steps"),
        ({**GOOD, "timesteps": float("inf")}, "steps"),
        ({**FAILED, "error": "a\0b"}, "error"),
        ({**FAILED, "error": "\ud800"}, "error"),
        ({**FAILED, "error": ["x"]}, "error"),
        ({**FAILED, "error": "x", "error_code": 7}, "error_code"),
        ({**FAILED, "error": "x", "fault": "miner"}, "fault"),
        ({**FAILED, "fault": "subject"}, "error"),
        ({**GOOD, "success": None}, "success"),
        ({**GOOD, "success": "true"}, "success"),
        ({**GOOD, "verification_passed": "yes"}, "verification_passed"),
        ({**GOOD, "verification_score": float("nan")}, "verification_score"),
        ({**GOOD, "verification_score": True}, "verification_score"),
        ({**GOOD, "task_uuid": "a" * 5_000}, "task_uuid"),
        ({**GOOD, "task_uuid": None}, "task_uuid"),
        ({"success": True}, "task_uuid"),
        ([1, 2], "object"),
        (None, "object"),
    ],
)
def test_k3_a_result_that_cannot_be_used_says_why(said: Any, named: str) -> None:
    read = wire.read_result(said)
    assert isinstance(read, wire.Flawed)
    assert named in read.message
    assert len(read.uuid) <= 36


def test_what_was_said_of_the_model_is_kept_and_scores_nothing() -> None:
    plain = wire.read_result(GOOD)
    said = wire.read_result({**GOOD, "verification_passed": False, "verification_score": 0.25})
    assert isinstance(plain, wire.WireResult)
    assert isinstance(said, wire.WireResult)
    assert said.report._replace(outcome="") == plain.report._replace(outcome="")
    more = json.loads(said.report.outcome).items() - json.loads(plain.report.outcome).items()
    assert dict(more) == {"verification_passed": False, "verification_score": 0.25}


def test_k3_accepted_and_rejected_are_all_there_is() -> None:
    told = [wire.ResultAnswer(UUID, answer, "why") for answer in Answer] + [
        wire.ResultAnswer("", Answer.INVALID, "why")
    ]
    reply = wire.submitted_of(told)
    assert (reply["accepted"], reply["rejected"]) == (1, 6)
    gone = f"Task {UUID}: not found or not assigned to executor"
    assert reply["errors"] == [f"Task {UUID}: why", gone, gone, f"Task {UUID}: why", gone, "Result 6: why"]
    assert [item["status"] for item in reply["items"]] == [*Answer, "invalid"]


def test_k18_a_lease_is_a_task_and_our_fields_stand_last() -> None:
    lease = Lease("0123456789abcdef", UUID, 7, 2, PLAN.batch, "2", json.dumps(SPEC), 30.0)
    task = wire.task_of(lease, ROW, ttl_s=99.0)
    assert list(task)[:11] == [
        "task_uuid", "cycle_id", "miner_uid", "miner_hotkey", "miner_endpoint", "miner_repo",
        "miner_revision", "env_id", "seed", "status", "created_at",
    ]  # fmt: skip
    assert (task["task_uuid"], task["cycle_id"], task["miner_uid"], task["miner_hotkey"]) == (
        UUID,
        3,
        2,
        "hk2",
    )
    assert (task["seed"], task["variant"], task["status"], task["ttl_s"]) == (77, 5, "assigned", 99.0)


@pytest.mark.parametrize("state", RoundState)
def test_k18_every_state_of_a_round_has_a_word(state: RoundState) -> None:
    cycle = wire.cycle_of(replace(ROW, state=state), 0)
    assert cycle["status"] in ("running", "completed", "failed")
    assert (cycle["status"] == "running") is (state is RoundState.OPEN)


def test_k18_an_open_round_has_no_end() -> None:
    cycle = wire.cycle_of(replace(ROW, state=RoundState.OPEN, ended_at="", result=None), 0)
    assert (cycle["completed_at"], cycle["duration_seconds"]) == (None, None)
    assert wire.cycle_of(ROW, 4) == {
        "id": 3, "block_number": 4, "started_at": ROW.opened_at, "completed_at": ROW.ended_at,
        "status": "completed", "n_miners": 2, "n_environments": 2, "duration_seconds": 12.5,
    }  # fmt: skip


def test_k18_scores_count_what_was_measured_and_what_was_not() -> None:
    seen = {("1", "a/x"): (1, 2.5), ("1", "a/y"): (1, -1.0)}
    view = wire.scores_of(ROW, 9, seen)
    shown = ("uid", "env_id", "success_rate", "mean_reward", "episodes_completed", "episodes_failed")
    short = [tuple(score[name] for name in shown) for score in view["scores"]]
    assert short == [
        (1, "a/x", 0.5, 2.5, 1, 1), (1, "a/y", 1.0, -1.0, 1, 0),
        (2, "a/x", 0.25, 0.0, 0, 2), (2, "a/y", 0.0, 0.0, 0, 1),
    ]  # fmt: skip
    assert [s["carried_from"] for s in view["scores"]] == [None, None, 2, 2]
    assert view["miner_summary"] == RESULT["rates"]
    pruned = wire.scores_of(replace(ROW, is_pruned=True), 9, {})
    assert pruned["is_pruned"] is True
    assert {s["episodes_failed"] for s in pruned["scores"]} == {0}, "what is not known is not called failed"
    assert wire.scores_of(replace(ROW, result=None), 0, {})["scores"] == []


def test_k18_a_miner_was_evaluated_where_its_rates_are_from() -> None:
    miners = wire.miners_of(ROW, {3: 12, 2: 0})
    assert [(m["uid"], m["avg_success_rate"], m["last_evaluated_block"]) for m in miners] == [
        (1, 0.75, 12), (2, 0.125, None),
    ]  # fmt: skip
    assert wire.carried_rounds(ROW) == {2}
    assert wire.miners_of(replace(ROW, result=None), {}) == []


def test_k18_environments_have_a_family_and_a_task() -> None:
    listed = wire.environments_of(["a/x", "new/one", "bare"], ROW)
    assert [(e["env_name"], e["task_name"], e["n_evaluations"], e["avg_success_rate"]) for e in listed] == [
        ("a", "x", 2, 0.375), ("new", "one", 0, None), ("bare", "", 0, None),
    ]  # fmt: skip


def test_k18_a_lost_episode_is_completed_and_paused_work_is_pending() -> None:
    counts = Counts(succeeded=5, running=2, waiting=3, paused=1, dead=1, cancelled=2)
    stats = wire.stats_of(counts, ["e1"], 4)
    assert (stats["total_tasks"], stats["completed_tasks"], stats["failed_tasks"]) == (14, 5, 3)
    assert (stats["pending_tasks"], stats["assigned_tasks"]) == (4, 2)


@pytest.mark.parametrize(
    ("running", "silent_s", "is_late"),
    [(10, 900.0, False), (0, 5.0, False), (0, 29.0, False), (0, 31.0, True)],
)
def test_k18_who_cannot_say_that_he_works_is_judged_by_his_leases(
    running: int, silent_s: float, is_late: bool
) -> None:
    info = {"protocol": wire.PROTOCOL}
    one = ExecutorInfo("e1", "wire", "2026-01-01T00:00:00Z", silent_s, False, running, info)
    assert is_silent(one, Limits()) is is_late
    assert is_silent(replace(one, info={}), Limits()) is (silent_s > 6.0)
    current = RoundSeen(7, "open", Counts(running=running, waiting=20), idle_s=silent_s)
    found = findings(Observed(Limits(), executors=(one,), current=current))
    told = {finding.reason for finding in found if finding.verdict is Verdict.FAIL}
    assert ("ExecutorSilent" in told, "NoExecutor" in told) == (is_late, is_late)
    assert ("RoundStuck" in told) is (running == 0 and silent_s > 15.0)
