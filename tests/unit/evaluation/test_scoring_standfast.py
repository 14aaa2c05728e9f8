"""What the improved policy promises: copies, improvement, the frontier, hold (K16, K8)."""

from __future__ import annotations

import dataclasses
import math
import random
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scoring_oracle import clearly_dominates, rounds, standfast_winners

from fixture_cases import cases
from standfast.evaluation.model import Scores
from standfast.evaluation.scoring import (
    Burned,
    Hold,
    PolicyName,
    ScoringPolicy,
    SubsetScheme,
    Weighted,
    report,
    score,
    score_document,
)
from standfast.evaluation.scoring.frontier import clear_dominance, clear_epsilon
from standfast.evaluation.scoring.threshold import fair_threshold, threshold
from standfast.evaluation.scoring.weights import largest_remainder_u16, qualified_weights

POLICIES = st.builds(
    ScoringPolicy,
    name=st.just(PolicyName.STANDFAST),
    temperature=st.sampled_from([0.1, 1.0, 10.0]),
    scheme=st.sampled_from(list(SubsetScheme)),
)


def a_round(rates, blocks=None, episodes=50):
    environments = tuple(sorted({name for row in rates.values() for name in row}))
    given_blocks = {uid: place for place, uid in enumerate(rates)} if blocks is None else blocks
    return Scores(environments, rates, given_blocks, episodes)


# Nobody qualifies.


def test_k16_nobody_succeeded_is_a_hold_that_says_so_never_a_uniform_split():
    outcome = score(a_round({"0": {"a": 0.0}, "1": {"a": 0.0}})).outcome
    assert outcome == Hold("nobody qualified: no subject succeeded in any environment")
    assert outcome.weights == {}


def test_k16_no_subjects_at_all_is_a_hold_under_both_policies():
    empty = Scores(("a",), {}, {}, 10)
    for name in PolicyName:
        outcome = score(empty, ScoringPolicy(name=name)).outcome
        assert outcome == Hold("nobody qualified: no subject was scored")


def test_k16_nobody_qualified_may_be_burned_where_the_policy_names_who_receives():
    outcome = score(a_round({"3": {"a": 0.0}}), ScoringPolicy(burn_uid="0")).outcome
    assert isinstance(outcome, Burned)
    assert outcome.weights == {"0": 1.0}
    assert outcome.u16 == {"0": 65535}
    assert outcome.reason.startswith("nobody qualified")
    printed = report(score(a_round({"3": {"a": 0.0}}), ScoringPolicy(burn_uid="0")))
    assert (printed["outcome"], printed["reason"]) == ("burn", outcome.reason)


def test_k16_a_hold_is_printed_with_its_reason_and_without_weights():
    printed = score_document(
        {"env_ids": ["a"], "miner_scores": {7: {"a": 0}}, "first_blocks": {7: 1}, "episodes_per_env": 50}
    )
    assert printed["outcome"] == "hold"
    assert printed["reason"] == "nobody qualified: no subject succeeded in any environment"
    assert printed["weights"] == {}
    assert printed["u16"] == {"uids": [], "values": []}


# Rules against the plain oracle.


@settings(max_examples=60, deadline=None)
@given(rounds())
def test_k16_every_set_has_the_winner_of_the_plain_loops(scores):
    assert score(scores).subset_winners == standfast_winners(scores)


@settings(max_examples=60, deadline=None)
@given(rounds(), POLICIES)
def test_k8_k16_weights_are_sound_and_nobody_is_paid_for_nothing(scores, policy):
    sheet = score(scores, policy)
    outcome = sheet.outcome
    if isinstance(outcome, Hold):
        assert not any(sheet.points.values())
        return
    assert isinstance(outcome, Weighted)
    assert list(outcome.weights) == list(outcome.u16) == list(scores.rates)
    assert all(math.isfinite(w) and w >= 0 for w in outcome.weights.values())
    assert math.isclose(math.fsum(outcome.weights.values()), 1.0, abs_tol=1e-9)
    assert sum(outcome.u16.values()) == 65535
    for uid, weight in outcome.weights.items():
        if weight > 0:
            assert sheet.points[uid] > 0
            assert uid in sheet.frontier
            assert any(scores.rates[uid].values())
        else:
            assert outcome.u16[uid] == 0


