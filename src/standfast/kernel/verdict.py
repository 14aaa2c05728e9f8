"""Verdicts and findings: what the evidence supports, and how several of them combine.

1. The worst verdict wins.
2. No evidence is UNKNOWN, and UNKNOWN never opens a gate (I1).
3. SKIPPED says that a check does not apply here, and why; it neither opens nor closes a gate.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


class Verdict(enum.IntEnum):
    """What the evidence supports. A larger value is worse."""

    SKIPPED = -1  # The check does not apply here, and the message says why.
    PASS = 0
    UNKNOWN = 1  # The probe timed out, never ran, or its result is too old.
    FAIL = 2


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst verdict; no evidence at all, or only SKIPPED, is UNKNOWN, never PASS."""
    worst = max(verdicts, default=Verdict.UNKNOWN)
    return Verdict.UNKNOWN if worst is Verdict.SKIPPED else worst


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement: verdict, CamelCase reason, message, evidence, and the remedy.

    ``since`` is an ISO 8601 instant or empty; ``remedy`` is a command or an action and is required
    for every verdict that is worse than PASS.
    """

    check: str
    verdict: Verdict
    reason: str
    message: str
    subject: str = ""
    evidence: dict[str, object] = field(default_factory=dict)
    remedy: str = ""
    since: str = ""

    def __post_init__(self) -> None:
        assert self.verdict <= Verdict.PASS or self.remedy, f"{self.check}/{self.reason} names no remedy"

    def as_dict(self) -> dict[str, object]:
        """Return the finding as plain JSON values; the verdict by name."""
        return {
            "check": self.check,
            "verdict": self.verdict.name,
            "reason": self.reason,
            "subject": self.subject,
            "message": self.message,
            "evidence": dict(self.evidence),
            "remedy": self.remedy,
            "since": self.since,
        }


@dataclass(frozen=True, slots=True)
class Gate:
    """A set of findings that must all PASS before something may happen; opens only on silence."""

    name: str
    findings: Sequence[Finding]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the findings; UNKNOWN where there are none."""
        return combine(f.verdict for f in self.findings)

    @property
    def is_open(self) -> bool:
        """Whether every applicable finding is PASS and there is at least one."""
        return self.verdict is Verdict.PASS

    @property
    def objections(self) -> tuple[Finding, ...]:
        """The findings that keep the gate closed, worst first."""
        closed = [f for f in self.findings if f.verdict > Verdict.PASS]
        return tuple(sorted(closed, key=lambda f: -f.verdict))
