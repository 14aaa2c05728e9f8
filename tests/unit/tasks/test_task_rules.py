"""The rules of leases, with literals only: refusals first."""

from __future__ import annotations

import itertools
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from standfast.tasks import decide
from standfast.tasks.model import (
    Answer,
    AttemptState,
    Counts,
    Event,
    Prior,
    Report,
    TaskPolicy,
    TaskState,
    Tracking,
    Waiting,
)

LEASED = Tracking(7, "s", TaskState.LEASED.value, 40, "e1", 10_000, 1)
PRIOR = Prior(99, AttemptState.RUNNING.value, "e1", None, None, None, None)
REPORT = Report("0" * 14 + "63", 40, True, True, "won", '{"score":1.0}')
REPORTED = decide.reported(PRIOR, REPORT)


def settle(
    current: Tracking = LEASED,
    prior: Prior = PRIOR,
    report: Report = REPORT,
    *,
    holder: str = "e1",
    now_ms: int = 0,
) -> decide.Settled:
    return decide.settle(current, prior, report, holder=holder, now_ms=now_ms)


# What refuses a report.


def test_a_report_of_somebody_else_is_stale_and_not_even_late() -> None:
    assert settle(holder="e2") == decide.Settled(Answer.STALE, "this lease is not held by e2")


def test_a_report_of_somebody_else_is_stale_also_when_it_repeats_what_was_accepted() -> None:
    assert settle(prior=REPORTED, holder="e2").answer is Answer.STALE


def test_k3_the_same_content_again_is_a_duplicate_whatever_became_of_the_task() -> None:
    for state in TaskState:
        for token in (40, 41):
            current = LEASED._replace(state=state.value, token=token)
            found = settle(current, REPORTED, now_ms=10**9)
            assert (found.answer, found.is_late) == (Answer.DUPLICATE, False)


@pytest.mark.parametrize(
    "other",
    [
        {"outcome": "{}"},
        {"outcome_class": "lost"},
        {"error_code": "E"},
        {"error": "e"},
        {"is_result": False},
    ],
)
def test_other_content_for_a_lease_that_was_reported_is_stale_and_not_late(other: dict[str, object]) -> None:
    found = settle(prior=REPORTED, report=REPORT._replace(**other))
    assert (found.answer, found.is_late) == (Answer.STALE, False)


def test_k3_a_failure_that_is_reported_again_is_a_duplicate_too() -> None:
    failure = REPORT._replace(is_result=False, error_code="E")
    assert settle(prior=decide.reported(PRIOR, failure), report=failure).answer is Answer.DUPLICATE


@pytest.mark.parametrize("state", ["EXPIRED", "RELEASED", "CANCELLED"])
def test_an_attempt_that_ended_without_a_report_has_no_duplicate(state: str) -> None:
    prior = REPORTED._replace(state=AttemptState[state].value)
    assert settle(LEASED._replace(state=TaskState.PENDING.value), prior).answer is Answer.EXPIRED


def test_i3_a_superseded_token_is_stale_and_late_in_every_state() -> None:
    for state in TaskState:
        found = settle(LEASED._replace(token=41, state=state.value))
        assert (found.answer, found.is_late) == (Answer.STALE, True)
        assert "token 41 is current" in found.message


@pytest.mark.parametrize("state", [s for s in TaskState if s is not TaskState.LEASED])
def test_i3_the_current_token_of_a_task_that_is_not_leased_is_expired_and_late(state: TaskState) -> None:
    found = settle(LEASED._replace(state=state.value))
    assert (found.answer, found.is_late) == (Answer.EXPIRED, True)
    assert state.name.lower() in found.message


@pytest.mark.parametrize(("now_ms", "answer"), [(9_999, Answer.ACCEPTED), (10_000, Answer.EXPIRED)])
def test_i3_a_lease_is_over_from_its_instant_on(now_ms: int, answer: Answer) -> None:
    assert settle(now_ms=now_ms).answer is answer


def test_what_is_accepted_has_no_objection() -> None:
    assert settle() == decide.Settled(Answer.ACCEPTED)


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ({"token": 0}, "from 1 to"),
        ({"token": -5}, "from 1 to"),
        ({"token": 2**62 + 1}, "from 1 to"),
        ({"outcome": "a\0b"}, "outcome holds a character"),
        ({"outcome_class": "\0"}, "outcome_class holds a character"),
        ({"error_code": "\ud800"}, "error_code holds a character"),
        ({"error": "x\udfffy"}, "error holds a character"),
        ({"outcome": "x" * 100_001}, "outcome is longer than 100000"),
        ({"outcome": "x" * 60_000, "error": "y" * 60_000}, "together are longer than 100000"),
    ],
)
def test_k3_what_no_store_could_keep_is_objected_to(spoilt: dict[str, object], words: str) -> None:
    assert words in decide.objection(REPORT._replace(**spoilt))


