"""The gate in front of everything that leaves the house: every refusal first, then what may pass (R9)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standfast.publication.decide import fence, judge
from standfast.publication.document import MAX_SUBJECTS, document_of, parse, published_of, render
from standfast.publication.model import (
    Candidate,
    Evidence,
    ObjectionReason,
    PublicationPolicy,
    Publish,
    Published,
    Unreadable,
    Withhold,
)
from standfast.publication.ports import (
    PublicationRefusedError,
    StaleLeaderError,
    refusal,
)
from standfast.testing.publisher_contract import good_candidate

R = ObjectionReason
COMPUTED = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
ENDS_OF_TIME = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]


@dataclass(frozen=True)
class Question:
    """Everything that ``judge`` is asked; the defaults pass."""

    candidate: Candidate | None
    evidence: Evidence | None
    policy: PublicationPolicy | None
    last: Published | Unreadable | None
    leader_term: int = 7
    now: datetime = COMPUTED + timedelta(seconds=60)

    def judged(self) -> Publish | Withhold:
        return judge(
            self.candidate,
            evidence=self.evidence,
            policy=self.policy,
            last=self.last,
            leader_term=self.leader_term,
            now=self.now,
        )

    def with_candidate(self, **changes: object) -> Question:
        assert self.candidate is not None
        return replace(self, candidate=replace(self.candidate, **changes))  # type: ignore[arg-type]

    def with_evidence(self, **changes: object) -> Question:
        assert self.evidence is not None
        return replace(self, evidence=replace(self.evidence, **changes))  # type: ignore[arg-type]


def good() -> Question:
    return Question(
        candidate=good_candidate(epoch=5, leader_term=7),
        evidence=Evidence(
            expected=100, scored=96, subject_shares={"0": 1.0, "1": 0.9, "2": 0.95, "3": 0.0}, sha256="e" * 64
        ),
        policy=PublicationPolicy(),
        last=Published(epoch=4, leader_term=6, sha256="a" * 64),
    )


def reasons(question: Question) -> set[ObjectionReason]:
    outcome = question.judged()
    if isinstance(outcome, Publish):
        return set()
    assert outcome.objections, "withheld without a reason"
    assert all(objection.message for objection in outcome.objections)
    found = [objection.reason for objection in outcome.objections]
    assert len(found) == len(set(found)), "one objection per reason"
    return set(found)


def with_weight(uid: str, weight: object) -> Question:
    base = good_candidate()
    return good().with_candidate(weights={**base.weights, uid: weight})


def with_u16(**units: object) -> Question:
    base = good_candidate()
    return good().with_candidate(u16={**base.u16, **{uid[1:]: value for uid, value in units.items()}})


def crowd(count: int) -> Question:
    """Return a question about ``count`` subjects, of which only the first carries weight."""
    uids = [str(number) for number in range(count)]
    return good().with_candidate(
        weights=dict.fromkeys(uids, 0.0) | {"0": 1.0},
        u16=dict.fromkeys(uids, 0) | {"0": 65_535},
        hotkeys={uid: f"hotkey-{uid}" for uid in uids},
    )


def retaken(**changes: object) -> Question:
    """Return a question about the epoch that is published already, with ``changes`` to its content."""
    question = good()
    assert question.candidate is not None
    held = published_of(document_of(question.candidate))
    return replace(question, last=held).with_candidate(**changes)


EXACTLY: list[tuple[str, ObjectionReason, Question]] = [
    ("no candidate", R.WEIGHTS_MISSING, replace(good(), candidate=None)),
    ("nobody named", R.WEIGHTS_MISSING, good().with_candidate(weights={}, u16={}, hotkeys={})),
    ("too many", R.WEIGHTS_TOO_MANY, crowd(MAX_SUBJECTS + 1)),
    ("nan", R.WEIGHT_NOT_FINITE, with_weight("1", float("nan"))),
    ("inf", R.WEIGHT_NOT_FINITE, with_weight("1", float("inf"))),
    ("minus inf", R.WEIGHT_NOT_FINITE, with_weight("1", float("-inf"))),
    ("text", R.WEIGHT_NOT_FINITE, with_weight("1", "0.3")),
    ("none", R.WEIGHT_NOT_FINITE, with_weight("1", None)),
    ("bool", R.WEIGHT_NOT_FINITE, with_weight("1", True)),
    ("beyond a float", R.WEIGHT_NOT_FINITE, with_weight("1", 10**400)),
    (
        "negative",
        R.WEIGHT_NEGATIVE,
        good().with_candidate(
            weights={"0": 1.2, "1": -0.2}, u16={"0": 65_535, "1": 0}, hotkeys={"0": "a", "1": "b"}
        ),
    ),
    ("sum above", R.WRONG_SUM, with_weight("1", 0.3 + 3e-9)),
    ("sum below", R.WRONG_SUM, with_weight("1", 0.29)),
    ("sum beyond a float", R.WRONG_SUM, with_weight("1", 1e308)),
    ("zero total", R.WRONG_SUM, good().with_candidate(weights={"0": 0.0, "1": 0.0, "2": 0.0})),
    ("u16 sum", R.WRONG_U16, with_u16(_0=32_767)),
    ("u16 float", R.WRONG_U16, with_u16(_0=32_768.0)),
    ("u16 bool", R.WRONG_U16, with_u16(_0=True)),
    ("u16 above", R.WRONG_U16, with_u16(_0=65_536)),
    ("u16 negative", R.WRONG_U16, with_u16(_0=-1)),
    ("u16 of another", R.WRONG_U16, with_u16(_3=0)),
    ("u16 not largest remainder", R.WRONG_U16, with_u16(_0=32_767, _1=19_660, _2=13_108)),
    ("u16 shuffled", R.WRONG_U16, with_u16(_0=19_660, _1=32_768, _2=13_107)),
    (
        "u16 for zero weight",
        R.WRONG_U16,
        good().with_candidate(
            weights={"0": 1.0, "1": 0.0}, u16={"0": 65_534, "1": 1}, hotkeys={"0": "a", "1": "b"}
        ),
    ),
    ("no hotkey", R.HOTKEY_MISSING, good().with_candidate(hotkeys={"0": "a", "1": "b"})),
    ("empty hotkey", R.HOTKEY_MISSING, good().with_candidate(hotkeys={"0": "a", "1": "b", "2": ""})),
    ("blank hotkey", R.HOTKEY_MISSING, good().with_candidate(hotkeys={"0": "a", "1": "b", "2": " "})),
    ("surrogate", R.HOTKEY_MISSING, good().with_candidate(hotkeys={"0": "a", "1": "b", "2": "\ud800"})),
    ("shared hotkey", R.HOTKEY_SHARED, good().with_candidate(hotkeys={"0": "a", "1": "b", "2": "b"})),
    ("no evidence", R.EVIDENCE_MISSING, replace(good(), evidence=None)),
    ("no digest", R.EVIDENCE_MISSING, good().with_candidate(evidence_sha256="")),
    ("no real digest", R.EVIDENCE_MISSING, good().with_candidate(evidence_sha256="E" * 64)),
    ("no round", R.EVIDENCE_MISSING, good().with_candidate(round_id="")),
    ("other evidence", R.EVIDENCE_MISMATCH, good().with_evidence(sha256="f" * 64)),
    ("unreadable", R.EVIDENCE_UNREADABLE, good().with_evidence(unreadable="the store is locked")),
    (
        "unreadable and zero",
        R.EVIDENCE_UNREADABLE,
        replace(good(), evidence=Evidence(0, 0, {}, sha256="", unreadable="disk I/O error")),
    ),
    (
        "share too small",
        R.COVERAGE_TOO_SMALL,
        good().with_evidence(subject_shares={"0": 1, "1": 0.89, "2": 1}),
    ),
    ("share unknown", R.COVERAGE_TOO_SMALL, good().with_evidence(subject_shares={"0": 1.0, "1": 1.0})),
    (
        "share nan",
        R.COVERAGE_TOO_SMALL,
        good().with_evidence(subject_shares={"0": 1, "1": float("nan"), "2": 1}),
    ),
    ("share above 1", R.COVERAGE_TOO_SMALL, good().with_evidence(subject_shares={"0": 1, "1": 1.1, "2": 1})),
    ("k5 empty round", R.COVERAGE_TOO_SMALL, good().with_evidence(expected=0, scored=0)),
    ("nothing scored", R.COVERAGE_TOO_SMALL, good().with_evidence(scored=0)),
    ("more than expected", R.COVERAGE_TOO_SMALL, good().with_evidence(scored=101)),
    (
        "burn everything on little",
        R.COVERAGE_TOO_SMALL,
        replace(crowd(1), policy=PublicationPolicy(burn_uid="0")).with_evidence(scored=89),
    ),
    ("stale", R.STALE, replace(good(), now=COMPUTED + timedelta(seconds=3600, milliseconds=1))),
    ("no zone", R.STALE, good().with_candidate(computed_at=COMPUTED.replace(tzinfo=None))),
    ("future", R.FUTURE_DATED, replace(good(), now=COMPUTED - timedelta(milliseconds=1))),
    ("clock an hour back", R.FUTURE_DATED, replace(good(), now=COMPUTED - timedelta(hours=1))),
    ("last unreadable", R.LAST_UNREADABLE, replace(good(), last=Unreadable("000004.json is torn"))),
    ("leader changed", R.STALE_LEADER, replace(good(), leader_term=8)),
    ("term from the future", R.STALE_LEADER, replace(good(), leader_term=6)),
    ("no term", R.STALE_LEADER, good().with_candidate(leader_term=None)),
    ("fenced", R.STALE_LEADER, replace(good(), last=Published(epoch=4, leader_term=8, sha256="a" * 64))),
    ("rolled back", R.EPOCH_ROLLED_BACK, replace(good(), last=Published(6, leader_term=6, sha256="a" * 64))),
    ("epoch zero", R.EPOCH_ROLLED_BACK, replace(good(), last=None).with_candidate(epoch=0)),
    ("epoch text", R.EPOCH_ROLLED_BACK, good().with_candidate(epoch="5")),
    ("other round", R.EPOCH_TAKEN, retaken(round_id="another")),
    ("other time", R.EPOCH_TAKEN, retaken(computed_at=COMPUTED + timedelta(seconds=1))),
    ("other hotkey", R.EPOCH_TAKEN, retaken(hotkeys={"0": "a", "1": "b", "2": "c"})),
    ("no policy", R.POLICY_EMPTY, replace(good(), policy=None)),
    ("no share required", R.POLICY_EMPTY, replace(good(), policy=PublicationPolicy(min_scored_share=0.0))),
    (
        "share nan required",
        R.POLICY_EMPTY,
        replace(good(), policy=PublicationPolicy(min_scored_share=float("nan"))),
    ),
    (
        "share above 1 required",
        R.POLICY_EMPTY,
        replace(good(), policy=PublicationPolicy(min_scored_share=1.1)),
    ),
    ("any age", R.POLICY_EMPTY, replace(good(), policy=PublicationPolicy(max_age_s=float("inf")))),
    ("no age", R.POLICY_EMPTY, replace(good(), policy=PublicationPolicy(max_age_s=0.0))),
]


@pytest.mark.parametrize(
    ("reason", "question"), [row[1:] for row in EXACTLY], ids=[row[0] for row in EXACTLY]
)
def test_r9_one_flaw_is_withheld_for_exactly_its_reason(reason: ObjectionReason, question: Question) -> None:
    assert reasons(question) == {reason}


def test_r9_every_reason_has_a_row() -> None:
    assert {reason for _, reason, _ in EXACTLY} == set(ObjectionReason)


def test_r9_all_objections_are_collected() -> None:
    question = replace(
        good(),
        policy=None,
        evidence=None,
        last=Published(epoch=9, leader_term=9, sha256="a" * 64),
        now=COMPUTED - timedelta(hours=1),
    ).with_candidate(weights={"0": float("nan"), "1": 0.5}, u16={"0": 1}, hotkeys={})
    assert reasons(question) == {
        R.POLICY_EMPTY,
        R.EVIDENCE_MISSING,
        R.HOTKEY_MISSING,
        R.WEIGHT_NOT_FINITE,
        R.WRONG_U16,
        R.FUTURE_DATED,
        R.STALE_LEADER,
        R.EPOCH_ROLLED_BACK,
    }


def test_r9_no_candidate_still_names_what_else_is_missing() -> None:
    question = replace(good(), candidate=None, evidence=None, policy=None, last=Unreadable("gone"))
    assert reasons(question) == {R.WEIGHTS_MISSING, R.EVIDENCE_MISSING, R.POLICY_EMPTY, R.LAST_UNREADABLE}


def test_r9_what_is_broken_is_not_what_was_published() -> None:
    assert reasons(retaken(weights={"0": 0.5, "1": float("nan"), "2": 0.2})) == {
        R.WEIGHT_NOT_FINITE,
        R.EPOCH_TAKEN,
    }


def test_k17_good_weights_are_published_as_they_are() -> None:
    question = good()
    assert question.candidate is not None
    assert question.judged() == Publish(question.candidate)


def test_k17_the_first_publication_needs_no_predecessor() -> None:
    assert reasons(replace(good(), last=None).with_candidate(epoch=1)) == set()


def test_k5_a_dead_subject_without_weight_vetoes_nobody() -> None:
    assert reasons(good().with_evidence(scored=50, subject_shares={"0": 1.0, "1": 1.0, "2": 1.0})) == set()


def test_k17_burn_takes_weight_without_being_evaluated() -> None:
    shares = {"0": 1.0, "1": 1.0}
    question = replace(good().with_evidence(subject_shares=shares), policy=PublicationPolicy(burn_uid="2"))
    assert reasons(question) == set()


def test_k17_everything_burns_where_the_evidence_is_complete() -> None:
    assert reasons(replace(crowd(1), policy=PublicationPolicy(burn_uid="0"))) == set()


def test_r9_the_limits_themselves_pass() -> None:
    edge = replace(good(), now=COMPUTED + timedelta(seconds=3600))
    assert reasons(edge.with_evidence(subject_shares={"0": 0.9, "1": 0.9, "2": 0.9})) == set()
    assert reasons(replace(good(), now=COMPUTED)) == set()
    assert reasons(crowd(MAX_SUBJECTS)) == set()


def test_i7_the_same_again_passes_and_is_left_to_the_publisher() -> None:
    assert reasons(retaken()) == set()


def test_i7_the_next_leader_may_send_the_same_again() -> None:
    assert reasons(replace(retaken(leader_term=8), leader_term=8)) == set()


def test_i7_the_fence_refuses_a_stale_leader_with_its_own_error() -> None:
    document = document_of(good_candidate(epoch=5, leader_term=7))
    error = refusal(fence(document, Published(epoch=6, leader_term=8, sha256="a" * 64)))
    assert isinstance(error, StaleLeaderError)
    assert [objection.reason for objection in error.objections] == [R.STALE_LEADER, R.EPOCH_ROLLED_BACK]
    assert (error.code, error.exit_code) == ("StaleLeader", 5)


def test_i7_the_fence_names_the_first_reason_as_the_code() -> None:
    document = document_of(good_candidate(epoch=5, leader_term=7))
    error = refusal(fence(document, Published(epoch=5, leader_term=7, sha256="a" * 64)))
    assert isinstance(error, PublicationRefusedError)
    assert not isinstance(error, StaleLeaderError)
    assert error.code == "EpochTaken"


def test_r9_a_caller_without_a_zone_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        replace(good(), now=datetime(2026, 1, 2)).judged()  # noqa: DTZ001


# Every corruption changes a good question so that publishing would be wrong.
Corruption = Callable[[random.Random, Question], Question]


def _some_uid(rng: random.Random, question: Question) -> str:
    assert question.candidate is not None
    return rng.choice(sorted(question.candidate.weights))


def _weight(rng: random.Random, question: Question) -> Question:
    assert question.candidate is not None
    uid = _some_uid(rng, question)
    old = question.candidate.weights[uid]
    bad = rng.choice(
        [
            float("nan"),
            float("inf"),
            -float("inf"),
            -rng.random() - 1e-6,
            old + rng.uniform(1e-8, 2),
            None,
            "1",
            1e308,
        ]
    )
    return question.with_candidate(weights={**question.candidate.weights, uid: bad})


def _weight_moved(rng: random.Random, question: Question) -> Question:
    """Move weight between two subjects without their u16 following; the sum stays 1."""
    assert question.candidate is not None
    weights = dict(question.candidate.weights)
    giver = max(weights, key=lambda uid: weights[uid])
    taker = rng.choice([uid for uid in sorted(weights) if uid != giver])
    moved = rng.uniform(3 / 65_535, weights[giver])
    weights[giver] -= moved
    weights[taker] += moved
    return question.with_candidate(weights=weights)


def _uid_dropped(rng: random.Random, question: Question) -> Question:
    assert question.candidate is not None
    uid = _some_uid(rng, question)
    field = rng.choice(["weights", "u16", "hotkeys"])
    held = dict(getattr(question.candidate, field))
    del held[uid]
    return question.with_candidate(**{field: held})


def _u16(rng: random.Random, question: Question) -> Question:
    assert question.candidate is not None
    uid = _some_uid(rng, question)
    u16 = dict(question.candidate.u16)
    u16[uid] = rng.choice(
        [u16[uid] + rng.randint(1, 65_535), u16[uid] - rng.randint(1, 65_535), 0.5, None, "7"]
    )
    return question.with_candidate(u16=u16)


def _u16_moved(rng: random.Random, question: Question) -> Question:
    assert question.candidate is not None
    u16 = dict(question.candidate.u16)
    giver = max(u16, key=lambda uid: u16[uid])
    taker = rng.choice([uid for uid in sorted(u16) if uid != giver])
    moved = rng.randint(3, u16[giver])
    u16[giver] -= moved
    u16[taker] += moved
    return question.with_candidate(u16=u16)


def _hotkey(rng: random.Random, question: Question) -> Question:
    assert question.candidate is not None
    hotkeys = dict(question.candidate.hotkeys)
    uid = _some_uid(rng, question)
    other = rng.choice([name for name in sorted(hotkeys) if name != uid])
    hotkeys[uid] = rng.choice(["", " ", "a b", "\x00", "ключ", "x" * 129, None, hotkeys[other]])
    return question.with_candidate(hotkeys=hotkeys)


def _evidence(rng: random.Random, question: Question) -> Question:
    assert question.candidate is not None
    uid = _some_uid(rng, question)
    assert question.evidence is not None
    share = rng.choice([None, float("nan"), -0.1, rng.uniform(0, 0.899), 1.0001, float("inf")])
    return rng.choice(
        [
            replace(question, evidence=None),
            question.with_evidence(unreadable="disk I/O error"),
            question.with_evidence(sha256=f"{rng.getrandbits(256):064x}"),
            question.with_candidate(evidence_sha256=rng.choice(["", "x", f"{rng.getrandbits(256):064x}"])),
            question.with_evidence(expected=rng.choice([0, -1, None, 1.5])),
            question.with_evidence(scored=rng.choice([0, -1, None, question.evidence.expected + 1])),
            question.with_evidence(subject_shares={**question.evidence.subject_shares, uid: share}),
            question.with_evidence(subject_shares={}),
        ]
    )


def _age(rng: random.Random, question: Question) -> Question:
    return rng.choice(
        [
            replace(question, now=COMPUTED - timedelta(seconds=rng.uniform(1e-3, 1e8))),
            replace(question, now=COMPUTED + timedelta(seconds=3600 + rng.uniform(1e-3, 1e8))),
            question.with_candidate(computed_at=rng.choice([None, COMPUTED.replace(tzinfo=None)])),
            question.with_candidate(computed_at=rng.choice(ENDS_OF_TIME)),
        ]
    )


def _order(rng: random.Random, question: Question) -> Question:
    taken = Published(epoch=5, leader_term=7, sha256=f"{rng.getrandbits(256):064x}")
    return rng.choice(
        [
            replace(question, leader_term=7 + rng.choice([-1, 1]) * rng.randint(1, 10**6)),
            question.with_candidate(leader_term=rng.choice([None, -7, "7", 6, 8, 7.0, True])),
            replace(question, last=Published(epoch=4, leader_term=rng.randint(8, 10**6), sha256="a" * 64)),
            replace(question, last=Published(epoch=rng.randint(6, 10**6), leader_term=6, sha256="a" * 64)),
            question.with_candidate(epoch=rng.choice([0, -1, 3, None, "5", 2**60, True])),
            replace(question, last=taken),
            replace(question, last=Unreadable("no answer")),
        ]
    )


def _rest(rng: random.Random, question: Question) -> Question:
    share, age = rng.choice([(0.0, 1.0), (float("nan"), 1.0), (-1.0, 1.0), (1.0, float("nan")), (2.0, 1.0)])
    policy = PublicationPolicy(min_scored_share=share, max_age_s=age)
    return rng.choice(
        [
            replace(question, candidate=None),
            question.with_candidate(round_id=rng.choice(["", " ", "\n", "x" * 200, None])),
            replace(question, policy=rng.choice([None, policy])),
        ]
    )


CORRUPTIONS: list[Corruption] = [
    _weight,
    _weight_moved,
    _uid_dropped,
    _u16,
    _u16_moved,
    _hotkey,
    _evidence,
    _age,
    _order,
    _rest,
]


def _largest_remainder(weights: dict[str, float]) -> dict[str, int]:
    floors = {uid: int(weight * 65_535) for uid, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda uid: floors[uid] - weights[uid] * 65_535)
    for uid in by_remainder[: 65_535 - sum(floors.values())]:
        floors[uid] += 1
    return floors


def _good_question(rng: random.Random) -> Question:
    uids = [str(number) for number in range(rng.randint(3, 12))]
    points = [rng.random() + 0.01 for _ in uids]
    weights = {uid: point / sum(points) for uid, point in zip(uids, points, strict=True)}
    question = good().with_candidate(
        weights=weights,
        u16=_largest_remainder(weights),
        hotkeys={uid: f"hotkey-{uid}" for uid in uids},
    )
    return question.with_evidence(subject_shares={uid: rng.uniform(0.9, 1.0) for uid in uids})


@settings(max_examples=3000, deadline=None)
@given(seed=st.integers(0, 2**63), corrupt=st.sampled_from(CORRUPTIONS))
def test_r9_nothing_corrupted_is_ever_published(seed: int, corrupt: Corruption) -> None:
    rng = random.Random(seed)
    question = _good_question(rng)
    assert isinstance(question.judged(), Publish), "the question was good before it was corrupted"
    outcome = corrupt(rng, question).judged()
    assert isinstance(outcome, Withhold)
    assert outcome.objections


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**63))
def test_r9_whatever_the_gate_passes_can_be_written_and_read_back(seed: int) -> None:
    question = _good_question(random.Random(seed))
    outcome = question.judged()
    assert isinstance(outcome, Publish)
    document = document_of(outcome.candidate)
    assert parse(render(document)) == document
