"""Why each subject has its weight, in words that can be checked (K16)."""

from __future__ import annotations

from hypothesis import given, settings
from scoring_oracle import rounds

from standfast.evaluation.model import Scores
from standfast.evaluation.scoring import PolicyName, ScoringPolicy, explain, score


def test_k16_explanation_of_a_hold_says_who_never_succeeded():
    (only,) = explain(score(Scores(("a",), {"7": {"a": 0.0}}, {"7": 1}, 50)))
    assert only.reason == "never succeeded in any environment"
    assert only.weight == 0
    assert only.u16 == 0


def test_k16_explanation_names_who_dominates_whom_and_who_beat_whom():
    names = ("a", "b")
    rates = {
        "0": {"a": 0.02, "b": 0.02},
        "1": {"a": 0.8, "b": 0.8},
        "2": {"a": 0.8},
        "3": {"a": 0.85, "b": 0.82},
        "4": {"a": 1.0, "b": 0.8},
    }
    sheet = score(Scores(names, rates, {uid: int(uid) for uid in rates}, 50))
    first, winner, half, near, specialist = explain(sheet)
    assert first.dominated_by == ("1", "2", "3", "4")
    assert first.reason.startswith("off the frontier: uid 1 is nowhere worse by more than 0.14")
    assert not first.is_on_frontier
    assert winner.reason == "won 2 of 3 sets of environments: 3 of 4 points"
    assert winner.points == 3
    assert half.dominated_by == ("1", "3", "4")
    assert not half.standings[1].is_measured
    assert near.beaten_by == ("1",)
    assert near.reason == "won 0 of 3 sets of environments: on all environments together beaten by uid 1"
    assert specialist.sets_won == 1
    assert [s.holder for s in specialist.standings] == ["4", "1"]
    assert specialist.standings[0].threshold == sheet.thresholds["4"]["a"]


def test_k16_explanation_under_the_original_policy_has_its_weights():
    sheet = score(
        Scores(("a",), {"0": {"a": 0.9}, "1": {"a": 0.5}}, {"0": 1, "1": 2}, 50),
        ScoringPolicy(name=PolicyName.ORIGINAL),
    )
    first, second = explain(sheet)
    assert (first.weight, first.u16) == (sheet.outcome.weights["0"], 47909)
    assert second.beaten_by == ("0",)
    assert second.dominated_by == ("0",)


@settings(max_examples=40, deadline=None)
@given(rounds())
def test_k16_explanations_agree_with_the_sheet(scores):
    for name in PolicyName:
        sheet = score(scores, ScoringPolicy(name=name))
        explained = explain(sheet)
        assert tuple(e.uid for e in explained) == sheet.uids
        for one in explained:
            assert one.reason
            assert one.points == sheet.points[one.uid]
            assert one.is_on_frontier == (one.uid in sheet.frontier)
            assert one.uid not in one.beaten_by
            if one.dominated_by and name is PolicyName.STANDFAST:
                assert one.weight == 0
        # Of any two subjects exactly one has the pair.
        pairs = sum(len(one.beaten_by) for one in explained)
        assert pairs == len(explained) * (len(explained) - 1) // 2
