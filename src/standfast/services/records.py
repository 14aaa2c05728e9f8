"""What is on record about services, as whoever asks without the supervisor gets it: frozen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from standfast.services.model import UNSEEN, ExitStatus


class LifeRecord(NamedTuple):
    """One life as it is on record; ``ended_at`` is empty where no end was taken note of.

    Of an end that nobody saw it is when it was found out, and ``status`` is no program's own.
    """

    service: str
    life: str
    boot_id: str
    began_at: str
    ready_after_s: float | None
    ended_at: str
    status: ExitStatus | None
    lived_s: float
    was_ready: bool
    last_line: str
    down: tuple[str, ...]
    asked_by: str
    cls: str
    action: str
    rule: str
    fix: str
    evidence: tuple[str, ...]
    is_permanent: bool

    @property
    def is_unseen(self) -> bool:
        """Whether nobody saw how it ended."""
        return self.status == UNSEEN

    @property
    def text(self) -> str:
        """How it ended, in one line; empty where it did not."""
        if not self.ended_at or self.status is None:
            return ""
        if self.is_unseen:
            return f"{self.status.text} ({self.last_line}), found out at {self.ended_at}"
        said = f": {self.last_line}" if self.last_line else ""
        return f"{self.status.text} after {self.lived_s:.1f} s at {self.ended_at}{said}"


class PersonHold(NamedTuple):
    """Who holds a service, why, and since when (ISO 8601)."""

    who: str
    why: str
    since: str


@dataclass(frozen=True, slots=True)
class Records:
    """Everything on record: the latest lives of each service, oldest first, and the holds of persons."""

    lives: Mapping[str, Sequence[LifeRecord]] = field(default_factory=dict)
    holds: Mapping[str, PersonHold] = field(default_factory=dict)
    trouble: str = ""

    def last_end(self, service: str) -> LifeRecord | None:
        """Return the latest life that ended, or None."""
        return next((one for one in reversed(self.lives.get(service, ())) if one.ended_at), None)

    def last_wait_s(self, service: str) -> float | None:
        """Return how long the latest life that became ready took to do so, or None."""
        waits = [one.ready_after_s for one in self.lives.get(service, ()) if one.ready_after_s is not None]
        return waits[-1] if waits else None
