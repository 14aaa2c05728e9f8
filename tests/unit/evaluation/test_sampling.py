"""Sampling lists: what they refuse, and how they rotate (K1 f)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixture_cases import cases
from standfast.evaluation.sampling import Rotated, RotationSkipped, entropy_draw, rotate
from standfast.kernel.errors import ConfigError


def never(count):
    raise AssertionError(f"nothing may be drawn, {count} was asked")


def lowest(count):
    return 0


@pytest.mark.parametrize("dataset", [[(5, 5)], [(9, 3)], [(-1, 10)]])
def test_k1_a_range_that_is_empty_or_negative_is_refused(dataset):
    with pytest.raises(ConfigError, match="range"):
        rotate([], dataset=dataset, size=2, rotation=1, draw=never)


@pytest.mark.parametrize("size", [0, -1, 100_001])
def test_k1_a_size_out_of_bounds_is_refused(size):
    with pytest.raises(ConfigError, match="size"):
        rotate([], dataset=[(0, 10**9)], size=size, rotation=1, draw=never)


def test_k1_a_list_with_a_variant_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        rotate([1, 2, 1], dataset=[(0, 100)], size=3, rotation=1, draw=never)


def test_k1_a_draw_out_of_range_is_a_bug_and_not_a_variant():
    with pytest.raises(AssertionError, match="drew 100 of 100"):
        rotate([], dataset=[(0, 100)], size=1, rotation=0, draw=lambda count: count)


@pytest.mark.parametrize(
    ("current", "size", "rotation", "reason"),
    [
        ([1, 2], 2, -1, "the rotation is -1"),
        ([1, 2], 8, 1, "more than 80 % of 10"),
        ([], 8, 1, "more than 80 %"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 4, 2, "fewer than 2 variants"),
    ],
)
def test_k1_a_rotation_that_cannot_be_is_skipped_with_its_reason(current, size, rotation, reason):
    outcome = rotate(current, dataset=[(0, 10)], size=size, rotation=rotation, draw=never)
    assert isinstance(outcome, RotationSkipped)
    assert outcome.variants == tuple(current)
    assert reason in outcome.reason


def test_k1_oldest_out_first_new_ones_last_and_the_size_kept():
    outcome = rotate([7, 3, 9, 1], dataset=[(0, 20)], size=4, rotation=2, draw=lowest)
    assert outcome == Rotated(variants=(9, 1, 0, 2), removed=(7, 3), added=(0, 2))


def test_k1_what_has_just_left_does_not_come_back():
    outcome = rotate([0, 1], dataset=[(0, 10)], size=2, rotation=2, draw=lowest)
    assert outcome == Rotated(variants=(2, 3), removed=(0, 1), added=(2, 3))


def test_k1_a_dataset_of_a_thousand_million_is_not_expanded():
    outcome = rotate([], dataset=[(0, 10**9)], size=3, rotation=0, draw=lambda count: count - 1)
    assert outcome == Rotated(
        variants=(10**9 - 1, 10**9 - 2, 10**9 - 3), removed=(), added=(10**9 - 1, 10**9 - 2, 10**9 - 3)
    )


def test_k1_overlapping_ranges_count_once():
    outcome = rotate([], dataset=[(0, 6), (4, 10), (20, 22)], size=9, rotation=0, draw=lambda n: n - 1)
    assert outcome.variants == (21, 20, 9, 8, 7, 6, 5, 4, 3)


@pytest.mark.parametrize("case", cases("evaluation/sampling_rotation.json"))
def test_k1_rotation_is_the_originals_in_counts_and_order(case):
    dataset = [tuple(span) for span in case["dataset_range"]]
    outcome = rotate(
        case["current"],
        dataset=dataset,
        size=case["sampling_count"],
        rotation=case["rotation_count"],
        draw=lambda count: count // 2,
    )
    assert isinstance(outcome, RotationSkipped) == case["skipped"]
    removed = outcome.removed if isinstance(outcome, Rotated) else ()
    added = outcome.added if isinstance(outcome, Rotated) else ()
    assert list(removed) == case["removed"]
    assert (len(removed), len(added), len(outcome.variants)) == (
        case["n_removed"],
        case["n_added"],
        case["new_len"],
    )
    kept = case["kept_prefix_of_new"]
    assert list(outcome.variants[: len(kept)]) == kept
    assert outcome.variants[len(kept) :] == added
    assert all(any(first <= one < end for first, end in dataset) for one in added)
    assert not set(added) & set(case["current"])


@given(
    current=st.lists(st.integers(0, 80), unique=True, max_size=40),
    size=st.integers(1, 40),
    rotation=st.integers(0, 20),
    data=st.data(),
)
def test_k1_a_rotation_keeps_size_order_and_newness(current, size, rotation, data):
    dataset = [(0, 30), (40, 90), (100, 110)]
    outcome = rotate(
        current,
        dataset=dataset,
        size=size,
        rotation=rotation,
        draw=lambda count: data.draw(st.integers(0, count - 1)),
    )
    if isinstance(outcome, RotationSkipped):
        assert outcome.variants == tuple(current)
        return
    assert outcome.removed + outcome.variants == tuple(current) + outcome.added
    assert len(set(outcome.variants)) == len(outcome.variants)
    assert not set(outcome.added) & set(current)
    assert all(any(first <= one < end for first, end in dataset) for one in outcome.added)
    assert len(outcome.variants) == size or rotation > size


def test_k1_every_free_variant_can_be_drawn_and_no_other():
    free = {
        rotate([3, 11], dataset=[(0, 6), (10, 13)], size=3, rotation=0, draw=lambda _, k=k: k).variants[-1]
        for k in range(7)
    }
    assert free == {0, 1, 2, 4, 5, 10, 12}


class CountingEntropy:
    def __init__(self):
        self.asked = []

    def token_bytes(self, count):
        self.asked.append(count)
        return bytes(range(count))


def test_k1_a_draw_from_entropy_asks_for_16_bytes_more_than_it_needs_so_that_bias_is_nothing():
    entropy = CountingEntropy()
    assert 0 <= entropy_draw(entropy)(1000) < 1000
    assert entropy.asked == [18]
