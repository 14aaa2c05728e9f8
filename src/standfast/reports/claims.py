"""What a report is made of: claims, each with its evidence, and tables that say where they come from.

There is no way to print a sentence that was not founded: every line of a report is a claim or a row of a
table, and neither can be made without evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


class UnfoundedError(ValueError):
    """Something was to be claimed without evidence: a bug of whoever builds the report."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence and where each part of it was seen; raises UnfoundedError without either."""

    text: str
    evidence: tuple[str, ...]

    def __post_init__(self) -> None:
        _need_evidence(self.text, self.evidence)

    def as_dict(self) -> dict[str, object]:
        """Return the claim as plain JSON values."""
        return {"text": self.text, "evidence": list(self.evidence)}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings, and where they come from; raises UnfoundedError where that is not said."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    evidence: tuple[str, ...]

    def __post_init__(self) -> None:
        _need_evidence(", ".join(self.headings), self.evidence)
        assert all(len(row) == len(self.headings) for row in self.rows), "a row fits its headings"

    def as_dict(self) -> dict[str, object]:
        """Return the table as plain JSON values, a row as an object."""
        rows = [dict(zip(self.headings, row, strict=True)) for row in self.rows]
        return {"rows": rows, "evidence": list(self.evidence)}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report; one without claims and rows says ``nothing``, which is a claim too."""

    title: str
    claims: tuple[Claim, ...] = ()
    table: Table | None = None

    def __post_init__(self) -> None:
        if not self.claims and (self.table is None or not self.table.rows):
            raise UnfoundedError(f"the section {self.title} says nothing: not even that it was looked for")

    def as_dict(self) -> dict[str, object]:
        """Return the section as plain JSON values."""
        return {
            "title": self.title, "claims": [claim.as_dict() for claim in self.claims],
            "table": self.table.as_dict() if self.table is not None else None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report; ``at`` is when it was made (ISO 8601)."""

    title: str
    at: str
    sections: Sequence[Section] = field(default=())

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain JSON values."""
        return {"title": self.title, "at": self.at, "sections": [one.as_dict() for one in self.sections]}


def _need_evidence(text: str, evidence: Iterable[str]) -> None:
    found = list(evidence)
    if not text.strip():
        raise UnfoundedError("nothing is claimed")
    if not found or not all(one.strip() for one in found):
        raise UnfoundedError(f"no evidence for: {text}")