@settings(max_examples=60, deadline=None)
@given(rounds())
def test_k16_the_frontier_has_no_circles_and_is_empty_only_where_nobody_succeeded(scores):
    sheet = score(scores)
    assert set(sheet.dominates) == {
        (a, b) for a in scores.rates for b in scores.rates if a != b and clearly_dominates(scores, a, b)
    }
    succeeded = {uid for uid, row in scores.rates.items() if any(row.values())}
    assert set(sheet.frontier) == succeeded - {worse for _, worse in sheet.dominates}
    assert bool(sheet.frontier) == bool(succeeded)


# Copies.


@st.composite
def rounds_with_copies(draw, *, places):
    scores = draw(rounds(most_subjects=6))
    copied = draw(st.sampled_from(sorted(scores.rates)))
    block = scores.first_blocks.get(copied, math.inf)
    rates, blocks = dict(scores.rates), dict(scores.first_blocks)
    free = [uid for uid in range(60) if str(uid) not in rates]
    if places == "after":
        free = [uid for uid in free if uid > int(copied)]
    copies = draw(st.lists(st.sampled_from(free), unique=True, min_size=1, max_size=6))
    for uid in copies:
        rates[str(uid)] = rates[copied]
        if block != math.inf and draw(st.integers(0, 4)) > 0:
            blocks[str(uid)] = int(block) + draw(st.integers(0, 4))
    order = draw(st.permutations(list(rates)))
    crowd = dataclasses.replace(scores, rates={uid: rates[uid] for uid in order}, first_blocks=blocks)
    return scores, crowd, copied


@settings(max_examples=60, deadline=None)
@given(rounds_with_copies(places="after"), POLICIES)
def test_k16_copies_later_or_in_the_same_block_change_no_digit_of_any_honest_weight(case, policy):
    honest, crowd, _ = case
    alone, among = score(honest, policy), score(crowd, policy)
    for uid in honest.rates:
        assert among.points[uid] == alone.points[uid]
        assert among.outcome.weights.get(uid) == alone.outcome.weights.get(uid)
        assert among.outcome.u16.get(uid) == alone.outcome.u16.get(uid)
    for uid in crowd.rates.keys() - honest.rates.keys():
        assert among.points[uid] == 0
        assert among.outcome.weights.get(uid, 0.0) == 0


@settings(max_examples=60, deadline=None)
@given(rounds_with_copies(places="anywhere"), POLICIES)
def test_k16_a_copy_in_the_same_block_with_a_lower_uid_can_only_share_its_originals_place(case, policy):
    honest, crowd, copied = case
    alone, among = score(honest, policy), score(crowd, policy)

    def rates(uid):
        return [crowd.rates[uid].get(name, 0.0) for name in crowd.environments]

    equals = {uid for uid in crowd.rates if rates(uid) == rates(copied)}
    for uid in honest.rates.keys() - equals:
        assert among.outcome.weights.get(uid) == alone.outcome.weights.get(uid)
        assert among.outcome.u16.get(uid) == alone.outcome.u16.get(uid)
    before = {alone.outcome.weights.get(uid, 0.0) for uid in equals & honest.rates.keys()}
    after = [among.outcome.weights.get(uid, 0.0) for uid in equals]
    assert max(before) == max(after) == sum(after)


def test_k16_an_attackers_21_zero_point_uids_get_nothing():
    rates = {"0": {"a": 0.9}, **{str(uid): {"a": 0.5} for uid in range(1, 22)}}
    assert score(a_round(rates)).outcome.u16 == {"0": 65535, **dict.fromkeys(map(str, range(1, 22)), 0)}


def test_k16_copies_that_are_measured_with_noise_of_their_own_rarely_dominate_their_original():
    draws = np.random.default_rng(20260101)
    for environments in (1, 4, 16):
        dominated = 0
        for _ in range(40):
            rates = draws.binomial(50, 0.5, (100, environments)) / 50
            dominated += int(clear_dominance(rates, clear_epsilon(50)).sum())
        assert dominated / (40 * 100 * 99) < 1 / 300


# Improvement.


