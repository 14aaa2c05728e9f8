"""The rules of supervision, on literals."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.kernel.verdict import Verdict
from standfast.services.decide import (
    FRESH_S,
    PERMANENT_CODES,
    SETTLE_S,
    SLOW_TRIES_S,
    TRANSITIONS,
    after_exit,
    fingerprint,
    is_late,
    judge,
    move,
)
from standfast.services.model import (
    End,
    ExitStatus,
    Held,
    ProbeSample,
    Readiness,
    Restart,
    RestartPolicy,
    Seen,
    ServiceEvent,
    ServiceState,
)

POLICY = RestartPolicy(backoff_s=0.5, cap_s=8.0, max_fast_failures=3, stable_s=60.0)
HTTP = Readiness(http="http://127.0.0.1:1/health")
NOW = 1_000.0


def end(*, code: int = 1, by: int = 0, lived: float = 2.2, ready: float = 0.0, line: str = "boom") -> End:
    return End(ExitStatus(code, by), lived_s=lived, ready_s=ready, last_line=line)


def seen(*, letter: str = "S", sample: ProbeSample | None = None, good: float | None = None) -> Seen:
    return Seen(NOW, NOW - 10.0, 77, letter, sample, good)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ServiceState, ServiceEvent)))
def test_every_pair_either_moves_or_is_refused(state: ServiceState, event: ServiceEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert move(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(AssertionError, match="no move"):
            move(state, event)


def test_stop_is_accepted_in_every_state_and_leads_to_stopped() -> None:
    for state in ServiceState:
        following = move(state, ServiceEvent.STOP)
        if following is ServiceState.STOPPING:
            following = move(following, ServiceEvent.GONE)
        assert following is ServiceState.STOPPED


def test_a_service_that_is_told_to_stop_is_never_called_ready_again() -> None:
    assert move(ServiceState.STOPPING, ServiceEvent.ANSWERED) is ServiceState.STOPPING


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
    assert is_late(HTTP, below, judgement, was_ready=False)


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


def test_a_young_life_may_still_be_starting_and_an_old_one_is_late() -> None:
    refused = ProbeSample(NOW, "Refused", "no")
    young = Seen(NOW, NOW - 5, 77, "S", refused)
    old = Seen(NOW, NOW - 31, 77, "S", refused)
    assert not is_late(HTTP, young, judge(HTTP, young), was_ready=False)
    assert is_late(HTTP, young, judge(HTTP, young), was_ready=True)
    assert is_late(HTTP, old, judge(HTTP, old), was_ready=False)


def test_a_stopped_process_has_no_grace() -> None:
    stopped = Seen(NOW, NOW - 1, 77, "T")
    assert is_late(HTTP, stopped, judge(HTTP, stopped), was_ready=False)


@pytest.mark.parametrize("lived", [0.2, 1.2, 2.2, 11.0])
def test_the_same_failure_is_held_after_three_starts_however_long_each_lived(lived: float) -> None:
    history = [end(lived=lived)]
    assert isinstance(after_exit(POLICY, history, unit=0.5), Restart)
    history.append(end(lived=lived))
    assert isinstance(after_exit(POLICY, history, unit=0.5), Restart)
    history.append(end(lived=lived))
    held = after_exit(POLICY, history, unit=0.5)
    assert isinstance(held, Held)
    assert held.reason == "SameFailure"
    assert "3 times" in held.message
    assert "boom" in held.message
    assert held.remedy


def test_the_same_failure_is_recognised_through_numbers_addresses_and_paths() -> None:
    a = end(line="2026-01-02 03:04:05 pid 71: cannot open /tmp/a1/x.conf at 0xdeadbeef")
    b = end(line="2026-01-02 03:05:09 pid 80: cannot open /tmp/b2/y.conf at 0xcafebabe")
    assert fingerprint(a) == fingerprint(b)
    assert fingerprint(a) != fingerprint(end(line="something else"))
    assert fingerprint(a) != fingerprint(end(code=2, line=a.last_line))
    assert fingerprint(end(code=0, by=9)) != fingerprint(end(code=0))


def test_ends_that_all_differ_are_held_later() -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"]
    history = [end(line=word) for word in words]
    held = after_exit(POLICY, history, unit=0.0)
    assert isinstance(held, Held)
    assert held.reason == "NeverReady"
    assert isinstance(after_exit(POLICY, history[:-1], unit=0.0), Restart)


def test_the_slow_schedule_is_slower_with_every_vain_try() -> None:
    waits = []
    for count in range(3, 8):
        held = after_exit(POLICY, [end()] * count, unit=0.0)
        assert isinstance(held, Held)
        waits.append(held.retry_s)
    assert waits == [*SLOW_TRIES_S, SLOW_TRIES_S[-1], SLOW_TRIES_S[-1]]


def test_a_service_that_was_ready_is_never_held_for_a_failure() -> None:
    for count in range(1, 40):
        assert isinstance(after_exit(POLICY, [end(ready=1.0)] * count, unit=0.5), Restart)


def test_the_first_end_after_a_stable_life_is_followed_at_once() -> None:
    assert after_exit(POLICY, [end(by=9, ready=3_600.0)], unit=0.9) == Restart(0.0)


def test_being_up_for_a_second_resets_no_wait() -> None:
    waits = []
    for count in range(1, 9):
        decision = after_exit(POLICY, [end(ready=1.0, lived=1.5)] * count, unit=1.0)
        assert isinstance(decision, Restart)
        waits.append(decision.delay_s)
    assert waits[0] == 0.0
    assert waits[1:] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]


def test_a_stable_life_resets_the_wait() -> None:
    history = [end(ready=1.0)] * 10 + [end(ready=61.0)]
    assert after_exit(POLICY, history, unit=1.0) == Restart(0.0)


@pytest.mark.parametrize("code", sorted(PERMANENT_CODES))
def test_i8_a_permanent_exit_code_starts_once(code: int) -> None:
    held = after_exit(POLICY, [end(code=code)], unit=0.5)
    assert isinstance(held, Held)
    assert PERMANENT_CODES[code] in held.message


def test_a_signal_with_the_number_of_a_permanent_code_is_no_exit_code() -> None:
    assert isinstance(after_exit(POLICY, [end(code=0, by=9)], unit=0.5), Restart)


def test_forking_away_is_named_and_not_repeated() -> None:
    away = End(ExitStatus(0), lived_s=0.1, ready_s=0.0, left_behind=2)
    held = after_exit(POLICY, [away], unit=0.5)
    assert isinstance(held, Held)
    assert held.reason == "ForkedAway"
    assert "foreground" in held.remedy


def test_ending_with_zero_is_unexpected_for_a_service() -> None:
    assert isinstance(after_exit(POLICY, [end(code=0, line="")], unit=0.5), Restart)
    assert isinstance(after_exit(POLICY, [end(code=0, line="")] * 3, unit=0.5), Held)


ENDS = st.builds(
    end,
    code=st.integers(0, 255),
    by=st.sampled_from([0, 6, 9, 11, 15]),
    lived=st.floats(0, 1e6),
    ready=st.sampled_from([0.0, 0.5, 61.0]),
    line=st.text(max_size=40),
)


@given(st.lists(ENDS, min_size=1, max_size=64), st.floats(0, 1, exclude_max=True))
def test_whatever_happened_the_answer_is_bounded_and_says_why(history: list[End], unit: float) -> None:
    decision = after_exit(POLICY, history, unit=unit)
    if isinstance(decision, Restart):
        assert 0.0 <= decision.delay_s <= POLICY.cap_s
    else:
        assert decision.retry_s in SLOW_TRIES_S
        assert decision.message
        assert decision.remedy


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ExitStatus(3), "exit code 3"),
        (ExitStatus(0, 9), "killed by SIGKILL (9)"),
        (ExitStatus(0, 11), "killed by SIGSEGV (11)"),
        (ExitStatus(0, 40), "killed by signal (40)"),
    ],
)
def test_an_end_is_told_in_words(status: ExitStatus, text: str) -> None:
    assert status.text == text
