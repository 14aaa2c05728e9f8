"""Whether a running service may receive work, and how long it may take to its first answer; on literals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.kernel.verdict import Verdict
from standfast.services.decide.readiness import (
    FRESH_S,
    GRACE_S,
    SETTLE_S,
    grace_of,
    is_late,
    judge,
    proven_s,
)
from standfast.services.model import ProbeSample, Readiness, RestartPolicy, Seen, ServiceSpec

HTTP = Readiness(http="http://127.0.0.1:1/health")
NOW = 1_000.0


def seen(*, letter: str = "S", sample: ProbeSample | None = None, good: float | None = None) -> Seen:
    return Seen(NOW, NOW - 10.0, 77, letter, sample, good)


@pytest.mark.parametrize("letter", ["T", "t"])
def test_a_stopped_process_is_not_ready_whatever_it_answered(letter: str) -> None:
    judgement = judge(HTTP, seen(letter=letter, sample=ProbeSample(NOW), good=NOW))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.message == "process is stopped (T)"
    assert judgement.remedy == "kill -CONT 77"


def test_a_stopped_process_below_it_makes_a_service_not_ready_at_once() -> None:
    below = Seen(NOW, NOW - 1.0, 77, "S", ProbeSample(NOW), NOW, stopped_below=88)
    judgement = judge(HTTP, below)
    assert (judgement.verdict, judgement.remedy) == (Verdict.FAIL, "kill -CONT 88")
    assert is_late(below, judgement, grace_s=GRACE_S, was_ready=False)


@pytest.mark.parametrize("letter", ["", "Z", "X"])
def test_a_process_that_is_gone_is_unknown(letter: str) -> None:
    assert judge(HTTP, seen(letter=letter, sample=ProbeSample(NOW), good=NOW)).verdict is Verdict.UNKNOWN


def test_no_sample_is_unknown() -> None:
    assert judge(HTTP, seen()).verdict is Verdict.UNKNOWN


def test_an_old_good_sample_is_unknown() -> None:
    at = NOW - FRESH_S - 0.1
    assert judge(HTTP, seen(sample=ProbeSample(at), good=at)).reason == "AnswerTooOld"


def test_a_fresh_good_sample_passes() -> None:
    assert judge(HTTP, seen(sample=ProbeSample(NOW - 1), good=NOW - 1)).verdict is Verdict.PASS


def test_one_lost_answer_is_no_fault_while_the_last_good_one_is_fresh() -> None:
    lost = ProbeSample(NOW, "NoAnswer", "silence")
    assert judge(HTTP, seen(sample=lost, good=NOW - 4)).verdict is Verdict.PASS
    assert judge(HTTP, seen(sample=lost, good=NOW - FRESH_S - 1)).verdict is Verdict.FAIL
    assert judge(HTTP, seen(sample=lost, good=None)).verdict is Verdict.FAIL


@pytest.mark.parametrize("reason", ["Refused", "WrongStatus", "BadAnswer"])
def test_a_wrong_answer_is_a_fault_at_once(reason: str) -> None:
    judgement = judge(HTTP, seen(sample=ProbeSample(NOW, reason, "why"), good=NOW - 0.1))
    assert (judgement.verdict, judgement.message) == (Verdict.FAIL, "why")
    assert "77" in judgement.remedy


def test_without_a_probe_running_for_a_moment_is_not_enough() -> None:
    young = Seen(NOW, NOW - SETTLE_S / 2, 77, "S")
    assert judge(Readiness(), young).verdict is Verdict.UNKNOWN
    assert judge(Readiness(), seen()).verdict is Verdict.PASS


TOLD = [Readiness(notify=True), Readiness(log="up"), Readiness(file="up")]


@pytest.mark.parametrize("readiness", TOLD)
def test_what_is_told_once_holds_while_the_process_runs(readiness: Readiness) -> None:
    good = seen(sample=ProbeSample(NOW - 900), good=NOW - 900)
    assert judge(readiness, good).verdict is Verdict.PASS
    assert judge(readiness, good._replace(letter="T")).verdict is Verdict.FAIL
    assert judge(readiness, good._replace(letter="")).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("readiness", TOLD)
def test_what_was_not_told_yet_is_not_ready(readiness: Readiness) -> None:
    assert judge(readiness, seen(sample=ProbeSample(NOW, "NotYet", "no"))).verdict is Verdict.FAIL


def test_a000_7_a_refused_port_while_loading_is_no_fault_until_the_grace_is_over() -> None:
    refused = ProbeSample(NOW, "Refused", "no")
    young = Seen(NOW, NOW - 5, 77, "S", refused)
    old = Seen(NOW, NOW - 31, 77, "S", refused)
    assert not is_late(young, judge(HTTP, young), grace_s=30.0, was_ready=False)
    assert is_late(young, judge(HTTP, young), grace_s=30.0, was_ready=True)
    assert is_late(old, judge(HTTP, old), grace_s=30.0, was_ready=False)
    assert not is_late(old, judge(HTTP, old), grace_s=95.0, was_ready=False)


def test_a_stopped_process_has_no_grace() -> None:
    stopped = Seen(NOW, NOW - 1, 77, "T")
    assert is_late(stopped, judge(HTTP, stopped), grace_s=30.0, was_ready=False)


def test_a000_7_the_grace_is_the_99th_percentile_of_what_was_measured_and_half_again() -> None:
    waits = [24.3, 50.1, 63.9, *([40.0] * 47)]
    assert grace_of(HTTP, waits) == pytest.approx(63.9 * 1.5)
    assert grace_of(HTTP, [20.0, 24.0, 22.0]) == pytest.approx(36.0)


def test_a000_7_too_few_lives_teach_nothing_and_a_declared_grace_stands() -> None:
    assert grace_of(HTTP, []) == GRACE_S == grace_of(HTTP, [0.1, 0.1])
    assert grace_of(Readiness(start_s=7.0), [90.0] * 9) == 7.0


def test_a000_7_a_quick_service_still_gets_some_seconds() -> None:
    assert grace_of(HTTP, [0.1] * 20) == 5.0


@given(st.lists(st.floats(0, 600), min_size=3, max_size=64))
def test_every_life_that_taught_the_grace_would_have_been_in_time(waits: list[float]) -> None:
    assert grace_of(HTTP, waits) > max(waits)


def test_a000_2_mere_running_proves_nothing_before_it_was_stable() -> None:
    unprobed = ServiceSpec("miner", ("miner",), restart=RestartPolicy(stable_s=60.0))
    probed = ServiceSpec("web", ("web",), ready=HTTP)
    assert proven_s(unprobed, 9.0) == 0.0
    assert proven_s(unprobed, 60.0) == 60.0
    assert proven_s(probed, 0.2) == 0.2