@st.composite
def improvements(draw):
    scores = draw(rounds())
    uid = draw(st.sampled_from(sorted(scores.rates)))
    name = draw(st.sampled_from(scores.environments))
    before = scores.rates[uid].get(name, 0.0)
    assume(before < 1)
    after = draw(st.sampled_from([min(1.0, before + step) for step in (0.02, 0.1, 0.3, 1.0)]))
    better = {**scores.rates, uid: {**scores.rates[uid], name: after}}
    return scores, dataclasses.replace(scores, rates=better), uid


@settings(max_examples=60, deadline=None)
@given(improvements())
def test_k16_raising_a_rate_never_loses_a_set_that_was_won(case):
    before, after, uid = case
    won = {name for name, winner in score(before).subset_winners.items() if winner == uid}
    still = {name for name, winner in score(after).subset_winners.items() if winner == uid}
    assert won <= still


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([1, 2, 5, 10, 50, 55, 200, 1000, 10**6]))
def test_k16_no_threshold_is_below_its_rate_and_none_falls_when_the_rate_rises(one, other, episodes):
    low, high = sorted((one, other))
    assert fair_threshold(low, episodes) >= low
    # One unit in the last place: rate + gap rounds.
    assert fair_threshold(low, episodes) <= fair_threshold(high, episodes) + 1e-15


# The frontier, the ceiling, circles: cases that a person can check.


def test_k16_a_dominated_first_committer_gets_nothing_though_the_original_pays_it_all_but_a_little():
    names = "abcdefgh"
    first = dict.fromkeys(names, 0.5)
    later = {**dict.fromkeys(names, 0.59), "a": 0.9}
    scores = a_round({"0": first, "1": later})
    by_original = score(scores, ScoringPolicy(name=PolicyName.ORIGINAL))
    assert by_original.outcome.weights["0"] > 0.99
    sheet = score(scores)
    assert sheet.frontier == ("1",)
    assert sheet.outcome.weights == {"0": 0.0, "1": 1.0}


def test_k16_two_early_specialists_do_not_keep_a_far_better_generalist_out():
    rates = {"0": {"a": 1.0, "b": 0.02}, "1": {"a": 0.02, "b": 1.0}, "2": {"a": 0.95, "b": 0.95}}
    assert score(a_round(rates)).outcome.weights == {"0": 0.0, "1": 0.0, "2": 1.0}


def test_k16_a_lead_within_the_noise_takes_nothing_from_who_came_first():
    sheet = score(a_round({"0": {"a": 0.7, "b": 0.7}, "1": {"a": 0.75, "b": 0.75}}))
    assert sheet.frontier == ("0", "1")
    assert sheet.outcome.weights == {"0": 1.0, "1": 0.0}


def test_k16_an_earlier_98_percent_is_displaced_by_a_perfect_record_where_luck_cannot_explain_it():
    rates = {"0": {"a": 0.98}, "1": {"a": 1.0}}
    assert score(a_round(rates, episodes=50)).outcome.weights == {"0": 1.0, "1": 0.0}
    assert score(a_round(rates, episodes=200)).outcome.weights == {"0": 0.0, "1": 1.0}
    assert threshold(0.98, 200) == 1.0
    assert fair_threshold(0.98, 200) == pytest.approx(0.9975)


def test_k16_an_earlier_perfect_subject_is_not_exceeded_but_can_be_dominated():
    assert score(a_round({"0": {"a": 1.0}, "1": {"a": 1.0}})).outcome.weights == {"0": 1.0, "1": 0.0}
    rates = {"0": {"a": 1.0, "b": 0.1}, "1": {"a": 0.98, "b": 0.9}}
    assert score(a_round(rates)).outcome.weights == {"0": 0.0, "1": 1.0}


def test_k16_a_set_is_paid_only_to_who_succeeded_in_each_of_its_environments():
    sheet = score(a_round({"0": {"a": 0.9, "b": 0.0}, "1": {"a": 0.5, "b": 0.5}}))
    assert sheet.subset_winners == {"a": "0", "b": "1", "a|b": "1"}


def test_k16_a_circle_has_a_holder_where_the_original_pays_everybody_alike():
    scores = a_round({"0": {"a": 0.5}, "1": {"a": 0.55}, "2": {"a": 0.62}})
    by_original = score(scores, ScoringPolicy(name=PolicyName.ORIGINAL))
    assert by_original.subset_winners == {"a": None}
    assert by_original.outcome.weights == {uid: pytest.approx(1 / 3) for uid in scores.rates}
    assert score(scores).outcome.weights == {"0": 0.0, "1": 0.0, "2": 1.0}


