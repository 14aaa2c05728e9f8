"""Decides whether weights may leave the house: collects every objection and opens only on silence.

1. What is missing, unknown or unreadable objects; it never counts as zero, empty or fine (I1).
2. Every rule speaks, whatever the others said, so that an operator sees all reasons at once. A rule is
   silent only where another one has already said that its input cannot be judged.
3. Coverage is asked of those that carry weight: a dead miner carries none and vetoes nobody (K5).
4. An epoch is published once. The same content again is no objection: the publisher answers
   ``AlreadyThere``, which is what makes a retry after a crash or a lost reply safe (I7).
5. A term that is not the leader's own, or is below what was published under, is a stale leader (I7).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from standfast.publication.document import (
    MAX_NUMBER,
    MAX_SUBJECTS,
    U16_MAX,
    Document,
    DocumentError,
    document_of,
    is_count,
    is_name,
    is_repeat,
    is_sha256,
    is_weight,
)
from standfast.publication.model import (
    Candidate,
    Evidence,
    Objection,
    ObjectionReason,
    PublicationPolicy,
    Publish,
    Published,
    Unreadable,
    Withhold,
)

# Acceptance K8: weights sum to 1 within this.
SUM_TOLERANCE: Final = 1e-9
# What the sum's tolerance becomes when it is spread over 65,535 units, with room for rounding.
_U16_TOLERANCE: Final = 1e-4
_SHOWN: Final = 5


def judge(
    candidate: Candidate | None,
    *,
    evidence: Evidence | None,
    policy: PublicationPolicy | None,
    last: Published | Unreadable | None,
    leader_term: int,
    now: datetime,
) -> Publish | Withhold:
    """Decide whether ``candidate`` may be published over ``last``, with every reason if it may not.

    ``last`` is what the publisher answered just now (None: it holds nothing), ``leader_term`` the term
    under which the caller leads now, ``now`` an aware instant.
    """
    assert now.tzinfo is not None, "an instant without a zone cannot be compared"
    objections = [
        *_policy_objections(policy),
        *_evidence_objections(candidate, evidence),
        *_last_objections(last),
    ]
    if candidate is None:
        objections.append(Objection(ObjectionReason.WEIGHTS_MISSING, "no weights were computed"))
        return Withhold(tuple(objections))
    objections += [
        *_content_objections(candidate),
        *_coverage_objections(candidate, evidence, policy),
        *_age_objections(candidate, policy, now),
        *_leader_objections(candidate, leader_term),
        *_succession_objections(candidate, last),
    ]
    return Withhold(_one_per_reason(objections)) if objections else Publish(candidate)


def fence(document: Document, held: Published | None) -> tuple[Objection, ...]:
    """Return why a publisher that holds ``held`` must refuse ``document``; empty where it must take it.

    With no objection and the same epoch, ``document`` is already there. Gaps are allowed: a publisher
    that was unreachable for some epochs takes the next one it is given.
    """
    is_same = held is not None and is_repeat(document, held)
    return tuple(_fence(document.epoch, document.leader_term, held=held, is_same=is_same))


def _fence(epoch: int, term: int, *, held: Published | None, is_same: bool) -> Iterator[Objection]:
    if held is None:
        return
    if term < held.leader_term:
        yield Objection(
            ObjectionReason.STALE_LEADER,
            f"leader term {term} is below {held.leader_term}, under which epoch {held.epoch} was published",
        )
    if epoch < held.epoch:
        yield Objection(
            ObjectionReason.EPOCH_ROLLED_BACK,
            f"epoch {epoch} is below {held.epoch}, which is already published",
        )
    if epoch == held.epoch and not is_same:
        yield Objection(
            ObjectionReason.EPOCH_TAKEN,
            f"epoch {epoch} is already published with other content (sha256 {held.sha256})",
        )


def _policy_objections(policy: PublicationPolicy | None) -> Iterator[Objection]:
    if policy is None:
        yield Objection(ObjectionReason.POLICY_EMPTY, "there is no publication policy")
    elif not _is_sound(policy):
        yield Objection(
            ObjectionReason.POLICY_EMPTY,
            "the policy requires nothing: min_scored_share must be in (0, 1] and max_age_s finite and > 0,"
            f" not {policy.min_scored_share!r} and {policy.max_age_s!r}",
        )


def _is_sound(policy: PublicationPolicy) -> bool:
    numbers = is_weight(policy.min_scored_share) and is_weight(policy.max_age_s)
    return numbers and 0 < policy.min_scored_share <= 1 and policy.max_age_s > 0


def _evidence_objections(candidate: Candidate | None, evidence: Evidence | None) -> Iterator[Objection]:
    if evidence is not None and evidence.unreadable:
        yield Objection(
            ObjectionReason.EVIDENCE_UNREADABLE, f"the evidence could not be read: {evidence.unreadable}"
        )
        return
    if evidence is None:
        yield Objection(ObjectionReason.EVIDENCE_MISSING, "there is no evidence for these weights")
    if candidate is None:
        return
    if not is_sha256(candidate.evidence_sha256) or not is_name(candidate.round_id):
        yield Objection(
            ObjectionReason.EVIDENCE_MISSING,
            "the weights do not name the round and the evidence they rest on",
        )
    elif evidence is not None and candidate.evidence_sha256 != evidence.sha256:
        yield Objection(
            ObjectionReason.EVIDENCE_MISMATCH,
            f"the weights rest on evidence {candidate.evidence_sha256}, what is stored is {evidence.sha256}",
        )


def _last_objections(last: Published | Unreadable | None) -> Iterator[Objection]:
    if isinstance(last, Unreadable):
        yield Objection(
            ObjectionReason.LAST_UNREADABLE, f"what is published now could not be read: {last.why}"
        )


def _content_objections(candidate: Candidate) -> Iterator[Objection]:
    weights = candidate.weights
    if not weights:
        yield Objection(ObjectionReason.WEIGHTS_MISSING, "the weights name nobody")
        return
    if len(weights) > MAX_SUBJECTS:
        yield Objection(
            ObjectionReason.WEIGHTS_TOO_MANY,
            f"{len(weights)} subjects carry an entry, a publication holds at most {MAX_SUBJECTS}",
        )
    yield from _name_objections(candidate)
    numbers = tuple(_number_objections(weights))
    yield from numbers
    flaw = _u16_flaw(weights, candidate.u16)
    if not flaw and not numbers:
        flaw = _rounding_flaw(weights, candidate.u16)
    if flaw:
        yield Objection(ObjectionReason.WRONG_U16, flaw)


def _name_objections(candidate: Candidate) -> Iterator[Objection]:
    named = {uid: candidate.hotkeys.get(uid) for uid in candidate.weights}
    nameless = [uid for uid, hotkey in named.items() if not (is_name(uid) and is_name(hotkey))]
    if nameless:
        yield Objection(ObjectionReason.HOTKEY_MISSING, f"no usable hotkey behind {_listed(nameless)}")
    bearers = Counter(named.values())
    shared = [uid for uid, hotkey in named.items() if hotkey and bearers[hotkey] > 1]
    if shared:
        yield Objection(
            ObjectionReason.HOTKEY_SHARED, f"{_listed(shared)} share a hotkey: who is paid is unclear"
        )


def _number_objections(weights: Mapping[str, float]) -> Iterator[Objection]:
    broken = [uid for uid, weight in weights.items() if not is_weight(weight)]
    if broken:
        yield Objection(ObjectionReason.WEIGHT_NOT_FINITE, f"no finite number for {_listed(broken)}")
        return
    negative = [uid for uid, weight in weights.items() if weight < 0]
    if negative:
        yield Objection(ObjectionReason.WEIGHT_NEGATIVE, f"weight below zero for {_listed(negative)}")
    # Not math.fsum: it raises where finite weights add up to more than a float holds; here that is a sum too.
    total = sum(float(weight) for weight in weights.values())
    if not abs(total - 1.0) <= SUM_TOLERANCE:
        yield Objection(
            ObjectionReason.WRONG_SUM, f"the weights sum to {total!r}, not to 1 within {SUM_TOLERANCE}"
        )


def _u16_flaw(weights: Mapping[str, float], u16: Mapping[str, int]) -> str:
    """Return what is wrong with ``u16`` in itself, or ""."""
    if u16.keys() != weights.keys():
        return "the u16 weights name other uids than the weights"
    if not all(is_count(units, least=0, most=U16_MAX) for units in u16.values()):
        return f"a u16 weight is not an integer from 0 to {U16_MAX}"
    total = sum(u16.values())
    return "" if total == U16_MAX else f"the u16 weights sum to {total}, not to {U16_MAX}"


def _rounding_flaw(weights: Mapping[str, float], u16: Mapping[str, int]) -> str:
    """Return what keeps ``u16`` from being the largest-remainder rounding of ``weights`` (K8), or "".

    Rounded up by r means a remainder of 1 - r, rounded down by r means a remainder of r. The largest
    remainders were rounded up exactly if no error upwards and error downwards are more than one unit
    apart, whichever way ties were broken.
    """
    paid = [uid for uid, weight in weights.items() if weight == 0 and u16[uid] > 0]
    if paid:
        return f"u16 above zero for the zero weight of {_listed(paid)}"
    errors = [u16[uid] - weight * U16_MAX for uid, weight in weights.items()]
    if max(errors) - min(errors) > 1 + _U16_TOLERANCE:
        return "the u16 weights are not the weights rounded by largest remainder"
    return ""


def _coverage_objections(
    candidate: Candidate, evidence: Evidence | None, policy: PublicationPolicy | None
) -> Iterator[Objection]:
    if evidence is None or evidence.unreadable or policy is None or not _is_sound(policy):
        return
    counted = is_count(evidence.expected, least=1) and is_count(evidence.scored, least=1)
    if not counted or evidence.scored > evidence.expected:
        yield Objection(
            ObjectionReason.COVERAGE_TOO_SMALL,
            f"{evidence.scored!r} of {evidence.expected!r} episodes scored supports no weights",
        )
        return
    carrying = [
        uid
        for uid, weight in candidate.weights.items()
        if is_weight(weight) and weight > 0 and uid != policy.burn_uid
    ]
    least = policy.min_scored_share
    thin = [uid for uid in carrying if not _covers(evidence.subject_shares.get(uid), least)]
    if thin:
        yield Objection(
            ObjectionReason.COVERAGE_TOO_SMALL,
            f"less than {least:.0%} of the episodes scored, or no share known, for {_listed(thin)}",
        )
    if not carrying and evidence.scored < least * evidence.expected:
        yield Objection(
            ObjectionReason.COVERAGE_TOO_SMALL,
            f"{evidence.scored} of {evidence.expected} episodes scored is too little to burn everything",
        )


def _covers(share: object, least: float) -> bool:
    return is_weight(share) and least <= share <= 1


def _age_objections(
    candidate: Candidate, policy: PublicationPolicy | None, now: datetime
) -> Iterator[Objection]:
    if not isinstance(candidate.computed_at, datetime) or candidate.computed_at.tzinfo is None:
        yield Objection(
            ObjectionReason.STALE, "the weights carry no instant with a zone, so their age is unknown"
        )
        return
    age_s = (now - candidate.computed_at).total_seconds()
    if age_s < 0:
        yield Objection(
            ObjectionReason.FUTURE_DATED,
            f"the weights are dated {-age_s:.3f} s in the future: a clock jumped, or differs",
        )
    if policy is not None and _is_sound(policy) and age_s > policy.max_age_s:
        yield Objection(
            ObjectionReason.STALE, f"the weights are {age_s:.0f} s old, the limit is {policy.max_age_s:.0f} s"
        )


def _leader_objections(candidate: Candidate, leader_term: int) -> Iterator[Objection]:
    if not is_count(candidate.leader_term, least=0) or candidate.leader_term != leader_term:
        yield Objection(
            ObjectionReason.STALE_LEADER,
            f"the weights carry leader term {candidate.leader_term!r}, the leader's term is {leader_term}",
        )


def _succession_objections(candidate: Candidate, last: Published | Unreadable | None) -> Iterator[Objection]:
    if not is_count(candidate.epoch, least=1):
        yield Objection(
            ObjectionReason.EPOCH_ROLLED_BACK,
            f"epoch {candidate.epoch!r} is not a number from 1 to {MAX_NUMBER}",
        )
        return
    if isinstance(last, Published) and is_count(candidate.leader_term, least=0):
        is_same = _is_repeat(candidate, last)
        yield from _fence(candidate.epoch, candidate.leader_term, held=last, is_same=is_same)


def _is_repeat(candidate: Candidate, last: Published) -> bool:
    try:
        return is_repeat(document_of(candidate), last)
    except DocumentError:
        # What cannot even be written is not what was published; its flaws have their own objections.
        return False


def _one_per_reason(objections: Iterable[Objection]) -> tuple[Objection, ...]:
    messages: dict[ObjectionReason, list[str]] = {}
    for objection in objections:
        messages.setdefault(objection.reason, []).append(objection.message)
    return tuple(Objection(reason, "; ".join(said)) for reason, said in messages.items())


def _listed(uids: list[str]) -> str:
    shown = ", ".join(f"uid {str(uid)[:128]!r}" for uid in uids[:_SHOWN])
    return shown if len(uids) <= _SHOWN else f"{shown} and {len(uids) - _SHOWN} more"
