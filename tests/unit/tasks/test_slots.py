"""Slots of a subject and how they are divided among its lanes (K15)."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixture_cases import cases
from standfast.tasks.slots import Lane, SlotPolicy, SlotsChanged, SlotsKept, adjust_slots, split_slots


def adjust(current, rate, *, samples=100, since=None):
    return adjust_slots(current, samples=samples, success_rate=rate, since_last_s=since)


def never(count):
    raise AssertionError(f"nothing may be drawn, {count} was asked")


@pytest.mark.parametrize("rate", [math.nan, math.inf, -0.1, 1.1])
def test_k15_a_rate_that_is_none_changes_nothing(rate):
    outcome = adjust(6, rate)
    assert isinstance(outcome, SlotsKept)
    assert outcome.slots == 6


def test_k15_too_few_samples_or_too_soon_changes_nothing_and_says_why():
    assert adjust(6, 0.0, samples=49) == SlotsKept(6, "49 samples, 50 are needed")
    assert adjust(6, 1.0, since=3600.0) == SlotsKept(6, "changed 3600 s ago, next after 21600 s")
    assert isinstance(adjust(6, 1.0, since=-5.0), SlotsKept)


def test_k15_slots_stay_between_3_and_10_and_come_back_into_them():
    assert adjust(10, 1.0) == SlotsKept(10, "success rate 1.00")
    assert adjust(3, 0.0) == SlotsKept(3, "success rate 0.00")
    assert adjust(50, 1.0).slots == 10
    assert adjust(0, 0.0).slots == 3


def test_k15_a_new_subject_starts_from_six():
    assert adjust(None, 1.0) == SlotsChanged(7, "success rate 1.00")
    assert adjust(None, 0.6) == SlotsKept(6, "success rate 0.60")


@pytest.mark.parametrize("case", cases("evaluation/slot_adjust.json"))
def test_k15_slots_are_adjusted_as_the_original_does(case):
    since = case["last_adjusted_seconds_ago"]
    outcome = adjust(case["current_slots"], case["success_rate"], samples=case["samples"], since=since)
    assert isinstance(outcome, SlotsChanged) == case["changed"]
    if case["changed"]:
        assert outcome.slots == case["new_slots"]
    else:
        assert outcome.slots == case["current_slots"]


def test_k15_the_originals_constants_are_the_defaults():
    policy = SlotPolicy()
    assert (policy.default, policy.minimum, policy.maximum) == (6, 3, 10)
    assert (policy.interval_s, policy.min_samples) == (21600, 50)
    assert (policy.raise_at, policy.lower_below) == (0.8, 0.5)


@given(st.none() | st.integers(-5, 20), st.floats(), st.integers(0, 200), st.none() | st.floats(0, 50000))
def test_k15_slots_never_leave_their_bounds_nor_move_by_more_than_one_within_them(
    current, rate, samples, since
):
    outcome = adjust(current, rate, samples=samples, since=since)
    assert 3 <= outcome.slots <= 10
    before = 6 if current is None else current
    if 3 <= before <= 10:
        assert abs(outcome.slots - before) <= 1


@pytest.mark.parametrize("available", [0, -1])
def test_k15_no_free_slot_gives_nothing(available):
    assert split_slots([Lane("a", 1.0, 0, 5)], total=6, available=available, draw=never) == ()


def test_k15_nothing_waiting_gives_nothing():
    assert split_slots([Lane("a", 1.0, 0, 0)], total=6, available=3, draw=never) == ()
    assert split_slots([], total=6, available=3, draw=never) == ()


def test_k15_two_lanes_of_one_name_are_a_bug():
    with pytest.raises(AssertionError, match="one name"):
        split_slots([Lane("a", 1.0, 0, 1), Lane("a", 2.0, 0, 1)], total=6, available=3, draw=never)


def test_k15_lanes_with_nothing_running_come_first_by_lot_when_there_are_too_few_slots():
    lanes = [Lane(name, 1.0, 0, 9) for name in "abcd"]
    assert split_slots(lanes, total=6, available=2, draw=lambda count: count - 1) == ("d", "c")
    assert split_slots(lanes, total=6, available=2, draw=lambda _: 0) == ("a", "b")


def test_k15_a_starving_lane_never_exceeds_the_subjects_slots():
    lanes = [Lane("a", 9.0, 6, 9), Lane("b", 1.0, 0, 9)]
    assert split_slots(lanes, total=6, available=0, draw=never) == ()
    assert split_slots(lanes, total=6, available=1, draw=never) == ("b",)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -3.0, 0.0])
def test_k15_a_weight_that_is_none_counts_as_zero(weight):
    lanes = [Lane("a", weight, 1, 9), Lane("b", 1.0, 1, 9)]
    assert split_slots(lanes, total=6, available=4, draw=never) == ("b",) * 4


def test_k15_weights_of_zero_only_share_alike():
    lanes = [Lane("a", 0.0, 0, 9), Lane("b", 0.0, 0, 9)]
    assert Counter(split_slots(lanes, total=6, available=6, draw=never)) == {"a": 3, "b": 3}


@pytest.mark.parametrize("case", cases("evaluation/slot_allocation.json"))
def test_k15_free_slots_are_divided_as_the_original_does(case):
    lanes = [
        Lane(name, weight, case["active"][name], case["missing"].get(name, 0))
        for name, weight in case["weights"].items()
    ]
    chosen = split_slots(lanes, total=case["total_slots"], available=case["slots_available"], draw=never)
    assert list(chosen) == case["selected_order"]
    assert Counter(chosen) == case["per_env"]


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 6), st.integers(0, 12)), min_size=1, max_size=6),
    st.integers(3, 10),
    st.integers(0, 12),
    st.randoms(use_true_random=False),
)
def test_k15_as_many_slots_are_given_as_there_are_and_no_lane_gets_more_than_waits(rows, total, free, luck):
    lanes = [Lane(f"e{i}", *row) for i, row in enumerate(rows)]
    chosen = Counter(split_slots(lanes, total=total, available=free, draw=luck.randrange))
    waiting = {lane.name: lane.waiting for lane in lanes}
    assert sum(chosen.values()) == min(free, sum(waiting.values()))
    assert all(count <= waiting[name] for name, count in chosen.items())
    starving = [lane.name for lane in lanes if lane.waiting and not lane.active]
    assert sum(name in chosen for name in starving) == min(free, len(starving))