def test_k16_within_one_block_the_better_mean_comes_first_not_the_lower_uid():
    rates = {"0": {"a": 0.9, "b": 0.4, "c": 0.4}, "1": {"a": 0.7, "b": 0.7, "c": 0.7}}
    assert score(a_round(rates, blocks={"0": 5, "1": 5})).points == {"0": 1.0, "1": 11.0}


@pytest.mark.parametrize("case", cases("evaluation/named.json"))
def test_k16_on_the_originals_named_cases_nobody_without_a_point_is_paid(case):
    document = {k: v for k, v in case.items() if k not in {"name", "why", "expected"}}
    printed = score_document({**document, "policy": "standfast"})
    assert printed["policy"] == "standfast"
    if case["name"] == "single_miner_zero_score":
        assert printed["outcome"] == "hold"
        return
    assert printed["outcome"] == "weights"
    assert sum(printed["u16"]["values"]) == 65535
    for uid, points in printed["subset_scores"].items():
        assert (printed["weights"][uid] > 0) == (points > 0)


# Weights and u16 on their own.


@given(
    st.dictionaries(st.integers(0, 300).map(str), st.floats(0, 1e6), min_size=1, max_size=60),
    st.floats(1e-300, 1e300),
)
def test_k8_weights_of_any_points_at_any_temperature_are_finite_and_sum_to_1(points, temperature):
    weights = qualified_weights(points, temperature)
    if not any(points.values()):
        assert weights == {}
        return
    assert math.isclose(math.fsum(weights.values()), 1.0, abs_tol=1e-9)
    assert all(math.isfinite(w) and w >= 0 for w in weights.values())
    assert all(weights[uid] == 0 for uid in points if points[uid] == 0)
    assert sum(largest_remainder_u16(weights).values()) == 65535


def test_k8_u16_by_largest_remainder_of_three_thirds_is_exact():
    assert largest_remainder_u16({"7": 1 / 3, "8": 1 / 3, "9": 1 / 3}) == {"7": 21845, "8": 21845, "9": 21845}
    assert largest_remainder_u16({"7": 0.5, "8": 0.5, "9": 0.0}) == {"7": 32768, "8": 32767, "9": 0}


# The document.


def test_k16_uids_may_be_numbers_and_what_is_too_long_to_print_is_named():
    names = [f"e{i}" for i in range(11)]
    printed = score_document(
        {
            "env_ids": names,
            "miner_scores": {uid: {"e0": uid / 100} for uid in range(65)},
            "first_blocks": {},
            "episodes_per_env": 10,
        }
    )
    assert printed["omitted"] == {
        "subset_winners": "more than 10 environments",
        "dominates": "more than 64 subjects",
    }
    assert "subset_winners" not in printed
    assert "dominates" not in printed


# Speed.


@pytest.mark.parametrize("policy", list(PolicyName))
@pytest.mark.parametrize("scheme", list(SubsetScheme))
def test_k16_256_subjects_in_16_environments_take_less_than_a_second(policy, scheme):
    draw = random.Random(16)
    names = tuple(f"e{i}" for i in range(16))
    rates = {str(uid): {name: draw.randint(20, 40) / 50 for name in names} for uid in range(256)}
    scores = Scores(names, rates, {uid: draw.randint(1, 200) for uid in rates}, 50)
    started = time.process_time()
    sheet = score(scores, ScoringPolicy(name=policy, scheme=scheme))
    assert time.process_time() - started < 1.0
    assert sum(sheet.sets_won.values()) > 0


def test_k16_256_subjects_in_16_environments_of_which_every_set_is_a_circle_take_less_than_a_second():
    names = tuple(f"e{i}" for i in range(16))
    levels = [0.5, 0.55, *[0.62] * 254]
    rates = {str(uid): dict.fromkeys(names, level) for uid, level in enumerate(levels)}
    scores = Scores(names, rates, {uid: int(uid) for uid in rates}, 50)
    started = time.process_time()
    sheet = score(scores)
    assert time.process_time() - started < 1.0
    assert sheet.sets_won["2"] == 2**16 - 1
