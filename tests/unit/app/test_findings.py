"""What a status says of which situation: one row per bad day, with what is to be done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from standfast.app.findings import (
    LeaderSeen,
    Limits,
    Observed,
    RoundSeen,
    SubjectSeen,
    findings,
    stuck_because,
)
from standfast.app.status import LeaderWatch
from standfast.kernel.errors import StoreError, StoreUnavailableError
from standfast.kernel.verdict import Finding, Verdict, combine
from standfast.tasks.model import Counts, ExecutorInfo

INFO = {"pid": 4711, "host": "rig-1", "capacity": 8, "spooled": 0, "last_error": ""}
EXECUTOR = ExecutorInfo("e1", "i1", "2026-01-01T00:00:00Z", 0.5, False, 3, INFO)
LEADER = LeaderSeen("s1", 3, 0.2)
ROUND = RoundSeen(7, "open", Counts(succeeded=10, running=3, waiting=20), idle_s=1.0)
LAST = RoundSeen(6, "published", Counts(succeeded=30), idle_s=20.0)
SUBJECT = SubjectSeen("1", slots=6, open_tasks=10, ended=10)
GOOD = Observed(
    Limits(),
    leader=LEADER,
    executors=(EXECUTOR,),
    current=ROUND,
    last=LAST,
    subjects=(SUBJECT,),
    publication_age_s=20.0,
    services=({"name": "miner-1", "state": "ready"},),
)
IDLE = replace(ROUND, counts=Counts(succeeded=10, waiting=23), idle_s=60.0)


def executor(**changed: Any) -> ExecutorInfo:
    info = {**INFO, **changed.pop("info", {})}
    return replace(EXECUTOR, info=info, **changed)


def service(**changed: Any) -> dict[str, Any]:
    return {"name": "miner-1", "state": "ready", "pid": 12, **changed}


def test_all_is_well_only_with_evidence_for_each_part() -> None:
    found = findings(GOOD)
    assert combine(one.verdict for one in found) is Verdict.PASS
    assert {one.check for one in found} == {
        "store", "scheduler", "executor", "round", "publication", "service",
    }  # fmt: skip


def test_i1_an_instance_of_which_nothing_is_known_is_not_well() -> None:
    assert combine(one.verdict for one in findings(Observed(Limits()))) is Verdict.FAIL


HELD = service(state="held", reason="CrashLoop", message="5 quick ends", remedy="fix it")
BAD_DAYS: list[tuple[str, Observed, str, str, str]] = [
    (
        "store away",
        Observed(Limits(), store=StoreUnavailableError("x", why="refused", fix="start it", code="StoreAway")),
        "StoreAway", "refused", "start it",
    ),
    (
        "store damaged without a fix", Observed(Limits(), store=StoreError("broken", code="StoreDamaged")),
        "StoreDamaged", "broken", "standfast doctor",
    ),
    (
        "nobody leads", replace(GOOD, leader=replace(LEADER, name="")),
        "NobodyLeads", "no scheduler", "standfast up",
    ),
    (
        "leader hangs", replace(GOOD, leader=replace(LEADER, silent_s=9.0)),
        "LeaderSilent", "9 s", "its process",
    ),
    (
        "scheduler fails",
        replace(GOOD, leader=replace(LEADER, errors=({
            "loop": "publish", "code": "PublisherAway", "what": "no answer", "why": "refused",
            "fix": "start the receiver", "since": "2026-01-01T00:00:00Z",
        },))),
        "PublisherAway", "cannot publish: no answer refused", "start the receiver",
    ),
    ("no executor ever", replace(GOOD, executors=()), "NoExecutor", "ever", "standfast executor"),
    (
        "executor silent", replace(GOOD, executors=(executor(silent_s=9.0),)),
        "ExecutorSilent", "process 4711 on rig-1", "ps -o pid,stat,cmd -p 4711",
    ),
    (
        "executor troubled",
        replace(GOOD, executors=(executor(info={"last_error": "submit: ApiTimeout: x"}),)),
        "ExecutorTroubled", "submit: ApiTimeout", "standfast logs e1",
    ),
    (
        "spool not empty", replace(GOOD, executors=(executor(info={"spooled": 40}),)),
        "SpoolNotEmpty", "40 results", "standfast logs e1",
    ),
    (
        "spool damaged", replace(GOOD, executors=(executor(info={"damaged": 2}),)),
        "SpoolDamaged", "2 results", "dmesg",
    ),
    ("no round yet", replace(GOOD, current=None, last=None), "NoRound", "no round", "few seconds"),
    (
        "tasks paused", replace(GOOD, current=replace(ROUND, counts=Counts(running=1, paused=4))),
        "TasksPaused", "4 tasks", "standfast task requeue",
    ),
    (
        "round failed",
        replace(GOOD, last=replace(LAST, state="failed", code="TooFew", reason="1 of 3 subjects")),
        "TooFew", "1 of 3 subjects", "standfast round show 6",
    ),
    (
        "withheld", replace(GOOD, last=replace(LAST, state="withheld", code="Stale", reason="too old")),
        "PublicationWithheld", "too old", "standfast round show 6",
    ),
    (
        "complete, not published", replace(GOOD, last=replace(LAST, state="complete", idle_s=60.0)),
        "PublicationPending", "60 s", "standfast logs",
    ),
    ("publication stale", replace(GOOD, publication_age_s=9e4), "PublicationStale", "90000 s", "round ls"),
    ("nothing published", replace(GOOD, publication_age_s=None), "NothingPublished", "yet", "round ls"),
    (
        "subject lost",
        replace(GOOD, subjects=(replace(SUBJECT, name="3", ended=40, own_errors={"Timeout": 40}),)),
        "SubjectFailing", "subject 3: 40 Timeout, of 40 attempts", "--subject 3",
    ),
    (
        "we fail",
        replace(
            GOOD, subjects=(replace(SUBJECT, ended=20, our_errors={"EnvironmentRaised": 6, "Killed": 1}),)
        ),
        "InfrastructureFailing", "6 EnvironmentRaised, 1 Killed", "standfast task show",
    ),
    (
        "clock jumped", replace(GOOD, leader=replace(LEADER, jump_s=-3600.0, jump_age_s=4.0)),
        "ClockJumped", "-3600 s", "timedatectl",
    ),
    (
        "service held",
        replace(GOOD, services=(HELD,)),
        "CrashLoop", "5 quick ends", "fix it",
    ),
    (
        "service not ready, nothing said", replace(GOOD, services=(service(state="not_ready"),)),
        "ServiceNotReady", "miner-1 is not ready", "standfast logs miner-1",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "reason", "says", "remedy"), [row[1:] for row in BAD_DAYS], ids=[row[0] for row in BAD_DAYS]
)
def test_a_bad_day_is_named_with_its_cause_and_its_remedy(
    seen: Observed, reason: str, says: str, remedy: str
) -> None:
    found = [one for one in findings(seen) if one.verdict > Verdict.PASS]
    matching = [one for one in found if one.reason == reason]
    assert matching, [one.reason for one in found]
    assert says in matching[0].message
    assert remedy in matching[0].remedy
    assert all(one.remedy for one in found)


def test_the_store_being_away_hides_no_service() -> None:
    seen = Observed(Limits(), store=StoreUnavailableError("away"), services=(service(state="held"),))
    assert {one.check for one in findings(seen)} == {"store", "service"}


def test_i6_a_subject_that_sometimes_fails_does_not_make_the_instance_unhealthy() -> None:
    seen = replace(GOOD, subjects=(replace(SUBJECT, ended=20, own_errors={"SubjectTimeout": 12}),))
    found = findings(seen)
    assert combine(one.verdict for one in found) is Verdict.PASS
    assert any(one.reason == "SubjectFailing" for one in found)


def test_an_executor_that_was_taken_away_is_no_fault_for_ever() -> None:
    gone = executor(name="old", silent_s=5_000.0, running=0)
    found = findings(replace(GOOD, executors=(EXECUTOR, gone)))
    assert combine(one.verdict for one in found) is Verdict.PASS
    assert [one.verdict for one in found if one.subject == "old"] == [Verdict.SKIPPED]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"is_draining": True}, "draining"),
        ({"executors": ()}, "no executor"),
        ({"executors": (executor(cordoned=True),)}, "cordoned"),
        ({"subjects": (replace(SUBJECT, is_paused=True),)}, "paused"),
        ({"executors": (executor(info={"last_error": "x"}),)}, "trouble"),
        ({}, "not known"),
    ],
)
def test_a_round_that_stands_still_names_its_cause(changed: dict[str, Any], why: str) -> None:
    seen = replace(GOOD, current=IDLE, **changed)
    assert why in stuck_because(seen)[0]
    assert any(one.reason == "RoundStuck" and why in one.message for one in findings(seen))


def test_a_round_whose_work_runs_is_given_the_time_of_an_attempt() -> None:
    slow = replace(ROUND, idle_s=60.0)
    assert not any(one.reason == "RoundStuck" for one in findings(replace(GOOD, current=slow)))
    late = replace(ROUND, idle_s=1_000.0)
    assert any(one.reason == "RoundStuck" for one in findings(replace(GOOD, current=late)))


def test_the_worst_comes_first() -> None:
    found: list[Finding] = findings(replace(GOOD, executors=(), publication_age_s=None))
    assert [one.verdict for one in found] == sorted((one.verdict for one in found), reverse=True)


def test_a_beat_of_an_hour_ago_says_nothing_about_now() -> None:
    watch = LeaderWatch()
    assert watch.see(1, 10, 100.0) == 0.0
    assert not watch.has_moved
    assert watch.see(1, 11, 101.0) == 0.0
    assert watch.has_moved
    assert watch.see(1, 11, 104.0) == 3.0
    assert watch.see(1, 900, 5_000.0) == 0.0
    assert not watch.has_moved, "nobody looked in between: it may have stopped a moment after 104"