def test_k3_text_in_any_script_is_no_objection() -> None:
    assert decide.objection(REPORT._replace(error="Größe \U0001f600 \u2028", outcome="", token=2**62)) == ""


def test_a_token_that_was_never_granted_differs_from_a_task_that_never_was() -> None:
    assert decide.unmatched(REPORT, is_task=True).answer is Answer.INVALID
    assert decide.unmatched(REPORT, is_task=False).answer is Answer.UNKNOWN


# The state machine.


def test_every_pair_of_state_and_event_is_decided() -> None:
    """A walk over all of them: what is not in the table is refused, and a final state has no way out."""
    moves = {
        Event.CLAIM: {"PENDING": "LEASED"},
        Event.RESULT: {"LEASED": "DONE"},
        Event.FAIL_RETRY: {"LEASED": "PENDING"},
        Event.FAIL_LIMIT: {"LEASED": "PAUSED"},
        Event.RELEASE: {"LEASED": "PENDING"},
        Event.TTL_OVER: {"PAUSED": "DEAD"},
        Event.CANCEL: {"PENDING": "CANCELLED", "LEASED": "CANCELLED", "PAUSED": "CANCELLED"},
        Event.REQUEUE: dict.fromkeys(("PENDING", "LEASED", "PAUSED", "DEAD"), "PENDING"),
    }
    for state, event in itertools.product(TaskState, Event):
        expected = moves[event].get(state.name)
        found = decide.TRANSITIONS.get((state, event))
        assert (found.name if found is not None else None) == expected, (state, event)


def test_nothing_leaves_what_was_counted_or_cancelled() -> None:
    for event in Event:
        assert (TaskState.DONE, event) not in decide.TRANSITIONS
        assert (TaskState.CANCELLED, event) not in decide.TRANSITIONS


def test_every_state_can_be_reached() -> None:
    assert set(TaskState) == {TaskState.PENDING, *decide.TRANSITIONS.values()}


# Failures.


@pytest.mark.parametrize(
    ("attempts", "event"),
    [(1, Event.FAIL_RETRY), (2, Event.FAIL_RETRY), (3, Event.FAIL_LIMIT), (9, Event.FAIL_LIMIT)],
)
def test_k15_the_limit_is_reached_by_counting_at_the_claim(attempts: int, event: Event) -> None:
    assert decide.after_failure(attempts, 3) is event


@given(attempts=st.integers(1, 10**6), unit=st.floats(0, 1, exclude_max=True))
@example(attempts=1, unit=0.0)
def test_a_retry_waits_a_tenth_to_all_of_its_ceiling(attempts: int, unit: float) -> None:
    policy = TaskPolicy(retry_base_s=2.0, retry_cap_s=30.0)
    ceiling_ms = min(30.0, 2.0 * 2.0 ** min(attempts - 1, 60)) * 1000
    wait_ms = decide.retry_delay_ms(attempts, policy, unit=unit)
    assert int(ceiling_ms * 0.1) <= wait_ms <= ceiling_ms


# The lease clock.


@pytest.mark.parametrize(
    ("elapsed_s", "now_ms"),
    [(-3600.0, 5_000), (0.0, 5_000), (0.25, 5_250), (10.0, 15_000), (3600.0, 15_000), (float("inf"), 15_000)],
)
def test_i14_the_lease_clock_goes_forward_by_its_cap_at_most(elapsed_s: float, now_ms: int) -> None:
    assert decide.advance_clock_ms(5_000, elapsed_s, cap_s=10.0) == now_ms


# Fair shares.


def test_nobody_gets_anything_of_nothing() -> None:
    assert decide.share({}, {}, 5) == {}
    assert decide.share({"a": 3}, {}, 0) == {}
    assert decide.share({"a": 3, "b": 1}, {"a": 2}, -1) == {}


def test_the_least_served_catch_up_first() -> None:
    assert decide.share({"slow": 4, "fast": 9}, {"slow": 5, "fast": 1}, 4) == {"fast": 4}
    assert decide.share({"slow": 4, "fast": 9}, {"slow": 5, "fast": 1}, 7) == {"slow": 2, "fast": 5}


