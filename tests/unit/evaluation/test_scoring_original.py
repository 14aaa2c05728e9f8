"""The original's numbers, from its own records and against a plain oracle (K16, K8)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_oracle import original_winners, rounds

from fixture_cases import cases
from standfast.evaluation.model import Scores
from standfast.evaluation.scoring import PolicyName, ScoringPolicy, SubsetScheme, score, score_document
from standfast.evaluation.scoring.frontier import epsilon
from standfast.evaluation.scoring.threshold import threshold
from standfast.evaluation.scoring.weights import original_u16, original_weights
from standfast.kernel.errors import ConfigError

ORIGINAL = ScoringPolicy(name=PolicyName.ORIGINAL)


def close(found, expected):
    return found == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("case", cases("evaluation/epsilon.json"))
def test_k16_epsilon_is_the_originals(case):
    assert close(epsilon(case["values"], case["n_samples"]), case["epsilon"])


@pytest.mark.parametrize("case", cases("evaluation/threshold.json"))
def test_k16_threshold_is_the_originals(case):
    found = threshold(
        case["prior_score"],
        case["sample_count"],
        z_score=case["z_score"],
        min_gap=case["min_gap"],
        max_gap=case["max_gap"],
    )
    assert close(found, case["threshold"])


@pytest.mark.parametrize("case", cases("evaluation/softmax_u16.json"))
def test_k8_k16_softmax_and_u16_are_the_originals_and_bad_temperatures_are_refused(case):
    # The original lets NaN and infinity through, and records what comes of it; here they are refused.
    if "raises" in case or "upstream_result" in case:
        with pytest.raises(ConfigError, match="temperature"):
            original_weights(case["scores"], float(case["temperature"]))
        return
    weights = original_weights(case["scores"], case["temperature"], min_weight=case["min_weight"])
    assert list(weights) == list(case["scores"])
    assert weights == {uid: pytest.approx(w, rel=1e-12, abs=1e-300) for uid, w in case["weights"].items()}
    u16 = original_u16(weights)
    assert {"uids": [int(uid) for uid in u16], "values": list(u16.values())} == case["u16"]


def _check(document, expected):
    printed = score_document({**document, "policy": "original"})
    numbers = {"epsilons", "thresholds", "weights"}
    for name in expected.keys() - numbers - {"u16_sum"}:
        assert printed[name] == expected[name], name
    if "epsilons" in expected:
        assert close(printed["epsilons"], expected["epsilons"])
    assert printed["weights"] == pytest.approx(expected["weights"], rel=1e-12, abs=1e-300)
    assert printed["thresholds"].keys() == expected["thresholds"].keys()
    for uid, bars in expected["thresholds"].items():
        assert printed["thresholds"][uid] == pytest.approx(bars, rel=1e-12), uid
    if "u16_sum" in expected:
        assert sum(printed["u16"]["values"]) == expected["u16_sum"]


@pytest.mark.parametrize("case", cases("evaluation/pipeline.json"))
def test_k16_the_whole_way_from_rates_to_u16_is_the_originals(case):
    _check({k: v for k, v in case.items() if k not in {"id", "expected"}}, case["expected"])


@pytest.mark.parametrize("case", cases("evaluation/named.json"))
def test_k16_named_cases_are_the_originals(case):
    _check({k: v for k, v in case.items() if k not in {"name", "why", "expected"}}, case["expected"])


def test_k16_literals_of_the_original_without_any_fixture():
    rates = {"0": {"a": 0.7, "b": 0.7}, "1": {"a": 0.85, "b": 0.85}}
    sheet = score(Scores(("a", "b"), rates, {"0": 1000, "1": 2000}, 50), ORIGINAL)
    assert sheet.frontier == ("1",)
    assert sheet.subset_winners == {"a": "1", "b": "1", "a|b": "1"}
    assert sheet.points == {"0": 0.0, "1": 4.0}
    assert sheet.thresholds["0"]["a"] == pytest.approx(0.7972111104761179)
    assert sheet.outcome.weights["1"] == pytest.approx(0.9820137900379085)
    assert sheet.outcome.u16 == {"0": 1178, "1": 64356}


def test_k16_the_original_pays_a_subject_off_the_frontier_and_one_that_never_succeeded():
    rates = {"0": {"a": 0.7, "b": 0.7}, "1": {"a": 0.75, "b": 0.75}}
    sheet = score(Scores(("a", "b"), rates, {"0": 1, "1": 2}, 50), ORIGINAL)
    assert sheet.frontier == ("1",)
    assert sheet.outcome.weights["0"] == pytest.approx(0.982, abs=1e-3)
    alone = score(Scores(("a",), {"7": {"a": 0.0}}, {"7": 1}, 50), ORIGINAL)
    assert alone.outcome.weights == {"7": 1.0}


def test_k16_epsilon_of_one_episode_or_none_is_the_largest():
    assert epsilon([0.1, 0.9], 1) == epsilon([0.1, 0.9], 0) == 0.2


def test_k16_epsilon_in_single_precision_stays_in_single_precision_until_the_root():
    values = np.array([0.1, 0.9, 0.2, 0.8], dtype=np.float32)
    assert epsilon(values, 50) == float(2 * (np.std(values) / np.sqrt(50)))


@settings(max_examples=60, deadline=None)
@given(rounds())
def test_k16_every_set_has_the_winner_of_the_plain_loops(scores):
    assert score(scores, ORIGINAL).subset_winners == original_winners(scores)


@settings(max_examples=40, deadline=None)
@given(rounds(), st.sampled_from(list(SubsetScheme)))
def test_k16_points_are_the_worth_of_the_sets_won(scores, scheme):
    sheet = score(scores, ScoringPolicy(name=PolicyName.ORIGINAL, scheme=scheme))
    expected = dict.fromkeys(scores.rates, 0.0)
    for name, winner in sheet.subset_winners.items():
        if winner is not None:
            size = len(name.split("|"))
            expected[winner] += {"linear": size, "exponential": 2 ** (size - 1), "equal": 1}[scheme]
    assert sheet.points == expected
    assert sum(sheet.sets_won.values()) == sum(w is not None for w in sheet.subset_winners.values())
    assert math.isclose(sum(sheet.outcome.weights.values()), 1.0, abs_tol=1e-9)
