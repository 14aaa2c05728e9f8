"""What may leave the house, and what the gate says about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """Weights that ask to be published.

    ``epoch`` is the publication's number (the last one plus one), ``weights`` and ``u16`` are keyed by
    uid, ``hotkeys`` names the identity behind each uid, ``evidence_sha256`` the document they were
    computed from, ``leader_term`` the fencing token of the scheduler that computed them.
    """

    epoch: int
    round_id: str
    weights: Mapping[str, float]
    u16: Mapping[str, int]
    hotkeys: Mapping[str, str]
    evidence_sha256: str
    leader_term: int
    computed_at: datetime


@dataclass(frozen=True, slots=True)
class Published:
    """What a publisher holds: the epoch, the term it was written under, and the document's digest."""

    epoch: int
    leader_term: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What a publisher holds could not be read: unknown, which is never the same as nothing (I1)."""

    why: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the weights rest on: how much of what was expected was scored, in all and per subject.

    ``expected`` and ``scored`` count episodes, ``subject_shares`` is scored / expected per uid in
    [0, 1], ``sha256`` names the evidence document; ``unreadable`` is empty or says why it could not be
    read, and then nothing else here counts.
    """

    expected: int
    scored: int
    subject_shares: Mapping[str, float]
    sha256: str
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class PublicationPolicy:
    """When the gate opens.

    ``min_scored_share`` bounds scored / expected of every subject that carries weight: a dead miner
    carries none and vetoes nobody (K5). ``max_age_s`` bounds the age of the weights by the wall clock
    (a future date objects too). ``burn_uid`` is the uid that is not evaluated and takes what nobody
    earned, or empty; where it takes everything, the share of all episodes counts.
    """

    min_scored_share: float = 0.9
    max_age_s: float = 3600.0
    burn_uid: str = ""


class ObjectionReason(enum.StrEnum):
    """Why the gate stays closed; one name per rule."""

    WEIGHTS_MISSING = "WeightsMissing"
    WEIGHTS_TOO_MANY = "WeightsTooMany"
    WEIGHT_NOT_FINITE = "WeightNotFinite"
    WEIGHT_NEGATIVE = "WeightNegative"
    WRONG_SUM = "WrongSum"
    WRONG_U16 = "WrongU16"
    HOTKEY_MISSING = "HotkeyMissing"
    HOTKEY_SHARED = "HotkeyShared"
    EVIDENCE_MISSING = "EvidenceMissing"
    EVIDENCE_MISMATCH = "EvidenceMismatch"
    EVIDENCE_UNREADABLE = "EvidenceUnreadable"
    COVERAGE_TOO_SMALL = "CoverageTooSmall"
    STALE = "Stale"
    FUTURE_DATED = "FutureDated"
    LAST_UNREADABLE = "LastUnreadable"
    STALE_LEADER = "StaleLeader"
    EPOCH_ROLLED_BACK = "EpochRolledBack"
    EPOCH_TAKEN = "EpochTaken"
    POLICY_EMPTY = "PolicyEmpty"


@dataclass(frozen=True, slots=True)
class Objection:
    """One reason to withhold, with what was observed and what was required."""

    reason: ObjectionReason
    message: str


@dataclass(frozen=True, slots=True)
class Publish:
    """The gate is open: send exactly this document."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Withhold:
    """Send nothing; the last good publication stays in place."""

    objections: tuple[Objection, ...]