def test_the_first_of_equals_gets_the_odd_one() -> None:
    assert decide.share({"b": 2, "a": 2}, {}, 3) == {"b": 2, "a": 1}


subjects = st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 12), max_size=7)


@given(free=subjects, running=subjects, count=st.integers(0, 60))
def test_a_share_is_within_bounds_and_wastes_nothing(
    free: dict[str, int], running: dict[str, int], count: int
) -> None:
    given_out = decide.share(free, running, count)
    assert all(0 < number <= free[name] for name, number in given_out.items())
    assert sum(given_out.values()) == min(count, sum(free.values()))


@given(free=subjects, running=subjects, count=st.integers(0, 60))
def test_a_share_is_max_min_fair(free: dict[str, int], running: dict[str, int], count: int) -> None:
    """Whoever got one more than needed stands no higher than anybody who could still have taken one."""
    given_out = decide.share(free, running, count)
    level = {name: running.get(name, 0) + given_out.get(name, 0) for name in free}
    for name in given_out:
        for other, slots in free.items():
            if given_out.get(other, 0) < slots:
                assert level[name] - 1 <= level[other]


# What a claim takes of the line.


def line(subjects: str) -> list[Waiting]:
    return [Waiting(place, name, 0, 0, place, place, "b", "{}") for place, name in enumerate(subjects)]


def taken(chosen: list[Waiting]) -> str:
    return "".join(one.subject for one in chosen)


def test_the_line_is_taken_in_its_order_up_to_each_ceiling() -> None:
    chosen, passed = decide.choose(line("aaabacb"), {"a": 2, "b": 9}, 4)
    assert ([one.row for one in chosen], taken(passed)) == ([0, 1, 3, 6], "aac")


def test_nothing_is_taken_for_nobody() -> None:
    assert decide.choose(line("ab"), {}, 5) == ([], line("ab"))
    assert decide.choose(line("ab"), {"a": 1}, 0) == ([], line("ab"))
    assert decide.choose([], {"a": 1}, 5) == ([], [])


def test_ceilings_have_just_room_for_a_small_claim() -> None:
    assert decide.ceilings({"a": 6, "b": 6}, {}, 2) == {"a": 1, "b": 1}
    assert decide.ceilings({"a": 6, "b": 6}, {}, 3) == {"a": 2, "b": 2}
    assert decide.ceilings({"slow": 2, "quick": 6}, {"slow": 4}, 4) == {"quick": 4}
    assert decide.ceilings({"slow": 2, "quick": 6}, {"slow": 4}, 6) == {"slow": 1, "quick": 5}


def test_ceilings_of_a_large_claim_rise_by_up_to_four() -> None:
    free = {str(number): 10 for number in range(64)}
    assert set(decide.ceilings(free, {}, 100).values()) == {4}
    assert set(decide.ceilings(free, {}, 50).values()) == {2}
    assert set(decide.ceilings(free, {}, 24).values()) == {1}


@given(free=subjects, running=subjects, count=st.integers(0, 120))
def test_ceilings_have_room_for_the_claim_within_what_is_free(
    free: dict[str, int], running: dict[str, int], count: int
) -> None:
    room = decide.ceilings(free, running, count)
    assert all(0 <= number <= free[name] for name, number in room.items())
    assert sum(room.values()) >= min(count, sum(free.values()))


@given(text=st.text("abcd", max_size=30), free=subjects, running=subjects, count=st.integers(0, 40))
def test_an_exact_choice_takes_all_that_may_be_taken(
    text: str, free: dict[str, int], running: dict[str, int], count: int
) -> None:
    chosen = taken(decide.choose_exactly(line(text), free, running, count))
    possible = sum(min(text.count(name), free.get(name, 0)) for name in "abcd")
    assert len(chosen) == min(count, possible)
    assert all(chosen.count(name) <= free.get(name, 0) for name in chosen)


# Counts.


@given(st.builds(Counts, *[st.integers(0, 10**6)] * 6))
def test_i5_total_is_the_sum_of_disjoint_parts(counts: Counts) -> None:
    told = counts.as_dict()
    assert told["total"] == told["succeeded"] + told["failed"] + told["running"] + told["pending"]
    assert told["failed"] == told["dead"] + told["cancelled"]
    assert told["pending"] >= told["paused"]
    assert replace(counts, waiting=counts.waiting + 1).total == counts.total + 1
