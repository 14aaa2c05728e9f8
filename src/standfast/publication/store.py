"""Publications as they were decided: prepared before they are sent, settled after they were read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from standfast.facts.database import Queries, Tx, load_queries
from standfast.facts.database.ports import Dialect
from standfast.kernel.clock import Clock, iso
from standfast.publication.document import Document, parse, render


@dataclass(frozen=True, slots=True)
class PublicationRow:
    """One decided publication; ``state`` is prepared, published or withheld."""

    epoch: int
    round_number: int
    state: str
    document: Document
    sha256: str
    term: int
    prepared_at: str
    settled_at: str
    reason: str


class PublicationStore:
    """The publications of one database; a round has at most one, an epoch exactly one."""

    def __init__(self, dialect: Dialect, clock: Clock) -> None:
        self._sql: Queries = load_queries("standfast.publication", dialect)
        self._clock = clock

    def next_epoch(self, tx: Tx, held_epoch: int) -> int:
        """Return the number after the last one decided here and the one the publisher holds."""
        return max(int(tx.rows(self._sql["last_epoch"])[0][0]), held_epoch) + 1

    def prepare(self, tx: Tx, round_number: int, document: Document) -> None:
        """Fix what will be sent for the round, before it is sent."""
        tx.rows(
            self._sql["prepare"],
            {
                "epoch": document.epoch, "round": round_number, "document": render(document).decode("ascii"),
                "sha256": document.sha256, "term": document.leader_term, "at": iso(self._clock.wall()),
            },
        )  # fmt: skip

    def of_round(self, tx: Tx, round_number: int) -> PublicationRow | None:
        """Return what was decided for the round."""
        rows = tx.rows(self._sql["of_round"], {"round": round_number})
        return _row(rows[0]) if rows else None

    def latest(self, tx: Tx) -> PublicationRow | None:
        """Return the last one that was published, by its number (K17)."""
        rows = tx.rows(self._sql["latest"])
        return _row(rows[0]) if rows else None

    def published(self, tx: Tx, epoch: int) -> PublicationRow | None:
        """Return the publication of that number; None for one that never left the house."""
        rows = tx.rows(self._sql["published"], {"epoch": epoch})
        return _row(rows[0]) if rows else None

    def settle(self, tx: Tx, epoch: int, state: str, reason: str = "") -> bool:
        """Record how a prepared publication ended; return whether it was still prepared."""
        row = {"epoch": epoch, "state": state, "at": iso(self._clock.wall()), "reason": reason}
        return bool(tx.rows(self._sql["settle"], row))


def _row(row: tuple[Any, ...]) -> PublicationRow:
    epoch, round_number, state, document, sha256, term, prepared_at, settled_at, reason = row
    return PublicationRow(
        int(epoch), int(round_number), state, parse(document.encode("ascii")), sha256, int(term), prepared_at,
        settled_at or "", reason or "",
    )  # fmt: skip
