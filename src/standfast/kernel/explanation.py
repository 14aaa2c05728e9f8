"""Why something stands where it stands: ordered gates, of which the first closed one is the answer.

Every capability explains its own subjects in this one form. A gate that does not apply, or was not reached
because one before it is closed, is SKIPPED and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from standfast.kernel.verdict import Verdict, combine


@dataclass(frozen=True, slots=True)
class ExplainedGate:
    """One thing that must hold: what was observed, what would have been right, and what clears it.

    ``since`` is an ISO 8601 instant or empty; ``evidence`` says where each part of it was seen; ``remedy`` is
    a command or an action and is required for every verdict that is worse than PASS.
    """

    name: str
    verdict: Verdict
    observed: str
    expected: str = ""
    since: str = ""
    evidence: tuple[str, ...] = ()
    remedy: str = ""

    def __post_init__(self) -> None:
        assert self.observed, f"the gate {self.name} says nothing"
        assert self.verdict <= Verdict.PASS or self.remedy, f"the gate {self.name} names no remedy"

    @property
    def is_closed(self) -> bool:
        """Whether it keeps the subject from being well; what is not known does (I1)."""
        return self.verdict > Verdict.PASS

    def as_dict(self) -> dict[str, object]:
        """Return the gate as plain JSON values; the verdict by name."""
        return {
            "name": self.name, "verdict": self.verdict.name, "observed": self.observed,
            "expected": self.expected, "since": self.since, "evidence": list(self.evidence),
            "remedy": self.remedy,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explanation:
    """All gates of one subject, in the order in which they must open."""

    kind: str
    subject: str
    gates: Sequence[ExplainedGate]

    @property
    def answer(self) -> ExplainedGate | None:
        """The first closed gate; None where nothing is closed."""
        return next((gate for gate in self.gates if gate.is_closed), None)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the gates; UNKNOWN where there are none."""
        return combine(gate.verdict for gate in self.gates)

    def as_dict(self) -> dict[str, object]:
        """Return the explanation as plain JSON values; ``answer`` is the name of a gate, or None."""
        answer = self.answer
        return {
            "kind": self.kind, "subject": self.subject, "verdict": self.verdict.name,
            "answer": answer.name if answer else None, "gates": [gate.as_dict() for gate in self.gates],
        }  # fmt: skip
