"""What lint says: findings with file and line, and what was looked at to say so.

1. Nothing read is no result: a report without a file that was understood is UNKNOWN, never clean (I1).
2. A finding that somebody silenced with a reason is counted, not forgotten.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from standfast.services.lint.tree import Tree


class Severity(enum.StrEnum):
    """How sure it is that this breaks, and how badly."""

    ERROR = "error"  # It fails, or does not do what it says, whenever this is used.
    WARNING = "warning"  # It fails on a bad day, or under the condition that the message names.
    INFO = "info"  # It could not be known from what was there, or is worth a look.


class FileKind(enum.StrEnum):
    """What a file declares."""

    COMPOSE = "compose"
    DOCKERFILE = "dockerfile"
    PROMETHEUS = "prometheus"
    RULES = "prometheus rules"
    ALERTMANAGER = "alertmanager"
    PM2 = "pm2"
    REQUIREMENTS = "requirements"


class Spot(NamedTuple):
    """A line of a file; lines count from 1."""

    file: Path
    line: int


@dataclass(frozen=True, slots=True)
class Hit:
    """What one rule has found at one spot; ``severity`` None takes the rule's own."""

    spot: Spot
    message: str
    fix: str
    subject: str = ""
    severity: Severity | None = None
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it looks for, why that matters with its source, and the judgement."""

    id: str
    kind: FileKind
    severity: Severity
    what: str
    why: str
    judge: Callable[[Tree], Iterable[Hit]]


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding as it is reported."""

    rule: str
    severity: Severity
    file: str
    line: int
    message: str
    fix: str
    subject: str = ""
    evidence: Mapping[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return the finding as plain JSON values."""
        return {
            "rule": self.rule, "severity": self.severity.value, "file": self.file, "line": self.line,
            "subject": self.subject, "message": self.message, "fix": self.fix,
            "evidence": dict(self.evidence),
        }  # fmt: skip


class Passed(NamedTuple):
    """A file that lint saw and did not judge, and why."""

    file: str
    why: str


@dataclass(frozen=True, slots=True)
class LintReport:
    """All findings, sorted by file and line, and what they are about."""

    findings: tuple[LintFinding, ...]
    looked_at: Mapping[FileKind, int]
    not_understood: tuple[Passed, ...] = ()
    ignored: tuple[LintFinding, ...] = ()
    processes: int | None = None

    @property
    def has_evidence(self) -> bool:
        """Whether anything was read that rules apply to."""
        return sum(self.looked_at.values()) > 0 or bool(self.findings)

    def count(self, severity: Severity) -> int:
        """Return how many findings have ``severity``."""
        return sum(finding.severity is severity for finding in self.findings)

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain JSON values."""
        return {
            "verdict": self._verdict(),
            "findings": [finding.as_dict() for finding in self.findings],
            "counts": {severity.value: self.count(severity) for severity in Severity},
            "looked_at": {kind.value: count for kind, count in self.looked_at.items()},
            "processes": self.processes,
            "not_understood": [{"file": file, "why": why} for file, why in self.not_understood],
            "ignored": [finding.as_dict() for finding in self.ignored],
        }

    def _verdict(self) -> str:
        if not self.has_evidence:
            return "UNKNOWN"
        return "FAIL" if self.count(Severity.ERROR) else "PASS"
